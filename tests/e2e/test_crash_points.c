/*
 * test_crash_points.c - the engine dies at every place where a store has just become visible.
 * How: for each crash point of the engine (shm/crash_point.h) a daemon is started whose first engines kill
 * themselves at the k-th pass of that place; echo streams must come out whole, each token once, and nothing may be
 * left afterwards. Places that this traffic does not pass are named by a test, so that none is forgotten.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/crash_point.h"
#include "tests/support/daemon.h"

#define STREAMS    6
#define TOKENS_MAX 60

/* Points in the client's own process are tests/shm's. */
static bool in_client(enum llm_crash_point point)
{
    return point == LLM_CRASH_queue_claim || point == LLM_CRASH_queue_entry ||
           point == LLM_CRASH_queue_publish;
}

static void choose_point(enum llm_crash_point point, int pass, int engines)
{
    char text[64];
    snprintf(text, sizeof text, "%s:%d", llm_crash_point_name(point), pass);
    setenv("LLMD_CRASH", text, 1);
    snprintf(text, sizeof text, "%d", engines);
    setenv("LLMD_CRASH_ENGINES", text, 1);
}

/* A second client that comes and goes, so that connections are attached and freed. */
static void visit(const struct test_daemon *daemon)
{
    llm_connection *connection = test_daemon_connect(daemon);
    llm_error error;
    ck_assert_msg(llm_ping(connection, UINT64_C(60000000000), &error) == LLM_OK, "%s",
                  error.message);
    llm_disconnect(connection);
}

static void run_streams(const struct test_daemon *daemon)
{
    llm_connection *connection = test_daemon_connect(daemon);
    llm_stream *streams[STREAMS];
    uint32_t prompts[STREAMS][40];
    llm_error error;
    for (uint32_t i = 0; i < STREAMS; i++) {
        for (uint32_t k = 0; k < 40; k++)
            prompts[i][k] = (i % 3) * 1000 + k; /* pairs share their prompts */
        ck_assert_int_eq(llm_submit(connection, prompts[i], 40,
                                    &(llm_sampling){.max_tokens = TOKENS_MAX - i}, &streams[i],
                                    &error),
                         LLM_OK);
    }
    visit(daemon);
    for (uint32_t i = 0; i < STREAMS; i++) {
        ck_assert_uint_eq(test_read_echo(streams[i], prompts[i], 40, LLM_OK), TOKENS_MAX - i);
        llm_stream_close(streams[i]);
    }
    llm_disconnect(connection);
}

static const struct {
    int pass, engines;
} ways[] = {{1, 1}, {2, 1}, {7, 1}, {30, 2}};
#define WAYS ((int)(sizeof ways / sizeof ways[0]))

START_TEST(streams_come_out_whole_wherever_the_engine_dies)
{
    enum llm_crash_point point = (enum llm_crash_point)(_i / WAYS);
    if (in_client(point))
        return;
    choose_point(point, ways[_i % WAYS].pass, ways[_i % WAYS].engines);
    struct test_daemon daemon;
    test_daemon_start_in(&daemon, "crash",
                         (const char *const[]){"--set", "limits.sequences=8", NULL});
    run_streams(&daemon);
    if (ways[_i % WAYS].pass == 1 && point != LLM_CRASH_req_try) /* that one: the next test */
        ck_assert_msg(test_daemon_generation(&daemon) > 1, "%s was never passed",
                      llm_crash_point_name(point));
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(an_engine_that_dies_in_its_recovery_is_recovered_from)
{
    choose_point(LLM_CRASH_req_try, 1,
                 2); /* the first engine never passes there, the second does */
    struct test_daemon daemon;
    test_daemon_start_in(&daemon, "crash",
                         (const char *const[]){"--set", "models.echo_step_us=5000", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    llm_stream *stream;
    llm_error error;
    const uint32_t prompt[] = {1, 2, 3};
    ck_assert_int_eq(
        llm_submit(connection, prompt, 3, &(llm_sampling){.max_tokens = 90}, &stream, &error),
        LLM_OK);
    uint32_t token, count;
    ck_assert_int_eq(
        llm_stream_read(stream, &token, NULL, 1, UINT64_C(60000000000), &count, &error), LLM_OK);
    ck_assert_uint_eq(token, 1);
    test_daemon_kill_engine(&daemon);
    uint32_t rest[] = {2, 3, 1};
    ck_assert_uint_eq(test_read_echo(stream, rest, 3, LLM_OK), 89);
    ck_assert_uint_eq(test_daemon_generation(&daemon), 3);
    llm_stream_close(stream);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(a_request_that_kills_two_engines_fails_alone)
{
    choose_point(LLM_CRASH_req_token, 1, 2); /* the first token of all kills the engine, twice */
    struct test_daemon daemon;
    test_daemon_start_in(&daemon, "crash", NULL);
    llm_connection *connection = test_daemon_connect(&daemon);
    llm_stream *streams[2];
    llm_error error;
    const uint32_t prompt[] = {1, 2, 3};
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(llm_submit(connection, prompt, 3, &(llm_sampling){.max_tokens = 9},
                                    &streams[i], &error),
                         LLM_OK);
    ck_assert_uint_eq(test_read_echo(streams[0], prompt, 3, LLM_ERR_POISON), 0);
    ck_assert_uint_eq(test_read_echo(streams[1], prompt, 3, LLM_OK), 9);
    llm_stream_close(streams[0]);
    llm_stream_close(streams[1]);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/crash_points");
    TCase *tcase = tcase_create("engine");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, streams_come_out_whole_wherever_the_engine_dies, 0,
                        LLM_CRASH_POINT_COUNT * WAYS);
    tcase_add_test(tcase, an_engine_that_dies_in_its_recovery_is_recovered_from);
    tcase_add_test(tcase, a_request_that_kills_two_engines_fails_alone);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
