<?php
/**
 * apache_finish_request(): the response ends here, the client is let go, and the script goes on.
 *
 *     require '/usr/share/php/finish_request/finish_request.php';
 *     echo 'Thank you.';
 *     session_write_close();
 *     apache_finish_request();
 *     // what takes long
 *
 * For PHP under Apache httpd with mod_finish_request: mod_php, mod_fcgid, CGI; under php-fpm it calls
 * fastcgi_finish_request(), so that one call serves all. Needs no extension, PHP 7.4 or later. Where the whole site is to have
 * the function, under php-fpm's name too: prepend.php.
 */

if (!function_exists('apache_finish_request')) {
    /**
     * Sends what has been printed, in whatever output buffers it is, and ends the response, as php-fpm's
     * fastcgi_finish_request() does. What is printed later reaches nobody, and does not end the script. The session stays
     * open: call session_write_close() before, or the client's next request waits for it.
     *
     * @return bool Whether the response has ended. False where it cannot end before the script does: then the page is as
     *              ever, and nothing has happened, but that output buffers may have ended. So it is the second time; without the module, or with FinishRequest Off;
     *              with an output buffer that PHP ends for nobody (docs/applications.md has the list); and where the page has
     *              a mark of its own, in a header that has gone.
     */
    function apache_finish_request(): bool
    {
        static $finished = false;
        if ($finished) {
            return false;
        }
        if (in_array(PHP_SAPI, ['apache2handler', 'cgi-fcgi'], true) && apache_finish_request_is_off()) {
            return false;
        }
        // An output callback that asks once more is refused.
        $finished = true;
        switch (PHP_SAPI) {
            case 'apache2handler':
                return $finished = apache_finish_request_inside();
            case 'cgi-fcgi':
                $digits = apache_finish_request_digits();
                return $finished = $digits === '' ? apache_finish_request_by_length() : apache_finish_request_by_digits($digits);
            default:
                return $finished = apache_finish_request_by_sapi();
        }
    }

    /**
     * Whether the page has said `off`, or who led to it: then no other mark counts.
     *
     * @internal
     */
    function apache_finish_request_is_off(): bool
    {
        $marks = preg_grep('/^X-Finish-Request:/i', function_exists('headers_list') ? headers_list() : []);
        $variable = 'finish-request';
        // Each internal redirect puts a prefix before it; httpd allows ten by default.
        for ($redirects = 0; $redirects <= 20; $redirects++) {
            $marks[] = ':' . (string) (function_exists('apache_getenv') ? apache_getenv($variable) : $_SERVER[strtr($variable, '-', '_')] ?? '');
            $variable = "REDIRECT_$variable";
        }
        foreach ($marks as $mark) {
            if (preg_match('/[:;]\s*off\s*(;|$)/i', $mark)) {
                return true;
            }
        }
        return false;
    }

    /**
     * Takes the page's own mark out of the header: it would be another end.
     *
     * @internal
     * @return bool False if that stays.
     */
    function apache_finish_request_unmark(): bool
    {
        if (!function_exists('headers_list') || !preg_grep('/^X-Finish-Request:/i', headers_list())) {
            return true;
        }
        if (headers_sent() || !function_exists('header_remove')) {
            return false;
        }
        header_remove('X-Finish-Request');
        return true;
    }

    /**
     * mod_php: the request's environment marks the response, and the next flush is the end.
     *
     * @internal
     */
    function apache_finish_request_inside(): bool
    {
        $notes = function_exists('apache_note');
        if ($notes && apache_note('finish-request-version') === false) {
            return false;
        }
        // Without apache_setenv() the header is the other way, for those who know that the module is there to take it out.
        $by_header = !function_exists('apache_setenv');
        if ($by_header && (!$notes || headers_sent()) || !apache_finish_request_can_flush()) {
            return false;
        }
        $token = $by_header ? bin2hex(random_bytes(16)) : '';
        if ($by_header) {
            header("X-Finish-Request: boundary=$token");
        } elseif (!apache_finish_request_unmark()) {
            return false;
        }
        $thrown = apache_finish_request_flush();
        $finished = ob_get_level() === 0;
        // Not before: an output callback may flush, too.
        if ($finished && $by_header) {
            echo $token;
        } elseif ($finished) {
            apache_setenv('finish-request', 'flush');
        }
        flush();
        if ($finished && !$notes) {
            // Nobody says whether the module is there to do it.
            apache_finish_request_discard();
        }
        if ($thrown) {
            throw $thrown;
        }
        return $finished;
    }

    /**
     * php-cgi, with the mark `late`: the digits that httpd gave this response, twice in a row, are its end. Printing them
     * makes php-cgi send its header, if it has not yet.
     *
     * @internal
     */
    function apache_finish_request_by_digits(string $digits): bool
    {
        if (!apache_finish_request_can_flush()) {
            return false;
        }
        if (!apache_finish_request_unmark()) {
            return false;
        }
        $thrown = apache_finish_request_flush();
        $finished = ob_get_level() === 0;
        if ($finished) {
            echo $digits . $digits;
        }
        flush();
        if ($thrown) {
            throw $thrown;
        }
        return $finished;
    }

    /**
     * php-cgi without that mark: the response's length, which must be known before php-cgi sends its header.
     *
     * @internal
     */
    function apache_finish_request_by_length(): bool
    {
        $buffers = ob_get_status(true);
        // Where the outermost buffer sends what it has when it is full, all is collected in the one above it.
        $collector = $buffers && $buffers[0]['chunk_size'] > 0 ? 1 : 0;
        foreach ($buffers as $level => $buffer) {
            $plain = $buffer['name'] === 'default output handler';
            $keeps = $buffer['chunk_size'] === 0 || $level === count($buffers) - 1;
            if (
                !($buffer['flags'] & PHP_OUTPUT_HANDLER_REMOVABLE)
                || $level <= $collector && !$plain
                || $level === $collector && !$keeps
            ) {
                return false;
            }
        }
        if (headers_sent() || !apache_finish_request_can_flush()) {
            return false;
        }
        // Without a byte php-cgi sends no header before the script's end.
        if (apache_finish_request_are_plain($buffers) && array_sum(array_column($buffers, 'buffer_used')) === 0) {
            return false;
        }

        $thrown = apache_finish_request_flush($collector + 1);
        // What is left has no callback: its length is known, and no copy of it needed.
        $length = array_sum(array_column(ob_get_status(true), 'buffer_used'));
        // An output callback may have sent the header, or left nothing.
        $finished = $length > 0 && !headers_sent();
        if ($finished) {
            if (!in_array(http_response_code(), [204, 304], true)) {
                header("Content-Length: $length");
            }
            header('X-Finish-Request: on');
        }
        while (ob_get_level() > 0 && ob_end_flush());
        if ($length > 0) {
            flush();
        }
        if ($finished) {
            // Without the module nobody else keeps from the client what is printed later.
            apache_finish_request_discard();
        }
        if ($thrown) {
            throw $thrown;
        }
        return $finished;
    }

    /**
     * php-fpm, and others that have such a function.
     *
     * @internal
     */
    function apache_finish_request_by_sapi(): bool
    {
        foreach (['fastcgi_finish_request', 'litespeed_finish_request'] as $function) {
            if (!function_exists($function) || !(new ReflectionFunction($function))->isInternal()) {
                continue;
            }
            // php-fpm would end the script at its next output: it goes on, and its output goes nowhere. (A flush()
            // still has connection_status() say that the client has gone: that is php-fpm's own.)
            if (function_exists('ignore_user_abort')) {
                ignore_user_abort(true);
            }
            if (!$function()) {
                return false;
            }
            apache_finish_request_discard();
            return true;
        }
        return false;
    }

    /**
     * What is printed from now on goes nowhere.
     *
     * @internal
     */
    function apache_finish_request_discard(): void
    {
        ob_start(static function (): string {
            return '';
        }, 4096);
    }

    /**
     * The digits that end this response; none where httpd gave none.
     *
     * @internal
     */
    function apache_finish_request_digits(): string
    {
        static $digits = null;
        if ($digits === null) {
            $given = function_exists('getenv') ? getenv('FINISH_REQUEST') : '';
            $digits = is_string($given) && preg_match('/^[0-9a-f]{32}$/D', $given) ? $given : '';
        }
        return $digits;
    }

    /**
     * Whether all output buffers can be ended, so that what is in them is sent whole.
     *
     * @internal
     */
    function apache_finish_request_can_flush(): bool
    {
        $buffers = ob_get_status(true);
        if (!apache_finish_request_are_plain($buffers) && apache_finish_request_has_virtual()) {
            return true;
        }
        $above = 0;
        foreach (array_reverse($buffers) as $buffer) {
            if (!($buffer['flags'] & PHP_OUTPUT_HANDLER_REMOVABLE)) {
                return false;
            }
            // PHP's own compression cannot be ended any more once it has begun.
            $compresses = in_array($buffer['name'], ['zlib output compression', 'ob_gzhandler'], true)
                && !($buffer['flags'] & PHP_OUTPUT_HANDLER_DISABLED);
            $above += $buffer['buffer_used'];
            if ($compresses && $buffer['chunk_size'] > 0 && $above >= $buffer['chunk_size']) {
                return false;
            }
            if ($buffer['name'] !== 'default output handler') {
                // Its callback may make any length of it.
                $above = PHP_INT_MAX / 2;
            }
        }
        return true;
    }

    /**
     * Ends the output buffers, down to so many, and sends what is in them: to be called when that is possible.
     *
     * @internal
     * @return ?Throwable What an output callback threw, for the time when the response has ended.
     */
    function apache_finish_request_flush(int $left = 0): ?Throwable
    {
        // Each flush would be a packet of its own, or even the end.
        ob_implicit_flush(PHP_VERSION_ID < 80000 ? 0 : false);
        if (class_exists('ApacheFinishRequestCompression', false)) {
            ApacheFinishRequestCompression::$ends = true;
        }
        $thrown = null;
        if ($left === 0 && !apache_finish_request_are_plain(ob_get_status(true)) && apache_finish_request_has_virtual()) {
            // virtual() first ends all buffers, as nothing else in PHP does before the script's end, and sends the header.
            // The subrequest itself is answered by the module, with nothing.
            apache_note('finish-request-empty-subrequests', '1');
            try {
                virtual('/');
            } catch (Throwable $exception) {
                $thrown = $exception;
            }
            apache_note('finish-request-empty-subrequests', '0');
        }
        while (ob_get_level() > $left) {
            try {
                if (!ob_end_flush()) {
                    break;
                }
            } catch (Throwable $exception) {
                $thrown = $thrown ?? $exception;
            }
        }
        return $thrown;
    }

    /**
     * Whether these are buffers without a callback, which ob_end_flush() ends as php-fpm does.
     *
     * @internal
     */
    function apache_finish_request_are_plain(array $buffers): bool
    {
        foreach ($buffers as $buffer) {
            if ($buffer['name'] !== 'default output handler' || !($buffer['flags'] & PHP_OUTPUT_HANDLER_REMOVABLE)) {
                return false;
            }
        }
        return true;
    }

    /**
     * Whether mod_php's virtual() is there, and the module, which answers its subrequest.
     *
     * @internal
     */
    function apache_finish_request_has_virtual(): bool
    {
        return PHP_SAPI === 'apache2handler'
            && function_exists('virtual')
            && function_exists('apache_note')
            && apache_note('finish-request-version') !== false;
    }
}
