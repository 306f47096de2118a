/*
 * memories.h - one connection's `up` and `down` in plain memory, for tests of both sides in one process.
 *
 * Why plain: both sides then use the same addresses, so the thread sanitizer sees each hand-over.
 */
#ifndef TESTS_SUPPORT_MEMORIES_H
#define TESTS_SUPPORT_MEMORIES_H

#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"

struct memories {
    struct llm_geometry geometry;
    void *up;
    void *down;
};

static inline void memories_open(struct memories *memories, const struct llm_geometry *geometry)
{
    size_t up_bytes = llm_up_map(geometry).total_bytes;
    size_t down_bytes = llm_down_map(geometry).total_bytes;
    *memories = (struct memories){
        .geometry = *geometry,
        .up = aligned_alloc(LLM_PAGE_BYTES, up_bytes),
        .down = aligned_alloc(LLM_PAGE_BYTES, down_bytes),
    };
    memset(memories->up, 0, up_bytes); /* as fresh memfds are */
    memset(memories->down, 0, down_bytes);
}

static inline void memories_close(struct memories *memories)
{
    free(memories->up);
    free(memories->down);
}

#endif
