#!/bin/sh
# changelog.sh [TIME]: prints debian/changelog for this tree's version. TIME, in seconds of Unix time, is that of what is not released yet.
set -eu
export LC_ALL=C TZ=UTC0

source=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source/Cargo.toml" | head -n 1)
day=$(sed -n "s/^## \[*$version\]* - \([0-9-]*\)$/\1/p" "$source/CHANGELOG.md")
[ -z "$day" ] && time=${1:-$(date +%s)} || time=$(date --date="$day 12:00" +%s)
maintainer=$(sed -n 's/^Maintainer: //p' "$source/debian/control")
cat <<END
libapache2-mod-finish-request ($version-1) unstable; urgency=medium

  * mod_finish_request $version: changelog.gz beside this file says what is new.

 -- $maintainer  $(date --date="@$time" -R)
END
