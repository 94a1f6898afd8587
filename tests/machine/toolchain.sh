#!/bin/sh
# Says in one sentence what is missing of the Rust toolchain; arguments are cargo's components.
set -eu
# What apt says is read.
export LC_ALL=C

cargo=${CARGO:-cargo}
needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "$0")/../../Cargo.toml")

stop() {
    echo "$1" >&2
    exit 1
}

# at_least VERSION: whether this one will do.
at_least() {
    [ -n "$1" ] && [ "$(printf '%s\n' "$needed" "$1" | sort -V | head -n 1)" = "$needed" ]
}

# candidate PACKAGE: the version that apt would install.
candidate() {
    apt-cache policy "$1" 2>/dev/null | sed -nE 's/^ *Candidate: ([0-9]+:)?([0-9.]+).*/\2/p'
}

# Prints where this system has a toolchain that will do: what its lists of packages say, and where it has none of them yet, what is
# known of its release.
way() {
    id=$(sed -n 's/^ID=//p' /etc/os-release 2>/dev/null) || id=
    release=$(sed -nE 's/^VERSION_ID="?([0-9.]*)"?$/\1/p' /etc/os-release 2>/dev/null) || release=
    for package in cargo cargo-web; do
        if at_least "$(candidate "$package")"; then
            echo "from the package $package, or by rustup"
            return
        fi
    done
    case $id:$release in
    # Newer than the release, for its browsers: by the security archive.
    debian:12 | debian:13) echo 'from the package cargo-web (apt-get update shows it), or by rustup' ;;
    debian:*) echo 'from the package cargo, or by rustup' ;;
    ubuntu:*) echo 'by the package rustup, or from packages like cargo-1.88 and rustc-1.88 where this release has them' ;;
    *) echo 'by rustup' ;;
    esac
}

version=$("$cargo" --version 2>/dev/null | cut -d' ' -f2) || version=
[ -n "$version" ] || ! command -v rustup >/dev/null ||
    stop "There is no toolchain that \`$cargo --version\` could run: rustup default stable brings one, and mod_finish_request needs $needed or later."
[ -n "$version" ] || stop "There is no cargo: install a Rust toolchain, $needed or later, $(way)."
at_least "$version" || stop "Rust $version is too old: mod_finish_request needs $needed or later, $(way)."

for component; do
    "$cargo" "$component" --version >/dev/null 2>&1 || case $component in
    fmt) stop 'This toolchain has no rustfmt: rustup component add rustfmt, or the package rustfmt (rustfmt-web beside cargo-web)' ;;
    clippy) stop 'This toolchain has no clippy: rustup component add clippy, or the package rust-clippy (rust-web-clippy beside cargo-web)' ;;
    *) stop "This toolchain has no $component" ;;
    esac
done
