#!/bin/bash
# consumers.sh - programs of strangers build against an installation and run: by pkg-config, by pkg-config --static and
# by find_package(llm). The installation has been moved after `cmake --install`, so nothing in it may know its place.
#
#   consumers.sh BUILD-FOLDER README-PROGRAM.c COMPILER
set -eu
build=$1 program=$(realpath "$2") compiler=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
moved=$work/moved
export LLMD_SOCKET=$work/s
leave() {
    "$moved/bin/llmctl" stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap leave EXIT
fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$moved"
library=$(dirname "$(find "$moved" -name libllm.so)")
export PKG_CONFIG_PATH=$library/pkgconfig
version=$(sed -n 's/^project(llmd VERSION \([0-9.]*\).*/\1/p' "$here/../../CMakeLists.txt")

for name in llm llm-text; do
    [ "$(pkg-config --modversion $name)" = "$version" ] || fail "$name.pc: version is not $version"
done
needed=$(readelf -d "$library/libllm-text.so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
[ -e "$library/$needed" ] || fail "no link $needed beside libllm-text.so"

# answers PROGRAM: it runs and prints something.
answers() {
    local said
    said=$(LD_LIBRARY_PATH=$library timeout 60 "$1") || fail "${1##*/} failed"
    [ -n "$said" ] || fail "${1##*/} printed nothing"
    echo "${1##*/}: ${said:0:60}"
}

compile() { # compile OUTPUT SOURCE pkg-config-arguments...
    local out=$1 source=$2
    shift 2
    # shellcheck disable=SC2046 # words are wanted
    "$compiler" -Wall -Wextra -Werror $(pkg-config --cflags "$@") -o "$out" "$source" $(pkg-config --libs "$@")
    answers "$out"
}

compile "$work/pkgconfig-tokens" "$here/consumer/tokens.c" llm
compile "$work/pkgconfig-text" "$program" llm-text

# With the archives alone: no shared library of ours may be left in the program.
mkdir "$work/archives"
cp "$library"/*.a "$work/archives"
# shellcheck disable=SC2046
"$compiler" -I"$(pkg-config --variable=includedir llm)" -o "$work/static-text" "$program" -L"$work/archives" \
    $(pkg-config --static --libs-only-l llm-text)
readelf -d "$work/static-text" | grep -q 'NEEDED.*libllm' && fail "the static program needs a shared libllm"
answers "$work/static-text"

cmake -S "$here/consumer" -B "$work/cmake" -DCMAKE_C_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$moved" \
    -DREADME_PROGRAM="$program" >"$work/log" 2>&1 && cmake --build "$work/cmake" >>"$work/log" 2>&1 || {
    cat "$work/log" >&2
    fail "find_package(llm) does not do"
}
answers "$work/cmake/tokens"
answers "$work/cmake/text"

"$moved/bin/llmctl" status | grep -q 'models .*tinynotes' || fail "the moved installation does not serve its model"
pid=$("$moved/bin/llmctl" status --json | sed -n 's/.*"engine": {"pid": \([0-9]*\).*/\1/p')
case $(readlink "/proc/$pid/exe") in
"$moved"/libexec/llmd/llmd-engine) ;;
*) fail "the engine is not the installed one: $(readlink "/proc/$pid/exe")" ;;
esac
