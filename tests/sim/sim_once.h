/*
 * sim_once.h - each block is computed once.
 *
 * Idea     Nobody begins a block that another, of the same domain, is filling with the same ids behind the same block, all
 *          known to both. What a plan says is enough to tell.
 */
#ifndef LLMD_TESTS_SIM_ONCE_H
#define LLMD_TESTS_SIM_ONCE_H

#include "tests/sim/sim_world.h"

/* A plan was made just now. */
void sim_check_once(struct sim *sim, const struct core_plan *plan);

#endif
