/*
 * test_autostart.c - client/autostart: one private daemon, whoever asks first; sentences when there is none.
 * How: LLMD_BINARY names a small program that serves echoes (tests/support/fake_llmd.c) and notes its starts.
 */
#include "client/autostart.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/llm.h"
#include "shm/clock.h"

#define FAKE_LLMD LLM_BINARY_DIR "/bin/test_fake_llmd"

static char directory[64], path[128], starts[96];
static llm_error error;

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/llm-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/llmd/llmd.sock", directory); /* the folder is made, too */
    snprintf(starts, sizeof starts, "%s/starts", directory);
    setenv("LLMD_BINARY", FAKE_LLMD, 1);
    setenv("FAKE_LLMD_STARTS", starts, 1);
    setenv("LLMD_SOCKET", path, 1);
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    ck_assert_int_eq(system(command), 0);
}

static int count_starts(char last_line[512])
{
    int count = 0;
    FILE *file = fopen(starts, "r");
    while (file && fgets(last_line, 512, file))
        count++;
    if (file)
        fclose(file);
    return count;
}

static enum llm_status connect_and_ping(void)
{
    llm_connection *connection;
    enum llm_status status = llm_connect(&connection, NULL, &error);
    if (status != LLM_OK)
        return status;
    status = llm_ping(connection, 10 * LLM_NS_PER_S, &error);
    llm_disconnect(connection);
    return status;
}

START_TEST(a_private_daemon_is_started_with_its_socket_and_nothing_of_ours)
{
    int kept = open("/dev/null", O_RDONLY); /* not close-on-exec: a careless program's */
    ck_assert_int_ge(kept, 0);
    ck_assert_msg(connect_and_ping() == LLM_OK, "%s", error.message);
    char line[512] = "", want[256];
    ck_assert_int_eq(count_starts(line), 1);
    snprintf(want, sizeof want, "llmd --socket %s --idle-exit 60 fds:\n", path);
    ck_assert_str_eq(line, want);
    close(kept);
}
END_TEST

START_TEST(many_processes_at_once_start_one_daemon)
{
    pid_t children[8];
    for (int i = 0; i < 8; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            enum llm_status status = connect_and_ping();
            if (status != LLM_OK)
                fprintf(stderr, "child %d: %s\n", i, error.message);
            usleep(300000); /* so that the daemon does not leave between two of us */
            _exit(status != LLM_OK);
        }
    }
    for (int i = 0; i < 8; i++) {
        int result;
        ck_assert_int_eq(waitpid(children[i], &result, 0), children[i]);
        ck_assert_int_eq(result, 0);
    }
    char line[512];
    int count = count_starts(line);
    ck_assert_msg(count == 1 || count == 2, "%d starts",
                  count); /* 2: it left before the last came */
}
END_TEST

START_TEST(a_daemon_that_left_is_started_again)
{
    char line[512];
    ck_assert_int_eq(connect_and_ping(), LLM_OK);
    struct stat file;
    for (int i = 0; i < 100 && stat(path, &file) == 0; i++)
        usleep(50000); /* it removes its socket when it leaves */
    ck_assert_msg(connect_and_ping() == LLM_OK, "%s", error.message);
    ck_assert_int_eq(count_starts(line), 2);
}
END_TEST

START_TEST(a_daemon_that_ends_at_once_is_quoted)
{
    setenv("FAKE_LLMD_FAILS", "1", 1);
    char sentence[256];
    snprintf(sentence, sizeof sentence,
             "the private daemon ended at once, saying \"llmd: the moon is too far\" (%s.log)",
             path);
    ck_assert_int_eq(connect_and_ping(), LLM_ERR_NOT_FOUND);
    ck_assert_str_eq(error.message, sentence);
}
END_TEST

START_TEST(no_program_is_said_so)
{
    setenv("LLMD_BINARY", "/nonexistent/llmd", 1);
    ck_assert_int_eq(connect_and_ping(), LLM_ERR_NOT_FOUND);
    ck_assert_str_eq(error.message, "LLMD_BINARY=/nonexistent/llmd is not a program");
}
END_TEST

START_TEST(no_place_for_a_socket_is_said_so)
{
    setenv("LLMD_SOCKET", "/nonexistent/deep/llmd.sock", 1);
    ck_assert_int_eq(connect_and_ping(), LLM_ERR_NOT_FOUND);
    ck_assert_str_eq(error.message,
                     "no daemon runs, and there is no place for a private one (set "
                     "XDG_RUNTIME_DIR or LLMD_SOCKET): cannot create /nonexistent/deep: No such "
                     "file or directory");
}
END_TEST

START_TEST(the_program_is_found_along_the_search_path)
{
    char bin[96], name[112], search[160];
    unsetenv("LLMD_BINARY");
    snprintf(bin, sizeof bin, "%s/somewhere", directory);
    snprintf(name, sizeof name, "%s/llmd", bin);
    ck_assert_int_eq(mkdir(bin, 0700), 0);
    ck_assert_int_eq(symlink(FAKE_LLMD, name), 0);
    snprintf(search, sizeof search, "/nonexistent::%s:/usr/bin:/bin", bin);
    setenv("PATH", search, 1);
    struct stat built;
    if (stat(LLM_BINARY_DIR "/bin/llmd", &built) == 0)
        return; /* the build tree's own llmd is nearer */
    ck_assert_msg(connect_and_ping() == LLM_OK, "%s", error.message);
}
END_TEST

START_TEST(a_program_named_from_here_is_started_elsewhere)
{
    char last_line[512] = "";
    ck_assert_int_eq(chdir(LLM_BINARY_DIR "/bin"), 0);
    setenv("LLMD_BINARY", "./test_fake_llmd", 1);

    ck_assert_msg(connect_and_ping() == LLM_OK, "%s", error.message);
    ck_assert_int_eq(count_starts(last_line), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/autostart");
    TCase *tc = tcase_create("autostart");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_program_named_from_here_is_started_elsewhere);
    tcase_add_test(tc, a_private_daemon_is_started_with_its_socket_and_nothing_of_ours);
    tcase_add_test(tc, many_processes_at_once_start_one_daemon);
    tcase_add_test(tc, a_daemon_that_left_is_started_again);
    tcase_add_test(tc, a_daemon_that_ends_at_once_is_quoted);
    tcase_add_test(tc, no_program_is_said_so);
    tcase_add_test(tc, no_place_for_a_socket_is_said_so);
    tcase_add_test(tc, the_program_is_found_along_the_search_path);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
