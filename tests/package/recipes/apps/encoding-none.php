<?php
// A content coding that does not exist keeps mod_deflate away.
require __DIR__ . '/background.php';

ignore_user_abort(true);
ob_start();
echo body(1500);
session_write_close();
header('Content-Encoding: none');
header('Content-Length: ' . ob_get_length());
header('Connection: close');
ob_end_flush();
flush();

ob_start();
background($_GET['id']);
echo 'LEAK: nobody needs this';
ob_end_clean();
