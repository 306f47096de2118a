/*
 * embed.cu - rows of a table by token id, widened to f32: kernels.h embed and embed_matrix.
 */
#include "kernels/cuda/device.h"

static const int EMBED_THREADS = 256;

/* out[t, :] = table[ids[t], :]
 * grid   (T)    one block per token: a row is 0.5 to 32 KB, and rows lie anywhere
 * block  (256)  four elements per thread and turn: 16 bytes written, 8 or 16 read; one where D is not a
 *               multiple of 4
 * moved  T * (D * dtype + 4 * D + 4) bytes
 * faults an id outside 0..V-1 writes zeros and sets CUDA_FAULT_TOKEN_ID: ids may come from a sampler on the device */
template <int DTYPE, bool FOURS>
__global__ void __launch_bounds__(EMBED_THREADS)
    embed_kernel(float *out, const int32_t *ids, const cuda_table table, uint32_t *fault)
{
    const int t = static_cast<int>(blockIdx.x), D = table.D;
    const int id = dev_load(ids + t);
    const bool known = id >= 0 && id < table.V;
    const unsigned char *row =
        static_cast<const unsigned char *>(table.rows) + (known ? id : 0) * table.row_bytes;
    float *to = out + static_cast<size_t>(t) * D;
    if (!known && threadIdx.x == 0)
        atomicOr(fault, CUDA_FAULT_TOKEN_ID);
    if constexpr (FOURS) {
        const auto *from = reinterpret_cast<const typename dev_format<DTYPE>::four *>(row);
        for (int i = static_cast<int>(threadIdx.x); i < D / 4; i += EMBED_THREADS) {
            dev_float4 v = {};
            if (known)
                v = dev_widen4<DTYPE>(dev_load_once(from + i));
            dev_store(reinterpret_cast<float4 *>(to) + i, float4{v.v[0], v.v[1], v.v[2], v.v[3]});
        }
    } else {
        const auto *from = reinterpret_cast<const typename dev_format<DTYPE>::one *>(row);
        for (int i = static_cast<int>(threadIdx.x); i < D; i += EMBED_THREADS)
            dev_store(to + i, known ? dev_widen<DTYPE>(dev_load_once(from + i)) : 0.0f);
    }
}

template <int DTYPE>
static void launch(cuda_stream *stream, float *out, const int32_t *ids, const cuda_table *table,
                   int32_t T)
{
    const dim3 grid(static_cast<unsigned>(T));
    if (table->D % 4 == 0 && table->row_bytes % 16 == 0)
        DEV_LAUNCH(stream, "embed", (embed_kernel<DTYPE, true>), grid, EMBED_THREADS, 0, out, ids,
                   *table, stream->fault);
    else
        DEV_LAUNCH(stream, "embed", (embed_kernel<DTYPE, false>), grid, EMBED_THREADS, 0, out, ids,
                   *table, stream->fault);
}

extern "C" void embed_cuda(cuda_stream *stream, float *out, const int32_t *ids,
                           const cuda_table *table, int32_t T)
{
    if (T == 0)
        return;
    if (table->dtype == CUDA_F32)
        launch<CUDA_F32>(stream, out, ids, table, T);
    else if (table->dtype == CUDA_BF16)
        launch<CUDA_BF16>(stream, out, ids, table, T);
    else
        launch<CUDA_F16>(stream, out, ids, table, T);
}
