/*
 * kv_zero.cu - whole blocks of the KV pool filled with zeros.
 */
#include "kernels/cuda/kv.h"

static const int ZERO_THREADS = 256;
static const uint64_t ZERO_BYTES = 64 * 1024; /* of one thread block */

/* Every byte of blocks[i]
 * grid   (ceil(block_bytes / 64 KB), count)
 * block  (256)  16 bytes per thread and turn; 4 where blocks are not so aligned
 * moved  block_bytes per block */
template <class Word>
__global__ void __launch_bounds__(ZERO_THREADS)
    kv_zero_kernel(const cuda_kv kv, const uint32_t *blocks)
{
    unsigned char *block = kv_block(kv, dev_load(blocks + blockIdx.y));
    const uint64_t first = blockIdx.x * ZERO_BYTES, left = kv.block_bytes - first;
    const uint64_t words = (left < ZERO_BYTES ? left : ZERO_BYTES) / sizeof(Word);
    for (uint64_t i = threadIdx.x; i < words; i += ZERO_THREADS)
        dev_store(reinterpret_cast<Word *>(block + first) + i, Word{});
}

extern "C" void kv_zero_cuda(cuda_stream *stream, const cuda_kv *kv, const uint32_t *blocks,
                             int32_t count)
{
    if (count == 0)
        return;
    const dim3 grid(static_cast<unsigned>((kv->block_bytes + ZERO_BYTES - 1) / ZERO_BYTES),
                    static_cast<unsigned>(count));
    if (kv->block_bytes % 16 == 0 && kv->slab_bytes % 16 == 0)
        DEV_LAUNCH(stream, "kv_zero", kv_zero_kernel<uint4>, grid, ZERO_THREADS, 0, *kv, blocks);
    else
        DEV_LAUNCH(stream, "kv_zero", kv_zero_kernel<uint32_t>, grid, ZERO_THREADS, 0, *kv, blocks);
}
