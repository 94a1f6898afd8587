#!/bin/bash
# make check: looks at the module with more than its tests. LONG=1 takes a night. Whatever cannot be had here is said: "not tried".
# docs/safety.md has the table of its parts, and which of it is quick. target/check.last has the last summary, with day and commit.
#
# PARTS='asan fuzz' takes these alone. asan, tsan, miri and fuzz want a nightly Rust: rustup toolchain install nightly -c miri -c rust-src
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

long=${LONG:-}
parts=${PARTS:-faults cost miri asan tsan memcheck stops fuzz modules soak}
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo=${CARGO:-cargo}
nightly=${NIGHTLY:-nightly}
failed=0 done=0 missed=0 summary=''

# say PART WORDS: a line of the table at the end. What is not tried is counted.
say() {
    case $2 in 'not tried'*) missed=$((missed + 1)) ;; esac
    summary+="$(printf '%-9s %s' "$1" "$2")"$'\n'
}

# ended NAME START STATUS: so did this part.
ended() {
    local result=ok
    if [ "$3" -eq 0 ]; then
        done=$((done + 1))
    else
        failed=$((failed + 1)) result=FAILED
    fi
    say "$1" "$result, $((SECONDS - $2)) s"
}

# part NAME COMMAND...: runs it, and says how long it took.
part() {
    local name=$1 start=$SECONDS log status line
    shift
    log=$(mktemp)
    echo "== $name"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    # What its tests could not try on this machine.
    while read -r line; do say "$name" "$line"; done < <(grep -o 'not tried: .*' "$log" | sort -u)
    rm -f "$log"
    ended "$name" "$start" "$status"
}

# beside NAME COMMAND...: the same of one that needs one core, while others run that wait or leave one: until `together`.
beside() {
    beside=$1 beside_start=$SECONDS beside_log=$(mktemp)
    trap 'kill -- "-$beside_pid" 2>/dev/null; rm -f "$beside_log"' EXIT
    # In a group of its own, which ends as a whole.
    set -m
    "${@:2}" >"$beside_log" 2>&1 </dev/null &
    beside_pid=$!
    set +m
}

together() {
    [ -n "${beside:-}" ] || return 0
    wait "$beside_pid"
    local status=$?
    echo "== $beside"
    cat "$beside_log"
    rm -f "$beside_log"
    trap - EXIT
    ended "$beside" "$beside_start" "$status"
    beside=
}

# What is always looked at of watched servers: each course of each_call.rs, and what its threads share of kept connections. Thousands of requests
# there, whose memory is to stay flat, are for servers that nobody watches.
watched=(harmless::watched:: each_call::succeeds directives::watched:: --skip leave_nothing_behind)

# promises FILTER...: tests, those too that `make test` leaves to this. Each text has to be in a test's name.
promises() {
    local names text
    names=$("$cargo" test --quiet --test promises -- --list) || return
    for text in "$@"; do
        case $text in
        --*) ;;
        *)
            grep -qF -- "$text" <<<"$names" || {
                echo "No test has '$text' in its name." >&2
                return 1
            }
            ;;
        esac
    done
    "$cargo" test --quiet --test promises -- --include-ignored --test-threads="${THREADS:-4}" "$@"
}

with_callgrind() {
    make --no-print-directory module || return
    MOD_FINISH_REQUEST_SO=$PWD/mod_finish_request.so promises instructions:: system_calls:: --nocapture
}

with_asan() {
    # Only with --target are build scripts left as they are.
    RUSTFLAGS=-Zsanitizer=address "$cargo" "+$nightly" build --quiet --lib --target "$triple" --target-dir "$target/asan" || return
    UNDER=asan MOD_FINISH_REQUEST_SO=$target/asan/$triple/debug/libmod_finish_request.so promises "$@"
}

with_tsan() {
    # The standard library with it: what of that is not instrumented, atomics of its locks say, is taken for races.
    RUSTFLAGS=-Zsanitizer=thread "$cargo" "+$nightly" build --quiet -Zbuild-std --lib --target "$triple" --target-dir "$target/tsan" || return
    UNDER=tsan THREADS=2 MOD_FINISH_REQUEST_SO=$target/tsan/$triple/debug/libmod_finish_request.so promises "$@"
}

with_memcheck() { UNDER=memcheck THREADS=1 promises "$@"; }

with_miri() {
    local log=$target/miri.log
    PROPTEST_CASES=$1 MIRIFLAGS=-Zmiri-disable-isolation \
        "$cargo" "+$nightly" miri test --quiet --lib --target-dir "$target/miri" rules:: 2>&1 | tee "$log" || return
    grep -q '^test result: ok. [1-9]' "$log" || {
        echo 'No test is called rules::….'
        return 1
    }
}

