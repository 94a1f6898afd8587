#!/bin/bash
# make check: looks at the module with more than its tests. LONG=1 takes a night. Whatever cannot be had here is said: "not tried".
#
# | part     | what it looks at                                                  | quick             | LONG=1                    |
# | -------- | ----------------------------------------------------------------- | ----------------- | ------------------------- |
# | faults   | each call of the module's fails in turn, at each occurrence       | all               | all                       |
# | asan     | servers with an instrumented module, memory poisoned              | the main chapters | all chapters but package  |
# | memcheck | servers under valgrind                                            | each course       | each course, marks        |
# | miri     | src/rules/ by Miri                                                | its tests         | its tests                 |
# | fuzz     | each target of fuzz/                                              | a minute          | an hour                   |
# | soak     | make soak                                                         | a minute each MPM | 60 minutes each MPM       |
#
# PARTS='asan fuzz' takes these alone.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

long=${LONG:-}
parts=${PARTS:-faults asan memcheck miri fuzz soak}
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo=${CARGO:-cargo}
nightly=${NIGHTLY:-nightly}
failed=0 done=0 summary=''

# say PART WORDS: a line of the table at the end.
say() { summary+="$(printf '%-9s %s' "$1" "$2")"$'\n'; }

# part NAME COMMAND...: runs it, and says how long it took.
part() {
    local name=$1 start=$SECONDS
    shift
    echo "== $name"
    if "$@"; then
        done=$((done + 1))
        say "$name" "ok, $((SECONDS - start)) s"
    else
        failed=$((failed + 1))
        say "$name" "FAILED, $((SECONDS - start)) s"
    fi
}

# promises FILTER...: tests, those too that `make test` leaves to this.
promises() { "$cargo" test --quiet --test promises -- --include-ignored --test-threads="${THREADS:-4}" "$@"; }

with_asan() {
    # Only with --target are build scripts left as they are.
    RUSTFLAGS=-Zsanitizer=address "$cargo" "+$nightly" build --quiet --lib --target "$triple" --target-dir "$target/asan" || return
    UNDER=asan MOD_FINISH_REQUEST_SO=$target/asan/$triple/debug/libmod_finish_request.so promises "$@"
}

with_memcheck() { UNDER=memcheck THREADS=1 promises "$@"; }

with_miri() { MIRIFLAGS=-Zmiri-disable-isolation "$cargo" "+$nightly" miri test --quiet --lib rules:: --target-dir "$target/miri"; }

with_fuzzers() {
    local fuzzer dictionary
    for fuzzer in fuzz/fuzz_targets/*.rs; do
        fuzzer=$(basename "$fuzzer" .rs)
        dictionary=()
        [ ! -e "fuzz/$fuzzer.dict" ] || dictionary=(-dict="fuzz/$fuzzer.dict")
        # What it learns is kept for the next time.
        mkdir -p "$target/fuzz/corpus/$fuzzer"
        "$cargo" "+$nightly" fuzz run --target-dir "$target/fuzz" "$fuzzer" "$target/fuzz/corpus/$fuzzer" -- \
            "${dictionary[@]}" -max_total_time="$1" -verbosity=0 -print_final_stats=1 || return
    done
}

bash apxs/build.sh build --lib || exit 1
triple=$(rustc -vV | sed -n 's/^host: //p')

for name in $parts; do
    case $name in
    faults) part faults promises each_call:: faults:: ;;
    asan)
        if ! "$cargo" "+$nightly" --version >/dev/null 2>&1 || [ ! -e "$(cc -print-file-name=libasan.so)" ]; then
            say asan 'not tried: there is no nightly Rust, or no libasan'
        elif [ -n "$long" ]; then
            part asan with_asan watched:: each_call::succeeds marks:: finished:: directives:: administrator:: harmless::unmarked
        else
            part asan with_asan watched:: each_call::succeeds lifetimes:: marks:: finished::streams finished::released slow_clients keep::
        fi
        ;;
    memcheck)
        if ! command -v valgrind >/dev/null; then
            say memcheck 'not tried: there is no valgrind'
        elif [ -n "$long" ]; then
            part memcheck with_memcheck watched:: each_call::succeeds marks::boundary marks::flush marks::own_chunks
        else
            part memcheck with_memcheck watched:: each_call::succeeds
        fi
        ;;
    miri)
        if "$cargo" "+$nightly" miri --version >/dev/null 2>&1; then
            part miri with_miri
        else
            say miri 'not tried: there is no Miri'
        fi
        ;;
    fuzz)
        if "$cargo" "+$nightly" fuzz --version >/dev/null 2>&1; then
            part fuzz with_fuzzers "$([ -n "$long" ] && echo 3600 || echo 60)"
        else
            say fuzz 'not tried: there is no cargo-fuzz (cargo install cargo-fuzz) for a nightly Rust'
        fi
        ;;
    soak) part soak make --no-print-directory soak MINUTES="$([ -n "$long" ] && echo 60 || echo 1)" ;;
    *)
        echo "There is no part $name." >&2
        exit 2
        ;;
    esac
done

echo
printf '%s' "$summary"
echo "$done passed, $failed failed"
[ "$failed" -eq 0 ]
