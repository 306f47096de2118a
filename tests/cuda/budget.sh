#!/bin/sh
# budget.sh NVCC - every kernel source compiles for every target, within kernels/cuda/budget.txt: registers and static
# shared memory at most as listed, nothing spilled, no stack frame. Skipped where nvcc is not installed.
set -eu
nvcc=${1-}
cd "$(dirname "$0")/../.."
if [ ! -x "$nvcc" ]; then
    echo "skipped: no nvcc here (install the CUDA toolkit, or set CUDAToolkit_ROOT)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One line per kernel variant and target: SOURCE KERNEL REGISTERS SHARED STACK SPILLED
compile() {
    for target in 80 90a; do
        "$nvcc" -std=c++17 -O3 -fmad=false -I. -Xcompiler=-Wall,-Wextra --Werror all-warnings \
            -gencode="arch=compute_$target,code=sm_$target" -Xptxas=-v -cubin "$1" \
            -o "$work/$(basename "$1").$target" 2>"$work/$(basename "$1").$target.log" || {
            cat "$work/$(basename "$1").$target.log"
            return 1
        }
        awk -v source="$(basename "$1")" '
            /Compiling entry function/ {
                split($0, part, "\047"); name = part[2]
                match(name, /^_Z[0-9]+/)
                kernel = substr(name, RLENGTH + 1, substr(name, 3, RLENGTH - 2) + 0)
            }
            /bytes stack frame/ { stack = $1; spilled = $5 + $9 }
            /Used [0-9]+ registers/ {
                shared = 0
                for (i = 2; i <= NF; i++) {
                    if ($i == "registers,") registers = $(i - 1)
                    if ($i ~ /^smem/) shared = $(i - 2)
                }
                print source, kernel, registers, shared, stack, spilled
            }' "$work/$(basename "$1").$target.log" >>"$work/$(basename "$1").table"
    done
}

status=0
running=0
for source in kernels/cuda/*.cu; do
    compile "$source" &
    running=$((running + 1))
    if [ $((running % 2)) -eq 0 ]; then wait; fi
done
wait
for source in kernels/cuda/*.cu; do
    [ -s "$work/$(basename "$source").table" ] || { echo "$source does not compile"; status=1; }
done
cat "$work"/*.table >"$work/all"
awk '
    FNR == NR { if ($1 !~ /^#/ && NF == 3) { registers[$1] = $2; shared[$1] = $3 } next }
    !($2 in registers) { print $1 ": " $2 " has no line in kernels/cuda/budget.txt"; bad = 1; next }
    {
        seen[$2] = 1
        if ($3 > most[$2]) most[$2] = $3
        if ($3 > registers[$2]) { print $2 " takes " $3 " registers, " registers[$2] " are its budget"; bad = 1 }
        if ($4 > shared[$2]) { print $2 " takes " $4 " bytes of shared memory, " shared[$2] " are its budget"; bad = 1 }
        if ($5 + $6 > 0) { print $2 " has a stack frame of " $5 " bytes and spills " $6; bad = 1 }
    }
    END {
        for (kernel in registers) {
            if (!(kernel in seen)) { print kernel " is in the budget and in no source"; bad = 1 }
            else printf "%-24s %3d of %3d registers\n", kernel, most[kernel], registers[kernel]
        }
        exit bad
    }' kernels/cuda/budget.txt "$work/all" || status=1
[ -z "${BUDGET_TABLE-}" ] || cp "$work/all" "$BUDGET_TABLE"
exit $status
