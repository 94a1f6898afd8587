#!/bin/sh
# Does what the query says under `do`, one after the other, with points between: tTEXT puts out a text, nBYTES the known text, dFROM-TO a part of
# the digits twice in a row; f sends all that was put out, in one write; w works in the background; pNAME waits at the gate NAME. `header` is
# a line of the header.
. ./background.sh

query do ''
query id ''
query header ''

[ "$REQUEST_METHOD" != POST ] || cat >/dev/null

digits=$FINISH_REQUEST$FINISH_REQUEST
out=
send() {
    [ -z "$out" ] || printf '%s' "$out"
    out=
}

[ -z "$header" ] || printf '%s\r\n' "$header"
out=$(printf 'Content-Type: text/plain\r\n\r\nx')
out=${out%x}
IFS=.
for each in $do; do
    rest=${each#?}
    case $each in
    t*) out=$out$rest ;;
    n*) out=$out$(body "$rest") ;;
    d*) out=$out$(printf '%s' "$digits" | cut -c "$((${rest%-*} + 1))-${rest#*-}") ;;
    f) send ;;
    p*) gates='@GATES@'; : >"$gates/$rest.waits"; while [ ! -e "$gates/$rest.gate" ]; do sleep 0.02; done ;;
    c*) sh -c 'printf "%s%s" "$FINISH_REQUEST" "$FINISH_REQUEST"' ;;
    w) send; background "$id" 200 ;;
    esac
done
send
