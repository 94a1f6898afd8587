#!/bin/sh
# Says in one sentence why the httpd of this machine, or the one that its packages would bring, will not do: before anything is
# installed. The build looks closer (apxs.rs).
set -eu
# What apt says is read.
export LC_ALL=C

stop() {
    echo "$1" >&2
    exit 1
}

[ "$(uname -s)" = Linux ] || stop "mod_finish_request is for Linux, and this is $(uname -s)."

apxs=${APXS:-}
[ -n "$apxs" ] || apxs=$(command -v apxs || command -v apxs2 || true)
if [ -n "$apxs" ]; then
    # What is wrong with it otherwise, the build says.
    include=$("$apxs" -q INCLUDEDIR 2>/dev/null) && modules=$("$apxs" -q LIBEXECDIR 2>/dev/null) || exit 0
    [ -r "$include/util_script.h" ] || exit 0
    grep -q AP_TRUST_CGILIKE_CL_ENVVAR "$include/util_script.h" ||
        grep -q ap_trust_cgilike_cl "$modules/mod_cgi.so" "$modules/mod_cgid.so" 2>/dev/null ||
        stop 'This httpd does not know ap_trust_cgilike_cl, which mod_finish_request needs for CGI: install httpd 2.4.59 or later, or an older one with the security patch for CVE-2024-24795.'
elif command -v apt-cache >/dev/null; then
    candidate=$(apt-cache policy apache2-dev 2>/dev/null | sed -n 's/^ *Candidate: \([0-9.]*\).*/\1/p')
    [ -n "$candidate" ] || exit 0
    older=$(printf '%s\n' 2.4.49 "$candidate" | sort -V | head -n 1)
    [ "$older" = 2.4.49 ] ||
        stop "This system's packages have httpd $candidate, and mod_finish_request needs 2.4.59 or later, or an older one from 2.4.49 on with the security patch for CVE-2024-24795."
fi
