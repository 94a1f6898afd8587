<?php
// Streaming as well: it says that the connection will be closed, and not when.
require __DIR__ . '/background.php';

[$first, $second] = str_split(body(1500), 1000);
header('Connection: close');
ob_start();
echo $first;
while (ob_get_level()) {
    ob_end_flush();
}
flush();

background($_GET['id'], 0);
echo $second;
