/*
 * kv_list.h - a list of KV blocks, oldest first.
 *
 * Idea     A block is in at most one list; its prev and next are that list's, so a list is no more than two
 *          ends, and every operation costs the same, whatever the length.
 * Owner    kv_pool.c: the free blocks of each model; kv_order.c: the cached ones.
 * Threads  The engine thread.
 * See      kv_pool.h (struct kv_block).
 */
#ifndef LLMD_CORE_KV_LIST_H
#define LLMD_CORE_KV_LIST_H

#include "daemon/core/effect.h"

struct kv_block;

struct kv_list {
    block_id head, tail; /* the oldest and the newest; BLOCK_NONE: empty */
};
#define KV_LIST_EMPTY ((struct kv_list){BLOCK_NONE, BLOCK_NONE})

/* blocks: all of the pool's. `block` is in no list before, or in this one. */
void kv_list_append(struct kv_list *list, struct kv_block *blocks, block_id block);
void kv_list_prepend(struct kv_list *list, struct kv_block *blocks, block_id block);
void kv_list_remove(struct kv_list *list, struct kv_block *blocks, block_id block);

#endif
