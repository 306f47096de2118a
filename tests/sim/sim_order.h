/*
 * sim_order.h - checks who goes first, from admissions, effects and plans alone.
 *
 * Idea     Six sentences: no user has more seats than it may; nobody of a lower class starts while one of a higher waits
 *          who may have a seat; nobody is preempted while one of a lower class runs; the eldest, once it is overdue, is
 *          never preempted, and it or who makes its block has a row in every plan (with a lag, in every second); a user's waiting tokens are within its bound; and while a user
 *          waits, nobody of its class is served more, by their weights, than a bound.
 * Bound    Who is ahead of another who waits starts nothing any more; what it may still get is what it runs: its seats
 *          times a context, and a step. The one who waits may have begun as far ahead: the sum of both.
 * Threads  One.
 * See      sim_core.c, daemon/core/README.md (rules 7 to 9).
 */
#ifndef LLMD_TESTS_SIM_ORDER_H
#define LLMD_TESTS_SIM_ORDER_H

#include "tests/sim/sim_model.h"

#define SIM_USERS_MAX 4u
#define SIM_UID_FIRST 1000u
#define SIM_RANKS     3u
#define SIM_PER_WEIGHT \
    UINT64_C(5040) /* served at weight 1 for a token; weights up to 10 divide it */

struct sim_place {
    enum {
        SIM_NOWHERE,
        SIM_QUEUED,
        SIM_RUNNING,
        SIM_PREEMPTED
    } where;
    uint32_t user; /* uid - SIM_UID_FIRST */
    uint32_t rank; /* 0 interactive, 1 normal, 2 batch */
    uint32_t tokens;
    uint64_t arrival;
    uint64_t arrival_plan;
};

struct sim_user_terms {
    uint32_t weight, seats_max;
    uint64_t queued_tokens_max; /* 0: none */
};

/* What one got more than the other since the other waits, and the least that was. What the other had out of turn before, for
 * requests that were overdue, counts for it: `owed`, and when the race began. */
struct sim_race {
    bool on;
    int64_t ahead, least;
    int64_t owed, owed_first;
};

struct sim_order {
    struct sim_place places[SIM_SLOTS_MAX];
    struct sim_user_terms users[SIM_USERS_MAX]; /* as of their last request */
    struct sim_race races[SIM_RANKS][SIM_USERS_MAX][SIM_USERS_MAX];
    uint32_t running_max, step_tokens, context_tokens, lag;
    uint64_t overdue_steps;
    uint64_t arrivals, plans;
    uint32_t eldest_waited;   /* plans in a row in which it had no row, and found none */
    uint32_t eldest_computed; /* its rows in the last plan */
    uint64_t closest_percent; /* of its bound that a race came to */
};

/* A new core knows nothing of old turns. */
void sim_order_reset(struct sim_order *order, const struct core_config *config);
void sim_order_admitted(struct sim_order *order, uint32_t slot, const struct core_request *request);
void sim_order_planning(struct sim_order *order);
/* Each returns NULL, or the sentence that does not hold. */
const char *sim_order_effect(struct sim_order *order, const struct core_effect *effect);
const char *sim_order_planned(struct sim_order *order, const struct core *core,
                              const struct core_plan *plan, bool pinned);
/* Nothing was planned: who does not wait now may find the others level with it later. */
const char *sim_order_idle(struct sim_order *order);

/* What a request counts for while it waits. */
uint32_t sim_order_tokens(const struct core_request *request);
/* Never started: requests and tokens of that user; are the tokens within its bound, or of one request only? */
uint32_t sim_order_queued(const struct sim_order *order, uint32_t uid, uint64_t *out_tokens);
bool sim_order_queue_fits(const struct sim_order *order, uint32_t uid);

#endif
