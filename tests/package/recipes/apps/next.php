<?php
// The page that the redirects lead to.
require __DIR__ . '/background.php';

ini_set('session.save_path', '@GATES@');
if (isset($_COOKIE['PHPSESSID'])) {
    session_start();
    echo $_SESSION['text'];
} else {
    echo body(1500);
}
