/*
 * spawn.h - start the engine's program, as the engine or as a loader, with a channel to it.
 *
 * Idea     fork and exec `llmd-engine` (beside llmd, or where it is installed) with one end of a seqpacket socketpair on
 *          descriptor 3 and every setting as a "key=value" argument. The child dies with us (PR_SET_PDEATHSIG).
 * Owner    The caller owns the handle and our end of the channel, which does not block.
 * See      engine.h, loader.h, daemon/channel.h.
 */
#ifndef LLMD_KEEPER_SPAWN_H
#define LLMD_KEEPER_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/config.h"
#include "shm/status.h"

#define SPAWN_CHANNEL_FD 3 /* in the child */

struct spawned {
    pid_t pid;
    int pidfd, channel;
};

/* `generation`: of the engine; a loader has none. LLM_ERR_NOT_FOUND (the program), LLM_ERR_MEMORY, LLM_ERR_LIMIT. */
enum llm_status spawn_engine(const struct config *config, bool loader, uint64_t generation,
                             struct spawned *out, struct llm_error *error) LLM_MUST_CHECK;

#endif
