/*
 * kv_append.cu - kernels.h kv_append: the keys and values of a step's rows to their places in the blocks.
 */
#include "kernels/cuda/kv.h"

static const int APPEND_THREADS = 256;

template <int DTYPE> DEV void narrow(unsigned char *row, int d, float value)
{
    if constexpr (DTYPE == CUDA_F32)
        dev_store(reinterpret_cast<float *>(row) + d, value);
    else
        dev_store(reinterpret_cast<uint16_t *>(row) + d, dev_f32_to_bf16(value));
}

template <int DTYPE> DEV void narrow4(unsigned char *row, int four, float4 v)
{
    if constexpr (DTYPE == CUDA_F32)
        dev_store(reinterpret_cast<float4 *>(row) + four, v);
    else
        dev_store(reinterpret_cast<ushort4 *>(row) + four,
                  ushort4{dev_f32_to_bf16(v.x), dev_f32_to_bf16(v.y), dev_f32_to_bf16(v.z),
                          dev_f32_to_bf16(v.w)});
}

/* Row p % B of block tables[p / B], p = positions[t], for every head of row t
 * grid     (T, 2)  keys and values of a row
 * block    (256)   elements of all heads in turn, four neighbours at a time where D and stride allow it
 * numerics f32 exact; bf16 to nearest, ties to even
 * moved    2 * T * G * D * (4 + dtype) bytes */
template <int DTYPE, bool FOURS>
__global__ void __launch_bounds__(APPEND_THREADS)
    kv_append_kernel(const cuda_kv kv, int32_t layer, const float *k, const float *v,
                     int32_t stride, const cuda_batch batch)
{
    const int t = static_cast<int>(blockIdx.x), p = dev_load(batch.positions + t);
    const uint32_t block = kv_block_of(batch, t, p, kv.B);
    const float *from = (blockIdx.y ? v : k) + static_cast<size_t>(t) * stride;
    unsigned char *rows = kv_keys(kv, block, layer, 0) + (blockIdx.y ? kv.head_bytes / 2 : 0) +
                          (p % kv.B) * kv.row_bytes;
    const int per_head = FOURS ? kv.D / 4 : kv.D;
    for (int i = static_cast<int>(threadIdx.x); i < kv.G * per_head; i += APPEND_THREADS) {
        unsigned char *row = rows + (i / per_head) * kv.head_bytes;
        if constexpr (FOURS)
            narrow4<DTYPE>(row, i % per_head,
                           dev_load_once(reinterpret_cast<const float4 *>(from) + i));
        else
            narrow<DTYPE>(row, i % per_head, dev_load_once(from + i));
    }
}

template <int DTYPE>
static void launch(cuda_stream *stream, const cuda_kv *kv, int32_t layer, const float *k,
                   const float *v, int32_t stride, const cuda_batch *batch)
{
    const dim3 grid(static_cast<unsigned>(batch->T), 2);
    if (kv->D % 4 == 0 && stride % 4 == 0)
        DEV_LAUNCH(stream, "kv_append", (kv_append_kernel<DTYPE, true>), grid, APPEND_THREADS, 0,
                   *kv, layer, k, v, stride, *batch);
    else
        DEV_LAUNCH(stream, "kv_append", (kv_append_kernel<DTYPE, false>), grid, APPEND_THREADS, 0,
                   *kv, layer, k, v, stride, *batch);
}

extern "C" void kv_append_cuda(cuda_stream *stream, const cuda_kv *kv, int32_t layer,
                               const float *k, const float *v, int32_t stride,
                               const cuda_batch *batch)
{
    if (batch->T == 0)
        return;
    if (kv->dtype == CUDA_F32)
        launch<CUDA_F32>(stream, kv, layer, k, v, stride, batch);
    else
        launch<CUDA_BF16>(stream, kv, layer, k, v, stride, batch);
}
