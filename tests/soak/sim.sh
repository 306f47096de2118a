#!/bin/bash
# sim.sh - a million seeded worlds of the core, and none in which a checker finds anything.
# Run by `tools/test --soak sim`; LLM_SOAK_SEEDS makes it shorter or longer, LLM_TEST_SEED is the first seed. A failure prints the seed that
# replays it. What it counted is the last line, with the commit.
set -u
build=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/release
commit=$(git -C "$build" describe --always --dirty 2>/dev/null || echo unknown)
seeds=${LLM_SOAK_SEEDS:-1000000} first=${LLM_TEST_SEED:-$(date +%s%N)} workers=$(nproc) started=$SECONDS
part=$(((seeds + workers - 1) / workers))
pids=()
for ((i = 0; i < workers; i++)); do
    "$build/bin/sim_core" --seed "$((first + i * part))" --runs "$part" &
    pids+=($!)
done
bad=0
for pid in "${pids[@]}"; do wait "$pid" || bad=1; done
printf 'sim: %d seeds from %s on, %s; commit %s, %d s\n' "$((part * workers))" "$first" \
    "$([ $bad -eq 0 ] && echo "no failure" || echo "FAILED")" "$commit" "$((SECONDS - started))"
exit $bad
