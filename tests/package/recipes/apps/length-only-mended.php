<?php
// length-only, with the word about the connection.
require __DIR__ . '/background.php';

ignore_user_abort(true);
$text = body(1500);
header('Content-Length: ' . strlen($text));
header('Connection: close');
ob_start();
echo $text;
while (ob_get_level()) {
    ob_end_flush();
}
flush();
session_write_close();

background($_GET['id'], 0);
