#!/bin/sh
# mirrors.sh - whether the models still say what the code does.
#
#   mirrors.sh             compare the text of each function named in mirrors.txt with the digest that stands beside it
#   mirrors.sh --refresh   write the digests anew, after the models named were looked at again
#
# A line of mirrors.txt is DIGEST FILE FUNCTION MODEL... ; comments, blanks and crash points in the function do not count.
set -eu
cd "$(dirname "$0")/../.."
list=tests/proof/mirrors.txt
changed=0

# The function's text: from the line that names it to the brace in the first column (every function starts there).
# Comments and white space go, so only what the compiler sees counts.
text_of() { # text_of FILE FUNCTION
    awk -v name="$2" '
        !inside && $0 ~ "^[a-z].*[ *]" name "\\(" { inside = 1; text = ""; open = 0 }
        inside { text = text $0 "\n"; if ($0 ~ /^{/) open = 1 }
        inside && !open && $0 ~ /;$/ { inside = 0 }
        inside && open && $0 ~ /^}/ { printf "%s", text; exit }' "$1" |
        tr '\n' ' ' | sed 's|/\*[^*]*\**\([^/*][^*]*\**\)*\*/||g; s|CRASH_POINT([a-z_]*);||g' | tr -d '[:space:]'
}

digest_of() {
    text=$(text_of "$1" "$2")
    [ -n "$text" ] || { echo missing && return; }
    printf '%s' "$text" | sha256sum | cut -c1-16
}

fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT
while read -r digest file function models; do
    case $digest in '#'* | '')
        printf '%s\n' "$digest${file:+ $file}${function:+ $function}${models:+ $models}" >>"$fresh"
        continue ;;
    esac
    now=$(digest_of "$file" "$function")
    if [ "$now" = missing ]; then
        echo "$file has no function $function() any more: look at tests/proof for $models, then mend mirrors.txt"
        changed=1
    elif [ "$now" != "$digest" ] && [ "${1-}" != --refresh ]; then
        echo "$file: $function() has changed: does tests/proof/ still say the same ($models)? Then: tests/proof/mirrors.sh --refresh"
        changed=1
    fi
    printf '%s %s %s %s\n' "$now" "$file" "$function" "$models" >>"$fresh"
done <"$list"

# Every function that a model names in a comment (path:function()) is in the list.
for pair in $(grep -ohE '(shm|daemon|client)/[a-z_/]+\.[ch]:[a-z_]+\(\)' tests/proof/*.pml | sort -u); do
    file=${pair%%:*} function=${pair#*:}
    grep -q " $file ${function%()} " "$list" || {
        echo "a model names $pair, and mirrors.txt does not"
        changed=1
    }
done

if [ "${1-}" = --refresh ] && [ $changed -eq 0 ]; then
    cp "$fresh" "$list"
    echo "mirrors: $(grep -vc '^#' "$list") digests written"
else
    [ $changed -ne 0 ] || echo "mirrors: $(grep -vc '^#' "$list") functions are as the models know them"
fi
exit $changed
