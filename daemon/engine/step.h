/*
 * step.h - the loop: take in, plan, run, publish, wake.
 *
 * Idea     engine_step() is the whole engine in fifteen lines; everything else in this folder is one of its
 *          verbs. There are no phases: each step computes the next token of every running request and, in what
 *          is left of its budget, parts of new prompts.
 * See      daemon/core/core.h (planning), executor.h (running), publish.h, egress.h, parking.h.
 */
#ifndef LLMD_ENGINE_STEP_H
#define LLMD_ENGINE_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/core.h"

struct engine;

/* One turn. Returns whether anything was done; if not, there is nothing to do. */
bool engine_step(struct engine *engine);
/* Turn after turn, asleep in between, until the keeper says stop or is gone. */
void engine_run(struct engine *engine);

/* Whether `token`, the newest of its answer, ends it: end of text, a stop id, a stop string. */
enum core_finish step_finish_after(struct engine *engine, uint32_t slot, uint32_t token);

#endif
