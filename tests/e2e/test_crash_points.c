/*
 * test_crash_points.c - the engine dies at every place where a store has just become visible.
 * How: for each crash point of the engine (shm/crash_point.h) a daemon is started one of whose engines kills itself at
 * the k-th pass of that place: the first one, or the second after the first was killed from outside, so that it dies in
 * its recovery. Streams must come out whole, each token once, and nothing may be left afterwards. A place that no
 * scenario passes fails its test. Contexts' places: test_crash_contexts.c; clients' and keepers': test_crash_clients.c,
 * test_crash_keeper.c.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/crash_point.h"
#include "tests/support/daemon.h"

#define STREAMS    6
#define TOKENS_MAX 60
#define WAIT_NS    UINT64_C(60000000000)

/* What leads past a point at all. */
enum scenario {
    FIRST_ENGINE,  /* an echo, from the first engine on */
    SECOND_ENGINE, /* only an engine that follows a dead one */
    MODEL,         /* only with a model, which has weights and a vocabulary */
    MODEL_AGAIN,   /* the same, after a death */
    CONTEXTS,      /* only requests on contexts: test_crash_contexts.c */
    NONE
};

static enum scenario scenario_of(enum llm_crash_point point)
{
    const char *name = llm_crash_point_name(point);
    if (strncmp(name, "ctx_", 4) == 0 || strncmp(name, "row_", 4) == 0 ||
        point == LLM_CRASH_block_widened)
        return CONTEXTS;
    if (point == LLM_CRASH_req_try || point == LLM_CRASH_conn_resumed ||
        point == LLM_CRASH_block_waits)
        return SECOND_ENGINE;
    if (point == LLM_CRASH_weights_begin || point == LLM_CRASH_weights_bytes ||
        point == LLM_CRASH_weights_commit || point == LLM_CRASH_memory_filled ||
        point == LLM_CRASH_memory_public)
        return MODEL;
    return point == LLM_CRASH_memory_dropped ? MODEL_AGAIN : FIRST_ENGINE;
}

static void choose_point(enum llm_crash_point point, int pass, const char *engines)
{
    char text[64];
    snprintf(text, sizeof text, "%s:%d", llm_crash_point_name(point), pass);
    setenv("LLMD_CRASH", text, 1);
    setenv("LLMD_CRASH_ENGINES", engines, 1);
}

/* ---- Echo ------------------------------------------------------------------------------------------ */

/* A second client that comes and goes, so that connections are attached and freed. */
static void visit(const struct test_daemon *daemon)
{
    llm_connection *connection = test_daemon_connect(daemon);
    llm_error error;
    ck_assert_msg(llm_ping(connection, WAIT_NS, &error) == LLM_OK, "%s", error.message);
    llm_disconnect(connection);
}

/* It looks again and again, so it sees also what stands in its memory for a moment only. */
static llm_connection *connect_spinning(const struct test_daemon *daemon)
{
    llm_connection *connection = NULL;
    llm_error error;
    const llm_connect_options options = {
        .socket = daemon->socket, .no_autostart = true, .wait = LLM_WAIT_SPIN};
    ck_assert_msg(llm_connect(&connection, &options, &error) == LLM_OK, "%s", error.message);
    return connection;
}

/* The echo's likeliest token is the one it answers. */
static void assert_tops(llm_stream *stream, const uint32_t *prompt, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        llm_top_logprob tops[2];
        uint32_t found;
        llm_error error;
        ck_assert_msg(llm_stream_tops(stream, i, tops, 2, &found, &error) == LLM_OK, "%s",
                      error.message);
        ck_assert_uint_eq(found, 1);
        ck_assert_uint_eq(tops[0].token, prompt[i % 40]);
    }
}

