# For shell applications: the query, the known text, and background work that waits at a gate.

# query NAME DEFAULT: sets the variable NAME to the value of the query parameter NAME.
query() {
    case "&$QUERY_STRING&" in
    *"&$1="*)
        value="&$QUERY_STRING"
        value=${value#*"&$1="}
        value=${value%%&*}
        ;;
    *) value=$2 ;;
    esac
    case "$value" in
    *[+%]*)
        value=$(printf '%s' "$value" |
            sed 's/+/ /g; s/%20/ /g; s/%22/"/g; s/%3[Bb]/;/g; s/%3[Dd]/=/g')
        ;;
    esac
    eval "$1=\$value"
}

# body BYTES: prints so many bytes of the known text.
body() {
    [ "$1" -eq 0 ] ||
        awk -v lines=$(($1 / 38 + 1)) \
            'BEGIN { while (line < lines) printf "%07d of the answer to your request\n", ++line }' 2>/dev/null | head -c "$1"
}

# now: prints the time in microseconds. Each date(1) knows %N without a width, or leaves it as it is.
now() {
    set -- "$(date +%s%N)"
    case $1 in
    *[!0-9]* | ??????????) echo "$(date +%s)000000" ;;
    *) echo "${1%???}" ;;
    esac
}

# answer: the whole of a marked response, 4096 bytes.
answer() {
    printf 'Content-Type: text/plain\r\nContent-Length: 4096\r\nX-Finish-Request: on\r\n\r\n'
    body 4096
}

# leak BYTES: prints what no client should see; fails when it cannot be written.
leak() {
    [ "$1" -eq 0 ] || head -c "$1" /dev/zero | tr '\0' L
}

# prepare ID: from now on the end of the script is reported, however early it comes.
prepare() {
    gates='@GATES@'
    work=$1 began=0 seen=0 ended=0 errors='ended too early'
    trap '' PIPE
    # httpd may say so twice: the second must not end what the first has begun.
    trap 'trap "" TERM INT HUP; exit 1' TERM INT HUP
    trap leave EXIT
}

# background ID AFTER: as in background.php.
background() {
    prepare "$1"
    began=$(now)
    trouble=
    : >"$gates/$work.began"
    leak $(($2 / 2)) 2>/dev/null || trouble="$trouble could not write before the gate;"

    left=1500
    while [ ! -e "$gates/$work.gate" ]; do
        if [ "$left" -eq 0 ]; then
            trouble="$trouble the gate stayed shut;"
            break
        fi
        left=$((left - 1))
        sleep 0.05
    done
    seen=$(now)

    leak $(($2 - $2 / 2)) 2>/dev/null || trouble="$trouble could not write after the gate;"
    ended=$(now)
    errors=$trouble
}

# leave: leaves the file that says how the background work went. By the shell alone: httpd may kill it in a moment.
leave() {
    printf 'began=%s\ngate=%s\nended=%s\nerrors=%s\n' \
        "$began" "$seen" "$ended" "$errors" >"$gates/$work.done"
}
