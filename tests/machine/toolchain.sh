#!/bin/sh
# Says in one sentence what is missing of the Rust toolchain; arguments are cargo's components.
set -eu

cargo=${CARGO:-cargo}
needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "$0")/../../Cargo.toml")

stop() {
    echo "$1" >&2
    exit 1
}

version=$("$cargo" --version 2>/dev/null | cut -d' ' -f2) || version=
[ -n "$version" ] || stop "There is no cargo: install a Rust toolchain, $needed or later, for example with rustup."
older=$(printf '%s\n' "$needed" "$version" | sort -V | head -n 1)
[ "$older" = "$needed" ] ||
    stop "Rust $version is too old: mod_finish_request needs $needed or later, for example from rustup."

for component; do
    "$cargo" "$component" --version >/dev/null 2>&1 || case $component in
    fmt) stop 'This toolchain has no rustfmt: rustup component add rustfmt' ;;
    *) stop "This toolchain has no $component: rustup component add $component" ;;
    esac
done
