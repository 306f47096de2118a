/*
 * arena.h - memory that is taken once, at the start, and never given back.
 *
 * Idea     One stretch of zeroed memory and a position that only moves forward. An arena without memory
 *          (base NULL) only measures: the same list of takes, run twice, first says how much is needed and
 *          then hands it out, so that the two can never disagree.
 * Owner    The caller owns the memory; it outlives everything that was taken from it.
 * Threads  One, at start.
 * See      core.h: core_bytes() measures, core_open() takes and freezes.
 */
#ifndef LLMD_CORE_ARENA_H
#define LLMD_CORE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARENA_ALIGN_BYTES 64u

struct arena {
    unsigned char *base; /* NULL: only measure */
    size_t used_bytes;   /* a multiple of ARENA_ALIGN_BYTES */
    size_t limit_bytes;  /* SIZE_MAX while measuring */
    bool frozen;         /* a later take is a failed CHECK */
};

struct arena arena_measure(void);
struct arena arena_over(void *zeroed_memory, size_t bytes);
/* `count` items of `item_bytes`, aligned to a cache line; NULL from an arena that only measures. */
void *arena_take(struct arena *arena, size_t count, size_t item_bytes);
void arena_freeze(struct arena *arena);

#endif
