#include "daemon/engine/rows.h"

#include <string.h>
#include <sys/mman.h>

#include "daemon/engine/journal.h"
#include "shm/check.h"

void rows_init(struct rows *rows, struct llm_ctxrow_record *records, uint32_t *ids, uint32_t count,
               uint32_t context_tokens_max, struct row *own, struct users *users)
{
    *rows = (struct rows){.records = records,
                          .ids = ids,
                          .own = own,
                          .users = users,
                          .count = count,
                          .context_tokens_max = context_tokens_max,
                          .free_first = LLM_ROW_NONE};
}

static uint32_t *ids_of(const struct rows *rows, uint32_t row)
{
    return rows->ids + (size_t)row * rows->context_tokens_max;
}

static uint32_t end_of(const struct rows *rows, uint32_t row)
{
    return atomic_load_explicit(&rows->records[row].end, memory_order_acquire);
}

static bool is_live(const struct rows *rows, uint32_t row)
{
    return llm_word_state(atomic_load_explicit(&rows->records[row].word, memory_order_acquire)) ==
           LLM_CTXROW_LIVE;
}

/* ---- Free rows ------------------------------------------------------------------------------------------- */

/* Whole pages of ids `from`..`to` of the table go back to the system; they read as zero afterwards. */
static void give_back(const struct rows *rows, size_t from, size_t to)
{
    uintptr_t first = (uintptr_t)(rows->ids + from) + LLM_PAGE_BYTES - 1;
    uintptr_t end = (uintptr_t)(rows->ids + to);
    first -= first % LLM_PAGE_BYTES;
    end -= end % LLM_PAGE_BYTES;
    if (first < end) /* advice: refused, it costs memory until the row is used again */
        madvise((char *)rows->ids + (first - (uintptr_t)rows->ids), end - first, MADV_REMOVE);
}

/* Pages that hold some of the row's ids and nobody else's: those before `start` were never touched. */
static void give_back_row(const struct rows *rows, uint32_t row, uint32_t start, uint32_t touched)
{
    uint32_t page = LLM_PAGE_BYTES / sizeof(uint32_t);
    uint32_t from = start > page ? start - page : 0;
    uint32_t room = rows->context_tokens_max - touched;
    size_t base = (size_t)row * rows->context_tokens_max;
    give_back(rows, base + from, base + touched + (room < page ? room : page));
}

static void put_free(struct rows *rows, uint32_t row)
{
    rows->own[row] = (struct row){.next = rows->free_first};
    rows->free_first = row;
}

/* Nobody reaches it any more. Returns its parent, which it does not reach any more either. */
static uint32_t free_row(struct rows *rows, uint32_t row)
{
    struct llm_ctxrow_record *record = &rows->records[row];
    struct row *own = &rows->own[row];
    uint32_t parent = record->parent;
    journal_row_free(record);
    give_back_row(rows, row, record->start, own->touched);
    rows->users->rows[own->owner].context_tokens -= end_of(rows, row) - record->start;
    rows->live--;
    put_free(rows, row);
    users_settle(rows->users);
    return parent;
}

/* ---- Places ---------------------------------------------------------------------------------------------- */

struct row_place rows_cut(const struct rows *rows, struct row_place place, uint32_t length)
{
    CHECK(length <= place.length);
    while (place.row != LLM_ROW_NONE && length <= rows->records[place.row].start)
        place.row = rows->records[place.row].parent;
    return (struct row_place){place.row, length};
}

static void note_shared(struct row *own, uint32_t end)
{
    if (end > own->shared_end)
        own->shared_end = end;
}

void rows_hold(struct rows *rows, struct row_place place)
{
    if (place.row == LLM_ROW_NONE)
        return;
    rows->own[place.row].references++;
    note_shared(&rows->own[place.row], place.length);
}

void rows_drop(struct rows *rows, uint32_t row)
{
    while (row != LLM_ROW_NONE) {
        CHECK(rows->own[row].references > 0);
        if (--rows->own[row].references > 0) {
            if (rows->own[row].references == 1)
                rows->own[row].shared_end = 0;
            return;
        }
        row = free_row(rows, row);
    }
}

void rows_trim(struct rows *rows, struct row_place place)
{
    if (place.row == LLM_ROW_NONE || rows->own[place.row].references != 1)
        return;
    uint32_t before = end_of(rows, place.row);
    CHECK(place.length <= before);
    if (place.length == before)
        return;
    journal_row_end(&rows->records[place.row], place.length);
    rows->users->rows[rows->own[place.row].owner].context_tokens -= before - place.length;
}

