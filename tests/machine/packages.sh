#!/bin/sh
# Installs the packages that the demo and the tests need, where they are missing.
#
# The machine's own servers stay as they are: what is installed here is not started, neither now
# nor at boot, and does not get into the configuration of an Apache that was there before.
set -eu

# What apt-get installs | under which names it may be there already (a regular expression).
packages='
apache2-bin             | apache2-bin
apache2-dev             | apache2-dev
gcc                     | gcc
libc6-dev               | libc6-dev
libclang-dev            | libclang-[0-9]+-dev
libapache2-mod-fcgid    | libapache2-mod-fcgid
libapache2-mod-php      | libapache2-mod-php[0-9.]+
php-cgi                 | php[0-9.]+-cgi
php-fpm                 | php[0-9.]+-fpm
php-cli                 | php[0-9.]+-cli
python3                 | python3
perl                    | perl
curl                    | curl
nghttp2-client          | nghttp2-client
nginx-light             | nginx(-light|-core|-full|-extras)?
haproxy                 | haproxy
libapache2-mod-security2 | libapache2-mod-security2
libapache2-mod-xsendfile | libapache2-mod-xsendfile
binutils                | binutils
openssl                 | openssl
ca-certificates         | ca-certificates
'

if ! command -v dpkg-query >/dev/null; then
    echo 'This is no Debian: see to it that there are httpd 2.4 with apxs, mod_fcgid and mod_php,' \
        'libclang, a C compiler, php-cgi, php-fpm, curl, nghttp, nginx, haproxy and openssl.' >&2
    exit 0
fi

# Prints the packages that are missing.
missing() {
    installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
    echo "$packages" | while IFS='| ' read -r package names; do
        [ -z "$package" ] || echo "$installed" | grep -qxE "$names" || echo "$package"
    done
}

policy=/usr/sbin/policy-rc.d
apache=/etc/apache2

# Keeps services down and remembers what there is.
before() {
    trap '' HUP INT TERM
    work=$(mktemp -d)
    ls /etc/init.d >"$work/services"
    for folder in mods-enabled conf-enabled sites-enabled; do
        [ ! -d "$apache/$folder" ] || cp -a "$apache/$folder" "$work/"
    done
    # Maintainer scripts ask this file before they start or restart a service.
    [ ! -e "$policy" ] || mv "$policy" "$policy.before"
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap after EXIT
    trap 'exit 130' HUP INT TERM
}

# Puts everything back, whatever came in between.
after() {
    status=$?
    trap - EXIT
    for service in $(ls /etc/init.d); do
        grep -qxF "$service" "$work/services" || update-rc.d "$service" disable >/dev/null 2>&1 || true
    done
    for folder in "$work"/*-enabled; do
        [ ! -d "$folder" ] || as_before "$folder" "$apache/${folder##*/}"
    done
    rm -f "$policy"
    [ ! -e "$policy.before" ] || mv "$policy.before" "$policy"
    rm -rf "$work"
    exit "$status"
}

# as_before SAVED FOLDER: removes the links that came, puts those back that went.
as_before() {
    for link in "$2"/*; do
        [ -L "$1/${link##*/}" ] || [ ! -L "$link" ] || rm -f "$link"
    done
    for link in "$1"/*; do
        [ ! -L "$link" ] || [ -L "$2/${link##*/}" ] || cp -a "$link" "$2/"
    done
}

wanted=$(missing | tr '\n' ' ')
[ -n "$wanted" ] || exit 0

install="apt-get install --yes --no-install-recommends $wanted"
if [ "$(id -u)" -ne 0 ]; then
    echo "Packages are missing. Please run this once, or this make as root:" >&2
    echo "    sudo ${install% }" >&2
    exit 1
fi

echo "Installing: $wanted"
echo 'This may take some minutes.'
before
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && $install; } >"$work/log" 2>&1; then
    cat "$work/log" >&2
    exit 1
fi
