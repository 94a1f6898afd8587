<?php
// For PHP applications: the known text, and background work that waits at a gate.

function body(int $bytes): string
{
    $text = '';
    for ($line = 1; strlen($text) < $bytes; $line++) {
        $text .= sprintf("%07d of the answer to your request\n", $line);
    }
    return substr($text, 0, $bytes);
}

// The whole of a marked response: 4096 bytes.
function answer(): void
{
    header('Content-Type: text/plain');
    header('Content-Length: 4096');
    header('X-Finish-Request: on');
    echo body(4096);
    flush();
}

// Says that it began, prints, waits until the test opens the gate, prints again, and leaves a
// file with its times in microseconds and the errors that it saw.
function background(string $id, int $after = 200): void
{
    $gates = '@GATES@';
    $now = fn (): int => (int) (microtime(true) * 1e6);
    $done = ['began' => $now(), 'gate' => 0, 'ended' => 0, 'errors' => 'ended too early'];
    $folder = getcwd();

    register_shutdown_function(function () use (&$done, $gates, $id) {
        $text = '';
        foreach ($done as $name => $value) {
            $text .= "$name=$value\n";
        }
        file_put_contents("$gates/$id.writing", $text);
        rename("$gates/$id.writing", "$gates/$id.done");
    });

    touch("$gates/$id.began");
    if ($after > 0) {
        echo str_repeat('L', intdiv($after, 2));
        flush();
    }

    $errors = [];
    $limit = $now() + 75_000_000;
    while (!file_exists("$gates/$id.gate") && $now() < $limit) {
        usleep(10_000);
        clearstatcache();
    }
    if ($now() >= $limit) {
        $errors[] = 'the gate stayed shut';
    }
    $done['gate'] = $now();

    if ($after > 0) {
        echo str_repeat('L', $after - intdiv($after, 2));
        flush();
    }
    if (connection_status() !== CONNECTION_NORMAL) {
        $errors[] = 'connection_status() is ' . connection_status();
    }
    if (getcwd() !== $folder) {
        $errors[] = 'the working directory is now ' . getcwd();
    }
    $done['ended'] = $now();
    $done['errors'] = implode('; ', $errors);
}
