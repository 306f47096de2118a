/*
 * test_config_check.c - daemon/config_check: rules between settings, and between settings and a machine.
 * How: each row changes a few settings or the machine and names the one sentence that must then appear.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/config_check.h"

static struct config config;
static struct config_findings findings;
static struct llm_error error;

static const struct config_machine roomy = {.memory_bytes = UINT64_C(64) << 30,
                                            .descriptors_max = 1 << 20,
                                            .shm_free_bytes = UINT64_C(1) << 30,
                                            .cpus = 16,
                                            .uid = 1000};

static void setup(void)
{
    config_init(&config);
    memset(&findings, 0, sizeof findings);
}

START_TEST(the_defaults_suit_a_roomy_machine)
{
    config_check(&config, &roomy, &findings);
    ck_assert_msg(findings.count == 0, "%s", findings.items[0].sentence);
}
END_TEST

static const struct {
    const char *pairs[3];
    struct config_machine machine;
    bool fails;
    const char *sentence;
} rows[] = {
    {{"limits.sequences=9", "limits.step_tokens=8"}, {0}, true, "limits.step_tokens = 8 is less"},
    {{"limits.requests=8"}, {0}, false, "limits.requests = 8 is less than limits.sequences = 72"},
    {{"limits.connections=8", "limits.connections_per_user=9"},
     {0},
     false,
     "limits.connections_per_user = 9 is more than limits.connections = 8"},
    {{"limits.requests_per_user=1000"}, {0}, false, "limits.requests_per_user = 1000 is more"},
    {{"limits.contexts_per_user=5000"}, {0}, false, "limits.contexts_per_user = 5000 is more"},
    {{"quota.1000.connections=2000"},
     {0},
     false,
     "quota.1000.connections = 2000 is more than limits.connections = 1024"},
    {{"quota.@7.requests=1000"}, {0}, false, "quota.@7.requests = 1000 is more"},
    {{"quota.1000.sequences=80"}, {0}, false, "quota.1000.sequences = 80 is more"},
    {{"quota.1000.contexts=5000"}, {0}, false, "quota.1000.contexts = 5000 is more"},
    {{"limits.sequences_per_user=80"}, {0}, false, "limits.sequences_per_user = 80 is more"},
    {{"daemon.group=no-such-group-here"}, {0}, true, "there is no such group"},
    {{"daemon.admin_group=no-such-group-here"}, {0}, true, "daemon.admin_group"},
    {{"daemon.socket=here/s"}, {0}, true, "\"here/s\" is not an absolute path"},
    {{"daemon.instance=a/b"}, {0}, true, "\"a/b\" is not a name"},
    {{"daemon.debugging=true"}, {0}, false, "core dumps of the engine hold prompts"},
    {{"daemon.engine_hang_kill=true", "daemon.engine_hang_s=0"}, {0}, false, "has no effect"},
    {{"models.default=/nowhere/at-all"}, {0}, true, "/nowhere/at-all is not a model"},
    {{"models.directories=/:/nowhere/too"}, {0}, true, "/nowhere/too is not a directory"},
    {{NULL}, {.descriptors_max = 1024}, false, "descriptors, the limit is 1024"},
    {{"kv.pool_bytes=9GiB"},
     {.memory_bytes = UINT64_C(8) << 30},
     true,
     "kv.pool_bytes is 9216 MiB"},
    {{"kv.pool_bytes=15GiB"}, {.memory_bytes = UINT64_C(16) << 30}, false, "15360 MiB of 16384"},
    {{NULL}, {.memory_bytes = 1 << 30}, false, "may come to need"},
    {{NULL}, {.shm_free_bytes = 4096}, true, "/dev/shm has 4 KiB free"},
    {{"cpu.threads=9"}, {.cpus = 8}, false, "cpu.threads = 9 is more than the 8 processors"},
};

START_TEST(each_rule_has_its_sentence)
{
    for (unsigned i = 0; i < 3 && rows[_i].pairs[i]; i++)
        ck_assert_int_eq(config_set_pair(&config, rows[_i].pairs[i], "here", &error), LLM_OK);
    config_check(&config, &rows[_i].machine, &findings);
    ck_assert_msg(findings.count == 1, "%u sentences, the last \"%s\"", findings.count,
                  findings.items[findings.count ? findings.count - 1 : 0].sentence);
    ck_assert_msg(strstr(findings.items[0].sentence, rows[_i].sentence) != NULL, "%s",
                  findings.items[0].sentence);
    ck_assert_int_eq(findings.items[0].fails, rows[_i].fails);
    ck_assert_uint_eq(findings.fail_count, rows[_i].fails);
}
END_TEST

START_TEST(every_wrong_line_of_a_file_is_listed_and_the_others_are_taken)
{
    char path[] = "/tmp/llmd-config-XXXXXX", place[64];
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_gt(dprintf(fd, "[limits]\nsequence = 3\nrequests = \"4\"\nsequences = 5\n"
                                 "step_tokens = 0\n[kv]\nsequences = 1\n"),
                     0);
    close(fd);
    config_read_all(&config, path, &findings);
    unlink(path);
    static const char *const sentences[] = {
        ":2: limits.sequence is not known; did you mean limits.sequences?",
        ":3: limits.requests must be a whole number", ":5: limits.step_tokens = 0 is out of range",
        ":7: kv.sequences is not known; did you mean limits.sequences?"};
    ck_assert_uint_eq(findings.fail_count, 4);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_msg(strstr(findings.items[i].sentence, sentences[i]) != NULL, "%s",
                      findings.items[i].sentence);
    ck_assert_uint_eq(config.limits.sequences, 5);
    ck_assert_uint_eq(config.limits.requests, 512);
    snprintf(place, sizeof place, "%s:4", path);
    for (unsigned key = 0; key < config_key_count(); key++)
        ck_assert_str_eq(config.origins[key].text,
                         strcmp(config_key_name(key), "limits.sequences") == 0 ? place : "default");
}
END_TEST

START_TEST(a_file_that_others_may_write_is_a_warning)
{
    char path[] = "/tmp/llmd-config-XXXXXX";
    struct config_machine me = {.uid = geteuid()};
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    config_check_file(path, &me, &findings);
    ck_assert_uint_eq(findings.count, 0);
    ck_assert_int_eq(fchmod(fd, 0620), 0);
    config_check_file(path, &me, &findings);
    ck_assert_int_eq(fchmod(fd, 0602), 0);
    config_check_file(path, &me, &findings);
    unlink(path);
    close(fd);
    ck_assert_uint_eq(findings.count, 2);
    ck_assert_uint_eq(findings.fail_count, 0);
    ck_assert_ptr_nonnull(strstr(findings.items[0].sentence, "written by its group (mode 0620)"));
    ck_assert_ptr_nonnull(strstr(findings.items[1].sentence, "group and others (mode 0602)"));
}
END_TEST

START_TEST(more_findings_than_there_is_room_for_are_counted)
{
    for (int i = 0; i < CONFIG_FINDINGS_MAX + 5; i++)
        config_findings_add(&findings, true, "number %d", i);
    ck_assert_uint_eq(findings.count, CONFIG_FINDINGS_MAX);
    ck_assert_uint_eq(findings.fail_count, CONFIG_FINDINGS_MAX + 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/config_check");
    TCase *tcase = tcase_create("config_check");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, the_defaults_suit_a_roomy_machine);
    tcase_add_loop_test(tcase, each_rule_has_its_sentence, 0, sizeof rows / sizeof rows[0]);
    tcase_add_test(tcase, every_wrong_line_of_a_file_is_listed_and_the_others_are_taken);
    tcase_add_test(tcase, a_file_that_others_may_write_is_a_warning);
    tcase_add_test(tcase, more_findings_than_there_is_room_for_are_counted);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
