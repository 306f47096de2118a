/*
 * test_quota.c - daemon/quota: tables for users and groups, who wins, and the ways they travel.
 * How: root and its group are on every machine; all others are named by numbers.
 */
#include "daemon/quota.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config_text.h"

static struct config config, other;
static struct llm_error error;

static void setup(void)
{
    config_init(&config);
    config_init(&other);
}

static void set(const char *pair)
{
    ck_assert_msg(config_set_pair(&config, pair, "here", &error) == LLM_OK, "%s", error.message);
}

static void read_file(struct config *into, const char *text, enum llm_status expected)
{
    char path[] = "/tmp/llmd-quota-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    enum llm_status status = config_read(into, path, &error);
    unlink(path);
    ck_assert_msg(status == expected, "%d: %s", status, error.message);
}

START_TEST(without_a_table_the_limits_hold)
{
    set("limits.requests_per_user=7");
    set("limits.contexts_per_user=8");
    set("limits.context_tokens_per_user=9");
    set("limits.queued_tokens_per_user=10");
    set("limits.connections_per_user=11");
    set("limits.sequences_per_user=12");
    set("quota.1001.requests=1"); /* somebody else's */
    struct quota quota = quota_of(&config, 1000, 1000, NULL, 0);
    ck_assert_uint_eq(quota.weight, 1);
    ck_assert_uint_eq(quota.requests, 7);
    ck_assert_uint_eq(quota.contexts, 8);
    ck_assert_uint_eq(quota.context_tokens, 9);
    ck_assert_uint_eq(quota.queued_tokens, 10);
    ck_assert_uint_eq(quota.connections, 11);
    ck_assert_uint_eq(quota.sequences, 12);
    ck_assert_uint_eq(quota.pinned_blocks, UINT64_MAX);
    ck_assert_int_eq(quota.priority_max, LLM_PRIORITY_INTERACTIVE);
}
END_TEST

START_TEST(key_by_key_the_user_wins_then_the_first_of_its_groups)
{
    set("quota.@20.weight=2");
    set("quota.@30.weight=3");
    set("quota.@30.requests=30");
    set("quota.@30.contexts=31");
    set("quota.@40.pinned_blocks=40");
    set("quota.1000.requests=5");
    set("quota.1000.priority_max=batch");
    const uint32_t groups[] = {30, 20};
    struct quota quota = quota_of(&config, 1000, 40, groups, 2);
    ck_assert_uint_eq(quota.requests, 5);       /* its own, though later in the file */
    ck_assert_uint_eq(quota.weight, 2);         /* the first table's, not the first group's */
    ck_assert_uint_eq(quota.contexts, 31);      /* the only one that says so */
    ck_assert_uint_eq(quota.pinned_blocks, 40); /* of the group it has as its own */
    ck_assert_int_eq(quota.priority_max, LLM_PRIORITY_BATCH);
    quota = quota_of(&config, 1001, 30, NULL, 0);
    ck_assert_uint_eq(quota.weight, 3);
    ck_assert_uint_eq(quota.requests, 30);
}
END_TEST

START_TEST(a_file_has_tables_of_users_and_groups_by_name)
{
    read_file(&config,
              "[quota.root]\nweight = 4\npriority_max = \"normal\"\n"
              "[quota.\"@root\"]\ncontexts = 5\n[quota.1234]\nrequests = 6\n",
              LLM_OK);
    ck_assert_uint_eq(config.quota_count, 3);
    struct quota quota = quota_of(&config, 0, 0, NULL, 0);
    ck_assert_uint_eq(quota.weight, 4);
    ck_assert_uint_eq(quota.contexts, 5);
    ck_assert_int_eq(quota.priority_max, LLM_PRIORITY_NORMAL);
    ck_assert_uint_eq(quota_of(&config, 1234, 9, NULL, 0).requests, 6);
}
END_TEST

START_TEST(two_names_of_one_user_are_one_table)
{
    set("quota.root.weight=4");
    set("quota.0.weight=5");
    ck_assert_uint_eq(config.quota_count, 1);
    ck_assert_uint_eq(quota_of(&config, 0, 0, NULL, 0).weight, 5);
    set("quota.@0.weight=6"); /* a group is nobody's uid */
    ck_assert_uint_eq(config.quota_count, 2);
    ck_assert_uint_eq(quota_of(&config, 0, 0, NULL, 0).weight, 5);
}
END_TEST

