<?php
// So many spaces behind the text that mod_fcgid's buffer flows over.
require __DIR__ . '/background.php';

if (ob_get_level()) {
    ob_end_clean();
}
header('Connection: close');
ignore_user_abort(true);
ob_start();
echo body(1500), str_repeat(' ', 65537);
header('Content-Length: ' . ob_get_length());
ob_end_flush();
flush();

background($_GET['id'], 0);
echo 'LEAK: the user must never see this';
