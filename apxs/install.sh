#!/bin/sh
# install.sh install|uninstall MODULE: puts the module where httpd looks for it, with all that belongs to it; or takes all of it away.
#
#   APXS      apxs of the httpd that it is for
#   DESTDIR   a folder to install below, for those who make packages
#   PHPDIR    where the PHP files go: /usr/share/php/finish_request
#   DOCDIR    where manual and examples go: /usr/share/doc/libapache2-mod-finish-request
#   SYMBOLS   1: the debugger's symbols are kept in a file beside the module
set -eu
umask 022

what=$1
module=$2
source=$(cd "$(dirname "$0")/.." && pwd)
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
ask() {
    "$apxs" -q "$1" 2>/dev/null || stop "\`$apxs -q $1\` failed: is it the apxs of httpd 2.4 (package apache2-dev)?"
}
modules=$(ask LIBEXECDIR)
config=$(ask SYSCONFDIR)
headers=$(ask INCLUDEDIR)
php=${PHPDIR:-/usr/share/php/finish_request}
docs=${DOCDIR:-/usr/share/doc/libapache2-mod-finish-request}
file=$modules/$(basename "$module")

# Debian and Ubuntu have a2enmod, whose folder comes with the package apache2: the server's headers may be there without it.
available=
[ ! -d "$config/mods-available" ] && [ "$config" != /etc/apache2 ] || available=$config/mods-available

# put FROM TO: writes the file beside its place and renames it, so that whoever uses the old one keeps it.
put() {
    folder=$root$(dirname "$2")
    mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ] ||
        stop "$folder cannot be written to: run make $what as root, or with DESTDIR=/some/folder"
    new=$root$2.new.$$
    trap 'rm -f "$new"' EXIT
    trap 'exit 130' HUP INT TERM
    cp "$1" "$new" 2>/dev/null || stop "$new cannot be written: is the disk full?"
    mode=644
    case $1 in "$source"/monitoring/*) [ ! -x "$1" ] || mode=755 ;; esac
    chmod "$mode" "$new"
    mv -f "$new" "$root$2"
    trap - EXIT
    echo "installed $root$2"
}

# The files besides the module: where from, and where to.
files() {
    echo "$source/apxs/mod_finish_request.h|$headers/mod_finish_request.h"
    for each in "$source"/php/*.php; do echo "$each|$php/$(basename "$each")"; done
    echo "$source/php/stubs/finish_request.php|$php/stubs/finish_request.php"
    echo "$made/finish_request.ini|$php/php.d/finish_request.ini"
    for each in README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE; do echo "$source/$each|$docs/$each"; done
    for each in "$source"/docs/performance/*; do echo "$each|$docs/docs/performance/$(basename "$each")"; done
    for each in "$source"/docs/*.md "$source"/docs/*.png; do echo "$each|$docs/docs/$(basename "$each")"; done
    for each in "$source"/httpd-conf/examples/*; do echo "$each|$docs/examples/$(basename "$each")"; done
    for each in "$source"/monitoring/*; do echo "$each|$docs/examples/monitoring/$(basename "$each")"; done
}

put_module() {
    cp "$module" "$made/module"
    if ! command -v strip >/dev/null; then
        echo "There is no strip (package binutils): the module is installed with its symbols."
    elif [ "${SYMBOLS:-0}" != 1 ]; then
        strip --strip-unneeded "$made/module"
    else
        objcopy --only-keep-debug "$made/module" "$made/$(basename "$module").debug"
        strip --strip-unneeded "$made/module"
        (cd "$made" && objcopy --add-gnu-debuglink="$(basename "$module").debug" module)
        (put "$made/$(basename "$module").debug" "$file.debug")
    fi
    (put "$made/module" "$file")
}

# The configuration files: their names, and the folders from which a2enmod and a2enconf enable them; none on other systems.
configs() {
    echo "finish_request.conf|$available"
    echo "finish_request_php.conf|${available:+$config/conf-available}"
}

# What an administrator has changed stays. The copy beside the examples is what was installed last.
is_changed() {
    [ -e "$root$2/$1" ] && ! cmp -s "$root$2/$1" "$root$docs/$1" && ! cmp -s "$root$2/$1" "$made/$1"
}

# The files as they are to be: with the places of this system.
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
trap 'exit 130' HUP INT TERM
for each in "$source"/httpd-conf/finish_request* "$source"/php/php.d/*.ini; do
    sed "s|/usr/lib/apache2/modules/mod_finish_request.so|$file|; s|/usr/share/php/finish_request/|$php/|" "$each" >"$made/$(basename "$each")"
done

install() {
    [ -f "$module" ] || stop "$module is not there: run make first"
    put_module
    files | while IFS='|' read -r from to; do (put "$from" "$to"); done
    configs | while IFS='|' read -r name place; do
        if [ -n "$place" ] && is_changed "$name" "$place"; then
            echo "kept      $root$place/$name, which was changed: $root$docs/$name is the new one"
        elif [ -n "$place" ]; then
            (put "$made/$name" "$place/$name")
        fi
        (put "$made/$name" "$docs/$name")
    done
    if [ -z "$available" ]; then
        echo "Load it with: LoadModule finish_request_module $file"
        return
    fi
    (put "$made/finish_request.load" "$available/finish_request.load")
    echo 'Switch it on with: a2enmod finish_request && systemctl restart apache2'
}

take() {
    [ -e "$root$1" ] || [ -L "$root$1" ] || return 0
    rm -f "$root$1" 2>/dev/null || stop "$root$1 cannot be removed: run make uninstall as root"
    echo "removed   $root$1"
}

uninstall() {
    configs | while IFS='|' read -r name place; do
        if [ -n "$place" ] && is_changed "$name" "$place"; then
            echo "kept      $root$place/$name, which was changed"
        elif [ -n "$place" ]; then
            take "$place/$name"
        fi
        take "$docs/$name"
    done
    [ -z "$available" ] || take "$available/finish_request.load"
    files | while IFS='|' read -r from to; do take "$to"; done
    take "$file.debug"
    take "$file"
    for folder in "$php/stubs" "$php/php.d" "$php" "$docs/docs/performance" "$docs/docs" "$docs/examples/monitoring" "$docs/examples" "$docs"; do
        rmdir "$root$folder" 2>/dev/null || true
    done
    if [ -L "$root$config/conf-enabled/finish_request_php.conf" ]; then
        echo 'Its line for PHP is still enabled: a2disconf finish_request_php' >&2
    fi
    if [ -L "$root$config/mods-enabled/finish_request.load" ]; then
        echo 'It is still enabled: a2dismod finish_request' >&2
    else
        # Comments name it as well.
        lines=$(grep -rnE '^[[:space:]]*LoadModule[[:space:]]+finish_request_module' "$root$config" 2>/dev/null || true)
        [ -z "$lines" ] || echo "It is still loaded, and httpd will not start again with this line: $lines" >&2
    fi
}

"$what"
