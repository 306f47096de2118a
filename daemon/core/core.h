/*
 * core.h - the pure state machine that decides what every step computes.
 *
 * Idea     Requests go in, step plans come out, results go back in. The core knows token counts, blocks and
 *          users; it has no clock, calls no system, touches no device and takes no memory after core_open().
 *          Whatever it changes that must survive an engine is said in a list of effects. So the same code
 *          runs under the engine and under a simulator that plays thousands of seeds a minute.
 *
 *            core_admit ──> waiting ──core_plan──> running ──core_complete──> finished
 *                              ^                      |                      (stop, length, context,
 *                              └──── preempted ───────┘                       cancelled, failed)
 *
 * Calls    Each call that changes something (admit, cancel, plan, complete) is followed by core_effects();
 *          the engine mirrors the list into the keeper's tables before it acts on the answer, and before
 *          the next call. Not doing so is a failed CHECK.
 *            loop: core_admit / core_cancel as clients ask; core_plan; run the step; core_complete.
 *          Admissions and cancels may also come between plan and complete: a cancel then waits for complete.
 *          With a lag of 1 the next core_plan() may come before core_complete(): see CORE_ID_PENDING.
 * Ids      A request's token ids (prompt, then generated) lie in a row that the engine owns and hands over
 *          at open. The engine writes the prompt before core_admit(); core_complete() appends.
 * Owner    The engine; one core per engine. Memory is the caller's, see core_bytes().
 * Threads  The engine thread.
 * Trust    Counts and ids in a request were validated by the engine; limits are answered with a status. Wrong
 *          slots and calls out of order are our own bugs: CHECK. Adopted blocks are validated: a file wrote them.
 * See      README.md, tests/daemon/test_core.c, tests/sim/sim_core.c, `llmctl check`.
 */
#ifndef LLMD_CORE_CORE_H
#define LLMD_CORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/core/effect.h"
#include "daemon/core/kv_pool.h"
#include "daemon/core/prefix_index.h"
#include "shm/status.h"

/* ---- Configuration ---------------------------------------------------------------------------------- */

#define CORE_MODELS_MAX       KV_MODELS_MAX
#define CORE_IDENTITY_WORDS   8u
#define CORE_BLOCK_TOKENS_MAX 512u
#define CORE_WEIGHT_MAX       1000u
#define CORE_OVERDUE_STEPS    8192u
#define CORE_LAG_MAX          1u

struct core_model {
    /* Everything that a KV row depends on besides the tokens: fingerprint, weight version, adapter, KV
     * dtype. Cached blocks of a model with other words are never found, also not after a restart. */
    uint32_t identity[CORE_IDENTITY_WORDS];
    uint32_t block_tokens;       /* 1..CORE_BLOCK_TOKENS_MAX rows of a block */
    uint32_t slab_blocks;        /* 1.. whole blocks of this model in a slab */
    uint32_t context_tokens_max; /* 2.. prompt and answer together */
};

struct core_config {
    const struct core_model *models; /* [model_count]; copied */
    uint32_t model_count;            /* 1..CORE_MODELS_MAX */
    uint32_t slab_count;             /* 1.. */
    uint32_t
        slab_blocks_max; /* numbers blocks, so that other models number them alike; 0: the most of the models */
    uint32_t request_slots;    /* 1.. requests known at once, running or waiting */
    uint32_t running_max;      /* 1..step_tokens sequences in one step */
    uint32_t user_running_max; /* 1..running_max of those by one user, unless it says otherwise */
    uint32_t step_tokens;      /* rows in one step; enough for every answer to move */
    uint32_t queued_max;       /* 1..request_slots waiting; the next one is BUSY */
    uint32_t user_queued_max;  /* 1..queued_max of those by one user */
    uint64_t overdue_steps;    /* then the first that came goes before all; 0: CORE_OVERDUE_STEPS */
    uint32_t hold_slots;       /* 0.. chains that core_hold() may hold at once */
    uint32_t score_rows;       /* scored in one step, over all SCORE requests; 0 is taken for 1 */
    uint32_t lag;              /* 0..CORE_LAG_MAX plans that may be out when the next is made */
    uint32_t *ids;             /* of slot s: ids[s * ids_stride_words + position] */
    size_t ids_stride_words;   /* at least the largest context_tokens_max */
    struct chain_hash hash;
};

struct core;

/* Bytes core_open() needs for this configuration. LLM_ERR_INVALID: a value is out of range; the sentence names
 * it and the range. */
