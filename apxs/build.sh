#!/bin/bash
# build.sh ARGUMENTS...: runs cargo with them. A build that is refused says its sentence, once, without cargo's words around it.
set -o pipefail

folder=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}
if ! { mkdir -p "$folder" && [ -w "$folder" ]; } 2>/dev/null; then
    echo "$folder cannot be written to: build as the user that it belongs to, or name another folder with CARGO_TARGET_DIR" >&2
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
