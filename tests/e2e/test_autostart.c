/*
 * test_autostart.c - programs that connect where no daemon runs: one private daemon starts, once, for all of them.
 * How: an empty XDG_RUNTIME_DIR, and a configuration that makes echo the default model.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon.h"

#define PROCESSES 4
#define MINUTE    UINT64_C(60000000000)

static char directory[64], path[128];

static void setup(void)
{
    strcpy(directory, "/tmp/llmd-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/llmd", directory);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    setenv("XDG_RUNTIME_DIR", directory, 1);
    setenv("XDG_CONFIG_HOME", directory, 1);
    setenv("LLMD_BINARY", LLM_BINARY_DIR "/bin/llmd", 1);
    unsetenv("LLMD_SOCKET");
}

static void write_config(const char *text)
{
    snprintf(path, sizeof path, "%s/llmd/llmd.toml", directory);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static void teardown(void)
{
    static const char *const names[] = {"llmd.toml", "llmd.sock.lock", "llmd.sock.start",
                                        "llmd.sock.log"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/llmd/%s", directory, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/llmd", directory);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(rmdir(directory), 0);
}

/* Connect, ask, and tell the test which keeper answered. */
static void be_a_client(int out_fd)
{
    llm_connection *connection;
    llm_error error;
    llm_connection_info info = {0};
    const uint32_t prompt[] = {1, 2};
    llm_stream *stream;
    ck_assert_msg(llm_connect(&connection, NULL, &error) == LLM_OK, "%s", error.message);
    ck_assert_int_eq(llm_connection_describe(connection, &info, &error), LLM_OK);
    ck_assert_int_eq(
        llm_submit(connection, prompt, 2, &(llm_sampling){.max_tokens = 5}, &stream, &error),
        LLM_OK);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 2, LLM_OK), 5);
    llm_stream_close(stream);
    llm_disconnect(connection);
    ssize_t written = write(out_fd, &info.keeper_pid, sizeof info.keeper_pid);
    _exit(written == (ssize_t)sizeof info.keeper_pid ? 0 : 1);
}

START_TEST(programs_that_start_at_once_share_one_daemon)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    write_config("[models]\ndefault = \"echo\"\n[kv]\npool_bytes = \"8MiB\"\n"
                 "[daemon]\ndebugging = true\n");
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0)
            be_a_client(ends[1]);
    uint32_t first = 0;
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        uint32_t pid;
        ck_assert_int_gt(wait(&status), 0);
        ck_assert_int_eq(status, 0);
        ck_assert_int_eq(read(ends[0], &pid, sizeof pid), (ssize_t)sizeof pid);
        ck_assert(i == 0 || pid == first);
        first = pid;
    }
    llm_connection *connection;
    llm_error error;
    const llm_connect_options options = {.no_autostart = true};
    ck_assert_msg(llm_connect(&connection, &options, &error) == LLM_OK, "%s", error.message);
    ck_assert_int_eq(llm_daemon_stop(connection, &error), LLM_OK);
    llm_disconnect(connection);
    snprintf(path, sizeof path, "%s/llmd/llmd.sock", directory);
    for (int i = 0; i < 4000 && access(path, F_OK) == 0; i++)
        test_sleep_ms(5);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_daemon_that_cannot_start_says_why_to_the_program)
{
    write_config("[models]\ndefault = \"no-such-model\"\n");
    llm_connection *connection;
    llm_error error;
    ck_assert_int_ne(llm_connect(&connection, NULL, &error), LLM_OK);
    ck_assert_msg(strstr(error.message, "no model \"no-such-model\"") != NULL, "%s", error.message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/autostart");
    TCase *tcase = tcase_create("autostart");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, programs_that_start_at_once_share_one_daemon);
    tcase_add_test(tcase, a_daemon_that_cannot_start_says_why_to_the_program);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
