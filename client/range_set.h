/*
 * range_set.h - which parts of an arena are in use; first fit.
 *
 * Idea     The ranges in use, in order of their start; a new one goes into the first gap that holds it. A
 *          connection has few (one per stream slot), so a walk over them is shorter than anything cleverer.
 * Owner    The slot table: one set for the token log, one for the prompt arena.
 * Threads  Called under the slot table's lock.
 */
#ifndef LLM_CLIENT_RANGE_SET_H
#define LLM_CLIENT_RANGE_SET_H

#include <stdbool.h>
#include <stdint.h>

struct llm_range {
    uint32_t start, end;
};

struct llm_range_set {
    struct llm_range *ranges; /* [range_count], ascending, disjoint */
    uint32_t range_count;
    uint32_t range_max;
    uint32_t total;   /* a multiple of `granule` */
    uint32_t granule; /* starts and sizes are multiples of it; a power of two */
};

/* `ranges` [range_max] is the caller's. `total` is rounded down to whole granules. */
void llm_range_set_init(struct llm_range_set *set, struct llm_range *ranges, uint32_t range_max,
                        uint32_t total, uint32_t granule);
/* Find room for `size` (0 takes nothing and starts at 0). False: no gap is large enough now. */
bool llm_range_set_take(struct llm_range_set *set, uint32_t size, uint32_t *out_start);
/* Give back what was taken with this start and size. */
void llm_range_set_drop(struct llm_range_set *set, uint32_t start, uint32_t size);
/* Sum of all ranges in use. */
uint32_t llm_range_set_used(const struct llm_range_set *set);
/* "The ranges are ascending, disjoint, not empty and inside the arena." */
bool llm_range_set_sane(const struct llm_range_set *set);

#endif
