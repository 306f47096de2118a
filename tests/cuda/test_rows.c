/*
 * test_rows.c - kernels that look at one row at a time, on the emulator, against the reference.
 * How: the tables of tests/kernels/shapes.h, each op under every schedule; tolerances are those of kernels.h.
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

/* A table [V, D] of a dtype on the device, rows as in a file, and as kernels.h has it. */
static void embed_case(struct cuda_stream *stream, const struct row_shape *s,
                       enum kernel_dtype dtype)
{
    enum {
        V = 9
    };
    size_t count = (size_t)s->T * (size_t)s->D, bytes = kernel_dtype_bytes(dtype);
    float *values = fixture_floats((size_t)V * (size_t)s->D, 1), *want = fixture_nans(count);
    unsigned char *rows = malloc((size_t)V * (size_t)s->D * bytes);
    for (size_t i = 0; i < (size_t)V * (size_t)s->D; i++)
        kernel_store(rows, dtype, i, values[i]);
    int32_t ids[70];
    for (int32_t t = 0; t < s->T; t++)
        ids[t] = (int32_t)fixture_random(V);
    struct kernel_table table = {rows, dtype, V, s->D};
    reference->ops->embed(reference, want, ids, &table, s->T);

    struct cuda_table there = {cuda_upload(rows, (size_t)V * (size_t)s->D * bytes),
                               (uint64_t)s->D * bytes, (int32_t)dtype, V, s->D};
    struct cuda_matrix matrix = cuda_matrix_upload(dtype, V, s->D, values);
    struct cuda_table packed = {matrix.rows, matrix.row_bytes, matrix.dtype, V, s->D};
    float *out = emu_alloc(count * sizeof *out);
    int32_t *ids_there = cuda_upload(ids, (size_t)s->T * sizeof *ids);
    embed_cuda(stream, out, ids_there, &there, s->T);
    ck_assert_mem_eq(out, want, count * sizeof *out);
    memset(out, 0xff, count * sizeof *out);
    embed_cuda(stream, out, ids_there, &packed, s->T);
    ck_assert_mem_eq(out, want, count * sizeof *out);
    ck_assert_uint_eq(*stream->fault, 0);
    free(values), free(want), free(rows);
    emu_free((void *)(uintptr_t)there.rows), emu_free((void *)(uintptr_t)matrix.rows);
    emu_free(out), emu_free(ids_there);
}

START_TEST(embed_is_exact_in_every_format)
{
    struct cuda_stream stream = cuda_begin(_i, 1);
    for (int i = 0; i < ROW_SHAPES; i++)
        for (int dtype = 0; dtype < KERNEL_DTYPE_COUNT; dtype++)
            embed_case(&stream, &row_shapes[i], (enum kernel_dtype)dtype);
    cuda_end(&stream);
}
END_TEST

START_TEST(an_unknown_token_gives_zeros_and_a_fault_and_reads_nothing)
{
    struct cuda_stream stream = cuda_begin(_i, 2);
    enum {
        D = 8,
        V = 3
    };
    static const int32_t ids[] = {2, 3, -1, INT32_MAX, INT32_MIN, 0};
    float *rows = fixture_floats(V * D, 1), *rows_there = cuda_floats(rows, V * D);
    int32_t *ids_there = cuda_upload(ids, sizeof ids);
    float *out = emu_alloc(6 * D * sizeof *out);
    struct cuda_table table = {rows_there, D * sizeof *rows, CUDA_F32, V, D};
    embed_cuda(&stream, out, ids_there, &table, 6);
    ck_assert_mem_eq(out, rows + 2 * D, D * sizeof *out);
    for (int i = D; i < 5 * D; i++)
        ck_assert(out[i] == 0);
    ck_assert_mem_eq(out + 5 * D, rows, D * sizeof *out);
    ck_assert_uint_eq(*stream.fault, CUDA_FAULT_TOKEN_ID);
    free(rows), emu_free(rows_there), emu_free(ids_there), emu_free(out);
    cuda_end(&stream);
}
END_TEST

