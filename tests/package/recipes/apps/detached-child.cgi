#!/bin/sh
# The script answers and exits; its child works on, and keeps the script's output open.
. ./background.sh

query id ''
printf 'Content-Type: text/plain\r\nConnection: close\r\nContent-Length: 1500\r\n\r\n'
body 1500
background "$id" 0 &
