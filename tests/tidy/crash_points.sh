#!/bin/sh
# crash_points.sh - every store that recovery relies on has a crash point beside it.
#
# In the files below, a line that stores atomically into shared memory (atomic_store, atomic_fetch_..., or a helper named here)
# must be followed by a CRASH_POINT within the next five lines and before the next store, or be one of the exceptions: FILE TEXT with the reason. An
# exception that fits no line any more is an error too, and so is a name of the list (shm/crash_point.h) that stands at no
# place, or at two.
set -eu
cd "$(dirname "$0")/../.."
broken=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/files" <<'END'
shm/queue.c
shm/stream.c        commit
shm/event.c
shm/wait.c
client/submit.c
client/slot_table.c
client/connection.c
client/waiting.c
client/stream.c
daemon/engine/journal.c     set_word change_state begin
daemon/engine/tables.c
daemon/engine/engine.c
daemon/engine/connection.c
daemon/engine/intake.c
daemon/engine/request.c
daemon/engine/follow.c
daemon/engine/on_context.c
daemon/engine/publish.c
daemon/engine/recovery.c
daemon/engine/report.c      store
daemon/keeper/status_page.c store
daemon/model/weights.c
END

# FILE|TEXT in the line|reason
cat >"$work/exceptions" <<'END'
shm/queue.c|atomic_compare_exchange_weak_explicit|claim(): its caller passes queue_claim when it succeeded
shm/stream.c|#define STORE|relaxed fields and log words: they count from the commit word on, and commit() has its points
shm/stream.c|atomic_store_explicit(&writer->record->commit,|commit(): its three callers have a point each
shm/stream.c|static void commit|the definition
client/slot_table.c|atomic_store_explicit(&stream->position|the process's own memory
client/slot_table.c|&table->end_count|the process's own memory
client/slot_table.c|&table->closing_branches|the process's own memory
client/submit.c|atomic_store_explicit(&stream->position|the process's own memory
client/connection.c|connection->bell_armed|the process's own memory
client/connection.c|connection->next_liveness_ns|the process's own memory
client/waiting.c|atomic_compare_exchange_strong_explicit|the process's own memory
daemon/engine/journal.c|static void|the definitions of the helpers
daemon/engine/journal.c|atomic_store_explicit(word, |set_word(): its callers have a point each
daemon/engine/journal.c|set_word(word, |change_state() and begin(): their callers have a point each
daemon/engine/journal.c|atomic_store_explicit(&row->queue_head, 0|part of a row that is nobody's: conn_fields follows
daemon/engine/request.c|atomic_store_explicit(&record->published, 0|part of a record that is not LIVE: req_record follows
client/slot_table.c|table->end_count|the process's own memory
client/slot_table.c|table->closing_branches|the process's own memory
daemon/engine/report.c|#define store|relaxed numbers for llmctl; no engine reads them to go on
daemon/engine/report.c|store(|the same
daemon/engine/report.c|atomic_store_explicit(&page->names_settled|the same
daemon/engine/report.c|atomic_store_explicit(&row->counted_id|the same
daemon/engine/report.c|atomic_store_explicit(&row->request_id|the same
daemon/engine/report.c|atomic_store_explicit(&entry->step|the same
daemon/engine/report.c|atomic_store_explicit(&entry->number|the same: only where its ring goes on
daemon/keeper/status_page.c|#define store|the definition
daemon/keeper/status_page.c|store(page->engine_|the first two of three: keeper_engine follows the last
daemon/keeper/status_page.c|store(keeper->status->keeper.connections_open|a number for llmctl
daemon/keeper/status_page.c|store(keeper->status->keeper.descriptors_|a number for llmctl
END

# check_file FILE HELPERS...: complaints about FILE's stores; which exceptions were needed goes to $work/used.
check_file() {
    file=$1
    shift
    if [ ! -f "$file" ]; then
        printf '%s is gone: tests/tidy/crash_points.sh lists it\n' "$file"
        return
    fi
    awk -v file="$file" -v helpers="$*" -v used="$work/used" '
        FILENAME == ARGV[1] { if (index($0, file "|") == 1) { split($0, part, "|"); text[++count] = part[2] } next }
        { line[FNR] = $0; lines = FNR }
        END {
            pattern = "(atomic_(store|exchange|compare_exchange|fetch_)[a-z_]*)"
            n = split(helpers, helper, " ")
            for (i = 1; i <= n; i++) pattern = pattern "|(^|[^a-z_.>])" helper[i] "\\("
            for (i = 1; i <= lines; i++) {
                if (line[i] !~ pattern || line[i] ~ /^[ ]*(\/?\*|\/\/)/) continue
                good = 0
                for (k = i; k <= i + 5 && k <= lines && !good; k++) {
                    if (k > i && line[k] ~ pattern) break
                    good = line[k] ~ /CRASH_POINT\(/
                }
                for (e = 1; e <= count; e++) if (index(line[i], text[e])) { good = 1; print file "|" text[e] >> used }
                if (!good) printf "%s:%d: a store without a CRASH_POINT beside it: %s\n", file, i, line[i]
            }
        }' "$work/exceptions" "$file"
}

: >"$work/used"
while read -r file helpers; do
    check_file "$file" $helpers
done <"$work/files" >"$work/complaints"

cut -d'|' -f1,2 "$work/exceptions" | while IFS= read -r exception; do
    grep -qxF -- "$exception" "$work/used" || printf 'an exception fits no line any more: %s\n' "$exception"
done >>"$work/complaints"

sed -n 's/^ *X(\([a-z_]*\), [A-Z]*).*/\1/p' shm/crash_point.h >"$work/names"
[ -s "$work/names" ] || echo "shm/crash_point.h: no list of names found" >>"$work/complaints"
find shm client daemon -name '*.c' -exec grep -hoE 'CRASH_POINT\([a-z_]+\)' {} + | sed 's/.*(\(.*\))/\1/' | sort >"$work/places"
while read -r name; do
    count=$(grep -cx "$name" "$work/places" || true)
    [ "$count" -eq 1 ] || printf 'crash point %s stands at %s places: exactly one\n' "$name" "$count"
done <"$work/names" >>"$work/complaints"

if [ -s "$work/complaints" ]; then
    cat "$work/complaints"
    broken=1
else
    echo "crash_points: $(wc -l <"$work/names") points; every store has one beside it or a reason"
fi
exit $broken
