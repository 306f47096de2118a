/*
 * doorbells.h - the descriptors that can wake the engine: the channel to the keeper, and each client's eventfd.
 *
 * Idea     Waiting gives the slots that rang. Two kinds serve the same interface:
 *            io_uring  a multishot poll per eventfd; looking without waiting costs no system call while nothing rang
 *            epoll     where io_uring is not compiled in, forbidden (containers, kernel.io_uring_disabled) or old
 * Bells    An eventfd is polled edge-triggered and never read: each write wakes once, and what stays in the counter
 *          does not. A client holds the same eventfd and could make a read block.
 * Channel  Level-triggered: it wakes until everything in it was read.
 * Owner    The engine thread opens, uses and closes; io_uring refuses any other thread.
 * Trust    A client may write its eventfd as often as it likes: a wait gives at most DOORBELLS_AT_ONCE rings, and who
 *          rang first comes first. The same slot may come twice.
 * See      doorbells_epoll.c, doorbells_uring.c, parking.h, shm/wait.h, tests/daemon/test_doorbells.c.
 */
#ifndef LLMD_ENGINE_DOORBELLS_H
#define LLMD_ENGINE_DOORBELLS_H

#include <stdint.h>

#include "shm/status.h"
#include "shm/status_file.h"

#define DOORBELLS_MAX            LLM_STATUS_CONNECTIONS_MAX
#define DOORBELLS_AT_ONCE        64
#define DOORBELLS_COMPLETION_MAX (4 * DOORBELLS_MAX) /* of the completion ring; a power of two */
#define DOORBELL_CHANNEL         DOORBELLS_MAX       /* instead of a slot */

struct doorbells;

struct doorbells_ops {
    const char *name;
    /* Watch the eventfd `fd` for `slot`, which has none. A counter that is not 0 counts as a ring. LLM_ERR_MEMORY. */
    enum llm_status (*add)(struct doorbells *doorbells, uint32_t slot, int fd,
                           struct llm_error *error);
    /* No more of it, before `fd` is closed; a ring that was not given yet is forgotten. */
    void (*remove)(struct doorbells *doorbells, uint32_t slot, int fd);
    /*
     *   deadline_ns  until when to wait for a first one; 0 only looks, UINT64_MAX never gives up
     *   out_slots    [DOORBELLS_AT_ONCE] who rang
     *   returns      how many; 0 also before the deadline, for instance after a signal
     */
    uint32_t (*wait)(struct doorbells *doorbells, uint64_t deadline_ns, uint32_t *out_slots);
    void (*close)(struct doorbells *doorbells);
};

struct doorbells { /* the first member of each kind */
    const struct doorbells_ops *ops;
};

/* io_uring where it works, else epoll; the log says which, and why. */
enum llm_status doorbells_open(struct doorbells **out_doorbells, int channel,
                               struct llm_error *error) LLM_MUST_CHECK;

enum llm_status doorbells_epoll_open(struct doorbells **out_doorbells, int channel,
                                     struct llm_error *error) LLM_MUST_CHECK;
/* LLM_ERR_UNSUPPORTED: not here, and `error` says why. More completions than `completion_max` at once are kept by
 * the kernel; that costs more, and loses nothing. */
enum llm_status doorbells_uring_open(struct doorbells **out_doorbells, int channel,
                                     uint32_t completion_max, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
