#!/bin/sh
# packages.sh [build|bench|check|apps]: installs the packages that the demo and the tests need, or only those that the build needs, or those that
# the bench or `make check` needs besides, or those that `make apps` needs and all that the tests do, where they are missing.
#
# What is there already but older than what it was built for is brought up to date together with what they need, and nothing
# else of the machine is. Where all is there, no network is asked.
#
# The machine's own servers stay as they are: nothing is removed for what is installed here, which is not started, neither now nor at boot, and does not
# get into the configuration of an Apache that was there before, nor of one that comes later, also when it is upgraded. Nothing has to be put back for
# that, however this ends: the maintainer scripts find the commands in no-services/ before the system's.
set -eu

# What apt-get installs | under which names it may be there already (a regular expression).
build='
apache2-dev             | apache2-dev
gcc                     | gcc
libc6-dev               | libc6-dev
libclang-dev            | libclang-[0-9]+-dev
ca-certificates         | ca-certificates
'
all="$build"'
apache2-bin             | apache2-bin
libapache2-mod-fcgid    | libapache2-mod-fcgid
libapache2-mod-php      | libapache2-mod-php[0-9.]+
php-cgi                 | php[0-9.]+-cgi
php-fpm                 | php[0-9.]+-fpm
php-cli                 | php[0-9.]+-cli
python3                 | python3
perl                    | perl
ruby                    | ruby
curl                    | curl
nghttp2-client          | nghttp2-client
nginx-light             | nginx(-light|-core|-full|-extras)?
haproxy                 | haproxy
libapache2-mod-security2 | libapache2-mod-security2
libapache2-mod-xsendfile | libapache2-mod-xsendfile
libapache2-mod-wsgi-py3 | libapache2-mod-wsgi-py3
libapache2-mod-perl2    | libapache2-mod-perl2
python3-flask           | python3-flask
php-symfony-http-kernel | php-symfony-http-kernel
binutils                | binutils
openssl                 | openssl
procps                  | procps
'
bench='
strace                  | strace
valgrind                | valgrind
iproute2                | iproute2
libnginx-mod-http-lua   | libnginx-mod-http-lua
'
check='
strace                  | strace
valgrind                | valgrind
libapache2-mod-auth-openidc | libapache2-mod-auth-openidc
libapache2-mod-evasive  | libapache2-mod-evasive
libapache2-mod-qos      | libapache2-mod-qos
libapache2-mod-security2 | libapache2-mod-security2
libapache2-mod-xsendfile | libapache2-mod-xsendfile
'
# The applications, what they depend on but not recommend, and a browser.
apps="$all"'
php-symfony-routing     | php-symfony-routing
php-laravel-framework   | php-laravel-framework
wordpress               | wordpress
wordpress-theme-twentytwentythree | wordpress-theme-.*
mediawiki               | mediawiki
dokuwiki                | dokuwiki
mariadb-server          | mariadb-server
php-mysql               | php[0-9.]+-mysql
php-sqlite3             | php[0-9.]+-sqlite3
chromium                | chromium
libjs-jquery            | libjs-jquery
libapache2-mod-passenger | libapache2-mod-passenger
libplack-perl           | libplack-perl
python3-django          | python3-django
python3-starlette       | python3-starlette
python3-uvicorn         | python3-uvicorn
uwsgi-plugin-python3    | uwsgi-plugin-python3
tomcat10                | tomcat10
golang-go               | golang-go
nodejs                  | nodejs
'
case ${1:-} in
build) packages=$build ;;
bench) packages=$bench ;;
check) packages=$check ;;
apps) packages=$apps ;;
*) packages=$all ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    [ "${1:-}" = build ] ||
        echo 'This is no Debian: see to it that there are httpd 2.4 with apxs, mod_fcgid and mod_php,' \
            'libclang, a C compiler, php-cgi, php-fpm, curl, nghttp, nginx, haproxy and openssl.' >&2
    exit 0
fi

# there PACKAGE: the build finds what it needs of the package, whoever brought it.
there() {
    case $1 in
    apache2-dev) [ -n "${APXS:-}" ] || command -v apxs || command -v apxs2 ;;
    gcc) command -v cc ;;
    libclang-dev) [ -n "${LIBCLANG_PATH:-}" ] ;;
    # cargo's, to load the crates.
    ca-certificates) [ -e /etc/ssl/certs/ca-certificates.crt ] ;;
    *) false ;;
    esac >/dev/null
}

# Prints the packages that are missing.
missing() {
    installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
    echo "$packages" | while IFS='| ' read -r package names; do
        [ -z "$package" ] || echo "$installed" | grep -qxE "$names" || there "$package" || echo "$package"
    done
}

