#!/bin/sh
# spin.sh - one model, one way of running it.
#
#   spin.sh MODEL.pml holds NAME,NAME,...          nothing may go wrong, whatever the order of things
#   spin.sh MODEL.pml fails NAME,NAME,... HOW      something must: HOW is "assertion" or "deadlock"
#
# The names are defined for the model ("-": none); its first comment lists what there is. Exit code 77: no spin.
# A run that did not look at everything (memory, depth, time) is a failure either way.
set -eu
model=$1 expected=$2 names=$3 how=${4-}
seconds=${PROOF_SECONDS:-100}

for tool in spin cc timeout; do
    command -v $tool >/dev/null || {
        echo "skipped: needs $tool (Debian: apt-get install spin gcc)"
        exit 77
    }
done

source=$(cd "$(dirname "$model")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$source"/*.pml "$folder"
cd "$folder"

defines=
[ "$names" = - ] || defines=-D$(printf '%s' "$names" | sed 's/,/ -D/g')
# shellcheck disable=SC2086 # each define is a word of its own
spin -a $defines "$(basename "$model")" >spin.log 2>&1 || {
    cat spin.log
    echo "$(basename "$model") $names: spin does not accept the model"
    exit 1
}
cc -O1 -w -DSAFETY -DCOLLAPSE -DVECTORSZ=4096 -DMEMLIM=1500 -o pan pan.c
code=0
timeout "$seconds" ./pan -m400000 -w22 -n >pan.log 2>&1 || code=$?

verdict() { # verdict EXIT-CODE SENTENCE
    echo "$(basename "$model") $names: $2"
    if [ "$1" -ne 0 ]; then
        cat pan.log
        # shellcheck disable=SC2015
        [ -f "$(basename "$model").trail" ] && ./pan -r -n 2>/dev/null | tail -n 60 || true
    fi
    exit "$1"
}

[ $code -ne 124 ] || verdict 1 "not looked at completely within $seconds seconds (PROOF_SECONDS)"
states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log)
if grep -q 'errors: 0$' pan.log; then
    ! grep -qE 'max search depth too small|out of memory|Search not completed' pan.log ||
        verdict 1 "not looked at completely"
    [ "$expected" = holds ] || verdict 1 "passes, although it must fail: the model proves too little"
    verdict 0 "holds in all $states states"
fi
found=
! grep -q '^pan:.*assertion violated' pan.log || found=assertion
! grep -q '^pan:.*invalid end state' pan.log || found=deadlock
[ -n "$found" ] || verdict 1 "no verdict"
[ "$expected" = fails ] || verdict 1 "goes wrong: $found"
[ "$found" = "$how" ] || verdict 1 "fails by $found, and should by $how"
verdict 0 "fails as it must: $(sed -n 's/^pan:[0-9]*: *//p' pan.log | head -n 1)"
