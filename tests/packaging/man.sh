#!/bin/bash
# man.sh - the manual pages render without a warning, and everything that has an entry in a table or a header has one
# in its page: verbs and options of llmctl, options of llmd, keys of the configuration, functions of the libraries.
#
#   man.sh BUILD-FOLDER
set -u
build=$1
pages=$build/share/man
bin=$build/bin
export LC_ALL=C.UTF-8 MANWIDTH=100 MAN_KEEP_FORMATTING=0 ARGP_HELP_FMT=rmargin=9999
unset XDG_CONFIG_HOME
[ -f "$pages/man1/llmctl.1" ] || {
    echo "skipped: the pages were not built (scdoc)"
    exit 77
}
command -v man >/dev/null || {
    echo "skipped: needs man"
    exit 77
}
broken=0
complain() {
    printf '%s\n' "$*"
    broken=1
}
text=$(mktemp -d)
trap 'rm -rf "$text"' EXIT

for page in "$pages"/man[158]/* "$pages"/man3/lib*; do
    name=${page##*/}
    man -l --warnings -E UTF-8 "$page" 2>"$text/warnings" | col -bx >"$text/$name"
    [ -s "$text/warnings" ] && complain "$name: $(head -3 "$text/warnings")"
    for part in NAME SYNOPSIS DESCRIPTION 'SEE ALSO'; do
        grep -qx "$part" "$text/$name" || complain "$name has no section $part"
    done
    command -v mandoc >/dev/null && mandoc -T lint -W error "$page" >"$text/warnings" 2>&1 ||
        { [ -s "$text/warnings" ] && complain "$(head -3 "$text/warnings")"; }
done

# entry PAGE WORDS: the page has an entry that begins so (its entries are indented, and nothing else stands before).
entry() {
    grep -qE "^ +$2( |,|=|\$|\\()" "$text/$1" || complain "$1 has no entry \"$2\""
}

while read -r verb; do
    entry llmctl.1 "$verb"
    while read -r option; do
        entry llmctl.1 "$option"
    done < <("$bin/llmctl" $verb --help | sed -n 's/^  \(--[a-z-]*\) .*/\1/p')
done < <("$bin/llmctl" help | sed -n 's/^  llmctl \([a-z ]*[a-z]\) .*/\1/p' | sed 's/  .*//')
while read -r verb; do
    entry llm-bench.1 "$verb"
    while read -r option; do
        entry llm-bench.1 "$option"
    done < <("$bin/llm-bench" $verb --help | sed -n 's/^  \(--[a-z-]*\) .*/\1/p')
done < <("$bin/llm-bench" --help | sed -n 's/^  llm-bench \([a-z]*\) .*/\1/p')
while read -r option; do
    entry llmd.8 "(-., )?$option"
done < <("$bin/llmd" --help | sed -n 's/^ *\(-., \)\{0,1\}\(--[a-z-]*\).*/\2/p')
while read -r key; do
    entry llmd.conf.5 "$key"
done < <("$bin/llmd" --print-config | sed -n 's/^\([a-z_]*\) = .*/\1/p')

functions() { # of a public header
    grep -v '#define' "$1" | tr '\n' ' ' | grep -o 'LLM_API [^;(]*(' | sed 's/ *($//; s/.*[ *]//'
}
for header in llm:libllm status:libllm text:libllm-text; do
    page=${header#*:}.3
    for name in $(functions "$build/include/llm/${header%:*}.h"); do
        grep -q "\\b$name()" "$text/$page" || complain "$page says nothing about $name()"
        grep -qx ".so man3/$page" "$pages/man3/$name.3" 2>/dev/null || complain "man $name does not lead to $page"
    done
done
count=$(find "$text" -name '*.[0-9]' | wc -l)
[ $broken -eq 0 ] && echo "$count pages, no warning, nothing missing"
exit $broken
