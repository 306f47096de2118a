/*
 * sim_device.h - steps on a device that may be late: out, computed in order, completed.
 *
 * Idea     What a device is told when a plan is made must still be so when it computes, at once or just before the plan is
 *          completed, from its own copy of the block table or from the core's. Steps fail now and then.
 * See      sim_compute() in sim_model.h.
 */
#ifndef LLMD_TESTS_SIM_DEVICE_H
#define LLMD_TESTS_SIM_DEVICE_H

#include "tests/sim/sim_world.h"

/* Check a plan as a whole, and send it out. */
void sim_launch(struct sim *sim, const struct core_plan *plan);
/* The earliest plan that is out is done. */
void sim_land(struct sim *sim);

#endif
