/*
 * test_ops.c - every op of the cpu backend, on every instruction set here, against the reference.
 * How: one table of shapes per op, each row with the reason it is there; the tolerances are those that kernels.h
 * states. Each table prints the element that came closest to its tolerance; a failure names it.
 */
#include "tests/kernels/fixture.h"
#include "tests/kernels/shapes.h"

#include <check.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kernel_stream *cpu, *reference;

/* The instruction set of this run of the test; false where the processor lacks it. */
static bool open_streams(int isa, uint64_t salt)
{
    fixture_reseed(salt);
    reference = fixture_reference();
    cpu = fixture_stream(fixture_isas[isa], 2);
    return cpu != NULL;
}

static void close_streams(void)
{
    kernel_stream_close(cpu);
    kernel_stream_close(reference);
}

/* The worst of a table so far, with the words for it. */
struct report {
    const char *op;
    double ratio;
    char where[160];
};

static void report_add(struct report *report, struct fixture_worst worst, const char *shape,
                       const char *why)
{
    ck_assert_msg(
        worst.ratio <= 1,
        "%s %s (%s): element %zu is %.9g, reference %.9g: %.3g times the tolerance (seed %" PRIu64
        ")",
        report->op, shape, why, worst.index, worst.got, worst.want, worst.ratio, fixture_seed());
    if (worst.ratio > report->ratio || !report->where[0]) {
        report->ratio = worst.ratio;
        snprintf(report->where, sizeof report->where, "%s (%s), element %zu: %.9g for %.9g", shape,
                 why, worst.index, worst.got, worst.want);
    }
}

static void report_print(const struct report *report)
{
    printf("%-10s %-28s worst %.3f of the tolerance at %s\n", report->op, cpu->description,
           report->ratio, report->where);
}

static void linear_case(struct report *report, const struct linear_shape *s,
                        enum kernel_dtype dtype, bool with_bias, enum kernel_linear_mode mode)
{
    size_t outputs = (size_t)s->T * (size_t)s->N;
    float *x = fixture_floats((size_t)s->T * (size_t)s->K, 1);
    float *w = fixture_floats((size_t)s->N * (size_t)s->K, 0.3f);
    float *bias = with_bias ? fixture_floats((size_t)s->N, 1) : NULL;
    float *want = mode == KERNEL_LINEAR_ADD ? fixture_floats(outputs, 1) : fixture_nans(outputs);
    float *got = malloc(outputs * sizeof *got);
    memcpy(got, want, outputs * sizeof *got);
    double *tolerance = fixture_linear_tolerance(s->T, s->N, s->K, x, w, bias,
                                                 mode == KERNEL_LINEAR_ADD ? want : NULL);
    struct kernel_matrix fast = fixture_matrix(cpu, dtype, s->N, s->K, w);
    struct kernel_matrix plain = fixture_matrix(reference, dtype, s->N, s->K, w);

    cpu->ops->linear(cpu, got, x, &fast, bias, s->T, mode);
    reference->ops->linear(reference, want, x, &plain, bias, s->T, mode);
    char shape[80];
    snprintf(shape, sizeof shape, "%s T=%d N=%d K=%d%s%s", kernel_dtype_name(dtype), s->T, s->N,
             s->K, with_bias ? " bias" : "", mode == KERNEL_LINEAR_ADD ? " add" : "");
    report_add(report, fixture_compare(got, want, outputs, tolerance, 0), shape, s->why);
    free(x), free(w), free(bias), free(want), free(got), free(tolerance);
    free(fast.panels), free(plain.panels);
}

START_TEST(linear_is_within_its_tolerance)
{
    if (!open_streams(_i, 1))
        return;
    struct report report = {.op = "linear"};
    for (int i = 0; i < LINEAR_SHAPES; i++)
        for (int dtype = 0; dtype < KERNEL_DTYPE_COUNT; dtype++) {
            linear_case(&report, &linear_shapes[i], (enum kernel_dtype)dtype, false,
                        KERNEL_LINEAR_STORE);
            linear_case(&report, &linear_shapes[i], (enum kernel_dtype)dtype, true,
                        KERNEL_LINEAR_ADD);
        }
    report_print(&report);
    close_streams();
}
END_TEST

