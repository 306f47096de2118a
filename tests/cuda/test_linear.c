/*
 * test_linear.c - linear on the emulator: within the contract of kernels.h, and the same bits for any T.
 */
#include "tests/cuda/fixture.h"
#include "tests/kernels/shapes.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kernel_stream *reference;

static void open_reference(void)
{
    reference = fixture_reference();
}

static void linear_case(struct cuda_stream *stream, const struct linear_shape *s,
                        enum kernel_dtype dtype, bool with_bias, bool add)
{
    size_t outputs = (size_t)s->T * (size_t)s->N, inputs = (size_t)s->T * (size_t)s->K;
    float *x = fixture_floats(inputs, 1), *w = fixture_floats((size_t)s->N * (size_t)s->K, 0.3f);
    float *bias = with_bias ? fixture_floats((size_t)s->N, 1) : NULL;
    float *want = add ? fixture_floats(outputs, 1) : fixture_nans(outputs);
    double *tolerance = fixture_linear_tolerance(s->T, s->N, s->K, x, w, bias, add ? want : NULL);
    float *out = cuda_floats(want, outputs), *x_there = cuda_floats(x, inputs);
    float *bias_there = bias ? cuda_floats(bias, (size_t)s->N) : NULL;
    struct cuda_matrix there = cuda_matrix_upload(dtype, s->N, s->K, w);
    struct kernel_matrix plain = fixture_matrix(reference, dtype, s->N, s->K, w);

    linear_cuda(stream, out, x_there, &there, bias_there, s->T, add);
    reference->ops->linear(reference, want, x, &plain, bias, s->T,
                           add ? KERNEL_LINEAR_ADD : KERNEL_LINEAR_STORE);
    char shape[80];
    snprintf(shape, sizeof shape, "%s T=%d N=%d K=%d%s%s", kernel_dtype_name(dtype), s->T, s->N,
             s->K, with_bias ? " bias" : "", add ? " add" : "");
    cuda_expect(fixture_compare(out, want, outputs, tolerance, 0), "linear", shape, s->why);
    free(x), free(w), free(bias), free(want), free(tolerance), free(plain.panels);
    emu_free(out), emu_free(x_there), emu_free(bias_there);
    emu_free((void *)(uintptr_t)there.rows);
}

/* Every shape once per schedule, the dtype and the mode going round; where nothing slows the emulator down, all. */
START_TEST(linear_is_within_its_tolerance)
{
    struct cuda_stream stream = cuda_begin(_i, 21);
    bool all = _i == 0 && !emu_has_tsan() && !emu_has_asan();
    for (int i = 0; i < LINEAR_SHAPES; i++)
        for (int turn = 0; turn < (all ? 2 * KERNEL_DTYPE_COUNT : 1); turn++) {
            int choice = i + turn + _i;
            linear_case(&stream, &linear_shapes[i],
                        (enum kernel_dtype)(choice % KERNEL_DTYPE_COUNT), choice % 2, choice % 2);
        }
    cuda_end(&stream);
}
END_TEST

START_TEST(a_row_has_the_same_bits_whatever_rows_are_beside_it)
{
    struct cuda_stream stream = cuda_begin(_i, 22);
    enum {
        N = 19,
        K = 1032,
        T = 13
    };
    float *x = fixture_floats((size_t)T * K, 1), *w = fixture_floats((size_t)N * K, 0.3f);
    float *x_there = cuda_floats(x, (size_t)T * K), *out = emu_alloc(sizeof(float[T][N]));
    float *some = emu_alloc(sizeof(float[T][N]));
    struct cuda_matrix there = cuda_matrix_upload(KERNEL_BF16, N, K, w);
    linear_cuda(&stream, out, x_there, &there, NULL, T, 0);
    for (int32_t count = 1; count <= 5; count++) {
        int32_t first = (int32_t)fixture_random((uint32_t)(T - count + 1));
        linear_cuda(&stream, some, x_there + (size_t)first * K, &there, NULL, count, 0);
        ck_assert_msg(memcmp(some, out + (size_t)first * N, (size_t)count * N * sizeof *out) == 0,
                      "%d rows from row %d", count, first);
    }
    free(x), free(w), emu_free(x_there), emu_free(out), emu_free(some);
    emu_free((void *)(uintptr_t)there.rows);
    cuda_end(&stream);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda/linear");
    TCase *tc = tcase_create("linear");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, open_reference, NULL);
    tcase_add_loop_test(tc, linear_is_within_its_tolerance, 0, cuda_schedules());
    tcase_add_loop_test(tc, a_row_has_the_same_bits_whatever_rows_are_beside_it, 0,
                        cuda_schedules());
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
