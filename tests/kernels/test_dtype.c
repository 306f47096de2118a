/*
 * test_dtype.c - kernels/dtype: widening is exact, narrowing is to nearest with ties to even.
 * How: the two 16-bit formats are small enough to walk every value.
 */
#include "kernels/dtype.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

START_TEST(every_bf16_survives_the_way_through_f32)
{
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        float wide = kernel_bf16_to_f32((uint16_t)bits);
        if (isnan(wide))
            ck_assert(isnan(kernel_bf16_to_f32(kernel_f32_to_bf16(wide))));
        else
            ck_assert_uint_eq(kernel_f32_to_bf16(wide), bits);
    }
}
END_TEST

START_TEST(every_f16_survives_the_way_through_f32)
{
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        float wide = kernel_f16_to_f32((uint16_t)bits);
        if (isnan(wide))
            ck_assert(isnan(kernel_f16_to_f32(kernel_f32_to_f16(wide))));
        else
            ck_assert_uint_eq(kernel_f32_to_f16(wide), bits);
    }
}
END_TEST

START_TEST(f16_values_are_those_of_ieee_754)
{
    ck_assert(kernel_f16_to_f32(0x3c00) == 1.0f);
    ck_assert(kernel_f16_to_f32(0xc000) == -2.0f);
    ck_assert(kernel_f16_to_f32(0x7bff) == 65504.0f);
    ck_assert(kernel_f16_to_f32(0x0001) == 0x1p-24f);
    ck_assert(kernel_f16_to_f32(0x7c00) == INFINITY);
}
END_TEST

/* Between two neighbours of a format, each number goes to the nearer one and the middle to the even one. */
START_TEST(narrowing_goes_to_the_nearest_and_ties_to_even)
{
    for (uint32_t bits = 0; bits < 0x7bff; bits++) { /* same walk for both: all finite f16 */
        double low = (double)kernel_f16_to_f32((uint16_t)bits);
        double high = (double)kernel_f16_to_f32((uint16_t)(bits + 1));
        float middle = (float)((low + high) / 2);
        ck_assert_uint_eq(kernel_f32_to_f16(middle), bits + (bits & 1));
        ck_assert_uint_eq(kernel_f32_to_f16(nextafterf(middle, 0)), bits);
        ck_assert_uint_eq(kernel_f32_to_f16(nextafterf(middle, INFINITY)), bits + 1);
    }
    for (uint32_t bits = 0; bits < 0x7f7f; bits++) {
        float middle = kernel_f32_from_bits(bits << 16 | 0x8000);
        ck_assert_uint_eq(kernel_f32_to_bf16(middle), bits + (bits & 1));
        ck_assert_uint_eq(kernel_f32_to_bf16(nextafterf(middle, 0)), bits);
        ck_assert_uint_eq(kernel_f32_to_bf16(nextafterf(middle, INFINITY)), bits + 1);
    }
}
END_TEST

START_TEST(what_is_too_large_becomes_infinity_and_nan_stays_nan)
{
    ck_assert_uint_eq(kernel_f32_to_f16(65520.0f), 0x7c00);
    ck_assert_uint_eq(kernel_f32_to_f16(65519.99f), 0x7bff);
    ck_assert_uint_eq(kernel_f32_to_f16(-INFINITY), 0xfc00);
    ck_assert_uint_eq(kernel_f32_to_bf16(3.4e38f), 0x7f80);
    ck_assert_uint_eq(kernel_f32_to_bf16(-INFINITY), 0xff80);
    ck_assert(isnan(kernel_bf16_to_f32(kernel_f32_to_bf16(kernel_f32_from_bits(0x7f800001)))));
    ck_assert(isnan(kernel_f16_to_f32(kernel_f32_to_f16(kernel_f32_from_bits(0x7f800001)))));
}
END_TEST

START_TEST(arrays_may_lie_at_odd_addresses)
{
    unsigned char bytes[1 + 3 * 4];
    static const float values[3] = {1.5f, -2.25f, 1024.0f}; /* exact in all three formats */
    for (int dtype = 0; dtype < KERNEL_DTYPE_COUNT; dtype++) {
        for (size_t i = 0; i < 3; i++)
            kernel_store(bytes + 1, (enum kernel_dtype)dtype, i, values[i]);
        for (size_t i = 0; i < 3; i++)
            ck_assert(kernel_load(bytes + 1, (enum kernel_dtype)dtype, i) == values[i]);
    }
}
END_TEST

START_TEST(names_and_sizes_are_known_and_a_stranger_has_none)
{
    ck_assert_uint_eq(kernel_dtype_bytes(KERNEL_F32), 4);
    ck_assert_uint_eq(kernel_dtype_bytes(KERNEL_BF16), 2);
    ck_assert_uint_eq(kernel_dtype_bytes(KERNEL_F16), 2);
    ck_assert_uint_eq(kernel_dtype_bytes((enum kernel_dtype)77), 0);
    ck_assert_str_eq(kernel_dtype_name(KERNEL_BF16), "bf16");
    ck_assert_str_eq(kernel_dtype_name((enum kernel_dtype)77), "unknown");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels/dtype");
    TCase *tc = tcase_create("dtype");
    tcase_add_test(tc, every_bf16_survives_the_way_through_f32);
    tcase_add_test(tc, every_f16_survives_the_way_through_f32);
    tcase_add_test(tc, f16_values_are_those_of_ieee_754);
    tcase_add_test(tc, narrowing_goes_to_the_nearest_and_ties_to_even);
    tcase_add_test(tc, what_is_too_large_becomes_infinity_and_nan_stays_nan);
    tcase_add_test(tc, arrays_may_lie_at_odd_addresses);
    tcase_add_test(tc, names_and_sizes_are_known_and_a_stranger_has_none);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
