/*
 * contexts_private.h - what contexts*.c share: one context's version, and what follows from it.
 */
#ifndef LLMD_ENGINE_CONTEXTS_PRIVATE_H
#define LLMD_ENGINE_CONTEXTS_PRIVATE_H

#include "daemon/engine/contexts.h"
#include "daemon/engine/engine.h"

/* Blocks of the pool that all pins together may hold. */
uint64_t contexts_pinnable(const struct engine *engine);

/* `next`, which began as a copy of the version, counts from now on. `by` NULL: made by whoever made the last one. A reference
 * to another row than before is the caller's, the old one is dropped. */
void contexts_write(struct engine *engine, uint32_t slot, struct llm_ctx_version *next,
                    const struct context_by *by);
/* The private half follows the version. */
void contexts_derive(struct engine *engine, uint32_t slot);

/* Others may read less of the context than before: what its request still computes is sealed for those who may. */
void contexts_narrow(struct engine *engine, uint32_t slot);

void contexts_put_free(struct engine *engine, uint32_t slot);
void contexts_name_add(struct engine *engine, uint32_t slot);

/* Hold the blocks of the first `tokens` and count them, in place of those held before. Returns tokens held. */
uint32_t contexts_hold(struct engine *engine, uint32_t slot, uint32_t tokens);

/* Of a model's identity: a context of another model's ids means nothing. */
uint32_t contexts_model_check(const struct engine *engine, uint32_t model);

#endif
