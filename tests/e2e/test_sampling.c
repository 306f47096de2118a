/*
 * test_sampling.c - the whole path of steered requests: through libllm, a real daemon, and engines that die.
 * How: answers of the built-in model are held against what their log-probabilities and likeliest tokens say about them.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/llm.h"
#include "tests/support/daemon.h"

#define WAIT_NS    UINT64_C(60000000000)
#define TOKENS_MAX 300
#define TOP        5
#define EOS        2u /* of tinynotes */

static struct test_daemon server;
static llm_connection *connection;
static llm_error error;
static const uint32_t prompt[] = {1, 300, 301, 302, 303};
#define PROMPT_TOKENS 5

struct answer {
    uint32_t count;
    uint32_t tokens[TOKENS_MAX + 1];
    float logprobs[TOKENS_MAX + 1];
    llm_top_logprob tops[TOKENS_MAX][TOP];
    llm_sampling_in_force in_force;
    llm_stream_info info;
};

#define MUST(call) ck_assert_msg((call) == LLM_OK, "%s", error.message)

static void setup(void)
{
    test_daemon_start(&server, (const char *const[]){"--model", "tinynotes", "--set",
                                                     "limits.engine_deaths=1000", NULL});
    connection = test_daemon_connect(&server);
}

static void teardown(void)
{
    llm_disconnect(connection);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
}

/* A start for every test: greedy, to the end of max_tokens. */
static llm_sampling_more more_of(uint32_t max_tokens)
{
    return (llm_sampling_more){.sampling = {.max_tokens = max_tokens,
                                            .ignore_eos = true,
                                            .has_seed = true,
                                            .seed = 11,
                                            .more_bytes = sizeof(llm_sampling_more)}};
}

static llm_stream *start(const llm_sampling *sampling)
{
    llm_stream *stream = NULL;
    MUST(llm_submit(connection, prompt, PROMPT_TOKENS, sampling, &stream, &error));
    return stream;
}

static void collect(llm_stream *stream, bool with_tops, struct answer *out)
{
    uint32_t count, found;
    *out = (struct answer){0};
    do {
        MUST(llm_stream_read(stream, out->tokens + out->count, out->logprobs + out->count,
                             TOKENS_MAX + 1 - out->count, WAIT_NS, &count, &error));
        out->count += count;
    } while (count > 0);
    for (uint32_t i = 0; i < out->count && with_tops; i++) {
        MUST(llm_stream_tops(stream, i, out->tops[i], TOP, &found, &error));
        ck_assert_uint_eq(found, TOP);
    }
    MUST(llm_stream_sampling(stream, &out->in_force, &error));
    MUST(llm_stream_describe(stream, &out->info, &error));
    llm_stream_close(stream);
}

static void ask(const llm_sampling_more *more, struct answer *out)
{
    collect(start(&more->sampling), more->top_logprobs == TOP, out);
}

static void assert_same(const struct answer *a, const struct answer *b)
{
    ck_assert_uint_eq(a->count, b->count);
    ck_assert_mem_eq(a->tokens, b->tokens, a->count * sizeof *a->tokens);
    ck_assert_mem_eq(a->logprobs, b->logprobs, a->count * sizeof *a->logprobs);
    ck_assert_mem_eq(a->tops, b->tops, a->count * sizeof a->tops[0]);
}

static uint32_t times_in(const struct answer *answer, uint32_t token)
{
    uint32_t times = 0;
    for (uint32_t i = 0; i < answer->count; i++)
        times += answer->tokens[i] == token;
    return times;
}

static uint32_t distinct(const struct answer *answer)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < answer->count; i++) {
        uint32_t k = 0;
        while (answer->tokens[k] != answer->tokens[i])
            k++;
        count += k == i;
    }
    return count;
}

/* ---- The likeliest ---------------------------------------------------------------------------------- */

START_TEST(the_likeliest_of_a_greedy_answer_is_its_token)
{
    static struct answer answer;
    llm_sampling_more more = more_of(60);
    more.sampling.logprobs = true;
    more.top_logprobs = TOP;
    ask(&more, &answer);
    ck_assert_uint_eq(answer.count, 60);
    for (uint32_t i = 0; i < answer.count; i++) {
        ck_assert_uint_eq(answer.tops[i][0].token, answer.tokens[i]);
        ck_assert_mem_eq(&answer.tops[i][0].logprob, &answer.logprobs[i], sizeof(float));
        for (int k = 1; k < TOP; k++)
            ck_assert(answer.tops[i][k].logprob <= answer.tops[i][k - 1].logprob);
    }
}
END_TEST

