<?php
/**
 * For static analysers, not to be loaded: the functions that prepend.php defines where PHP has none.
 */

/**
 * Ends the response; the script goes on. False where it cannot end before the script does. The session stays locked until it is closed: call
 * session_write_close() before.
 */
function apache_finish_request(): bool
{
}

/** The same, by php-fpm's name. */
function fastcgi_finish_request(): bool
{
}

/** The same, by LiteSpeed's name. */
function litespeed_finish_request(): bool
{
}
