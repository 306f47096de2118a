#!/bin/bash
# contexts.sh - 1,000 engines are killed under 32 clients with forks and names, and no token and no context is lost.
# Run by `tools/test --soak contexts`; LLM_SOAK_CLIENTS and LLM_SOAK_ENGINE_KILLS make it smaller or larger, LLM_TEST_SEED
# draws the same moments again. What it counted is the last line, with the commit.
set -u
build=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/release
commit=$(git -C "$build" describe --always --dirty 2>/dev/null || echo unknown)
"$build/bin/soak_contexts" || exit 1
printf 'commit %s, %s\n' "$commit" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sort | uniq -c | sed 's/^ *//; s/ / x /')"
