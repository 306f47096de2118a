/*
 * vec_plain.h - the vector type of the loops in portable C: 4 floats, which compilers turn into whatever the
 * machine has (SSE2, NEON, scalar code). The names and their meaning are those of vec_avx2.h, except that
 * vec_fma rounds the product as well: not every machine has a fused one.
 */
#ifndef LLM_KERNELS_CPU_VEC_PLAIN_H
#define LLM_KERNELS_CPU_VEC_PLAIN_H

#include "kernels/dtype.h"

#include <math.h>

typedef float vec __attribute__((vector_size(16)));

#define VEC_LANES        4
#define VEC_ACCUMULATORS 12

static inline vec vec_set(float value)
{
    return (vec){value, value, value, value};
}

static inline vec vec_load(const float *from)
{
    vec a;
    memcpy(&a, from, sizeof a);
    return a;
}

static inline void vec_store(float *to, vec a)
{
    memcpy(to, &a, sizeof a);
}

static inline vec vec_load_part(const float *from, int32_t n)
{
    vec a = {0};
    for (int32_t i = 0; i < n; i++)
        a[i] = from[i];
    return a;
}

static inline void vec_store_part(float *to, vec a, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        to[i] = a[i];
}

static inline vec vec_load_bf16(const uint16_t *from)
{
    return (vec){kernel_bf16_to_f32(from[0]), kernel_bf16_to_f32(from[1]),
                 kernel_bf16_to_f32(from[2]), kernel_bf16_to_f32(from[3])};
}

static inline void vec_load_panel(enum kernel_dtype dtype, const unsigned char *row, vec *low,
                                  vec *high)
{
    if (dtype == KERNEL_F32) {
        *low = vec_load((const float *)(const void *)row);
        *high = vec_load((const float *)(const void *)row + 4);
    } else if (dtype == KERNEL_BF16) {
        typedef uint32_t words_of_panel __attribute__((vector_size(16)));
        words_of_panel words;
        memcpy(&words, row, sizeof words);
        words_of_panel below = words << 16, above = words & 0xffff0000;
        memcpy(low, &below, sizeof *low);
        memcpy(high, &above, sizeof *high);
    } else {
        for (size_t i = 0; i < 4; i++) {
            (*low)[i] = kernel_load(row, KERNEL_F16, i);
            (*high)[i] = kernel_load(row, KERNEL_F16, i + 4);
        }
    }
}

static inline vec vec_add(vec a, vec b)
{
    return a + b;
}

static inline vec vec_sub(vec a, vec b)
{
    return a - b;
}

static inline vec vec_mul(vec a, vec b)
{
    return a * b;
}

static inline vec vec_div(vec a, vec b)
{
    return a / b;
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return a * b + c;
}

static inline vec vec_max(vec a, vec b)
{
    for (int i = 0; i < VEC_LANES; i++)
        a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}

static inline vec vec_min(vec a, vec b)
{
    for (int i = 0; i < VEC_LANES; i++)
        a[i] = a[i] < b[i] ? a[i] : b[i];
    return a;
}

/* |a| < 2^22: adding 1.5 * 2^23 leaves no bits behind the point. */
static inline vec vec_round(vec a)
{
    vec shifter = vec_set(0x1.8p23f);
    return (a + shifter) - shifter;
}

static inline vec vec_scale2(vec a, vec n)
{
    for (int i = 0; i < VEC_LANES; i++)
        if (a[i] == a[i]) { /* a NaN stays one; its n is no number */
            int32_t whole = (int32_t)n[i], half = whole >> 1;
            a[i] *= kernel_f32_from_bits((uint32_t)(half + 127) << 23);
            a[i] *= kernel_f32_from_bits((uint32_t)(whole - half + 127) << 23);
        }
    return a;
}

static inline float vec_sum(vec a)
{
    return (a[0] + a[1]) + (a[2] + a[3]);
}

static inline void vec_sum8(float *to, const vec a[8])
{
    for (int i = 0; i < 8; i++)
        to[i] = vec_sum(a[i]);
}

static inline float vec_largest(vec a)
{
    float low = a[0] > a[1] ? a[0] : a[1], high = a[2] > a[3] ? a[2] : a[3];
    return low > high ? low : high;
}

#endif
