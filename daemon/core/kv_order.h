/*
 * kv_order.h - in which order cached blocks are evicted.
 *
 * Idea     What was used once is likely never used again: one pass over long documents would push everything
 *          out of a list by last use. So there are two such lists, oldest first. A block that nobody asked for a
 *          second time is in `once`; one that was found again is in `again`, which has at most a quarter of the
 *          cached blocks and gives its oldest back to `once`, as the newest there, to prove itself anew. `once`
 *          is evicted from first.
 *
 *              released, never found --> [ once: oldest ... newest ] <-- the oldest, when again is too long --+
 *                                           |                                                               |
 *              evicted <--------------------+   found again --> held --> [ again: oldest ... newest ] -------+
 *
 * Leaves   A chain is released from its end, so within a list a child stands before its parent. Whoever finds a
 *          block finds its ancestors: `reused` of a child is `reused` of its parent, and `again` gives back
 *          a child before its parent. So the first of `once`, or without one the first of `again`, never has a
 *          child: leaf-first order costs no search. It is also what makes the order aware of cost: the end of a
 *          chain, which only itself depends on, is always lost before what many continue.
 * Measured The quarter: docs/PERFORMANCE.md, "Prefix cache on request traces".
 * Owner    kv_pool.c, which sets `reused` of a held block and calls the functions here.
 * Threads  The engine thread.
 * See      README.md rule 5, tests/daemon/test_kv_pool.c.
 */
#ifndef LLMD_CORE_KV_ORDER_H
#define LLMD_CORE_KV_ORDER_H

#include <stdint.h>

#include "daemon/core/kv_list.h"

#define KV_ORDER_AGAIN_PART 4u /* `again` has at most one of so many cached blocks */

struct kv_order {
    struct kv_list once, again; /* by block->reused */
    uint32_t once_count, again_count;
};
#define KV_ORDER_EMPTY ((struct kv_order){.once = KV_LIST_EMPTY, .again = KV_LIST_EMPTY})

/* A block becomes cached, as the newest; its children, if cached, are here already. */
void kv_order_add(struct kv_order *order, struct kv_block *blocks, block_id block);
/* A block of a former engine becomes cached, as the oldest; its parent is here already. */
void kv_order_adopt(struct kv_order *order, struct kv_block *blocks, block_id block);
/* Held again, or evicted. */
void kv_order_remove(struct kv_order *order, struct kv_block *blocks, block_id block);
/* The next to evict; it has no child. BLOCK_NONE: none is cached. */
block_id kv_order_first(const struct kv_order *order);

#endif
