<?php
// redirect-session, with a byte of body that takes the headers along, and the session closed before the work.
require __DIR__ . '/background.php';

ini_set('session.save_path', '@GATES@');
session_start();
$_SESSION['text'] = body(1500);
session_write_close();
header('Location: next.php');
header('Connection: close');
header('Content-Length: 1');
while (ob_get_level()) {
    ob_end_clean();
}
echo ' ';
flush();

background($_GET['id'], 0);
