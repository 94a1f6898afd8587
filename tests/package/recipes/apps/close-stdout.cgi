#!/bin/sh
# The script says all that it has to say, closes its output, and works on.
. ./background.sh

query id ''
printf 'Content-Type: text/plain\r\nConnection: close\r\nContent-Length: 1500\r\n\r\n'
body 1500
exec >/dev/null 2>&1

background "$id" 0
