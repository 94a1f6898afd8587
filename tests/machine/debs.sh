#!/bin/bash
# Makes the source release and the Debian packages in a fresh minimal tree of Debian 12, by Debian's own toolchain and without the network, and
# does in fresh trees of Debian 12 and 13 what an administrator does with them. Prints what each step showed. To be run by hand, as
# root; needs mmdebstrap and the network, for Debian's packages.
#
#   debs.sh [--keep FOLDER]
#
# What is tested is the committed state. In --keep's folder stay the trees as they were made and the packages, for a faster next time; without it
# nothing stays. MIRROR names the archive; without it Debian's is the one of this machine's own sources.
set -euo pipefail

# Read as a whole: who edits it meanwhile does not change this run.
{
[ "$(id -u)" -eq 0 ] || { echo 'debs.sh makes trees and mounts: run it as root.' >&2; exit 1; }
for tool in mmdebstrap git unshare; do
    command -v "$tool" >/dev/null || { echo "debs.sh needs $tool." >&2; exit 1; }
done
keep=
[ "${1:-}" != --keep ] || keep=$2
repo=$(cd "$(dirname "$0")/../.." && pwd)

# All mounts are made in a namespace of their own, and all processes are in one: both are gone with this script, however it ends.
if [ -z "${IN_DEBS_NAMESPACE:-}" ]; then
    folder=$(mktemp -d "${TMPDIR:-/tmp}/debs.XXXXXX")
    chmod 755 "$folder"
    trap 'rm -rf --one-file-system "$folder"' EXIT
    trap 'exit 130' HUP INT TERM
    IN_DEBS_NAMESPACE=$folder unshare --mount --pid --fork --kill-child --propagation private "$0" ${keep:+--keep "$keep"}
    exit
fi
folder=$IN_DEBS_NAMESPACE
keep=${keep:-$folder/keep}
mkdir -p "$keep"
mount -t proc proc /proc
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 2>/dev/null | sed -n 's/ Debian Debian$//p' | head -n 1)}
security=${mirror%/}-security
security=${security/debian\/-/debian-}

# tree SUITE NAME PACKAGE...: a minimal tree of the suite, with these packages, in $folder/NAME.
tree() {
    local suite=$1 name=$2
    shift 2
    if [ ! -f "$keep/$name.tar" ]; then
        mmdebstrap --variant=minbase --include="ca-certificates,$(IFS=,; echo "$*")" "$suite" "$keep/$name.tar" "deb $mirror $suite main" \
            "deb $mirror $suite-updates main" "deb $security $suite-security main" >"$folder/$name.log" 2>&1 </dev/null || { tail "$folder/$name.log" >&2; return 1; }
    fi
    mkdir -p "$folder/$name"
    tar -xf "$keep/$name.tar" -C "$folder/$name"
    mount -t proc proc "$folder/$name/proc"
    mount --bind /dev "$folder/$name/dev"
}

# inside NAME COMMAND: in that tree, with no network but its own.
inside() {
    unshare --net chroot "$folder/$1" /usr/bin/env -i HOME=/root LC_ALL=C.UTF-8 TERM=dumb DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -c "set -euo pipefail; $2" </dev/null
}

say() { printf '%s\n' "$*"; }
fail() { say "FAILED: $*"; exit 1; }

# The release: twice, the same bytes.
commit=$(git -c safe.directory="$repo" -C "$repo" rev-parse --short HEAD)
for time in first second; do
    sh "$repo/packaging/dist.sh" "$folder/$time" >/dev/null
