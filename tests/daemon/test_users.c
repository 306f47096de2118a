/*
 * test_users.c - daemon/engine/users: one row a user, one budget a pass, whatever the number of connections.
 */
#include "daemon/engine/users.h"

#include <check.h>
#include <string.h>

#define CONTEXTS 3

static struct users users;
static struct llm_error error;
static const struct quota quota = {.weight = 1,
                                   .requests = 2,
                                   .contexts = 2,
                                   .context_tokens = 100,
                                   .pinned_blocks = 10,
                                   .priority_max = LLM_PRIORITY_NORMAL};

static void setup(void)
{
    ck_assert_int_eq(users_open(&users, CONTEXTS, &error), LLM_OK);
    users_begin_pass(&users);
}

static void teardown(void)
{
    users_close(&users);
}

static uint32_t take(uint32_t uid)
{
    return users_take(&users, uid, &quota);
}

START_TEST(connections_of_one_user_share_a_row)
{
    uint32_t first = take(1000), other = take(1001);
    ck_assert_uint_ne(first, other);
    ck_assert_uint_eq(take(1000), first);
    ck_assert_uint_eq(users.rows[first].connections, 2);
    users_drop(&users, first);
    ck_assert_uint_eq(take(1000), first);
}
END_TEST

START_TEST(a_free_row_is_used_again_and_remembers_nothing)
{
    uint32_t first = take(1000), other = take(1001);
    ck_assert(users_may_enter(&users, first));
    users_entered(&users, first, USERS_PASS_BYTES);
    ck_assert(!users_may_enter(&users, first));
    users_drop(&users, first);
    uint32_t third = take(1002);
    ck_assert_uint_eq(third, first);
    ck_assert(users_may_enter(&users, third));
    ck_assert_uint_eq(take(1001), other); /* found behind the free row too */
    users_drop(&users, third);
    ck_assert_uint_eq(take(1001), other);
}
END_TEST

START_TEST(every_row_can_be_taken)
{
    for (uint32_t i = 0; i < LLM_STATUS_CONNECTIONS_MAX; i++)
        ck_assert_uint_eq(take(5000 + i), i);
    for (uint32_t i = 0; i < LLM_STATUS_CONNECTIONS_MAX; i++)
        users_drop(&users, i);
    ck_assert_uint_eq(users.end, 0);
}
END_TEST

START_TEST(entries_of_a_pass_are_bounded_and_the_next_pass_begins_anew)
{
    uint32_t row = take(1000), other = take(1001);
    for (int i = 0; i < USERS_PASS_ENTRIES; i++) {
        ck_assert(users_may_enter(&users, row));
        users_entered(&users, row, 0);
    }
    ck_assert(!users_may_enter(&users, row));
    ck_assert(users_may_enter(&users, other));
    users_begin_pass(&users);
    ck_assert(users_may_enter(&users, row));
}
END_TEST

START_TEST(bytes_of_a_pass_are_bounded_but_a_large_body_gets_in)
{
    uint32_t row = take(1000);
    users_entered(&users, row, 100);
    ck_assert(users_may_enter(&users, row));
    users_entered(&users, row, 1u << 30);
    ck_assert(!users_may_enter(&users, row));
    users_begin_pass(&users);
    ck_assert(users_may_enter(&users, row));
}
END_TEST

START_TEST(a_row_lives_as_long_as_its_contexts)
{
    uint32_t first = take(1000), other = take(1001);
    users.rows[first].contexts++;
    users_drop(&users, first);
    ck_assert_uint_ne(take(1002), first);
    ck_assert_uint_eq(users_row(&users, 1000, &quota), first);
    users.rows[first].contexts--;
    users_settle(&users);
    ck_assert_uint_eq(take(1003), first); /* free again, and used before a new one */
    ck_assert_uint_eq(users.rows[first].uid, 1003);
    ck_assert_uint_eq(users.rows[other].uid, 1001);
}
END_TEST

