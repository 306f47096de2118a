/*
 * loader.h - the keeper's side of a model's loader: start it, answer it, collect it.
 *
 * Idea     One process at a time, the engine's program with "--load" (daemon/engine/loading.h). It is told one model, asks for
 *          its files and memories, says READY or FAILED with a sentence, and ends. A loader that dies is a
 *          model that failed; the engine and everybody's requests go on.
 * Owner    The keeper's only thread.
 * See      registry.h, asker.h, spawn.h.
 */
#ifndef LLMD_KEEPER_LOADER_H
#define LLMD_KEEPER_LOADER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/keeper/asker.h"
#include "shm/status.h"

struct keeper;

struct loader {
    pid_t pid; /* 0: none */
    int pidfd, channel;
    uint64_t serial; /* counts loaders */
    uint32_t slot;   /* of the registry */
    uint64_t model_id;
    bool ready;                  /* said READY */
    char reason[LLM_NOTE_BYTES]; /* said FAILED; empty: it did not */
    struct asker asker;
};

void loader_init(struct loader *loader);
/* Load what the registry says of `slot`. LLM_ERR_NOT_FOUND (the program), LLM_ERR_MEMORY. */
enum llm_status loader_start(struct keeper *keeper, uint32_t slot, struct llm_error *error)
    LLM_MUST_CHECK;
/* Kill it; what becomes of its model is the caller's. */
void loader_stop(struct keeper *keeper);
/* That memory is one that it is filling: no engine hears of it before the model is loaded. */
bool loader_owns(const struct keeper *keeper, const char *memory);
/* The channel is readable; the pidfd is. */
void loader_channel_ready(struct keeper *keeper);
void loader_process_ready(struct keeper *keeper);

#endif