void rows_copy(const struct rows *rows, struct row_place place, uint32_t from, uint32_t count,
               uint32_t *out_ids)
{
    CHECK(from <= place.length && count <= place.length - from);
    uint32_t end = from + count; /* from the last row to the first */
    for (uint32_t row = place.row; end > from; row = rows->records[row].parent) {
        uint32_t start = rows->records[row].start;
        uint32_t first = start > from ? start : from;
        if (first >= end)
            continue; /* all of it is further up */
        memcpy(out_ids + (first - from), ids_of(rows, row) + first,
               (end - first) * sizeof(uint32_t));
        end = first;
    }
}

uint32_t rows_shared(const struct rows *rows, struct row_place place)
{
    uint32_t limit = place.length;
    for (uint32_t row = place.row; row != LLM_ROW_NONE; row = rows->records[row].parent) {
        const struct row *own = &rows->own[row];
        if (own->references > 1)
            return own->shared_end < limit ? own->shared_end : limit;
        limit = rows->records[row].start;
    }
    return 0;
}

/* ---- Appending ------------------------------------------------------------------------------------------- */

/* The row goes on where the place ends: nobody's ids are there, or ids that only this place's context could still have
 * read, before it was rewound. */
static bool can_go_on(const struct rows *rows, struct row_place from, uint32_t owner)
{
    return from.row != LLM_ROW_NONE && rows->own[from.row].owner == owner &&
           (end_of(rows, from.row) == from.length || rows->own[from.row].references == 1);
}

static struct row_place go_on(struct rows *rows, struct row_place from, const uint32_t *ids,
                              uint32_t count)
{
    struct llm_ctxrow_record *record = &rows->records[from.row];
    struct row *own = &rows->own[from.row];
    uint32_t before = end_of(rows, from.row), end = from.length + count;
    memcpy(ids_of(rows, from.row) + from.length, ids, count * sizeof *ids);
    journal_row_end(record, end);
    rows->users->rows[own->owner].context_tokens += (uint64_t)end - before; /* less: modulo 2^64 */
    own->touched = end > own->touched ? end : own->touched;
    return (struct row_place){from.row, end};
}

static struct row_place begin_row(struct rows *rows, struct row_place from, uint32_t owner,
                                  const uint32_t *ids, uint32_t count)
{
    uint32_t row = rows->free_first, end = from.length + count;
    CHECK(row != LLM_ROW_NONE); /* see "Count" in rows.h */
    struct row *own = &rows->own[row];
    bool whole = from.row == LLM_ROW_NONE || rows->own[from.row].chain == ROWS_CHAIN_MAX;
    uint32_t start = whole ? 0 : from.length;
    rows->free_first = own->next;
    if (whole)
        rows_copy(rows, from, 0, from.length, ids_of(rows, row));
    memcpy(ids_of(rows, row) + from.length, ids, count * sizeof *ids);
    journal_row_live(&rows->records[row], whole ? LLM_ROW_NONE : from.row, start, end,
                     rows->users->rows[owner].uid);
    *own = (struct row){.references = 1,
                        .chain = whole ? 1 : rows->own[from.row].chain + 1,
                        .owner = owner,
                        .touched = end};
    if (!whole)
        rows_hold(rows, from);
    rows->users->rows[owner].context_tokens += end - start;
    rows->live++;
    return (struct row_place){row, end};
}

struct row_place rows_append(struct rows *rows, struct row_place from, uint32_t owner,
                             const uint32_t *ids, uint32_t count)
{
    CHECK(count > 0 && count <= rows->context_tokens_max - from.length);
    return can_go_on(rows, from, owner) ? go_on(rows, from, ids, count)
                                        : begin_row(rows, from, owner, ids, count);
}

/* ---- After an engine's death ------------------------------------------------------------------------------ */

void rows_reset(struct rows *rows)
{
    memset(rows->own, 0, rows->count * sizeof *rows->own);
    rows->free_first = LLM_ROW_NONE;
    rows->live = 0;
}

