#!/bin/bash
# build.sh ARGUMENTS...: runs cargo with them. A build that is refused says its sentence, once, without cargo's words around it.
set -o pipefail

source=$(cd "$(dirname "$0")/.." && pwd)
# Where cargo builds may be in its own configuration.
configured() { (cd "$source" && "${CARGO:-cargo}" metadata --no-deps --format-version 1) 2>/dev/null | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'; }
folder=${CARGO_TARGET_DIR:-$(configured)}
folder=${folder:-$source/target}
if ! { mkdir -p "$folder" && [ -w "$folder" ]; } 2>/dev/null; then
    echo "$folder cannot be written to: build as the user that it belongs to, or name another folder with CARGO_TARGET_DIR" >&2
    exit 1
fi
# A build runs programs that it has built.
probe=$folder/probe.$$
runs=$({ printf '#!/bin/sh\necho yes\n' >"$probe" && chmod 755 "$probe" && "$probe"; } 2>/dev/null)
rm -f "$probe"
if [ "$runs" != yes ]; then
    echo "$folder is on a file system that is mounted noexec, or full: name a folder that programs can be run in with CARGO_TARGET_DIR" >&2
    exit 1
fi
# cargo would say it amidst a hundred lines.
if [ -z "${CC:-}" ] && ! command -v cc >/dev/null; then
    echo 'There is no C compiler and linker, cc: install one, by the package gcc and the headers of the C library' >&2
    exit 1
fi

one_sentence='
    /^(\033\[[0-9;]*m)*error(\033\[[0-9;]*m)*:? ?(\033\[[0-9;]*m)*: mod_finish_request@[^ ]*: / || /^error: mod_finish_request@[^ ]*: / {
        sub(/^.*mod_finish_request@[^ ]*: /, ""); refused = 1; print; next
    }
    refused && /failed to run custom build command|^note: |^Caused by:|process didn.t exit successfully|^  --- std|^  cargo::|build failed, waiting|^$/ { next }
    { print; fflush() }
'
{ "${CARGO:-cargo}" "$@" 2>&1 >&3 | awk "$one_sentence" >&2; } 3>&1