START_TEST(rows_of_a_packed_matrix_are_read_back_exactly)
{
    if (!open_streams(_i, 2))
        return;
    enum {
        N = 75,
        K = 37
    };
    float *w = fixture_floats(N * K, 1);
    for (int dtype = 0; dtype < KERNEL_DTYPE_COUNT; dtype++) {
        struct kernel_matrix fast = fixture_matrix(cpu, (enum kernel_dtype)dtype, N, K, w);
        struct kernel_matrix plain = fixture_matrix(reference, (enum kernel_dtype)dtype, N, K, w);
        for (int32_t n = 0; n < N; n++) {
            float got[K], want[K];
            cpu->ops->embed_matrix(cpu, got, &n, &fast, 1);
            reference->ops->embed_matrix(reference, want, &n, &plain, 1);
            ck_assert_msg(memcmp(got, want, sizeof got) == 0, "row %d of %s", n,
                          kernel_dtype_name((enum kernel_dtype)dtype));
        }
        free(fast.panels), free(plain.panels);
    }
    free(w);
    close_streams();
}
END_TEST

/* Rows [first, first + rows) of w as a tensor of its own: at an odd address, NaN on both sides of it. The place
 * to free is *out_memory. */
static const unsigned char *tensor_piece(const float *w, int32_t K, int32_t first, int32_t rows,
                                         enum kernel_dtype dtype, unsigned char **out_memory)
{
    size_t count = (size_t)rows * (size_t)K, bytes = count * kernel_dtype_bytes(dtype);
    size_t margin = 64 * (size_t)K * 4 + 1;
    *out_memory = malloc(bytes + 2 * margin);
    memset(*out_memory, 0xff, bytes + 2 * margin);
    for (size_t i = 0; i < count; i++)
        kernel_store(*out_memory + margin, dtype, i, w[(size_t)first * (size_t)K + i]);
    return *out_memory + margin;
}

/* What a weight is after it went through two formats. */
static float twice_rounded(float value, enum kernel_dtype first, enum kernel_dtype second)
{
    unsigned char stored[4];
    kernel_store(stored, first, 0, value);
    kernel_store(stored, second, 0, kernel_load(stored, first, 0));
    return kernel_load(stored, second, 0);
}

static void packing_case(const float *w, int32_t N, int32_t K, enum kernel_dtype from,
                         enum kernel_dtype to)
{
    const int32_t joint = 21; /* inside a panel of any width */
    unsigned char *memory[2];
    const unsigned char *below = tensor_piece(w, K, 0, joint, from, &memory[0]);
    const unsigned char *above = tensor_piece(w, K, joint, N - joint, from, &memory[1]);
    struct kernel_matrix m = fixture_matrix(cpu, to, N, K, w);
    memset(m.panels, 0xff, cpu->ops->matrix_bytes(to, N, K));
    cpu->ops->matrix_pack(cpu, &m, above, from, joint, N - joint);
    cpu->ops->matrix_pack(cpu, &m, below, from, 0, joint);
    float *row = fixture_nans((size_t)K);
    for (int32_t n = 0; n < N; n++) {
        cpu->ops->embed_matrix(cpu, row, &n, &m, 1);
        for (int32_t k = 0; k < K; k++)
            if (row[k] != twice_rounded(w[n * K + k], from, to))
                ck_abort_msg("%s to %s, row %d, input %d: %g", kernel_dtype_name(from),
                             kernel_dtype_name(to), n, k, (double)row[k]);
    }
    free(memory[0]), free(memory[1]), free(m.panels), free(row);
}