START_TEST(who_did_not_ask_for_the_likeliest_has_none)
{
    llm_top_logprob top;
    uint32_t count;
    llm_sampling_more more = more_of(3);
    llm_stream *stream = start(&more.sampling);
    ck_assert_int_eq(llm_stream_tops(stream, 0, &top, 1, &count, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message,
                     "the request did not ask for the likeliest tokens (top_logprobs)");
    llm_stream_close(stream);
    more.top_logprobs = 1;
    ck_assert_int_eq(llm_submit(connection, prompt, PROMPT_TOKENS, &more.sampling, &stream, &error),
                     LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "top_logprobs is 1, but no log-probabilities are asked for");
    more.sampling.logprobs = true;
    stream = start(&more.sampling);
    static struct answer answer;
    collect(stream, false, &answer);
    stream = start(&more.sampling);
    uint32_t which;
    MUST(llm_streams_wait_any(&stream, 1, WAIT_NS, &which, &error));
    ck_assert_int_eq(llm_stream_tops(stream, 3, &top, 1, &count, &error), LLM_ERR_INVALID);
    llm_stream_close(stream);
}
END_TEST

/* ---- Steering --------------------------------------------------------------------------------------- */

START_TEST(banned_and_allowed_ids_are_kept_to)
{
    static struct answer free_answer, banned, allowed;
    llm_sampling_more more = more_of(60);
    ask(&more, &free_answer);
    more.banned_ids = &free_answer.tokens[3];
    more.banned_id_count = 1;
    ask(&more, &banned);
    ck_assert_uint_eq(times_in(&banned, free_answer.tokens[3]), 0);
    ck_assert_mem_eq(banned.tokens, free_answer.tokens, sizeof(uint32_t)); /* until it matters */
    const uint32_t few[] = {400, 401, 402};
    more = more_of(60);
    more.sampling.temperature = 1;
    more.allowed_ids = few;
    more.allowed_id_count = 3;
    ask(&more, &allowed);
    ck_assert_uint_eq(times_in(&allowed, 400) + times_in(&allowed, 401) + times_in(&allowed, 402),
                      60);
}
END_TEST

START_TEST(a_bias_pulls_and_pushes)
{
    static struct answer answer;
    const llm_logit_bias biases[] = {{417, 100}};
    llm_sampling_more more = more_of(20);
    more.biases = biases;
    more.bias_count = 1;
    ask(&more, &answer);
    ck_assert_uint_eq(times_in(&answer, 417), 20);
    more.frequency_penalty = 30; /* after at most four of them another one leads */
    ask(&more, &answer);
    ck_assert_uint_lt(times_in(&answer, 417), 20);
    ck_assert_uint_gt(times_in(&answer, 417), 0);
}
END_TEST

START_TEST(penalties_make_answers_more_varied)
{
    static struct answer plain, repetition, presence;
    llm_sampling_more more = more_of(150);
    ask(&more, &plain);
    more.repetition_penalty = 5;
    ask(&more, &repetition);
    more = more_of(150);
    more.presence_penalty = 100; /* nothing is said twice while there are other tokens */
    ask(&more, &presence);
    ck_assert_uint_gt(distinct(&repetition), distinct(&plain));
    ck_assert_uint_eq(distinct(&presence), 150);
}
END_TEST

START_TEST(an_answer_does_not_end_before_its_least_length)
{
    static struct answer answer;
    const llm_logit_bias to_the_end[] = {{EOS, 100}};
    llm_sampling_more more = more_of(60);
    more.sampling.ignore_eos = false;
    more.biases = to_the_end;
    more.bias_count = 1;
    ask(&more, &answer);
    ck_assert_uint_eq(answer.count, 1);
    ck_assert_uint_eq(answer.tokens[0], EOS);
    more.min_tokens = 17;
    ask(&more, &answer);
    ck_assert_uint_eq(answer.count, 18);
    ck_assert_uint_eq(answer.tokens[17], EOS);
    ck_assert_uint_eq(times_in(&answer, EOS), 1);
    ck_assert_int_eq(answer.info.finish, LLM_FINISHED_STOP_ID);
}
END_TEST

START_TEST(what_the_model_cannot_do_is_said_in_the_answer)
{
    llm_sampling_more more = more_of(5);
    const uint32_t beyond[] = {1u << 20};
    uint32_t token, count;
    more.banned_ids = beyond;
    more.banned_id_count = 1;
    llm_stream *stream = start(&more.sampling); /* only the engine knows the vocabulary */
    ck_assert_int_eq(llm_stream_read(stream, &token, NULL, 1, WAIT_NS, &count, &error),
                     LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "banned id 0 is 1048576; ids are 0.."));
    llm_sampling_in_force in_force;
    ck_assert_int_eq(llm_stream_sampling(stream, &in_force, &error), LLM_ERR_NOT_FOUND);
    llm_stream_close(stream);
    more.sampling.more_bytes = 8;
    ck_assert_int_eq(llm_submit(connection, prompt, PROMPT_TOKENS, &more.sampling, &stream, &error),
                     LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "more_bytes is 8: it must be 0 or "));
}
END_TEST

