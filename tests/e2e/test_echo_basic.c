/*
 * test_echo_basic.c - one client and the echo: answers, refusals with their sentences, cancels.
 * How: every test starts its own daemon in a directory of its own.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/feature.h"
#include "tests/support/daemon.h"

#define SECOND UINT64_C(1000000000)

static struct test_daemon server;
static llm_connection *connection;
static llm_error error;

static void open_with(const char *const *arguments)
{
    test_daemon_start(&server, arguments);
    connection = test_daemon_connect(&server);
}

static void setup(void)
{
    open_with(NULL);
}

static void setup_slow(void)
{
    open_with((const char *const[]){"--set", "models.echo_step_us=20000", NULL});
}

static void teardown(void)
{
    llm_disconnect(connection);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}

static llm_stream *submit(const uint32_t *prompt, uint32_t prompt_tokens,
                          const llm_sampling *sampling)
{
    llm_stream *stream = NULL;
    ck_assert_msg(llm_submit(connection, prompt, prompt_tokens, sampling, &stream, &error) ==
                      LLM_OK,
                  "%s", error.message);
    return stream;
}

static const uint32_t lengths[] = {1, 15, 16, 17, 255, 256, 257, 1000, 5000};

START_TEST(an_answer_repeats_the_prompt)
{
    uint32_t prompt_tokens = lengths[_i];
    uint32_t *prompt = malloc(prompt_tokens * sizeof *prompt);
    for (uint32_t i = 0; i < prompt_tokens; i++)
        prompt[i] = (i * 7919 + 13) % 65536;
    llm_stream *stream = submit(prompt, prompt_tokens, &(llm_sampling){.max_tokens = 300});
    ck_assert_uint_eq(test_read_echo(stream, prompt, prompt_tokens, LLM_OK), 300);
    llm_stream_info info;
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert_int_eq(info.finish, LLM_FINISHED_LENGTH);
    ck_assert_uint_eq(info.prompt_tokens, prompt_tokens);
    ck_assert_uint_ne(info.request_id, 0);
    llm_stream_close(stream);
    free(prompt);
}
END_TEST

START_TEST(the_same_prompt_again_is_cached)
{
    uint32_t prompt[100];
    for (uint32_t i = 0; i < 100; i++)
        prompt[i] = 1000 + i;
    llm_stream_info info;
    for (int round = 0; round < 2; round++) {
        llm_stream *stream = submit(prompt, 100, &(llm_sampling){.max_tokens = 3});
        ck_assert_uint_eq(test_read_echo(stream, prompt, 100, LLM_OK), 3);
        ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
        ck_assert_uint_eq(info.cached_tokens, round == 0 ? 0 : 99); /* the last one's logits */
        llm_stream_close(stream);
    }
}
END_TEST

START_TEST(a_stop_id_is_the_last_token)
{
    const uint32_t prompt[] = {5, 6, 7, 8}, stop = 7;
    llm_stream *stream =
        submit(prompt, 4, &(llm_sampling){.max_tokens = 50, .stop_ids = &stop, .stop_id_count = 1});
    ck_assert_uint_eq(test_read_echo(stream, prompt, 4, LLM_OK), 3);
    llm_stream_info info;
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert_int_eq(info.finish, LLM_FINISHED_STOP_ID);
    llm_stream_close(stream);
}
END_TEST

START_TEST(an_answer_ends_where_the_context_ends)
{
    uint32_t prompt[8190];
    for (uint32_t i = 0; i < 8190; i++)
        prompt[i] = i;
    llm_stream *stream = submit(prompt, 8190, &(llm_sampling){.max_tokens = 1000});
    ck_assert_uint_eq(test_read_echo(stream, prompt, 8190, LLM_OK), 2);
    llm_stream_info info;
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert_int_eq(info.finish, LLM_FINISHED_CONTEXT);
    llm_stream_close(stream);
}
END_TEST

static void assert_refused(const uint32_t *prompt, uint32_t prompt_tokens,
                           const llm_sampling *sampling, enum llm_status status,
                           const char *sentence)
{
    llm_stream *stream = submit(prompt, prompt_tokens, sampling);
    uint32_t token, count;
    ck_assert_int_eq(llm_stream_read(stream, &token, NULL, 1, 10 * SECOND, &count, &error), status);
    ck_assert_msg(strstr(error.message, sentence) != NULL, "\"%s\" lacks \"%s\"", error.message,
                  sentence);
    llm_stream_close(stream);
}

START_TEST(a_wrong_request_is_refused_with_a_sentence)
{
    static uint32_t prompt[9120] = {1, 2, 3};
    const char *stops[] = {"end"};
    llm_sampling plain = {.max_tokens = 4};
    assert_refused(prompt, 9120, &plain, LLM_ERR_LIMIT,
                   "prompt of 9 120 tokens does not fit the model's context of 8 192");
    assert_refused(prompt, 8192, &plain, LLM_ERR_LIMIT,
                   "prompt of 8 192 tokens fills the model's context");
    prompt[2] = 65536;
    assert_refused(prompt, 3, &plain, LLM_ERR_INVALID, "prompt token 2 is 65536");
    prompt[2] = 3;
    assert_refused(prompt, 3, &(llm_sampling){.max_tokens = 4, .model = "gpt-9"}, LLM_ERR_NOT_FOUND,
                   "model \"gpt-9\" is not loaded");
    assert_refused(prompt, 3,
                   &(llm_sampling){.max_tokens = 4, .stop_strings = stops, .stop_string_count = 1},
                   LLM_ERR_UNSUPPORTED, "model \"echo\" has no text");
}
END_TEST

