<?php
// PHP compresses; what the outer buffer then holds is as long as what is sent.
require __DIR__ . '/background.php';

ob_start();
ob_start('ob_gzhandler');
echo body(1500);
ob_end_flush();
header('Content-Length: ' . ob_get_length());
header('Connection: close');
while (ob_get_level()) {
    ob_end_flush();
}
flush();

background($_GET['id'], 0);
