//! The scripts that are run by each of PHP's handlers, and with php-fpm as the oracle.

/// A script: its name, its text, and whether it gets as far as to say what the function has returned.
pub struct Script {
    pub name: &'static str,
    pub text: &'static str,
    /// False if it never asks, or does not live to tell the answer.
    pub reports: bool,
}

const fn script(name: &'static str, text: &'static str) -> Script {
    Script { name, text, reports: true }
}

const fn silent(name: &'static str, text: &'static str) -> Script {
    Script { name, text, reports: false }
}

/// What each script has before its own text: `finish()` calls the function, and says what came of it; `text()` gives so many bytes.
pub const FRAME: &str = r#"<?php
error_reporting(0);
require __DIR__ . '/background.php';
register_shutdown_function(function () {
    // The last of them.
    register_shutdown_function(function () { touch('@GATES@/' . $_GET['id'] . '.ended'); });
});
function text(int $bytes): string { return body($bytes); }
function finish(bool $works = true): bool
{
    $result = fastcgi_finish_request();
    $said = [
        'result' => $result,
        'headers_sent' => headers_sent(),
        'connection_status' => connection_status(),
        'headers_list' => headers_list(),
    ];
    if ($result) {
        $said += ['again' => fastcgi_finish_request(), 'ob_get_level' => ob_get_level()];
    }
    $file = '@GATES@/' . $_GET['id'] . '.report';
    file_put_contents("$file.new", json_encode($said));
    rename("$file.new", $file);
    // php-fpm ends a script at its next output. One that goes on is asked whether that reaches anybody.
    $works && background($_GET['id'], $result && PHP_SAPI !== 'fpm-fcgi' ? 20000 : 0);
    return $result;
}
header('Content-Type: text/plain');
"#;

