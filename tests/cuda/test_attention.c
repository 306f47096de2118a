/*
 * test_attention.c - attention on the emulator: within the contract of kernels.h, no unwritten key read, and the
 * same bits whatever is beside a row.
 * How: keys and values are written by the reference; what it did not write is NaN.
 */
#include "tests/cuda/fixture.h"
#include "tests/kernels/shapes.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kernel_stream *reference;

static void open_reference(void)
{
    reference = fixture_reference();
}

/* Attention on the device; the result is the caller's to free. */
static float *attend(struct cuda_stream *stream, const float *q, int32_t stride,
                     const struct kernel_kv *kv, int32_t layer,
                     const struct kernel_sequence *sequences, int32_t S, int32_t H,
                     const struct kernel_attention *attention)
{
    struct cuda_batch batch = cuda_batch_upload(sequences, S, kv->B, attention->window);
    struct cuda_kv there = cuda_kv_upload(kv);
    size_t count = (size_t)batch.T * (size_t)H * (size_t)kv->D;
    float *q_there = cuda_floats(q, (size_t)batch.T * (size_t)stride);
    float *out = emu_alloc(count * sizeof *out);
    struct cuda_attention call = {attention->scale, attention->window,
                                  emu_alloc(cuda_attention_bytes(batch.span_count, H, kv->D))};
    attention_cuda(stream, out, q_there, stride, &there, layer, &batch, H, &call);
    float *result = cuda_download(out, count);
    cuda_free_batch(&batch);
    emu_free(there.base), emu_free(q_there), emu_free(out), emu_free(call.partials);
    return result;
}

enum {
    LAYERS = 2,
    LAYER = 1
};

static void attention_case(struct cuda_stream *stream, const struct attention_shape *s)
{
    struct kernel_sequence sequences[4];
    uint32_t blocks_count = 0;
    int32_t S = 0, T = 0, stride = (s->H + 2 * s->G) * s->D;
    for (; S < 4 && s->sequences[S].rows; S++)
        blocks_count +=
            (uint32_t)((s->sequences[S].before + s->sequences[S].rows + s->B - 1) / s->B);
    struct kernel_kv kv = fixture_kv(s->dtype, LAYERS, s->G, s->B, s->D, blocks_count);
    uint32_t *blocks = fixture_blocks(blocks_count), *next = blocks;
    for (int32_t i = 0; i < S; i++) { /* what came before, then the step */
        int32_t before = s->sequences[i].before, rows = s->sequences[i].rows;
        float *old = fixture_floats((size_t)before * (size_t)stride, 1);
        struct kernel_sequence prefix = {next, 0, before, 0};
        reference->ops->kv_append(reference, &kv, LAYER, old, old + s->G * s->D, stride, &prefix,
                                  1);
        sequences[i] = (struct kernel_sequence){next, T, rows, before};
        next += (before + rows + s->B - 1) / s->B;
        T += rows;
        free(old);
    }
    float *qkv = fixture_floats((size_t)T * (size_t)stride, 1.5f);
    const float *k = qkv + s->H * s->D, *v = k + s->G * s->D;
    reference->ops->kv_append(reference, &kv, LAYER, k, v, stride, sequences, S);
    size_t count = (size_t)T * (size_t)s->H * (size_t)s->D;
    float *want = fixture_nans(count);
    struct kernel_attention attention = {1 / sqrtf((float)s->D), s->window};
    float *got = attend(stream, qkv, stride, &kv, LAYER, sequences, S, s->H, &attention);
    reference->ops->attention(reference, want, qkv, stride, &kv, LAYER, sequences, S, s->H,
                              &attention);
    char shape[80];
    snprintf(shape, sizeof shape, "%s T=%d S=%d H=%d G=%d D=%d B=%d window=%d",
             kernel_dtype_name(s->dtype), T, S, s->H, s->G, s->D, s->B, s->window);
    /* max |value| of numbers with deviation 1.5 is about 5 in all these shapes; 4 is on the safe side */
    cuda_expect(fixture_compare(got, want, count, NULL, 2e-5 * 4), "attention", shape, s->why);
    free(kv.base), free(blocks), free(qkv), free(got), free(want);
}

