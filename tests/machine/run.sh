#!/bin/bash
# Runs all tests, or those with the given text in their names, and ends with one line for them all.
set -uo pipefail

# The tests mostly wait for their servers, so there may be more of them than cores; some load theirs as far as they can.
threads=${RUST_TEST_THREADS:-$(($(nproc) * 2))}
cargo=${CARGO:-cargo}
[ "$(ulimit -S -n)" = unlimited ] || [ "$(ulimit -S -n)" -ge 1024 ] || ulimit -S -n 1024 2>/dev/null

# Where nothing can be built, no server starts, or no script runs, that is said once.
if ! bash "$(dirname "$0")/../../apxs/build.sh" build --lib --example machine || ! "$cargo" run --quiet --example machine; then
    echo
    echo '0 passed, 1 failed'
    exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

"$cargo" test --workspace --no-fail-fast "$@" -- --test-threads="$threads" | tee "$log"
status=$?

read -r passed failed < <(awk '/^test result: / { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$log")
# What this machine does not let a test try, the test says.
skipped=$(grep -c 'not tried: ' "$log")
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    echo 'Something did not compile, or a test program ended without a summary: see above.'
fi
echo
grep -o 'not tried: .*' "$log" && passed=$((passed - skipped)) skips=", $skipped skipped"
echo "$passed passed, $failed failed${skips:-}"
exit "$status"