pub const SCRIPTS: &[Script] = &[
    // Sizes, and how they are written.
    script("empty", "finish();"),
    script("one-byte", "echo 'x'; finish();"),
    script("4095", "echo text(4095); finish();"),
    script("4096", "echo text(4096); finish();"),
    script("4097", "echo text(4097); finish();"),
    script("24k", "echo text(24000); finish();"),
    script("1m", "echo text(1000000); finish();"),
    script("pieces", "foreach (str_split(text(60000), 7) as $piece) { echo $piece; } finish();"),
    script(
        "stream",
        "$out = fopen('php://output', 'w'); fwrite($out, text(9000)); fclose($out); printf('%s', 'end'); finish();",
    ),
    script("binary", "echo \"\\0\\r\\n--\", str_repeat(\"\\xff\\0\", 5000), '-----'; finish();"),
    // Buffers.
    script("nested", "ob_start(); echo text(10); ob_start(); echo text(5000); ob_start(); echo 'end'; finish();"),
    script("nested-1m", "echo 'a'; ob_start(); echo text(1000000); ob_start(); echo text(1000000); finish();"),
    script("none", "while (ob_get_level()) { ob_end_clean(); } echo text(5000); finish();"),
    script("flushed", "echo text(100); while (ob_get_level()) { ob_end_flush(); } flush(); echo text(6000); finish();"),
    script("flushed-and-nested", "echo text(100); ob_flush(); flush(); ob_start(); echo text(6000); finish();"),
    script("upper", "ob_start(fn ($text) => strtoupper($text)); echo text(9000); finish();"),
    script(
        "upper-reversed",
        "ob_start(fn ($text) => strrev($text)); ob_start(fn ($text) => strtoupper($text)); echo text(9000); finish();",
    ),
    script("chunks-of-ten", "ob_start(fn ($text) => '[' . $text . ']', 10); echo text(95); echo text(3); finish();"),
    script(
        "chunks-of-4096",
        "ob_start(fn ($text) => '[' . $text . ']', 4096); echo text(4000); echo text(4000); finish();",
    ),
    script("longer", "ob_start(fn ($text) => str_repeat($text, 9)); echo text(3000); finish();"),
    script("shorter", "ob_start(fn ($text) => ''); echo text(3000); finish();"),
    script("false", "ob_start(fn ($text) => false); echo text(3000); finish();"),
    script("phases", "ob_start(fn ($text, $phase) => \"$phase:$text.\"); echo 'a'; ob_flush(); echo 'b'; finish();"),
    script(
        "callback-sets-header",
        "ob_start(function ($text) { header('X-Length: ' . strlen($text)); return $text; }); echo text(700); finish();",
    ),
    script(
        "callback-flushes",
        "echo text(9000); while (ob_get_level() && @ob_end_flush()); flush(); ob_start(function ($text) { flush(); return $text . '.'; }); ob_start(function ($text) { flush(); return $text . '!'; }); echo text(700); finish();",
    ),
    script(
        "callback-throws",
        "ob_start(function ($text) { throw new Exception('no'); }); echo text(700); try { fastcgi_finish_request(); } catch (Exception $e) { } finish();",
    ),
    script(
        "callback-throws-below",
        "ob_start(fn ($text) => strtoupper($text)); ob_start(function ($text) { throw new Exception('no'); }); echo text(700); try { fastcgi_finish_request(); } catch (Exception $e) { } finish();",
    ),
    script(
        "rewritten",
        "output_add_rewrite_var('sid', '1'); header('Content-Type: text/html'); echo '<a href=\"x.php\">x</a>', text(5000); finish();",
    ),
    // Flags.
    script(
        "no-flags",
        "ob_start(fn ($text) => str_replace('{name}', 'Ada', $text), 0, 0); echo 'Hello {name}, '; ob_start(); echo 'goodbye {name}.'; finish();",
    ),
    script("no-flags-empty", "ob_start(null, 0, 0); finish();"),
    script("no-flags-chunks", "ob_start(fn ($text) => \"[$text]\", 4096, 0); echo text(5000), text(100); finish();"),
    script(
        "only-flushable",
        "ob_start(fn ($text, $phase) => \"$phase:$text.\", 0, PHP_OUTPUT_HANDLER_FLUSHABLE); echo text(500); finish();",
    ),
    script(
        "only-cleanable",
        "ob_start(fn ($text, $phase) => \"$phase:$text.\", 0, PHP_OUTPUT_HANDLER_CLEANABLE); echo text(500); finish();",
    ),
    script(
        "only-removable",
        "ob_start(fn ($text, $phase) => \"$phase:$text.\", 0, PHP_OUTPUT_HANDLER_REMOVABLE); echo text(500); finish();",
    ),
    script(
        "no-flags-outside",
        "ob_start(null, 0, 0); echo 'a'; ob_start(fn ($text) => strtoupper($text)); echo text(24000); finish();",
    ),
    script(
        "no-flags-inside",
        "ob_start(fn ($text) => strtoupper($text)); echo 'a'; ob_start(null, 0, 0); echo text(24000); finish();",
    ),
    // Compression by the application.
    script("gz", "ob_start('ob_gzhandler'); echo text(24000); finish();"),
    script("gz-1m", "ob_start('ob_gzhandler'); ob_start(); echo text(1000000); finish();"),
    script("gz-flushed", "ob_start('ob_gzhandler'); echo text(24000); ob_flush(); echo text(24000); finish();"),
    script("gz-chunks", "ob_start('ob_gzhandler', 1000); echo text(24000); ob_start(); echo text(24000); finish();"),
    script(
        "zlib-late",
        "ini_set('zlib.output_compression', '1'); foreach (str_split(text(60000), 50) as $piece) { echo $piece; } finish();",
    ),
    script("zlib-late-nested", "ini_set('zlib.output_compression', '4096'); ob_start(); echo text(60000); finish();"),
    script("zlib-late-small", "ini_set('zlib.output_compression', 'On'); echo text(100); finish();"),
    script(
        "zlib-late-off",
        "ini_set('zlib.output_compression', 'On'); ini_set('zlib.output_compression', 'Off'); echo text(30000); finish();",
    ),
    // What is only there to see it begin leaves errors and who handles them alone.
    script(
        "zlib-late-warns",
        "ini_set('zlib.output_compression', 'On'); error_reporting(E_ALL); ini_set('display_errors', '0'); ini_set('log_errors', '0'); echo $missing; echo json_encode(error_get_last()['message'] ?? null); finish();",
    ),
    script(
        "zlib-late-handles",
        "set_error_handler(function ($number, $text) { echo \"first: $text;\"; return true; }); ini_set('zlib.output_compression', 'On'); trigger_error('one'); $before = set_error_handler(function ($number, $text) use (&$before) { echo 'second, '; return $before($number, $text); }); trigger_error('two'); restore_error_handler(); trigger_error('three'); finish();",
    ),
    script(
        "zlib-late-begins-to-handle",
        "ini_set('zlib.output_compression', 'On'); $before = set_error_handler(function ($number, $text) use (&$before) { echo \"handled: $text;\"; return $before ? $before($number, $text) : false; }); trigger_error('one'); trigger_error('two'); restore_error_handler(); @trigger_error('three'); echo error_get_last()['message']; finish();",
    ),
    script(
        "zlib-level",
        "ini_set('zlib.output_compression_level', '10'); ini_set('zlib.output_compression', 'On'); echo text(60000); finish();",
    ),
    script("zlib-flushed", "echo text(100); ob_flush(); flush(); echo text(60000); ob_flush(); finish();"),
    script("zlib-removed", "while (ob_get_level() && ob_end_clean()); echo text(60000); finish();"),
    script("zlib-off", "ini_set('zlib.output_compression', '0'); echo text(60000); finish();"),
    script(
        "zlib-mended",
        "echo text(30000); @ob_end_flush(); echo text(30000); if (ob_get_level() && ini_get('zlib.output_compression')) { @ob_end_flush(); } echo 'end'; finish();",
    ),
    script(
        "gzipped",
        "header('Content-Encoding: gzip'); while (ob_get_level()) { ob_end_clean(); } $page = gzencode(text(24000)); header('Content-Length: ' . strlen($page)); echo $page; finish();",
    ),
    // Headers.
    script(
        "headers",
        "header('X-A: 1'); header('X-B: 1'); header('X-B: 2', false); setcookie('c', 'd'); header('Cache-Control: no-store'); echo 'x'; finish();",
    ),
    script("length", "header('Content-Length: 6000'); echo text(6000); finish();"),
    script("length-and-buffer", "header('Content-Length: 24000'); ob_start(); echo text(24000); finish();"),
    script(
        "callback-for-headers",
        "header_register_callback(function () { header('X-Callback: ' . (headers_sent() ? 'sent' : 'not sent')); }); echo text(50); finish();",
    ),
    script(
        "callback-for-headers-empty",
        "header_register_callback(function () { header('X-Callback: yes'); }); finish();",
    ),
    script(
        "callback-for-headers-finishes",
        "header_register_callback(function () { header('X-Callback: yes'); apache_or_fpm(); }); function apache_or_fpm() { fastcgi_finish_request(); } echo text(50); while (ob_get_level()) { ob_end_flush(); } finish();",
    ),
    script("redirect", "header('Location: /elsewhere'); finish();"),
    script("redirect-303", "http_response_code(303); header('Location: /elsewhere'); setcookie('c', 'd'); finish();"),
    script("redirect-with-body", "header('Location: /elsewhere'); echo 'Gone there.'; finish();"),
    script("204", "http_response_code(204); finish();"),
    script("304", "http_response_code(304); header('ETag: \"x\"'); finish();"),
    script("404", "http_response_code(404); echo text(5000); finish();"),
    script("500-empty", "http_response_code(500); finish();"),
    script("201-json", "http_response_code(201); header('Content-Type: application/json'); echo '{}'; finish();"),
    script(
        "part",
        "$file = text(20000); header('Accept-Ranges: bytes'); http_response_code(206); header('Content-Range: bytes 100-299/20000'); header('Content-Length: 200'); echo substr($file, 100, 200); finish();",
    ),
    script(
        "session",
        "session_save_path('@GATES@'); session_id('s' . $_GET['id']); session_start(); $_SESSION['a'] = 1; echo text(100); session_write_close(); header_remove('Set-Cookie'); finish();",
    ),
    script(
        "implicit",
        "ob_implicit_flush(true); while (ob_get_level()) { ob_end_flush(); } foreach (str_split(text(500), 50) as $piece) { echo $piece; } finish();",
    ),
    script(
        "implicit-callbacks",
        "ob_implicit_flush(true); ob_start(fn ($text) => \"[$text]\", 100); ob_start(fn ($text) => strtoupper($text)); echo text(50); echo text(900); finish();",
    ),
    // Where it is called.
    script("in-a-shutdown-function", "register_shutdown_function(function () { finish(); }); echo text(5000);"),
    script(
        "in-a-shutdown-function-after-exit",
        "register_shutdown_function(function () { echo 'more'; finish(); }); echo text(5000); exit;",
    ),
    script(
        "in-a-destructor",
        "final class D { public function __destruct() { finish(); } } $d = new D; echo text(5000); $d = null;",
    ),
    script(
        "in-a-destructor-at-the-end",
        "final class D { public function __destruct() { finish(false); } } $d = new D; echo text(5000);",
    ),
    script("in-a-function", "function f() { ob_start(); echo text(5000); return finish(); } f();"),
    script("in-a-generator", "function g() { yield 1; echo 'g'; yield finish(); } foreach (g() as $x) { }"),
    script("exit-afterwards", "echo text(5000); finish(); exit(1);"),
    script("exception-afterwards", "echo text(5000); finish(); throw new Exception('later');"),
    script("error-afterwards", "echo text(5000); finish(); undefined_function();"),
    script(
        "buffer-afterwards",
        "echo text(5000); finish(); if (PHP_SAPI !== 'fpm-fcgi') { ob_start(); echo text(100000); ob_end_flush(); flush(); }",
    ),
    script("headers-afterwards", "echo text(5000); finish(); header('X-Late: 1'); http_response_code(500);"),
    script(
        "error-handler-that-throws",
        "set_error_handler(function ($n, $text) { throw new ErrorException($text); }); error_reporting(-1); ob_start(); echo text(5000); finish();",
    ),
    script("changes-directory", "chdir('/'); echo text(500); finish();"),
    // As seldom as they are.
    script(
        "in-a-fiber",
        "ob_start(); if (PHP_VERSION_ID < 80100) { echo text(9000); finish(); } else { $fiber = new Fiber(function () { echo text(4000); Fiber::suspend(); echo text(5000); finish(); }); $fiber->start(); $fiber->resume(); }",
    ),
    script(
        "in-an-exception-handler",
        "set_exception_handler(function () { http_response_code(503); echo 'Sorry.'; finish(); }); ob_start(); echo text(100); throw new Exception('now');",
    ),
    script(
        "in-an-error-handler",
        "error_reporting(-1); set_error_handler(function () { error_reporting(0); finish(); return true; }); ob_start(); echo text(100); echo $undefined;",
    ),
    script(
        "in-a-shutdown-function-after-an-error",
        "register_shutdown_function(function () { echo 'Sorry.'; finish(); }); ob_start(); echo text(100); undefined_function();",
    ),
    script(
        "exit-in-a-shutdown-function",
        "register_shutdown_function(function () { finish(); register_shutdown_function(function () { exit; }); }); ob_start(); echo text(5000);",
    ),
    script(
        "in-a-session-s-handler",
        "final class H extends SessionHandler { #[ReturnTypeWillChange]\n public function write($id, $data) { finish(); return parent::write($id, $data); } } session_save_path('@GATES@'); session_id('h' . $_GET['id']); session_set_save_handler(new H); session_start(); header_remove('Set-Cookie'); $_SESSION['a'] = 1; echo text(100); session_write_close();",
    ),
    script(
        "memory-afterwards",
        "echo text(5000); finish(); ini_set('memory_limit', '4M'); str_repeat('x', 100000000);",
    ),
    script(
        "called-otherwise",
        "eval('namespace A; final class F { public function __call($name, $values) { return \\call_user_func(\\Closure::fromCallable($name)); } } echo \\text(5000); (new F)->finish();');",
    ),
    script(
        "headers-removed",
        "header('X-A: 1'); header_remove(); header('Content-Type: text/csv'); echo text(100); finish();",
    ),
    script("status-line", "header('HTTP/1.1 404 Not Here'); echo text(100); finish();"),
    script("send-file", "header('X-Sendfile: /nowhere'); header('X-Accel-Redirect: /nowhere'); finish();"),
    script(
        "open-session",
        "session_save_path('@GATES@'); session_id('o' . $_GET['id']); session_start(); $_SESSION['a'] = 1; header_remove('Set-Cookie'); echo text(100); finish();",
    ),
    script("plain-chunks", "ob_start(null, 10); echo text(95), text(3); ob_start(null, 1); echo text(4); finish();"),
    script(
        "readfile",
        "file_put_contents($file = '@GATES@/' . $_GET['id'] . '.text', text(70000)); ob_start(); readfile($file); $in = fopen($file, 'r'); fpassthru($in); finish();",
    ),
    script(
        "output-filter",
        "$out = fopen('php://output', 'w'); stream_filter_append($out, 'string.toupper'); fwrite($out, text(9000)); finish();",
    ),
    script(
        "callback-redirects",
        "ob_start(function ($text) { header('Location: /elsewhere'); return ''; }); echo text(100); finish();",
    ),
    script(
        "callback-asks",
        "ob_start(function ($text) { return $text . ob_get_level() . count(ob_list_handlers()) . ob_get_length(); }); ob_start(fn ($text) => $text . ob_get_level()); echo text(100); finish();",
    ),
    script(
        "callback-prints",
        "ob_start(function ($text) { echo 'nobody'; print 'sees'; return $text . '.'; }); echo text(100); finish();",
    ),
    script(
        "callback-takes-one",
        "ob_start('strtoupper'); echo text(100); try { fastcgi_finish_request(); } catch (Throwable $e) { } finish();",
    ),
    script(
        "callback-gives-a-number",
        "ob_start(fn ($text) => 42); ob_start(fn ($text) => null); ob_start(fn ($text) => true); echo text(100); finish();",
    ),
    script(
        "callback-cleans",
        "ob_start(function ($text) { @ob_clean(); @ob_end_clean(); @ob_end_flush(); return $text . '.'; }); echo text(100); finish();",
    ),
    script(
        "callback-of-an-object",
        "final class C { public $n = 0; public function __invoke($text, $phase) { return $this->n++ . ':' . $text; } } ob_start(new C); ob_start([new C, '__invoke'], 20); echo text(15), text(15), text(15); finish();",
    ),
    silent(
        "callback-starts-a-buffer",
        "ob_start(function ($text) { ob_start(); return $text; }); echo text(100); fastcgi_finish_request(); touch('@GATES@/' . $_GET['id'] . '.ended');",
    ),
    silent("callback-exits", "ob_start(function ($text) { exit; }); echo text(100); fastcgi_finish_request();"),
    script(
        "gz-above",
        "ob_start('ob_gzhandler'); ob_start(fn ($text) => strtoupper($text)); echo text(60000); finish();",
    ),
    script("gz-below", "ob_start(fn ($text) => $text . '.'); ob_start('ob_gzhandler'); echo text(60000); finish();"),
    script("gz-twice", "ini_set('zlib.output_compression', 1); ob_start('ob_gzhandler'); echo text(60000); finish();"),
    script(
        "gz-thrown-away",
        "ob_start('ob_gzhandler'); echo text(60000); ob_end_clean(); header_remove('Content-Encoding'); echo text(100); finish();",
    ),
    script(
        "get-flush",
        "ob_start(); echo text(9000); $page = ob_get_flush(); ob_start(); echo strlen($page); finish();",
    ),
    // As frameworks have it: each asks for php-fpm's function, and works on behind it.
    script(
        "like-symfony",
        "function close_buffers(int $target, bool $flush): void { $status = ob_get_status(true); $level = count($status); $flags = PHP_OUTPUT_HANDLER_REMOVABLE | ($flush ? PHP_OUTPUT_HANDLER_FLUSHABLE : PHP_OUTPUT_HANDLER_CLEANABLE); while ($level-- > $target && ($s = $status[$level]) && (!isset($s['del']) ? !isset($s['flags']) || ($s['flags'] & $flags) === $flags : $s['del'])) { $flush ? ob_end_flush() : ob_end_clean(); } } ob_start(); header('Cache-Control: no-cache, private'); header('X-Debug-Token: abc', true, 200); $content = text(20000); echo $content; if (function_exists('fastcgi_finish_request')) { finish(); } elseif (function_exists('litespeed_finish_request')) { litespeed_finish_request(); } else { close_buffers(0, true); flush(); }",
    ),
    script(
        "like-symfony-streamed",
        "header('Content-Type: text/csv'); (function () { $out = fopen('php://output', 'w'); for ($row = 0; $row < 500; $row++) { fputcsv($out, [$row, 'a \"b\"', str_repeat('c', 30)]); if ($row % 100 === 0) { flush(); } } fclose($out); })(); finish();",
    ),
    script(
        "like-laravel",
        "ob_start(); setcookie('laravel_session', 'x', 0, '/', '', false, true); setcookie('XSRF-TOKEN', 'y'); http_response_code(302); header('Location: http://localhost/home'); echo '<meta http-equiv=\"refresh\" content=\"0;url=http://localhost/home\" />'; finish(); (function () { register_shutdown_function(function () { }); })();",
    ),
    script(
        "like-wordpress",
        "function wp_ob_end_flush_all(): void { $levels = ob_get_level(); for ($i = 0; $i < $levels; $i++) { ob_end_flush(); } } register_shutdown_function('wp_ob_end_flush_all'); ob_start(fn ($buffer) => str_replace('wp-', 'WP-', $buffer)); header('Expires: Wed, 11 Jan 1984 05:00:00 GMT'); header('Cache-Control: no-cache, must-revalidate, max-age=0'); ignore_user_abort(true); echo 'wp-', text(9000); finish();",
    ),
    script(
        "like-wordpress-cron",
        "ignore_user_abort(true); if (!headers_sent()) { header('Expires: Wed, 11 Jan 1984 05:00:00 GMT'); header('Cache-Control: no-cache, must-revalidate, max-age=0'); } finish();",
    ),
    script(
        "like-drupal",
        "ob_start(); echo text(12000); header('X-Generator: Drupal'); header('Content-Length: ' . 12000); finish();",
    ),
    script(
        "like-mediawiki",
        "header_register_callback(function () { header('X-Request-Id: 1'); header_remove('X-Powered-By'); }); ob_start(function ($text, $phase) { if (!headers_sent()) { header('Content-Length: ' . strlen($text)); } return $text; }); echo text(7000); while (ob_get_status() && ob_end_flush()); finish();",
    ),
    script(
        "like-magento",
        "ob_start(); echo text(3000); $page = ob_get_clean(); header('Pragma: no-cache'); header('Content-Type: text/html; charset=UTF-8'); echo $page; session_write_close(); finish();",
    ),
    // Pages that never call it.
    silent(
        "never",
        "echo text(100), json_encode(headers_list()), ob_get_level(), json_encode(error_get_last()); while (ob_get_level()) { ob_end_flush(); } flush(); echo json_encode(headers_list()), 'END';",
    ),
    silent(
        "never-buffers",
        "echo ob_get_level(); ob_start(); echo text(9000); echo ob_get_level(); ob_end_flush(); echo json_encode(array_values(array_diff(array_keys($GLOBALS), ['_SERVER', '_ENV'])));",
    ),
    silent(
        "never-server",
        "echo json_encode(preg_grep('/^FINISH/', array_keys($_SERVER))), json_encode(getenv('finish-request'));",
    ),
    silent(
        "never-zlib",
        "ini_set('zlib.output_compression', '1'); echo text(30000); @ob_end_clean(); @ob_flush(); flush(); echo text(30000); @ob_end_flush(); @ob_clean(); echo 'END', ob_get_level();",
    ),
    silent(
        "never-zlib-ended-at-last",
        "final class Last { static $one; function __destruct() { while (ob_get_level() && @ob_end_flush()); @ob_end_clean(); echo 'FOOT'; } } \
         Last::$one = new Last; ini_set('zlib.output_compression', '1'); echo text(30000);",
    ),
    silent(
        "never-zlib-fatal",
        "register_shutdown_function(function () { for ($level = ob_get_level(); $level > 0; $level--) { @ob_end_flush(); } echo 'TAIL'; }); \
         ini_set('zlib.output_compression', '1'); echo text(30000); trigger_error('now', E_USER_ERROR);",
    ),
    silent("never-throws", "echo text(5000); throw new Exception('now');"),
    silent("never-redirects", "header('Location: /elsewhere');"),
    silent(
        "in-an-output-callback",
        "ob_start(function ($text) { fastcgi_finish_request(); return $text; }); echo text(100);",
    ),
];
