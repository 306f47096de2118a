/*
 * test_stop.c - how a daemon ends: by signal, by an administrator, by itself; and what a fork makes of it.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon.h"

#define MINUTE UINT64_C(60000000000)

static struct test_daemon server;
static llm_error error;

static llm_stream *start_stream(llm_connection *connection)
{
    static const uint32_t prompt[] = {4, 5, 6};
    llm_stream *stream = NULL;
    ck_assert_int_eq(
        llm_submit(connection, prompt, 3, &(llm_sampling){.max_tokens = 4000}, &stream, &error),
        LLM_OK);
    uint32_t token, count;
    ck_assert_int_eq(llm_stream_read(stream, &token, NULL, 1, MINUTE, &count, &error), LLM_OK);
    return stream;
}

static void assert_peer_gone(llm_stream *stream)
{
    uint32_t tokens[64], count;
    enum llm_status status;
    do
        status = llm_stream_read(stream, tokens, NULL, 64, MINUTE, &count, &error);
    while (status == LLM_OK && count > 0);
    ck_assert_msg(status == LLM_ERR_PEER, "%d: %s", status, error.message);
}

static const char *const slow[] = {"--set", "models.echo_step_us=5000", NULL};

START_TEST(a_signal_ends_it_in_the_middle_of_a_stream)
{
    test_daemon_start(&server, slow);
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream = start_stream(connection);
    test_daemon_stop(&server);
    assert_peer_gone(stream);
    llm_stream_close(stream);
    llm_disconnect(connection);
}
END_TEST

START_TEST(an_administrator_ends_it)
{
    test_daemon_start(&server, slow);
    llm_connection *connection = test_daemon_connect(&server);
    ck_assert_int_eq(llm_daemon_stop(connection, &error), LLM_OK);
    test_daemon_wait(&server);
    llm_disconnect(connection);
}
END_TEST

START_TEST(without_clients_it_ends_by_itself)
{
    test_daemon_start(&server, (const char *const[]){"--idle-exit", "1", NULL});
    llm_connection *connection = test_daemon_connect(&server);
    test_sleep_ms(1500); /* a client is there: it stays */
    ck_assert_int_eq(llm_ping(connection, MINUTE, &error), LLM_OK);
    llm_disconnect(connection);
    test_daemon_wait(&server);
}
END_TEST

START_TEST(a_stopped_engine_does_not_keep_it_from_ending)
{
    test_daemon_start(&server, NULL);
    kill((pid_t)atomic_load(&server.status->keeper.engine_pid), SIGSTOP);
    test_daemon_stop(&server); /* after the keeper's patience of five seconds */
}
END_TEST

START_TEST(a_child_of_fork_is_told_to_connect_again)
{
    test_daemon_start(&server, slow);
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream = start_stream(connection);
    pid_t child = fork();
    if (child == 0) {
        uint32_t token, count;
        bool told =
            llm_stream_read(stream, &token, NULL, 1, MINUTE, &count, &error) == LLM_ERR_FORKED &&
            llm_ping(connection, MINUTE, &error) == LLM_ERR_FORKED;
        llm_stream_close(stream);
        llm_disconnect(connection);
        llm_connection *its_own = test_daemon_connect(&server);
        told = told && llm_ping(its_own, MINUTE, &error) == LLM_OK;
        llm_disconnect(its_own);
        _exit(told ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    uint32_t token, count; /* the parent's goes on */
    ck_assert_int_eq(llm_stream_read(stream, &token, NULL, 1, MINUTE, &count, &error), LLM_OK);
    ck_assert_uint_eq(token, 5);
    llm_stream_close(stream);
    llm_disconnect(connection);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}
END_TEST

START_TEST(an_idle_daemon_uses_no_processor_time)
{
    test_daemon_start(&server, NULL);
    llm_connection *connection = test_daemon_connect(&server);
    ck_assert_int_eq(llm_ping(connection, MINUTE, &error), LLM_OK);
    test_sleep_ms(100);
    uint64_t parks = atomic_load(&server.status->engine.counters[LLM_COUNTER_PARKS]);
    test_sleep_ms(500);
    ck_assert_uint_le(atomic_load(&server.status->engine.counters[LLM_COUNTER_PARKS]) - parks, 1);
    llm_disconnect(connection);
    test_daemon_stop(&server);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/stop");
    TCase *tcase = tcase_create("stop");
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, a_signal_ends_it_in_the_middle_of_a_stream);
    tcase_add_test(tcase, an_administrator_ends_it);
    tcase_add_test(tcase, without_clients_it_ends_by_itself);
    tcase_add_test(tcase, a_stopped_engine_does_not_keep_it_from_ending);
    tcase_add_test(tcase, a_child_of_fork_is_told_to_connect_again);
    tcase_add_test(tcase, an_idle_daemon_uses_no_processor_time);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
