/*
 * rope.cu - kernels.h rope: pairs of a head's dimensions turned by the angle of the row's position.
 */
#include "kernels/cuda/device.h"

static const int ROPE_THREADS = 128;

/* Turn one pair; each product is rounded before the sum. */
DEV void turn(float *a, float *b, float cosine, float sine)
{
    const float x = *a, y = *b;
    *a = x * cosine - y * sine;
    *b = y * cosine + x * sine;
}

/* (x[i], x[i + R/2]) by the angle in row positions[t] of the table, for every head of row t
 * grid   (T)    one block per row: its cosines and sines are read once and stay in the first-level cache
 * block  (128)  pairs of all heads in turn, four neighbours at a time where R/2, D and stride allow it
 * moved  8 * T * H * R bytes of x, 4 * R bytes of the table per different position */
template <bool FOURS>
__global__ void __launch_bounds__(ROPE_THREADS)
    rope_kernel(float *x, int32_t stride, const int32_t *positions, const cuda_rope rope, int32_t H,
                int32_t D)
{
    const int t = static_cast<int>(blockIdx.x), half = rope.D / 2;
    const float *cosines = rope.cos_sin + static_cast<size_t>(dev_load(positions + t)) * rope.D;
    const float *sines = cosines + half;
    float *row = x + static_cast<size_t>(t) * stride;
    const int per_head = FOURS ? half / 4 : half;
    for (int i = static_cast<int>(threadIdx.x); i < H * per_head; i += ROPE_THREADS) {
        float *head = row + static_cast<size_t>(i / per_head) * D;
        const int pair = i % per_head;
        if constexpr (FOURS) {
            float4 *first = reinterpret_cast<float4 *>(head) + pair;
            float4 *second = reinterpret_cast<float4 *>(head + half) + pair;
            const float4 c = dev_load(reinterpret_cast<const float4 *>(cosines) + pair);
            const float4 s = dev_load(reinterpret_cast<const float4 *>(sines) + pair);
            float4 a = dev_load(first), b = dev_load(second);
            turn(&a.x, &b.x, c.x, s.x);
            turn(&a.y, &b.y, c.y, s.y);
            turn(&a.z, &b.z, c.z, s.z);
            turn(&a.w, &b.w, c.w, s.w);
            dev_store(first, a);
            dev_store(second, b);
        } else {
            float a = dev_load(head + pair), b = dev_load(head + half + pair);
            turn(&a, &b, dev_load(cosines + pair), dev_load(sines + pair));
            dev_store(head + pair, a);
            dev_store(head + half + pair, b);
        }
    }
}

extern "C" void rope_cuda(cuda_stream *stream, float *x, int32_t stride, const int32_t *positions,
                          const cuda_rope *rope, int32_t T, int32_t H, int32_t D)
{
    if (T == 0)
        return;
    const dim3 grid(static_cast<unsigned>(T));
    if (rope->D % 8 == 0 && D % 4 == 0 && stride % 4 == 0)
        DEV_LAUNCH(stream, "rope", rope_kernel<true>, grid, ROPE_THREADS, 0, x, stride, positions,
                   *rope, H, D);
    else
        DEV_LAUNCH(stream, "rope", rope_kernel<false>, grid, ROPE_THREADS, 0, x, stride, positions,
                   *rope, H, D);
}
