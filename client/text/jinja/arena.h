/*
 * arena.h - memory that is taken piece by piece and given back at once, up to a limit.
 *
 * Idea     A template's values live as long as its run, so nothing is freed alone. Blocks grow with use; the sum of
 *          all pieces may not pass `limit_bytes`, which is what stops a template that doubles a string in a loop.
 * Owner    Whoever holds the struct; llm_jinja_arena_close() frees. All zero with a limit is an empty arena.
 */
#ifndef LLM_CLIENT_TEXT_JINJA_ARENA_H
#define LLM_CLIENT_TEXT_JINJA_ARENA_H

#include <stddef.h>

struct jinja_arena_block;

struct jinja_arena {
    struct jinja_arena_block *last;
    char *next; /* free bytes of the last block: [next, end) */
    char *end;
    size_t used_bytes; /* taken from the system, blocks' headers included */
    size_t limit_bytes;
};

/* NULL: the limit is reached, or the system has no more. Aligned for every type. Not zeroed. */
void *llm_jinja_arena_take(struct jinja_arena *arena, size_t bytes);
void llm_jinja_arena_close(struct jinja_arena *arena);

#endif
