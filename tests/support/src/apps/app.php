<?php
// Answers with a known text, then works in the background. The query says how:
//   bytes=N     size of the body (4096)
//   length=N    Content-Length (the body's size); none: no such header
//   mark=VALUE  X-Finish-Request (on); none: no such header
//   status=N    the status (200)
//   id=ID       background work behind the gate ID; without it there is none
//   after=N     bytes printed by the background work, half before its gate, half behind (200)
require __DIR__ . '/background.php';

$bytes = (int) ($_GET['bytes'] ?? 4096);
$length = $_GET['length'] ?? $bytes;
$mark = $_GET['mark'] ?? 'on';

http_response_code((int) ($_GET['status'] ?? 200));
header('Content-Type: text/plain');
if ($length !== 'none') {
    header("Content-Length: $length");
}
if ($mark !== 'none') {
    header("X-Finish-Request: $mark");
}
echo body($bytes);
flush();
if (isset($_GET['id'])) {
    background($_GET['id'], (int) ($_GET['after'] ?? 200));
}
