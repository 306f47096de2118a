#!/bin/bash
# install.sh - what `cmake --install` puts somewhere works from there: the program of README.md is compiled against
# the installed headers and libraries, and starts the installed daemon with the installed model.
#
#   install.sh BUILD-FOLDER PROGRAM.c COMPILER
set -eu
build=$1 program=$2 compiler=$3
prefix=$(mktemp -d)
export LLMD_SOCKET=$prefix/llmd.sock LD_LIBRARY_PATH
leave() {
    "$prefix/bin/llmctl" stop >/dev/null 2>&1 || true
    rm -rf "$prefix"
}
trap leave EXIT

cmake --install "$build" --prefix "$prefix" >/dev/null
LD_LIBRARY_PATH=$(dirname "$(find "$prefix" -name libllm.so)")
"$compiler" -Wall -Werror -I"$prefix/include" -o "$prefix/program" "$program" -L"$LD_LIBRARY_PATH" -lllm-text -lllm
answer=$("$prefix/program")
[ -n "$answer" ] || { echo "the program printed nothing" >&2; exit 1; }
"$prefix/bin/llmctl" status | grep -q 'models .*tinynotes' || { echo "no installed model is served" >&2; exit 1; }
echo "$answer"
