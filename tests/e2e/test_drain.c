/*
 * test_drain.c - ending without losing anything: llm_daemon_drain(), llm_daemon_resume(), SIGTERM, and engines that
 * die meanwhile.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "tests/support/command.h"
#include "tests/support/daemon.h"

#define MINUTE UINT64_C(60000000000)

static struct test_daemon server;
static llm_error error;
static char out[65536];
#define RUN(...) run_command(out, sizeof out, __VA_ARGS__)

static const uint32_t prompt[] = {4, 5, 6};

static llm_stream *start_stream(llm_connection *connection, uint32_t tokens)
{
    llm_stream *stream = NULL;
    ck_assert_msg(llm_submit(connection, prompt, 3, &(llm_sampling){.max_tokens = tokens}, &stream,
                             &error) == LLM_OK,
                  "%s", error.message);
    return stream;
}

/* One that is certainly running: its first token is there. */
static llm_stream *start_running(llm_connection *connection, uint32_t tokens)
{
    llm_stream *stream = start_stream(connection, tokens);
    uint32_t which;
    ck_assert_int_eq(llm_streams_wait_any(&stream, 1, MINUTE, &which, &error), LLM_OK);
    return stream;
}

static void assert_refused(llm_connection *connection)
{
    llm_stream *stream = start_stream(connection, 1);
    uint32_t token, count;
    ck_assert_int_eq(llm_stream_read(stream, &token, NULL, 1, MINUTE, &count, &error),
                     LLM_ERR_BUSY);
    ck_assert_msg(strstr(error.message, "llmd is draining") != NULL, "%s", error.message);
    llm_stream_close(stream);
}

static void wait_state(uint32_t state)
{
    uint64_t deadline_ns = llm_deadline_ns(MINUTE / 2);
    while (atomic_load(&server.status->keeper.daemon_state) != state) {
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0, "state %u instead of %u",
                      atomic_load(&server.status->keeper.daemon_state), state);
        test_sleep_ms(2);
    }
}

static void start(const char *drain_s)
{
    static char setting[64];
    snprintf(setting, sizeof setting, "daemon.drain_s=%s", drain_s);
    test_daemon_start(&server, (const char *const[]){"--set", "models.echo_step_us=2000", "--set",
                                                     setting, NULL});
    setenv("LLMD_SOCKET", server.socket, 1);
}

START_TEST(what_runs_ends_what_is_new_is_refused_then_the_daemon_goes)
{
    start("0");
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream = start_running(connection, 400);
    ck_assert_int_eq(llm_daemon_drain(connection, true, &error), LLM_OK);
    wait_state(LLM_DAEMON_DRAINING);
    assert_refused(connection);
    ck_assert_int_eq(RUN("llmctl status"), 0);
    ck_assert_msg(strstr(out, "state    draining, 1 requests left") != NULL, "%s", out);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 3, LLM_OK), 400);
    llm_stream_close(stream);
    test_daemon_wait(&server);
    llm_disconnect(connection);
}
END_TEST

START_TEST(an_answer_that_nobody_has_read_yet_is_still_there_afterwards)
{
    start("0");
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream = start_running(connection, 100);
    ck_assert_int_eq(llm_daemon_drain(connection, true, &error), LLM_OK);
    test_daemon_wait(&server);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 3, LLM_OK), 100);
    llm_stream_close(stream);
    llm_disconnect(connection);
}
END_TEST

START_TEST(a_daemon_that_stays_takes_requests_again)
{
    start("0");
    llm_connection *connection = test_daemon_connect(&server);
    for (int round = 0; round < 3; round++) {
        llm_stream *stream = start_running(connection, 50);
        ck_assert_int_eq(RUN("llmctl drain --stay"), 0);
        ck_assert_msg(strstr(out, "stays and takes no requests") != NULL, "%s", out);
        ck_assert_uint_eq(atomic_load(&server.status->keeper.daemon_state), LLM_DAEMON_DRAINED);
        ck_assert_uint_eq(test_read_echo(stream, prompt, 3, LLM_OK), 50);
        llm_stream_close(stream);
        assert_refused(connection);
        ck_assert_int_eq(RUN("llmctl resume"), 0);
        wait_state(LLM_DAEMON_RUNNING);
    }
    llm_stream *stream = start_stream(connection, 10);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 3, LLM_OK), 10);
    llm_stream_close(stream);
    llm_disconnect(connection);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}
END_TEST

START_TEST(an_engine_that_dies_while_draining_is_followed_by_one_that_drains)
{
    start("0");
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream = start_running(connection, 600);
    ck_assert_int_eq(llm_daemon_drain(connection, false, &error), LLM_OK);
    wait_state(LLM_DAEMON_DRAINING);
    for (uint64_t generation = 2; generation <= 3; generation++) {
        test_daemon_kill_engine(&server);
        test_daemon_wait_generation(&server, generation);
        assert_refused(connection);
    }
    ck_assert_uint_eq(test_read_echo(stream, prompt, 3, LLM_OK), 600);
    llm_stream_close(stream);
    wait_state(LLM_DAEMON_DRAINED);
    test_daemon_kill_engine(&server); /* one that has nothing to do says so again */
    test_daemon_wait_generation(&server, 4);
    wait_state(LLM_DAEMON_DRAINED);
    llm_disconnect(connection);
    ck_assert_int_eq(RUN("llmctl drain"), 0); /* and now for good: it is empty already */
    ck_assert_msg(strstr(out, "has ended") != NULL, "%s", out);
    test_daemon_wait(&server);
}
END_TEST

