/*
 * sim_model.h - a model whose KV rows can be told apart, and tables that outlive an engine.
 *
 * Idea     A KV row of this model is the hash of all ids up to it, and the next token is a function of that
 *          hash and the request's seed. So a row that was written by another history, another domain or
 *          another model, or is read after its block went to somebody else, is seen at once, and what a
 *          request must answer is known without the core: the same function over its own ids.
 *          Beside the rows stand the shadows of kvhdr, kvtok and reqtab: they change by effects only, and are
 *          all that a new core is given after a kill.
 * Threads  One.
 * See      sim_core.c.
 */
#ifndef LLMD_TESTS_SIM_MODEL_H
#define LLMD_TESTS_SIM_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/core.h"

#define SIM_CONTEXT_MAX  96u
#define SIM_SLOTS_MAX    24u
#define SIM_BLOCKS_MAX   256u
#define SIM_BLOCK_TOKENS 8u
#define SIM_DOMAINS_MAX  5u

struct sim_random {
    uint64_t state;
};
uint64_t sim_random_next(struct sim_random *random);
uint32_t sim_below(struct sim_random *random, uint32_t end);                  /* 0..end-1 */
uint32_t sim_between(struct sim_random *random, uint32_t low, uint32_t high); /* low..high */
bool sim_chance(struct sim_random *random, uint32_t per_mille);

uint64_t sim_mix(uint64_t a, uint64_t b);

struct sim_row {
    uint64_t history; /* of all ids up to and including this one; garbage until written */
    uint32_t id;      /* UINT32_MAX: not written since its block was taken */
    uint64_t domain;  /* may read it; of a copied row: of the row it was copied from */
    bool copied;      /* with its whole block: may be written once more */
};

enum sim_block_state {
    SIM_FREE,
    SIM_WRITING,
    SIM_SEALED
};
struct sim_block { /* kvhdr and kvtok */
    enum sim_block_state state;
    struct core_block_info info; /* ids points to `ids` */
    uint32_t ids[SIM_BLOCK_TOKENS];
    uint64_t taken; /* the number of its last take */
};

struct sim_request { /* reqtab and reqtok */
    bool live;
    bool
        computed; /* COMPUTE, ended just now: all its rows must be there when the call is mirrored */
    bool cancelled; /* by its client, or its step failed: it may end early */
    struct core_request
        request; /* its domains point to `domains` of the slot it has in the tables */
    uint64_t domains[SIM_DOMAINS_MAX];
    uint32_t scored; /* SCORE: positions below it are, or were not asked for */
    uint64_t seed;
    uint32_t stop_id;
    uint32_t published;
    uint32_t ids[SIM_CONTEXT_MAX];
    uint64_t admitted_step;
    uint32_t ahead_tokens; /* plans that are out will choose them */
    uint32_t ahead_scored; /* like scored, with what plans that are out score */
    bool broken;           /* rows are missing: a step of it failed */
};

struct sim_tables {
    const struct core_model *models;
    uint32_t block_count; /* at most SIM_BLOCKS_MAX; blocks behind them are not there */
    uint32_t vocab_tokens;
    bool exact_hash;                                       /* chain values do not collide */
    struct sim_random random;                              /* garbage for rows that nobody wrote */
    struct sim_row rows[SIM_BLOCKS_MAX][SIM_BLOCK_TOKENS]; /* the KV pool itself */
    /* Whose rows the pool's memory really holds, for the check that foreign ones were zeroed: a domain and model, 0 for
     * zeros, UINT64_MAX for what an earlier engine left. */
    uint64_t residue[SIM_BLOCKS_MAX][SIM_BLOCK_TOKENS];
    uint64_t takes, copies, widenings;
    struct sim_block blocks[SIM_BLOCKS_MAX];
    struct sim_request requests[SIM_SLOTS_MAX];
};

/* The history before the first token: another one for other weights. */
uint64_t sim_history_begin(const struct core_model *model);
uint64_t sim_history(uint64_t before, uint32_t id);
/* The token a request gets after `history`. */
uint32_t sim_token(uint64_t history, uint64_t seed, uint32_t vocab_tokens);

/* May a request that seals in, or may read, `domains` [count] read this one? */
bool sim_may_read(const uint64_t *domains, uint32_t count, uint64_t domain);
/* Do the rows of ids [count] lie in sealed blocks that a reader of `domains` may read? */
bool sim_is_cached(const struct sim_tables *tables, uint32_t model, const uint64_t *domains,
                   uint32_t domain_count, const uint32_t *ids, uint32_t count);

/* Why and whether a request that published what it did ends by itself. */
enum core_finish sim_end(const struct sim_request *request, uint32_t context_tokens_max);

/* A plan was made just now: does this sequence of it fit the request, with what other plans that are out will make of it?
 * Returns NULL, or what is wrong. */
const char *sim_check_sequence(struct sim_tables *tables, const struct core_plan *plan,
                               uint32_t index);
/* Compute one sequence of the plan: write its rows, read all rows it may read. An id that was pending is the one sampled
 * last for the request. Returns NULL, or what was wrong; `out_token` is the next token as the rows say it. */
const char *sim_compute(struct sim_tables *tables, const struct core_plan *plan, uint32_t index,
                        uint32_t *out_token);
/* The rows of a block hold garbage from now on. */
void sim_scramble(struct sim_tables *tables, block_id block);
/* Apply one effect of `core` to the tables. Returns NULL, or what was wrong with it. */
const char *sim_apply(struct sim_tables *tables, const struct core *core,
                      const struct core_effect *effect);

/* A keyed hash; `self` points to a struct sim_hash. With few bits nearly everything collides. */
struct sim_hash {
    uint64_t key;
    uint64_t mask;
};
void sim_chain_hash(void *self, const uint8_t parent[CHAIN_BYTES], const uint32_t *ids,
                    uint32_t count, uint8_t out[CHAIN_BYTES]);

#endif
