/*
 * test_model.c - a real (tiny) model through the daemon: text, stop strings, sampling, batches, other models.
 * How: stories260K of the test data. Token bytes come from the vocab image that the daemon publishes; what an
 * answer must be comes from other answers of the same daemon (alone or together, interrupted or not).
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/vocab_image.h"
#include "tests/support/daemon.h"

#define MINUTE     UINT64_C(60000000000)
#define TOKENS_MAX 200

static struct test_daemon server;
static llm_connection *connection;
static llm_error error;
static struct llm_vocab_view vocab;
static const void *image;
static size_t image_bytes;
static const uint32_t prompt[] = {1, 403, 407}; /* begin of text, and a bit of text */

struct answer {
    uint32_t tokens[TOKENS_MAX];
    float logprobs[TOKENS_MAX];
    uint32_t count;
    llm_stream_info info;
    char text[TOKENS_MAX * 16];
};

static void setup(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/models/stories260K/hf-f32", getenv("LLM_TESTDATA"));
    test_daemon_start(&server,
                      (const char *const[]){"--model", path, "--set", "limits.step_tokens=24",
                                            "--set", "limits.sequences=24", NULL});
    connection = test_daemon_connect(&server);
    ck_assert_msg(llm_memory_map(connection, "vocab", &image, &image_bytes, &error) == LLM_OK, "%s",
                  error.message);
    ck_assert_msg(llm_vocab_image_check(image, image_bytes, &vocab, &error) == LLM_OK, "%s",
                  error.message);
}

static void teardown(void)
{
    llm_memory_unmap(image, image_bytes);
    llm_disconnect(connection);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}

static llm_stream *start(const llm_sampling *sampling)
{
    llm_stream *stream = NULL;
    ck_assert_msg(llm_submit(connection, prompt, 3, sampling, &stream, &error) == LLM_OK, "%s",
                  error.message);
    return stream;
}

static void append_text(struct answer *answer, uint32_t token)
{
    size_t bytes, used = strlen(answer->text);
    const uint8_t *text = llm_vocab_token(&vocab, token, &bytes);
    ck_assert_uint_lt(used + bytes, sizeof answer->text);
    memcpy(answer->text + used, text, bytes);
    answer->text[used + bytes] = '\0';
}

static void collect(llm_stream *stream, struct answer *answer)
{
    memset(answer, 0, sizeof *answer);
    uint32_t count;
    do {
        ck_assert_msg(llm_stream_read(
                          stream, answer->tokens + answer->count, answer->logprobs + answer->count,
                          TOKENS_MAX + 1 - answer->count, MINUTE, &count, &error) == LLM_OK,
                      "%s", error.message);
        answer->count += count;
    } while (count > 0);
    ck_assert_int_eq(llm_stream_describe(stream, &answer->info, &error), LLM_OK);
    llm_stream_close(stream);
    for (uint32_t i = 0; i < answer->count; i++)
        append_text(answer, answer->tokens[i]);
}

static void ask(const llm_sampling *sampling, struct answer *answer)
{
    collect(start(sampling), answer);
}

START_TEST(a_stop_string_ends_the_answer_in_the_token_that_completes_it)
{
    static struct answer whole, stopped;
    ask(&(llm_sampling){.max_tokens = 120, .ignore_eos = true}, &whole);
    ck_assert_uint_eq(whole.count, 120);
    char stop[12] = ""; /* crosses tokens, which are a few bytes each */
    memcpy(stop, whole.text + strlen(whole.text) / 2, sizeof stop - 1);
    const char *stops[] = {"never in any story", stop};
    llm_stream *stream = start(&(llm_sampling){
        .max_tokens = 120, .ignore_eos = true, .stop_strings = stops, .stop_string_count = 2});
    if (_i == 1) /* its tail must survive the engine */
        test_daemon_kill_engine(&server);
    collect(stream, &stopped);
    ck_assert_int_eq(stopped.info.finish, LLM_FINISHED_STOP_STRING);
    ck_assert_uint_lt(stopped.count, 120);
    ck_assert_mem_eq(stopped.tokens, whole.tokens, stopped.count * sizeof *stopped.tokens);
    const char *found = strstr(stopped.text, stop);
    size_t last_bytes;
    llm_vocab_token(&vocab, stopped.tokens[stopped.count - 1], &last_bytes);
    ck_assert_ptr_nonnull(found);
    ck_assert_uint_gt((size_t)(found - stopped.text) + strlen(stop),
                      strlen(stopped.text) - last_bytes);
}
END_TEST

