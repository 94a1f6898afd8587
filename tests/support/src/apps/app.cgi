#!/bin/sh
# Answers with a known text, then works in the background. See app.php for the query.
. ./background.sh

query bytes 4096
query length "$bytes"
query mark on
query status 200
query id ''
query after 200

# mod_cgid takes input that nobody reads for an error.
[ "$REQUEST_METHOD" != POST ] || cat >/dev/null

printf 'Status: %s\r\n' "$status"
printf 'Content-Type: text/plain\r\n'
[ "$length" = none ] || printf 'Content-Length: %s\r\n' "$length"
[ "$mark" = none ] || printf 'X-Finish-Request: %s\r\n' "$mark"
printf '\r\n'
body "$bytes"
[ -z "$id" ] || background "$id" "$after"
