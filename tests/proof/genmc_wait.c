/*
 * genmc_wait.c - the real shm/wait.c: who publishes and who goes to sleep never miss each other.
 *
 * The system calls are replaced by notes of what they were asked: a wake-up that was sent, a sleep that was begun. The
 * kernel's FUTEX_WAIT compares the word behind a barrier of its own.
 *
 * Runs
 *   holds  ENGINE           a submission against an engine that parks
 *   holds  FUTEX            a token against a thread that sleeps
 *   holds  BELL             a token against an event loop that arms its bell
 *   fails  ENGINE,NO_FENCE
 *   fails  FUTEX,NO_FENCE
 *   fails  BELL,NO_FENCE
 */
#include "tests/proof/genmc.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/types.h>
#include <time.h>

#include <unistd.h>

#define FUTEX_WAIT   0
#define FUTEX_WAKE   1
#define SYS_futex    202
#define MSG_DONTWAIT 0
#define MSG_NOSIGNAL 0
#define _LINUX_FUTEX_H
#define _SYS_SOCKET_H 1
#define _SYSCALL_H    1

static struct llm_up_header up;
static struct llm_down_header down;
static bool was_rung, was_woken, was_sent, was_asleep; /* each by one thread, read after joining */

static long note_futex(const _Atomic uint32_t *word, int operation, uint32_t value)
{
    atomic_thread_fence(memory_order_seq_cst); /* the kernel's */
    if (operation == FUTEX_WAKE)
        was_woken = true;
    else
        was_asleep = atomic_load_explicit(word, memory_order_relaxed) == value;
    return 0;
}

static ssize_t note(bool *what, size_t bytes)
{
    *what = true;
    return (ssize_t)bytes;
}

#undef syscall
#undef write
#undef send
#undef recv
#define syscall(number, word, operation, value, timeout, second, third) \
    note_futex((word), (operation), (uint32_t)(value))
#define write(fd, bytes, count)       note(&was_rung, (count))
#define send(fd, bytes, count, flags) note(&was_sent, (count))
#define recv(fd, bytes, count, flags) ((ssize_t)-1)
static int errno_here;
#undef errno
#define errno errno_here

#include "shm/wait.c"

static _Atomic uint32_t published; /* the stamp, or the commit word */

static void *publish(void *unused)
{
    atomic_store_explicit(&published, 1, memory_order_release);
#ifdef ENGINE
    llm_engine_ring(&down, 3);
#else
    atomic_store_explicit(&down.event_word, 1, memory_order_release);
    struct llm_client_waker waker = {.up = &up, .down = &down, .to_client_fd = 3};
    llm_client_wake(&waker);
#endif
    return unused;
}

/* Sets `was_asleep` when it would sleep for ever. */
static void *go_to_sleep(void *unused)
{
#if defined(ENGINE)
    llm_engine_set_asleep(&down, true);
    llm_fence_full(); /* daemon/engine/parking.c:park() */
    was_asleep = !atomic_load_explicit(&published, memory_order_acquire);
#elif defined(FUTEX)
    uint32_t word = llm_client_sleep_word(&down);
    if (!atomic_load_explicit(&published, memory_order_acquire))
        llm_client_sleep(&up, &down, word, UINT64_MAX);
#else
    llm_client_arm_bell(&up);
    was_asleep = !atomic_load_explicit(&published, memory_order_acquire);
#endif
    return unused;
}

int main(void)
{
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, publish, NULL);
    pthread_create(&threads[1], NULL, go_to_sleep, NULL);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert(!was_asleep || was_rung || was_woken || was_sent);
    return 0;
}
