/*
 * sim_world.h - one world: what a seed drew, the core that lives in it, and what its checkers remember.
 *
 * Idea     A seed draws a configuration, documents, users and how often misfortunes happen. The core may be closed and
 *          opened again; the tables, the documents and the numbers stay.
 * Owner    sim_core.c has one, and plays one world after the other in it.
 * Threads  One.
 * See      sim_core.c.
 */
#ifndef LLMD_TESTS_SIM_WORLD_H
#define LLMD_TESTS_SIM_WORLD_H

#include "tests/sim/sim_model.h"
#include "tests/sim/sim_order.h"
#include "tests/sim/sim_still.h"

#define SIM_DOCUMENTS_MAX 4u

#define SIM_HOLDS_MAX       4u
#define SIM_STEP_TOKENS_MAX 24u
#define SIM_LAG_DRAWN       UINT64_MAX

/* Tokens that are pinned. */
struct sim_hold {
    bool live;
    uint32_t model;
    uint32_t tokens;
    uint64_t domains[SIM_DOMAINS_MAX];
    uint32_t domain_count;
    uint32_t ids[SIM_CONTEXT_MAX];
};

/* The block that a request has begun and not filled. */
struct sim_filling {
    bool known; /* all ids it will hold were known when it was begun */
    uint32_t at;
    block_id block, before;
    uint64_t taken, before_taken; /* of the blocks, to see whether they are still those */
};

/* A plan that is out, and what a device was told of it when it was made. */
struct sim_flight {
    struct core_plan plan;
    struct core_plan told; /* its arrays are those below */
    struct core_sequence sequences[SIM_SLOTS_MAX];
    block_id blocks[SIM_SLOTS_MAX][SIM_CONTEXT_MAX];
    uint32_t ids[SIM_STEP_TOKENS_MAX], positions[SIM_STEP_TOKENS_MAX];
    struct core_result results[SIM_SLOTS_MAX];
    bool computed;
};

struct sim {
    /* what outlives an engine */
    struct sim_tables tables;
    uint32_t rows_of_ids[SIM_SLOTS_MAX * SIM_CONTEXT_MAX];
    /* constant in one run */
    struct core_model models[2];
    struct core_config config;
    struct sim_hash hash;
    uint32_t documents[SIM_DOCUMENTS_MAX][SIM_CONTEXT_MAX];
    uint32_t user_count;
    uint32_t groups[SIM_USERS_MAX];                     /* of each user: a bit for each of two */
    uint32_t score_chance, compute_chance, hold_chance; /* per mille */
    uint32_t admit_chance, cancel_chance, kill_chance, fail_chance; /* per mille */
    uint32_t private_chance, group_chance; /* per mille of requests; the others are public */
    uint32_t class_chance;                 /* per mille of requests; the others are normal */
    struct sim_user_terms terms[SIM_USERS_MAX];
    /* the engine */
    struct core *core;
    void *memory;
    size_t memory_bytes;
    struct sim_still still;
    struct sim_order order;
    struct sim_hold holds[SIM_HOLDS_MAX];
    struct sim_filling filling[SIM_SLOTS_MAX];
    struct sim_flight flight[CORE_LAG_MAX + 1];
    struct sim_flight
        *flights[CORE_LAG_MAX + 1]; /* those that are out, the earliest first; then the others */
    uint32_t flight_count;
    uint32_t
        ahead_chance; /* per mille: with a lag, the next plan is made before this is completed */
    uint32_t late_chance; /* per mille: a device computes at the last moment, not at once */
    /* the run */
    uint64_t lag; /* SIM_LAG_DRAWN, or that of all engines */
    struct sim_random random;
    uint64_t seed;
    uint64_t step;
    uint64_t digest; /* of all that the core decided */
    uint64_t requests, tokens, kills, adopted, refused, failed, held, age_max, ahead;
    struct core_counts counts; /* of earlier engines, summed */
};

/* Draw the world of `seed` and open its core. `lag`: of all its engines, or SIM_LAG_DRAWN. */
void sim_begin(struct sim *sim, uint64_t seed, uint64_t lag);
/* A new engine's core: it has drawn how much it does in one step, and knows nothing. */
void sim_open_core(struct sim *sim);
void sim_close_core(struct sim *sim);

/* A checker found something: say it, and the seed that replays it, and stop. */
_Noreturn void sim_fail(const struct sim *sim, const char *format, ...) LLM_PRINTF(2, 3);
/* The seed that replays the world that is being played; for the hook of a failed CHECK. */
void sim_say_seed(void);

#endif
