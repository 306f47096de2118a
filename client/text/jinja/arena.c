#include "client/text/jinja/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

#define FIRST_BLOCK_BYTES ((size_t)16 << 10)
#define BLOCK_BYTES_MAX   ((size_t)1 << 20)

struct jinja_arena_block {
    alignas(max_align_t) struct jinja_arena_block *before;
    size_t bytes;
};

static size_t next_block_bytes(const struct jinja_arena *arena)
{
    if (!arena->last)
        return FIRST_BLOCK_BYTES;
    return arena->last->bytes >= BLOCK_BYTES_MAX / 2 ? BLOCK_BYTES_MAX : arena->last->bytes * 2;
}

void *llm_jinja_arena_take(struct jinja_arena *arena, size_t bytes)
{
    if (bytes > arena->limit_bytes)
        return NULL;
    bytes = bytes > 0 ? bytes : 1; /* so that an empty piece has an address too */
    bytes = (bytes + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (bytes > (size_t)(arena->end - arena->next)) {
        size_t block_bytes = next_block_bytes(arena),
               least = sizeof(struct jinja_arena_block) + bytes;
        block_bytes = block_bytes < least ? least : block_bytes;
        if (block_bytes > arena->limit_bytes - arena->used_bytes)
            block_bytes = least; /* near the limit: exactly what is asked for */
        if (block_bytes > arena->limit_bytes - arena->used_bytes)
            return NULL;
        struct jinja_arena_block *block = malloc(block_bytes);
        if (!block)
            return NULL;
        *block = (struct jinja_arena_block){arena->last, block_bytes};
        arena->last = block;
        arena->used_bytes += block_bytes;
        arena->next = (char *)(block + 1);
        arena->end = (char *)block + block_bytes;
    }
    void *piece = arena->next;
    arena->next += bytes;
    return piece;
}

void llm_jinja_arena_close(struct jinja_arena *arena)
{
    while (arena->last) {
        struct jinja_arena_block *block = arena->last;
        arena->last = block->before;
        free(block);
    }
    *arena = (struct jinja_arena){.limit_bytes = arena->limit_bytes};
}
