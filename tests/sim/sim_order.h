/*
 * sim_order.h - checks who goes first, from the effects alone.
 *
 * Idea     Four sentences, each a bound on waiting: only the youngest running request is preempted; while a
 *          preempted request waits, nobody starts for the first time; no user has more seats than one may;
 *          while a user who may have another seat has something waiting, every other user starts at most one
 *          request.
 * Threads  One.
 * See      sim_core.c, daemon/core/README.md (rules 7 to 9).
 */
#ifndef LLMD_TESTS_SIM_ORDER_H
#define LLMD_TESTS_SIM_ORDER_H

#include "tests/sim/sim_model.h"

#define SIM_USERS_MAX 4u
#define SIM_UID_FIRST 1000u

struct sim_place {
    enum {
        SIM_NOWHERE,
        SIM_QUEUED,
        SIM_RUNNING,
        SIM_PREEMPTED
    } where;
    uint32_t user;  /* uid - SIM_UID_FIRST */
    uint64_t order; /* of the first start */
};

struct sim_order {
    struct sim_place places[SIM_SLOTS_MAX];
    uint32_t overtaken[SIM_USERS_MAX]
                      [SIM_USERS_MAX]; /* [v][u]: starts by u since v's turn or wait began */
    uint64_t starts;
    uint32_t user_running_max;
};

/* A new core knows nothing of old turns. */
void sim_order_reset(struct sim_order *order, uint32_t user_running_max);
void sim_order_admitted(struct sim_order *order, uint32_t slot, uint32_t uid);
/* Returns NULL, or the sentence that does not hold. */
const char *sim_order_effect(struct sim_order *order, const struct core_effect *effect);

#endif
