/*
 * sim_pins.h - pinned rows are there until they are let go.
 *
 * Idea     Pins are made of what happens to be cached of a random prompt. Each remembers its ids; all of them are looked for in
 *          the tables.
 */
#ifndef LLMD_TESTS_SIM_PINS_H
#define LLMD_TESTS_SIM_PINS_H

#include "tests/sim/sim_world.h"

/* Sometimes one more, or one less. */
void sim_pins(struct sim *sim);
void sim_unhold(struct sim *sim, uint32_t hold); /* accepts one that is not held */
bool sim_is_pinned(const struct sim *sim);       /* anything */
/* A block may be widened while it is pinned, never lost. */
void sim_check_holds(const struct sim *sim);

#endif