# fuzzer NAME SECONDS: runs one, from what is known.
fuzzer() {
    local corpus=$target/fuzz/corpus/$1 dictionary=()
    mkdir -p "$corpus"
    [ -e "fuzz/corpus/$1.tar.gz" ] || {
        echo "There is no fuzz/corpus/$1.tar.gz, from which $1 begins."
        return 1
    }
    tar -xzf "fuzz/corpus/$1.tar.gz" -C "$corpus" || return
    [ ! -e "fuzz/$1.dict" ] || dictionary=(-dict="fuzz/$1.dict")
    "$target/fuzz/$triple/release/$1" "$corpus" "${dictionary[@]}" -artifact_prefix="$target/fuzz/$1-" \
        -max_total_time="$2" -timeout=10 -verbosity=0 -print_final_stats=1 >"$target/fuzz/$1.log" 2>&1 || {
        echo "The fuzzer $1 has found something:"
        tail -n 40 "$target/fuzz/$1.log"
        return 1
    }
    sed -n "s/^stat::number_of_executed_units: */$1: /p" "$target/fuzz/$1.log"
}

# keep NAME: what it has learned goes to what is kept, as few files as reach the same places.
keep() {
    local least
    least=$(mktemp -d) || return
    "$target/fuzz/$triple/release/$1" -merge=1 -max_len=4096 "$least" "$target/fuzz/corpus/$1" >/dev/null 2>&1 &&
        tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$least" -cf - . | gzip -9n >"fuzz/corpus/$1.tar.gz"
    rm -rf "$least"
}

with_fuzzers() {
    local names
    names=$(basename -s .rs fuzz/fuzz_targets/*.rs)
    "$cargo" "+$nightly" fuzz build --target-dir "$target/fuzz" || return
    # Two at a time: there may be no more cores.
    echo "$names" | xargs -P 2 -I '{}' bash -c "fuzzer '{}' $1" || return
    [ -z "$long" ] || for name in $names; do keep "$name" || return; done
}
export -f fuzzer

bash apxs/build.sh build --lib || exit 1
triple=$(rustc -vV | sed -n 's/^host: //p')
export target triple

for name in $parts; do
    case $name in asan | tsan | memcheck | stops) ;; *) together ;; esac
    case $name in
    faults) part faults promises each_call:: known_calls:: faults:: directives::watched::a_hundred_thousand ;;
    cost)
        if command -v valgrind >/dev/null; then
            part cost with_callgrind
        else
            say cost 'not tried: there is no valgrind'
        fi
        ;;
    asan)
        if ! "$cargo" "+$nightly" --version >/dev/null 2>&1 || [ ! -e "$(cc -print-file-name=libasan.so)" ]; then
            say asan 'not tried: there is no nightly Rust, or no libasan'
        elif [ -n "$long" ]; then
            part asan with_asan "${watched[@]}" marks:: finished:: directives:: administrator:: harmless::unmarked regressions::
        else
            part asan with_asan "${watched[@]}" lifetimes:: marks:: finished::streams finished::released slow_clients keep::
        fi
        ;;
    tsan)
        if [ ! -e "$(rustc "+$nightly" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/Cargo.lock" ] ||
            [ ! -e "$(cc -print-file-name=libtsan.so)" ]; then
            say tsan 'not tried: there is no nightly Rust with rust-src, or no libtsan'
        elif [ -n "$long" ]; then
            part tsan with_tsan "${watched[@]}" marks:: finished:: directives:: administrator:: harmless::unmarked
        else
            # Megabytes and hundreds of threads take minutes there.
            part tsan with_tsan "${watched[@]}" finished::streams finished::released slow_clients kept_clients keep:: \
                --skip files_and_compressed_responses --skip three_hundred_at_once --skip a_thousand_in_a_row
        fi
        ;;
    memcheck)
        if ! command -v valgrind >/dev/null; then
            say memcheck 'not tried: there is no valgrind'
        elif [ -n "$long" ]; then
            part memcheck with_memcheck "${watched[@]}" marks::boundary marks::flush marks::own_chunks
        else
            part memcheck with_memcheck "${watched[@]}"
        fi
        ;;
    miri)
        if "$cargo" "+$nightly" miri --version >/dev/null 2>&1; then
            beside miri with_miri "$([ -n "$long" ] && echo 64 || echo 2)"
        else
            say miri 'not tried: there is no Miri'
        fi
        ;;
    fuzz)
        "$cargo" "+$nightly" fuzz --version >/dev/null 2>&1 || "$cargo" install --quiet --root "$target/tools" cargo-fuzz
        PATH=$PATH:$target/tools/bin
        if "$cargo" "+$nightly" fuzz --version >/dev/null 2>&1; then
            part fuzz with_fuzzers "$([ -n "$long" ] && echo 3600 || echo 60)"
        else
            say fuzz 'not tried: there is no cargo-fuzz (cargo install cargo-fuzz) for a nightly Rust'
        fi
        ;;
    modules) part modules promises other_modules::of_others other_modules::of_httpd_elsewhere --nocapture ;;
    stops) part stops promises administrator::stops:: ;;
    soak) part soak make --no-print-directory soak MINUTES="$([ -n "$long" ] && echo 60 || echo 1)" ;;
    *)
        echo "There is no part $name." >&2
        exit 2
        ;;
    esac
done
together

echo
printf '%s' "$summary"
echo "$((SECONDS / 60)) min $((SECONDS % 60)) s in all"
echo "$done passed, $failed failed, $missed not tried"
{
    date -u +%F
    git describe --always --dirty 2>/dev/null
    printf '%s' "$summary"
} >"$target/check.last"
[ "$failed" -eq 0 ]
