/*
 * test_seed.h - random tests that can be replayed.
 *
 * Idea     A test draws from a stream that starts at test_seed(): the environment's LLM_TEST_SEED, or the clock.
 *          Its failure messages print the seed, so that LLM_TEST_SEED=<it> runs the same test again.
 */
#ifndef TESTS_SUPPORT_TEST_SEED_H
#define TESTS_SUPPORT_TEST_SEED_H

#include <stdint.h>
#include <stdlib.h>

#include "shm/clock.h"

static inline uint64_t test_seed(void)
{
    const char *text = getenv("LLM_TEST_SEED");
    return text ? strtoull(text, NULL, 0) : llm_wall_ns();
}

/* splitmix64: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators". */
static inline uint64_t test_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

#endif
