/*
 * test_device.c - daemon/sim/device: the formulas, against numbers worked out by hand.
 */
#include <check.h>
#include <stdlib.h>

#include "daemon/sim/device.h"

/* The sizes that the models' own descriptions give. */
START_TEST(shapes_have_their_models_sizes)
{
    const struct shape *shape = shape_named("8b");
    ck_assert_uint_eq(shape_kv_token_bytes(shape), 128 * 1024);
    uint64_t all =
        shape_layer_weights(shape) + 2 * (uint64_t)shape->width * shape->vocab; /* untied */
    ck_assert_double_eq_tol((double)all, 8.03e9, 0.01e9);
    shape = shape_named("1b");
    ck_assert_uint_eq(shape_kv_token_bytes(shape), 32 * 1024);
    all = shape_layer_weights(shape) + (uint64_t)shape->width * shape->vocab; /* tied */
    ck_assert_double_eq_tol((double)all, 1.236e9, 0.005e9);
}
END_TEST

START_TEST(one_row_takes_as_long_as_reading_the_weights_and_what_it_attends_to)
{
    const struct device *device = device_named("h200");
    const struct shape *shape = shape_named("8b");
    struct work work = device_no_work(shape);
    device_add_rows(&work, shape, 0, 1, true);
    double weights = (double)(shape_layer_weights(shape) + 4096 * UINT64_C(128256)) * 2;
    double ns = 200000 + 1e9 * (weights + 2 * 131072) / (0.8 * 4.8e12);
    ck_assert_double_eq_tol((double)device_work_ns(device, &work), ns, 2);
    device_add_rows(&work, shape, 100000, 1, true); /* beside it one with a long history */
    ns += 1e9 * 131072.0 * 100002 / (0.8 * 4.8e12);
    ck_assert_double_eq_tol((double)device_work_ns(device, &work), ns, 2);
}
END_TEST

START_TEST(a_long_prompt_takes_as_long_as_its_arithmetic)
{
    const struct device *device = device_named("h200");
    const struct shape *shape = shape_named("8b");
    struct work work = device_no_work(shape);
    device_add_rows(&work, shape, 8192, 8192, false);
    double flops = 2.0 * 8192 * (double)shape_layer_weights(shape) +
                   4.0 * 32 * 32 * 128 * (8192.0 * 8192 + 8192.0 * 8193 / 2);
    double ns = 200000 + 1e9 * flops / (0.5 * 989e12);
    ck_assert_double_eq_tol((double)device_work_ns(device, &work), ns, 2);
}
END_TEST

START_TEST(alone_is_the_sum_of_its_steps)
{
    const struct device *device = device_named("cpu");
    const struct shape *shape = shape_named("260k");
    uint64_t ns = 0;
    for (uint32_t from = 0; from < 100; from += 64) {
        struct work work = device_no_work(shape);
        device_add_rows(&work, shape, from, from == 0 ? 64 : 36, from > 0);
        ns += device_work_ns(device, &work);
    }
    ck_assert_uint_eq(device_alone_ns(device, shape, 100, 1, 64), ns);
    for (uint32_t i = 0; i < 10; i++) {
        struct work work = device_no_work(shape);
        device_add_rows(&work, shape, 100 + i, 1, true);
        ns += device_work_ns(device, &work);
    }
    ck_assert_double_eq_tol((double)device_alone_ns(device, shape, 100, 11, 64), (double)ns,
                            0.001 * (double)ns);
}
END_TEST

START_TEST(unknown_names_are_not_there)
{
    ck_assert_ptr_null(device_named("abacus"));
    ck_assert_ptr_null(shape_named(""));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim/device");
    TCase *tc = tcase_create("device");
    tcase_add_test(tc, shapes_have_their_models_sizes);
    tcase_add_test(tc, one_row_takes_as_long_as_reading_the_weights_and_what_it_attends_to);
    tcase_add_test(tc, a_long_prompt_takes_as_long_as_its_arithmetic);
    tcase_add_test(tc, alone_is_the_sum_of_its_steps);
    tcase_add_test(tc, unknown_names_are_not_there);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
