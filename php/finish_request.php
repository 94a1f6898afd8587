<?php
/**
 * apache_finish_request(): the response ends here, the client is let go, and the script goes on.
 *
 *     require 'finish_request.php';
 *     echo 'Thank you.';
 *     apache_finish_request();
 *     // what takes long
 *
 * For PHP under Apache httpd with mod_finish_request: mod_php, mod_fcgid, CGI; under php-fpm it calls
 * fastcgi_finish_request(), so that one call serves all. Needs no extension, PHP 7.0 or later.
 */

if (!function_exists('apache_finish_request')) {
    /**
     * Sends what has been printed, in whatever output buffers it is, and ends the response. What is printed later
     * reaches nobody. The session stays open: call session_write_close() before, or the client's next request
     * waits for it.
     *
     * @return bool Whether the response was marked. False, with all output flushed, where it could not be: under
     *              mod_fcgid and CGI after the headers have been sent (begin with ob_start() there), or with an
     *              outermost output buffer that rewrites what it gets (ob_gzhandler, zlib.output_compression),
     *              whose length nobody knows.
     *              Whether the client really was let go is the server's to decide: without mod_finish_request, or
     *              with FinishRequest Off, it waits as ever.
     */
    function apache_finish_request(): bool
    {
        if (function_exists('fastcgi_finish_request')) {
            // php-fpm would end the script at its next output: it goes on, and its output goes nowhere. (A flush()
            // still has connection_status() say that the client has gone: that is php-fpm's own.)
            ignore_user_abort(true);
            $finished = fastcgi_finish_request();
            ob_start(function (): string {
                return '';
            }, 4096);
            return $finished;
        }

        // All into the outermost buffer: it is sent in one piece.
        while (ob_get_level() > 1 && @ob_end_flush()) {
        }

        $marked = apache_finish_request_mark();

        while (ob_get_level() > 0 && @ob_end_flush()) {
        }
        flush();
        return $marked;
    }

    /**
     * Marks the response: by the server's environment where the script runs inside the server, and the next flush
     * is the end; else by its length, which a program outside can only say before the headers are sent.
     *
     * @internal
     */
    function apache_finish_request_mark(): bool
    {
        if (PHP_SAPI === 'apache2handler' && function_exists('apache_setenv')) {
            return apache_setenv('finish-request', 'flush');
        }
        if (headers_sent()) {
            return false;
        }
        if (PHP_SAPI === 'apache2handler') {
            header('X-Finish-Request: flush');
            return true;
        }
        $buffers = ob_get_status(true);
        if ($buffers && $buffers[0]['name'] !== 'default output handler') {
            return false;
        }
        header('Content-Length: ' . (int) ob_get_length());
        header('X-Finish-Request: on');
        return true;
    }
}