START_TEST(packing_converts_between_all_formats_and_joins_tensors_anywhere)
{
    if (!open_streams(_i, 3))
        return;
    enum {
        N = 70,
        K = 19
    };
    float *w = fixture_floats(N * K, 1);
    for (int from = 0; from < KERNEL_DTYPE_COUNT; from++)
        for (int to = 0; to < KERNEL_DTYPE_COUNT; to++)
            packing_case(w, N, K, (enum kernel_dtype)from, (enum kernel_dtype)to);
    free(w);
    close_streams();
}
END_TEST

START_TEST(rmsnorm_is_within_its_tolerance)
{
    if (!open_streams(_i, 4))
        return;
    struct report report = {.op = "rmsnorm"};
    for (int i = 0; i < ROW_SHAPES; i++) {
        const struct row_shape *s = &row_shapes[i];
        size_t count = (size_t)s->T * (size_t)s->D;
        float *x = fixture_floats(count, 3), *gain = fixture_floats((size_t)s->D, 1);
        float *got = fixture_nans(count), *want = fixture_nans(count);
        double *tolerance = malloc(count * sizeof *tolerance);
        cpu->ops->rmsnorm(cpu, got, x, gain, s->T, s->D, 1e-5f);
        reference->ops->rmsnorm(reference, want, x, gain, s->T, s->D, 1e-5f);
        for (size_t j = 0; j < count; j++)
            tolerance[j] = 4e-6 * fabs((double)want[j]);
        char shape[80];
        snprintf(shape, sizeof shape, "T=%d D=%d", s->T, s->D);
        report_add(&report, fixture_compare(got, want, count, tolerance, 0), shape, s->why);

        cpu->ops->rmsnorm(cpu, x, x, gain, s->T, s->D, 1e-5f); /* in place */
        ck_assert_mem_eq(x, got, count * sizeof *x);
        free(x), free(gain), free(got), free(want), free(tolerance);
    }
    report_print(&report);
    close_streams();
}
END_TEST

START_TEST(rmsnorm_of_heads_is_rmsnorm_of_each_head_and_touches_nothing_else)
{
    if (!open_streams(_i, 9))
        return;
    static const struct {
        int32_t T, H, D, gap;
    } shapes[] = {{1, 1, 2, 0}, {5, 12, 8, 3}, {3, 4, 44, 100}, {9, 40, 128, 64}, {17, 2, 256, 1}};
    struct kernel_stream *streams[] = {cpu, reference};
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof shapes[0]; i++) {
        int32_t T = shapes[i / 2].T, H = shapes[i / 2].H, D = shapes[i / 2].D;
        int32_t stride = H * D + shapes[i / 2].gap;
        size_t count = (size_t)T * (size_t)stride;
        float *x = fixture_floats(count, 3), *gain = fixture_floats((size_t)D, 1);
        float *want = malloc(count * sizeof *want);
        memcpy(want, x, count * sizeof *want);
        for (int32_t t = 0; t < T; t++) {
            float *row = want + t * stride;
            streams[i % 2]->ops->rmsnorm(streams[i % 2], row, row, gain, H, D, 1e-6f);
        }
        streams[i % 2]->ops->rmsnorm_heads(streams[i % 2], x, stride, gain, T, H, D, 1e-6f);
        ck_assert_mem_eq(x, want, count * sizeof *x);
        free(x), free(gain), free(want);
    }
    close_streams();
}
END_TEST

START_TEST(silu_mul_is_within_its_tolerance)
{
    if (!open_streams(_i, 5))
        return;
    struct report report = {.op = "silu_mul"};
    for (int i = 0; i < ROW_SHAPES; i++) {
        const struct row_shape *s = &row_shapes[i];
        size_t count = (size_t)s->T * (size_t)s->D;
        float *x = fixture_floats(2 * count, 30); /* well into both ends of the sigmoid */
        float *got = fixture_nans(count), *want = fixture_nans(count);
        double *tolerance = malloc(count * sizeof *tolerance);
        cpu->ops->silu_mul(cpu, got, x, s->T, s->D);
        reference->ops->silu_mul(reference, want, x, s->T, s->D);
        for (size_t j = 0; j < count; j++) {
            double up =
                (double)x[j / (size_t)s->D * 2 * (size_t)s->D + (size_t)s->D + j % (size_t)s->D];
            tolerance[j] = 1e-6 * fabs((double)want[j]) + 1e-36 * fabs(up);
        }
        char shape[80];
        snprintf(shape, sizeof shape, "T=%d F=%d", s->T, s->D);
        report_add(&report, fixture_compare(got, want, count, tolerance, 0), shape, s->why);
        free(x), free(got), free(want), free(tolerance);
    }
    report_print(&report);
    close_streams();
}
END_TEST

