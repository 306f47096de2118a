/*
 * test_hang.c - an engine that exists and does nothing: found, said, and killed where that is wanted.
 * How: SIGSTOP. The patience is configured here; a busy machine may use half of it to let an engine answer.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/clock.h"
#include "tests/support/daemon.h"

#define MINUTE UINT64_C(60000000000)

static struct test_daemon server;
static llm_error error;
static const uint32_t prompt[] = {4, 5, 6};

static void start(const char *kill_setting)
{
    test_daemon_start(&server,
                      (const char *const[]){"--set", "models.echo_step_us=2000", "--set",
                                            "daemon.engine_hang_s=4", "--set", kill_setting, NULL});
}

static void signal_engine(int number)
{
    kill((pid_t)atomic_load(&server.status->keeper.engine_pid), number);
}

/* How often the keeper has noted a sentence with `part` in it. */
static uint64_t noted(const char *part)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < LLM_STATUS_ERRORS; i++) {
        const struct llm_status_error *entry = &server.status->keeper_errors[i];
        uint64_t times = atomic_load(&entry->count);
        if (times > 0 && strstr(entry->text, part))
            count += times;
    }
    return count;
}

static void wait_noted(const char *part)
{
    uint64_t deadline_ns = llm_deadline_ns(MINUTE / 2);
    while (noted(part) == 0) {
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0, "\"%s\" is never noted", part);
        test_sleep_ms(10);
    }
}

static llm_stream *start_stream(llm_connection *connection)
{
    llm_stream *stream = NULL;
    uint32_t which;
    ck_assert_int_eq(
        llm_submit(connection, prompt, 3, &(llm_sampling){.max_tokens = 300}, &stream, &error),
        LLM_OK);
    ck_assert_int_eq(llm_streams_wait_any(&stream, 1, MINUTE, &which, &error), LLM_OK);
    return stream;
}

START_TEST(a_hung_engine_is_killed_and_the_answer_goes_on)
{
    start("daemon.engine_hang_kill=true");
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream = start_stream(connection);
    signal_engine(SIGSTOP);
    test_daemon_wait_generation(&server, 2);
    ck_assert_uint_eq(noted("no sign of life"), 1);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 3, LLM_OK), 300);
    llm_stream_close(stream);
    llm_disconnect(connection);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}
END_TEST

START_TEST(one_that_nobody_wants_killed_is_reported_once_and_may_go_on)
{
    start("daemon.engine_hang_kill=false");
    llm_connection *connection = test_daemon_connect(&server);
    llm_stream *stream = start_stream(connection);
    signal_engine(SIGSTOP);
    wait_noted("no sign of life");
    test_sleep_ms(1500);
    signal_engine(SIGCONT);
    ck_assert_uint_eq(test_read_echo(stream, prompt, 3, LLM_OK), 300);
    ck_assert_uint_eq(noted("no sign of life"), 1);
    ck_assert_uint_eq(test_daemon_generation(&server), 1);
    llm_stream_close(stream);
    llm_disconnect(connection);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}
END_TEST

START_TEST(a_parked_engine_is_not_hung_but_one_that_is_stopped_while_parked_is)
{
    start("daemon.engine_hang_kill=true");
    uint64_t first_beat = atomic_load(&server.status->engine.heartbeat_ns);
    test_sleep_ms(9000); /* parked for twice its patience */
    ck_assert_uint_eq(noted("no sign of life"), 0);
    ck_assert_uint_eq(test_daemon_generation(&server), 1);
    ck_assert_uint_gt(atomic_load(&server.status->engine.heartbeat_ns), first_beat);
    signal_engine(SIGSTOP);
    test_daemon_wait_generation(&server, 2);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}
END_TEST

START_TEST(who_wants_no_watching_gets_none)
{
    test_daemon_start(&server, (const char *const[]){"--set", "daemon.engine_hang_s=0", NULL});
    test_sleep_ms(300);
    uint64_t parks = atomic_load(&server.status->engine.counters[LLM_COUNTER_PARKS]);
    signal_engine(SIGSTOP);
    test_sleep_ms(2000);
    ck_assert_uint_eq(noted("no sign of life"), 0);
    ck_assert_uint_eq(atomic_load(&server.status->engine.counters[LLM_COUNTER_PARKS]), parks);
    signal_engine(SIGCONT);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/hang");
    TCase *tcase = tcase_create("hang");
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, a_hung_engine_is_killed_and_the_answer_goes_on);
    tcase_add_test(tcase, one_that_nobody_wants_killed_is_reported_once_and_may_go_on);
    tcase_add_test(tcase, a_parked_engine_is_not_hung_but_one_that_is_stopped_while_parked_is);
    tcase_add_test(tcase, who_wants_no_watching_gets_none);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