/* ---- The same, whatever happens ---------------------------------------------------------------------- */

static const llm_logit_bias some_biases[] = {{310, 1.5F}, {311, -2}};
static const uint32_t some_banned[] = {320, 321, 322, 323};

static llm_sampling_more everything(uint32_t i)
{
    llm_sampling_more more = more_of(120);
    more.sampling.logprobs = true;
    more.sampling.temperature = i % 2 ? 0.9F : 1.3F;
    more.sampling.branch = i;
    more.sampling.top_p = i == 3 ? 0.9F : 0;
    more.typical_p = i == 1 ? 0.7F : 0;
    more.repetition_penalty = i == 2 ? 1.3F : 0;
    more.presence_penalty = i == 4 ? 0.6F : 0;
    more.frequency_penalty = i >= 4 ? 0.4F : 0;
    more.min_tokens = 10 * i;
    more.top_logprobs = TOP;
    more.biases = some_biases;
    more.bias_count = 2;
    more.banned_ids = some_banned;
    more.banned_id_count = i;
    return more;
}

#define KINDS 4

START_TEST(steered_answers_are_the_same_alone_in_company_and_after_deaths)
{
    static struct answer alone[KINDS], together[KINDS];
    llm_stream *streams[KINDS];
    uint32_t which;
    for (uint32_t i = 0; i < KINDS; i++) {
        llm_sampling_more more = everything(i + 1);
        ask(&more, &alone[i]);
    }
    for (int kills = 0; kills < 3; kills++) {
        for (uint32_t i = 0; i < KINDS; i++) {
            llm_sampling_more more = everything(i + 1);
            streams[i] = start(&more.sampling);
        }
        for (int k = 0; k < kills; k++) {
            for (uint32_t i = 0; i < KINDS; i++) /* a token each: none is a suspect */
                MUST(llm_streams_wait_any(&streams[i], 1, WAIT_NS, &which, &error));
            test_daemon_kill_engine(&server);
        }
        for (uint32_t i = 0; i < KINDS; i++) {
            collect(streams[i], true, &together[i]);
            assert_same(&together[i], &alone[i]);
        }
    }
}
END_TEST

START_TEST(scored_tokens_have_their_likeliest_too)
{
    static struct answer answer;
    llm_sampling_more more = more_of(20);
    more.sampling.logprobs = true;
    more.top_logprobs = TOP;
    ask(&more, &answer);
    llm_context *context;
    float scores[20];
    MUST(llm_context_create(connection, NULL, &context, &error));
    MUST(llm_context_append(context, prompt, PROMPT_TOKENS, &error));
    static llm_top_logprob tops[20][TOP];
    MUST(llm_context_score_top(context, answer.tokens, 20, TOP, scores, tops[0], &error));
    ck_assert_mem_eq(scores, answer.logprobs, sizeof scores);
    ck_assert_mem_eq(tops, answer.tops, sizeof tops);
    ck_assert_int_eq(llm_context_score_top(context, answer.tokens, 20, 21, scores, tops[0], &error),
                     LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "top_count is 21: it must be from 0 to 20");
    llm_context_close(context);
}
END_TEST