START_TEST(silu_of_extreme_numbers_is_what_it_should_be)
{
    if (!open_streams(_i, 6))
        return;
    enum {
        F = 9
    };
    float x[2 * F] = {0, -0.0f, 88, 89, 1e30f, -88, -89, -1e30f, NAN}, out[F];
    for (int i = 0; i < F; i++)
        x[F + i] = 1;
    cpu->ops->silu_mul(cpu, out, x, 1, F);
    ck_assert(out[0] == 0 && out[1] == 0 && out[2] == 88 && out[3] == 89 && out[4] == 1e30f);
    for (int i = 5; i < 8; i++)
        ck_assert_msg(out[i] <= 0 && out[i] > -1e-35f, "silu(%g) = %g", (double)x[i],
                      (double)out[i]);
    ck_assert(isnan(out[8]));
    close_streams();
}
END_TEST

START_TEST(rope_is_within_its_tolerance)
{
    if (!open_streams(_i, 7))
        return;
    struct report report = {.op = "rope"};
    for (int i = 0; i < ROPE_SHAPES; i++) {
        const struct rope_shape *r = &rope_shapes[i];
        int32_t T = r->T, H = r->H, D = r->D, R = r->R, P = r->P;
        int32_t stride = H * D + 5, positions[16];
        size_t count = (size_t)T * (size_t)stride;
        double *frequencies = malloc((size_t)R * sizeof *frequencies);
        float *table = malloc((size_t)P * (size_t)R * sizeof *table);
        kernel_rope_frequencies(frequencies, R, 10000);
        kernel_rope_fill(table, frequencies, 1, P, R);
        struct kernel_rope rope = {table, P, R};
        float *got = fixture_floats(count, 1), *want = malloc(count * sizeof *want);
        memcpy(want, got, count * sizeof *want);
        double *tolerance = malloc(count * sizeof *tolerance);
        for (size_t j = 0; j < count;
             j++) { /* |x cos| + |y sin| of the pair, 0 where nothing turns */
            size_t d =
                j % (size_t)stride < (size_t)(H * D) ? j % (size_t)stride % (size_t)D : (size_t)R;
            size_t half = (size_t)R / 2, other = d < half ? j + half : j - half;
            tolerance[j] =
                d < (size_t)R ? 0x1p-22 * (fabs((double)got[j]) + fabs((double)got[other])) : 0;
        }
        for (int32_t t = 0; t < T; t++)
            positions[t] = t == 0 ? P - 1 : (int32_t)fixture_random((uint32_t)P);
        cpu->ops->rope(cpu, got, stride, positions, &rope, T, H, D);
        reference->ops->rope(reference, want, stride, positions, &rope, T, H, D);
        char shape[80];
        snprintf(shape, sizeof shape, "T=%d H=%d D=%d R=%d", T, H, D, R);
        report_add(&report, fixture_compare(got, want, count, tolerance, 0), shape, r->why);
        free(frequencies), free(table), free(got), free(want), free(tolerance);
    }
    report_print(&report);
    close_streams();
}
END_TEST

