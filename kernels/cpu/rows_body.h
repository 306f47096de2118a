/*
 * rows_body.h - ops on one row of activations, for the vector type of the including file.
 *
 * Idea     A row is cut into vectors from its start; the last, incomplete one goes through the *_part loads and
 *          stores with the same arithmetic. So an element's result does not depend on where a row ends.
 */
#ifndef LLM_KERNELS_CPU_ROWS_BODY_H
#define LLM_KERNELS_CPU_ROWS_BODY_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec_exp.h"

#include <math.h>

/* Four accumulators, vector i going to accumulator i % 4: enough to hide the adder's latency. */
static float sum_of_squares(const float *x, int32_t D)
{
    vec acc[4] = {vec_set(0), vec_set(0), vec_set(0), vec_set(0)};
    int32_t d = 0;
    for (; d + 4 * VEC_LANES <= D; d += 4 * VEC_LANES)
        for (int i = 0; i < 4; i++) {
            vec a = vec_load(x + d + i * VEC_LANES);
            acc[i] = vec_fma(a, a, acc[i]);
        }
    for (int i = 0; d < D; i++, d += VEC_LANES) {
        vec a = D - d < VEC_LANES ? vec_load_part(x + d, D - d) : vec_load(x + d);
        acc[i] = vec_fma(a, a, acc[i]);
    }
    return vec_sum(vec_add(vec_add(acc[0], acc[1]), vec_add(acc[2], acc[3])));
}

static void rmsnorm_row(float *out, const float *x, const float *gain, int32_t D, float eps)
{
    vec scale = vec_set(1.0f / sqrtf(sum_of_squares(x, D) / (float)D + eps));
    int32_t d = 0;
    for (; d + VEC_LANES <= D; d += VEC_LANES)
        vec_store(out + d, vec_mul(vec_mul(vec_load(x + d), scale), vec_load(gain + d)));
    if (d < D) {
        vec a = vec_mul(vec_load_part(x + d, D - d), scale);
        vec_store_part(out + d, vec_mul(a, vec_load_part(gain + d, D - d)), D - d);
    }
}

/* The products are rounded before they are added: the same in whole and in incomplete vectors, and the same
 * numbers from every instruction set. */
static void rope_head(float *x, const float *cosines, const float *sines, int32_t half)
{
    int32_t i = 0;
    for (; i + VEC_LANES <= half; i += VEC_LANES) {
        vec a = vec_load(x + i), b = vec_load(x + half + i);
        vec c = vec_load(cosines + i), s = vec_load(sines + i);
        vec_store(x + i, vec_sub(vec_mul(a, c), vec_mul(b, s)));
        vec_store(x + half + i, vec_add(vec_mul(b, c), vec_mul(a, s)));
    }
    if (i < half) {
        int32_t n = half - i;
        vec a = vec_load_part(x + i, n), b = vec_load_part(x + half + i, n);
        vec c = vec_load_part(cosines + i, n), s = vec_load_part(sines + i, n);
        vec_store_part(x + i, vec_sub(vec_mul(a, c), vec_mul(b, s)), n);
        vec_store_part(x + half + i, vec_add(vec_mul(b, c), vec_mul(a, s)), n);
    }
}

static inline vec silu(vec a)
{
    return vec_div(a, vec_add(vec_set(1.0f), vec_exp(vec_sub(vec_set(0.0f), a))));
}

static void silu_mul_row(float *out, const float *gate, const float *up, int32_t count)
{
    int32_t i = 0;
    for (; i + VEC_LANES <= count; i += VEC_LANES)
        vec_store(out + i, vec_mul(silu(vec_load(gate + i)), vec_load(up + i)));
    if (i < count) {
        int32_t n = count - i;
        vec a = silu(vec_load_part(gate + i, n));
        vec_store_part(out + i, vec_mul(a, vec_load_part(up + i, n)), n);
    }
}

static void add_row(float *out, const float *x, int32_t count)
{
    int32_t i = 0;
    for (; i + VEC_LANES <= count; i += VEC_LANES)
        vec_store(out + i, vec_add(vec_load(out + i), vec_load(x + i)));
    for (; i < count; i++)
        out[i] += x[i];
}

#endif
