/*
 * parking.h - which clients are looked at, which ring, and how the engine thread sleeps.
 *
 * Idea     A client that submitted within the last milliseconds is hot: its queue is looked at in every pass,
 *          and submitting costs it no system call. All others are parked: their flag down.engine_asleep is
 *          set, and they ring their eventfd, one of the doorbells. So a thousand idle clients cost
 *          nothing. To park is always the same protocol: set the flag, fence, look once more, and only then
 *          stop looking; a client that submits after our look sees the flag and rings. Sleeping is parking
 *          all hot ones and waiting at the doorbells.
 * Storms   A client may ring as often as it likes. Whose ring brings nothing PARKING_RINGS_MAX times in a row is muted: for a
 *          second its doorbell is not heard, and its queue is looked at every millisecond instead.
 * Owner    The engine thread.
 * See      doorbells.h (io_uring or epoll), shm/wait.h (the protocol and its fences), intake.h.
 */
#ifndef LLMD_ENGINE_PARKING_H
#define LLMD_ENGINE_PARKING_H

#include <stdint.h>

#include "daemon/engine/doorbells.h"
#include "shm/status.h"

#define PARKING_RINGS_MAX \
    1000 /* an honest client rings for nothing when two of its threads race, seldom twice */

struct connection;
struct engine;

struct parking {
    struct doorbells *doorbells;
    uint32_t hot_count;
    uint32_t hot[DOORBELLS_MAX]; /* [hot_count] connection slots, in no order */
    uint32_t muted_count;
    uint32_t muted
        [DOORBELLS_MAX]; /* [muted_count] the same; they are hot, parked or neither rung nor heard */
    uint64_t muted_look_ns; /* when to look at them next */
};

/* `channel` wakes as well, level-triggered. */
enum llm_status parking_open(struct parking *parking, int channel, struct llm_error *error)
    LLM_MUST_CHECK;
void parking_close(struct parking *parking);

/* A new connection: its doorbell is watched, and it is hot. */
enum llm_status parking_add(struct engine *engine, struct connection *connection,
                            struct llm_error *error) LLM_MUST_CHECK;
/* Before its doorbell is closed: the keeper holds another descriptor of the same eventfd. */
void parking_remove(struct engine *engine, struct connection *connection);

/* Who rang becomes hot, what the keeper said is done. Does not wait. */
void parking_poll(struct engine *engine);
/* Park those that have been quiet for a while. */
void parking_cool(struct engine *engine, uint64_t now_ns);
/* Sleep until something may have happened, at the latest at `deadline_ns` (UINT64_MAX: never). */
void parking_sleep(struct engine *engine, uint64_t deadline_ns);

#endif
