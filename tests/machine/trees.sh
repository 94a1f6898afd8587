#!/bin/bash
# Runs `make packages`, `make demo` and `make test` in fresh minimal trees of several systems, as root and as an ordinary user,
# and prints a table. To be run by hand, as root; needs mmdebstrap, git and the network.
#
#   trees.sh [--tree SUITE]... [--user root|user]... [--demo-only] [--filter TEXT] [--keep-base FOLDER]
#
# SUITE is bookworm, trixie, sid, noble or resolute (Ubuntu); without it the first four. What is tested is the committed state.
# MIRROR and UBUNTU_MIRROR name the archives; without them Debian's is the one of this machine's own sources. Ubuntu's keys are those of the
# package ubuntu-archive-keyring (Debian) or ubuntu-keyring (Ubuntu), or of the file that UBUNTU_KEYRING names.
# STALE=yes takes an archive whose lists have run out, as a frozen copy's have. The Rust toolchain is this machine's. A tree is kept in --keep-base's folder as it was made, for a faster next time.
set -uo pipefail

# Read as a whole: who edits it or changes branches meanwhile does not change this run.
{

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; }

trees=() users=() demo_only='' filter='' bases=''
while [ $# -gt 0 ]; do
    case $1 in
    --tree) trees+=("$2"); shift ;;
    --user) users+=("$2"); shift ;;
    --demo-only) demo_only=yes ;;
    --filter) filter=$2; shift ;;
    --keep-base) bases=$2; shift ;;
    *) usage; exit 2 ;;
    esac
    shift
done
[ ${#trees[@]} -gt 0 ] || trees=(bookworm trixie sid noble)
[ ${#users[@]} -gt 0 ] || users=(root user)

[ "$(id -u)" -eq 0 ] || { echo 'trees.sh makes trees and mounts: run it as root.' >&2; exit 1; }
for tool in mmdebstrap git chroot unshare; do
    command -v "$tool" >/dev/null || { echo "trees.sh needs $tool." >&2; exit 1; }
done

# All mounts are made in a namespace of their own, and all processes are in one: both are gone with this script, however it ends.
if [ -z "${IN_TREES_NAMESPACE:-}" ]; then
    arguments=(--keep-base "$bases" --filter "$filter")
    for tree in "${trees[@]}"; do arguments+=(--tree "$tree"); done
    for user in "${users[@]}"; do arguments+=(--user "$user"); done
    [ -z "$demo_only" ] || arguments+=(--demo-only)
    folder=$(mktemp -d "${TMPDIR:-/tmp}/trees.XXXXXX")
    chmod 755 "$folder"
    child=
    # unshare keeps other signals to itself, as does the first process in a namespace.
    trap '[ -z "$child" ] || kill -KILL "$child" 2>/dev/null; wait; rm -rf --one-file-system "$folder"' EXIT
    trap 'exit 130' HUP INT TERM
    IN_TREES_NAMESPACE=$folder unshare --mount --pid --fork --kill-child --propagation private "$0" "${arguments[@]}" &
    child=$!
    wait "$child"
    status=$?
    child=
    exit "$status"
fi
folder=$IN_TREES_NAMESPACE
mount -t proc proc /proc

repo=$(cd "$(dirname "$0")/../.." && pwd)
git config --global --get-all safe.directory 2>/dev/null | grep -qxF "$repo" || export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0="$repo"
commit=$(git -C "$repo" rev-parse --short HEAD)
toolchain=$(rustc --print sysroot) || exit 1
registry=${CARGO_HOME:-$HOME/.cargo}

# The archive that this machine's own sources name for Debian.
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 2>/dev/null | sed -n "s/ Debian Debian$//p" | head -n 1)}
ubuntu_mirror=${UBUNTU_MIRROR:-}

# make_tree SUITE FOLDER: the minimal tree, with the updates that its system has.
make_tree() {
    case $1 in
    bookworm | trixie)
        security=${mirror%/}-security
        set -- "$1" "$2" "deb $mirror $1 main" "deb $mirror $1-updates main" "deb ${security/debian\/-/debian-} $1-security main"
        ;;
    noble | resolute)
        [ -n "$ubuntu_mirror" ] || { echo 'no archive of Ubuntu is known: UBUNTU_MIRROR names one'; return 1; }
        set -- "$1" "$2" "deb $ubuntu_mirror $1 main universe" "deb $ubuntu_mirror $1-updates main universe" "deb $ubuntu_mirror $1-security main universe"
        ;;
    *) set -- "$1" "$2" "deb $mirror $1 main" ;;
    esac
    if [ -n "$bases" ] && [ -f "$bases/$1.tar" ]; then
        mkdir -p "$2" && tar -xf "$bases/$1.tar" -C "$2"
        return
    fi
    suite=$1 tree=$2
    shift 2
    case $suite in
    noble | resolute) keyring=${UBUNTU_KEYRING:-/usr/share/keyrings/ubuntu-archive-keyring.gpg} ;;
    *) keyring= ;;
    esac
    [ -z "$keyring" ] || [ -r "$keyring" ] || { echo "$keyring, with Ubuntu's keys, is not there: UBUNTU_KEYRING names it"; return 1; }
    mmdebstrap ${keyring:+--keyring="$keyring"} ${STALE:+--aptopt='Acquire::Check-Valid-Until "false"'} --variant=minbase --include=apt,ca-certificates,make,mount "$suite" "$tree" "$@" >"$folder/$suite.log" 2>&1 </dev/null ||
        { grep -E '^(E|Err):?' "$folder/$suite.log" | head -n 1; return 1; }
    [ -z "$bases" ] || { mkdir -p "$bases" && tar -cf "$bases/$suite.tar" -C "$tree" .; }
}

