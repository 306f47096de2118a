/*
 * vec_avx2.h - the vector type of the loops: 8 floats in an AVX2 register, with FMA3 and F16C.
 *
 * Idea     Every vec_*.h defines the same names with the same meaning; the bodies use nothing else.
 *          vec_fma(a, b, c) is a * b + c rounded once. The *_part loads and stores touch n elements, 0 < n <
 *          VEC_LANES, and loads fill up with zeros.
 */
#ifndef LLM_KERNELS_CPU_VEC_AVX2_H
#define LLM_KERNELS_CPU_VEC_AVX2_H

#include "kernels/dtype.h"

#include <immintrin.h>

typedef __m256 vec;

#define VEC_LANES        8
#define VEC_ACCUMULATORS 12 /* of 16 registers: a panel row, one input and some air beside them */

static inline vec vec_set(float value)
{
    return _mm256_set1_ps(value);
}

static inline vec vec_load(const float *from)
{
    return _mm256_loadu_ps(from);
}

static inline void vec_store(float *to, vec a)
{
    _mm256_storeu_ps(to, a);
}

static inline __m256i vec_part_mask(int32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vec vec_load_part(const float *from, int32_t n)
{
    return _mm256_maskload_ps(from, vec_part_mask(n));
}

static inline void vec_store_part(float *to, vec a, int32_t n)
{
    _mm256_maskstore_ps(to, vec_part_mask(n), a);
}

static inline vec vec_load_bf16(const uint16_t *from)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

/* One row of a packed panel: outputs [0, 8) and [8, 16). */
static inline void vec_load_panel(enum kernel_dtype dtype, const unsigned char *row, vec *low,
                                  vec *high)
{
    if (dtype == KERNEL_F32) {
        *low = _mm256_load_ps((const float *)(const void *)row);
        *high = _mm256_load_ps((const float *)(const void *)row + 8);
    } else if (dtype == KERNEL_BF16) {
        __m256i words = _mm256_load_si256((const __m256i *)(const void *)row);
        *low = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
        *high = _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(-65536)));
    } else {
        *low = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)row));
        *high = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)row + 1));
    }
}

static inline vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* The second operand where either is NaN. */
static inline vec vec_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

static inline vec vec_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}

static inline vec vec_round(vec a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* a * 2^n for whole n in -151..129, in two exact steps, so that overflow and underflow come out right. */
static inline vec vec_scale2(vec a, vec n)
{
    __m256i whole = _mm256_cvtps_epi32(n);
    __m256i half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    __m256i rest = _mm256_sub_epi32(whole, half);
    vec first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    vec second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, first), second);
}

/* Lane sums: ((0+1)+(2+3)) + ((4+5)+(6+7)), the same tree here and below. */
static inline float vec_sum(vec a)
{
    vec pairs = _mm256_hadd_ps(a, a);
    vec fours = _mm256_hadd_ps(pairs, pairs);
    return _mm_cvtss_f32(
        _mm_add_ss(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
}

/* to[i] = the lane sum of a[i], for 8 vectors at once. */
static inline void vec_sum8(float *to, const vec a[8])
{
    vec low = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
    vec high = _mm256_hadd_ps(_mm256_hadd_ps(a[4], a[5]), _mm256_hadd_ps(a[6], a[7]));
    _mm256_storeu_ps(to, _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                                       _mm256_permute2f128_ps(low, high, 0x31)));
}

static inline float vec_largest(vec a)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#endif