enum llm_status core_bytes(const struct core_config *config, size_t *out_bytes,
                           struct llm_error *error) LLM_MUST_CHECK;
/* Make a core in zeroed memory of core_bytes() bytes, aligned to 64. There is nothing to close: the caller
 * frees the memory. Block ids run from 0 to core_blocks() - 1: block = slab * slab_blocks_max + index, where
 * slab_blocks_max is the configured one, or the largest slab_blocks of the models where that is more. */
enum llm_status core_open(const struct core_config *config, void *zeroed_memory, size_t bytes,
                          struct core **out_core, struct llm_error *error) LLM_MUST_CHECK;
uint32_t core_blocks(const struct core *core);

/* ---- Requests --------------------------------------------------------------------------------------- */

enum core_request_kind {
    CORE_GENERATE, /* choose tokens behind the prompt */
    CORE_SCORE,    /* choose none: say how likely the prompt's own ids from score_from on are */
    CORE_COMPUTE   /* choose none: compute the prompt's rows, so that they are found later */
};

#define CORE_DOMAINS_MAX 34u /* private, 32 groups, public */

struct core_request {
    uint64_t request_id; /* for sentences only */
    uint32_t uid;        /* whose turn it uses */
    uint32_t model;      /* 0..model_count-1 */
    enum core_request_kind kind;
    /* [domain_count] 1..CORE_DOMAINS_MAX whose cached blocks it may find (llm_domain() of shm/layout.h). Its own blocks are
     * sealed in the first; what it finds in a narrower one of its own is widened to that. The array must stay until the
     * request is finished. */
    const uint64_t *domains;
    uint32_t domain_count;
    /* Leading parts of the prompt that are wider domains' too, the widest first: kinds strictly descend to above that of
     * domains[0], tokens do not, and end within the prompt. */
    struct prefix_share shares[PREFIX_SHARES_MAX];
    uint32_t prompt_tokens;
    uint32_t generated_tokens; /* already published before an engine's death; else 0 */
    uint32_t
        max_tokens; /* 1.. to generate, those already published included; 0 unless CORE_GENERATE */
    uint32_t score_from; /* CORE_SCORE: 1..prompt_tokens-1, the first position that is scored */
    uint32_t priority;   /* enum llm_priority: 1 interactive, before 0 normal, before 2 batch */
    /* What its user may; what the last request of a user said holds for all of them. 0: see there */
    uint32_t weight;             /* 1..CORE_WEIGHT_MAX, its share of the steps; 0: 1 */
    uint32_t user_running_max;   /* its requests in one step; 0: the configuration's */
    uint64_t user_queued_tokens; /* in its waiting requests, or in a single one; 0: any number */
    bool recovered; /* was admitted before: the queue's bounds do not refuse it again */
};

/*
 * Put a request into the queue of its user.
 *
 *   slot      0..request_slots-1, free; ids [prompt_tokens + generated_tokens] are in its row
 *   returns   LLM_OK            effects: none, or FINISHED when the published tokens already were all; of COMPUTE, WIDENED
 *                               and FINISHED when all rows are there
 *             LLM_ERR_INVALID   no such model, priority or weight, an empty prompt, max_tokens 0, score_from out of range
 *             LLM_ERR_LIMIT     the prompt leaves no room in the context, or the request can never fit the pool
 *             LLM_ERR_BUSY      the queue, or this user's part of it, is full; try again later
 */
enum llm_status core_admit(struct core *core, const struct core_request *request, uint32_t slot,
                           struct llm_error *error) LLM_MUST_CHECK;

/* End a request early with `finish` CANCELLED or FAILED (a deadline, a dead client). Effects: FINISHED now,
 * or by the core_complete() of the last plan that is out and names the request. False: the slot is empty. */
bool core_cancel(struct core *core, uint32_t slot, enum core_finish finish);

/* From now on the request seals what it computes for fewer: `domains` [domain_count] as in struct core_request, the first no
 * wider than before. What it has sealed stays as it is. Between steps; changes nothing that the effects of the last call say. */
void core_narrow(struct core *core, uint32_t slot, const uint64_t *domains, uint32_t domain_count);

/* ---- Steps ------------------------------------------------------------------------------------------ */

/* With a lag of 1 core_plan() may be called while one plan is out; plans are completed in order. The id that the plan
 * before is choosing is not known then: the row says CORE_ID_PENDING, and the device takes what it sampled from the last
 * row of the same slot in the step before. A request that turns out to be over when the earlier plan is completed (a
 * stop, a failure, a cancel) is computed in vain in the later one; what that says of it is ignored, and FINISHED comes
 * when it is completed. */