static void run_streams(const struct test_daemon *daemon, bool spin, bool kill_first)
{
    llm_connection *connection = spin ? connect_spinning(daemon) : test_daemon_connect(daemon);
    llm_stream *streams[STREAMS];
    uint32_t prompts[STREAMS][40], which;
    llm_error error;
    for (uint32_t i = 0; i < STREAMS; i++) {
        for (uint32_t k = 0; k < 40; k++)
            prompts[i][k] = (i % 3) * 1000 + k + 1; /* pairs share them; fresh memory is 0 */
        const llm_sampling_more more = {
            .sampling = {.max_tokens = TOKENS_MAX - i,
                         .logprobs = i == 1,
                         .more_bytes = i == 1 ? sizeof(llm_sampling_more) : 0},
            .top_logprobs = 2};
        ck_assert_int_eq(
            llm_submit(connection, prompts[i], 40, &more.sampling, &streams[i], &error), LLM_OK);
    }
    if (kill_first) {
        for (uint32_t i = 0; i < STREAMS; i++) /* a token each: none is a suspect afterwards */
            ck_assert_int_eq(llm_streams_wait_any(&streams[i], 1, WAIT_NS, &which, &error), LLM_OK);
        test_daemon_kill_engine(daemon);
    }
    if (!spin)
        visit(daemon);
    for (uint32_t i = 0; i < STREAMS; i++) {
        if (spin && i == STREAMS / 2) /* not before: it would wait until the next engine is there */
            visit(daemon);
        ck_assert_uint_eq(test_read_echo(streams[i], prompts[i], 40, LLM_OK), TOKENS_MAX - i);
        if (i == 1)
            assert_tops(streams[i], prompts[i], TOKENS_MAX - i);
        llm_stream_close(streams[i]);
    }
    llm_disconnect(connection);
}

static const struct {
    int pass;
    const char *engines;
    bool kill_first;
    enum scenario
        surely; /* points of this scenario must be passed; NONE: whether they are is luck */
} ways[] = {
    {1, "1", false, FIRST_ENGINE}, {1, "2-2", true, SECOND_ENGINE}, {2, "1", false, NONE},
    {7, "1", false, NONE},         {30, "2", false, NONE},          {3, "2-2", true, NONE},
};
#ifdef __SANITIZE_ADDRESS__ /* several times as slow: the first two pass every point */
#define WAYS 2
#else
#define WAYS ((int)(sizeof ways / sizeof ways[0]))
#endif

