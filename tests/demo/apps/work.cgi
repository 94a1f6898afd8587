#!/bin/sh
# Answers, lets the client go, and works on.
set -f
IFS='&'
id=you seconds=2
for pair in $QUERY_STRING; do
    case $pair in
    id=*[!0-9-]* | seconds=*[!0-9.]*) ;;
    id=*) id=${pair#id=} ;;
    seconds=*) seconds=${pair#seconds=} ;;
    esac
done

answer=
while [ ${#answer} -lt 3600 ]; do
    answer="${answer}This is the answer to your request.
"
done

printf 'Content-Type: text/plain\n'
printf 'Content-Length: 3600\n'
printf 'X-Finish-Request: on\n\n'
printf '%s' "$answer"

sleep "$seconds"

echo "$(date +%T) $id: work done by a shell script" >>'@GATES@/work.log'
: >"@GATES@/$id.done"
