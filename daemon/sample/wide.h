/*
 * wide.h - the loops over a whole vocabulary, written so that a compiler makes vectors of them.
 *
 * Idea     A row has 128,000 logits or more, and nearly all time of a choice goes into looking at each: the largest, the sum
 *          of exponentials, masses, random numbers. Each loop here is plain C without branches (Philox also with intrinsics),
 *          compiled once for the baseline and on x86-64 once more for AVX2, which is taken where the processor has it. Both
 *          give the same bits: no multiplication is fused with an addition, and the order of every sum is stated and fixed.
 * exp      Ours, not the C library's, so that it is the same everywhere: exp(x) = 2^n exp(r) with |r| <= ln 2 / 2 (Cody &
 *          Waite 1980) and the Taylor polynomial of degree 13 in f64; within 2 ulp for -708 <= x <= 0, and 0 below.
 * Threads  Pure functions.
 * See      sampler.c, tests/daemon/test_sampler.c.
 */
#ifndef LLM_DAEMON_SAMPLE_WIDE_H
#define LLM_DAEMON_SAMPLE_WIDE_H

#include <stdint.h>

/* The largest finite number of row [count], -infinity when there is none. */
float wide_largest(const float *row, uint32_t count);

/* Where the first number equal to `largest` (finite, and in the row) stands. */
uint32_t wide_first(const float *row, uint32_t count, float largest);

/* out_z[v] = (row[v] - largest) / temperature, out_ids[v] = v. Returns how many of out_z are not finite. */
uint32_t wide_scale(const float *row, uint32_t count, float largest, float temperature,
                    float *out_z, int32_t *out_ids);

/* The sum of exp(row[v] - largest) over the finite ones, in 8 interleaved sums over ascending v (v % 8 says which), added as
 * ((0+1)+(2+3))+((4+5)+(6+7)). No finite number is above `largest`. */
double wide_exp_sum(const float *row, uint32_t count, float largest);

/* Masses of numbers z [count] <= 0: out_masses[i] = exp(z[i]) * 2^36, rounded down. Returns their sum. */
#define WIDE_MASS_ONE 0x1p36
uint64_t wide_masses(const float *z, uint32_t count, uint64_t *out_masses);

/* The first word of Philox4x32-10 for counters { ids[i], position, branch, 0 }. */
void wide_philox(const int32_t *ids, uint32_t count, uint64_t seed, uint32_t position,
                 uint32_t branch, uint32_t *out_words);

#endif
