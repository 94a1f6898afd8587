<?php
// A redirect to a page that needs the session, which stays open, and so locked.
require __DIR__ . '/background.php';

ini_set('session.save_path', '@GATES@');
session_start();
$_SESSION['text'] = body(1500);
header('Location: next.php');
header('Connection: close');
header('Content-Encoding: none');
header('Content-Length: 0');
flush();

background($_GET['id'], 0);
