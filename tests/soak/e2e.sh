#!/bin/bash
# e2e.sh - the tests of whole daemons over and over, each round with a seed of its own, for LLM_SOAK_MINUTES (60).
# Run by `tools/test --soak e2e`; the seed of a failed round is printed, LLM_TEST_SEED replays it.
set -u
build=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/release
end=$((SECONDS + 60 * ${LLM_SOAK_MINUTES:-60}))
rounds=0 failures=0
while [ $SECONDS -lt $end ]; do
    rounds=$((rounds + 1))
    export LLM_TEST_SEED=$((RANDOM * 32768 + RANDOM))
    if ! (cd "$build" && ctest -R '^e2e/' --output-on-failure >soak.log 2>&1); then
        failures=$((failures + 1))
        printf 'round %d failed, LLM_TEST_SEED=%d:\n' $rounds $LLM_TEST_SEED
        grep -A 20 '\*\*\*Failed' "$build/soak.log"
    fi
done
printf 'e2e: %d rounds, %d failed, %s minutes, commit %s\n' $rounds $failures "${LLM_SOAK_MINUTES:-60}" \
    "$(git -C "$build" describe --always --dirty 2>/dev/null || echo unknown)"
[ $failures -eq 0 ]
