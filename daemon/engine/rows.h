/*
 * rows.h - the token ids of contexts, shared between those that begin alike.
 *
 * Idea     A row is a run of ids by absolute position: ids[p] for start <= p < end; what stands before `start` is its
 *          parent's. A context names a place: a row and a length. To fork is to name the same place again; who
 *          appends at a row's end writes on in place, and whoever finds others' ids there begins a new row behind the
 *          common part. So ids below anybody's length never change, and nothing is copied but when a chain of rows
 *          would be longer than ROWS_CHAIN_MAX: then the new row holds all of its ids.
 * Count    No place is longer than ROWS_CHAIN_MAX rows, so ROWS_CHAIN_MAX rows for each context, and one to write
 *          the next version in, are always enough: nobody's appending can be stopped by what others have.
 * Crash    ids, then the row's `end` or its word, then (contexts.c) the context's version. A row that no context
 *          reaches, and ids beyond what any of them has, are forgotten by rows_settle().
 * Owner    The engine thread. Records and ids are the keeper's tables ctxrow and ctxids; references, counted here, are
 *          those of contexts (their LIVE version) and of rows (their parent).
 * Errors   Places must be valid: of a context's version, or made by these functions.
 * See      shm/tables.h, journal.h, users.h, tests/daemon/test_rows.c.
 */
#ifndef LLMD_ENGINE_ROWS_H
#define LLMD_ENGINE_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/users.h"
#include "shm/status.h"
#include "shm/tables.h"

#define ROWS_CHAIN_MAX 4u

static inline uint32_t rows_needed(uint32_t contexts)
{
    return contexts * ROWS_CHAIN_MAX + 1;
}

/* The first `length` tokens that end in `row`. Empty: LLM_ROW_NONE and 0; else row.start < length <= row.end. */
struct row_place {
    uint32_t row;
    uint32_t length;
};

struct row { /* the private half of a row */
    uint32_t references;
    uint32_t chain;      /* rows from the first token to this one, 1.. */
    uint32_t owner;      /* who wrote it, in the ledger of users */
    uint32_t shared_end; /* with more than one reference: at most so far it is anybody else's */
    uint32_t touched;    /* ids below it were written: what is given back when it is free */
    uint32_t next;       /* in the list of free rows */
};

struct rows {
    /* constant after rows_init() */
    struct llm_ctxrow_record *records; /* [count] */
    uint32_t *ids;                     /* [count][context_tokens_max] */
    struct row *own;                   /* [count] */
    struct users *users;               /* who writes a row is charged for its tokens */
    uint32_t count;
    uint32_t context_tokens_max;
    /* engine thread */
    uint32_t free_first; /* LLM_ROW_NONE: none is free */
    uint32_t live;
};

/* Over tables and `own` [count]; nothing counts before rows_settle(). */
void rows_init(struct rows *rows, struct llm_ctxrow_record *records, uint32_t *ids, uint32_t count,
               uint32_t context_tokens_max, struct row *own, struct users *users);

/* ---- Places ---------------------------------------------------------------------------------------------- */

/* Its first `length` tokens, 0..place.length. Takes no reference. */
struct row_place rows_cut(const struct rows *rows, struct row_place place, uint32_t length);
/* Another context names it, too. */
void rows_hold(struct rows *rows, struct row_place place);
/* One context less names a place in `row` (LLM_ROW_NONE: nothing to do); rows that nobody reaches are free. */
void rows_drop(struct rows *rows, uint32_t row);
/* A context's version was rewound to this place: what only it could read behind it is nobody's, and charged no more. */
void rows_trim(struct rows *rows, struct row_place place);
/* Copy ids of positions from..from+count-1, all below place.length. */
void rows_copy(const struct rows *rows, struct row_place place, uint32_t from, uint32_t count,
               uint32_t *out_ids);
/* At most so many of its first tokens are in rows that another context reaches. */
uint32_t rows_shared(const struct rows *rows, struct row_place place);

/*
 * Put `count` ids (1..; length + count is at most context_tokens_max) behind a place that the caller has a reference of.
 *
 *   owner     whose row is written to, in the ledger
 *   returns   the new place. In another row than `from`: with a reference of its own, and the one of `from` is still to be
 *             dropped, after the version that names the new place counts.
 */
struct row_place rows_append(struct rows *rows, struct row_place from, uint32_t owner,
                             const uint32_t *ids, uint32_t count);

/* ---- After an engine's death: reset, adopt each context's place, settle -------------------------------------- */

void rows_reset(struct rows *rows);
/* A context's version says that it has this place. False, and no reference, when the rows do not hold it. */
bool rows_adopt(struct rows *rows, struct row_place place);
/* The row of `uid` in the ledger of users. */
typedef uint32_t rows_user(void *self, uint32_t uid);
/* What was not adopted is free: rows, and ids behind the last place. */
void rows_settle(struct rows *rows, rows_user *user, void *self);

/* Counts and lists fit together; `references` [count] are those of contexts, recounted by the caller, and are added to.
 * LLM_OK, LLM_ERR_CORRUPT. */
enum llm_status rows_sane(const struct rows *rows, uint32_t *references, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
