#!/bin/sh
# text.sh - what must not stand in the tree: unfinished business, paths of somebody's machine, folders
# without a README, files that are too long to be one concept.
set -eu
cd "$(dirname "$0")/../.."
broken=0

# complain SENTENCE LIST: print the list, if there is one, under the sentence.
complain() {
    [ -n "$2" ] || return 0
    printf '%s:\n%s\n' "$1" "$2"
    broken=1
}

# Files of the project: what git tracks, or, in an unpacked archive, everything outside build folders.
files() {
    git ls-files --cached --others --exclude-standard 2>/dev/null ||
        find . -path './build*' -prune -o -type f -print | sed 's|^\./||'
}
sources=$(files | grep -E '\.(c|h|cu|cuh|inc|sh|py|txt|cmake|md|json)$|^tools/(demo|test)$|^\.ci/' |
    grep -vE '^(models/|tests/tidy/text\.sh$)' || true)

complain "unfinished business; finish it or open an issue" \
    "$(printf '%s\n' "$sources" | xargs grep -nwE 'TODO|FIXME|XXX|HACK' || true)"

complain "a path of one developer's machine" \
    "$(printf '%s\n' "$sources" | xargs grep -nE '/home/[a-z]|/Users/' || true)"

complain "more than 900 lines in one file; one concept is shorter (a test may be a long list)" \
    "$(printf '%s\n' "$sources" | grep -E '\.[ch]$' | grep -v '^tests/' | xargs wc -l | awk '$1 > 900 && $2 != "total"')"

complain "tabs or blanks at a line's end" \
    "$(printf '%s\n' "$sources" | grep -E '\.([ch]|sh|cmake|txt)$' | xargs grep -nE '[[:blank:]]$' || true)"

complain "a header that does not open with what it is (STYLE: name - one line)" \
    "$(for file in $(printf '%s\n' "$sources" | grep -E '^(shm|client|daemon|kernels|tools)/.*\.h$'); do
        head -2 "$file" | grep -qF "$(basename "$file") - " || echo "$file"
    done)"

# Folders with code in them; those of tests share tests/README.md.
complain "a folder without a README.md" \
    "$(printf '%s\n' "$sources" | grep -E '\.[ch]$' | grep -v '^tests/' | xargs -n 1 dirname | sort -u |
        while read -r folder; do
            here=$folder
            while [ "$here" != . ] && [ ! -f "$here/README.md" ]; do here=$(dirname "$here"); done
            [ "$here" != . ] || echo "$folder"
        done)"

[ $broken -eq 0 ] && echo "text: nothing that should not be there"
exit $broken
