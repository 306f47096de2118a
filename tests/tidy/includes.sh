#!/bin/sh
# includes.sh - who may include whom, checked against every #include "folder/..." in the tree.
#
# The order is the one of the figure in docs/ARCHITECTURE.md:
#   tools --> client --> shm <-- daemon --> kernels --> shm (status.h, check.h)    tests --> anything
# A line of may_include is a folder and a pattern of what its files may include; a deeper folder has a
# line of its own and is not judged by its parent's.
set -eu
cd "$(dirname "$0")/../.."
broken=0

# may_include FOLDER PATTERN [DEEPER FOLDER THAT HAS ITS OWN LINE]
may_include() {
    [ -d "$1" ] || return 0
    wrong=$(find "$1" ${3:+-path "$3" -prune -o} -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.inc' \) -print |
        xargs -r grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' |
        grep -vE "include[[:space:]]*\"($2)" || true)
    if [ -n "$wrong" ]; then
        printf '%s\n' "$wrong" | sed "s|\$|   <- $1/ may include only $2|"
        broken=1
    fi
}

may_include shm         'shm/'
may_include kernels     'kernels/|shm/(status|check)\.h"'
may_include client      '(client|shm)/'
may_include daemon/core 'daemon/core/|shm/(status|check)\.h"'
may_include daemon      '(daemon|shm|kernels)/'                    daemon/core
may_include tools       '(tools|client|shm|kernels)/'
may_include tests       '(tests|tools|client|daemon|shm|kernels)/'

[ $broken -eq 0 ] && echo "includes: every #include points the right way"
exit $broken
