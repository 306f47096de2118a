/*
 * test_bench_samples.c - tools/bench/samples: order statistics against values worked out by hand, and against a
 * definition written down naively.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "tests/support/test_seed.h"
#include "tools/bench/samples.h"

#define NEAR(got, want) ck_assert_double_eq_tol((got), (want), 1e-12)

static struct samples samples;

static void fill(const double *values, size_t count)
{
    samples_reset(&samples);
    for (size_t i = 0; i < count; i++)
        samples_add(&samples, values[i]);
}

static void setup(void)
{
    ck_assert_int_eq(samples_open(&samples, 1000, NULL), LLM_OK);
}

static void teardown(void)
{
    samples_close(&samples);
}

START_TEST(a_percentile_is_the_nearest_rank)
{
    double values[] = {50, 15, 20, 40, 35}; /* ranks 1..5: 15 20 35 40 50 */
    static const struct {
        double q, value;
    } rows[] = {{0, 15},   {0.05, 15}, {0.2, 15}, {0.21, 20}, {0.3, 20},
                {0.4, 20}, {0.5, 35},  {0.8, 40}, {0.81, 50}, {1, 50}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        NEAR(samples_percentile(values, 5, rows[i].q), rows[i].value);
}
END_TEST

START_TEST(the_median_of_an_even_count_lies_between)
{
    double odd[] = {9, 1, 5}, even[] = {4, 1, 3, 2}, one[] = {7};
    NEAR(samples_median(odd, 3), 5);
    NEAR(samples_median(even, 4), 2.5);
    NEAR(samples_median(one, 1), 7);
}
END_TEST

START_TEST(the_mad_ignores_how_far_an_outlier_lies)
{
    double near[] = {1, 1, 2, 2, 4, 6, 9}, far[] = {1, 1, 2, 2, 4, 6, 9000};
    NEAR(samples_mad(near, 7), 1); /* median 2; distances 1 1 0 0 2 4 7 */
    NEAR(samples_mad(far, 7), 1);
}
END_TEST

START_TEST(jain_is_one_for_equals_and_one_nth_for_a_single_winner)
{
    NEAR(samples_jain((const double[]){3, 3, 3, 3}, 4), 1);
    NEAR(samples_jain((const double[]){5, 0, 0, 0}, 4), 0.25);
    NEAR(samples_jain((const double[]){1, 2, 3}, 3), 36.0 / (3 * 14));
}
END_TEST

START_TEST(without_samples_there_is_no_figure)
{
    double none[1] = {0};
    struct summary summary = samples_summarise(&samples);
    ck_assert_uint_eq(summary.count, 0);
    ck_assert(isnan(summary.p50) && isnan(summary.min) && isnan(summary.mean));
    ck_assert(isnan(samples_median(none, 0)) && isnan(samples_percentile(none, 0, 0.5)));
    ck_assert(isnan(samples_mad(none, 0)) && isnan(samples_jain(none, 0)));
    ck_assert(isnan(samples_jain((const double[]){0, 0}, 2)));
    ck_assert(isnan(samples_result(&summary, 1).p50));
}
END_TEST

START_TEST(a_summary_of_a_round)
{
    double values[1000];
    for (int i = 0; i < 1000; i++)
        values[i] = (i * 7 + 3) % 1000 + 1; /* 1..1000 in some order */
    fill(values, 1000);
    ck_assert(samples_full(&samples));
    samples_add(&samples, 1e9); /* no room: left out */
    struct summary summary = samples_summarise(&samples);
    ck_assert_uint_eq(summary.count, 1000);
    NEAR(summary.min, 1);
    NEAR(summary.p50, 500.5);
    NEAR(summary.p99, 990);
    NEAR(summary.p999, 999);
    NEAR(summary.mean, 500.5);
}
END_TEST

START_TEST(a_result_is_the_median_over_rounds_that_have_samples)
{
    const struct summary rounds[] = {
        {.count = 10, .min = 2, .p50 = 10, .p99 = 40, .p999 = 70, .mean = 11},
        {.count = 0, .min = NAN, .p50 = NAN, .p99 = NAN, .p999 = NAN, .mean = NAN},
        {.count = 20, .min = 1, .p50 = 900, .p99 = 950, .p999 = 999, .mean = 901},
        {.count = 30, .min = 3, .p50 = 12, .p99 = 44, .p999 = 60, .mean = 13},
    };
    struct result result = samples_result(rounds, 4);
    ck_assert_uint_eq(result.count, 60);
    ck_assert_uint_eq(result.rounds, 3);
    NEAR(result.min, 1);
    NEAR(result.p50, 12);
    NEAR(result.p99, 44);
    NEAR(result.p999, 70);
    NEAR(result.mean, 13);
    NEAR(result.p50_mad, 2); /* of 10 12 900 */
    NEAR(result.p50_iqr, 890);
}
END_TEST

START_TEST(a_ratio_compares_round_by_round)
{
    /* the machine was three times slower in the second round: the ratio does not see it */
    const struct summary rounds[] = {
        {.count = 1, .p50 = 20}, {.count = 1, .p50 = 60}, {.count = 1, .p50 = 22}, {.count = 0}};
    const struct summary floors[] = {{.count = 1, .p50 = 10},
                                     {.count = 1, .p50 = 30},
                                     {.count = 1, .p50 = 10},
                                     {.count = 1, .p50 = 10}};
    NEAR(samples_ratio(rounds, floors, 4), 2);
    ck_assert(isnan(samples_ratio(rounds, &rounds[3], 1)));
}
END_TEST

/* The definition itself: how many samples do not exceed the answer. */
START_TEST(percentiles_of_random_sets_keep_their_promise)
{
    const uint64_t start = test_seed();
    uint64_t seed = start;
    for (int turn = 0; turn < 200; turn++) {
        double values[64];
        size_t count = 1 + test_random(&seed) % 64;
        for (size_t i = 0; i < count; i++)
            values[i] = (double)(test_random(&seed) % 20);
        double q = (double)(1 + test_random(&seed) % 1000) / 1000;
        double got = samples_percentile(values, count, q);
        size_t not_above = 0, below = 0;
        for (size_t i = 0; i < count; i++) {
            not_above += values[i] <= got;
            below += values[i] < got;
        }
        ck_assert_msg((double)not_above >= q * (double)count && (double)below < q * (double)count,
                      "LLM_TEST_SEED=%llu, turn %d: %g is not percentile %g of %zu values",
                      (unsigned long long)start, turn, got, q, count);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools/bench_samples");
    TCase *tcase = tcase_create("samples");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_percentile_is_the_nearest_rank);
    tcase_add_test(tcase, the_median_of_an_even_count_lies_between);
    tcase_add_test(tcase, the_mad_ignores_how_far_an_outlier_lies);
    tcase_add_test(tcase, jain_is_one_for_equals_and_one_nth_for_a_single_winner);
    tcase_add_test(tcase, without_samples_there_is_no_figure);
    tcase_add_test(tcase, a_summary_of_a_round);
    tcase_add_test(tcase, a_result_is_the_median_over_rounds_that_have_samples);
    tcase_add_test(tcase, a_ratio_compares_round_by_round);
    tcase_add_test(tcase, percentiles_of_random_sets_keep_their_promise);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
