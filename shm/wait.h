/*
 * wait.h - who sleeps is woken, and who does not sleep costs nobody a system call.
 *
 * Idea     The same protocol in both directions; only the flag and the means differ.
 *
 *              who publishes                       who sleeps
 *              1 store what there is to see        1 set the flag
 *              2 full fence                        2 full fence
 *              3 load the flag: set? wake          3 look again; nothing? sleep
 *
 *          The fences order each side's store before its load. Whichever fence comes second in their single
 *          order, its side sees the other's store: either the publisher finds the flag, or the sleeper finds
 *          what was published. Without them both can miss, on x86 too (a store waits in the store buffer while
 *          the load behind it is done).
 *
 *          client -> engine   flag down.engine_asleep, means: an eventfd that the engine polls
 *          engine -> client   flag up.sleepers, means: FUTEX_WAKE on down.event_word (FUTEX_WAIT works through
 *                             the client's read-only mapping), and for event loops up.bell_arms with a byte on
 *                             a socket
 *
 * Owner    Flags live in the memory of the side that sleeps: nobody can clear another's.
 * Threads  Any number of client threads; one engine thread parks. llm_client_wake() may run on another engine
 *          thread than the one that published, if it was told after the publishing.
 * Trust    A client that lies about its flags costs the engine one system call per step at most, or sleeps
 *          through its own events. An eventfd is shared with its state: whoever holds it can make it block and
 *          fill it up. So the engine neither reads nor writes one that a client holds: it polls
 *          the eventfd edge-triggered, and sends towards the client on a socket, whose MSG_DONTWAIT belongs to the
 *          call and not to the descriptor.
 * See      docs/PROTOCOL.md ("Sleeping"), tests/shm/test_wait.c.
 */
#ifndef LLM_SHM_WAIT_H
#define LLM_SHM_WAIT_H

#include "shm/layout.h"

/* ---- Client to engine ----------------------------------------------------------------------------- */

/* Client, after publishing a submission or a cancel word: wake the engine if it sleeps. Safe in a signal handler.
 * Returns whether it did. */
bool llm_engine_ring(const struct llm_down_header *down, int to_engine_fd);

/* Engine, before parking: set each connection's flag, then llm_fence_full() once, then look at each queue tail
 * and cancel bell again, then sleep at the eventfds (daemon/engine/doorbells.h). */
void llm_engine_set_asleep(struct llm_down_header *down, bool asleep);

/* Client: ask for `stream_slot`'s answer of `epoch` to be cancelled; llm_engine_ring() follows. */
void llm_cancel_post(struct llm_up_header *up, _Atomic uint32_t *cancel_words, uint32_t stream_slot,
                     uint32_t epoch);
/* Engine: whether any cancel word changed since *seen_bell, which is moved on. Each word is then the epoch of
 * its slot that is to be cancelled (a word for any other epoch means nothing). */
bool llm_cancel_bell_moved(const struct llm_up_header *up, uint64_t *seen_bell);

/* ---- Engine to client ----------------------------------------------------------------------------- */

struct llm_client_waker {
    const struct llm_up_header *up;
    struct llm_down_header *down;
    int to_client_fd;       /* the engine's end of the socket */
    uint32_t arms_answered; /* value of up.bell_arms that was last answered */
};

/* A new engine cannot know what the last one answered: it answers once too often. */
void llm_client_waker_init(struct llm_client_waker *waker, const void *up, void *down,
                           int to_client_fd);
/* Engine, after publishing to any number of the connection's streams: wake its sleepers. Returns the number of
 * system calls made (0, 1 or 2). */
uint32_t llm_client_wake(struct llm_client_waker *waker);

/* Client, step 0: read this before looking at the streams, and hand it to llm_client_sleep(). */
static inline uint32_t llm_client_sleep_word(const struct llm_down_header *down)
{
    /* Pairs with the release in llm_event_push(): who reads a moved word sees the records that moved it. */
    return atomic_load_explicit(&down->event_word, memory_order_acquire);
}
/* Client: sleep until event_word is no longer `word`, a signal arrives or `timeout_ns` (UINT64_MAX: never) has
 * passed, then look at the streams. Wakes without reason are allowed. The word is 32 bits of a counter: 2^32
 * hints between reading it and sleeping would go unnoticed, so callers sleep in slices. */
void llm_client_sleep(struct llm_up_header *up, const struct llm_down_header *down, uint32_t word,
                      uint64_t timeout_ns);

/* Client with an event loop: ask for a byte on the socket after whatever is published from now on, then look at
 * the streams. */
void llm_client_arm_bell(struct llm_up_header *up);
/* Take the bytes that have arrived; never blocks. False: the other end is closed for good. */
bool llm_client_clear_bell(int to_client_fd);

#endif
