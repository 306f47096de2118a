/*
 * test_crash_keeper.c - the keeper dies at every step of its own: nobody hangs, no process stays, the next one starts.
 * How: a daemon kills itself at the k-th pass of a place of the keeper (shm/crash_point.h) while one client streams,
 * others come and go and the engine is killed. The stream must end with LLM_ERR_PEER after nothing but right tokens;
 * the test is the subreaper, so it sees that the engine goes too; a daemon at the same socket must then serve and leave
 * nothing behind. A place that nothing passes fails the test.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/crash_point.h"
#include "tests/support/daemon.h"

#define WAIT_NS (60 * LLM_NS_PER_S)

static const uint32_t prompt[] = {300, 301, 302};

static bool needs_model(enum llm_crash_point point)
{
    return point == LLM_CRASH_keeper_public || point == LLM_CRASH_keeper_drop;
}

/* Everything that a daemon may be asked, once; each may fail, because it dies under us. */
static void trouble(const struct test_daemon *daemon)
{
    llm_connection *connection;
    llm_error error;
    const llm_connect_options options = {
        .socket = daemon->socket, .no_autostart = true, .timeout_ns = WAIT_NS};
    if (llm_connect(&connection, &options, &error) != LLM_OK)
        return;
    llm_connection_info info;
    const struct llm_status_file *status;
    if (llm_connection_describe(connection, &info, &error) == LLM_OK &&
        llm_status_open(info.status_name, &status, &error) == LLM_OK) {
        pid_t engine = (pid_t)atomic_load(&status->keeper.engine_pid);
        if (engine > 1)
            kill(engine, SIGKILL);
        llm_status_close(status);
    }
    (void)!llm_ping(connection, WAIT_NS, &error);
    llm_disconnect(connection);
}

static llm_connection *try_connect(const struct test_daemon *daemon, llm_stream **out_stream)
{
    llm_connection *connection = NULL;
    llm_error error;
    const llm_connect_options options = {.socket = daemon->socket, .no_autostart = true};
    if (llm_connect(&connection, &options, &error) != LLM_OK)
        return NULL;
    if (llm_submit(connection, prompt, 3, &(llm_sampling){.max_tokens = 4000, .ignore_eos = true},
                   out_stream, &error) == LLM_OK)
        return connection;
    llm_disconnect(connection);
    return NULL;
}

static void read_to_the_end(llm_stream *stream, bool echo)
{
    uint32_t tokens[64], count, total = 0;
    llm_error error;
    enum llm_status status;
    while ((status = llm_stream_read(stream, tokens, NULL, 64, WAIT_NS, &count, &error)) ==
               LLM_OK &&
           count > 0)
        for (uint32_t i = 0; i < count; i++, total++)
            ck_assert(!echo || tokens[i] == test_echo(prompt, 3, total));
    ck_assert_msg(status == LLM_OK || status == LLM_ERR_PEER || status == LLM_ERR_POISON,
                  "after %u tokens: %s", total, error.message);
}

/* All children of ours, and what they left: the keeper, its engines. */
static void reap_all(pid_t keeper, enum llm_crash_point point)
{
    uint64_t deadline_ns = llm_deadline_ns(WAIT_NS);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid < 0 && errno == ECHILD)
            return;
        if (pid == keeper)
            ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                          "the keeper ended with status 0x%x", (unsigned)status);
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0, "%s: a process is left",
                      llm_crash_point_name(point));
        if (pid == 0)
            test_sleep_ms(2);
    }
}

static bool is_dead(pid_t pid)
{
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

static const int passes[] = {1, 2, 4};
#define PASSES ((int)(sizeof passes / sizeof passes[0]))

START_TEST(a_keeper_may_die_anywhere)
{
    enum llm_crash_point point = (enum llm_crash_point)(_i / PASSES);
    int pass = passes[_i % PASSES];
    if (llm_crash_point_who(point) != LLM_CRASH_OF_KEEPER ||
        (point == LLM_CRASH_keeper_magic && pass > 1)) /* once in a keeper's life */
        return;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    char crash[64];
    snprintf(crash, sizeof crash, "%s:%d", llm_crash_point_name(point), pass);
    const char *const arguments[] = {"--model", needs_model(point) ? "tinynotes" : "echo",
                                     "--set",   "models.echo_step_us=1000",
                                     "--set",   "limits.engine_deaths=1000",
                                     NULL};
    struct test_daemon daemon = {.pid = 0};
    setenv("LLMD_CRASH", crash, 1);
    test_daemon_launch(&daemon, "crash", arguments);
    unsetenv("LLMD_CRASH");
    uint64_t deadline_ns = llm_deadline_ns(WAIT_NS);
    llm_connection *connection = NULL;
    llm_stream *stream = NULL;
    while (!is_dead(daemon.pid)) {
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0, "%s was never passed", crash);
        if (!connection)
            connection = try_connect(&daemon, &stream);
        trouble(&daemon);
    }
    if (connection) {
        read_to_the_end(stream, !needs_model(point));
        llm_disconnect(connection);
    }
    reap_all(daemon.pid, point);

    test_daemon_launch(&daemon, "crash", arguments); /* the socket and the status file are stale */
    test_daemon_await(&daemon);
    connection = test_daemon_connect(&daemon);
    llm_error error;
    ck_assert_msg(llm_ping(connection, WAIT_NS, &error) == LLM_OK, "%s", error.message);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/crash_keeper");
    TCase *tcase = tcase_create("keeper");
    tcase_set_timeout(tcase, 100);
    tcase_add_loop_test(tcase, a_keeper_may_die_anywhere, 0, LLM_CRASH_POINT_COUNT * PASSES);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
