#!/bin/sh
# Says in one sentence what is missing of the Rust toolchain; arguments are cargo's components.
set -eu

cargo=${CARGO:-cargo}
needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "$0")/../../Cargo.toml")

stop() {
    echo "$1" >&2
    exit 1
}

# Where this system has a toolchain that will do, as far as is known; rustup is everywhere.
id=$(sed -n 's/^ID=//p' /etc/os-release 2>/dev/null) || id=
release=$(sed -n 's/^VERSION_ID="\{0,1\}\([0-9.]*\)"\{0,1\}$/\1/p' /etc/os-release 2>/dev/null) || release=
case $id:$release in
debian:12) way='by rustup (Debian 12 has no package that is new enough)' ;;
debian:13) way='from the packages cargo and rustc of trixie-backports, or by the package rustup' ;;
debian:*) way='from the packages cargo and rustc, or by the package rustup' ;;
ubuntu:*) way='from the package rustup, or packages like rustc-1.88 and cargo-1.88 where this release has them' ;;
*) way='by rustup' ;;
esac

version=$("$cargo" --version 2>/dev/null | cut -d' ' -f2) || version=
[ -n "$version" ] || stop "There is no cargo: install a Rust toolchain, $needed or later, $way."
older=$(printf '%s\n' "$needed" "$version" | sort -V | head -n 1)
[ "$older" = "$needed" ] ||
    stop "Rust $version is too old: mod_finish_request needs $needed or later, $way."

for component; do
    "$cargo" "$component" --version >/dev/null 2>&1 || case $component in
    fmt) stop 'This toolchain has no rustfmt: rustup component add rustfmt' ;;
    *) stop "This toolchain has no $component: rustup component add $component" ;;
    esac
done
