#!/bin/sh
# dump.sh BUILD-FOLDER [OUT-FOLDER]: what the libraries of a build promise to programs linked with them, as abi/ keeps it.
# The build has debug information (preset dev); the machine has abigail-tools. Without OUT-FOLDER the files of abi/ are
# written: that is how a wanted change of the interface is accepted.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1 out=${2:-$here}
for library in llm llm-text; do
    abidw --headers-dir "$build/include/llm" --drop-private-types --drop-undefined-syms --exported-interfaces-only \
        --no-corpus-path --no-comp-dir-path --no-show-locs --no-parameter-names --no-elf-needed --no-architecture \
        --type-id-style hash --out-file "$out/lib$library.so.0.abi" "$build/lib/lib$library.so"
    sed -i "s#path='[^']*/\\(client\\|shm\\)/#path='\\1/#" "$out/lib$library.so.0.abi" # wherever it was built
done
[ $# -gt 1 ] || {
    "$build/bin/test_interface" >"$out/interface.txt"
    echo "written: $out/libllm.so.0.abi, libllm-text.so.0.abi, interface.txt"
}