START_TEST(ops_that_move_or_add_are_exact)
{
    if (!open_streams(_i, 8))
        return;
    for (int i = 0; i < ROW_SHAPES; i++) {
        int32_t T = row_shapes[i].T, D = row_shapes[i].D, rows[70];
        size_t count = (size_t)T * (size_t)D;
        float *x = fixture_floats(count, 1), *got = fixture_floats(count, 1);
        float *want = malloc(count * sizeof *want);
        memcpy(want, got, count * sizeof *want);
        cpu->ops->add(cpu, got, x, T, D);
        reference->ops->add(reference, want, x, T, D);
        ck_assert_mem_eq(got, want, count * sizeof *got);

        for (int32_t t = 0; t < T; t++)
            rows[t] = (int32_t)fixture_random((uint32_t)T);
        cpu->ops->gather_rows(cpu, got, x, rows, T, D);
        for (int32_t t = 0; t < T; t++)
            ck_assert_mem_eq(got + t * D, x + rows[t] * D, (size_t)D * sizeof *got);

        struct kernel_table table = {x, KERNEL_F32, T, D};
        cpu->ops->embed(cpu, want, rows, &table, T);
        ck_assert_mem_eq(got, want, count * sizeof *got);
        free(x), free(got), free(want);
    }
    close_streams();
}
END_TEST

static void attention_case(struct report *report, const struct attention_shape *s)
{
    struct kernel_sequence sequences[4];
    uint32_t blocks_count = 0;
    int32_t S = 0, T = 0, stride = (s->H + 2 * s->G) * s->D;
    for (; S < 4 && s->sequences[S].rows; S++)
        blocks_count +=
            (uint32_t)((s->sequences[S].before + s->sequences[S].rows + s->B - 1) / s->B);
    enum {
        LAYERS = 2,
        LAYER = 1
    };
    struct kernel_kv kv = fixture_kv(s->dtype, LAYERS, s->G, s->B, s->D, blocks_count);
    uint32_t *blocks = fixture_blocks(blocks_count), *next = blocks;
    for (int32_t i = 0; i < S; i++) { /* what came before, then the step */
        int32_t before = s->sequences[i].before, rows = s->sequences[i].rows;
        float *old = fixture_floats((size_t)before * (size_t)stride, 1);
        struct kernel_sequence prefix = {next, 0, before, 0};
        cpu->ops->kv_append(cpu, &kv, LAYER, old, old + s->G * s->D, stride, &prefix, 1);
        sequences[i] = (struct kernel_sequence){next, T, rows, before};
        next += (before + rows + s->B - 1) / s->B;
        T += rows;
        free(old);
    }
    float *qkv = fixture_floats((size_t)T * (size_t)stride, 1.5f);
    const float *k = qkv + s->H * s->D, *v = k + s->G * s->D;
    cpu->ops->kv_append(cpu, &kv, LAYER, k, v, stride, sequences, S);
    size_t count = (size_t)T * (size_t)s->H * (size_t)s->D;
    float *got = fixture_nans(count), *want = fixture_nans(count);
    struct kernel_attention attention = {1 / sqrtf((float)s->D), s->window};
    cpu->ops->attention(cpu, got, qkv, stride, &kv, LAYER, sequences, S, s->H, &attention);
    reference->ops->attention(reference, want, qkv, stride, &kv, LAYER, sequences, S, s->H,
                              &attention);
    char shape[80];
    snprintf(shape, sizeof shape, "%s T=%d S=%d H=%d G=%d D=%d B=%d window=%d",
             kernel_dtype_name(s->dtype), T, S, s->H, s->G, s->D, s->B, s->window);
    /* max |value| of numbers with deviation 1.5 is about 5 in all these shapes; 4 is on the safe side */
    report_add(report, fixture_compare(got, want, count, NULL, 2e-5 * 4), shape, s->why);
    free(kv.base), free(blocks), free(qkv), free(got), free(want);
}

START_TEST(attention_is_within_its_tolerance_and_reads_no_unwritten_key)
{
    if (!open_streams(_i, 9))
        return;
    struct report report = {.op = "attention"};
    for (int i = 0; i < ATTENTION_SHAPES; i++)
        attention_case(&report, &attention_shapes[i]);
    report_print(&report);
    close_streams();
}
END_TEST

