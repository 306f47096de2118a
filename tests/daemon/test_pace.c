/*
 * test_pace.c - daemon/engine/pace: what a refused client is told of the time until there is a place.
 */
#include "daemon/engine/pace.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shm/clock.h"

#define MS LLM_NS_PER_MS

static struct pace pace;

static void setup(void)
{
    memset(&pace, 0, sizeof pace);
}

START_TEST(hint_is_the_time_between_ends)
{
    pace_begun(&pace, 1000 * MS);
    for (uint64_t i = 1; i <= 50; i++)
        pace_ended(&pace, (1000 + 20 * i) * MS, 9);
    ck_assert_uint_ge(pace_hint_ms(&pace, 5000 * MS, 10, 10), 19);
    ck_assert_uint_le(pace_hint_ms(&pace, 5000 * MS, 10, 10), 20);
    ck_assert_uint_le(pace_hint_ms(&pace, 5000 * MS, 5, 10), 40); /* half of the ends are its own */
    ck_assert_uint_ge(pace_hint_ms(&pace, 5000 * MS, 5, 10), 38);
}
END_TEST

START_TEST(hint_follows_a_change_of_pace)
{
    uint64_t now = 1000 * MS;
    pace_begun(&pace, now);
    for (int i = 0; i < 50; i++)
        pace_ended(&pace, now += 10 * MS, 9);
    for (int i = 0; i < 50; i++)
        pace_ended(&pace, now += 400 * MS, 9);
    ck_assert_uint_ge(pace_hint_ms(&pace, now, 1, 1), 390);
}
END_TEST

START_TEST(a_pause_is_not_counted)
{
    pace_begun(&pace, 1000 * MS);
    pace_ended(&pace, 1010 * MS, 0);
    pace_begun(&pace, 900000 * MS);
    pace_ended(&pace, 900010 * MS, 0);
    ck_assert_uint_eq(pace_hint_ms(&pace, 900010 * MS, 1, 1), 10);
}
END_TEST

START_TEST(before_the_first_end_it_is_as_long_again)
{
    ck_assert_uint_eq(pace_hint_ms(&pace, 1000 * MS, 0, 0), 1);
    pace_begun(&pace, 1000 * MS);
    ck_assert_uint_eq(pace_hint_ms(&pace, 1300 * MS, 4, 4), 300);
}
END_TEST

START_TEST(hint_is_within_bounds)
{
    pace_begun(&pace, 1);
    pace_ended(&pace, 2, 5);
    ck_assert_uint_eq(pace_hint_ms(&pace, 3, 1, 5), 1);
    pace.average_ns = UINT64_MAX;
    ck_assert_uint_eq(pace_hint_ms(&pace, 3, 1, UINT32_MAX), PACE_HINT_MS_MAX);
}
END_TEST

START_TEST(sentence_ends_with_the_hint)
{
    struct llm_error error = {.message = "all are taken; try again"};
    pace.average_ns = 250 * MS;
    pace_say(&pace, 1, 1, 1, &error);
    ck_assert_str_eq(error.message, "all are taken; try again in about 250 ms");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/pace");
    TCase *tcase = tcase_create("pace");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, hint_is_the_time_between_ends);
    tcase_add_test(tcase, hint_follows_a_change_of_pace);
    tcase_add_test(tcase, a_pause_is_not_counted);
    tcase_add_test(tcase, before_the_first_end_it_is_as_long_again);
    tcase_add_test(tcase, hint_is_within_bounds);
    tcase_add_test(tcase, sentence_ends_with_the_hint);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
