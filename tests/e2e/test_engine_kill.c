/*
 * test_engine_kill.c - kill -9 the engine in the middle of everything: clients see a pause and nothing else.
 * How: eight streams that take a second or two; the engine is killed at moments drawn from LLM_TEST_SEED. Every
 * token must be there once and be the right one, with an echo by knowing the answer, with a model by comparing
 * with an undisturbed run.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/daemon.h"
#include "tests/support/test_seed.h"

#define STREAMS 8

static uint64_t seed;

static void kill_repeatedly(const struct test_daemon *daemon, int kills, uint64_t *random)
{
    for (int i = 0; i < kills; i++) {
        uint64_t generation = test_daemon_generation(daemon);
        test_daemon_kill_engine(daemon);
        test_daemon_wait_generation(daemon, generation + 1);
        test_sleep_ms(30 + (unsigned)(test_random(random) % 60));
    }
}

START_TEST(an_echo_goes_on_token_for_token)
{
    seed = test_seed();
    uint64_t random = seed;
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--set", "models.echo_step_us=2000", "--set",
                                                     "limits.engine_deaths=1000", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    llm_stream *streams[STREAMS];
    uint32_t prompts[STREAMS][50];
    llm_error error;
    for (uint32_t i = 0; i < STREAMS; i++) {
        for (uint32_t k = 0; k < 50; k++)
            prompts[i][k] = i * 50 + k;
        ck_assert_int_eq(llm_submit(connection, prompts[i], 50,
                                    &(llm_sampling){.max_tokens = 400 + i}, &streams[i], &error),
                         LLM_OK);
    }
    test_sleep_ms(50);
    kill_repeatedly(&daemon, 8, &random);
    for (uint32_t i = 0; i < STREAMS; i++) {
        ck_assert_msg(test_read_echo(streams[i], prompts[i], 50, LLM_OK) == 400 + i,
                      "seed %llu: stream %u is short", (unsigned long long)seed, i);
        llm_stream_close(streams[i]);
    }
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    ck_assert_uint_ge(test_daemon_generation(&daemon), 9);
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(an_engine_replaced_by_an_administrator_loses_nothing)
{
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--set", "models.echo_step_us=2000", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    const uint32_t prompt[] = {3, 1, 4, 1, 5};
    llm_stream *stream;
    llm_error error;
    ck_assert_int_eq(
        llm_submit(connection, prompt, 5, &(llm_sampling){.max_tokens = 300}, &stream, &error),
        LLM_OK);
    for (uint64_t generation = 2; generation <= 8; generation++) { /* more than engine_deaths */
        test_sleep_ms(20);
        ck_assert_int_eq(llm_daemon_restart_engine(connection, &error), LLM_OK);
        test_daemon_wait_generation(&daemon, generation);
    }
    ck_assert_uint_eq(test_read_echo(stream, prompt, 5, LLM_OK), 300);
    llm_stream_close(stream);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(an_engine_that_dies_too_often_is_given_up_with_a_sentence)
{
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--set", "limits.engine_deaths=3", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    for (uint64_t generation = 1; generation <= 3; generation++) {
        test_daemon_wait_generation(&daemon, generation);
        test_daemon_kill_engine(&daemon);
    }
    while (atomic_load(&daemon.status->keeper.daemon_state) != LLM_DAEMON_FAILED)
        test_sleep_ms(2);
    llm_connection *second = NULL;
    llm_error error;
    const llm_connect_options options = {.socket = daemon.socket, .no_autostart = true};
    ck_assert_int_ne(llm_connect(&second, &options, &error), LLM_OK);
    ck_assert_msg(strstr(error.message, "died 3 times within 60 s") != NULL, "%s", error.message);
    ck_assert_int_eq(llm_daemon_restart_engine(connection, &error), LLM_OK);
    test_daemon_wait_generation(&daemon, 4);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

/* ---- A model --------------------------------------------------------------------------------------- */

static const char *model_directory(void)
{
    static char path[512];
    const char *data = getenv("LLM_TESTDATA");
    if (!data)
        return NULL;
    snprintf(path, sizeof path, "%s/models/stories260K/hf-f32", data);
    return path;
}

#define MODEL_TOKENS 250

static void ask_model(llm_connection *connection, llm_stream **streams)
{
    llm_error error;
    for (uint32_t i = 0; i < STREAMS; i++) {
        const uint32_t prompt[] = {1, 403 - i};
        const llm_sampling sampling = {.max_tokens = MODEL_TOKENS,
                                       .temperature = i % 2 ? 0.8F : 0.0F,
                                       .seed = i,
                                       .has_seed = true,
                                       .logprobs = true,
                                       .ignore_eos = true};
        ck_assert_msg(llm_submit(connection, prompt, 2, &sampling, &streams[i], &error) == LLM_OK,
                      "%s", error.message);
    }
}

static void read_model(llm_stream *stream, uint32_t *out_tokens, float *out_logprobs)
{
    uint32_t total = 0, count;
    llm_error error;
    do {
        ck_assert_msg(llm_stream_read(stream, out_tokens + total, out_logprobs + total,
                                      MODEL_TOKENS + 1 - total, UINT64_C(60000000000), &count,
                                      &error) == LLM_OK,
                      "%s", error.message);
        total += count;
    } while (count > 0);
    ck_assert_uint_eq(total, MODEL_TOKENS);
    llm_stream_close(stream);
}

START_TEST(a_model_goes_on_bit_for_bit)
{
    seed = test_seed();
    uint64_t random = seed;
    static uint32_t tokens[2][STREAMS][MODEL_TOKENS + 1];
    static float logprobs[2][STREAMS][MODEL_TOKENS + 1];
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--model", model_directory(), "--set",
                                                     "limits.engine_deaths=1000", "--set",
                                                     "limits.step_tokens=16", "--set",
                                                     "limits.sequences=8", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    for (int run = 0; run < 2; run++) {
        llm_stream *streams[STREAMS];
        ask_model(connection, streams);
        if (run == 1)
            kill_repeatedly(&daemon, 3, &random);
        for (uint32_t i = 0; i < STREAMS; i++)
            read_model(streams[i], tokens[run][i], logprobs[run][i]);
    }
    ck_assert_msg(memcmp(tokens[0], tokens[1], sizeof tokens[0]) == 0 &&
                      memcmp(logprobs[0], logprobs[1], sizeof logprobs[0]) == 0,
                  "seed %llu: the answers differ", (unsigned long long)seed);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/engine_kill");
    TCase *tcase = tcase_create("kill");
    tcase_set_timeout(tcase, 110);
    tcase_add_test(tcase, an_echo_goes_on_token_for_token);
    tcase_add_test(tcase, an_engine_replaced_by_an_administrator_loses_nothing);
    tcase_add_test(tcase, an_engine_that_dies_too_often_is_given_up_with_a_sentence);
    if (model_directory())
        tcase_add_test(tcase, a_model_goes_on_bit_for_bit);
    else
        printf("without the model: LLM_TESTDATA is not set\n");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
