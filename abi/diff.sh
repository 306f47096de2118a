#!/bin/bash
# diff.sh BUILD-FOLDER: the libraries of a build keep the promise that abi/*.abi records, by abidiff(1).
here=$(cd "$(dirname "$0")" && pwd)
build=$1
command -v abidiff >/dev/null || {
    echo "skipped: needs abidiff (abigail-tools)"
    exit 77
}
readelf -S "$build/lib/libllm.so" | grep -q '\.debug_info' || {
    echo "skipped: this build has no debug information"
    exit 77
}
case $(uname -m) in
x86_64) ;;
*)
    echo "skipped: the dumps are of x86-64; interface.txt holds everywhere"
    exit 77
    ;;
esac
now=$(mktemp -d)
trap 'rm -rf "$now"' EXIT
sh "$here/dump.sh" "$build" "$now" || exit 1
broken=0
for library in libllm.so.0 libllm-text.so.0; do
    report=$(abidiff "$here/$library.abi" "$now/$library.abi" 2>&1)
    rc=$?
    [ $rc -eq 0 ] && continue
    broken=1
    printf '%s\n\n' "$report"
    if [ $((rc & 8)) -ne 0 ]; then
        echo "$library: programs built before would break. Restore it, or raise the major version of project() and start new dumps."
    else
        echo "$library: the interface changed. If programs built before still run right (docs/CHANGING.md), accept it: abi/dump.sh $build"
    fi
done
[ $broken -eq 0 ] && echo "libllm.so.0 and libllm-text.so.0 are what abi/ says"
exit $broken
