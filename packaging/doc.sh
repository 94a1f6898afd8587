#!/bin/sh
# doc.sh FOLDER: makes the manual: FOLDER/html, whose front page is index.html, and the manual page FOLDER/mod_finish_request.7, both of
# README.md and docs/. Needs pandoc.
set -eu
umask 022

folder=$1
source=$(cd "$(dirname "$0")/.." && pwd)
command -v pandoc >/dev/null || { echo 'The manual is made by pandoc: install the package pandoc.' >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source/Cargo.toml" | head -n 1)
rm -rf "$folder/html"
mkdir -p "$folder/html"
folder=$(cd "$folder" && pwd)
cd "$source"

# convert FILE MORE...: by pandoc, with links that lead to the page that is made of each file.
convert() {
    file=$1
    shift
    pandoc --from=gfm --wrap=none --lua-filter=packaging/links.lua --metadata=source:"$file" --metadata=pagetitle:"$(sed -n 's/^# //p' "$file" | head -n 1)" \
        --variable=version:"$version" "$@" "$file"
}

contents=$folder/contents
: >"$contents"
# The order is that of the contents in docs/README.md.
pages=$(sed -n 's/^| \[[^]]*\](\([^)]*\)) |.*/\1/p' docs/README.md)
for page in $pages; do
    case $page in
    ../*) file=${page#../} ;;
    *) file=docs/$page ;;
    esac
    name=$(basename "$file" .md | tr '[:upper:]' '[:lower:]').html
    convert "$file" --to=html5 --template=packaging/page.html --output="$folder/html/$name"
    convert "$file" --to=html5 --toc --toc-depth=3 --template=packaging/contents.html --variable=name:"$name" |
        sed "s|href=\"#|href=\"$name#|g" >>"$contents"
done
convert docs/README.md --to=html5 --template=packaging/page.html --variable=front:yes --include-after-body="$contents" --output="$folder/html/index.html"
rm "$contents"
for picture in docs/*.png docs/*.svg docs/performance/*; do [ ! -f "$picture" ] || cp "$picture" "$folder/html/"; done

# Every link of every page leads somewhere.
(
    cd "$folder/html"
    for page in *.html; do
        grep -oE '(href|src)="[^"]*"' "$page" | sed 's/^[a-z]*="//; s/"$//' | grep -vE '^https?:' | sort -u | while IFS='#' read -r file anchor; do
            file=${file:-$page}
            [ -f "$file" ] && { [ -z "$anchor" ] || grep -q "id=\"$anchor\"" "$file"; } || echo "$page: a link leads nowhere: $file#$anchor"
        done
    done
) >"$folder/broken"
if [ -s "$folder/broken" ]; then
    cat "$folder/broken" >&2
    exit 1
fi
rm "$folder/broken"

# section FILE HEADING: the text below it, up to the next heading of its level.
section() {
    awk -v heading="$2" '
        { level = match($0, /^#+ /) ? RLENGTH - 1 : 0 }
        /^```/ { code = !code }
        code { level = 0 }
        $0 == heading { inside = level; next }
        inside && level && level <= inside { exit }
        inside { print }' "$1"
}
{
    printf '# NAME\n\nmod_finish_request - Apache httpd module: the client is let go at the end of the response, the request works on\n\n'
    printf '# SYNOPSIS\n\n'
    sed -n 's/^| Syntax | `\(.*\)` |$/\1\n/p' docs/directives.md | sed 's/^/    /; s/\\|/|/g' | grep -v '^ *$'
    printf '\n# DESCRIPTION\n\n'
    sed -n '2,/^## /{/^## /d;p}' README.md
    printf '\n# MARKS\n\n'
    section README.md '## How an application marks a response'
    printf '\n# WHAT A FINISHED RESPONSE IS WORTH\n\n'
    section README.md '## What a finished response is worth'
    printf '\n# DIRECTIVES\n\n'
    sed -n '2,$p' docs/directives.md
    printf '\n# FILES\n\n'
    printf '`/usr/share/doc/libapache2-mod-finish-request`\n: the whole manual, in Markdown and HTML, with examples\n\n' |
        sed 's/^: /    /'
    printf '# SEE ALSO\n\napache2(8), a2enmod(8), a2enconf(8), php-cgi(1)\n'
} >"$folder/man.md"
pandoc --from=gfm --to=man --standalone --lua-filter=packaging/links.lua --metadata=source:README.md --metadata=man:yes \
    --metadata=title:MOD_FINISH_REQUEST --metadata=section:7 --metadata=footer:"mod_finish_request $version" --output="$folder/mod_finish_request.7" "$folder/man.md"
rm "$folder/man.md"
echo "$folder/html/index.html, $folder/mod_finish_request.7"
