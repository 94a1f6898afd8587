<?php
// As late.cgi.
require __DIR__ . '/background.php';

$digits = str_repeat($_SERVER['FINISH_REQUEST'] ?? '', 2);
if (isset($_GET['header'])) {
    header($_GET['header']);
}
header('Content-Type: text/plain');
while (ob_get_level() > 0) {
    ob_end_flush();
}
foreach (explode('.', $_GET['do'] ?? '') as $each) {
    $rest = substr($each, 1);
    switch ($each[0] ?? '') {
        case 't':
            $out = ($out ?? '') . $rest;
            break;
        case 'n':
            $out = ($out ?? '') . body((int) $rest);
            break;
        case 'd':
            [$from, $to] = explode('-', $rest);
            $out = ($out ?? '') . substr($digits, (int) $from, $to - $from);
            break;
        case 'f':
            echo $out ?? '';
            flush();
            $out = '';
            break;
        case 'p':
            touch("@GATES@/$rest.waits");
            while (!file_exists("@GATES@/$rest.gate")) {
                usleep(20_000);
                clearstatcache();
            }
            break;
        case 'w':
            background($_GET['id']);
            break;
    }
}
echo $out ?? '';
