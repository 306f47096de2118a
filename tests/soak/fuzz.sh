#!/bin/bash
# fuzz.sh - each fuzzer for LLM_SOAK_SECONDS (300) of CPU time, as many at once as there are cores.
# Run by `tools/test --soak fuzz`, which builds them. LLM_SOAK_TARGETS="toml json" runs only these.
#
# What was found worth keeping lies in build/fuzz/corpus/<target> and is where the next run begins; an input that
# crashes lies in build/fuzz/findings, ends its target's run, and is named. The table goes to standard output.
set -u
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$project/build/fuzz
seconds=${LLM_SOAK_SECONDS:-300}
slice_s=60 # a run in pieces, since libFuzzer counts time on the wall

# soak TARGET LONGEST: one row of the table, and exit code 1 if there was a finding.
soak() {
    local target=$1 longest=$2 corpus=$build/corpus/$1 log=$build/soak-$1.log
    local executions=0 spent_ms=0 peak_mb=0 edges=0 kept=0 findings=0 times user system one
    mkdir -p "$corpus" "$build/findings"
    while [ $spent_ms -lt $((seconds * 1000)) ] && [ $findings -eq 0 ]; do
        TIMEFORMAT='%3U %3S'
        times=$({ time "$build/bin/fuzz_$target" "$corpus" -max_total_time=$slice_s -max_len="$longest" -timeout=20 \
            -len_control=0 -print_final_stats=1 -artifact_prefix="$build/findings/$target-" >"$log" 2>&1; } 2>&1) ||
            findings=1
        read -r user system <<<"$(tail -n 1 <<<"$times")"
        spent_ms=$((spent_ms + 10#${user/./} + 10#${system/./}))
        one=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        executions=$((executions + ${one:-0}))
        one=$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")
        [ "${one:-0}" -gt $peak_mb ] && peak_mb=$one
        one=$(grep -aoE 'cov: [0-9]+' "$log" | tail -n 1)
        edges=${one#cov: }
        kept=$(find "$corpus" -type f | wc -l)
    done
    printf '| %s | %d | %s | %d | %d | %d | %d |\n' "$target" $executions "${edges:-0}" "$kept" $peak_mb \
        $((spent_ms / 1000)) $findings
    [ $findings -eq 0 ] && return
    grep -aE 'ERROR|SUMMARY|Test unit written' "$log" >&2
    return 1
}
export -f soak
export build seconds slice_s

if [ ! -s "$build/tests/fuzz/targets.txt" ]; then
    echo 'fuzz: there are no fuzzers in build/fuzz: they need clang-14 with libFuzzer' >&2
    exit 1
fi
printf '%s, commit %s, %s, %s\n\n' "$(date -u +%Y-%m-%d)" \
    "$(git -C "$project" describe --always --dirty 2>/dev/null || echo unknown)" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(clang-14 --version | head -n 1)"
printf '| target | executions | edges | inputs kept | peak MiB | CPU s | findings |\n|---|---|---|---|---|---|---|\n'
while read -r target longest; do
    [ -z "${LLM_SOAK_TARGETS-}" ] || grep -qw "$target" <<<"$LLM_SOAK_TARGETS" || continue
    printf '%s %s\n' "$target" "$longest"
done <"$build/tests/fuzz/targets.txt" | xargs -P "$(nproc)" -L 1 bash -c 'soak "$@"' soak