START_TEST(attention_with_scores_far_apart_stays_finite)
{
    if (!open_streams(_i, 10))
        return;
    enum {
        TOKENS = 130,
        D = 8,
        B = 16
    };
    struct kernel_kv kv = fixture_kv(KERNEL_F32, 1, 1, B, D, (TOKENS + B - 1) / B);
    uint32_t *blocks = fixture_blocks(kv.block_count);
    struct kernel_sequence sequence = {blocks, 0, TOKENS, 0};
    float *k = fixture_floats(TOKENS * D, 1000), *v = fixture_floats(TOKENS * D, 1);
    float *got = fixture_nans(TOKENS * D), *want = fixture_nans(TOKENS * D);
    cpu->ops->kv_append(cpu, &kv, 0, k, v, D, &sequence, 1);
    struct kernel_attention attention = {1, 0};
    cpu->ops->attention(cpu, got, k, D, &kv, 0, &sequence, 1, 1, &attention);
    reference->ops->attention(reference, want, k, D, &kv, 0, &sequence, 1, 1, &attention);
    /* Scores of 10^7 with steps of one: weights are all or nothing, so the answer is one value row. */
    struct fixture_worst worst = fixture_compare(got, want, TOKENS * D, NULL, 1e-6);
    ck_assert_msg(worst.ratio <= 1, "element %zu is %g for %g", worst.index, worst.got, worst.want);
    free(kv.base), free(blocks), free(k), free(v), free(got), free(want);
    close_streams();
}
END_TEST

START_TEST(an_unknown_instruction_set_or_too_many_threads_are_refused_with_a_sentence)
{
    struct kernel_stream *none = NULL;
    struct llm_error error;
    struct kernel_stream_options options = {.threads = 1, .isa = "sse9"};
    ck_assert_int_eq(kernel_stream_open("cpu", &options, &none, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "\"sse9\""));
    options = (struct kernel_stream_options){.threads = KERNEL_THREADS_MAX + 1};
    ck_assert_int_eq(kernel_stream_open("cpu", &options, &none, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "257"));
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(the_usual_way_in_is_the_cpu_backend_with_all_processors)
{
    struct kernel_stream *stream = NULL;
    struct llm_error error;
    ck_assert_int_eq(kernel_stream_open(NULL, NULL, &stream, &error), LLM_OK);
    ck_assert_ptr_eq(stream->backend, kernel_backend_find("cpu"));
    ck_assert_ptr_nonnull(strstr(stream->description, "cpu: "));
    ck_assert_ptr_nonnull(strstr(stream->description, " thread"));
    ck_assert_int_eq(kernel_stream_wait(stream, &error), LLM_OK);
    kernel_stream_close(stream);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels/ops");
    TCase *tc = tcase_create("ops");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, linear_is_within_its_tolerance, 0, FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, rows_of_a_packed_matrix_are_read_back_exactly, 0, FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, packing_converts_between_all_formats_and_joins_tensors_anywhere, 0,
                        FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, rmsnorm_is_within_its_tolerance, 0, FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, rmsnorm_of_heads_is_rmsnorm_of_each_head_and_touches_nothing_else, 0,
                        FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, silu_mul_is_within_its_tolerance, 0, FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, silu_of_extreme_numbers_is_what_it_should_be, 0, FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, rope_is_within_its_tolerance, 0, FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, ops_that_move_or_add_are_exact, 0, FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, attention_is_within_its_tolerance_and_reads_no_unwritten_key, 0,
                        FIXTURE_ISA_COUNT);
    tcase_add_loop_test(tc, attention_with_scores_far_apart_stays_finite, 0, FIXTURE_ISA_COUNT);
    tcase_add_test(tc, an_unknown_instruction_set_or_too_many_threads_are_refused_with_a_sentence);
    tcase_add_test(tc, the_usual_way_in_is_the_cpu_backend_with_all_processors);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
