#!/bin/bash
# kills.sh - 100,000 clients and 1,000 engines are killed, and nothing is lost, doubled, different or left behind.
# Run by `tools/test --soak kills`; LLM_SOAK_CLIENT_KILLS and LLM_SOAK_ENGINE_KILLS make it smaller or larger, LLM_TEST_SEED
# draws the same moments again. What it counted is the last line, with the commit.
set -u
build=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/release
commit=$(git -C "$build" describe --always --dirty 2>/dev/null || echo unknown)
"$build/bin/soak_kills" || exit 1
printf 'commit %s, %s\n' "$commit" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sort | uniq -c | sed 's/^ *//; s/ / x /')"
