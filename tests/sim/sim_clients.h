/*
 * sim_clients.h - who asks for what, and thinks better of it.
 *
 * Idea     Requests begin as one of the documents does and go on at random; users may do more or less. What is refused must be
 *          refused for a reason that can be told from outside.
 */
#ifndef LLMD_TESTS_SIM_CLIENTS_H
#define LLMD_TESTS_SIM_CLIENTS_H

#include "tests/sim/sim_world.h"

/* A request of any user; no slot, and its domains point nowhere yet. */
void sim_draw_request(struct sim *sim, struct sim_request *request);
/* Pins, admissions and cancels, before a plan or while it is out. False: the engine died, and the plan with it. */
bool sim_clients(struct sim *sim, bool admitting);

#endif