done
cmp "$folder"/first/*.tar.gz "$folder"/second/*.tar.gz || fail 'two releases of one commit differ'
(cd "$folder/first" && sha256sum --quiet -c SHA256SUMS) || fail 'SHA256SUMS is wrong'
version=$(cd "$folder/first" && echo *.tar.gz | sed 's/^mod_finish_request-\(.*\)\.tar\.gz$/\1/')
say "release: commit $commit, version $version, $(stat -c %s "$folder"/first/*.tar.gz) bytes, twice the same"

# The packages: in a tree of Debian 12 with what debian/control asks for, and no network.
tree bookworm build apache2-bin apache2-dev build-essential cargo-web cpio debhelper libclang-dev lintian man-db pandoc rpm
cp "$folder"/first/*.tar.gz "$folder/build/root/"
if [ ! -f "$keep/packages-$commit/log" ]; then
    # build FOLDER VERSION: in a folder of this name, packages of the same source with this version.
    build() {
        inside build "mkdir -p $1 && cd $1 && tar -xf /root/mod_finish_request-$version.tar.gz && cd mod_finish_request-*
            sed -i 's/^version = \"$version\"/version = \"$2\"/' Cargo.toml
            sed -i '/^name = \"mod_finish_request\"/{n;s/$version/$2/}' Cargo.lock
            sed -i 's/VERSION \"$version\"/VERSION \"$2\"/' apxs/mod_finish_request.h
            [ $2 = $version ] || sh packaging/changelog.sh >debian/changelog
            dpkg-buildpackage --build=binary --unsigned-changes >../log 2>&1 </dev/null || { tail -n 40 ../log; exit 1; }"
    }
    build /root/one "$version"
    build /srv/another/folder "$version"
    for package in "$folder"/build/root/one/*.deb; do
        cmp "$package" "$folder/build/srv/another/folder/$(basename "$package")" || fail "two builds of $(basename "$package") differ"
    done
    build /root/before 0.1.0
    inside build 'cd /root/one && lintian --allow-root --display-info --fail-on error,warning,info *.changes' || fail 'lintian'
    mkdir -p "$keep/packages-$commit"
    mv "$folder"/build/root/one/*.deb "$folder"/build/root/one/log "$folder"/build/root/before/*.deb "$keep/packages-$commit/"
fi
packages=$keep/packages-$commit
say "packages: by $(inside build 'cargo --version'), without the network; two builds in two folders are the same; lintian says nothing"
say "$(cd "$packages" && du -b ./*_"$version"-1_*.deb)"

# The header is where a module's build looks for it.
cp "$packages"/libapache2-mod-finish-request-dev_"$version"-1_all.deb "$folder/build/root/"
inside build 'dpkg -i /root/libapache2-mod-finish-request-dev_*.deb >/dev/null
    printf "%s\n" "#include \"mod_finish_request.h\"" "module AP_MODULE_DECLARE_DATA x_module = { STANDARD20_MODULE_STUFF };" |
        sed "s/^module/#include \"http_config.h\"\nmodule/" >/tmp/mod_x.c
    cd /tmp && apxs -Wc,-Wall -Wc,-Werror -c mod_x.c >/dev/null 2>&1 && [ -f .libs/mod_x.so ]
    dpkg --purge libapache2-mod-finish-request-dev >/dev/null' || fail 'a module in C does not find the header'
say 'header: a module in C is built with it by apxs'

# The RPM's spec, as far as it can be tried without Fedora: it builds, all is in Fedora's places, and httpd takes a configuration of that shape.
inside build "rpmbuild -tb --nodeps --define '_topdir /root/rpm' --define '_httpd_apxs /usr/bin/apxs' --define '_httpd_mmn 0-0' \
    /root/mod_finish_request-$version.tar.gz >/root/rpm.log 2>&1 || { tail -n 40 /root/rpm.log; exit 1; }" || fail 'the RPM is not built'
inside build 'mkdir /root/fedora && cd /root/fedora
    for package in /root/rpm/RPMS/*/*.rpm; do rpm2cpio "$package" | cpio -idm --quiet; done
    ln -s ../../usr/lib64/httpd/modules etc/httpd/modules
    for file in usr/include/httpd/mod_finish_request.h usr/share/php/finish_request/prepend.php usr/share/man/man7/mod_finish_request.7*; do [ -f "$file" ]; done
    for module in mpm_event authz_core; do echo "LoadModule ${module}_module /usr/lib/apache2/modules/mod_$module.so"; done >etc/httpd/httpd.conf
    printf "%s\n" "ServerRoot /root/fedora/etc/httpd" "ServerName localhost" "Listen 127.0.0.1:8080" "ErrorLog /root/fedora/error.log" \
        "Include conf.modules.d/*.conf" "Include conf.d/*.conf" >>etc/httpd/httpd.conf
    /usr/sbin/apache2 -f /root/fedora/etc/httpd/httpd.conf -M | grep "finish_request_module (shared)" >/dev/null' || fail 'the RPM'
say 'RPM: built by the spec with the httpd of Debian, and loaded by a configuration in the places of Fedora'

