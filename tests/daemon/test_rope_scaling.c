/*
 * test_rope_scaling.c - daemon/model/rope_scaling: the frequencies of published models, pair by pair.
 * How: which pairs stay, which turn at 1 / factor and which lie between is worked out from the papers' formulas for the
 * numbers of Llama 3.1 and Qwen2.5; whole models are compared with transformers in test_families.c.
 */
#include "daemon/model/rope_scaling.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define PI 3.14159265358979323846

static double frequencies[512];

static double plain(const struct model_config *c, int pair)
{
    return pow(c->rope_theta, -2.0 * pair / c->head_dim);
}

static void assert_times_plain(const struct model_config *c, int pair, double want)
{
    double got = frequencies[pair] / plain(c, pair);
    ck_assert_msg(fabs(got - want) < 1e-12,
                  "pair %d turns %.15g times the plain one, expected %.15g", pair, got, want);
}

START_TEST(plain_and_linear_turn_all_pairs_alike)
{
    struct model_config c = {.head_dim = 80, .rope_theta = 10000};
    ck_assert_double_eq(rope_scaling_frequencies(frequencies, &c), 1);
    for (int i = 0; i < 40; i++)
        assert_times_plain(&c, i, 1);
    c.rope = (struct model_rope){.kind = MODEL_ROPE_LINEAR, .factor = 2.5};
    ck_assert_double_eq(rope_scaling_frequencies(frequencies, &c), 1);
    for (int i = 0; i < 40; i++)
        assert_times_plain(&c, i, 1 / 2.5);
}
END_TEST

/* Wavelength 2 pi 500000^(i / 64): below 8192 / 4 up to pair 28, beyond 8192 from pair 35 on. */
START_TEST(llama_3_1_slows_the_long_wavelengths)
{
    struct model_config c = {.head_dim = 128,
                             .rope_theta = 500000,
                             .rope = {.kind = MODEL_ROPE_LLAMA3,
                                      .factor = 8,
                                      .low_freq_factor = 1,
                                      .high_freq_factor = 4,
                                      .original_context_tokens = 8192}};
    ck_assert_double_eq(rope_scaling_frequencies(frequencies, &c), 1);
    for (int i = 0; i <= 28; i++)
        assert_times_plain(&c, i, 1);
    for (int i = 29; i <= 34; i++) {
        double wavelength = 2 * PI / plain(&c, i), smooth = (8192 / wavelength - 1) / (4 - 1);
        ck_assert(smooth > 0 && smooth < 1);
        assert_times_plain(&c, i, (1 - smooth) / 8 + smooth);
    }
    for (int i = 35; i < 64; i++)
        assert_times_plain(&c, i, 1.0 / 8);
}
END_TEST

static struct model_config qwen2_5(void)
{
    return (struct model_config){.head_dim = 128,
                                 .rope_theta = 1000000,
                                 .rope = {.kind = MODEL_ROPE_YARN,
                                          .factor = 4,
                                          .beta_fast = 32,
                                          .beta_slow = 1,
                                          .attention_factor = 1.138629,
                                          .original_context_tokens = 32768}};
}

/* 32768 tokens hold 32 turns of pair 23.6 and one of pair 39.7: a line from pair 23 to pair 40. */
START_TEST(yarn_of_qwen_2_5_is_a_line_between_whole_pairs)
{
    struct model_config c = qwen2_5();
    ck_assert_double_eq(rope_scaling_frequencies(frequencies, &c), 1.138629);
    for (int i = 0; i < 64; i++) {
        double slowed = i <= 23 ? 0 : i >= 40 ? 1 : (i - 23) / 17.0;
        assert_times_plain(&c, i, slowed / 4 + 1 - slowed);
    }
}
END_TEST

START_TEST(yarn_between_dimensions_has_its_bounds_between_pairs)
{
    struct model_config c = qwen2_5();
    c.rope.between_dimensions = true;
    double first = 128 * log(32768 / (32 * 2 * PI)) / (2 * log(1e6));
    double last = 128 * log(32768 / (2 * PI)) / (2 * log(1e6));
    ck_assert(first > 23.5 && first < 23.7 && last > 39.6 && last < 39.8);
    rope_scaling_frequencies(frequencies, &c);
    for (int i = 0; i < 64; i++) {
        double slowed = i <= 23 ? 0 : i >= 40 ? 1 : (i - first) / (last - first);
        assert_times_plain(&c, i, slowed / 4 + 1 - slowed);
    }
}
END_TEST

/* A single pair of dimensions, bounds in the wrong order or at one place: odd, but numbers. */
START_TEST(yarn_of_odd_numbers_stays_finite_and_between_its_ends)
{
    static const uint32_t originals[] = {1, 6, 7, 33, 1u << 20};
    static const double betas[][2] = {{32, 1}, {1, 1}, {1e-6, 1e6}, {1e6, 1e-6}};
    static const double thetas[] = {1.0000001, 10000, 1e12};
    for (int i = 0; i < 5 * 4 * 3 * 3; i++) {
        struct model_config c = qwen2_5();
        c.head_dim = (const uint32_t[]){2, 16, 256}[i % 3];
        c.rope_theta = thetas[i / 3 % 3];
        c.rope.beta_fast = betas[i / 9 % 4][0];
        c.rope.beta_slow = betas[i / 9 % 4][1];
        c.rope.original_context_tokens = originals[i / 36];
        rope_scaling_frequencies(frequencies, &c);
        for (uint32_t pair = 0; pair < c.head_dim / 2; pair++) {
            double times = frequencies[pair] / plain(&c, (int)pair);
            ck_assert_msg(times >= 0.25 - 1e-12 && times <= 1 + 1e-12, "row %d, pair %u: %g", i,
                          pair, times);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/rope_scaling");
    TCase *tc = tcase_create("frequencies");
    tcase_add_test(tc, plain_and_linear_turn_all_pairs_alike);
    tcase_add_test(tc, llama_3_1_slows_the_long_wavelengths);
    tcase_add_test(tc, yarn_of_qwen_2_5_is_a_line_between_whole_pairs);
    tcase_add_test(tc, yarn_between_dimensions_has_its_bounds_between_pairs);
    tcase_add_test(tc, yarn_of_odd_numbers_stays_finite_and_between_its_ends);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
