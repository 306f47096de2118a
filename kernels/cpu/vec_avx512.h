/*
 * vec_avx512.h - the vector type of the loops: 16 floats in an AVX-512 register (F, BW, VL, DQ).
 * The names and their meaning are those of vec_avx2.h.
 */
#ifndef LLM_KERNELS_CPU_VEC_AVX512_H
#define LLM_KERNELS_CPU_VEC_AVX512_H

#include "kernels/dtype.h"

#include <immintrin.h>

typedef __m512 vec;

#define VEC_LANES        16
#define VEC_ACCUMULATORS 24 /* of 32 registers */

static inline vec vec_set(float value)
{
    return _mm512_set1_ps(value);
}

static inline vec vec_load(const float *from)
{
    return _mm512_loadu_ps(from);
}

static inline void vec_store(float *to, vec a)
{
    _mm512_storeu_ps(to, a);
}

static inline __mmask16 vec_part_mask(int32_t n)
{
    return (__mmask16)((1u << n) - 1);
}

static inline vec vec_load_part(const float *from, int32_t n)
{
    return _mm512_maskz_loadu_ps(vec_part_mask(n), from);
}

static inline void vec_store_part(float *to, vec a, int32_t n)
{
    _mm512_mask_storeu_ps(to, vec_part_mask(n), a);
}

static inline vec vec_load_bf16(const uint16_t *from)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline void vec_load_panel(enum kernel_dtype dtype, const unsigned char *row, vec *low,
                                  vec *high)
{
    if (dtype == KERNEL_F32) {
        *low = _mm512_load_ps(row);
        *high = _mm512_load_ps(row + 64);
    } else if (dtype == KERNEL_BF16) {
        __m512i words = _mm512_load_si512(row);
        *low = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
        *high = _mm512_castsi512_ps(_mm512_and_si512(words, _mm512_set1_epi32(-65536)));
    } else {
        *low = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)row));
        *high = _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)row + 1));
    }
}

static inline vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

static inline vec vec_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}

static inline vec vec_round(vec a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vec vec_scale2(vec a, vec n)
{
    return _mm512_scalef_ps(a, n);
}

/* The sum of the two halves, lane by lane: what is left is the eight-lane tree of vec_avx2.h. */
static inline __m256 vec_fold(vec a)
{
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

static inline float vec_sum(vec a)
{
    __m256 eight = vec_fold(a);
    __m256 pairs = _mm256_hadd_ps(eight, eight);
    __m256 fours = _mm256_hadd_ps(pairs, pairs);
    return _mm_cvtss_f32(
        _mm_add_ss(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
}

static inline void vec_sum8(float *to, const vec a[8])
{
    __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(vec_fold(a[0]), vec_fold(a[1])),
                                _mm256_hadd_ps(vec_fold(a[2]), vec_fold(a[3])));
    __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(vec_fold(a[4]), vec_fold(a[5])),
                                 _mm256_hadd_ps(vec_fold(a[6]), vec_fold(a[7])));
    _mm256_storeu_ps(to, _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                                       _mm256_permute2f128_ps(low, high, 0x31)));
}

static inline float vec_largest(vec a)
{
    return _mm512_reduce_max_ps(a);
}

#endif
