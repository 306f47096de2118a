/*
 * fence.h - the three processor hints that the lock-free files share.
 *
 * Idea     llm_fence_full() orders a store before a later load; nothing weaker does, on any processor, and
 *          both sides of the sleep protocol rest on it (wait.h). llm_copy_barrier() keeps the compiler from
 *          reading shared memory a second time in place of a copy. llm_spin_pause() is for loops that poll.
 */
#ifndef LLM_SHM_FENCE_H
#define LLM_SHM_FENCE_H

#include <stdatomic.h>

static inline void llm_fence_full(void)
{
/* The thread sanitizer does not model fences. It needs not to: nothing but the order of two atomics hangs on
 * this one, and data is published by release stores, which it does model. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
    atomic_thread_fence(memory_order_seq_cst);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

static inline void llm_copy_barrier(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

static inline void llm_spin_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
