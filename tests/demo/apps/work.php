<?php
// Answers, lets the client go, and works on.
$answer = str_repeat("This is the answer to your request.\n", 100);

header('Content-Type: text/plain');
header('Content-Length: ' . strlen($answer));
header('X-Finish-Request: on');
echo $answer;
flush();

usleep((int) (1e6 * ($_GET['seconds'] ?? 2)));

$id = basename($_GET['id'] ?? 'you');
file_put_contents('@GATES@/work.log', date('H:i:s') . " $id: work done by PHP\n", FILE_APPEND);
touch("@GATES@/$id.done");
