#!/bin/sh
# bench.sh verbs|options: what llm-bench says of itself, as scdoc(5) definitions. An option of every verb is listed once.
set -eu
options() { # of a help text: "--name VALUE<tab>sentence"
    sed -n 's/^  \(--[a-z-]*\( [A-Z][A-Z,]*\)\{0,1\}\)  *\(.*\)$/\1	\3/p'
}
define() { # define INDENT: definitions out of such lines
    awk -F'\t' -v indent="$1" '{
        name = $1
        value = ""
        if ((at = index(name, " ")) > 0) {
            value = " _" substr(name, at + 1) "_"
            name = substr(name, 1, at - 1)
        }
        gsub(/[\\*_<>#`~|]/, "\\\\&", $2)
        printf "%s*%s*%s\n%s\t%s\n\n", indent, name, value, indent, $2
    }'
}
common=$(llm-bench --help | options)
case $1 in
options) printf '%s\n' "$common" | define '' ;;
verbs)
    llm-bench --help | sed -n 's/^  llm-bench \([a-z]*\)  *\(.*\)$/\1 \2/p' | while read -r verb sentence; do
        printf '*%s*\n\t%s\n\n' "$verb" "$sentence"
        llm-bench "$verb" --help | options | grep -vxF -e "$common" | define '	' || true
    done
    ;;
esac