# furnish TREE: what the tree gets of this machine: kernel's folders, network, toolchain, cargo's cache, the committed state.
furnish() {
    mount -t proc proc "$1/proc"
    mount -t sysfs -o ro sysfs "$1/sys" 2>/dev/null
    mount --bind /dev "$1/dev"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$1/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm"
    cat /etc/resolv.conf >"$1/etc/resolv.conf"
    cat /etc/hosts >"$1/etc/hosts"
    mkdir -p "$1/opt/rust"
    mount --bind "$toolchain" "$1/opt/rust"
    mount -o remount,bind,ro "$1/opt/rust"
    for proxy in /etc/apt/apt.conf.d/*; do grep -liq proxy "$proxy" 2>/dev/null && cp "$proxy" "$1/etc/apt/apt.conf.d/"; done
    mkdir -p "$1/usr/local/share/ca-certificates"
    cp /usr/local/share/ca-certificates/*.crt "$1/usr/local/share/ca-certificates/" 2>/dev/null && chroot "$1" update-ca-certificates >/dev/null 2>&1
    chroot "$1" useradd --create-home --shell /bin/bash user
    for home in root home/user; do
        mkdir -p "$1/$home/.cargo"
        cp -r "$registry/registry" "$1/$home/.cargo/" 2>/dev/null
        cp "$registry"/config* "$1/$home/.cargo/" 2>/dev/null
        git clone --quiet --no-local "$repo" "$1/$home/repo"
    done
    chroot "$1" chown -R user: /home/user
}

# inside TREE WHO COMMAND: as a login of that user would, with the environment of nobody else. The tree becomes the root of a mount
# namespace: in a mere chroot the kernel permits an ordinary user no namespaces, which tests make.
inside() {
    home=/root
    [ "$2" = root ] || home=/home/user
    unshare --mount --propagation private bash -c '
        mount --rbind "$0" "$0" && cd "$0" && mkdir -p .before && pivot_root . .before && cd / && umount -l /.before && rmdir /.before &&
            exec chroot --userspec="$1:$1" --groups="$1" / "${@:2}"' "$1" "$2" \
        /usr/bin/env -i HOME=$home USER="$2" LC_ALL=C.UTF-8 TERM=dumb PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        bash -c "cd $home/repo && $3" </dev/null
}

table="$folder/table"
row() { printf '%-9s %-5s %-14s %-34s %-30s %6s\n' "$@" | tee -a "$table"; }
logs=${LOGS:-$PWD/trees-$commit}
mkdir -p "$logs"
failures=0 not_had=()

# run TREE SUITE WHO WHAT COMMAND
run() {
    begun=$(date +%s)
    inside "$1" "$3" "$5" >"$logs/$2-$3-$4.log" 2>&1
    status=$?
    result=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$logs/$2-$3-$4.log" | tail -n 1)
    [ "$status" -eq 0 ] || { failures=$((failures + 1)); result="FAILED ($status) $result"; }
    row "$2" "$3" "$4" "$(versions "$1")" "${result:-ok}" "$(($(date +%s) - begun))s"
    return "$status"
}

# versions TREE: httpd, PHP, OpenSSL, rustc.
versions() {
    inside "$1" root 'echo "$(/usr/sbin/apache2 -v | sed -n "s,.*Apache/\([0-9.]*\).*,\1,p") $(php -r "echo PHP_VERSION;") $(openssl version | cut -d" " -f2) $(rustc --version | cut -d" " -f2)"' 2>/dev/null
}

row tree who what 'httpd PHP OpenSSL rustc' result time
for suite in "${trees[@]}"; do
    tree=$folder/$suite
    if ! why=$(make_tree "$suite" "$tree"); then
        not_had+=("$suite could not be had: ${why:-mmdebstrap failed}.")
        continue
    fi
    furnish "$tree"
    # A user without the packages is told the way.
    for who in "${users[@]}"; do
        [ "$who" = root ] || { inside "$tree" user 'make packages' >"$logs/$suite-user-refused.log" 2>&1 && not_had+=("$suite: make packages as a user did not say what is missing.") && failures=$((failures + 1)); }
    done
    if run "$tree" "$suite" root packages 'make packages'; then
        for who in "${users[@]}"; do
            run "$tree" "$suite" "$who" demo 'make demo'
            [ -n "$demo_only" ] || run "$tree" "$suite" "$who" "test${filter:+ $filter}" "make test TEST='$filter'"
        done
    fi
    umount --recursive "$tree/proc" "$tree/sys" "$tree/dev" "$tree/opt/rust" 2>/dev/null
    rm -rf --one-file-system "$tree"
done

echo
echo "Commit $commit, $(date -u +%F). The logs are in $logs."
for sentence in "${not_had[@]}"; do echo "$sentence"; done
[ "$failures" -eq 0 ] && [ ${#not_had[@]} -eq 0 ]
exit
}
