<?php
// The buffer that php.ini may have opened goes first.
require __DIR__ . '/background.php';

if (ob_get_level()) {
    ob_end_clean();
}
header('Connection: close');
ignore_user_abort(true);
ob_start();
echo body(1500);
header('Content-Length: ' . ob_get_length());
ob_end_flush();
flush();

background($_GET['id'], 0);
echo 'LEAK: the user must never see this';
