/*
 * egress.h - waking clients, without making the step wait for it.
 *
 * Idea     A wake-up costs the waker about five microseconds, whatever the means. So nobody is woken who does
 *          not sleep; and while steps run the engine thread hands wake-ups to a thread of their own, one per
 *          connection and step, however many tokens. A single one it makes itself, because handing it over
 *          would be a wake-up too; and when it has nothing else to do it makes all of them.
 * Owner    The engine thread marks and flushes; the egress thread only ever wakes.
 * Threads  `lock` is held around each wake-up, so that a connection cannot be unmapped during it.
 * See      shm/wait.h (who needs waking), step.h.
 */
#ifndef LLMD_ENGINE_EGRESS_H
#define LLMD_ENGINE_EGRESS_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/status.h"
#include "shm/status_file.h"

#define EGRESS_WORDS (LLM_STATUS_CONNECTIONS_MAX / 64)

struct connection;

struct egress {
    /* constant after open */
    struct connection *connections; /* [LLM_STATUS_CONNECTIONS_MAX] */
    _Atomic uint64_t *wake_counter;
    pthread_t thread;
    /* engine thread: connections that something was published to in this step */
    uint64_t marked[EGRESS_WORDS];
    uint32_t marked_count;
    uint32_t marked_end; /* words of `marked` that may have bits */
    /* both: connections handed over */
    _Atomic uint64_t pending[EGRESS_WORDS];
    _Atomic bool posted; /* the thread will look at `pending` */
    _Atomic bool ending;
    sem_t posts;
    pthread_mutex_t lock;
};

/* `wake_counter` counts the system calls made. LLM_ERR_SYSTEM: no thread. */
enum llm_status egress_open(struct egress *egress, struct connection *connections,
                            _Atomic uint64_t *wake_counter, struct llm_error *error) LLM_MUST_CHECK;
void egress_close(struct egress *egress);

void egress_mark(struct egress *egress, uint32_t connection_slot);
/* Wake the clients of all marked connections: here when `idle`, else there. */
void egress_flush(struct egress *egress, bool idle);
/* The connection is about to be unmapped. */
void egress_forget(struct egress *egress, uint32_t connection_slot);

#endif