# What an administrator does.
cat >"$folder/steps" <<'END'
set -euo pipefail
new=$1
cd /root
fail() { echo "FAILED: $*"; tail -n 20 /var/log/apache2/error.log; exit 1; }
ip link set lo up
# Everything that is in the tree, but for what dpkg, apt and the kernel keep, and the folders in which a2enmod and a2enconf keep their notes.
everything() {
    find / -xdev \( -path /proc -o -path /dev -o -path /sys -o -path /run -o -path /tmp -o -path /root -o -path /var/log -o -path /var/cache -o \
        -path /var/lib/dpkg -o -path /var/lib/apt \) -prune -o ! \( -path '/var/lib/apache2/*' -type d \) -print | sort
}
cat >/var/www/html/thanks.php <<'PHP'
<?php
require '/usr/share/php/finish_request/finish_request.php';
ob_start();
echo "Thank you.\n";
session_write_close();
apache_finish_request();
for ($i = 0; $i < 600 && !file_exists('/tmp/gate'); $i++) { usleep(100000); clearstatcache(); }
touch('/tmp/done');
PHP
cat >/var/www/html/framework.php <<'PHP'
<?php
echo "Thank you.\n";
if (!function_exists('fastcgi_finish_request')) { exit; }
fastcgi_finish_request();
for ($i = 0; $i < 600 && !file_exists('/tmp/gate'); $i++) { usleep(100000); clearstatcache(); }
touch('/tmp/done');
PHP
# early PAGE: the client has its answer while the gate is shut; the work ends when it is opened.
early() {
    rm -f /tmp/gate /tmp/done
    [ "$(curl -sS --max-time 30 "http://localhost/$1")" = 'Thank you.' ] || fail "$1 did not answer before its work ended"
    [ ! -e /tmp/done ] || fail "$1: its work had ended"
    touch /tmp/gate
    for i in $(seq 600); do [ ! -e /tmp/done ] || return 0; sleep 0.1; done
    fail "$1: its work did not end"
}
configured() { grep -o 'mod_finish_request/[0-9.]* configured' /var/log/apache2/error.log | tail -n 1; }

# There is no init: without this the maintainer scripts would leave the server alone.
printf '#!/bin/sh\nexit 0\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
echo "ServerName localhost" >>/etc/apache2/apache2.conf
service apache2 start >/dev/null
everything >/tmp/before
apt-get install -y /root/libapache2-mod-finish-request_0.1.0-1_"$(dpkg --print-architecture)".deb /root/php-finish-request_0.1.0-1_all.deb >/tmp/log 2>&1 || { cat /tmp/log; fail 'apt install of 0.1.0'; }
[ -e /etc/apache2/mods-enabled/finish_request.load ] || fail 'the module is not enabled by its installation'
[ ! -e /etc/apache2/conf-enabled/finish_request_php.conf ] || fail 'the configuration for all PHP is enabled without having been asked for'
[ "$(configured)" = 'mod_finish_request/0.1.0 configured' ] || fail 'it is not loaded'
early thanks.php
echo 'install: apt install of 0.1.0 enables and loads it; the page answers before its work'
rm -f /tmp/gate /tmp/done
(sleep 2; touch /tmp/gate) &
[ "$(curl -sS http://localhost/framework.php)" = 'Thank you.' ] && [ -e /tmp/done ] || fail 'framework.php answered before its work, unasked'
a2enconf -q finish_request_php >/dev/null && service apache2 reload >/dev/null
for i in $(seq 300); do curl -sS -o /dev/null http://localhost/ && break; sleep 0.1; done
early framework.php
echo 'a2enconf finish_request_php: a page that calls fastcgi_finish_request() answers before its work'

# The upgrade, while clients ask and one page works.
rm -f /tmp/gate /tmp/done /tmp/stop /tmp/errors
curl -sS --max-time 30 http://localhost/thanks.php >/dev/null || fail 'the page before the upgrade'
echo '<?php require "/usr/share/php/finish_request/finish_request.php"; ob_start(); echo "Thank you.\n"; apache_finish_request(); usleep(20000);' >/var/www/html/load.php
for client in 1 2 3; do
    (while [ ! -e /tmp/stop ]; do
        [ "$(curl -sS --max-time 30 http://localhost/load.php 2>&1)" = 'Thank you.' ] && echo >>/tmp/answers.$client || echo "client $client" >>/tmp/errors
    done) &
done
answers() { { cat /tmp/answers.* 2>/dev/null || true; } | wc -l; }
more() { local before; before=$(answers); for i in $(seq 600); do [ "$(answers)" -le $((before + 50)) ] || return 0; sleep 0.1; done; fail 'no load'; }
more
echo '# mine' >>/etc/apache2/mods-available/finish_request.conf
apt-get install -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold /root/libapache2-mod-finish-request_"$new"-1_"$(dpkg --print-architecture)".deb /root/php-finish-request_"$new"-1_all.deb >/tmp/log 2>&1 || { cat /tmp/log; fail 'apt install of the new version'; }
grep -q 'systemctl restart apache2' /tmp/log || fail 'the upgrade does not say what loads the new version'
more
service apache2 reload >/dev/null
more
touch /tmp/stop
wait
[ ! -e /tmp/errors ] || fail "errors under load: $(wc -l </tmp/errors)"
[ ! -e /tmp/done ] || fail 'the work that ran at the upgrade was ended'
touch /tmp/gate
for i in $(seq 600); do [ ! -e /tmp/done ] || break; sleep 0.1; done
[ -e /tmp/done ] || fail 'the work that ran at the upgrade did not end well'
tail -n 1 /etc/apache2/mods-available/finish_request.conf | grep -q mine || fail 'the upgrade changed what the administrator had changed'
[ "$(configured)" = 'mod_finish_request/0.1.0 configured' ] || fail 'a graceful restart has loaded another version'
service apache2 restart >/dev/null
[ "$(configured)" = "mod_finish_request/$new configured" ] || fail 'the new version is not loaded by a restart'
early thanks.php
early framework.php
echo "upgrade: $(answers) answers to three clients meanwhile, no error; the work that ran went on; the changed file stayed; restart loads $new"

# Off, and on.
a2dismod -q finish_request >/dev/null && service apache2 restart >/dev/null
touch /tmp/gate
curl -sS --max-time 60 http://localhost/thanks.php >/dev/null || fail 'the page without the module'
a2enmod -q finish_request >/dev/null && service apache2 restart >/dev/null
early thanks.php
echo 'a2dismod, a2enmod: without the module the page is as ever, then early again'

# The purge, beside a file of the administrator's that needs the module: the server runs on, and the last line says where to look.
printf '<Location /mine>\n    FinishRequest Auto\n</Location>\n' >/etc/apache2/conf-available/mine.conf
a2enconf -q mine >/dev/null && service apache2 restart >/dev/null
apt-get purge -y libapache2-mod-finish-request php-finish-request >/tmp/log 2>&1 || { cat /tmp/log; fail 'apt purge'; }
grep -q '^apache2 will not start again: /etc/apache2/conf-enabled/mine.conf, line 2, needs mod_finish_request\.' /tmp/log || { cat /tmp/log; fail 'the purge does not say which line is in the way'; }
for i in 1 2 3 4 5; do
    curl -sS --max-time 30 -o /dev/null http://localhost/ || fail 'the server does not answer after the purge'
    sleep 0.5
done
a2disconf -q -p mine >/dev/null && rm /etc/apache2/conf-available/mine.conf && service apache2 restart >/dev/null
curl -sS --max-time 30 -o /dev/null http://localhost/ || fail 'the server does not start after the purge'
echo "purge: \"$(sed -n 's/^\(apache2 will not start again: .*\)/\1/p' /tmp/log)\"; it runs on until then"
rm -f /var/www/html/load.php
everything >/tmp/after
diff /tmp/before /tmp/after || fail 'the purge left something, or took something'
if grep -qE '\[(error|crit|alert|emerg)\]|segfault|panic|:(error|crit|alert|emerg)\]' /var/log/apache2/error.log; then
    grep -v 'PHP\|php' /var/log/apache2/error.log | grep -E ':(error|crit|alert|emerg)\]' && fail 'errors in the log'
fi
service apache2 stop >/dev/null
echo 'purge: nothing left'
END
for suite in bookworm trixie; do
    tree "$suite" "web-$suite" apache2 libapache2-mod-php curl iproute2 procps
    cp "$packages"/*.deb "$folder/steps" "$folder/web-$suite/root/"
    say "== $suite: httpd $(inside "web-$suite" 'apache2 -v | sed -n "s,.*Apache/\([0-9.]*\).*,\1,p"'), PHP $(inside "web-$suite" 'php -r "echo PHP_VERSION;"')"
    inside "web-$suite" "bash /root/steps $version" || fail "$suite"
done
say "All is well: commit $commit, $(date -u +%F)."
exit
}
