/*
 * test_reference.c - kernels/reference: each op on numbers that can be worked out on paper.
 * How: the fast backends are held against this one (test_ops.c), so this one is held against arithmetic.
 */
#include "kernels/kernels.h"

#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static struct kernel_stream *stream;
static const struct kernel_ops *ops;

static void setup(void)
{
    struct llm_error error;
    ck_assert_int_eq(kernel_stream_open("reference", NULL, &stream, &error), LLM_OK);
    ops = stream->ops;
}

static void teardown(void)
{
    kernel_stream_close(stream);
}

static void assert_near(const float *got, const double *want, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(fabs((double)got[i] - want[i]) < 1e-6, "[%zu] is %.9g, expected %.9g", i,
                      (double)got[i], want[i]);
}

START_TEST(two_tensors_packed_into_one_matrix_multiply_as_one)
{
    static const float q[2][3] = {{1, 2, 3}, {-1, 0, 1}}, k[1][3] = {{0.5f, 0.5f, 0.5f}};
    static const float x[2][3] = {{1, 1, 1}, {2, 0, -2}}, bias[3] = {0, 10, 100};
    struct kernel_matrix w = {NULL, KERNEL_F32, 3, 3};
    size_t bytes = ops->matrix_bytes(w.dtype, w.N, w.K);
    ck_assert_uint_eq(bytes, 64); /* 36, rounded up */
    w.panels = aligned_alloc(KERNEL_PANEL_ALIGN_BYTES, bytes);
    ops->matrix_pack(stream, &w, q, KERNEL_F32, 0, 2);
    ops->matrix_pack(stream, &w, k, KERNEL_F32, 2, 1);

    float out[6];
    ops->linear(stream, out, &x[0][0], &w, bias, 2, KERNEL_LINEAR_STORE);
    assert_near(out, (double[]){6, 10, 101.5, -4, 6, 100}, 6);
    ops->linear(stream, out, &x[0][0], &w, NULL, 2, KERNEL_LINEAR_ADD);
    assert_near(out, (double[]){12, 10, 103, -8, 2, 100}, 6);
    free(w.panels);
}
END_TEST

START_TEST(embedding_widens_the_rows_of_a_table)
{
    static const uint16_t rows[2][2] = {{0x3f80, 0x4000}, {0xbf80, 0x3f00}}; /* 1 2, -1 0.5 */
    struct kernel_table table = {rows, KERNEL_BF16, 2, 2};
    float out[6];
    ops->embed(stream, out, (int32_t[]){1, 0, 1}, &table, 3);
    assert_near(out, (double[]){-1, 0.5, 1, 2, -1, 0.5}, 6);
}
END_TEST

START_TEST(embedding_an_id_beyond_the_vocabulary_is_a_failed_check)
{
    static const float rows[2] = {0, 0};
    struct kernel_table table = {rows, KERNEL_F32, 2, 1};
    float out[1];
    ops->embed(stream, out, (int32_t[]){2}, &table, 1);
}
END_TEST

START_TEST(rmsnorm_divides_by_the_root_of_the_mean_square)
{
    static const float gain[2] = {1, 2};
    float x[4] = {3, 4, 0, 0};
    ops->rmsnorm(stream, x, x, gain, 2, 2, 0.5f); /* sqrt(12.5 + 0.5), then sqrt(0.5) */
    assert_near(x, (double[]){3 / sqrt(13), 8 / sqrt(13), 0, 0}, 4);
}
END_TEST

START_TEST(rope_turns_the_two_halves_of_a_head_against_each_other)
{
    double frequencies[2];
    float table[4 * 4], x[6] = {1, 2, 3, 4, 5, 6}; /* one head of 6, of which 4 turn */
    kernel_rope_frequencies(frequencies, 4, 10000);
    ck_assert(frequencies[0] == 1.0 && fabs(frequencies[1] - 0.01) < 1e-15);
    kernel_rope_fill(table, frequencies, 1, 4, 4);

    struct kernel_rope rope = {table, 4, 4};
    ops->rope(stream, x, 6, (int32_t[]){3}, &rope, 1, 1, 6);
    double want[6] = {cos(3) - 3 * sin(3),
                      2 * cos(0.03) - 4 * sin(0.03),
                      3 * cos(3) + sin(3),
                      4 * cos(0.03) + 2 * sin(0.03),
                      5,
                      6};
    assert_near(x, want, 6);
}
END_TEST

START_TEST(silu_mul_gates_the_upper_half_by_the_lower)
{
    static const float x[4] = {0, 2, 5, 3};
    float out[2];
    ops->silu_mul(stream, out, x, 1, 2);
    assert_near(out, (double[]){0, 6 / (1 + exp(-2))}, 2);
}
END_TEST

START_TEST(add_and_gather_do_what_they_say)
{
    static const float x[6] = {1, 2, 3, 4, 5, 6};
    float out[6] = {10, 20, 30, 40, 50, 60};
    ops->add(stream, out, x, 3, 2);
    assert_near(out, (double[]){11, 22, 33, 44, 55, 66}, 6);
    ops->gather_rows(stream, out, x, (int32_t[]){2, 0}, 2, 2);
    assert_near(out, (double[]){5, 6, 1, 2}, 4);
}
END_TEST

/* Two slabs of two blocks each with a gap behind them; everything that is not written is NaN. */
enum {
    LAYERS = 2,
    G = 1,
    B = 2,
    D = 2,
    BLOCKS = 4,
    BLOCK_FLOATS = LAYERS * G * 2 * B * D,
    GAP = 3
};

static float pool[2 * (2 * BLOCK_FLOATS + GAP)];

