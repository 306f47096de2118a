/*
 * drain.h - the engine's half of draining: refuse what is new, and say when nothing is left.
 *
 * See      daemon/keeper/drain.h, which decides; tests/e2e/test_drain.c.
 */
#ifndef LLMD_ENGINE_DRAIN_H
#define LLMD_ENGINE_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/status.h"

struct engine;

struct drain {
    uint64_t number; /* of the keeper's drain; 0: requests are taken */
    bool settled;    /* the keeper was told that nothing is left */
};

/* CHANNEL_DRAIN with its number, or CHANNEL_RESUME (0). */
void drain_set(struct engine *engine, uint64_t number);
/* LLM_ERR_BUSY with the sentence for a new request while draining. */
enum llm_status drain_admits(const struct engine *engine, struct llm_error *error) LLM_MUST_CHECK;
/* At the end of a step: tell the keeper, once, when nothing is left. */
void drain_settle(struct engine *engine);

#endif
