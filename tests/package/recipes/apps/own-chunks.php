<?php
// The application writes HTTP's chunks by itself: no length is needed, and the last chunk is the end.
require __DIR__ . '/background.php';

ob_start(function (string $block): string {
    if (!headers_sent()) {
        header('Transfer-Encoding: chunked');
    }
    return $block === '' ? '' : dechex(strlen($block)) . "\r\n$block\r\n";
});
[$first, $second] = str_split(body(1500), 1000);
echo $first;
ob_flush();
flush();
echo $second;
ob_flush();
flush();
while (ob_get_level()) {
    ob_end_flush();
}
echo "0\r\n\r\n";
flush();

background($_GET['id']);