static struct kernel_kv poisoned_pool(void)
{
    for (size_t i = 0; i < sizeof pool / sizeof pool[0]; i++)
        pool[i] = NAN;
    struct kernel_kv kv = {.base = (unsigned char *)pool,
                           .slab_bytes = sizeof pool / 2,
                           .blocks_per_slab = 2,
                           .block_count = BLOCKS,
                           .dtype = KERNEL_F32,
                           .layers = LAYERS,
                           .G = G,
                           .B = B,
                           .D = D};
    ck_assert_uint_eq(kernel_kv_block_bytes(&kv), BLOCK_FLOATS * sizeof(float));
    return kv;
}

START_TEST(a_row_lies_where_the_layout_says)
{
    struct kernel_kv kv = poisoned_pool();
    static const float k[2] = {1, 2}, v[2] = {3, 4};
    struct kernel_sequence sequence = {(uint32_t[]){0, 3}, 0, 1,
                                       3}; /* position 3: row 1 of block 3 */
    ops->kv_append(stream, &kv, 1, k, v, 2, &sequence, 1);

    size_t block = 2 * BLOCK_FLOATS + GAP + BLOCK_FLOATS; /* second slab, second block */
    size_t keys = block + 2 * B * D;                      /* layer 1 */
    for (size_t i = 0; i < sizeof pool / sizeof pool[0]; i++) {
        bool is_key = i == keys + 2 || i == keys + 3, is_value = i == keys + 6 || i == keys + 7;
        if (is_key || is_value)
            ck_assert(pool[i] == (is_key ? k : v)[(i - keys) % 2]);
        else
            ck_assert_msg(isnan(pool[i]), "float %zu was written", i);
    }
}
END_TEST

START_TEST(attention_weighs_the_values_seen_and_nothing_else)
{
    struct kernel_kv kv = poisoned_pool();
    static const float k[3][2] = {{0, 0}, {1, 0}, {0, 1}}, v[3][2] = {{1, 0}, {0, 1}, {5, 5}};
    struct kernel_sequence sequence = {(uint32_t[]){2, 1}, 0, 3, 0};
    ops->kv_append(stream, &kv, 0, &k[0][0], &v[0][0], 2, &sequence, 1);

    static const float q[3][4] = {{9, 9, 0, 0}, {2, 0, 0, 0}, {0, 0, 0, 4}}; /* two heads of 2 */
    float out[12];
    struct kernel_attention full = {0.5f, 0};
    ops->attention(stream, out, &q[0][0], 4, &kv, 0, &sequence, 1, 2, &full);
    double e1 = exp(1), e2 = exp(2), third = 1.0 / 3;
    double want[12] = {1, 0, 1, 0, 1 / (1 + e1), e1 / (1 + e1), 0.5, 0.5, 2, 2, 0, 0};
    want[10] = (1 + 5 * e2) / (2 + e2);
    want[11] = (1 + 5 * e2) / (2 + e2);
    want[8] = want[9] = third * 6;
    assert_near(out, want, 12);

    struct kernel_attention near_two = {0.5f,
                                        2}; /* a window of two leaves the first rows as they were */
    ops->attention(stream, out, &q[0][0], 4, &kv, 0, &sequence, 1, 2, &near_two);
    want[8] = 2.5, want[9] = 3;
    want[10] = 5 * e2 / (1 + e2), want[11] = (1 + 5 * e2) / (1 + e2);
    assert_near(out, want, 12);
}
END_TEST

START_TEST(a_copied_tail_is_the_first_rows_and_no_more)
{
    struct kernel_kv kv = poisoned_pool();
    static const float k[2][2] = {{1, 2}, {3, 4}}, v[2][2] = {{5, 6}, {7, 8}};
    struct kernel_sequence sequence = {(uint32_t[]){0}, 0, 2, 0};
    for (int32_t layer = 0; layer < LAYERS; layer++)
        ops->kv_append(stream, &kv, layer, &k[0][0], &v[0][0], 2, &sequence, 1);
    ops->kv_copy(stream, &kv, 3, 0, 1);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        float rows[4];
        memcpy(rows, kernel_kv_keys(&kv, 3, layer, 0), sizeof rows);
        ck_assert(rows[0] == 1 && rows[1] == 2 && isnan(rows[2]) && isnan(rows[3]));
        memcpy(rows, kernel_kv_values(&kv, 3, layer, 0), sizeof rows);
        ck_assert(rows[0] == 5 && rows[1] == 6 && isnan(rows[2]) && isnan(rows[3]));
    }
}
END_TEST

START_TEST(an_unknown_backend_is_named_in_the_refusal)
{
    struct kernel_stream *none = NULL;
    struct llm_error error;
    ck_assert_int_eq(kernel_stream_open("tpu", NULL, &none, &error), LLM_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "\"tpu\""));
    ck_assert_ptr_null(none);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels/reference");
    TCase *tc = tcase_create("reference");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, two_tensors_packed_into_one_matrix_multiply_as_one);
    tcase_add_test(tc, embedding_widens_the_rows_of_a_table);
    tcase_add_test_raise_signal(tc, embedding_an_id_beyond_the_vocabulary_is_a_failed_check,
                                SIGABRT);
    tcase_add_test(tc, rmsnorm_divides_by_the_root_of_the_mean_square);
    tcase_add_test(tc, rope_turns_the_two_halves_of_a_head_against_each_other);
    tcase_add_test(tc, silu_mul_gates_the_upper_half_by_the_lower);
    tcase_add_test(tc, add_and_gather_do_what_they_say);
    tcase_add_test(tc, a_row_lies_where_the_layout_says);
    tcase_add_test(tc, attention_weighs_the_values_seen_and_nothing_else);
    tcase_add_test(tc, a_copied_tail_is_the_first_rows_and_no_more);
    tcase_add_test(tc, an_unknown_backend_is_named_in_the_refusal);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
