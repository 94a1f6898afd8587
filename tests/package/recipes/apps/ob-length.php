<?php
// The length is measured in a buffer; then every buffer is emptied, and the session let go.
require __DIR__ . '/background.php';

ob_start();
echo body(1500);
header('Content-Length: ' . ob_get_length());
header('Connection: close');
ob_end_flush();
@ob_flush();
flush();
if (session_id()) {
    session_write_close();
}

background($_GET['id'], 0);
