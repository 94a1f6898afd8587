#!/bin/sh
# picture.sh MODULE FILE [WIDTH HEIGHT]: takes the picture of the demo's page in a browser, when six jobs at once have ended.
set -eu
module=$1 file=$2 size=${3:-900},${4:-560}
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    { echo 'There is no browser: apt-get install chromium' >&2; exit 1; }
work=$(mktemp -d)
trap '[ -z "${demo:-}" ] || kill "$demo" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

KEEP=1 MOD_FINISH_REQUEST_SO=$module ${CARGO:-cargo} run --quiet --example demo >"$work/said" 2>&1 &
demo=$!
until [ -e "$work/said" ] && url=$(sed -nE 's/^In a browser: +//p' "$work/said") && [ -n "$url" ]; do
    kill -0 "$demo" 2>/dev/null || { cat "$work/said" >&2; exit 1; }
    sleep 0.2
done
# The page is loaded when it has shown all: it waits for its own report.
HOME=$work timeout 120 "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/browser" \
    --window-size="$size" --screenshot="$work/picture.png" "$url?ids=a,b,c,d,e,f&report=picture&picture" >"$work/browser.log" 2>&1 ||
    { cat "$work/browser.log" >&2; exit 1; }
install -m 644 "$work/picture.png" "$file"
