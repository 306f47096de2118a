#include "daemon/core/kv_list.h"

#include "daemon/core/kv_pool.h"

static void list_link(struct kv_list *list, struct kv_block *blocks, block_id prev, block_id block,
                      block_id next)
{
    blocks[block].prev = prev;
    blocks[block].next = next;
    *(prev == BLOCK_NONE ? &list->head : &blocks[prev].next) = block;
    *(next == BLOCK_NONE ? &list->tail : &blocks[next].prev) = block;
}

void kv_list_append(struct kv_list *list, struct kv_block *blocks, block_id block)
{
    list_link(list, blocks, list->tail, block, BLOCK_NONE);
}

void kv_list_prepend(struct kv_list *list, struct kv_block *blocks, block_id block)
{
    list_link(list, blocks, BLOCK_NONE, block, list->head);
}

void kv_list_remove(struct kv_list *list, struct kv_block *blocks, block_id block)
{
    const struct kv_block *b = &blocks[block];
    *(b->prev == BLOCK_NONE ? &list->head : &blocks[b->prev].next) = b->next;
    *(b->next == BLOCK_NONE ? &list->tail : &blocks[b->next].prev) = b->prev;
}
