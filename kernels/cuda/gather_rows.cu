/*
 * gather_rows.cu - kernels.h gather_rows: the rows whose logits are wanted.
 */
#include "kernels/cuda/device.h"

static const int GATHER_THREADS = 256;

/* out[i, :] = x[rows[i], :]
 * grid   (count)  one block per row: rows lie anywhere
 * block  (256)    16 bytes per thread and turn; 4 where D is no multiple of 4
 * moved  8 * count * D bytes */
template <bool FOURS>
__global__ void __launch_bounds__(GATHER_THREADS)
    gather_rows_kernel(float *out, const float *x, const int32_t *rows, int32_t D)
{
    const float *from = x + static_cast<size_t>(dev_load(rows + blockIdx.x)) * D;
    float *to = out + static_cast<size_t>(blockIdx.x) * D;
    if constexpr (FOURS) {
        for (int i = static_cast<int>(threadIdx.x); i < D / 4; i += GATHER_THREADS)
            dev_store(reinterpret_cast<float4 *>(to) + i,
                      dev_load_once(reinterpret_cast<const float4 *>(from) + i));
    } else {
        for (int i = static_cast<int>(threadIdx.x); i < D; i += GATHER_THREADS)
            dev_store(to + i, dev_load_once(from + i));
    }
}

extern "C" void gather_rows_cuda(cuda_stream *stream, float *out, const float *x,
                                 const int32_t *rows, int32_t count, int32_t D)
{
    if (count == 0)
        return;
    const dim3 grid(static_cast<unsigned>(count));
    if (D % 4 == 0)
        DEV_LAUNCH(stream, "gather_rows", gather_rows_kernel<true>, grid, GATHER_THREADS, 0, out, x,
                   rows, D);
    else
        DEV_LAUNCH(stream, "gather_rows", gather_rows_kernel<false>, grid, GATHER_THREADS, 0, out,
                   x, rows, D);
}
