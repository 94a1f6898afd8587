<?php
// What a page starts: it has its receipt at once, and the job goes on.
require 'finish_request.php';
$id = basename($_GET['id'] ?? 'you');

// The lane of the server without the module asks from another port.
header('Access-Control-Allow-Origin: *');
header('Timing-Allow-Origin: *');
ob_start();
echo "Job $id has been taken.\n", str_repeat("This is the answer to your request.\n", 100);
apache_finish_request();

if (isset($_GET['gate'])) {
    require 'background.php';
    background($id);
} else {
    usleep((int) (1e6 * ($_GET['seconds'] ?? 2)));
    touch("@GATES@/$id.done");
}
