<?php
// The oldest: one buffer, ended once. What php.ini's own buffer holds stays there.
require __DIR__ . '/background.php';

header('Connection: close');
ob_start();
echo body(1500);
header('Content-Length: ' . ob_get_length());
ob_end_flush();
flush();

background($_GET['id'], 0);
