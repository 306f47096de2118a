#!/bin/sh
# genmc.sh - every harness genmc_*.c under RC11 and IMM; exit code 77 without genmc (GENMC names another one).
#
# The first comment of a harness lists its runs as a model's does (spin.sh): "holds NAMES", "fails NAMES", and perhaps the
# compiler's "Options". Mutants are run under RC11 only; IMM is the model of what compilers may emit for Arm and POWER.
set -eu
cd "$(dirname "$0")/../.."
genmc=${GENMC:-genmc}
broken=0

command -v "$genmc" >/dev/null || {
    echo "skipped: needs genmc (github.com/MPI-SWS/genmc; not in Debian)"
    exit 77
}

# run_one HARNESS EXPECTED NAMES MODEL
run_one() {
    defines=
    [ "$3" = - ] || defines=-D$(printf '%s' "$3" | sed 's/,/ -D/g')
    options=$(sed -n 's/^ \* Options  *\(-[^ ]*\).*/\1/p' "$1")
    code=0
    # shellcheck disable=SC2086
    said=$(timeout 120 "$genmc" --disable-estimation --"$4" -- -std=c11 -D_GNU_SOURCE -w -I. $options $defines "$1" 2>&1) || code=$?
    executions=$(printf '%s\n' "$said" | sed -n 's/^Number of complete executions explored: //p')
    case $2:$said in
    holds:*'No errors were detected'*) echo "$1 $3 $4: holds in all $executions executions" ;;
    fails:*'Verification unsuccessful'*) echo "$1 $3 $4: fails as it must" ;;
    *)
        printf '%s\n' "$said" | tail -n 25
        echo "$1 $3 $4: $2 was expected (exit code $code)"
        broken=1
        ;;
    esac
}

for harness in tests/proof/genmc_*.c; do
    while read -r expected names; do
        run_one "$harness" "$expected" "$names" rc11
        [ "$expected" = fails ] || run_one "$harness" "$expected" "$names" imm
    done <<EOF2
$(sed -n 's/^ \*   \(holds\|fails\)  *\([A-Z_,-]*\).*/\1 \2/p' "$harness")
EOF2
done
exit $broken
