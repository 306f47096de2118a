/*
 * core_state.h - what a core is made of, for the files that implement core.h.
 *
 * Owner    core.c opens, admits, plans and completes; core_hold.c pins; core_look.c and core_probe.c look.
 * Threads  The engine thread.
 * See      core.h.
 */
#ifndef LLMD_CORE_CORE_STATE_H
#define LLMD_CORE_CORE_STATE_H

#include <assert.h>

#include "daemon/core/core.h"
#include "daemon/core/kv_cache.h"
#include "daemon/core/request.h"
#include "daemon/core/scheduler.h"

static_assert(PREFIX_MODELS_MAX == KV_MODELS_MAX, "one number of models");

#define CORE_PLANS_MAX (CORE_LAG_MAX + 1)

struct hold {
    block_id last; /* pinned, and with it the chain before it; BLOCK_NONE: not held */
    uint32_t blocks;
};

struct core {
    struct arena arena; /* frozen after open */
    struct kv_cache cache;
    struct scheduler scheduler;
    struct effect_list effects;
    struct core_model models[CORE_MODELS_MAX];
    struct request *requests; /* [request_slots] */
    struct hold *holds;       /* [hold_slots] */
    /* Of the plan of step s, at core_plan_at(). */
    struct core_sequence *sequences[CORE_PLANS_MAX]; /* [running_max] */
    uint32_t *plan_ids[CORE_PLANS_MAX];              /* [step_tokens] */
    uint32_t *plan_positions[CORE_PLANS_MAX];        /* [step_tokens] */
    uint32_t sequence_counts[CORE_PLANS_MAX];
    uint32_t lag;
    uint32_t request_slots;
    uint32_t hold_slots;
    uint32_t model_count;
    bool effects_taken; /* the list of the last call was looked at */
    uint64_t steps;     /* planned so far */
    uint64_t steps_completed;
    uint64_t tokens_computed;
};

static inline uint32_t core_plans_out(const struct core *core)
{
    return (uint32_t)(core->steps - core->steps_completed);
}

/* Where the plan of a step is kept. */
static inline uint32_t core_plan_at(const struct core *core, uint64_t step)
{
    return (uint32_t)(step % (core->lag + 1));
}

/* Where chains of `model` begin for a reader of `domains` [domain_count], which must outlive it. */
struct prefix_root core_root(const struct core *core, uint32_t model, const uint64_t *domains,
                             uint32_t domain_count);
/* Could `r` run to its end, if everybody else were preempted but all pins stayed? */
bool core_fits_beside_pins(const struct core *core, const struct request *r);

#endif
