/*
 * parking.h - how the engine thread sleeps when there is nothing to do.
 *
 * Idea     Say so to every client (down.engine_asleep), fence, look at every queue once more, then sleep in
 *          epoll on the doorbells and the keeper's channel. A client that submits after our look sees the
 *          flag and rings. Doorbells are polled edge-triggered and never read: a client holds the same
 *          eventfd and could make a read block.
 * Owner    The engine thread.
 * See      shm/wait.h (the protocol and its fences).
 */
#ifndef LLMD_ENGINE_PARKING_H
#define LLMD_ENGINE_PARKING_H

#include <stdint.h>

#include "shm/status.h"

struct engine;

struct parking {
    int epoll_fd;
};

/* `channel` wakes as well, level-triggered. */
enum llm_status parking_open(struct parking *parking, int channel, struct llm_error *error)
    LLM_MUST_CHECK;
void parking_close(struct parking *parking);
enum llm_status parking_watch(struct parking *parking, int doorbell_fd, struct llm_error *error)
    LLM_MUST_CHECK;
/* Needed before the descriptor is closed: the keeper holds another one of the same eventfd. */
void parking_unwatch(struct parking *parking, int doorbell_fd);

/* Sleep until something may have happened, at the latest at `deadline_ns` (UINT64_MAX: never). */
void parking_sleep(struct engine *engine, uint64_t deadline_ns);

#endif
