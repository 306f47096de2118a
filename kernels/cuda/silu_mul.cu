/*
 * silu_mul.cu - kernels.h silu_mul: the gated activation between the two halves of a feed-forward layer.
 */
#include "kernels/cuda/device.h"

static const int SILU_THREADS = 256;

/* A gate far below zero makes exp() infinite and the quotient -0, as it should be. */
DEV float silu_times(float gate, float up)
{
    return gate / (1.0f + expf(-gate)) * up;
}

/* out[t, f] = silu(x[t, f]) * x[t, F + f]
 * grid     (T, ceil(F / 1024))  blocks of a row side by side
 * block    (256)                16 bytes of gate and of up per thread; single elements where F is no multiple of 4
 * numerics expf() of the device, within 2 units in the last place; a true division
 * moved    12 * T * F bytes */
template <bool FOURS>
__global__ void __launch_bounds__(SILU_THREADS)
    silu_mul_kernel(float *out, const float *x, int32_t F)
{
    const float *gate = x + 2 * static_cast<size_t>(blockIdx.x) * F, *up = gate + F;
    float *to = out + static_cast<size_t>(blockIdx.x) * F;
    const int me = static_cast<int>(blockIdx.y * SILU_THREADS + threadIdx.x);
    if constexpr (FOURS) {
        if (4 * me < F) {
            const float4 a = dev_load_once(reinterpret_cast<const float4 *>(gate) + me);
            const float4 b = dev_load_once(reinterpret_cast<const float4 *>(up) + me);
            dev_store(reinterpret_cast<float4 *>(to) + me,
                      float4{silu_times(a.x, b.x), silu_times(a.y, b.y), silu_times(a.z, b.z),
                             silu_times(a.w, b.w)});
        }
    } else {
        if (me < F)
            dev_store(to + me, silu_times(dev_load_once(gate + me), dev_load_once(up + me)));
    }
}

extern "C" void silu_mul_cuda(cuda_stream *stream, float *out, const float *x, int32_t T, int32_t F)
{
    if (T == 0)
        return;
    const unsigned rows = static_cast<unsigned>(T),
                   turns = static_cast<unsigned>(F % 4 ? F : F / 4);
    const dim3 grid(rows, (turns + SILU_THREADS - 1) / SILU_THREADS);
    if (F % 4 == 0)
        DEV_LAUNCH(stream, "silu_mul", silu_mul_kernel<true>, grid, SILU_THREADS, 0, out, x, F);
    else
        DEV_LAUNCH(stream, "silu_mul", silu_mul_kernel<false>, grid, SILU_THREADS, 0, out, x, F);
}
