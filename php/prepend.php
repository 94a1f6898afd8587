<?php
/**
 * For auto_prepend_file: applications that ask function_exists('fastcgi_finish_request'), as most frameworks do, finish their
 * responses early, unmodified, under mod_php, mod_fcgid and CGI. docs/applications.md has the lines of configuration.
 *
 * Where PHP runs inside httpd it looks for the module's note, elsewhere for the digits that the mark `late` brings. Without them
 * (under php-fpm, on the command line, without the module, with FinishRequest Off) it does nothing. PHP 7.4 or later.
 */

if (
    PHP_SAPI === 'apache2handler' && function_exists('apache_note') && apache_note('finish-request-version') !== false
    || PHP_SAPI === 'cgi-fcgi' && function_exists('getenv') && preg_match('/^[0-9a-f]{32}$/D', (string) getenv('FINISH_REQUEST'))
) {
    require __DIR__ . '/finish_request.php';
    if (PHP_SAPI === 'cgi-fcgi') {
        require_once __DIR__ . '/cgi.php';
    }

    if (!function_exists('fastcgi_finish_request')) {
        /** As php-fpm's: apache_finish_request(). */
        function fastcgi_finish_request(): bool
        {
            return apache_finish_request();
        }
    }

    if (!function_exists('litespeed_finish_request')) {
        /** As LiteSpeed's: apache_finish_request(). */
        function litespeed_finish_request(): bool
        {
            return apache_finish_request();
        }
    }
}
