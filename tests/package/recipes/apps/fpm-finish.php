<?php
// php-fpm's own function.
require __DIR__ . '/background.php';

echo body(1500);
fastcgi_finish_request();

background($_GET['id'], 0);
