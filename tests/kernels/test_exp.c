/*
 * test_exp.c - kernels/cpu/vec_exp: exp() of vectors, over the whole range of f32.
 * How: the portable vector type runs everywhere; the others run the same polynomial, and test_ops.c sees them
 * through silu and softmax.
 */
#include "kernels/cpu/vec_plain.h"

#include "kernels/cpu/vec_exp.h"

#include <check.h>
#include <stdlib.h>

static float exp_of(float x)
{
    float out[VEC_LANES];
    vec_store(out, vec_exp(vec_set(x)));
    return out[VEC_LANES - 1];
}

/* Every 6131st number, both signs, where the result is a normal number. */
START_TEST(exp_is_within_two_units_in_the_last_place)
{
    double worst = 0;
    float worst_x = 0;
    for (uint32_t bits = 0; bits < 0x42b20000; bits += 6131)
        for (uint32_t sign = 0; sign <= 1; sign++) {
            float x = kernel_f32_from_bits(bits | sign << 31);
            if (x < -87.3f || x > 88.7f)
                continue;
            int exponent;
            double want = exp((double)x);
            (void)frexp(want, &exponent);
            double off = fabs((double)exp_of(x) - want) / ldexp(1, exponent - 24);
            worst_x = off > worst ? x : worst_x;
            worst = off > worst ? off : worst;
        }
    ck_assert_msg(worst <= 2, "exp(%.9g) is off by %.2f units", (double)worst_x, worst);
}
END_TEST

START_TEST(exp_ends_where_f32_does)
{
    ck_assert(exp_of(-INFINITY) == 0 && exp_of(-1000) == 0 && exp_of(-105) == 0);
    ck_assert(exp_of(-103) == 0x1p-149f); /* the smallest denormal */
    ck_assert(exp_of(0) == 1 && exp_of(-0.0f) == 1);
    ck_assert(exp_of(89) == INFINITY && exp_of(1000) == INFINITY && exp_of(INFINITY) == INFINITY);
    ck_assert(isnan(exp_of(NAN)));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels/exp");
    TCase *tc = tcase_create("exp");
    tcase_add_test(tc, exp_is_within_two_units_in_the_last_place);
    tcase_add_test(tc, exp_ends_where_f32_does);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
