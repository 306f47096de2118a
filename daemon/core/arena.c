#include "daemon/core/arena.h"

#include "shm/check.h"

struct arena arena_measure(void)
{
    return (struct arena){.limit_bytes = SIZE_MAX};
}

struct arena arena_over(void *zeroed_memory, size_t bytes)
{
    CHECK((uintptr_t)zeroed_memory % ARENA_ALIGN_BYTES == 0);
    return (struct arena){.base = zeroed_memory, .limit_bytes = bytes};
}

void *arena_take(struct arena *arena, size_t count, size_t item_bytes)
{
    CHECK(!arena->frozen);
    CHECK(item_bytes > 0 && count <= (SIZE_MAX / 4) / item_bytes);
    size_t bytes = (count * item_bytes + ARENA_ALIGN_BYTES - 1) & ~(size_t)(ARENA_ALIGN_BYTES - 1);
    CHECK(bytes <= arena->limit_bytes - arena->used_bytes);
    void *taken = arena->base ? arena->base + arena->used_bytes : NULL;
    arena->used_bytes += bytes;
    return taken;
}

void arena_freeze(struct arena *arena)
{
    arena->frozen = true;
}