START_TEST(a_signal_gives_running_requests_time)
{
    start("30");
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream = start_running(connection, 300);
    kill(server.pid, SIGTERM);
    wait_state(LLM_DAEMON_DRAINING);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 3, LLM_OK), 300);
    test_daemon_wait(&server);
    llm_stream_close(stream);
    llm_disconnect(connection);
}
END_TEST

static void read_until_the_peer_is_gone(llm_stream *stream)
{
    uint32_t tokens[64], count;
    enum llm_status status;
    do
        status = llm_stream_read(stream, tokens, NULL, 64, MINUTE, &count, &error);
    while (status == LLM_OK && count > 0);
    ck_assert_msg(status == LLM_ERR_PEER, "%d: %s", status, error.message);
}

/* Both answers would take two minutes. */
START_TEST(a_second_signal_ends_it_at_once_and_so_does_the_end_of_the_time)
{
    for (int round = 0; round < 2; round++) {
        start(round == 0 ? "600" : "1");
        llm_connection *connection = test_daemon_connect(&server);
        llm_stream *stream = start_running(connection, 60000);
        kill(server.pid, SIGTERM);
        wait_state(LLM_DAEMON_DRAINING);
        if (round == 0)
            kill(server.pid, SIGTERM);
        test_daemon_wait(&server);
        read_until_the_peer_is_gone(stream);
        llm_stream_close(stream);
        llm_disconnect(connection);
    }
}
END_TEST

START_TEST(an_idle_daemon_drains_at_once)
{
    start("600");
    llm_connection *connection = test_daemon_connect(&server); /* a client is no reason to stay */
    test_daemon_stop(&server);
    llm_disconnect(connection);
}
END_TEST

START_TEST(llmctl_says_what_is_left_when_its_time_is_over)
{
    start("0");
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream = start_running(connection, 60000);
    ck_assert_int_eq(RUN("llmctl drain --timeout 0.3 2>&1"), 5);
    ck_assert_msg(strstr(out, "1 requests are left after 300 ms") != NULL, "%s", out);
    llm_stream_cancel(stream);
    test_daemon_wait(&server);
    llm_stream_close(stream);
    llm_disconnect(connection);
}
END_TEST

/* Another user may connect (the socket's mode says so), but neither drain nor come while it drains. */
static int as_another_user(int (*act)(void))
{
    pid_t child = fork();
    if (child == 0)
        _exit(setgid(65534) == 0 && setuid(65534) == 0 ? act() : 99);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int connect_and_drain(void)
{
    llm_connection *connection;
    const llm_connect_options options = {.socket = server.socket, .no_autostart = true};
    enum llm_status status = llm_connect(&connection, &options, &error);
    if (status == LLM_OK)
        status = llm_daemon_drain(connection, true, &error);
    return (int)status;
}

START_TEST(only_administrators_drain_and_come_while_it_drains)
{
    if (geteuid() != 0) {
        puts("skipped: needs root");
        return;
    }
    start("0");
    ck_assert_int_eq(chmod(server.directory, 0755), 0);
    ck_assert_int_eq(chmod(server.socket, 0666), 0);
    ck_assert_int_eq(as_another_user(connect_and_drain), LLM_ERR_PERMISSION);
    ck_assert_uint_eq(atomic_load(&server.status->keeper.daemon_state), LLM_DAEMON_RUNNING);
    llm_connection *connection = test_daemon_connect(&server);
    ck_assert_int_eq(llm_daemon_drain(connection, false, &error), LLM_OK);
    ck_assert_int_eq(as_another_user(connect_and_drain), LLM_ERR_BUSY);
    ck_assert_int_eq(llm_daemon_resume(connection, &error), LLM_OK);
    ck_assert_int_eq(as_another_user(connect_and_drain), LLM_ERR_PERMISSION);
    llm_disconnect(connection);
    test_daemon_stop(&server);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/drain");
    TCase *tcase = tcase_create("drain");
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, what_runs_ends_what_is_new_is_refused_then_the_daemon_goes);
    tcase_add_test(tcase, an_answer_that_nobody_has_read_yet_is_still_there_afterwards);
    tcase_add_test(tcase, a_daemon_that_stays_takes_requests_again);
    tcase_add_test(tcase, an_engine_that_dies_while_draining_is_followed_by_one_that_drains);
    tcase_add_test(tcase, a_signal_gives_running_requests_time);
    tcase_add_test(tcase, a_second_signal_ends_it_at_once_and_so_does_the_end_of_the_time);
    tcase_add_test(tcase, an_idle_daemon_drains_at_once);
    tcase_add_test(tcase, llmctl_says_what_is_left_when_its_time_is_over);
    tcase_add_test(tcase, only_administrators_drain_and_come_while_it_drains);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