START_TEST(rmsnorm_is_within_its_tolerance)
{
    struct cuda_stream stream = cuda_begin(_i, 3);
    for (int i = 0; i < ROW_SHAPES; i++) {
        const struct row_shape *s = &row_shapes[i];
        size_t count = (size_t)s->T * (size_t)s->D;
        float *x = fixture_floats(count, 3), *gain = fixture_floats((size_t)s->D, 1);
        float *want = fixture_nans(count), *out = emu_alloc(count * sizeof *out);
        float *x_there = cuda_floats(x, count), *gain_there = cuda_floats(gain, (size_t)s->D);
        double *tolerance = malloc(count * sizeof *tolerance);
        reference->ops->rmsnorm(reference, want, x, gain, s->T, s->D, 1e-5f);
        for (size_t j = 0; j < count; j++)
            tolerance[j] = 4e-6 * fabs((double)want[j]);
        rmsnorm_cuda(&stream, out, x_there, gain_there, s->T, s->D, 1e-5f);
        char shape[80];
        snprintf(shape, sizeof shape, "T=%d D=%d", s->T, s->D);
        cuda_expect(fixture_compare(out, want, count, tolerance, 0), "rmsnorm", shape, s->why);

        rmsnorm_cuda(&stream, x_there, x_there, gain_there, s->T, s->D, 1e-5f); /* in place */
        ck_assert_mem_eq(x_there, out, count * sizeof *out);
        free(x), free(gain), free(want), free(tolerance);
        emu_free(out), emu_free(x_there), emu_free(gain_there);
    }
    cuda_end(&stream);
}
END_TEST

START_TEST(rmsnorm_of_heads_is_rmsnorm_of_each_head_and_touches_nothing_else)
{
    static const struct {
        int32_t T, H, D, gap;
    } shapes[] = {{1, 1, 2, 0}, {5, 12, 8, 3}, {3, 4, 44, 100}, {2, 5, 128, 64}, {2, 2, 257, 1}};
    struct cuda_stream stream = cuda_begin(_i, 8);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        int32_t T = shapes[i].T, H = shapes[i].H, D = shapes[i].D;
        int32_t stride = H * D + shapes[i].gap;
        size_t count = (size_t)T * (size_t)stride;
        float *x = fixture_floats(count, 3), *gain = fixture_floats((size_t)D, 1);
        float *x_there = cuda_floats(x, count), *gain_there = cuda_floats(gain, (size_t)D);
        float *head = emu_alloc((size_t)D * sizeof *head);
        rmsnorm_heads_cuda(&stream, x_there, stride, gain_there, T, H, D, 1e-6f);
        for (int32_t t = 0; t < T; t++)
            for (int32_t h = 0; h < H; h++) {
                float *place = x + t * stride + h * D;
                memcpy(head, place, (size_t)D * sizeof *head);
                rmsnorm_cuda(&stream, head, head, gain_there, 1, D, 1e-6f);
                memcpy(place, head, (size_t)D * sizeof *head);
            }
        ck_assert_mem_eq(x_there, x, count * sizeof *x);
        free(x), free(gain), emu_free(x_there), emu_free(gain_there), emu_free(head);
    }
    cuda_end(&stream);
}
END_TEST

START_TEST(silu_mul_is_within_its_tolerance)
{
    struct cuda_stream stream = cuda_begin(_i, 4);
    for (int i = 0; i < ROW_SHAPES; i++) {
        const struct row_shape *s = &row_shapes[i];
        size_t F = (size_t)s->D, count = (size_t)s->T * F;
        float *x = fixture_floats(2 * count, 30), *want = fixture_nans(count);
        float *x_there = cuda_floats(x, 2 * count), *out = emu_alloc(count * sizeof *out);
        double *tolerance = malloc(count * sizeof *tolerance);
        reference->ops->silu_mul(reference, want, x, s->T, s->D);
        for (size_t j = 0; j < count; j++)
            tolerance[j] =
                1e-6 * fabs((double)want[j]) + 1e-36 * fabs((double)x[j / F * 2 * F + F + j % F]);
        silu_mul_cuda(&stream, out, x_there, s->T, s->D);
        char shape[80];
        snprintf(shape, sizeof shape, "T=%d F=%d", s->T, s->D);
        cuda_expect(fixture_compare(out, want, count, tolerance, 0), "silu_mul", shape, s->why);
        free(x), free(want), free(tolerance), emu_free(x_there), emu_free(out);
    }
    cuda_end(&stream);
}
END_TEST

START_TEST(silu_of_extreme_numbers_is_what_it_should_be)
{
    struct cuda_stream stream = cuda_begin(_i, 5);
    enum {
        F = 9
    };
    float x[2 * F] = {0, -0.0f, 88, 89, 1e30f, -88, -89, -1e30f, NAN};
    for (int i = 0; i < F; i++)
        x[F + i] = 1;
    float *x_there = cuda_floats(x, 2 * F), *out = emu_alloc(F * sizeof *out);
    silu_mul_cuda(&stream, out, x_there, 1, F);
    ck_assert(out[0] == 0 && out[1] == 0 && out[2] == 88 && out[3] == 89 && out[4] == 1e30f);
    for (int i = 5; i < 8; i++)
        ck_assert_msg(out[i] <= 0 && out[i] > -1e-35f, "silu(%g) = %g", (double)x[i],
                      (double)out[i]);
    ck_assert(isnan(out[8]));
    emu_free(x_there), emu_free(out);
    cuda_end(&stream);
}
END_TEST

