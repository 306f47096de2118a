#include "daemon/sample/wide.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#define BLOCK 512 /* numbers that are worked on together, in the first-level cache */

/* Each body below is inlined into two functions: one for the baseline, one for AVX2. */
#define BODY static inline __attribute__((always_inline))
#if defined(__x86_64__)
#include <immintrin.h>
#define HAVE_AVX2 1
#define AVX2      __attribute__((target("avx2")))
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
#define HAVE_AVX2 0
#endif

/* ---- exp ------------------------------------------------------------------------------------------- */

#define EXP_LEAST     (-708.0)
#define ROUND_TO_INT  0x1.8p52 /* x + this - this is x, rounded to an integer, for |x| < 2^51 */
#define LOG2_E        0x1.71547652b82fep0
#define LN2_HIGH      0x1.62e42feep-1 /* 33 bits: n * LN2_HIGH is exact for |n| < 2^20 */
#define LN2_LOW       0x1.a39ef35793c76p-33
#define EXPONENT_BIAS 1023

BODY double exp_of(double x)
{
    double clamped = x < EXP_LEAST ? EXP_LEAST : x;
    double shifted = clamped * LOG2_E + ROUND_TO_INT;
    double n = shifted - ROUND_TO_INT;
    double r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    double sum = 1.0 / 6227020800.0; /* 1 / 13!, then down to 1 / 0! */
    sum = sum * r + 1.0 / 479001600.0;
    sum = sum * r + 1.0 / 39916800.0;
    sum = sum * r + 1.0 / 3628800.0;
    sum = sum * r + 1.0 / 362880.0;
    sum = sum * r + 1.0 / 40320.0;
    sum = sum * r + 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    sum = sum * r + 1.0;
    sum = sum * r + 1.0;
    uint64_t bits; /* the low bits of `shifted` are those of the integer n */
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + EXPONENT_BIAS) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < EXP_LEAST ? 0.0 : sum * scale;
}

/* ---- The largest ----------------------------------------------------------------------------------- */

/* As an integer that orders as the number does, 0 and -0 being one; what is not finite comes before all. */
BODY int32_t order_of(float x)
{
    float positive_zero = x + 0.0f;
    int32_t bits;
    memcpy(&bits, &positive_zero, sizeof bits);
    int32_t order = bits ^ ((bits >> 31) & INT32_MAX);
    int32_t strange = -(int32_t)((bits & 0x7f800000) == 0x7f800000); /* all bits, or none */
    return (order & ~strange) | (INT32_MIN & strange); /* a branch would keep loops from vectors */
}

BODY int32_t largest_order(const float *row, uint32_t count)
{
    int32_t largest = INT32_MIN;
    for (uint32_t v = 0; v < count; v++) {
        int32_t order = order_of(row[v]);
        largest = order > largest ? order : largest;
    }
    return largest;
}

/* The first block of 64 that has it, or what is left at the end. */
BODY uint32_t block_of(const float *row, uint32_t count, int32_t wanted)
{
    uint32_t from = 0;
    for (; from + 64 <= count; from += 64) {
        int32_t found = 0;
        for (uint32_t i = 0; i < 64; i++)
            found |= order_of(row[from + i]) == wanted ? 1 : 0;
        if (found)
            break;
    }
    return from;
}

BODY uint32_t scale(const float *row, uint32_t count, float largest, float temperature,
                    float *out_z, int32_t *out_ids)
{
    uint32_t strange = 0;
    for (uint32_t v = 0; v < count; v++) {
        float z = (row[v] - largest) / temperature;
        out_z[v] = z;
        out_ids[v] = (int32_t)v;
        strange += order_of(z) == INT32_MIN ? 1 : 0;
    }
    return strange;
}

static float from_order(int32_t order)
{
    int32_t bits = order ^ ((order >> 31) & INT32_MAX);
    float x;
    memcpy(&x, &bits, sizeof x);
    return order == INT32_MIN ? -INFINITY : x;
}

/* ---- The sum of exponentials ----------------------------------------------------------------------- */

BODY void exps_of_logits(const float *row, uint32_t count, double largest, double *out)
{
    for (uint32_t i = 0; i < count; i++) {
        double x = (double)row[i] - largest;
        out[i] = exp_of(order_of(row[i]) == INT32_MIN ? 2 * EXP_LEAST : x);
    }
}

BODY double exp_sum(const float *row, uint32_t count, float largest)
{
    double sums[8] = {0}, exps[BLOCK];
    for (uint32_t from = 0; from < count; from += BLOCK) {
        uint32_t here = count - from < BLOCK ? count - from : BLOCK, i = 0;
        exps_of_logits(row + from, here, (double)largest, exps);
        for (; i + 8 <= here; i += 8)
            for (int lane = 0; lane < 8; lane++)
                sums[lane] += exps[i + (uint32_t)lane];
        for (; i < here; i++)
            sums[i % 8] += exps[i];
    }
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
           ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

/* ---- Masses ---------------------------------------------------------------------------------------- */

BODY uint64_t mass_of(float z)
{
    double wanted = exp_of((double)z) * WIDE_MASS_ONE;
    double rounded = wanted + 0x1p52; /* its low 52 bits are an integer, wanted rounded */
    double integer = rounded - 0x1p52;
    uint64_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    return (bits & ((UINT64_C(1) << 52) - 1)) - (integer > wanted ? 1 : 0);
}

BODY uint64_t masses(const float *z, uint32_t count, uint64_t *out_masses)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        out_masses[i] = mass_of(z[i]);
    for (uint32_t i = 0; i < count; i++)
        total += out_masses[i];
    return total;
}

