#!/bin/sh
# install.sh MODULE: installs the module with apxs and, on Debian, the files that a2enmod wants.
# Honours APXS and DESTDIR.
set -eu

module=$1
here=$(dirname "$0")/../httpd-conf
root=${DESTDIR:-}

stop() {
    echo "$1" >&2
    exit 1
}

find_apxs() {
    for program in "${APXS:-}" apxs apxs2 /usr/sbin/apxs /usr/local/apache2/bin/apxs; do
        if [ -n "$program" ] && command -v "$program" >/dev/null; then
            echo "$program"
            return
        fi
        [ "$program" != "${APXS:-}" ] || [ -z "$program" ] || break
    done
    stop 'apxs was not found: install the package apache2-dev, or name it with APXS=/path/to/apxs'
}

apxs=$(find_apxs)
folder=$("$apxs" -q LIBEXECDIR)
config=$("$apxs" -q SYSCONFDIR)
file=$folder/$(basename "$module")

mkdir -p "$root$folder" 2>/dev/null && [ -w "$root$folder" ] ||
    stop "$root$folder cannot be written to: run make install as root, or with DESTDIR=/some/folder"

# A running httpd has the old file mapped: it keeps it, and the new one gets a name of its own.
rm -f "$root$file"
said=$("$apxs" -S LIBEXECDIR="$root$folder" -i -n finish_request "$module" 2>&1) || stop "$said"
echo "installed $root$file"

headers=$root$("$apxs" -q INCLUDEDIR)
mkdir -p "$headers"
cp "$(dirname "$0")/mod_finish_request.h" "$headers/"
echo "installed $headers/mod_finish_request.h"

if [ ! -d "$config/mods-available" ]; then
    echo "Load it with: LoadModule finish_request_module $file"
    exit 0
fi

available=$root$config/mods-available
mkdir -p "$available"
sed "s|/usr/lib/apache2/modules/mod_finish_request.so|$file|" "$here/finish_request.load" >"$available/finish_request.load"
echo "installed $available/finish_request.load"
if [ -e "$available/finish_request.conf" ]; then
    echo "kept      $available/finish_request.conf"
else
    cp "$here/finish_request.conf" "$available/finish_request.conf"
    echo "installed $available/finish_request.conf"
fi
echo "Switch it on with: a2enmod finish_request && systemctl restart apache2"
