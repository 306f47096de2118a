/*
 * rmsnorm.cu - kernels.h rmsnorm on f32 rows, and rmsnorm_heads on the heads of a row.
 */
#include "kernels/cuda/device.h"

static const int NORM_THREADS = 256;
static const int NORM_WARPS = NORM_THREADS / 32;

/* Sum of one number per thread of the block; every thread gets the same bits. */
DEV float block_sum(float value, float (&sums)[NORM_WARPS])
{
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    value = dev_warp_sum(value);
    if (lane == 0)
        dev_shared_store(&sums[warp], value);
    __syncthreads();
    return dev_warp_sum(lane < NORM_WARPS ? dev_shared_load(&sums[lane]) : 0.0f);
}

/* Four neighbours, which begin at a multiple of 16 bytes unless heads follow each other at an odd stride. */
template <bool ALIGNED> DEV float4 load_four(const float *at)
{
    if constexpr (ALIGNED)
        return dev_load(reinterpret_cast<const float4 *>(at));
    else
        return float4{dev_load(at), dev_load(at + 1), dev_load(at + 2), dev_load(at + 3)};
}

template <bool ALIGNED> DEV void store_four(float *at, float4 v)
{
    if constexpr (ALIGNED) {
        dev_store(reinterpret_cast<float4 *>(at), v);
    } else {
        dev_store(at, v.x);
        dev_store(at + 1, v.y);
        dev_store(at + 2, v.z);
        dev_store(at + 3, v.w);
    }
}

/* out[t, h, d] = x[t, h, d] * (1 / sqrt(mean of x[t, h, :]^2 + eps)) * gain[d]; rows `stride` floats apart
 * grid     (T, H)  one block per head of a row (H = 1: per row): they are independent
 * block    (256)   thread i owns elements 4 i + 1024 n .. + 3 (i + 256 n where D is not a multiple of 4)
 * smem     the row, kept between the two passes by the thread that owns the element; a partial sum per warp
 * numerics squares by fmaf into one accumulator per thread, n ascending; lanes by halves (16, 8, 4, 2, 1), then
 *          warps the same way: fixed by D alone
 * moved    8 * T * H * D + 4 * D bytes; the gain comes from the second-level cache after the first row */
template <bool FOURS, bool ALIGNED>
__global__ void __launch_bounds__(NORM_THREADS, 4)
    rmsnorm_kernel(float *out, const float *x, const float *gain, int32_t stride, int32_t D,
                   float eps)
{
    DEV_SHARED(float[NORM_WARPS], sums);
    DEV_SHARED_DYNAMIC(float, row);
    const int me = static_cast<int>(threadIdx.x);
    const size_t at =
        static_cast<size_t>(blockIdx.x) * stride + static_cast<size_t>(blockIdx.y) * D;
    float squares = 0;
    if constexpr (FOURS) {
        for (int i = me; i < D / 4; i += NORM_THREADS) {
            const float4 v = load_four<ALIGNED>(x + at + 4 * i);
            dev_shared_store(reinterpret_cast<float4 *>(row) + i, v);
            squares = fmaf(v.x, v.x, squares);
            squares = fmaf(v.y, v.y, squares);
            squares = fmaf(v.z, v.z, squares);
            squares = fmaf(v.w, v.w, squares);
        }
    } else {
        for (int i = me; i < D; i += NORM_THREADS) {
            const float v = dev_load(x + at + i);
            dev_shared_store(row + i, v);
            squares = fmaf(v, v, squares);
        }
    }
    const float mean = block_sum(squares, sums) / static_cast<float>(D);
    const float scale = 1.0f / sqrtf(mean + eps);
    if constexpr (FOURS) {
        for (int i = me; i < D / 4; i += NORM_THREADS) {
            const float4 v = dev_shared_load(reinterpret_cast<const float4 *>(row) + i);
            const float4 g = dev_load(reinterpret_cast<const float4 *>(gain) + i);
            store_four<ALIGNED>(out + at + 4 * i, float4{v.x * scale * g.x, v.y * scale * g.y,
                                                         v.z * scale * g.z, v.w * scale * g.w});
        }
    } else {
        for (int i = me; i < D; i += NORM_THREADS)
            dev_store(out + at + i, dev_shared_load(row + i) * scale * dev_load(gain + i));
    }
}

static void launch(cuda_stream *stream, const char *op, float *out, const float *x,
                   const float *gain, int32_t stride, int32_t T, int32_t H, int32_t D, float eps)
{
    if (T == 0)
        return;
    const dim3 grid(static_cast<unsigned>(T), static_cast<unsigned>(H));
    const size_t row_bytes = static_cast<size_t>(D) * sizeof(float);
    if (D % 4 == 0 && stride % 4 == 0)
        DEV_LAUNCH(stream, op, (rmsnorm_kernel<true, true>), grid, NORM_THREADS, row_bytes, out, x,
                   gain, stride, D, eps);
    else if (D % 4 == 0)
        DEV_LAUNCH(stream, op, (rmsnorm_kernel<true, false>), grid, NORM_THREADS, row_bytes, out, x,
                   gain, stride, D, eps);
    else
        DEV_LAUNCH(stream, op, (rmsnorm_kernel<false, false>), grid, NORM_THREADS, row_bytes, out,
                   x, gain, stride, D, eps);
}

extern "C" void rmsnorm_cuda(cuda_stream *stream, float *out, const float *x, const float *gain,
                             int32_t T, int32_t D, float eps)
{
    launch(stream, "rmsnorm", out, x, gain, D, T, 1, D, eps);
}

extern "C" void rmsnorm_heads_cuda(cuda_stream *stream, float *x, int32_t stride, const float *gain,
                                   int32_t T, int32_t H, int32_t D, float eps)
{
    launch(stream, "rmsnorm_heads", x, x, gain, stride, T, H, D, eps);
}
