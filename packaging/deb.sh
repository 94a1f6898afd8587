#!/bin/sh
# deb.sh [FOLDER]: makes the Debian packages of the committed state, by the source release and without the network.
#
# A toolchain that is no package of Debian's is taken as it is on PATH. The packages need none.
set -eu
umask 022

source=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$source/target/deb}
cargo=$(command -v "${CARGO:-cargo}")

for tool in dpkg-buildpackage dh dh_apache2 pandoc; do
    command -v "$tool" >/dev/null || { echo 'The packages are made by debhelper: install the packages dpkg-dev, debhelper, apache2-dev and pandoc.' >&2; exit 1; }
done
# It always wants build-essential, which nothing of that brings.
dpkg-query --show --showformat='${Status}\n' build-essential 2>/dev/null | grep -q ' installed$' ||
    { echo 'dpkg-buildpackage wants the package build-essential: install it' >&2; exit 1; }
rm -rf "$folder"
mkdir -p "$folder/build"
folder=$(cd "$folder" && pwd)
sh "$source/packaging/dist.sh" "$folder/build"
cd "$folder/build"
tar -xf mod_finish_request-*.tar.gz
cd mod_finish_request-*/

profile=
# Debian's own, or one that rustup keeps, which may be a package itself.
if ! dpkg-query --search "$cargo" 2>/dev/null | grep -qE '^cargo(-web)?(:[^ ]*)?: '; then
    PATH=$("$(dirname "$cargo")/rustc" --print sysroot)/bin:$PATH
    profile=--build-profiles=pkg.libapache2-mod-finish-request.rustup
fi
dpkg-buildpackage --build=binary --unsigned-changes --no-pre-clean $profile >../log 2>&1 || { tail -n 40 ../log >&2; exit 1; }
cd ..
mv ./*.deb ./*.changes ./*.buildinfo log "$folder/"
cd "$folder"
rm -r build
ls "$folder"/*.deb
