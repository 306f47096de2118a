/*
 * asker.h - answering what an engine, or a loader, asks: memories and files.
 *
 * Idea     A process at the other end of a channel asks ALLOC, OPEN, DEPOSIT, DROP, one at a time, and waits. The answer
 *          is kept here until the channel takes it; one that asks again before is not the program we know and
 *          is killed.
 * Trust    Names, sizes and paths are checked. A loader may touch only what belongs to its own load: memories
 *          named "<kind>/<id of the load>".
 * See      memories.h, model_roots.h, registry.h, daemon/channel.h.
 */
#ifndef LLMD_KEEPER_ASKER_H
#define LLMD_KEEPER_ASKER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/channel.h"

struct keeper;

struct asker {
    bool answer_waits;
    struct channel_message answer;
    int answer_fd; /* -1: none; the keeper's */
    bool answer_fd_owned;
};

void asker_init(struct asker *asker);
/* Whoever asked is gone. */
void asker_forget(struct asker *asker);
/* Do what `message` asks and note the answer. `loader_id`: the load that a loader is for; 0: the engine asks. */
void asker_serve(struct keeper *keeper, struct asker *asker, uint64_t loader_id, int pidfd,
                 const struct channel_message *message);
/* A memory's name says whose it is: "weights/7" is load 7's. */
bool asker_belongs(const char *memory, uint64_t load_id);
/* Send the answer if one waits. False: the channel is full, or its other end gone. */
bool asker_tell(struct asker *asker, int channel);

#endif
