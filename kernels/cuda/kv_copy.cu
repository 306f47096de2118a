/*
 * kv_copy.cu - kernels.h kv_copy: the first rows of a block to another block, the tail of a fork.
 */
#include "kernels/cuda/kv.h"

static const int COPY_THREADS = 128;

/* Rows 0..token_count-1 of every layer, head, keys and values
 * grid   (2 * layers * G, count)  one run of consecutive rows per block
 * block  (128)                    16 bytes per thread and turn; 4 where the rows of a head are not so aligned
 * moved  4 * layers * G * D * token_count * dtype bytes per copy */
template <class Word>
__global__ void __launch_bounds__(COPY_THREADS)
    kv_copy_kernel(const cuda_kv kv, const cuda_kv_copy *copies)
{
    const cuda_kv_copy *copy = copies + blockIdx.y;
    const uint64_t run = blockIdx.x * (kv.head_bytes / 2);
    const uint64_t bytes = dev_load(&copy->token_count) * kv.row_bytes;
    const unsigned char *from = kv_block(kv, dev_load(&copy->from_block)) + run;
    unsigned char *to = kv_block(kv, dev_load(&copy->to_block)) + run;
    const uint64_t words = bytes / sizeof(Word);
    for (uint64_t i = threadIdx.x; i < words; i += COPY_THREADS)
        dev_store(reinterpret_cast<Word *>(to) + i,
                  dev_load_once(reinterpret_cast<const Word *>(from) + i));
    for (uint64_t at = words * sizeof(Word) + 4 * threadIdx.x; at < bytes; at += 4 * COPY_THREADS)
        dev_store(reinterpret_cast<uint32_t *>(to + at),
                  dev_load_once(reinterpret_cast<const uint32_t *>(from + at)));
}

extern "C" void kv_copy_cuda(cuda_stream *stream, const cuda_kv *kv, const cuda_kv_copy *copies,
                             int32_t count)
{
    if (count == 0)
        return;
    const dim3 grid(static_cast<unsigned>(2 * kv->layers * kv->G), static_cast<unsigned>(count));
    if ((kv->head_bytes / 2) % 16 == 0 && kv->slab_bytes % 16 == 0)
        DEV_LAUNCH(stream, "kv_copy", kv_copy_kernel<uint4>, grid, COPY_THREADS, 0, *kv, copies);
    else
        DEV_LAUNCH(stream, "kv_copy", kv_copy_kernel<uint32_t>, grid, COPY_THREADS, 0, *kv, copies);
}
