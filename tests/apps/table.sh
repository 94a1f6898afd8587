#!/bin/sh
# table.sh FOLDER: puts what `make apps` has found, a file for each application in the folder, into docs/applications.md, and shows it.
set -eu
cd "$(dirname "$0")/../.."
page=docs/applications.md
# Where some were not tried, or not all, the table stays.
for name in Symfony Laravel "Drupal's idiom" "Magento's idiom" WordPress MediaWiki DokuWiki; do
    [ -f "$1/$name" ] || { echo "The table of $page stays: $name was not tried."; exit 0; }
done
table=$(
    echo '| application | handler | protocol | coding | as without the module | let go early | without the module |'
    echo '| --- | --- | --- | --- | --- | --- | --- |'
    for name in Symfony Laravel "Drupal's idiom" "Magento's idiom" WordPress MediaWiki DokuWiki; do
        cat "$1/$name"
    done
)
echo "$table"
TABLE=$table awk '
    /^<!-- make apps -->$/ { print; print ""; print ENVIRON["TABLE"]; print ""; inside = 1; next }
    /^<!-- end -->$/ { inside = 0 }
    !inside' "$page" >"$page.new"
mv "$page.new" "$page"
