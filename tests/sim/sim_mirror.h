/*
 * sim_mirror.h - after every call: its effects into the tables, then the core against them.
 *
 * Idea     What the engine does with a list of effects, and what it cannot do: ask whether all of it is sound, whether each
 *          block and count is the table's, and whether what was to be computed is there.
 * See      sim_apply() in sim_model.h, sim_order.h, sim_still.h.
 */
#ifndef LLMD_TESTS_SIM_MIRROR_H
#define LLMD_TESTS_SIM_MIRROR_H

#include "tests/sim/sim_world.h"

/* Mirror the effects of the last call; sometimes the engine dies in the middle, and another one goes on. `refused`: the call
 * did not admit what was to have this slot; else REQUEST_NONE. True: it lives. */
bool sim_mirror(struct sim *sim, uint32_t refused);
/* What a request asked to be computed is found when it has ended: a pin may follow. */
void sim_check_computed(struct sim *sim);
/* Is all of it cached for the reader of `domains`? What was the reader's may be widened meanwhile, to one not named. */
bool sim_is_there(const struct sim *sim, uint32_t model, const uint64_t *domains,
                  uint32_t domain_count, const uint32_t *ids, uint32_t count);

#endif