/* ---- Several answers -------------------------------------------------------------------------------- */

#define ANSWERS 4

START_TEST(several_answers_are_ranked_by_what_the_model_thinks_of_them)
{
    static struct answer answers[ANSWERS];
    llm_stream *streams[ANSWERS];
    llm_ranked ranked[ANSWERS];
    llm_context *context;
    llm_sampling_more more = more_of(30);
    more.sampling.temperature = 1;
    MUST(llm_context_create(connection, NULL, &context, &error));
    MUST(llm_context_append(context, prompt, PROMPT_TOKENS, &error));
    MUST(llm_context_answers(context, NULL, 0, &more.sampling, 1, streams, &error));
    uint32_t token, count;
    MUST(llm_stream_read(streams[0], &token, NULL, 1, WAIT_NS, &count, &error));
    ck_assert_int_eq(llm_streams_rank(streams, 1, LLM_RANK_BY_MEAN, ranked, &error),
                     LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "stream 0 has no log-probabilities");
    llm_stream_close(streams[0]);

    more.sampling.logprobs = true;
    MUST(llm_context_answers(context, &prompt[1], 1, &more.sampling, ANSWERS, streams, &error));
    for (uint32_t i = 0; i < ANSWERS; i++) {
        struct answer *a = &answers[i];
        do {
            MUST(llm_stream_read(streams[i], a->tokens + a->count, a->logprobs + a->count,
                                 TOKENS_MAX - a->count, WAIT_NS, &count, &error));
            a->count += count;
        } while (count > 0);
        ck_assert_uint_eq(a->count, 30);
        for (uint32_t k = 0; k < i; k++)
            ck_assert(memcmp(a->tokens, answers[k].tokens, sizeof a->tokens) != 0);
    }
    MUST(llm_streams_rank(streams, ANSWERS, LLM_RANK_BY_SUM, ranked, &error));
    for (uint32_t i = 0; i < ANSWERS; i++) {
        double sum = 0;
        for (uint32_t k = 0; k < 30; k++)
            sum += (double)answers[ranked[i].stream].logprobs[k];
        ck_assert(fabs(sum - ranked[i].sum) <= 0 && fabs(sum / 30 - ranked[i].mean) < 1e-12);
        ck_assert(i == 0 || ranked[i].sum <= ranked[i - 1].sum);
    }
    MUST(llm_context_keep(context, streams[ranked[0].stream], &error));
    for (uint32_t i = 0; i < ANSWERS; i++)
        llm_stream_close(streams[i]);
    llm_context_info info;
    MUST(llm_context_describe(context, &info, &error));
    ck_assert_uint_eq(info.length, PROMPT_TOKENS + 1 + 30);
    llm_context_close(context);
}
END_TEST

