#!/bin/sh
# exports.sh <libllm.so> <header>...: the library exports what the headers mark LLM_API, and needs libc alone.
set -eu
library=$1
shift
declared=$(cat "$@" | grep -v '#define' | tr '\n' ' ' | grep -o 'LLM_API [^;(]*(' | sed 's/ *($//; s/.*[ *]//' | sort)
exported=$(nm -D --defined-only "$library" | awk '$2 == "T" {print $3}' | sed 's/@.*//' | sort)
if [ "$declared" != "$exported" ]; then
    echo "declared and exported differ:"
    printf '%s\n' "$declared" >"${TMPDIR:-/tmp}/declared.$$"
    printf '%s\n' "$exported" | diff "${TMPDIR:-/tmp}/declared.$$" - || true
    rm -f "${TMPDIR:-/tmp}/declared.$$"
    exit 1
fi
needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v '^libc\.so' || true)
if [ -n "$needed" ]; then
    echo "libllm needs more than libc: $needed"
    exit 1
fi
soname=$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
case $soname in
libllm.so.[0-9]*) ;;
*)
    echo "soname is \"$soname\""
    exit 1
    ;;
esac
echo "$(printf '%s\n' "$exported" | wc -l) functions, all declared; $soname"
