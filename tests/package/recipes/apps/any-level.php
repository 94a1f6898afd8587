<?php
// However many buffers there are: the outermost one has all of it, and knows the length.
require __DIR__ . '/background.php';

[$first, $second, $third] = str_split(body(1500), 500);
ob_start();
echo $first;
ob_start();
echo $second;
ob_start();
echo $third;

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
