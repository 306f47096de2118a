/*
 * rows.c - ops that look at one row of activations at a time.
 */
#include "kernels/reference/reference.h"

#include "shm/check.h"

#include <math.h>
#include <string.h>

void rmsnorm_reference(struct kernel_stream *stream, float *out, const float *x, const float *gain,
                       int32_t T, int32_t D, float eps)
{
    (void)stream;
    for (int32_t t = 0; t < T; t++, x += D, out += D) {
        double squares = 0;
        for (int32_t d = 0; d < D; d++)
            squares += (double)x[d] * (double)x[d];
        double scale = 1 / sqrt(squares / D + (double)eps);
        for (int32_t d = 0; d < D; d++)
            out[d] = (float)((double)x[d] * scale * (double)gain[d]);
    }
}

void rmsnorm_heads_reference(struct kernel_stream *stream, float *x, int32_t stride,
                             const float *gain, int32_t T, int32_t H, int32_t D, float eps)
{
    for (int32_t t = 0; t < T; t++, x += stride)
        rmsnorm_reference(stream, x, x, gain, H, D, eps);
}

static void rope_head(float *x, const float *cosines, const float *sines, int32_t half)
{
    for (int32_t i = 0; i < half; i++) {
        double a = (double)x[i], b = (double)x[i + half];
        double c = (double)cosines[i], s = (double)sines[i];
        x[i] = (float)(a * c - b * s);
        x[i + half] = (float)(b * c + a * s);
    }
}

void rope_reference(struct kernel_stream *stream, float *x, int32_t stride,
                    const int32_t *positions, const struct kernel_rope *rope, int32_t T, int32_t H,
                    int32_t D)
{
    (void)stream;
    CHECK(rope->D <= D && rope->D % 2 == 0);
    int32_t half = rope->D / 2;
    for (int32_t t = 0; t < T; t++) {
        CHECK(positions[t] >= 0 && positions[t] < rope->P);
        const float *cosines = rope->cos_sin + (size_t)positions[t] * (size_t)rope->D;
        for (int32_t h = 0; h < H; h++)
            rope_head(x + (size_t)t * (size_t)stride + (size_t)h * (size_t)D, cosines,
                      cosines + half, half);
    }
}

void silu_mul_reference(struct kernel_stream *stream, float *out, const float *x, int32_t T,
                        int32_t F)
{
    (void)stream;
    for (int32_t t = 0; t < T; t++, out += F) {
        const float *gate = x + 2 * (size_t)t * (size_t)F;
        const float *up = gate + F;
        for (int32_t f = 0; f < F; f++) {
            double a = (double)gate[f];
            out[f] = (float)(a / (1 + exp(-a)) * (double)up[f]);
        }
    }
}

void add_reference(struct kernel_stream *stream, float *out, const float *x, int32_t T, int32_t D)
{
    (void)stream;
    for (size_t i = 0; i < (size_t)T * (size_t)D; i++)
        out[i] += x[i];
}

void gather_rows_reference(struct kernel_stream *stream, float *out, const float *x,
                           const int32_t *rows, int32_t count, int32_t D)
{
    (void)stream;
    for (int32_t i = 0; i < count; i++)
        memcpy(out + (size_t)i * (size_t)D, x + (size_t)rows[i] * (size_t)D,
               (size_t)D * sizeof *out);
}