#define CORE_ID_PENDING UINT32_MAX

/* One request's part of a step: rows first_row .. first_row + token_count of the plan's arrays, which are
 * positions first_position .. of the request. Row for position p lies in blocks[p / block_tokens] at
 * p % block_tokens; attention reads positions 0..p. Valid until core_complete() of the plan; nothing that it names is
 * free before. With a lag an entry of `blocks` for a block that an earlier plan filled may change, when that one is
 * completed, to another block with the same rows: the old and the new are both right until this plan is completed. */
struct core_sequence {
    uint32_t slot;
    uint32_t model;
    uint32_t first_row;
    uint32_t token_count; /* 1.. */
    uint32_t first_position;
    uint32_t block_count;   /* covers first_position + token_count */
    const block_id *blocks; /* [block_count] */
    bool wants_token;       /* sample from its last row */
    /* CORE_SCORE: the last so many of its rows are compared with the ids that follow them: the row at position p gives the
     * log-probability of the id at p + 1. */
    uint32_t scored_rows;
};

struct core_plan {
    uint64_t step;           /* 1, 2, 3, ... */
    uint32_t sequence_count; /* 1..running_max */
    uint32_t token_count;    /* 1..step_tokens */
    const struct core_sequence *sequences;
    const uint32_t *ids;       /* [token_count] */
    const uint32_t *positions; /* [token_count] */
};

/* What the engine says about sequence i of the plan. */
struct core_result {
    uint32_t token; /* with wants_token: the sampled id */
    enum core_finish
        finish; /* NONE, STOP_ID, STOP_STRING (the token counts) or FAILED (it does not) */
};

/* Plan the next step. False when there is nothing to do, or nothing until the plan that is out is completed. Effects:
 * blocks FREED (evicted, preempted), TAKEN, COPIED, SEALED (the tails of those preempted) and WIDENED, requests STARTED and
 * PREEMPTED. */
bool core_plan(struct core *core, struct core_plan *out_plan);

/* The step is done: every row of the plan, the earliest that is out, is written. `results` [plan->sequence_count].
 * LENGTH and CONTEXT are decided here. Effects: blocks SEALED, WIDENED and FREED, per request TOKEN or SCORED, then
 * FINISHED. */
void core_complete(struct core *core, const struct core_plan *plan,
                   const struct core_result *results);

/* The effects of the last call, in order; valid until the next. Must be called after each. */
const struct core_effect *core_effects(struct core *core, uint32_t *out_count);

/* ---- After an engine's death ------------------------------------------------------------------------ */

/* A new core goes on from the tables: core_open(); core_adopt_block() for every sealed block; core_admit() for
 * every live request in the order of the old admissions, with `recovered` and what was published. A request
 * whose last published token was its stop is the caller's to end: the core knows lengths, not stops. */

/* What kvhdr and kvtok say about a sealed block; what SEALED and WIDENED give and core_adopt_block() takes. */
struct core_block_info {
    struct chain chain;
    struct chain parent; /* the parent's chain value; the root's with depth 0 */
    const uint32_t *ids; /* [tokens]; core_block_info(): valid until the block is freed */
    uint32_t tokens;     /* 1..block_tokens of the model; fewer only at the end of a chain */
    uint32_t depth;
    uint64_t domain;
    uint32_t model;
};

/* The model in whose slab a block lies: whose geometry it has; KV_MODEL_NONE: nobody's. */
uint32_t core_block_model(const struct core *core, block_id block);
/* The facts of a sealed block (held or cached). */
struct core_block_info core_block_info(const struct core *core, block_id block);

/*
 * Take a sealed block of the last engine into the cache. Before the first admission, parents first (by depth,
 * ascending); of two with the same content the second is refused. What is refused is free.
 *
 *   returns   LLM_OK
 *             LLM_ERR_INVALID    no such block or model, or a count that is not 1..block_tokens of the model
 *             LLM_ERR_CORRUPT    the chain value does not follow from parent and ids
 *             LLM_ERR_NOT_FOUND  an orphan: its parent, or its model's identity, is not there
 *             LLM_ERR_BUSY       the block, its slab or its content is already taken
 */
enum llm_status core_adopt_block(struct core *core, block_id block,
                                 const struct core_block_info *info, struct llm_error *error)
    LLM_MUST_CHECK;

/* ---- Holding ---------------------------------------------------------------------------------------- */

