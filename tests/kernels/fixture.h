/*
 * fixture.h - what the kernel tests share: streams of every instruction set, random numbers, matrices, KV pools.
 *
 * Random numbers come from one seed (LLM_TEST_SEED, else a fixed one); fixture_seed() is in every message.
 * Memory that a test has not written is NaN throughout, so that reading too far shows.
 */
#ifndef LLM_TESTS_KERNELS_FIXTURE_H
#define LLM_TESTS_KERNELS_FIXTURE_H

#include "kernels/kernels.h"

/* Instruction sets of the cpu backend, widest first; loop tests run over [0, FIXTURE_ISA_COUNT). */
enum {
    FIXTURE_ISA_COUNT = 3
};
extern const char *const fixture_isas[FIXTURE_ISA_COUNT];

/* A cpu stream, or NULL (and a line on stdout) where the processor lacks the set. */
struct kernel_stream *fixture_stream(const char *isa, uint32_t threads);
struct kernel_stream *fixture_reference(void);

uint64_t fixture_seed(void);
void fixture_reseed(uint64_t salt); /* start of a test: the numbers depend on seed and salt alone */
uint32_t fixture_random(uint32_t below);
/* [count] numbers, roughly normal, of standard deviation `deviation`; caller frees. */
float *fixture_floats(size_t count, float deviation);
float *fixture_nans(size_t count);

/* A packed matrix of the values w [N, K]; caller frees .panels. */
struct kernel_matrix fixture_matrix(struct kernel_stream *stream, enum kernel_dtype dtype,
                                    int32_t N, int32_t K, const float *w);

/* A pool of `blocks` blocks in slabs of three with a gap behind each, all NaN; caller frees .base. */
struct kernel_kv fixture_kv(enum kernel_dtype dtype, int32_t layers, int32_t G, int32_t B,
                            int32_t D, uint32_t blocks);
/* Block numbers 0..count-1 in random order; caller frees. */
uint32_t *fixture_blocks(uint32_t count);

/* The element that is furthest out of tolerance. */
struct fixture_worst {
    double ratio; /* |got - want| / tolerance */
    size_t index;
    double got, want;
};
/* Element i may differ by tolerance[i], or by `tolerance_of_all` where tolerance is NULL. */
struct fixture_worst fixture_compare(const float *got, const float *want, size_t count,
                                     const double *tolerance, double tolerance_of_all);

/* Of each output of linear [T, N]: what its terms sum to in absolute value, times (K + 2) 2^-24; caller frees.
 *   x [T, K], w [N, K], bias [N] or NULL, before [T, N] (what mode ADD adds to) or NULL */
double *fixture_linear_tolerance(int32_t T, int32_t N, int32_t K, const float *x, const float *w,
                                 const float *bias, const float *before);

#endif
