/*
 * test_domains.c - daemon/engine/domains: whose blocks a client may find, and what a context adds.
 * How: sets are built from made-up clients and compared with lists written down by hand; the fullest client has as many
 * groups as a connection can tell of.
 */
#include <check.h>
#include <stdlib.h>

#include "daemon/engine/domains.h"
#include "shm/layout.h"

#define OWN(uid)   llm_domain(LLM_DOMAIN_PRIVATE, uid)
#define GROUP(gid) llm_domain(LLM_DOMAIN_GROUP, gid)
#define PUBLIC     llm_domain(LLM_DOMAIN_PUBLIC, 0)

static void assert_is(const struct domain_set *set, const uint64_t *domains, uint32_t count)
{
    ck_assert_uint_eq(set->count, count);
    for (uint32_t i = 0; i < count; i++)
        ck_assert_uint_eq(set->domains[i], domains[i]);
}

/* As many supplementary groups as there can be: 100, 101, ... */
static struct channel_connection fullest(void)
{
    struct channel_connection client = {.uid = 7, .gid = 7, .group_count = CHANNEL_GROUPS_MAX};
    for (uint32_t i = 0; i < CHANNEL_GROUPS_MAX; i++)
        client.groups[i] = 100 + i;
    return client;
}

START_TEST(a_client_has_its_own_domain_first_then_its_groups_then_the_public_one)
{
    const struct channel_connection client = {
        .uid = 1000, .gid = 1000, .group_count = 3, .groups = {27, 1000, 44}};
    const struct domain_set set = domains_of_client(&client);
    assert_is(&set, (const uint64_t[]){OWN(1000), GROUP(1000), GROUP(27), GROUP(44), PUBLIC}, 5);
}
END_TEST

START_TEST(a_user_and_a_group_of_one_number_are_two_domains)
{
    const struct channel_connection client = {0}; /* root */
    const struct domain_set set = domains_of_client(&client);
    assert_is(&set, (const uint64_t[]){OWN(0), GROUP(0), PUBLIC}, 3);
}
END_TEST

START_TEST(groups_that_do_not_fit_leave_room_for_the_public_domain)
{
    const struct channel_connection client = fullest();
    const struct domain_set set = domains_of_client(&client);
    ck_assert_uint_eq(set.count, CORE_DOMAINS_MAX);
    ck_assert_uint_eq(set.domains[0], OWN(7));
    ck_assert_uint_eq(set.domains[1], GROUP(7));
    ck_assert_uint_eq(set.domains[CORE_DOMAINS_MAX - 2], GROUP(100 + CHANNEL_GROUPS_MAX - 2));
    ck_assert_uint_eq(set.domains[CORE_DOMAINS_MAX - 1], PUBLIC);
}
END_TEST

START_TEST(a_count_beyond_the_array_is_cut)
{
    struct channel_connection client = fullest();
    client.group_count = UINT32_MAX;
    ck_assert_uint_eq(domains_of_client(&client).count, CORE_DOMAINS_MAX);
}
END_TEST

START_TEST(a_context_is_sealed_in_its_own_domain)
{
    const struct channel_connection client = {.uid = 1, .gid = 2};
    const struct domain_set own = domains_of_client(&client);
    const struct domain_set foreign = domains_sealed_in(GROUP(9), &own);
    assert_is(&foreign, (const uint64_t[]){GROUP(9), OWN(1), GROUP(2), PUBLIC}, 4);
    const struct domain_set shared = domains_sealed_in(GROUP(2), &own);
    assert_is(&shared, (const uint64_t[]){GROUP(2), OWN(1), PUBLIC}, 3);
    const struct domain_set public = domains_sealed_in(PUBLIC, &own);
    assert_is(&public, (const uint64_t[]){PUBLIC, OWN(1), GROUP(2)}, 3);
    const struct domain_set same = domains_sealed_in(OWN(1), &own);
    assert_is(&same, own.domains, own.count);
}
END_TEST

START_TEST(a_full_set_gives_up_a_group_for_the_contexts_domain)
{
    const struct channel_connection client = fullest();
    const struct domain_set own = domains_of_client(&client);
    const struct domain_set set = domains_sealed_in(OWN(8), &own);
    ck_assert_uint_eq(set.count, CORE_DOMAINS_MAX);
    ck_assert_uint_eq(set.domains[0], OWN(8));
    ck_assert_uint_eq(set.domains[CORE_DOMAINS_MAX - 2], own.domains[CORE_DOMAINS_MAX - 3]);
    ck_assert_uint_eq(set.domains[CORE_DOMAINS_MAX - 1], PUBLIC);
}
END_TEST

START_TEST(what_is_only_read_is_added_last)
{
    const struct channel_connection client = {.uid = 1, .gid = 2};
    const struct domain_set own = domains_of_client(&client);
    const struct domain_set more = domains_also(&own, OWN(5));
    assert_is(&more, (const uint64_t[]){OWN(1), GROUP(2), PUBLIC, OWN(5)}, 4);
    const struct domain_set again = domains_also(&own, GROUP(2));
    assert_is(&again, own.domains, own.count);
    const struct channel_connection many = fullest();
    const struct domain_set full = domains_of_client(&many);
    const struct domain_set no_more = domains_also(&full, OWN(5));
    assert_is(&no_more, full.domains, full.count);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/domains");
    TCase *tcase = tcase_create("sets");
    tcase_add_test(tcase, a_client_has_its_own_domain_first_then_its_groups_then_the_public_one);
    tcase_add_test(tcase, a_user_and_a_group_of_one_number_are_two_domains);
    tcase_add_test(tcase, groups_that_do_not_fit_leave_room_for_the_public_domain);
    tcase_add_test(tcase, a_count_beyond_the_array_is_cut);
    tcase_add_test(tcase, a_context_is_sealed_in_its_own_domain);
    tcase_add_test(tcase, a_full_set_gives_up_a_group_for_the_contexts_domain);
    tcase_add_test(tcase, what_is_only_read_is_added_last);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
