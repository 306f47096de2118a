/*
 * request.h - one request: how many tokens it has, how many are computed, which blocks hold them.
 *
 * Idea     A request is two counters over one row of ids: `tokens` known (prompt, then answer) and `computed`,
 *          the rows that lie in blocks. What it wants is the difference: many before its prompt is computed,
 *          one while it answers. There are no phases beyond that, and a preemption is computed = 0.
 *
 *              ids     [ prompt . . . . . . . . . | answer . . ]        tokens = 13
 *              rows    [ . . . . | . . . . | . . . . ]                  computed = 12, wants 1
 *              blocks      b0        b1        b2                       position p: blocks[p / block_tokens]
 *
 *          Only the last block may be partly filled, so only that one is written; the others are sealed and
 *          shared. The request holds one reference, to its last block, and through it the whole chain.
 * Kinds    A request that chooses no tokens knows all of its ids from the start: COMPUTE wants a row for each,
 *          SCORE for each but the last, whose logits would say nothing of the prompt. Rows whose logits are
 *          scored must be computed; all others may be found.
 * Waiting  A request that stands where a block ends, and whose next block another is filling with the same ids,
 *          sits out until that block is sealed, or its maker is gone (request_is_made_by).
 * Lag      Rows of plans that are out are `flying`: they follow those that are computed, and the next plan's follow them. Ids that
 *          those plans choose are `pending`: counted, not known.
 * Owner    core.c owns the table; each request is in one list of the scheduler, or in none when free.
 * Threads  The engine thread.
 * See      scheduler.h, kv_cache.h, README.md ("Life of a request").
 */
#ifndef LLMD_CORE_REQUEST_H
#define LLMD_CORE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/core.h"
#include "daemon/core/kv_cache.h"

enum request_state {
    REQUEST_FREE = 0,
    REQUEST_QUEUED,    /* in its user's queue: never started */
    REQUEST_PREEMPTED, /* in its user's list of preempted requests; holds no block */
    REQUEST_RUNNING
};

struct request {
    uint64_t request_id;
    uint64_t order;   /* when it first ran; 0: not yet. The smaller, the elder */
    uint32_t *ids;    /* [tokens_end] the engine's row; constant after open */
    block_id *blocks; /* [block_count] constant after open */
    struct prefix_root root;
    struct prefix_share shares[PREFIX_SHARES_MAX]; /* the wider first */
    enum request_state state;
    enum core_request_kind kind;
    enum core_finish end;    /* why it ends at tokens_end: LENGTH or CONTEXT */
    enum core_finish ending; /* it is over; it ends with the last plan that names it */
    uint32_t uid;
    /* the scheduler's */
    uint32_t user;          /* its entry in the turns */
    uint32_t rank;          /* its class: 0..TURN_CLASSES-1, the lower the more entitled */
    uint64_t arrival;       /* 1, 2, 3, ... in the order of admission */
    uint64_t arrival_plan;  /* plans made before that */
    uint64_t start_plan;    /* the plan in which it last started */
    uint32_t queued_tokens; /* what it counts for in its queue */
    uint32_t maker;         /* in the last plan: whom it waited for; REQUEST_NONE */
    bool hungry;            /* while a plan is made: may have more tokens of it */
    uint32_t block_tokens;
    uint32_t prompt_tokens;
    uint32_t tokens;         /* known: prompt + generated; SCORE: all of the prompt but its last */
    uint32_t tokens_end;     /* where it ends at the latest */
    uint32_t computed;       /* rows written */
    uint32_t computed_peak;  /* the most it ever had computed, before preemptions */
    uint32_t cached_tokens;  /* of the prompt, found instead of computed the first time */
    uint32_t scored;         /* SCORE: positions below it are scored, or not asked for */
    uint32_t flying_tokens;  /* rows in plans that are out */
    uint32_t planned_tokens; /* rows in the plan that is being made */
    uint32_t pending_tokens; /* ids that plans that are out choose, one each */
    uint32_t block_count;    /* for the rows computed, flying and planned */
    uint32_t sealed_count;   /* leading blocks that are sealed: computed / block_tokens */
    uint32_t prev, next;     /* in its list; REQUEST_NONE at the ends */
    bool spoiled;            /* a step of it failed: its unsealed rows count for nothing */
};

