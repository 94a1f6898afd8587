#!/bin/sh
# A service that comes is not started at boot; one that is there stays as it is: see packages.sh.
for argument; do
    shift
    [ "$argument" != defaults ] || argument=defaults-disabled
    set -- "$@" "$argument"
done
exec /usr/sbin/update-rc.d "$@"