START_TEST(attention_is_within_its_tolerance_and_reads_no_unwritten_key)
{
    struct cuda_stream stream = cuda_begin(_i, 31);
    for (int i = 0; i < ATTENTION_SHAPES; i++)
        attention_case(&stream, &attention_shapes[i]);
    cuda_end(&stream);
}
END_TEST

START_TEST(attention_with_scores_far_apart_stays_finite)
{
    struct cuda_stream stream = cuda_begin(_i, 32);
    enum {
        TOKENS = 130,
        D = 8,
        B = 16
    };
    struct kernel_kv kv = fixture_kv(KERNEL_F32, 1, 1, B, D, (TOKENS + B - 1) / B);
    uint32_t *blocks = fixture_blocks(kv.block_count);
    struct kernel_sequence sequence = {blocks, 0, TOKENS, 0};
    float *k = fixture_floats(TOKENS * D, 1000), *v = fixture_floats(TOKENS * D, 1);
    float *want = fixture_nans(TOKENS * D);
    reference->ops->kv_append(reference, &kv, 0, k, v, D, &sequence, 1);
    struct kernel_attention attention = {1, 0};
    float *got = attend(&stream, k, D, &kv, 0, &sequence, 1, 1, &attention);
    reference->ops->attention(reference, want, k, D, &kv, 0, &sequence, 1, 1, &attention);
    cuda_expect(fixture_compare(got, want, TOKENS * D, NULL, 1e-6), "attention", "far apart", "");
    free(kv.base), free(blocks), free(k), free(v), free(got), free(want);
    cuda_end(&stream);
}
END_TEST

/* A sequence computed in one piece, in chunks, and beside another one in other blocks of another size. */
START_TEST(a_row_has_the_same_bits_alone_in_chunks_and_in_other_blocks)
{
    struct cuda_stream stream = cuda_begin(_i, 33);
    enum {
        TOKENS = 70,
        H = 4,
        G = 2,
        D = 16,
        ROW = H * D
    };
    float *k = fixture_floats((size_t)TOKENS * G * D, 1), *q = fixture_floats(TOKENS * ROW, 1);
    float *v = fixture_floats((size_t)TOKENS * G * D, 1);
    struct kernel_attention attention = {0.25f, 0};
    float *whole = NULL;
    static const int32_t block_tokens[] = {16, 24};
    for (int variant = 0; variant < 2; variant++) {
        int32_t B = block_tokens[variant];
        struct kernel_kv kv = fixture_kv(KERNEL_BF16, 1, G, B, D, 12);
        uint32_t *blocks = fixture_blocks(12);
        struct kernel_sequence sequence = {blocks, 0, TOKENS, 0};
        reference->ops->kv_append(reference, &kv, 0, k, v, G * D, &sequence, 1);
        if (!whole)
            whole = attend(&stream, q, ROW, &kv, 0, &sequence, 1, H, &attention);
        /* The last five rows, after another sequence's one row. */
        const struct kernel_sequence two[] = {{blocks + 11, 0, 1, 0}, {blocks, 1, 5, TOKENS - 5}};
        reference->ops->kv_append(reference, &kv, 0, k, v, G * D, two, 1);
        float *got = attend(&stream, q + (TOKENS - 6) * ROW, ROW, &kv, 0, two, 2, H, &attention);
        ck_assert_mem_eq(got + ROW, whole + (TOKENS - 5) * ROW, 5 * ROW * sizeof *got);
        free(got), free(kv.base), free(blocks);
    }
    free(k), free(v), free(q), free(whole);
    cuda_end(&stream);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda/attention");
    TCase *tc = tcase_create("attention");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, open_reference, NULL);
    int schedules = cuda_schedules();
    tcase_add_loop_test(tc, attention_is_within_its_tolerance_and_reads_no_unwritten_key, 0,
                        schedules);
    tcase_add_loop_test(tc, attention_with_scores_far_apart_stays_finite, 0, schedules);
    tcase_add_loop_test(tc, a_row_has_the_same_bits_alone_in_chunks_and_in_other_blocks, 0,
                        schedules);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
