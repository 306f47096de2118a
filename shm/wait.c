#include "shm/wait.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/crash_point.h"
#include "shm/fence.h"
#include "shm/peer_memory.h"

/* ---- Client to engine ----------------------------------------------------------------------------- */

bool llm_engine_ring(const struct llm_down_header *down, int to_engine_fd)
{
    /* Pairs with the fence between llm_engine_set_asleep() and the engine's second look. */
    llm_fence_full();
    if (!atomic_load_explicit(&down->engine_asleep, memory_order_relaxed))
        return false;
    int saved_errno = errno;
    uint64_t one = 1;
    /* EAGAIN: the counter is full, so the engine has an unread edge. Nothing else can happen to an eventfd. */
    ssize_t written = write(to_engine_fd, &one, sizeof one);
    (void)written;
    errno = saved_errno;
    CRASH_POINT(engine_rung);
    return true;
}

void llm_engine_set_asleep(struct llm_down_header *down, bool asleep)
{
    atomic_store_explicit(&down->engine_asleep, asleep, memory_order_relaxed);
    CRASH_POINT(asleep_flag);
}

void llm_cancel_post(struct llm_up_header *up, _Atomic uint32_t *cancel_words, uint32_t stream_slot,
                     uint32_t epoch)
{
    atomic_store_explicit(&cancel_words[stream_slot], epoch, memory_order_relaxed);
    CRASH_POINT(cancel_word);
    /* Pairs with the acquire in llm_cancel_bell_moved(): the word is visible before the bell. */
    atomic_fetch_add_explicit(&up->cancel_bell, 1, memory_order_release);
    CRASH_POINT(cancel_bell);
}

bool llm_cancel_bell_moved(const struct llm_up_header *up, uint64_t *seen_bell)
{
    uint64_t bell = llm_peer_poll64_acquire(&up->cancel_bell);
    bool moved = bell != *seen_bell;
    *seen_bell = bell;
    return moved;
}

/* ---- Engine to client ----------------------------------------------------------------------------- */

static void futex(const _Atomic uint32_t *word, int operation, uint32_t value,
                  const struct timespec *timeout)
{
    /* A shared futex: the two sides map the word at different addresses. */
    syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

void llm_client_waker_init(struct llm_client_waker *waker, const void *up, void *down,
                           int to_client_fd)
{
    *waker = (struct llm_client_waker){.up = up, .down = down, .to_client_fd = to_client_fd};
    waker->arms_answered = llm_peer_poll32(&waker->up->bell_arms) - 1;
}

uint32_t llm_client_wake(struct llm_client_waker *waker)
{
    uint32_t calls = 0;
    /* Pairs with the fences in llm_client_sleep() and llm_client_arm_bell(). */
    llm_fence_full();
    if (llm_peer_poll32(&waker->up->sleepers)) {
        futex(&waker->down->event_word, FUTEX_WAKE, INT_MAX, NULL);
        calls++;
    }
    uint32_t arms = llm_peer_poll32(&waker->up->bell_arms);
    if (arms != waker->arms_answered) {
        waker->arms_answered = arms;
        /* EAGAIN: unread bytes are there. EPIPE: the client is going. Either way there is nothing to do. */
        ssize_t sent = send(waker->to_client_fd, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        (void)sent;
        calls++;
    }
    return calls;
}

void llm_client_sleep(struct llm_up_header *up, const struct llm_down_header *down, uint32_t word,
                      uint64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / LLM_NS_PER_S),
                               .tv_nsec = (long)(timeout_ns % LLM_NS_PER_S)};
    atomic_fetch_add_explicit(&up->sleepers, 1, memory_order_relaxed);
    CRASH_POINT(sleep_announced);
    /* Pairs with the fence in llm_client_wake(). */
    llm_fence_full();
    /* The kernel looks once more: it sleeps only while the word is still `word`. */
    if (atomic_load_explicit(&down->event_word, memory_order_relaxed) == word)
        futex(&down->event_word, FUTEX_WAIT, word, timeout_ns == UINT64_MAX ? NULL : &timeout);
    atomic_fetch_sub_explicit(&up->sleepers, 1, memory_order_relaxed);
    CRASH_POINT(sleep_ended);
}

void llm_client_arm_bell(struct llm_up_header *up)
{
    atomic_fetch_add_explicit(&up->bell_arms, 1, memory_order_relaxed);
    CRASH_POINT(bell_armed);
    /* Pairs with the fence in llm_client_wake(): our next look at the streams comes after the arming. */
    llm_fence_full();
}

bool llm_client_clear_bell(int to_client_fd)
{
    char bytes[64];
    ssize_t count;
    do
        count = recv(to_client_fd, bytes, sizeof bytes, MSG_DONTWAIT);
    while (count > 0);
    return count < 0;
}
