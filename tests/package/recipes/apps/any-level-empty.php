<?php
// The same where nothing is to be said, and perhaps no buffer is open: a length of 0.
require __DIR__ . '/background.php';

while (ob_get_level() > 1) {
    ob_end_flush();
}
header('Content-Length: ' . (ob_get_level() ? ob_get_length() : 0));
header('Connection: close');
if (ob_get_level()) {
    ob_end_flush();
}
flush();
set_time_limit(60);

background($_GET['id'], 0);