/* ---- Random words ---------------------------------------------------------------------------------- */

/* Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3": Philox4x32, 10 rounds. */
#define PHILOX_M0 UINT64_C(0xd2511f53)
#define PHILOX_M1 UINT64_C(0xcd9e8d57)
#define PHILOX_W0 UINT32_C(0x9e3779b9)
#define PHILOX_W1 UINT32_C(0xbb67ae85)
#define ROUNDS    10

static void philox(const int32_t *ids, uint32_t count, uint64_t seed, uint32_t position,
                   uint32_t branch, uint32_t *out_words)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t c0 = (uint32_t)ids[i], c1 = position, c2 = branch, c3 = 0;
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < ROUNDS; round++) {
            uint64_t a = PHILOX_M0 * c0, b = PHILOX_M1 * c2;
            c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
            c1 = (uint32_t)b;
            c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
            c3 = (uint32_t)a;
            k0 += PHILOX_W0;
            k1 += PHILOX_W1;
        }
        out_words[i] = c0;
    }
}

/* ---- Both forms ------------------------------------------------------------------------------------ */

#if HAVE_AVX2
AVX2 static int32_t largest_order_avx2(const float *row, uint32_t count)
{
    return largest_order(row, count);
}

AVX2 static double exp_sum_avx2(const float *row, uint32_t count, float largest)
{
    return exp_sum(row, count, largest);
}

AVX2 static uint64_t masses_avx2(const float *z, uint32_t count, uint64_t *out_masses)
{
    return masses(z, count, out_masses);
}

AVX2 static uint32_t block_of_avx2(const float *row, uint32_t count, int32_t wanted)
{
    return block_of(row, count, wanted);
}

AVX2 static uint32_t scale_avx2(const float *row, uint32_t count, float largest, float temperature,
                                float *out_z, int32_t *out_ids)
{
    return scale(row, count, largest, temperature, out_z, out_ids);
}

/* Low and high words of eight products of 32-bit numbers. */
AVX2 static inline void multiply8(__m256i a, __m256i m, __m256i *out_low, __m256i *out_high)
{
    __m256i even = _mm256_mul_epu32(a, m);
    __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), m);
    *out_low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    *out_high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}

AVX2 static void philox_avx2(const int32_t *ids, uint32_t count, uint64_t seed, uint32_t position,
                             uint32_t branch, uint32_t *out_words)
{
    const __m256i m0 = _mm256_set1_epi32((int)PHILOX_M0), m1 = _mm256_set1_epi32((int)PHILOX_M1);
    uint32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256i c0 = _mm256_loadu_si256((const void *)(ids + i));
        __m256i c1 = _mm256_set1_epi32((int)position), c2 = _mm256_set1_epi32((int)branch);
        __m256i c3 = _mm256_setzero_si256(), low0, high0, low1, high1;
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < ROUNDS; round++) {
            multiply8(c0, m0, &low0, &high0);
            multiply8(c2, m1, &low1, &high1);
            c0 = _mm256_xor_si256(_mm256_xor_si256(high1, c1), _mm256_set1_epi32((int)k0));
            c1 = low1;
            c2 = _mm256_xor_si256(_mm256_xor_si256(high0, c3), _mm256_set1_epi32((int)k1));
            c3 = low0;
            k0 += PHILOX_W0;
            k1 += PHILOX_W1;
        }
        _mm256_storeu_si256((void *)(out_words + i), c0);
    }
    philox(ids + i, count - i, seed, position, branch, out_words + i);
}
#endif

float wide_largest(const float *row, uint32_t count)
{
#if HAVE_AVX2
    if (has_avx2())
        return from_order(largest_order_avx2(row, count));
#endif
    return from_order(largest_order(row, count));
}

uint32_t wide_first(const float *row, uint32_t count, float largest)
{
    int32_t wanted = order_of(largest);
    uint32_t at;
#if HAVE_AVX2
    if (has_avx2())
        at = block_of_avx2(row, count, wanted);
    else
#endif
        at = block_of(row, count, wanted);
    while (order_of(row[at]) != wanted)
        at++;
    return at;
}

uint32_t wide_scale(const float *row, uint32_t count, float largest, float temperature,
                    float *out_z, int32_t *out_ids)
{
#if HAVE_AVX2
    if (has_avx2())
        return scale_avx2(row, count, largest, temperature, out_z, out_ids);
#endif
    return scale(row, count, largest, temperature, out_z, out_ids);
}

double wide_exp_sum(const float *row, uint32_t count, float largest)
{
#if HAVE_AVX2
    if (has_avx2())
        return exp_sum_avx2(row, count, largest);
#endif
    return exp_sum(row, count, largest);
}

uint64_t wide_masses(const float *z, uint32_t count, uint64_t *out_masses)
{
#if HAVE_AVX2
    if (has_avx2())
        return masses_avx2(z, count, out_masses);
#endif
    return masses(z, count, out_masses);
}

void wide_philox(const int32_t *ids, uint32_t count, uint64_t seed, uint32_t position,
                 uint32_t branch, uint32_t *out_words)
{
#if HAVE_AVX2
    if (has_avx2()) {
        philox_avx2(ids, count, seed, position, branch, out_words);
        return;
    }
#endif
    philox(ids, count, seed, position, branch, out_words);
}
