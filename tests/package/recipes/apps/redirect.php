<?php
// A redirect without a body; the browser asks for the next page at once.
require __DIR__ . '/background.php';

header('Location: next.php');
header('Connection: close');
header('Content-Encoding: none');
header('Content-Length: 0');
flush();
session_write_close();

background($_GET['id'], 0);