START_TEST(a_branch_takes_no_more_than_its_sampling)
{
    llm_context *context;
    llm_stream *stream;
    MUST(llm_context_create(connection, NULL, &context, &error));
    MUST(llm_context_append(context, prompt, PROMPT_TOKENS, &error));
    const llm_branch branch = {.sampling = {.max_tokens = 3, .more_bytes = 8}};
    ck_assert_int_eq(llm_context_branch(context, &branch, 1, &stream, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "more_bytes of branch 0 is 8: it must be 0; "
                                    "llm_context_answers() takes more");
    llm_context_close(context);
}
END_TEST

/* ---- The model's own defaults ----------------------------------------------------------------------- */

/* A copy of tinynotes whose authors recommend something. */
static void make_model(const char *directory, const char *generation)
{
    char command[1200], path[600];
    snprintf(command, sizeof command, "mkdir -p %s/noted && cp %s/models/tinynotes/* %s/noted/",
             directory, LLM_SOURCE_DIR, directory);
    ck_assert_int_eq(system(command), 0);
    snprintf(path, sizeof path, "%s/noted/generation_config.json", directory);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(generation, file);
    fclose(file);
}

START_TEST(the_models_defaults_hold_unless_the_request_says_otherwise)
{
    static struct answer defaults, same, greedy, again;
    char directory[] = "/tmp/llmd-sampling-XXXXXX", model[300], command[300];
    ck_assert_ptr_nonnull(mkdtemp(directory));
    make_model(directory, "{\"eos_token_id\": 2, \"do_sample\": true, \"temperature\": 0.7, "
                          "\"top_k\": 40, \"top_p\": 0.9, \"repetition_penalty\": 1.1}");
    snprintf(model, sizeof model, "%s/noted", directory);
    test_daemon_start(&server, (const char *const[]){"--model", model, "--set",
                                                     "limits.engine_deaths=1000", NULL});
    connection = test_daemon_connect(&server);
    llm_sampling_more more = more_of(80);
    more.sampling.temperature = 55; /* does not count */
    more.sampling.model_defaults = LLM_DEFAULT_ALL;
    ask(&more, &defaults);
    const llm_sampling_in_force want = {0.7F, 40, 0.9F, 0, 1, 1.1F};
    ck_assert_mem_eq(&defaults.in_force, &want, sizeof want);

    llm_sampling_more plain = more_of(80); /* the same, said by the request */
    plain.sampling.temperature = 0.7F;
    plain.sampling.top_k = 40;
    plain.sampling.top_p = 0.9F;
    plain.repetition_penalty = 1.1F;
    ask(&plain, &same);
    assert_same(&same, &defaults);
    ck_assert_mem_eq(&same.in_force, &want, sizeof want);

    llm_sampling short_one = {.max_tokens = 80, /* without a part for steering */
                              .ignore_eos = true,
                              .has_seed = true,
                              .seed = 11,
                              .model_defaults = LLM_DEFAULT_ALL};
    llm_stream *stream = start(&short_one);
    uint32_t which;
    MUST(llm_streams_wait_any(&stream, 1, WAIT_NS, &which, &error));
    test_daemon_kill_engine(&server); /* what was in force stays in force */
    collect(stream, false, &again);
    assert_same(&again, &defaults);
    ck_assert_mem_eq(&again.in_force, &want, sizeof want);

    more.sampling.model_defaults = LLM_DEFAULT_ALL & ~(uint32_t)LLM_DEFAULT_TEMPERATURE;
    more.sampling.temperature = 0; /* greedy is something that a request can say */
    ask(&more, &greedy);
    ck_assert(greedy.in_force.temperature <= 0);
    ck_assert_uint_eq(greedy.in_force.top_k, 40);
    ck_assert(memcmp(greedy.tokens, defaults.tokens, sizeof greedy.tokens) != 0);

    MUST(llm_submit(connection, prompt, PROMPT_TOKENS, NULL, &stream, &error));
    collect(stream, false, &again); /* who says nothing gets them */
    ck_assert_mem_eq(&again.in_force, &want, sizeof want);
    llm_disconnect(connection);
    test_daemon_assert_clean(&server);
    test_daemon_stop(&server);
    snprintf(command, sizeof command, "rm -r %s", directory);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/sampling");
    TCase *steered = tcase_create("steered");
    tcase_add_checked_fixture(steered, setup, teardown);
    tcase_set_timeout(steered, 120);
    tcase_add_test(steered, the_likeliest_of_a_greedy_answer_is_its_token);
    tcase_add_test(steered, who_did_not_ask_for_the_likeliest_has_none);
    tcase_add_test(steered, banned_and_allowed_ids_are_kept_to);
    tcase_add_test(steered, a_bias_pulls_and_pushes);
    tcase_add_test(steered, penalties_make_answers_more_varied);
    tcase_add_test(steered, an_answer_does_not_end_before_its_least_length);
    tcase_add_test(steered, what_the_model_cannot_do_is_said_in_the_answer);
    tcase_add_test(steered, steered_answers_are_the_same_alone_in_company_and_after_deaths);
    tcase_add_test(steered, scored_tokens_have_their_likeliest_too);
    tcase_add_test(steered, several_answers_are_ranked_by_what_the_model_thinks_of_them);
    tcase_add_test(steered, a_branch_takes_no_more_than_its_sampling);
    suite_add_tcase(suite, steered);
    TCase *defaults = tcase_create("defaults");
    tcase_set_timeout(defaults, 120);
    tcase_add_test(defaults, the_models_defaults_hold_unless_the_request_says_otherwise);
    suite_add_tcase(suite, defaults);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
