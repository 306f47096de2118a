/*
 * sim_digest.h - one number of all that the core decided.
 *
 * Idea     Answers, effects and plans are mixed in as they come. Two cores that decide the same have the same digest; the
 *          checkers do not look at it.
 * See      sim_core.c, which prints it.
 */
#ifndef LLMD_TESTS_SIM_DIGEST_H
#define LLMD_TESTS_SIM_DIGEST_H

#include "tests/sim/sim_world.h"

void sim_digest(struct sim *sim, uint64_t a, uint64_t b);
void sim_digest_effect(struct sim *sim, const struct core_effect *effect);
void sim_digest_plan(struct sim *sim, const struct core_plan *plan);

#endif