/* Rows that fit the blocks it has. */
static inline uint32_t request_room(const struct request *r)
{
    return r->block_count * r->block_tokens;
}
static inline uint32_t request_blocks_for(const struct request *r, uint32_t rows)
{
    return rows / r->block_tokens + (rows % r->block_tokens != 0);
}

/* Rows it ever needs: the last token that is generated is never fed back. */
static inline uint32_t request_rows_end(const struct request *r)
{
    return r->kind == CORE_GENERATE ? r->tokens_end - 1 : r->tokens_end;
}
/* The first row that is in no plan yet, but for the one that is being made. */
static inline uint32_t request_next_row(const struct request *r)
{
    return r->computed + r->flying_tokens;
}
/* Rows for a plan: of known ids, and of those that plans that are out will choose. */
static inline uint32_t request_wants(const struct request *r)
{
    uint32_t known = r->tokens + r->pending_tokens;
    uint32_t end = known < request_rows_end(r) ? known : request_rows_end(r);
    return r->ending != CORE_FINISH_NONE ? 0 : end - request_next_row(r);
}
/* Of `rows` planned rows, those whose logits are scored: the row at p says how likely the id at p + 1 is. */
uint32_t request_scored_rows(const struct request *r, uint32_t rows);
/* As many of the `rows` next rows as score at most `scored_max`. */
uint32_t request_rows_scoring(const struct request *r, uint32_t rows, uint32_t scored_max);

/* The root of the block that begins at `position`: it says where that is sealed. */
struct prefix_root request_root_at(const struct request *r, uint32_t position);

/* Skip what is already computed somewhere: extend the table by the full blocks that the cache holds for the tokens
 * that follow, but leave at least one token to compute. Returns the tokens skipped. */
uint32_t request_match(struct request *r, struct kv_cache *cache);
/* Where no full block is found: take a block with the leading rows of one that begins like the tokens that follow. Leaves
 * one to compute as well. Returns the tokens skipped; 0 also when no block can be had. */
uint32_t request_copy(struct request *r, struct kv_cache *cache);
/* Is `maker`, which runs, filling the block number `at` of a chain, behind block `before`, that will hold `ids`
 * [block_tokens], and may `reader` use it? */
bool request_makes(const struct request *maker, const struct prefix_root *reader, uint32_t at,
                   block_id before, const uint32_t *ids);
/* Does `r` stand where a block ends, and would it use the next one whole if another made it? If so: does `maker` make it? */
bool request_may_wait(const struct request *r);
bool request_is_made_by(const struct request *r, const struct request *maker);
/* Note that `tokens`, just matched, are used: counted once, however often the request is preempted. */
void request_credit(struct request *r, uint32_t tokens);
/* One more block at the end. False: the pool has none to give. */
bool request_grow(struct request *r, struct kv_cache *cache);
/* `rows` more rows are written: count them and seal the blocks they filled. */
void request_advance(struct request *r, uint32_t rows, struct kv_cache *cache);
/* Append a generated id. NONE, or LENGTH or CONTEXT when it was the last. */
enum core_finish request_append(struct request *r, uint32_t token);
/* Give all blocks back; what is sealed stays findable, and a last block that is partly filled is sealed. No plan that is
 * out names it. */
void request_release(struct request *r, struct kv_cache *cache);

/* "Counters, table and blocks fit together, and every sealed block holds the request's own ids, for everybody in the
 * domain it seals in." */
enum llm_status request_sane(const struct request *r, const struct kv_cache *cache,
                             struct llm_error *error) LLM_MUST_CHECK;

/* ---- Lists of requests: intrusive, each request in at most one --------------------------------------- */

struct request_list {
    uint32_t head, tail, count;
};
#define REQUEST_LIST_EMPTY ((struct request_list){REQUEST_NONE, REQUEST_NONE, 0})

void request_list_append(struct request_list *list, struct request *requests, uint32_t slot);
/* Before the first with a larger `order`, looked for from the end. */
void request_list_insert(struct request_list *list, struct request *requests, uint32_t slot);
void request_list_remove(struct request_list *list, struct request *requests, uint32_t slot);

#endif
