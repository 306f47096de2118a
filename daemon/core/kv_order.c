#include "daemon/core/kv_order.h"

#include "daemon/core/kv_pool.h"

/* Each block given back was added once before: over all calls this is constant work per block. */
static void shorten_again(struct kv_order *order, struct kv_block *blocks)
{
    uint32_t count_max = (order->once_count + order->again_count) / KV_ORDER_AGAIN_PART;
    while (order->again_count > count_max) {
        block_id oldest = order->again.head;
        kv_order_remove(order, blocks, oldest);
        blocks[oldest].reused = false;
        kv_list_append(&order->once, blocks, oldest);
        order->once_count++;
    }
}

void kv_order_add(struct kv_order *order, struct kv_block *blocks, block_id block)
{
    bool reused = blocks[block].reused;
    kv_list_append(reused ? &order->again : &order->once, blocks, block);
    *(reused ? &order->again_count : &order->once_count) += 1;
    shorten_again(order, blocks);
}

void kv_order_adopt(struct kv_order *order, struct kv_block *blocks, block_id block)
{
    kv_list_prepend(&order->once, blocks, block);
    order->once_count++;
}

void kv_order_remove(struct kv_order *order, struct kv_block *blocks, block_id block)
{
    bool reused = blocks[block].reused;
    kv_list_remove(reused ? &order->again : &order->once, blocks, block);
    *(reused ? &order->again_count : &order->once_count) -= 1;
}

block_id kv_order_first(const struct kv_order *order)
{
    return order->once_count > 0 ? order->once.head : order->again.head;
}
