#include "tests/kernels/fixture.h"

#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const fixture_isas[FIXTURE_ISA_COUNT] = {"avx512", "avx2", "plain"};

static uint64_t state;

struct kernel_stream *fixture_stream(const char *isa, uint32_t threads)
{
    struct kernel_stream_options options = {.threads = threads, .isa = isa};
    struct kernel_stream *stream = NULL;
    struct llm_error error = {0};
    enum llm_status status = kernel_stream_open("cpu", &options, &stream, &error);
    if (status == LLM_OK)
        return stream;
    printf("skipped: %s\n", error.message);
    ck_assert(status == LLM_ERR_UNSUPPORTED || status == LLM_ERR_INVALID);
    ck_assert_str_ne(isa, "plain"); /* every machine has that */
    return NULL;
}

struct kernel_stream *fixture_reference(void)
{
    struct kernel_stream *stream = NULL;
    struct llm_error error;
    ck_assert_int_eq(kernel_stream_open("reference", NULL, &stream, &error), LLM_OK);
    return stream;
}

uint64_t fixture_seed(void)
{
    const char *text = getenv("LLM_TEST_SEED");
    return text ? strtoull(text, NULL, 10) : 20240611;
}

void fixture_reseed(uint64_t salt)
{
    state = fixture_seed() * 0x9e3779b97f4a7c15 + salt;
}

/* SplitMix64, Steele, Lea & Flood 2014. */
static uint64_t next(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

uint32_t fixture_random(uint32_t below)
{
    return (uint32_t)(next() % below);
}

float *fixture_floats(size_t count, float deviation)
{
    float *values = malloc((count + !count) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < count; i++) {
        double sum = -6; /* twelve uniform numbers less their mean: variance one */
        for (int j = 0; j < 12; j++)
            sum += (double)(next() >> 11) * 0x1p-53;
        values[i] = (float)sum * deviation;
    }
    return values;
}

float *fixture_nans(size_t count)
{
    float *values = malloc((count + !count) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    memset(values, 0xff, count * sizeof *values);
    return values;
}

struct kernel_matrix fixture_matrix(struct kernel_stream *stream, enum kernel_dtype dtype,
                                    int32_t N, int32_t K, const float *w)
{
    struct kernel_matrix matrix = {NULL, dtype, N, K};
    size_t bytes = stream->ops->matrix_bytes(dtype, N, K);
    ck_assert_uint_eq(bytes % KERNEL_PANEL_ALIGN_BYTES, 0);
    matrix.panels = aligned_alloc(KERNEL_PANEL_ALIGN_BYTES, bytes);
    ck_assert_ptr_nonnull(matrix.panels);
    memset(matrix.panels, 0xff, bytes);
    stream->ops->matrix_pack(stream, &matrix, w, KERNEL_F32, 0, N);
    return matrix;
}

struct kernel_kv fixture_kv(enum kernel_dtype dtype, int32_t layers, int32_t G, int32_t B,
                            int32_t D, uint32_t blocks)
{
    struct kernel_kv kv = {.blocks_per_slab = 3,
                           .block_count = blocks,
                           .dtype = dtype,
                           .layers = layers,
                           .G = G,
                           .B = B,
                           .D = D};
    kv.slab_bytes = 3 * kernel_kv_block_bytes(&kv) + 64;
    size_t bytes = (blocks + 2) / 3 * kv.slab_bytes;
    kv.base = malloc(bytes);
    ck_assert_ptr_nonnull(kv.base);
    memset(kv.base, 0xff, bytes); /* NaN in f32 and in bf16 */
    return kv;
}

uint32_t *fixture_blocks(uint32_t count)
{
    uint32_t *blocks = malloc((count + !count) * sizeof *blocks);
    ck_assert_ptr_nonnull(blocks);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = fixture_random(i + 1);
        blocks[i] = blocks[j];
        blocks[j] = i;
    }
    return blocks;
}

struct fixture_worst fixture_compare(const float *got, const float *want, size_t count,
                                     const double *tolerance, double tolerance_of_all)
{
    struct fixture_worst worst = {-1, 0, 0, 0};
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)got[i] - (double)want[i]);
        double ratio =
            difference == 0 ? 0 : difference / (tolerance ? tolerance[i] : tolerance_of_all);
        if (!(ratio <= worst.ratio)) /* also when it is NaN */
            worst = (struct fixture_worst){isnan(ratio) ? HUGE_VAL : ratio, i, (double)got[i],
                                           (double)want[i]};
    }
    return worst;
}

double *fixture_linear_tolerance(int32_t T, int32_t N, int32_t K, const float *x, const float *w,
                                 const float *bias, const float *before)
{
    double *tolerance = malloc((size_t)T * (size_t)N * sizeof *tolerance);
    for (int32_t t = 0; t < T; t++) {
        for (int32_t n = 0; n < N; n++) {
            size_t i = (size_t)t * (size_t)N + (size_t)n;
            double sum =
                (bias ? fabs((double)bias[n]) : 0) + (before ? fabs((double)before[i]) : 0);
            for (int32_t k = 0; k < K; k++)
                sum += fabs((double)x[t * K + k] * (double)w[n * K + k]);
            tolerance[i] = (K + 2) * 0x1p-24 * 1.01 * sum; /* 1.01: w before it was rounded */
        }
    }
    return tolerance;
}
