/*
 * test_users.c - daemon/engine/users: one row a user, one budget a pass, whatever the number of connections.
 */
#include "daemon/engine/users.h"

#include <check.h>
#include <string.h>

static struct users users;

static void setup(void)
{
    memset(&users, 0, sizeof users);
    users_begin_pass(&users);
}

START_TEST(connections_of_one_user_share_a_row)
{
    uint32_t first = users_take(&users, 1000), other = users_take(&users, 1001);
    ck_assert_uint_ne(first, other);
    ck_assert_uint_eq(users_take(&users, 1000), first);
    ck_assert_uint_eq(users.rows[first].connections, 2);
    users_drop(&users, first);
    ck_assert_uint_eq(users_take(&users, 1000), first);
}
END_TEST

START_TEST(a_free_row_is_used_again_and_remembers_nothing)
{
    uint32_t first = users_take(&users, 1000), other = users_take(&users, 1001);
    ck_assert(users_may_enter(&users, first));
    users_entered(&users, first, USERS_PASS_BYTES);
    ck_assert(!users_may_enter(&users, first));
    users_drop(&users, first);
    uint32_t third = users_take(&users, 1002);
    ck_assert_uint_eq(third, first);
    ck_assert(users_may_enter(&users, third));
    ck_assert_uint_eq(users_take(&users, 1001), other); /* found behind the free row too */
    users_drop(&users, third);
    ck_assert_uint_eq(users_take(&users, 1001), other);
}
END_TEST

START_TEST(every_row_can_be_taken)
{
    for (uint32_t i = 0; i < LLM_STATUS_CONNECTIONS_MAX; i++)
        ck_assert_uint_eq(users_take(&users, 5000 + i), i);
    for (uint32_t i = 0; i < LLM_STATUS_CONNECTIONS_MAX; i++)
        users_drop(&users, i);
    ck_assert_uint_eq(users.end, 0);
}
END_TEST

START_TEST(entries_of_a_pass_are_bounded_and_the_next_pass_begins_anew)
{
    uint32_t row = users_take(&users, 1000), other = users_take(&users, 1001);
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
    uint32_t row = users_take(&users, 1000);
    users_entered(&users, row, 100);
    ck_assert(users_may_enter(&users, row));
    users_entered(&users, row, 1u << 30);
    ck_assert(!users_may_enter(&users, row));
    users_begin_pass(&users);
    ck_assert(users_may_enter(&users, row));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/users");
    TCase *tcase = tcase_create("users");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, connections_of_one_user_share_a_row);
    tcase_add_test(tcase, a_free_row_is_used_again_and_remembers_nothing);
    tcase_add_test(tcase, every_row_can_be_taken);
    tcase_add_test(tcase, entries_of_a_pass_are_bounded_and_the_next_pass_begins_anew);
    tcase_add_test(tcase, bytes_of_a_pass_are_bounded_but_a_large_body_gets_in);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
