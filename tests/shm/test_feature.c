/*
 * test_feature.c - shm/feature: the list, and what LLMD_DISABLE does to it.
 * How: docs/TESTING.md is read too: its table must have a row for each facility.
 */
#include "shm/feature.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void teardown(void)
{
    unsetenv("LLMD_DISABLE");
}

START_TEST(a_name_in_the_list_is_disabled_and_no_other)
{
    struct llm_error error;
    setenv("LLMD_DISABLE", "huge_pages,io_uring_defer", 1);
    for (const struct llm_feature *one = llm_features; one->name; one++) {
        bool named =
            strcmp(one->name, "huge_pages") == 0 || strcmp(one->name, "io_uring_defer") == 0;
        ck_assert_int_eq(llm_feature_disabled(one->name), named);
        if (named) {
            ck_assert_int_eq(llm_feature_look(one, &error), LLM_ERR_UNSUPPORTED);
            ck_assert_ptr_nonnull(strstr(error.message, "LLMD_DISABLE names"));
        }
    }
    ck_assert_int_eq(llm_feature_list_check(&error), LLM_OK);
}
END_TEST

START_TEST(what_the_kernel_lacks_has_its_reason)
{
    struct llm_error error = {.status = LLM_OK};
    unsetenv("LLMD_DISABLE");
    for (const struct llm_feature *one = llm_features; one->name; one++)
        if (llm_feature_look(one, &error) != LLM_OK)
            ck_assert_ptr_nonnull(strstr(error.message, one->name));
    ck_assert_int_eq(llm_feature_look(&llm_features[1], &error),
                     LLM_OK); /* wipeonfork: Linux 4.14 */
}
END_TEST

static const struct {
    const char *list, *word; /* NULL: in order */
} lists[] = {
    {"", NULL},
    {"io_uring", NULL},
    {"io_uring,", NULL},
    {"io_uring,wipeonfork,noexec_seal", NULL},
    {"iouring", "\"iouring\""},
    {"io_uring, wipeonfork", "\" wipeonfork\""},
    {"io_uring;wipeonfork", "\"io_uring;wipeonfork\""},
    {",", "\"\""},
    {"io_uring,,wipeonfork", "\"\""},
    {"io_uringio_uringio_uringio_uringio_uringio_uringio_uringio_uringio_uring",
     "\"io_uringio_uringio_uringio_uringio_uringio_uringio_uringio_u\""},
};

START_TEST(a_word_that_names_nothing_is_told)
{
    struct llm_error error = {.status = LLM_OK};
    setenv("LLMD_DISABLE", lists[_i].list, 1);
    enum llm_status status = llm_feature_list_check(&error);
    ck_assert_int_eq(status, lists[_i].word ? LLM_ERR_INVALID : LLM_OK);
    if (lists[_i].word) {
        ck_assert_msg(strstr(error.message, lists[_i].word) != NULL, "%s", error.message);
        ck_assert_msg(strstr(error.message, "huge_pages") != NULL, "%s", error.message);
    }
}
END_TEST

START_TEST(a_name_that_is_in_no_list_cannot_be_asked_for)
{
    llm_feature_disabled("io_urin");
}
END_TEST

START_TEST(the_manual_has_a_row_for_each)
{
    static char text[65536];
    FILE *file = fopen(LLM_SOURCE_DIR "/docs/TESTING.md", "r");
    ck_assert_ptr_nonnull(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    for (const struct llm_feature *one = llm_features; one->name; one++) {
        char row[64];
        snprintf(row, sizeof row, "| `%s` |", one->name);
        ck_assert_msg(strstr(text, row) != NULL, "docs/TESTING.md has no row %s", row);
        ck_assert_msg(strlen(one->gives) > 0 && strlen(one->without) > 0, "%s", one->name);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/feature");
    TCase *tcase = tcase_create("list");
    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_test(tcase, a_name_in_the_list_is_disabled_and_no_other);
    tcase_add_test(tcase, what_the_kernel_lacks_has_its_reason);
    tcase_add_loop_test(tcase, a_word_that_names_nothing_is_told, 0,
                        sizeof lists / sizeof lists[0]);
    tcase_add_test_raise_signal(tcase, a_name_that_is_in_no_list_cannot_be_asked_for, SIGABRT);
    tcase_add_test(tcase, the_manual_has_a_row_for_each);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
