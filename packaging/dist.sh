#!/bin/sh
# dist.sh [FOLDER]: makes the source release of the committed state, mod_finish_request-VERSION.tar.gz, and SHA256SUMS beside it.
#
# It has the crates that the build and the tests need, so it builds without the network. The same commit gives the same bytes.
set -eu
umask 022
export LC_ALL=C TZ=UTC0

source=$(cd "$(dirname "$0")/.." && pwd)
cargo=${CARGO:-cargo}
folder=${1:-$source/target/dist}

stop() {
    echo "$1" >&2
    exit 1
}

[ -e "$source/.git" ] || stop 'A release is made of a commit: run make dist in a clone, not in an unpacked release.'
git() { command git -c safe.directory="$source" -C "$source" "$@"; }
version=$(git show HEAD:Cargo.toml | sed -n 's/^version = "\(.*\)"$/\1/p' | head -n 1)
commit=$(git rev-parse --short HEAD)
time=$(git log -1 --format=%ct)
name=mod_finish_request-$version
[ -z "$(git status --porcelain)" ] || echo "What is not committed is not in the release: it is that of $commit." >&2

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
work=$(mktemp -d "$folder/making.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
git archive --prefix="$name/" HEAD | tar -x -C "$work"
tree=$work/$name

# The crates of Cargo.lock, as cargo has checked them against it.
mkdir "$tree/.cargo"
(cd "$tree" && "$cargo" vendor --locked --versioned-dirs vendor >.cargo/config.toml 2>../log) ||
    stop "cargo could not get the crates, which it loads once: $(sed -n 's/^error: //p' "$work/log" | head -n 1)"
# Half of them are for Windows, and named for nothing else: cargo looks for their names, and no more.
for crate in "$tree"/vendor/windows*; do
    sum=$(sed -n 's/.*"package":"\([0-9a-f]*\)".*/\1/p' "$crate/.cargo-checksum.json")
    find "$crate" -mindepth 1 ! -name Cargo.toml -delete
    mkdir "$crate/src"
    : >"$crate/src/lib.rs"
    printf '{"files":{},"package":"%s"}' "$sum" >"$crate/.cargo-checksum.json"
done
sh "$tree/packaging/changelog.sh" "$time" >"$tree/debian/changelog"
day=$(date --date="$(sed -n 's/^ -- .*>  //p' "$tree/debian/changelog")" '+%a %b %d %Y')
maintainer=$(sed -n 's/^ -- \(.*>\)  .*/\1/p' "$tree/debian/changelog")
sed -i "s/@VERSION@/$version/; s/@DAY@/$day/; s/@MAINTAINER@/$maintainer/" "$tree/packaging/mod_finish_request.spec"

tar --create --directory "$work" --format=gnu --sort=name --mtime="@$time" --owner=0 --group=0 --numeric-owner --mode='u+rwX,go=rX' "$name" |
    gzip -9n >"$folder/$name.tar.gz"
(cd "$folder" && sha256sum "$name.tar.gz" >SHA256SUMS)
echo "$folder/$name.tar.gz, of commit $commit"
