#!/bin/sh
# Sends its header at once, and no body, and works in the background.
. ./background.sh

query answer page
query id ''

case $answer in
gone) printf 'Status: 204 No Content\r\n\r\n' ;;
same) printf 'Status: 304 Not Modified\r\nETag: "v7"\r\n\r\n' ;;
moved) printf 'Status: 303 See Other\r\nLocation: https://example.org/thanks\r\n\r\n' ;;
*) printf 'Content-Type: text/html\r\n\r\n' ;;
esac
background "$id" 0
