/*
 * kv.h - where a key or a value lies in the pool: kernel_kv_block() and its like, on the device.
 */
#ifndef LLM_KERNELS_CUDA_KV_H
#define LLM_KERNELS_CUDA_KV_H

#include "kernels/cuda/device.h"

DEV unsigned char *kv_block(const cuda_kv &kv, uint32_t block)
{
    return kv.base + (block / kv.blocks_per_slab) * kv.slab_bytes +
           (block % kv.blocks_per_slab) * kv.block_bytes;
}

/* First key row [B, D] of one layer and head in a block; the value rows follow kv.head_bytes / 2 behind. */
DEV unsigned char *kv_keys(const cuda_kv &kv, uint32_t block, int32_t layer, int32_t head)
{
    return kv_block(kv, block) + layer * kv.layer_bytes + head * kv.head_bytes;
}

/* The block that holds a position of row t's sequence. */
DEV uint32_t kv_block_of(const cuda_batch &batch, int32_t t, int32_t position, int32_t B)
{
    const size_t table = static_cast<size_t>(dev_load(batch.table_of_row + t));
    return dev_load(batch.tables + table * batch.table_stride + position / B);
}

#endif
