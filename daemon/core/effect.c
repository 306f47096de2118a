#include "daemon/core/effect.h"

#include "shm/check.h"

void effect_list_init(struct effect_list *list, struct arena *arena, uint32_t capacity)
{
    *list = (struct effect_list){.items = arena_take(arena, capacity, sizeof *list->items),
                                 .capacity = capacity};
}

static void effect_append(struct effect_list *list, struct core_effect effect)
{
    CHECK(list->count < list->capacity); /* core.c: effects_max() bounds what one call can do */
    list->items[list->count++] = effect;
}

void effect_block(struct effect_list *list, enum core_effect_kind kind, block_id block)
{
    effect_append(list, (struct core_effect){.kind = kind, .slot = REQUEST_NONE, .block = block});
}

void effect_request(struct effect_list *list, enum core_effect_kind kind, uint32_t slot,
                    uint32_t value)
{
    effect_append(list, (struct core_effect){
                            .kind = kind, .slot = slot, .block = BLOCK_NONE, .value = value});
}
