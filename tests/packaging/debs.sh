#!/bin/bash
# debs.sh - the Debian packages: built as packaging/README.md says, they hold what they should, depend on what they need, and
# the programs of the unpacked packages serve an answer. lintian has nothing to say, where it is installed.
#
#   debs.sh BUILD-FOLDER: the packages are built in BUILD-FOLDER/packages
set -u
build=$1/packages
source=$(cd "$(dirname "$0")/../.." && pwd)
for tool in dpkg-deb dpkg-shlibdeps; do
    command -v $tool >/dev/null || {
        echo "skipped: needs $tool (dpkg-dev)"
        exit 77
    }
done
version=$(sed -n 's/^project(llmd VERSION \([0-9.]*\).*/\1/p' "$source/CMakeLists.txt")
broken=0
complain() {
    printf '%s\n' "$*"
    broken=1
}

mkdir -p "$build"
rm -f "$build"/*.deb
(cd "$source" && cmake --preset package -B "$build" &&
    ninja -C "$build" && cd "$build" && cpack) >"$build/log" 2>&1 || {
    tail -n 30 "$build/log"
    exit 1
}

work=$(mktemp -d)
leave() {
    "$work/usr/bin/llmctl" --socket "$work/s" stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap leave EXIT
for package in llmd libllm0 libllm-dev; do
    deb=$(echo "$build/${package}_${version}_"*.deb)
    [ -f "$deb" ] || {
        echo "no package $package $version was made"
        exit 1
    }
    dpkg-deb -x "$deb" "$work"
    for field in Depends Maintainer Description; do
        [ -n "$(dpkg-deb -f "$deb" $field)" ] || complain "$package has no $field"
    done
    for file in copyright changelog.gz; do
        [ -s "$work/usr/share/doc/$package/$file" ] || complain "$package has no $file"
    done
done
depends() { dpkg-deb -f "$build/$1_${version}_"*.deb Depends; }
for name in libc6 libjansson4 libpcre2-8 libsodium; do
    depends llmd | grep -q "$name" || complain "llmd does not depend on $name: $(depends llmd)"
done
depends libllm0 | grep -q libutf8proc || complain "libllm0 does not depend on libutf8proc: $(depends libllm0)"
depends libllm-dev | grep -q "libllm0 (= $version)" || complain "libllm-dev does not depend on its libllm0: $(depends libllm-dev)"

while read -r file; do
    [ -e "$work/$file" ] || complain "missing: /$file"
done <<'FILES'
usr/bin/llmd
usr/bin/llmctl
usr/libexec/llmd/llmd-engine
usr/libexec/llmd/llmd-sim
usr/share/llmd/models/tinynotes/model.safetensors
usr/lib/systemd/system/llmd.service
usr/lib/systemd/system/llmd.socket
usr/lib/systemd/user/llmd.service
usr/lib/sysusers.d/llmd.conf
usr/share/bash-completion/completions/llmctl
usr/share/bash-completion/completions/llmd
usr/share/zsh/vendor-completions/_llmctl
usr/share/fish/vendor_completions.d/llmctl.fish
usr/share/doc/llmd/OPERATING.md
usr/share/doc/llmd/llmd.toml.example
usr/include/llm/llm.h
usr/include/llm/text.h
FILES
grep -q '^ExecStart=/usr/bin/llmd ' "$work/usr/lib/systemd/system/llmd.service" || complain "the unit starts another llmd"
if command -v scdoc >/dev/null; then
    for page in man1/llmctl.1 man5/llmd.conf.5 man8/llmd.8 man3/libllm.3 man3/llm_submit.3; do
        [ -s "$work/usr/share/man/$page.gz" ] || complain "missing: $page.gz"
    done
fi
grep -rlF "$source" "$work" | sed "s|^|knows where it was built: |" | grep . && broken=1
stray=$(find "$work" -type f -perm /0022 -o -type l ! -exec test -e {} \; -print)
[ -z "$stray" ] || complain "writable by others, or a link to nothing: $stray"

export LD_LIBRARY_PATH
LD_LIBRARY_PATH=$(dirname "$(find "$work" -name 'libllm.so.0')")
answer=$(LLMD_SOCKET=$work/s timeout 60 "$work/usr/bin/llmctl" generate --max-tokens 8 "Once upon a time")
[ -n "$answer" ] || complain "the unpacked llmd gives no answer"

if command -v lintian >/dev/null; then
    said=$(lintian --fail-on error,warning "$build"/*.deb 2>&1 | grep -E '^[EW]:') && complain "$said"
fi
[ $broken -eq 0 ] && echo "llmd, libllm0 and libllm-dev $version: complete, and they serve"
exit $broken