static void rope_case(struct cuda_stream *stream, const struct rope_shape *s, int32_t gap)
{
    int32_t stride = s->H * s->D + gap, positions[16];
    size_t count = (size_t)s->T * (size_t)stride, table_count = (size_t)s->P * (size_t)s->R;
    double *frequencies = malloc((size_t)s->R * sizeof *frequencies);
    float *table = malloc(table_count * sizeof *table);
    kernel_rope_frequencies(frequencies, s->R, 10000);
    kernel_rope_fill(table, frequencies, 1, s->P, s->R);
    float *x = fixture_floats(count, 1), *x_there = cuda_floats(x, count);
    double *tolerance = malloc(count * sizeof *tolerance);
    for (size_t j = 0; j < count; j++) {
        size_t place = j % (size_t)stride, half = (size_t)s->R / 2;
        size_t d = place < (size_t)(s->H * s->D) ? place % (size_t)s->D : (size_t)s->R;
        size_t other = d < half ? j + half : j - half;
        tolerance[j] =
            d < (size_t)s->R ? 0x1p-22 * (fabs((double)x[j]) + fabs((double)x[other])) : 0;
    }
    for (int32_t t = 0; t < s->T; t++)
        positions[t] = t == 0 ? s->P - 1 : (int32_t)fixture_random((uint32_t)s->P);
    struct kernel_rope rope = {table, s->P, s->R};
    struct cuda_rope rope_there = {cuda_floats(table, table_count), s->P, s->R};
    int32_t *positions_there = cuda_upload(positions, (size_t)s->T * sizeof *positions);
    rope_cuda(stream, x_there, stride, positions_there, &rope_there, s->T, s->H, s->D);
    reference->ops->rope(reference, x, stride, positions, &rope, s->T, s->H, s->D);
    char shape[80];
    snprintf(shape, sizeof shape, "T=%d H=%d D=%d R=%d gap=%d", s->T, s->H, s->D, s->R, gap);
    cuda_expect(fixture_compare(x_there, x, count, tolerance, 0), "rope", shape, s->why);
    free(frequencies), free(table), free(x), free(tolerance);
    emu_free(x_there), emu_free(positions_there), emu_free((void *)(uintptr_t)rope_there.cos_sin);
}

START_TEST(rope_is_within_its_tolerance)
{
    struct cuda_stream stream = cuda_begin(_i, 6);
    for (int i = 0; i < ROPE_SHAPES; i++) {
        rope_case(&stream, &rope_shapes[i], 5); /* one by one */
        rope_case(&stream, &rope_shapes[i], 8); /* four at a time where the head allows it */
    }
    cuda_end(&stream);
}
END_TEST

START_TEST(add_and_gather_rows_are_exact)
{
    struct cuda_stream stream = cuda_begin(_i, 7);
    for (int i = 0; i < ROW_SHAPES; i++) {
        int32_t T = row_shapes[i].T, D = row_shapes[i].D, rows[70];
        size_t count = (size_t)T * (size_t)D;
        float *x = fixture_floats(count, 1), *want = fixture_floats(count, 1);
        float *x_there = cuda_floats(x, count), *out = cuda_floats(want, count);
        add_cuda(&stream, out, x_there, T, D);
        reference->ops->add(reference, want, x, T, D);
        ck_assert_mem_eq(out, want, count * sizeof *out);

        for (int32_t t = 0; t < T; t++)
            rows[t] = (int32_t)fixture_random((uint32_t)T);
        int32_t *rows_there = cuda_upload(rows, (size_t)T * sizeof *rows);
        gather_rows_cuda(&stream, out, x_there, rows_there, T, D);
        reference->ops->gather_rows(reference, want, x, rows, T, D);
        ck_assert_mem_eq(out, want, count * sizeof *out);
        free(x), free(want), emu_free(x_there), emu_free(out), emu_free(rows_there);
    }
    cuda_end(&stream);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda/rows");
    TCase *tc = tcase_create("rows");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, open_reference, NULL);
    int schedules = cuda_schedules();
    tcase_add_loop_test(tc, embed_is_exact_in_every_format, 0, schedules);
    tcase_add_loop_test(tc, an_unknown_token_gives_zeros_and_a_fault_and_reads_nothing, 0,
                        schedules);
    tcase_add_loop_test(tc, rmsnorm_is_within_its_tolerance, 0, schedules);
    tcase_add_loop_test(tc, rmsnorm_of_heads_is_rmsnorm_of_each_head_and_touches_nothing_else, 0,
                        schedules);
    tcase_add_loop_test(tc, silu_mul_is_within_its_tolerance, 0, schedules);
    tcase_add_loop_test(tc, silu_of_extreme_numbers_is_what_it_should_be, 0, schedules);
    tcase_add_loop_test(tc, rope_is_within_its_tolerance, 0, schedules);
    tcase_add_loop_test(tc, add_and_gather_rows_are_exact, 0, schedules);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
