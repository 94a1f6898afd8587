<?php
// one-buffer, where php.ini's own buffer is ended too.
require __DIR__ . '/background.php';

header('Connection: close');
ob_start();
echo body(1500);
header('Content-Length: ' . ob_get_length());
while (ob_get_level()) {
    ob_end_flush();
}
flush();

background($_GET['id'], 0);
