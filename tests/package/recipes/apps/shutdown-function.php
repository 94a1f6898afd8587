<?php
// The work is done when the script has come to its end.
require __DIR__ . '/background.php';

register_shutdown_function(function () {
    background($_GET['id'], 0);
});

ob_start();
echo body(1500);
header('Content-Length: ' . ob_get_length());
header('Connection: close');
ob_end_flush();
@ob_flush();
flush();
