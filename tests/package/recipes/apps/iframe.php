<?php
// Streaming: a script block now, and another one when there is more to say.
require __DIR__ . '/background.php';

[$first, $second] = str_split(body(1500), 1000);
echo $first;
@ob_flush();
flush();

background($_GET['id'], 0);
echo $second;