START_TEST(streams_come_out_whole_wherever_the_engine_dies)
{
    enum llm_crash_point point = (enum llm_crash_point)(_i / WAYS);
    int way = _i % WAYS;
    if (llm_crash_point_who(point) != LLM_CRASH_OF_ENGINE)
        return;
    choose_point(point, ways[way].pass, ways[way].engines);
    struct test_daemon daemon;
    test_daemon_start_in(&daemon, "crash",
                         (const char *const[]){"--set", "limits.sequences=8", "--set",
                                               ways[way].kill_first ? "models.echo_step_us=1000"
                                                                    : "models.echo_step_us=0",
                                               NULL});
    run_streams(&daemon, ways[way].surely == FIRST_ENGINE, ways[way].kill_first);
    if (ways[way].surely == scenario_of(point))
        ck_assert_msg(test_daemon_generation(&daemon) > (ways[way].kill_first ? 2 : 1),
                      "%s was never passed", llm_crash_point_name(point));
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(an_engine_that_dies_in_its_recovery_is_recovered_from)
{
    choose_point(LLM_CRASH_req_try, 1, "2"); /* the first engine never passes there */
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
    ck_assert_int_eq(llm_stream_read(stream, &token, NULL, 1, WAIT_NS, &count, &error), LLM_OK);
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
    choose_point(LLM_CRASH_req_token, 1, "2"); /* the first token of all kills the engine, twice */
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

/* ---- The built-in model ---------------------------------------------------------------------------- */

#define MODEL_STREAMS 3
#define MODEL_TOKENS  40

static void ask_model(llm_connection *connection, llm_stream **streams)
{
    llm_error error;
    for (uint32_t i = 0; i < MODEL_STREAMS; i++) {
        uint32_t prompt[40];
        for (uint32_t k = 0; k < 40; k++)
            prompt[k] = 300 + i + k;
        const llm_sampling sampling = {.max_tokens = MODEL_TOKENS,
                                       .temperature = i == 2 ? 0.9F : 0.0F,
                                       .seed = 7,
                                       .has_seed = true,
                                       .ignore_eos = true};
        ck_assert_msg(llm_submit(connection, prompt, 40, &sampling, &streams[i], &error) == LLM_OK,
                      "%s", error.message);
    }
}

static void run_model(const struct test_daemon *daemon, bool kill_first,
                      uint32_t out_tokens[MODEL_STREAMS][MODEL_TOKENS + 1])
{
    llm_connection *connection = test_daemon_connect(daemon);
    llm_stream *streams[MODEL_STREAMS];
    llm_error error;
    uint32_t which;
    ask_model(connection, streams);
    for (uint32_t i = 0; i < MODEL_STREAMS && kill_first; i++)
        ck_assert_int_eq(llm_streams_wait_any(&streams[i], 1, WAIT_NS, &which, &error), LLM_OK);
    if (kill_first)
        test_daemon_kill_engine(daemon);
    for (uint32_t i = 0; i < MODEL_STREAMS; i++) {
        uint32_t total = 0, count;
        do {
            ck_assert_msg(llm_stream_read(streams[i], out_tokens[i] + total, NULL,
                                          MODEL_TOKENS + 1 - total, WAIT_NS, &count,
                                          &error) == LLM_OK,
                          "%s", error.message);
            total += count;
        } while (count > 0);
        ck_assert_uint_eq(total, MODEL_TOKENS);
        llm_stream_close(streams[i]);
    }
    llm_disconnect(connection);
}

static const struct {
    enum llm_crash_point point;
    int pass;
    const char *engines;
    bool kill_first;
} model_ways[] = {
    /* each point that only a model passes */
    {LLM_CRASH_weights_begin, 1, "1", false},
    {LLM_CRASH_weights_bytes, 1, "2", false},
    {LLM_CRASH_weights_commit, 1, "1", false},
    {LLM_CRASH_memory_filled, 1, "2", false},
    {LLM_CRASH_memory_public, 1, "1", false},
    {LLM_CRASH_memory_dropped, 1, "2-2", true},
    /* and some of the others */
    {LLM_CRASH_memory_filled, 2, "1", false},
    {LLM_CRASH_memory_public, 2, "2", false},
    {LLM_CRASH_memory_made, 9, "1", false},
    {LLM_CRASH_block_header, 2, "1", false},
    {LLM_CRASH_block_sealed, 4, "2", false},
    {LLM_CRASH_block_taken, 3, "2-2", true},
    {LLM_CRASH_req_published, 30, "1", false},
    {LLM_CRASH_req_token, 50, "2", false},
    {LLM_CRASH_stream_tokens, 20, "2-2", true},
    {LLM_CRASH_stream_done, 2, "1", false},
    {LLM_CRASH_req_try, 2, "2-2", true},
    {LLM_CRASH_conn_resumed, 1, "2-2", true},
    {LLM_CRASH_ready_ctl, 1, "2-2", true},
};
#ifdef __SANITIZE_ADDRESS__
#define MODEL_WAYS 6
#else
#define MODEL_WAYS ((int)(sizeof model_ways / sizeof model_ways[0]))
#endif

START_TEST(the_model_says_the_same_wherever_the_engine_dies)
{
    static uint32_t undisturbed[MODEL_STREAMS][MODEL_TOKENS + 1];
    static uint32_t disturbed[MODEL_STREAMS][MODEL_TOKENS + 1];
    const char *const arguments[] = {"--model", "tinynotes", NULL};
    struct test_daemon daemon;
    unsetenv("LLMD_CRASH");
    test_daemon_start_in(&daemon, "crash", arguments);
    run_model(&daemon, false, undisturbed);
    test_daemon_stop(&daemon);

    choose_point(model_ways[_i].point, model_ways[_i].pass, model_ways[_i].engines);
    test_daemon_start_in(&daemon, "crash", arguments);
    run_model(&daemon, model_ways[_i].kill_first, disturbed);
    ck_assert_mem_eq(disturbed, undisturbed, sizeof disturbed);
    ck_assert_msg(test_daemon_generation(&daemon) > (model_ways[_i].kill_first ? 2 : 1),
                  "%s was never passed", llm_crash_point_name(model_ways[_i].point));
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(every_point_of_the_engine_has_a_scenario_that_passes_it)
{
    for (int point = 0; point < LLM_CRASH_POINT_COUNT; point++) {
        enum scenario scenario = scenario_of((enum llm_crash_point)point);
        bool found = llm_crash_point_who((enum llm_crash_point)point) != LLM_CRASH_OF_ENGINE ||
                     scenario == FIRST_ENGINE || scenario == SECOND_ENGINE || scenario == CONTEXTS;
        for (int way = 0; way < MODEL_WAYS; way++)
            found |= (int)model_ways[way].point == point;
        ck_assert_msg(found, "%s: no scenario passes it",
                      llm_crash_point_name((enum llm_crash_point)point));
    }
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
    tcase_add_loop_test(tcase, the_model_says_the_same_wherever_the_engine_dies, 0, MODEL_WAYS);
    tcase_add_test(tcase, every_point_of_the_engine_has_a_scenario_that_passes_it);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
