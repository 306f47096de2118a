/*
 * test_turns.c - daemon/core/turns: clocks go on by what was granted, and nobody gains by leaving or by waiting idly.
 * How: a plan is turns_begin(), grants and wants written by hand, turns_end().
 */
#include "daemon/core/turns.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS  3u
#define NORMAL 1u

static struct turns turns;
static void *memory;
static struct llm_error error;

static void setup(void)
{
    struct arena measured = arena_measure();
    turns_init(&turns, &measured, SLOTS);
    size_t bytes = measured.used_bytes;
    memory = aligned_alloc(ARENA_ALIGN_BYTES,
                           (bytes + ARENA_ALIGN_BYTES - 1) / ARENA_ALIGN_BYTES * ARENA_ALIGN_BYTES);
    ck_assert_ptr_nonnull(memory);
    memset(memory, 0, bytes);
    struct arena arena = arena_over(memory, bytes);
    turns_init(&turns, &arena, SLOTS);
}

static void teardown(void)
{
    ck_assert_msg(turns_sane(&turns, &error) == LLM_OK, "%s", error.message);
    free(memory);
}

static struct turn *normal(uint32_t user)
{
    return &turns.users[user].turns[NORMAL];
}

/* A plan that grants `tokens` to `user`; `other` wants more, unless it is USER_NONE. */
static void plan(uint32_t user, uint32_t tokens, uint32_t other)
{
    turns_begin(&turns);
    normal(user)->granted_tokens = tokens;
    if (other != USER_NONE)
        normal(other)->wants = true;
    turns_end(&turns);
}

START_TEST(a_clock_goes_on_by_tokens_over_weight)
{
    uint32_t light = turns_enter(&turns, 1000, 1, 4), heavy = turns_enter(&turns, 1001, 4, 4);
    turns_begin(&turns);
    normal(light)->granted_tokens = normal(heavy)->granted_tokens = 8;
    normal(light)->wants = normal(heavy)->wants = true;
    ck_assert_uint_eq(turn_clock(&turns.users[light], NORMAL), 8 * TURN_TOKEN);
    ck_assert_uint_eq(turn_clock(&turns.users[heavy], NORMAL), 2 * TURN_TOKEN);
    ck_assert_uint_eq(turn_clock(&turns.users[heavy], TURN_BATCH), 0);
    turns_end(&turns);
    ck_assert_uint_eq(normal(light)->clock, 8 * TURN_TOKEN);
    ck_assert_uint_eq(turns.level[NORMAL], 2 * TURN_TOKEN);
}
END_TEST

START_TEST(who_waits_is_behind_and_who_is_content_is_level)
{
    uint32_t busy = turns_enter(&turns, 1000, 1, 4), waits = turns_enter(&turns, 1001, 1, 4);
    uint32_t content = turns_enter(&turns, 1002, 1, 4);
    plan(busy, 10, waits);
    ck_assert_uint_eq(normal(waits)->clock, 0);
    plan(waits, 4, waits);
    ck_assert_uint_eq(normal(waits)->clock, 4 * TURN_TOKEN);
    ck_assert_uint_eq(normal(content)->clock, 4 * TURN_TOKEN); /* no credit for wanting nothing */
    ck_assert_uint_eq(normal(busy)->clock, 10 * TURN_TOKEN);
}
END_TEST

START_TEST(when_nobody_wants_more_all_are_level)
{
    uint32_t busy = turns_enter(&turns, 1000, 1, 4), other = turns_enter(&turns, 1001, 1, 4);
    plan(busy, 10, USER_NONE);
    ck_assert_uint_eq(normal(other)->clock, 10 * TURN_TOKEN);
}
END_TEST

START_TEST(who_comes_back_has_its_debt_but_no_credit)
{
    uint32_t busy = turns_enter(&turns, 1000, 1, 4), waits = turns_enter(&turns, 1001, 1, 4);
    plan(busy, 10, waits);
    turns_leave(&turns, busy);
    ck_assert_uint_eq(turns_find(&turns, 1000), USER_NONE);
    uint32_t fresh = turns_enter(&turns, 1002, 1, 4);
    ck_assert_uint_eq(normal(fresh)->clock, 0); /* the level of the one that waits */
    busy = turns_enter(&turns, 1000, 1, 4);
    ck_assert_uint_eq(normal(busy)->clock, 10 * TURN_TOKEN);
    turns_leave(&turns, fresh);
    plan(waits, 30, waits);
    fresh = turns_enter(&turns, 1002, 1, 4);
    ck_assert_uint_eq(normal(fresh)->clock, turns.level[NORMAL]);
    ck_assert_uint_gt(turns.level[NORMAL], 0);
}
END_TEST

/* More users than entries: those who owe least are forgotten first, and no entry is ever missing. */
START_TEST(who_owes_most_is_remembered_longest)
{
    uint32_t waits = turns_enter(&turns, 1, 1, 4);
    for (uint32_t uid = 1000; uid < 1100; uid++) {
        uint32_t user = turns_enter(&turns, uid, 1, 4);
        plan(user, uid == 1000 ? 1000 : uid - 1000, waits);
        turns_leave(&turns, user);
    }
    uint32_t user = turns_enter(&turns, 1000, 1, 4);
    ck_assert_uint_eq(normal(user)->clock, 1000 * TURN_TOKEN);
    turns_leave(&turns, user);
    user = turns_enter(&turns, 1001, 1, 4);
    ck_assert_uint_eq(normal(user)->clock, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/turns");
    TCase *tcase = tcase_create("turns");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_clock_goes_on_by_tokens_over_weight);
    tcase_add_test(tcase, who_waits_is_behind_and_who_is_content_is_level);
    tcase_add_test(tcase, when_nobody_wants_more_all_are_level);
    tcase_add_test(tcase, who_comes_back_has_its_debt_but_no_credit);
    tcase_add_test(tcase, who_owes_most_is_remembered_longest);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
