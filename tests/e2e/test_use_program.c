/*
 * test_use_program.c - the program that README.md prints compiles as printed and does what it says.
 * How: the build takes the program out of README.md (tests/e2e/CMakeLists.txt) and compiles it against the
 * headers and shared libraries that users get; here it runs, and its words must be llm_complete()'s.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/text.h"
#include "tests/support/command.h"
#include "tests/support/daemon.h"

static struct test_daemon served;
static char out[65536];

START_TEST(the_program_in_the_readme_prints_the_answer)
{
    char answer[4096];
    llm_connection *llm;
    llm_error error = {0};
    test_daemon_start(&served, (const char *const[]){"--model", "tinynotes", NULL});
    setenv("LLMD_SOCKET", served.socket, 1);
    ck_assert_int_eq(run_command(out, sizeof out, "readme_program"), 0);

    ck_assert_int_eq(llm_connect(&llm, NULL, &error), LLM_OK);
    ck_assert_msg(llm_complete(llm, "Once upon a time", &(llm_sampling){.max_tokens = 64}, answer,
                               sizeof answer, &error) == LLM_OK,
                  "%s", error.message);
    llm_disconnect(llm);
    ck_assert_uint_gt(strlen(answer), 20);
    ck_assert_str_eq(out, answer);
    test_daemon_stop(&served);
}
END_TEST

START_TEST(without_a_daemon_it_starts_a_private_one)
{
    char folder[] = "/tmp/llmd-test.XXXXXX", socket[64];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(socket, sizeof socket, "%s/llmd.sock", folder);
    setenv("LLMD_SOCKET", socket, 1);
    ck_assert_int_eq(run_command(out, sizeof out, "readme_program"), 0);
    ck_assert_uint_gt(strlen(out), 20);
    ck_assert_int_eq(run_command(out, sizeof out, "llmctl stop && rm -rf '%s'", folder), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/use_program");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, the_program_in_the_readme_prints_the_answer);
    tcase_add_test(tc, without_a_daemon_it_starts_a_private_one);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
