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
    struct request *requests;        /* [request_slots] */
    struct hold *holds;              /* [hold_slots] */
    struct core_sequence *sequences; /* the plan that is out: [running_max] */
    uint32_t *plan_ids;              /* [step_tokens] */
    uint32_t *plan_positions;        /* [step_tokens] */
    uint32_t request_slots;
    uint32_t hold_slots;
    uint32_t model_count;
    bool plan_out;
    bool effects_taken; /* the list of the last call was looked at */
    uint64_t steps;     /* planned so far */
    uint64_t steps_completed;
    uint64_t tokens_computed;
};

/* Where chains of `model` begin for a reader of `domains` [domain_count], which must outlive it. */
struct prefix_root core_root(const struct core *core, uint32_t model, const uint64_t *domains,
                             uint32_t domain_count);
/* Could `r` run to its end, if everybody else were preempted but all pins stayed? */
bool core_fits_beside_pins(const struct core *core, const struct request *r);

#endif