static const struct {
    const char *pair;
    enum llm_status status;
    const char *sentence;
} wrong[] = {
    {"quota.no-such-user-here.weight=2", LLM_ERR_NOT_FOUND,
     "there is no user \"no-such-user-here\""},
    {"quota.@no-such-group-here.weight=2", LLM_ERR_NOT_FOUND,
     "there is no group \"no-such-group-here\""},
    {"quota.1000.wieght=2", LLM_ERR_NOT_FOUND, "its keys are weight, connections, requests"},
    {"quota.weight=2", LLM_ERR_NOT_FOUND, "a quota is quota.<user or @group>.<key>"},
    {"quota..weight=2", LLM_ERR_NOT_FOUND, "a quota is quota.<user or @group>.<key>"},
    {"quota.@.weight=2", LLM_ERR_INVALID, "is neither a user nor"},
    {"quota.a b.weight=2", LLM_ERR_INVALID, "is neither a user nor"},
    {"quota.4294967295.weight=2", LLM_ERR_NOT_FOUND, "there is no user"},
    {"quota.1000.weight=0", LLM_ERR_INVALID, "quota.1000.weight = 0 is out of range 1..1000"},
    {"quota.1000.weight=many", LLM_ERR_INVALID, "is not a whole number"},
    {"quota.1000.priority_max=high", LLM_ERR_INVALID, "is not allowed"},
    {"quota.1000.contexts=18446744073709551615", LLM_ERR_INVALID, "is out of range"},
    {"quota.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.weight="
     "2",
     LLM_ERR_INVALID, "a name has at most 63 bytes"},
};

START_TEST(what_is_wrong_is_refused_with_a_sentence_and_changes_nothing)
{
    config_init(&other);
    ck_assert_int_eq(config_set_pair(&config, wrong[_i].pair, "here", &error), wrong[_i].status);
    ck_assert_msg(strstr(error.message, wrong[_i].sentence) &&
                      strncmp(error.message, "here: ", 6) == 0,
                  "%s", error.message);
    ck_assert_mem_eq(&config, &other, sizeof config);
}
END_TEST

START_TEST(a_file_with_an_unknown_user_is_refused_with_its_line)
{
    read_file(&config, "[quota.no-such-user-here]\nweight = 2\n", LLM_ERR_NOT_FOUND);
    ck_assert_msg(strstr(error.message, ":2: ") != NULL, "%s", error.message);
    read_file(&config, "[quota.1000]\nweight = \"2\"\n", LLM_ERR_INVALID);
    ck_assert_msg(strstr(error.message, "must be a whole number") != NULL, "%s", error.message);
}
END_TEST

START_TEST(there_is_room_for_a_number_of_tables_and_no_more)
{
    char pair[64];
    for (unsigned i = 0; i < CONFIG_QUOTAS_MAX; i++) {
        snprintf(pair, sizeof pair, "quota.%u.weight=2", 1000 + i);
        set(pair);
    }
    ck_assert_int_eq(config_set_pair(&config, "quota.999.weight=2", "here", &error), LLM_ERR_LIMIT);
    set("quota.1000.requests=2"); /* one that is there takes more keys */
}
END_TEST

static void set_all(void)
{
    static const char *const keys[] = {
        "weight=3",         "connections=4",    "requests=5",
        "sequences=6",      "queued_tokens=7",  "contexts=8",
        "context_tokens=9", "pinned_blocks=10", "priority_max=normal"};
    char pair[64];
    for (size_t i = 0; i < CONFIG_QUOTA_KEYS; i++) {
        snprintf(pair, sizeof pair, "quota.%s.%s", i % 2 ? "root" : "@root", keys[i]);
        set(pair);
        snprintf(pair, sizeof pair, "quota.1000.%s", keys[i]);
        set(pair);
    }
}

static void assert_same_quotas(void)
{
    const uint32_t uids[] = {0, 1000, 1001};
    ck_assert_uint_eq(other.quota_count, config.quota_count);
    for (size_t i = 0; i < 3; i++) {
        struct quota a = quota_of(&config, uids[i], 0, NULL, 0);
        struct quota b = quota_of(&other, uids[i], 0, NULL, 0);
        ck_assert_uint_eq(a.weight, b.weight);
        ck_assert_uint_eq(a.connections, b.connections);
        ck_assert_uint_eq(a.requests, b.requests);
        ck_assert_uint_eq(a.sequences, b.sequences);
        ck_assert_uint_eq(a.queued_tokens, b.queued_tokens);
        ck_assert_uint_eq(a.contexts, b.contexts);
        ck_assert_uint_eq(a.context_tokens, b.context_tokens);
        ck_assert_uint_eq(a.pinned_blocks, b.pinned_blocks);
        ck_assert_int_eq(a.priority_max, b.priority_max);
    }
}