START_TEST(a_cancelled_request_keeps_its_tokens)
{
    const uint32_t prompt[] = {9, 8, 7};
    llm_stream *stream = submit(prompt, 3, &(llm_sampling){.max_tokens = 5000});
    uint32_t tokens[4], count;
    ck_assert_int_eq(llm_stream_read(stream, tokens, NULL, 1, 10 * SECOND, &count, &error), LLM_OK);
    ck_assert_uint_eq(tokens[0], 9);
    llm_stream_cancel(stream);
    enum llm_status status;
    do
        status = llm_stream_read(stream, tokens, NULL, 4, 10 * SECOND, &count, &error);
    while (status == LLM_OK && count > 0);
    llm_stream_info info;
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert_int_eq(info.finish, LLM_FINISHED_CANCELLED);
    ck_assert_uint_lt(info.output_tokens, 5000);
    llm_stream_close(stream);
}
END_TEST

START_TEST(a_request_is_cancelled_by_its_id)
{
    const uint32_t prompt[] = {9, 8, 7};
    llm_stream *stream = submit(prompt, 3, &(llm_sampling){.max_tokens = 5000});
    uint32_t token, count;
    ck_assert_int_eq(llm_stream_read(stream, &token, NULL, 1, 10 * SECOND, &count, &error), LLM_OK);
    llm_stream_info info;
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert_int_eq(llm_request_cancel(connection, info.request_id, 10 * SECOND, &error), LLM_OK);
    ck_assert_int_eq(llm_request_cancel(connection, info.request_id, 10 * SECOND, &error),
                     LLM_ERR_NOT_FOUND);
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert_int_eq(info.finish, LLM_FINISHED_CANCELLED);
    llm_stream_close(stream);
}
END_TEST

START_TEST(a_deadline_ends_a_request)
{
    const uint32_t prompt[] = {1, 2};
    llm_stream *stream =
        submit(prompt, 2, &(llm_sampling){.max_tokens = 5000, .timeout_ns = SECOND / 5});
    uint32_t tokens = test_read_echo(stream, prompt, 2, LLM_ERR_TIMEOUT);
    ck_assert_uint_gt(tokens, 0);
    ck_assert_uint_lt(tokens, 5000);
    llm_stream_close(stream);
}
END_TEST

START_TEST(many_streams_of_one_connection_run_together)
{
    llm_stream *streams[40];
    uint32_t prompts[40][3];
    for (uint32_t i = 0; i < 40; i++) {
        for (uint32_t k = 0; k < 3; k++)
            prompts[i][k] = i * 100 + k;
        streams[i] = submit(prompts[i], 3, &(llm_sampling){.max_tokens = 100 + i});
    }
    for (uint32_t i = 0; i < 40; i++) {
        ck_assert_uint_eq(test_read_echo(streams[i], prompts[i], 3, LLM_OK), 100 + i);
        llm_stream_close(streams[i]);
    }
    ck_assert_int_eq(llm_ping(connection, 10 * SECOND, &error), LLM_OK);
}
END_TEST

/* The engine itself writes the line, so this also shows that LLMD_DISABLE reaches it. */
START_TEST(the_log_says_how_the_engine_parks)
{
    char log[4096];
    FILE *file = fopen(server.log, "r");
    ck_assert_ptr_nonnull(file);
    log[fread(log, 1, sizeof log - 1, file)] = '\0';
    fclose(file);
    if (llm_feature_disabled("io_uring"))
        ck_assert_ptr_nonnull(
            strstr(log, "parking by=epoll reason=\"LLMD_DISABLE names io_uring\""));
    else
        ck_assert_msg(strstr(log, "parking by=io_uring\n") ||
                          strstr(log, "parking by=epoll reason="),
                      "%s", log);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/echo_basic");
    TCase *fast = tcase_create("fast");
    tcase_add_checked_fixture(fast, setup, teardown);
    tcase_set_timeout(fast, 100);
    tcase_add_loop_test(fast, an_answer_repeats_the_prompt, 0, sizeof lengths / sizeof lengths[0]);
    tcase_add_test(fast, the_same_prompt_again_is_cached);
    tcase_add_test(fast, a_stop_id_is_the_last_token);
    tcase_add_test(fast, an_answer_ends_where_the_context_ends);
    tcase_add_test(fast, a_wrong_request_is_refused_with_a_sentence);
    tcase_add_test(fast, many_streams_of_one_connection_run_together);
    tcase_add_test(fast, the_log_says_how_the_engine_parks);
    suite_add_tcase(suite, fast);
    TCase *slow = tcase_create("slow steps");
    tcase_add_checked_fixture(slow, setup_slow, teardown);
    tcase_set_timeout(slow, 100);
    tcase_add_test(slow, a_cancelled_request_keeps_its_tokens);
    tcase_add_test(slow, a_request_is_cancelled_by_its_id);
    tcase_add_test(slow, a_deadline_ends_a_request);
    suite_add_tcase(suite, slow);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
