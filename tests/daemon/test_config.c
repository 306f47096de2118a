/*
 * test_config.c - daemon/config: every key's default, range, text and way through a file.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/config_text.h"

static struct config config;
static struct llm_error error;

static void setup(void)
{
    memset(&config, 0xff, sizeof config);
    config_init(&config);
}

START_TEST(defaults_are_what_the_table_says)
{
    ck_assert_uint_eq(config.limits.connections, 1024);
    ck_assert_uint_eq(config.limits.prompt_bytes, 1 << 20);
    ck_assert_uint_eq(config.kv.pool_bytes, 0);
    ck_assert_str_eq(config.models.preset, "tinynotes");
    ck_assert_uint_eq(config.models.directories.count, 0);
    ck_assert(!config.daemon.debugging);
}
END_TEST

static const struct {
    const char *pair;
    enum llm_status status;
    const char *sentence;
} pairs[] = {
    {"limits.requests=7", LLM_OK, ""},
    {"limits.requests=0", LLM_ERR_INVALID, "limits.requests = 0 is out of range 1..1024"},
    {"limits.requests=1025", LLM_ERR_INVALID, "out of range"},
    {"limits.requests=-1", LLM_ERR_INVALID, "is not a whole number"},
    {"limits.requests= 1", LLM_ERR_INVALID, "is not a whole number"},
    {"limits.requests=1x", LLM_ERR_INVALID, "is not a whole number"},
    {"limits.requests=99999999999999999999999", LLM_ERR_INVALID, "is not a whole number"},
    {"limits.requests=", LLM_ERR_INVALID, "is not a whole number"},
    {"limits.queue_entries=64", LLM_OK, ""},
    {"limits.queue_entries=65", LLM_ERR_INVALID, "is not a power of two"},
    {"kv.pool_bytes=4GiB", LLM_OK, ""},
    {"kv.pool_bytes=4 GiB", LLM_OK, ""},
    {"kv.pool_bytes=4GB", LLM_ERR_INVALID, "is not a size"},
    {"kv.pool_bytes=99999999999TiB", LLM_ERR_INVALID, "is not a size"},
    {"daemon.debugging=true", LLM_OK, ""},
    {"daemon.debugging=1", LLM_ERR_INVALID, "neither true nor false"},
    {"cpu.backend=reference", LLM_OK, ""},
    {"cpu.backend=gpu", LLM_ERR_INVALID, "cpu.backend = \"gpu\" is not allowed"},
    {"models.directories=/a:/b", LLM_OK, ""},
    {"models.directories=a", LLM_ERR_INVALID, "\"a\" is not an absolute path"},
    {"models.directories=/a\x1d", LLM_ERR_INVALID, "models.directories has a control character"},
    {"models.directories=/1:/2:/3:/4:/5:/6:/7:/8:/9", LLM_ERR_INVALID, "more than 8"},
    {"daemon.instance=a\nb", LLM_ERR_INVALID, "is not allowed"},
    {"limits.requets=1", LLM_ERR_NOT_FOUND,
     "limits.requets is not known; did you mean limits.requests?"},
    {"limits.sequence=1", LLM_ERR_NOT_FOUND, "did you mean limits.sequences?"},
    {"kv.sequences=1", LLM_ERR_NOT_FOUND, "did you mean limits.sequences?"},
    {"kv.pool=1", LLM_ERR_NOT_FOUND, "did you mean kv.pool_bytes?"},
    {"colour.of_magic=1", LLM_ERR_NOT_FOUND, "colour.of_magic is not known (llmd --print-config"},
    {"limits.requests", LLM_ERR_INVALID, "is not table.key=value"},
    {"=1", LLM_ERR_INVALID, "is not table.key=value"},
};

START_TEST(a_pair_is_taken_or_refused_with_key_and_value)
{
    struct config before = config;
    ck_assert_int_eq(config_set_pair(&config, pairs[_i].pair, "here", &error), pairs[_i].status);
    if (pairs[_i].status == LLM_OK)
        return;
    ck_assert_msg(strstr(error.message, pairs[_i].sentence) &&
                      strncmp(error.message, "here: ", 6) == 0,
                  "%s", error.message);
    ck_assert_mem_eq(&before, &config, sizeof config); /* out-parameters survive a failure */
}
END_TEST

