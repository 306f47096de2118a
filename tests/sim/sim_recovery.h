/*
 * sim_recovery.h - an engine dies, and a new one goes on from the tables.
 *
 * Idea     The new core gets the blocks that the tables say are sealed, sometimes damaged, sometimes none, and the requests
 *          that were not over; sometimes other weights. All that it should adopt it must adopt.
 * See      "After an engine's death" in daemon/core/core.h.
 */
#ifndef LLMD_TESTS_SIM_RECOVERY_H
#define LLMD_TESTS_SIM_RECOVERY_H

#include "tests/sim/sim_world.h"

/* A new engine has the tables and the pool's memory, and nothing else. */
void sim_restart(struct sim *sim);

#endif
