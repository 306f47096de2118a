#!/bin/bash
# fuzz.sh - each fuzzer for LLM_SOAK_SECONDS (300) of CPU time, as many at once as there are cores.
# Run by `tools/test --soak fuzz`, which builds them. LLM_SOAK_TARGETS="toml json" runs only these.
#
# Counts are kept in build/fuzz/soak under a name made of the sources that are tested: a run that was interrupted, or
# ended too early, goes on where it was, and one with other sources begins anew. Inputs worth keeping lie in
# build/fuzz/corpus/<target>. An input that crashes lies in build/fuzz/findings, ends its target's run, and is named. The
# table goes to standard output.
set -u
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$project/build/fuzz
seconds=${LLM_SOAK_SECONDS:-300}
slice_s=${LLM_SOAK_SLICE_SECONDS:-60} # a run in pieces, since libFuzzer counts time on the wall
hang_s=${LLM_SOAK_HANG_SECONDS:-20}   # an input that takes longer is a finding; more where other work has the cores
sources=$(cd "$project" && git rev-parse HEAD:shm HEAD:client HEAD:daemon HEAD:tools/llmctl HEAD:tests/fuzz 2>/dev/null |
    sha1sum | cut -c 1-12)

# slice TARGET LONGEST: one piece; its executions, CPU milliseconds, peak MiB, edges and findings go to the counts.
slice() {
    local log=$build/soak/$1.log findings=0 times user system
    TIMEFORMAT='%3U %3S'
    times=$({ time "$build/bin/fuzz_$1" "$build/corpus/$1" -max_total_time="$slice_s" -max_len="$2" -timeout="$hang_s" \
        -len_control=0 -print_final_stats=1 -artifact_prefix="$build/findings/$1-" >"$log" 2>&1; } 2>&1) || findings=1
    read -r user system <<<"$(tail -n 1 <<<"$times")"
    printf '%s %d %s %s %d\n' "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
        $((10#${user/./} + 10#${system/./})) "$(sed -n 's/^stat::peak_rss_mb: *//p' "$log")" \
        "$(grep -aoE 'cov: [0-9]+' "$log" | tail -n 1 | cut -c 6-)" $findings >>"$build/soak/$1-$sources"
    [ $findings -eq 0 ]
}

# sum TARGET: executions, CPU seconds, peak MiB, edges, findings.
sum() {
    awk '{ n += $1; ms += $2; if ($3 > mib) mib = $3; if ($4 > edges) edges = $4; found += $5 }
         END { printf "%d %d %d %d %d\n", n, ms / 1000, mib, edges, found }' "$build/soak/$1-$sources"
}

# soak TARGET LONGEST: one row of the table, and exit code 1 if there was a finding.
soak() {
    local executions cpu_s peak_mib edges findings
    mkdir -p "$build/corpus/$1" "$build/findings" "$build/soak"
    touch "$build/soak/$1-$sources"
    while read -r executions cpu_s peak_mib edges findings <<<"$(sum "$1")" && [ "$cpu_s" -lt "$seconds" ]; do
        slice "$1" "$2" || break
    done
    read -r executions cpu_s peak_mib edges findings <<<"$(sum "$1")"
    printf '| %s | %d | %d | %d | %d | %d | %d |\n' "$1" "$executions" "$edges" \
        "$(find "$build/corpus/$1" -type f | wc -l)" "$peak_mib" "$cpu_s" "$findings"
    [ "$findings" -eq 0 ] || grep -aE 'ERROR|SUMMARY|CHECK failed|Test unit written' "$build/soak/$1.log" >&2
    [ "$findings" -eq 0 ]
}
export -f soak slice sum
export build seconds slice_s hang_s sources

if [ ! -s "$build/tests/fuzz/targets.txt" ]; then
    echo 'fuzz: there are no fuzzers in build/fuzz: they need clang-14 with libFuzzer' >&2
    exit 1
fi
printf '%s, commit %s, sources %s, %s, %s\n\n' "$(date -u +%Y-%m-%d)" \
    "$(git -C "$project" describe --always --dirty 2>/dev/null || echo unknown)" "$sources" \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(clang-14 --version | head -n 1)"
printf '| target | executions | edges | inputs kept | peak MiB | CPU s | findings |\n|---|---|---|---|---|---|---|\n'
while read -r target longest; do
    [ -z "${LLM_SOAK_TARGETS-}" ] || grep -qw "$target" <<<"$LLM_SOAK_TARGETS" || continue
    printf '%s %s\n' "$target" "$longest"
done <"$build/tests/fuzz/targets.txt" | xargs -P "$(nproc)" -L 1 bash -c 'soak "$@"' soak
