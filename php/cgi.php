<?php
/**
 * For prepend.php, under php-cgi: the digits that httpd gave are known to apache_finish_request(), and taken out of $_SERVER and of what the script's
 * own programs get (getenv() has what FastCGI brought, all the same); and zlib.output_compression, which PHP begins but ends for nobody, is done by a buffer that can be ended.
 */

apache_finish_request_digits();
unset($_SERVER['FINISH_REQUEST']);
if (function_exists('putenv')) {
    // Programs that a CGI script starts have its environment.
    putenv('FINISH_REQUEST');
}

if (function_exists('deflate_init') && function_exists('ini_get') && function_exists('ini_set')) {
    /**
     * Compresses as PHP's own handler does, byte by byte, and under the same conditions. PHP lets nobody end its own once it has
     * begun. So who ends this one in the middle of a page only flushes it: another takes its place, that nobody can end.
     *
     * @internal
     */
    final class ApacheFinishRequestCompression
    {
        /** True from when apache_finish_request() ends the buffers. */
        public static $ends = false;

        private $size;
        private $stream = null;
        private $successor = null;
        private $kept = '';
        private $plain = false;

        private function __construct(int $size)
        {
            $this->size = $size;
        }

        /** Puts one in the place of PHP's own, if that is the innermost buffer and has not begun. */
        public static function replace(): void
        {
            $buffer = ob_get_status();
            if (
                ($buffer['name'] ?? '') !== 'zlib output compression'
                || $buffer['flags'] & PHP_OUTPUT_HANDLER_STARTED
                || !ob_end_clean()
            ) {
                return;
            }
            if (!in_array(self::class . '::__invoke', ob_list_handlers(), true)) {
                ob_start(new self($buffer['chunk_size']), $buffer['chunk_size']);
            }
        }

        /** @return string|false What is sent; false, before PHP 8.5: this and all that follows, as it is. */
        public function __invoke(string $data, int $phase)
        {
            $begins = $this->stream === null;
            $final = (bool) ($phase & PHP_OUTPUT_HANDLER_FINAL);
            if ($phase & PHP_OUTPUT_HANDLER_CLEAN) {
                // From PHP's own nothing can be taken any more, either.
                $this->kept .= $begins ? '' : $data;
                if ($final && !$begins) {
                    $this->go_on();
                }
                return '';
            }
            $data = $this->kept . $data;
            $this->kept = '';
            if ($this->plain || $begins && !$this->begin()) {
                // From 8.5 on PHP would say in the page that `false` is deprecated.
                $this->plain = PHP_VERSION_ID >= 80500;
                return $this->plain ? $data : false;
            }
            // At the script's end nobody calls ob_end_flush().
            $called = count(debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS, 2)) > 1;
            if ($final && $called && !$begins && !self::$ends) {
                $this->go_on();
            } elseif ($final) {
                return deflate_add($this->stream, $data, ZLIB_FINISH);
            }
            $flushed = $final || $phase & PHP_OUTPUT_HANDLER_FLUSH;
            return deflate_add($this->stream, $data, $flushed ? ZLIB_FULL_FLUSH : ZLIB_SYNC_FLUSH);
        }

        private function begin(): bool
        {
            $setting = (string) ini_get('zlib.output_compression');
            $coding = zlib_get_coding_type();
            if (headers_sent() || strcasecmp($setting, 'on') && !(int) $setting || !is_string($coding)) {
                return false;
            }
            // ob_gzhandler, which PHP lets nobody start beside its own.
            if (preg_grep('/^Content-Encoding:/i', headers_list())) {
                return false;
            }
            // PHP takes any number, zlib does not; then the page is plain.
            $level = (int) ini_get('zlib.output_compression_level');
            if ($level < -1 || $level > 9) {
                return false;
            }
            header("Content-Encoding: $coding");
            header('Vary: Accept-Encoding', false);
            $format = $coding === 'gzip' ? ZLIB_ENCODING_GZIP : ZLIB_ENCODING_DEFLATE;
            $this->stream = deflate_init($format, ['level' => $level, 'memory' => 9]);
            return true;
        }

        /** As soon as this one is gone, another takes its place. */
        private function go_on(): void
        {
            // An object of its own, and a new one: behind a fatal error, and where the script's objects end, PHP calls no destructor
            // of those that were there.
            $this->successor = new class (clone $this, $this->size) {
                private $next;
                private $size;

                public function __construct(callable $next, int $size)
                {
                    $this->next = $next;
                    $this->size = $size;
                }

                public function __destruct()
                {
                    // As PHP's own: loops end that try until nothing is left to be ended.
                    ob_start($this->next, $this->size, PHP_OUTPUT_HANDLER_FLUSHABLE);
                }
            };
        }
    }

    ApacheFinishRequestCompression::replace();
    if (ini_get('zlib.output_handler') === '') {
        // An application may switch it on by ini_set(), which then looks for this handler: the time to replace PHP's own. There is
        // no such class, and the warning that says so is for nobody.
        ini_set('zlib.output_handler', 'ApacheFinishRequestCompressionBegins::handler');
        spl_autoload_register(static function (string $class): void {
            if ($class === 'ApacheFinishRequestCompressionBegins') {
                ApacheFinishRequestCompression::replace();
                $said = false;
                $previous = set_error_handler(static function () use (&$previous, &$said): bool {
                    // Where there was no handler before it, PHP has this one stay, whatever it restores: from then on it does nothing.
                    if ($said) {
                        return false;
                    }
                    $said = true;
                    if ($previous !== null) {
                        restore_error_handler();
                    }
                    return true;
                });
            } elseif (PHP_VERSION_ID < 80000 && function_exists('__autoload') && count(spl_autoload_functions()) === 1) {
                // Which PHP asks where no other autoloader than this one is.
                call_user_func('__autoload', $class);
            }
        });
    }
}
