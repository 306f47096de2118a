/*
 * test_other_user.c - another user of the machine: refused at the door, or let in and kept to what is theirs.
 * How: needs root: the daemon is root's, a child drops to uid 65534 ("nobody") and tries. Skipped otherwise.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon.h"

#define NOBODY 65534
#define MINUTE UINT64_C(60000000000)

static struct test_daemon server;
static llm_error error;

static void setup(void)
{
    test_daemon_start(&server, (const char *const[]){"--model", "echo", "--set",
                                                     "models.echo_step_us=2000", NULL});
}

static void teardown(void)
{
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}

/* What an administrator does to let others in: the folder may be passed, the socket be connected to. */
static void open_the_door(void)
{
    ck_assert_int_eq(chmod(server.directory, 0711), 0);
    ck_assert_int_eq(chmod(server.socket, 0666), 0);
}

/* Run `what` in a child that is nobody; its asserts are this test's. */
static void as_nobody(void (*what)(uint64_t), uint64_t argument)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
            _exit(9);
        what(argument);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with 0x%x",
                  (unsigned)status);
}

static llm_connection *connect_as_nobody(void)
{
    llm_connection *connection = NULL;
    const llm_connect_options options = {.socket = server.socket, .no_autostart = true};
    ck_assert_msg(llm_connect(&connection, &options, &error) == LLM_OK, "%s", error.message);
    return connection;
}

static void is_refused_at_the_door(uint64_t unused)
{
    (void)unused;
    llm_connection *connection = NULL;
    const llm_connect_options options = {.socket = server.socket, .no_autostart = true};
    ck_assert_int_eq(llm_connect(&connection, &options, &error), LLM_ERR_PERMISSION);
    ck_assert_ptr_null(connection);
    ck_assert_ptr_nonnull(strstr(error.message, server.socket));
}

START_TEST(without_permission_on_the_socket_the_sentence_names_it)
{
    as_nobody(is_refused_at_the_door, 0);
}
END_TEST

static void asks_and_is_answered(uint64_t unused)
{
    (void)unused;
    const uint32_t prompt[] = {7, 8, 9};
    llm_connection *connection = connect_as_nobody();
    llm_stream *stream = NULL;
    ck_assert_int_eq(
        llm_submit(connection, prompt, 3, &(llm_sampling){.max_tokens = 20}, &stream, &error),
        LLM_OK);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 3, LLM_OK), 20);
    llm_stream_close(stream);
    llm_disconnect(connection);
}

START_TEST(who_is_let_in_is_served)
{
    open_the_door();
    as_nobody(asks_and_is_answered, 0);
}
END_TEST

static void may_not_steer(uint64_t others_request)
{
    llm_connection *connection = connect_as_nobody();
    char report[256];
    ck_assert_int_eq(llm_request_cancel(connection, others_request, MINUTE, &error),
                     LLM_ERR_PERMISSION);
    ck_assert_int_eq(llm_daemon_check(connection, MINUTE, report, sizeof report, &error),
                     LLM_ERR_PERMISSION);
    ck_assert_int_eq(llm_daemon_restart_engine(connection, &error), LLM_ERR_PERMISSION);
    ck_assert_int_eq(llm_daemon_stop(connection, &error), LLM_ERR_PERMISSION);
    llm_disconnect(connection);
}

START_TEST(who_is_no_administrator_steers_nothing_of_others)
{
    open_the_door();
    llm_connection *connection = test_daemon_connect(&server);
    const uint32_t prompt[] = {1, 2, 3, 4};
    llm_stream *stream = NULL;
    llm_stream_info info;
    ck_assert_int_eq(
        llm_submit(connection, prompt, 4, &(llm_sampling){.max_tokens = 200}, &stream, &error),
        LLM_OK);
    uint32_t which;
    ck_assert_int_eq(llm_streams_wait_any(&stream, 1, MINUTE, &which, &error), LLM_OK);
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);

    as_nobody(may_not_steer, info.request_id);

    ck_assert_uint_eq(test_read_echo(stream, prompt, 4, LLM_OK), 200);
    ck_assert_uint_eq(test_daemon_generation(&server), 1);
    llm_stream_close(stream);
    llm_disconnect(connection);
}
END_TEST

static void may_not_look(uint64_t unused)
{
    (void)unused;
    char path[64];
    ck_assert_int_lt(shm_open(server.status_name, O_RDONLY, 0), 0);
    ck_assert_int_eq(errno, EACCES);
    ck_assert_int_ne(kill((pid_t)server.status->keeper.keeper_pid, 0), 0);
    snprintf(path, sizeof path, "/proc/%u/fd", server.status->keeper.keeper_pid);
    ck_assert_int_ne(access(path, R_OK | X_OK), 0);
    snprintf(path, sizeof path, "/proc/%u/mem", atomic_load(&server.status->keeper.engine_pid));
    ck_assert_int_lt(open(path, O_RDONLY | O_CLOEXEC), 0);
}

START_TEST(the_status_file_and_the_processes_are_closed_to_others)
{
    open_the_door();
    as_nobody(may_not_look, 0);
}
END_TEST

int main(void)
{
    if (geteuid() != 0) {
        puts("skipped: needs root, to try as another user");
        return 77;
    }
    Suite *suite = suite_create("attack/other_user");
    TCase *tcase = tcase_create("other user");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, without_permission_on_the_socket_the_sentence_names_it);
    tcase_add_test(tcase, who_is_let_in_is_served);
    tcase_add_test(tcase, who_is_no_administrator_steers_nothing_of_others);
    tcase_add_test(tcase, the_status_file_and_the_processes_are_closed_to_others);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