START_TEST(quotas_survive_the_hand_over_to_the_engine_by_ids)
{
    static char text[CONFIG_VALUE_BYTES], pair[CONFIG_VALUE_BYTES + CONFIG_NAME_BYTES];
    char name[CONFIG_NAME_BYTES];
    set_all();
    for (unsigned i = 0; i < config_item_count(&config); i++) {
        config_item(&config, i, name, text, sizeof text);
        ck_assert_ptr_null(strstr(name, "root"));
        snprintf(pair, sizeof pair, "%s=%s", name, text);
        ck_assert_msg(config_set_pair(&other, pair, "there", &error) == LLM_OK, "%s",
                      error.message);
    }
    ck_assert_uint_eq(config_item_count(&config), config_key_count() + 2 * CONFIG_QUOTA_KEYS);
    assert_same_quotas();
}
END_TEST

START_TEST(printed_quotas_can_be_read)
{
    char *text = NULL;
    size_t bytes = 0;
    set_all();
    FILE *file = open_memstream(&text, &bytes);
    config_print(&config, file);
    fclose(file);
    read_file(&other, text, LLM_OK);
    free(text);
    assert_same_quotas();
    ck_assert_str_eq(other.quotas[0].name, "@root");
}
END_TEST

START_TEST(list_help_and_man_page_have_quotas)
{
    char *text = NULL;
    size_t bytes = 0;
    set("quota.root.weight=3");
    FILE *file = open_memstream(&text, &bytes);
    config_print_list(&config, file);
    config_print_help(file);
    config_print_man(file);
    fclose(file);
    ck_assert_ptr_nonnull(strstr(text, "quota.root.weight\t3\there\t1\tnumber\t1..1000\t"));
    for (unsigned i = 0; i < CONFIG_QUOTA_KEYS; i++) {
        char line[CONFIG_NAME_BYTES];
        snprintf(line, sizeof line, "  quota.USER%s = ", strchr(quota_key(i)->name, '.'));
        ck_assert_msg(strstr(text, line) != NULL, "%s", line);
    }
    ck_assert_ptr_nonnull(strstr(text, "\n*weight* (number, default 1)"));
    free(text);
}
END_TEST

START_TEST(priorities_below_the_highest_are_allowed)
{
    const struct quota normal = {.priority_max = LLM_PRIORITY_NORMAL};
    const struct quota all = {.priority_max = LLM_PRIORITY_INTERACTIVE};
    const struct quota batch = {.priority_max = LLM_PRIORITY_BATCH};
    ck_assert(!quota_allows(&normal, LLM_PRIORITY_INTERACTIVE));
    ck_assert(quota_allows(&normal, LLM_PRIORITY_NORMAL));
    ck_assert(quota_allows(&normal, LLM_PRIORITY_BATCH));
    ck_assert(quota_allows(&all, LLM_PRIORITY_INTERACTIVE));
    ck_assert(!quota_allows(&batch, LLM_PRIORITY_NORMAL));
    ck_assert(quota_allows(&batch, LLM_PRIORITY_BATCH));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/quota");
    TCase *tcase = tcase_create("quota");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, without_a_table_the_limits_hold);
    tcase_add_test(tcase, key_by_key_the_user_wins_then_the_first_of_its_groups);
    tcase_add_test(tcase, a_file_has_tables_of_users_and_groups_by_name);
    tcase_add_test(tcase, two_names_of_one_user_are_one_table);
    tcase_add_loop_test(tcase, what_is_wrong_is_refused_with_a_sentence_and_changes_nothing, 0,
                        sizeof wrong / sizeof wrong[0]);
    tcase_add_test(tcase, a_file_with_an_unknown_user_is_refused_with_its_line);
    tcase_add_test(tcase, there_is_room_for_a_number_of_tables_and_no_more);
    tcase_add_test(tcase, quotas_survive_the_hand_over_to_the_engine_by_ids);
    tcase_add_test(tcase, printed_quotas_can_be_read);
    tcase_add_test(tcase, list_help_and_man_page_have_quotas);
    tcase_add_test(tcase, priorities_below_the_highest_are_allowed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