# Whether packages of one source have several versions, or mod_ssl was built with another OpenSSL than it would find. That costs
# no network.
mismatched() {
    mixed=$(dpkg-query --show --showformat '${db:Status-Status} ${source:Package} ${source:Version}\n' |
        sed -nE 's/^installed ((apache2|php[0-9.]+|openssl|curl|nghttp2|apr|apr-util|nginx|haproxy) .*)/\1/p' | sort -u | cut -d' ' -f1 | uniq -d)
    [ -z "$mixed" ] || return 0
    ssl=/usr/lib/apache2/modules/mod_ssl.so
    [ -r "$ssl" ] && command -v openssl >/dev/null || return 1
    built=$(grep -aoE 'OpenSSL [0-9]+\.[0-9]+\.[0-9]+[a-z]*' "$ssl" | head -n 1)
    found=$(openssl version | sed -nE 's/.*\(Library: (OpenSSL [0-9.a-z]+).*/\1/p')
    [ -n "$built" ] && [ -n "$found" ] && [ "$built" != "$found" ] || return 1
    # A newer library is what every security update brings.
    [ "$(printf '%s\n' "$built" "$found" | sort -V | tail -n 1)" = "$built" ]
}

# Prints what apt would bring up to date of all that the packages depend on.
outdated() {
    newer=$(apt-get --simulate dist-upgrade 2>/dev/null | sed -nE 's/^Inst ([^ ]+) \[.*/\1/p' | sort -u)
    [ -n "$newer" ] || return 0
    present=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
    names=$(echo "$packages" | while IFS='| ' read -r package names; do
        [ -z "$package" ] || { echo "$package"; echo "$present" | grep -xE "$names" || true; }
    done)
    # shellcheck disable=SC2086
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances $names 2>/dev/null |
        sed -nE 's/^([^ <][^ ]*)$/\1/p' | sort -u >"$work/closure"
    echo "$newer" | grep -xFf "$work/closure" || true
}

as_root='sudo make packages'
command -v sudo >/dev/null || as_root='make packages, as root'
wanted=$(missing | tr '\n' ' ')
if [ -z "$wanted" ]; then
    mismatched || exit 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "Some packages are older than what httpd was built for. This brings them up to date: $as_root" >&2
        exit 0
    fi
    # What the lists of the last hour do not have, they will not have now.
    [ -z "$(find /var/lib/apt/lists/partial -maxdepth 0 -mmin -60 2>/dev/null)" ] || fresh=yes
fi

if [ "$(id -u)" -ne 0 ]; then
    echo "Packages are missing: ${wanted% }. This installs what the demo and the tests need, and starts none of it: $as_root" >&2
    exit 1
fi

quiet=$(cd "$(dirname "$0")/no-services" && pwd)
case $quiet in
*:*)
    echo "Packages are missing: ${wanted% }. They cannot be installed from a folder with a colon in its name: apt-get install $wanted" >&2
    exit 1
    ;;
esac
# Where they cannot be run, the system's would be.
if ! "$quiet/a2enmod" 2>/dev/null; then
    [ -n "$wanted" ] || exit 0
    echo "Packages are missing: ${wanted% }. They cannot be installed from $quiet, whose file system is mounted noexec: apt-get install $wanted" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

# note: what has come without the package apache2, whose scripts do not ask then to be enabled: upgraded beside one they would.
note() {
    for mod in /etc/apache2/mods-available/*.load; do
        [ ! -e "$mod" ] || grep -qxF "$mod" "$work/mods" || "$quiet/a2enmod" "$(basename "$mod" .load)"
    done
}

# get PACKAGES: has them installed. Nothing is removed for them.
get() {
    # shellcheck disable=SC2068
    PATH="$quiet:$PATH" apt-get install --yes --no-remove --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
        -o DPkg::Path="$quiet:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" $@ >>"$work/log" 2>&1
}

# refused: what could not be had, in one sentence, with apt's first error, which those behind it follow from; what is installed suffices
# where nothing is missing.
refused() {
    reason=$(sed -nE 's/^(E|W): *//p' "$work/log" | head -n 1)
    if [ -z "$wanted" ]; then
        echo "Packages that are older than what httpd was built for could not be brought up to date: ${reason:-apt-get failed}" >&2
        exit 0
    fi
    echo "Packages are missing (${wanted% }) and could not be installed: ${reason:-apt-get failed}" >&2
    exit 1
}

export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 UCF_FORCE_CONFFOLD=1 LC_ALL=C
if [ -z "${fresh:-}" ]; then
    [ -z "$wanted" ] || echo "Installing: $wanted"
    echo 'This may take some minutes.'
    apt-get update -o APT::Update::Error-Mode=any >"$work/log" 2>&1 || [ -n "$wanted" ] || refused
fi
together=$(outdated | tr '\n' ' ')
[ -n "$wanted$together" ] || exit 0
[ -z "$together" ] || echo "Bringing up to date with them: $together"
ls /etc/apache2/mods-available/*.load >"$work/mods" 2>/dev/null || true
# What is to be brought up to date may want something removed.
if get "$wanted" "$together" || { [ -n "$wanted" ] && get "$wanted"; }; then
    note
else
    note
    refused
fi
