/*
 * loading.h - the engine's program as a loader: it opens one model and ends.
 *
 * Idea     A model that comes while the daemon serves is opened by a process of its own: it reads and checks every file, packs
 *          the weights into a memory of the keeper, and says READY. Then the keeper replaces the engine,
 *          which finds the weights whole. What a hostile or broken file does, it does to the loader alone.
 * Owner    The keeper starts it, answers what it asks for that one model, and collects it (daemon/keeper/loader.h).
 * See      models.h, daemon/model/weights.h.
 */
#ifndef LLMD_ENGINE_LOADING_H
#define LLMD_ENGINE_LOADING_H

#include "daemon/engine/engine.h"

#define LOADING_ARGUMENT "--load" /* the program's first, before its settings */

/* `engine` is zero; only what opening a model needs of it is opened. On failure the sentence is to go to the keeper. */
enum llm_status loading_run(struct engine *engine, int channel, const struct config *config,
                            struct llm_error *error) LLM_MUST_CHECK;

#endif
