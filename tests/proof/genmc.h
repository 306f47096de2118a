/*
 * genmc.h - what the GenMC harnesses share: the real source files of shm/, compiled into the harness.
 *
 * Idea     A harness includes the .c file under test itself, so that GenMC explores the code that is built. Mutants are made
 *          by the preprocessor: WEAKEN_RELEASE and WEAKEN_ACQUIRE turn every release or acquire of that file into a
 *          relaxed access, NO_FENCE empties its fence. memcpy() moves words, as GenMC compares accesses by their size.
 * See      genmc.sh, README.md.
 */
#ifndef TESTS_PROOF_GENMC_H
#define TESTS_PROOF_GENMC_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef static_assert /* GenMC brings an assert.h of its own */
#define static_assert _Static_assert
#endif

#include "shm/fence.h"
#include "shm/layout.h"

#define CRASH_POINT(name) ((void)0)
#define LLM_SHM_CRASH_POINT_H

static inline void copy_words(void *to, const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
        ((uint64_t *)to)[i] = ((const uint64_t *)from)[i];
}

#ifdef WEAKEN_RELEASE
#define memory_order_release memory_order_relaxed
#endif
#ifdef WEAKEN_ACQUIRE
#define memory_order_acquire memory_order_relaxed
#endif
#ifdef NO_FENCE
#define llm_fence_full() ((void)0)
#endif

#endif
