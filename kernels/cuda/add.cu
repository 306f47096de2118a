/*
 * add.cu - kernels.h add: the residual.
 */
#include "kernels/cuda/device.h"

static const int ADD_THREADS = 256;

/* out[i] = out[i] + x[i]
 * grid   (ceil(count / 1024))  rows do not matter: the array is taken as one
 * block  (256)                 16 bytes of each per thread; the last count % 4 elements one by one
 * moved  12 bytes per element */
__global__ void __launch_bounds__(ADD_THREADS) add_kernel(float *out, const float *x, int64_t count)
{
    const int64_t at = 4 * (static_cast<int64_t>(blockIdx.x) * ADD_THREADS + threadIdx.x);
    if (at + 4 <= count) {
        const float4 a = dev_load(reinterpret_cast<const float4 *>(out + at));
        const float4 b = dev_load(reinterpret_cast<const float4 *>(x + at));
        dev_store(reinterpret_cast<float4 *>(out + at),
                  float4{a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w});
    } else {
        for (int64_t i = at; i < count; i++)
            dev_store(out + i, dev_load(out + i) + dev_load(x + i));
    }
}

extern "C" void add_cuda(cuda_stream *stream, float *out, const float *x, int32_t T, int32_t D)
{
    const int64_t count = static_cast<int64_t>(T) * D, per_block = 4 * ADD_THREADS;
    if (count == 0)
        return;
    const dim3 grid(static_cast<unsigned>((count + per_block - 1) / per_block));
    DEV_LAUNCH(stream, "add", add_kernel, grid, ADD_THREADS, 0, out, x, count);
}