/* The chain of rows really has the tokens 0..length-1. */
static bool is_whole(const struct rows *rows, struct row_place place)
{
    uint32_t row = place.row, limit = place.length;
    for (uint32_t chain = 0; row != LLM_ROW_NONE; chain++) {
        if (row >= rows->count || chain == ROWS_CHAIN_MAX || !is_live(rows, row))
            return false;
        const struct llm_ctxrow_record *record = &rows->records[row];
        uint32_t end = end_of(rows, row);
        if (record->start >= limit || limit > end || end > rows->context_tokens_max)
            return false;
        limit = record->start;
        row = record->parent;
    }
    return limit == 0;
}

/* `touched` is how far the furthest user reads, `shared_end` how far the next one does. */
static void note_reader(struct row *own, uint32_t end)
{
    own->references++;
    if (end > own->touched) {
        own->shared_end = own->touched;
        own->touched = end;
    } else {
        note_shared(own, end);
    }
}

bool rows_adopt(struct rows *rows, struct row_place place)
{
    if (!is_whole(rows, place))
        return false;
    uint32_t limit = place.length;
    for (uint32_t row = place.row; row != LLM_ROW_NONE; row = rows->records[row].parent) {
        note_reader(&rows->own[row], limit);
        if (rows->own[row].references > 1)
            break; /* its own reference to its parent is counted */
        limit = rows->records[row].start;
    }
    return true;
}

static void settle_live(struct rows *rows, uint32_t row, rows_user *user, void *self)
{
    struct llm_ctxrow_record *record = &rows->records[row];
    struct row *own = &rows->own[row];
    uint32_t written = end_of(rows, row);
    if (written > own->touched)
        journal_row_end(record, own->touched);
    own->chain = 1;
    for (uint32_t up = record->parent; up != LLM_ROW_NONE; up = rows->records[up].parent)
        own->chain++;
    own->owner = user(self, record->uid);
    rows->users->rows[own->owner].context_tokens += own->touched - record->start;
    own->touched = written;
    rows->live++;
}

void rows_settle(struct rows *rows, rows_user *user, void *self)
{
    size_t stride = rows->context_tokens_max;
    uint32_t run = rows->count; /* free rows from here on were not given back yet */
    for (uint32_t row = rows->count; row-- > 0;) {
        if (rows->own[row].references > 0) {
            settle_live(rows, row, user, self);
            give_back(rows, (row + 1) * stride, run * stride);
            run = row;
            continue;
        }
        if (is_live(rows, row))
            journal_row_free(&rows->records[row]);
        put_free(rows, row);
    }
    give_back(rows, 0, run * stride);
}

/* ---- The walk -------------------------------------------------------------------------------------------- */

static enum llm_status row_sane(const struct rows *rows, uint32_t row, const uint32_t *references,
                                struct llm_error *error)
{
    const struct row *own = &rows->own[row];
    if (own->references != references[row])
        return llm_fail(error, LLM_ERR_CORRUPT, "row %u has %u references, %u are counted", row,
                        references[row], own->references);
    if (is_live(rows, row) != (own->references > 0))
        return llm_fail(error, LLM_ERR_CORRUPT, "row %u is %s, %u use it", row,
                        is_live(rows, row) ? "live" : "free", own->references);
    if (own->references > 0 &&
        (own->chain > ROWS_CHAIN_MAX || rows->records[row].start >= end_of(rows, row) ||
         end_of(rows, row) > own->touched))
        return llm_fail(error, LLM_ERR_CORRUPT, "row %u is the %uth of its chain, from %u to %u",
                        row, own->chain, rows->records[row].start, end_of(rows, row));
    return LLM_OK;
}

enum llm_status rows_sane(const struct rows *rows, uint32_t *references, struct llm_error *error)
{
    uint32_t live = 0, free_count = 0;
    for (uint32_t row = 0; row < rows->count; row++)
        if (rows->own[row].references > 0) {
            live++;
            if (rows->records[row].parent != LLM_ROW_NONE)
                references[rows->records[row].parent]++;
        }
    for (uint32_t row = rows->free_first; row != LLM_ROW_NONE && free_count <= rows->count;
         row = rows->own[row].next)
        free_count++;
    if (live != rows->live || live + free_count != rows->count)
        return llm_fail(error, LLM_ERR_CORRUPT, "%u rows are live (%u counted), %u free, of %u",
                        live, rows->live, free_count, rows->count);
    enum llm_status status = LLM_OK;
    for (uint32_t row = 0; row < rows->count && status == LLM_OK; row++)
        status = row_sane(rows, row, references, error);
    return status;
}
