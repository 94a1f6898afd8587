<?php
// Which of the jobs have ended.
header('Access-Control-Allow-Origin: *');
header('Content-Type: application/json');
header('Cache-Control: no-store');
echo json_encode(array_values(array_filter(
    explode(',', $_GET['ids'] ?? ''),
    fn (string $id): bool => file_exists('@GATES@/' . basename($id) . '.done')
)));