static void assert_same_texts(const struct config *left, const struct config *right)
{
    static char a[16384], b[16384];
    for (unsigned key = 0; key < config_key_count(); key++) {
        config_key_text(left, key, a, sizeof a);
        config_key_text(right, key, b, sizeof b);
        ck_assert_msg(strcmp(a, b) == 0, "%s: \"%s\" became \"%s\"", config_key_name(key), a, b);
    }
}

static void change_some(void)
{
    static const char *const changes[] = {
        "daemon.socket=/tmp/a \"b\" \\c", "kv.pool_bytes=3MiB", "models.directories=/a/b:/c d",
        "daemon.debugging=true",          "log.level=debug",    "limits.sequences=3"};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        ck_assert_int_eq(config_set_pair(&config, changes[i], "here", &error), LLM_OK);
}

START_TEST(settings_survive_the_hand_over_to_the_engine)
{
    struct config other;
    static char text[16384];
    change_some();
    config_init(&other);
    for (unsigned key = 0; key < config_key_count(); key++) {
        config_key_text(&config, key, text, sizeof text);
        ck_assert_msg(config_set(&other, config_key_name(key), text, "here", &error) == LLM_OK,
                      "%s", error.message);
    }
    assert_same_texts(&config, &other);
}
END_TEST

START_TEST(a_printed_configuration_can_be_read)
{
    struct config other;
    char path[] = "/tmp/llmd-config-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    FILE *file = fdopen(fd, "w");
    change_some();
    config_print(&config, file);
    fclose(file);
    config_init(&other);
    enum llm_status status = config_read(&other, path, &error);
    unlink(path);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    assert_same_texts(&config, &other);
    ck_assert_int_eq(config_read(&other, path, &error), LLM_ERR_NOT_FOUND);
}
END_TEST

/* Rows are walked, so that a new one is in every text without a change here. */
START_TEST(help_list_and_man_page_have_every_key_with_its_sentence)
{
    void (*const printers[])(FILE *) = {config_print_help, config_print_man};
    static char text[65536], folded[65536];
    for (size_t printer = 0; printer < 3; printer++) {
        FILE *file = fmemopen(text, sizeof text, "w");
        if (printer < 2)
            printers[printer](file);
        else
            config_print_list(&config, file);
        fclose(file);
        size_t used = 0; /* without line breaks, indents and the man page's backslashes */
        for (const char *c = text; *c; c++)
            if (*c != '\\' && !(strchr(" \n\t", *c) && used > 0 && folded[used - 1] == ' '))
                folded[used++] = strchr(" \n\t", *c) ? ' ' : *c;
        folded[used] = '\0';
        for (unsigned key = 0; key < config_key_count(); key++) {
            ck_assert_ptr_nonnull(strstr(folded, strchr(config_key_name(key), '.') + 1));
            ck_assert_msg(strstr(folded, config_key(key)->sentence) != NULL, "printer %zu: %s",
                          printer, config_key(key)->sentence);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/config");
    TCase *tcase = tcase_create("config");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, defaults_are_what_the_table_says);
    tcase_add_loop_test(tcase, a_pair_is_taken_or_refused_with_key_and_value, 0,
                        sizeof pairs / sizeof pairs[0]);
    tcase_add_test(tcase, settings_survive_the_hand_over_to_the_engine);
    tcase_add_test(tcase, a_printed_configuration_can_be_read);
    tcase_add_test(tcase, help_list_and_man_page_have_every_key_with_its_sentence);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
