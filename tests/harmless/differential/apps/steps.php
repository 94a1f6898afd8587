<?php
// Does what its query says, step by step: see case.rs.
while (ob_get_level()) ob_end_clean();
ignore_user_abort(true);
$out = '';
$in = null;
foreach (explode('~', $_SERVER['QUERY_STRING']) as $step) {
    $rest = rawurldecode(substr($step, 1));
    switch ($step[0] ?? '') {
        case 'S': http_response_code((int) $rest); break;
        case 'H': header($rest, stripos($rest, 'Content-Type:') === 0); break;
        case 'X': $out .= $rest; break;
        case 'T': case 'Z': case 'G':
            [$from, $bytes] = explode('.', $rest);
            $out .= file_get_contents(__DIR__ . "/$step[0].dat", false, null, (int) $from, (int) $bytes);
            break;
        case 'D':
            [$from, $to] = explode('.', $rest);
            $out .= substr(str_repeat($_SERVER['FINISH_REQUEST'] ?? '', 2), (int) $from, $to - $from);
            break;
        case 'E': echo $out; $out = ''; break;
        case 'F': flush(); break;
        case 'P': usleep((int) $rest * 1000); break;
        case 'R':
            $in ??= fopen('php://input', 'rb');
            for ($left = $rest === '' ? PHP_INT_MAX : (int) $rest; $left > 0 && !feof($in); $left -= strlen($read)) {
                $read = fread($in, min($left, 8192));
            }
            break;
    }
}