START_TEST(the_last_quota_that_was_given_holds)
{
    const struct quota more = {.requests = 7};
    uint32_t row = take(1000);
    ck_assert_uint_eq(users_take(&users, 1000, &more), row);
    ck_assert_uint_eq(users.rows[row].quota.requests, 7);
    ck_assert_uint_eq(users_row(&users, 1000, &quota), row); /* who knows no groups knows less */
    ck_assert_uint_eq(users.rows[row].quota.requests, 7);
    users.rows[row].contexts++;
    users_drop(&users, row);
    users_drop(&users, row);
    ck_assert_uint_eq(users_row(&users, 1000, &quota), row);
    ck_assert_uint_eq(users.rows[row].quota.requests, 2);
}
END_TEST

START_TEST(what_a_quota_has_no_room_for_is_refused_with_the_numbers)
{
    uint32_t row = take(1000);
    struct engine_user *user = &users.rows[row];
    user->requests = 1;
    ck_assert_int_eq(users_may_request(&users, row, &error), LLM_OK);
    user->requests = 2;
    ck_assert_int_eq(users_may_request(&users, row, &error), LLM_ERR_BUSY);
    ck_assert_str_eq(error.message, "user 1000 has all of its 2 requests "
                                    "(limits.requests_per_user, or its quota) in use; try again");
    user->contexts = 1;
    ck_assert_int_eq(users_may_own_context(&users, row, &error), LLM_OK);
    user->contexts = 2;
    ck_assert_int_eq(users_may_own_context(&users, row, &error), LLM_ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(error.message, "has 2 contexts and may have 2"));
    user->context_tokens = 60;
    ck_assert_int_eq(users_may_keep_tokens(&users, row, 40, &error), LLM_OK);
    ck_assert_int_eq(users_may_keep_tokens(&users, row, 41, &error), LLM_ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(error.message, "has 60 tokens in contexts and may have 100"));
    ck_assert_ptr_nonnull(strstr(error.message, "41 more"));
    ck_assert_int_eq(users_may_keep_tokens(&users, row, UINT64_MAX, &error), LLM_ERR_LIMIT);
    user->pinned_blocks = 4;
    ck_assert_int_eq(users_may_pin(&users, row, 6, &error), LLM_OK);
    ck_assert_int_eq(users_may_pin(&users, row, 7, &error), LLM_ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(error.message, "has 4 blocks pinned and its quota is 10"));
    user->requests = 0;
}
END_TEST

START_TEST(a_priority_is_known_and_within_the_quota)
{
    uint32_t row = take(1000);
    ck_assert_int_eq(users_may_have_priority(&users, row, LLM_PRIORITY_NORMAL, &error), LLM_OK);
    ck_assert_int_eq(users_may_have_priority(&users, row, LLM_PRIORITY_BATCH, &error), LLM_OK);
    ck_assert_int_eq(users_may_have_priority(&users, row, LLM_PRIORITY_INTERACTIVE, &error),
                     LLM_ERR_PERMISSION);
    ck_assert_str_eq(error.message, "user 1000 may not ask for priority \"interactive\": its quota "
                                    "ends at \"normal\"");
    ck_assert_int_eq(users_may_have_priority(&users, row, LLM_PRIORITY_COUNT, &error),
                     LLM_ERR_INVALID);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/users");
    TCase *tcase = tcase_create("users");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, connections_of_one_user_share_a_row);
    tcase_add_test(tcase, a_free_row_is_used_again_and_remembers_nothing);
    tcase_add_test(tcase, every_row_can_be_taken);
    tcase_add_test(tcase, entries_of_a_pass_are_bounded_and_the_next_pass_begins_anew);
    tcase_add_test(tcase, bytes_of_a_pass_are_bounded_but_a_large_body_gets_in);
    tcase_add_test(tcase, a_row_lives_as_long_as_its_contexts);
    tcase_add_test(tcase, the_last_quota_that_was_given_holds);
    tcase_add_test(tcase, what_a_quota_has_no_room_for_is_refused_with_the_numbers);
    tcase_add_test(tcase, a_priority_is_known_and_within_the_quota);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