/*
 * Hold what is cached of these tokens, so that it stays until core_unhold(): a pin.
 *
 *   hold      0..hold_slots-1, not held
 *   domains   [domain_count] as in struct core_request; only looked at during the call
 *   ids       [tokens] of model's vocabulary
 *   returns   tokens whose rows are held now, from the first on; after a CORE_COMPUTE request of the same tokens and domains
 *             that finished in the last call: all of them. 0 also when a request that was admitted could then not run to
 *             its end
 *
 * Neither changes what the effects of the last call say, so both may be called while these are mirrored.
 */
uint32_t core_hold(struct core *core, uint32_t hold, uint32_t model, const uint64_t *domains,
                   uint32_t domain_count, const uint32_t *ids, uint32_t tokens);
void core_unhold(struct core *core, uint32_t hold); /* accepts one that is not held */
uint32_t core_held_blocks(const struct core *core, uint32_t hold);

/* ---- Looking ---------------------------------------------------------------------------------------- */

/* What of a prompt is there now; changes nothing. (A generation computes the last token again in any case, for its logits.)
 *
 *   foreign    false keeps what other domains hold a secret
 *   out_spans  [capacity] consecutive spans that cover 0..tokens-1 in order; there are never more than
 *              CORE_PROBE_SPANS_MAX
 *   returns    spans written */
#define CORE_PROBE_SPANS_MAX 10u
enum core_probe_kind {
    CORE_PROBE_HIT = 1,
    CORE_PROBE_COPY = 2,
    CORE_PROBE_BEING_MADE = 3,
    CORE_PROBE_MISS = 4,
    CORE_PROBE_FOREIGN = 5
};
struct core_probe_span {
    enum core_probe_kind kind; /* the numbers and meanings of enum llm_probe_kind */
    uint32_t from;             /* tokens from..to-1 */
    uint32_t to;
    uint32_t
        cached_token; /* MISS after a HIT or COPY: what stands there instead; UINT32_MAX: nothing */
    uint64_t domain;  /* HIT, COPY, FOREIGN */
};
uint32_t core_probe(const struct core *core, uint32_t model, const uint64_t *domains,
                    uint32_t domain_count, bool foreign, const uint32_t *ids, uint32_t tokens,
                    struct core_probe_span *out_spans, uint32_t capacity);

enum core_phase {
    CORE_PHASE_FREE,
    CORE_PHASE_QUEUED,
    CORE_PHASE_PREFILL,
    CORE_PHASE_DECODE
};

struct core_request_info {
    enum core_phase phase;
    uint64_t request_id;
    uint32_t uid;
    uint32_t prompt_tokens;
    uint32_t generated_tokens;
    uint32_t computed_tokens; /* rows in blocks right now */
    uint32_t cached_tokens;   /* prompt tokens found in the cache; may grow until the first TOKEN */
    uint32_t blocks;          /* in its table, shared ones included */
};
struct core_request_info core_request_info(const struct core *core, uint32_t slot);

struct core_counts {
    uint32_t running;
    uint32_t queued;        /* preempted ones included */
    uint64_t queued_tokens; /* of those that never ran */
    struct kv_counts kv;    /* summed over the models; slabs nobody owns count for model 0 */
    uint64_t steps;
    uint64_t tokens_computed; /* rows of completed steps */
    uint64_t tokens_cached;   /* rows not computed because a block was found */
    uint64_t preemptions;
    uint64_t evictions;
};
struct core_counts core_counts(const struct core *core);

enum core_block_state { /* the numbers of struct llm_block_view's state */
    CORE_STATE_FREE = 0,
    CORE_STATE_HELD = 1,
    CORE_STATE_CACHED = 2,
    CORE_STATE_UNOWNED = 5 /* of a slab that nobody owns, or of a slab's rest */
};
struct core_block_view {
    enum core_block_state state;
    uint32_t model;      /* KV_MODEL_NONE: unowned */
    uint32_t tokens;     /* rows that count; 0 while it is being written, and when free */
    uint32_t references; /* holders, a held child counting as one */
    uint32_t pins;       /* of those, pins */
    block_id parent;     /* BLOCK_NONE: the first of its chain, or free */
    uint32_t depth;
    uint64_t domain; /* free: for whom it was written last; UINT64_MAX: unknown */
};
struct core_block_view core_block_view(const struct core *core, block_id block);

/* Walk everything. LLM_OK, or LLM_ERR_CORRUPT and a sentence with the first invariant that does not hold. The
 * tests, the simulator and `llmctl check` call the same walk. */
enum llm_status core_sane(const struct core *core, struct llm_error *error) LLM_MUST_CHECK;

#endif