START_TEST(an_answer_is_the_same_alone_and_in_company)
{
    static struct answer alone[8], together[8];
    llm_sampling sampling[8];
    llm_stream *streams[8];
    for (uint32_t i = 0; i < 8; i++) {
        sampling[i] = (llm_sampling){.max_tokens = 60 + 10 * i,
                                     .temperature = i < 2 ? 0.0F : 0.9F,
                                     .top_k = i == 3 ? 20 : 0,
                                     .top_p = i == 4 ? 0.8F : 0.0F,
                                     .min_p = i == 5 ? 0.1F : 0.0F,
                                     .seed = 1000 + i,
                                     .has_seed = true,
                                     .logprobs = true,
                                     .ignore_eos = true};
        ask(&sampling[i], &alone[i]);
    }
    for (uint32_t i = 0; i < 8; i++)
        streams[i] = start(&sampling[i]);
    for (uint32_t i = 0; i < 8; i++) {
        collect(streams[i], &together[i]);
        ck_assert_uint_eq(together[i].count, alone[i].count);
        ck_assert_mem_eq(together[i].tokens, alone[i].tokens, alone[i].count * sizeof(uint32_t));
        ck_assert_mem_eq(together[i].logprobs, alone[i].logprobs, alone[i].count * sizeof(float));
        for (uint32_t k = 0; k < alone[i].count; k++)
            ck_assert(alone[i].logprobs[k] <= 0 && !isnan(alone[i].logprobs[k]));
    }
}
END_TEST

START_TEST(a_drawn_seed_gives_the_same_answer_when_it_is_asked_for)
{
    static struct answer drawn, again;
    ask(&(llm_sampling){.max_tokens = 50, .temperature = 1.0F, .ignore_eos = true}, &drawn);
    ask(&(llm_sampling){.max_tokens = 50,
                        .temperature = 1.0F,
                        .ignore_eos = true,
                        .seed = drawn.info.seed,
                        .has_seed = true},
        &again);
    ck_assert_mem_eq(drawn.tokens, again.tokens, 50 * sizeof(uint32_t));
}
END_TEST

START_TEST(echo_is_served_beside_the_model)
{
    llm_stream *story = start(&(llm_sampling){.max_tokens = 150, .ignore_eos = true});
    llm_stream *echo = start(&(llm_sampling){.max_tokens = 100, .model = "echo"});
    ck_assert_uint_eq(test_read_echo(echo, prompt, 3, LLM_OK), 100);
    llm_stream_close(echo);
    static struct answer answer;
    collect(story, &answer);
    ck_assert_uint_eq(answer.count, 150);
}
END_TEST

START_TEST(the_answer_ends_with_the_models_context)
{
    static uint32_t ids[505];
    for (uint32_t i = 0; i < 505; i++)
        ids[i] = 1 + i % 400;
    llm_stream *stream;
    ck_assert_int_eq(llm_submit(connection, ids, 505,
                                &(llm_sampling){.max_tokens = TOKENS_MAX, .ignore_eos = true},
                                &stream, &error),
                     LLM_OK);
    static struct answer answer;
    collect(stream, &answer);
    ck_assert_uint_eq(answer.count, 512 - 505);
    ck_assert_int_eq(answer.info.finish, LLM_FINISHED_CONTEXT);
}
END_TEST

int main(void)
{
    if (!getenv("LLM_TESTDATA")) {
        printf("skipped: LLM_TESTDATA does not name the test data\n");
        return 77;
    }
    Suite *suite = suite_create("e2e/model");
    TCase *tcase = tcase_create("stories260K");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 100);
    tcase_add_loop_test(tcase, a_stop_string_ends_the_answer_in_the_token_that_completes_it, 0, 2);
    tcase_add_test(tcase, an_answer_is_the_same_alone_and_in_company);
    tcase_add_test(tcase, a_drawn_seed_gives_the_same_answer_when_it_is_asked_for);
    tcase_add_test(tcase, echo_is_served_beside_the_model);
    tcase_add_test(tcase, the_answer_ends_with_the_models_context);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
