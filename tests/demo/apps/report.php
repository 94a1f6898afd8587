<?php
// What a page has seen, for whoever drives the browser; or waits for that, so that a page is not loaded before it has shown all.
$file = '@GATES@/' . basename($_GET['name'] ?? '');
if (($text = file_get_contents('php://input')) !== '') {
    file_put_contents("$file.writing", $text);
    rename("$file.writing", "$file.report");
} else {
    for ($tries = 0; !file_exists("$file.report") && $tries < 600; $tries++) {
        usleep(50_000);
        clearstatcache();
    }
    // The last frame is drawn.
    usleep(300_000);
}
http_response_code(204);
