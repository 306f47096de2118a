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

void effect_block(struct effect_list *list, enum core_effect_kind kind, block_id block,
                  uint32_t value)
{
    effect_append(list, (struct core_effect){
                            .kind = kind, .slot = REQUEST_NONE, .block = block, .value = value});
    list->changes += kind == CORE_BLOCK_COPIED;
}

void effect_domain(struct effect_list *list, enum core_effect_kind kind, block_id block,
                   uint64_t domain)
{
    effect_append(list, (struct core_effect){
                            .kind = kind, .slot = REQUEST_NONE, .block = block, .domain = domain});
    list->changes++;
}

#define EFFECT_VOID ((enum core_effect_kind)0)

/* True: the effect is to be taken out. A take stays, for the table, but nothing need be zeroed any more. */
static bool is_undone(struct core_effect *effect, bool *unclear)
{
    *unclear |= effect->kind != CORE_BLOCK_TAKEN || effect->value != 0;
    if (effect->kind != CORE_BLOCK_TAKEN)
        return true;
    effect->value = 0;
    return false;
}

bool effect_freed(struct effect_list *list, block_id block, bool sealed)
{
    bool unclear = false;
    /* What was sealed before this call is looked for only if something was sealed or widened in it. */
    uint32_t i = !sealed || list->changes > list->voided ? list->count : 0;
    bool taken = false;
    while (!taken && i-- > 0) {
        struct core_effect *effect = &list->items[i];
        if (effect->block != block || effect->kind == EFFECT_VOID)
            continue;
        taken = effect->kind == CORE_BLOCK_TAKEN || effect->kind == CORE_BLOCK_FREED;
        if (effect->kind == CORE_BLOCK_FREED || !is_undone(effect, &unclear))
            continue;
        effect->kind = EFFECT_VOID;
        list->voided++;
    }
    effect_block(list, CORE_BLOCK_FREED, block, 0);
    return unclear;
}

void effect_list_begin(struct effect_list *list)
{
    list->count = 0;
    list->changes = 0;
    list->voided = 0;
}

void effect_list_close(struct effect_list *list)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; list->voided > 0 && i < list->count; i++)
        if (list->items[i].kind != EFFECT_VOID)
            list->items[kept++] = list->items[i];
    if (list->voided > 0)
        list->count = kept;
}

void effect_request(struct effect_list *list, enum core_effect_kind kind, uint32_t slot,
                    uint32_t value)
{
    effect_append(list, (struct core_effect){
                            .kind = kind, .slot = slot, .block = BLOCK_NONE, .value = value});
}
