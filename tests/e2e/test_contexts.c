/*
 * test_contexts.c - requests on contexts: generating, branching, scoring, computing, following.
 * How: with the built-in model each answer on a context is compared with one to the whole prompt at once, asked of a daemon
 * of its own, tokens and log-probabilities bit for bit; with an echo the answer is known, and steps are slow enough to do
 * something in the middle of one. Deaths in the middle of each: test_contexts_kill.c.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "tests/support/context_steps.h"

#define FIRST  40u /* tokens appended first */
#define ANSWER 24u

static struct test_daemon daemon_;

static void serve(const char *const *arguments)
{
    test_daemon_start(&daemon_, arguments);
}

static void serve_model(void)
{
    serve((const char *const[]){"--model", "tinynotes", NULL});
}

static void serve_slow_echo(void)
{
    serve((const char *const[]){"--set", "models.echo_step_us=2000", NULL});
}

static void finish(llm_connection *connection)
{
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon_);
    test_daemon_stop(&daemon_);
}

static llm_sampling sampled(uint64_t seed, uint32_t branch)
{
    return (llm_sampling){.max_tokens = ANSWER,
                          .temperature = 0.9F,
                          .seed = seed,
                          .has_seed = true,
                          .branch = branch,
                          .logprobs = true,
                          .ignore_eos = true};
}

/* ---- Generating ------------------------------------------------------------------------------------ */

START_TEST(an_answer_on_a_context_is_the_one_to_the_whole_prompt)
{
    uint32_t row[FIRST + 2 * ANSWER + 8], want[2][ANSWER];
    float want_logprobs[2][ANSWER], logprobs[ANSWER];
    llm_sampling sampling = sampled(11, 0);
    step_ids(row, 1, FIRST);
    serve_model();
    llm_connection *connection = test_daemon_connect(&daemon_);
    ck_assert_uint_eq(step_answer(connection, row, FIRST, &sampling, want[0], want_logprobs[0]),
                      ANSWER);
    memcpy(row + FIRST, want[0], sizeof want[0]);
    step_ids(row + FIRST + ANSWER, 9, 8);
    ck_assert_uint_eq(
        step_answer(connection, row, FIRST + ANSWER + 8, &sampling, want[1], want_logprobs[1]),
        ANSWER);
    memcpy(row + FIRST + ANSWER + 8, want[1], sizeof want[1]);
    finish(connection);

    serve_model();
    connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, row, FIRST);
    for (int turn = 0; turn < 2; turn++) {
        uint32_t got[ANSWER];
        llm_stream *stream;
        if (turn == 0)
            MUST(llm_generate(context, &sampling, &stream, error));
        else
            MUST(llm_generate_after(context, row + FIRST + ANSWER, 8, &sampling, &stream, error));
        ck_assert_uint_eq(step_read(stream, got, logprobs, ANSWER, LLM_OK), ANSWER);
        ck_assert_mem_eq(got, want[turn], sizeof got);
        ck_assert_mem_eq(logprobs, want_logprobs[turn], sizeof logprobs);
        llm_stream_info info = step_stream_info(stream);
        ck_assert_int_eq(info.finish, LLM_FINISHED_LENGTH);
        ck_assert_uint_eq(info.prompt_tokens, turn == 0 ? FIRST : FIRST + ANSWER + 8);
        if (turn == 1) /* all that was computed in the first turn is found: nothing twice */
            ck_assert_uint_ge(info.cached_tokens, FIRST + ANSWER - 1);
        llm_stream_close(stream);
        step_assert_tokens(context, row, turn == 0 ? FIRST + ANSWER : FIRST + 2 * ANSWER + 8);
    }
    llm_context_close(context);
    finish(connection);
}
END_TEST

START_TEST(what_does_not_fit_or_is_not_there_is_a_sentence)
{
    const uint32_t ids[] = {1, 2, 3};
    llm_stream *stream = NULL;
    uint32_t token, count;
    float logprob;
    llm_error why;
    serve((const char *const[]){NULL});
    llm_connection *connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, NULL, 0);
    MUST(llm_generate(context, NULL, &stream, error));
    ck_assert_int_eq(llm_stream_read(stream, &token, NULL, 1, STEP_WAIT_NS, &count, &why),
                     LLM_ERR_INVALID);
    ck_assert_str_eq(why.message, "context and prompt are empty: at least 1 token is needed");
    llm_stream_close(stream);
    ck_assert_int_eq(llm_context_score(context, ids, 1, &logprob, &why), LLM_ERR_INVALID);
    ck_assert_str_eq(why.message, "the context is empty: its first token has no log-probability");
    MUST(llm_context_append(context, ids, 3, error));
    MUST(llm_context_remove(context, error));
    MUST(llm_generate(context, NULL, &stream, error));
    ck_assert_int_eq(llm_stream_read(stream, &token, NULL, 1, STEP_WAIT_NS, &count, &why),
                     LLM_ERR_NOT_FOUND);
    llm_stream_close(stream);
    llm_context_close(context);
    finish(connection);
}
END_TEST

START_TEST(a_cancelled_answer_leaves_what_it_published)
{
    uint32_t prompt[20], row[400];
    llm_stream *stream, *second;
    llm_error why;
    step_ids(prompt, 3, 20);
    serve_slow_echo();
    llm_connection *connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, prompt, 20);
    MUST(llm_generate(context, &(llm_sampling){.max_tokens = 300}, &stream, error));
    for (uint32_t i = 0; i < 320; i++)
        row[i] = prompt[i % 20];
    uint32_t got[300], count;
    MUST(llm_stream_read(stream, got, NULL, 300, STEP_WAIT_NS, &count, error));
    /* it is running: nobody else may generate on it, and what would change it is refused */
    MUST(llm_generate(context, &(llm_sampling){.max_tokens = 3}, &second, error));
    ck_assert_int_eq(llm_stream_read(second, got, NULL, 300, STEP_WAIT_NS, &count, &why),
                     LLM_ERR_BUSY);
    llm_stream_close(second);
    ck_assert(step_info(context).generating);
    llm_stream_cancel(stream);
    uint32_t published = step_read(stream, got, NULL, 300, LLM_ERR_CANCELLED);
    published = step_stream_info(stream).output_tokens;
    ck_assert_uint_lt(published, 300);
    llm_stream_close(stream);
    step_assert_tokens(context, row, 20 + published);
    llm_context_close(context);
    finish(connection);
}
END_TEST

#define LONG      131072u
#define LONG_PART 8192u

START_TEST(a_context_of_131072_tokens_is_as_good_as_a_short_one)
{
    static uint32_t part[LONG_PART];
    uint32_t got[8];
    llm_stream *stream;
    llm_context *fork;
    llm_error why;
    serve((const char *const[]){"--set", "models.echo_context_tokens=131072", "--set",
                                "kv.pool_bytes=256MiB", NULL});
    llm_connection *connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, NULL, 0);
    for (uint32_t at = 0; at < LONG; at += LONG_PART) {
        for (uint32_t i = 0; i < LONG_PART; i++)
            part[i] = (at + i) % 65521;
        MUST(llm_context_append(context, part, at + LONG_PART < LONG ? LONG_PART : LONG_PART - 8,
                                error));
    }
    ck_assert_uint_eq(step_info(context).length, LONG - 8);
    ck_assert_int_eq(llm_context_append(context, part, 9, &why), LLM_ERR_LIMIT);
    MUST(llm_context_fork(context, &fork, error));
    for (int turn = 0; turn < 2; turn++) { /* the second finds all that the first computed */
        MUST(
            llm_generate(turn ? context : fork, &(llm_sampling){.max_tokens = 20}, &stream, error));
        ck_assert_uint_eq(step_read(stream, got, NULL, 8, LLM_OK), 8);
        for (uint32_t i = 0; i < 8; i++)
            ck_assert_uint_eq(got[i], i);
        llm_stream_info info = step_stream_info(stream);
        ck_assert_int_eq(info.finish, LLM_FINISHED_CONTEXT);
        ck_assert_uint_eq(info.cached_tokens, turn ? LONG - 9 : 0);
        llm_stream_close(stream);
    }
    MUST(llm_generate(fork, NULL, &stream, error)); /* full */
    (void)step_read(stream, got, NULL, 8, LLM_ERR_LIMIT);
    ck_assert_str_eq(
        step_stream_info(stream).message,
        "context of 131 072 tokens fills the model's context and leaves no room to answer");
    llm_stream_close(stream);
    llm_context_close(fork);
    llm_context_close(context);
    finish(connection);
}
END_TEST

/* ---- Forks and branches ----------------------------------------------------------------------------- */

START_TEST(a_fork_of_a_running_answer_has_what_is_published_and_goes_its_own_way)
{
    uint32_t prompt[16], row[400], got[200], count = 0, total = 0;
    llm_stream *stream, *other;
    llm_context *fork;
    step_ids(prompt, 5, 16);
    for (uint32_t i = 0; i < 400; i++)
        row[i] = prompt[i % 16];
    serve_slow_echo();
    llm_connection *connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, prompt, 16);
    MUST(llm_generate(context, &(llm_sampling){.max_tokens = 200}, &stream, error));
    while (total < 20) {
        MUST(llm_stream_read(stream, got + total, NULL, 200 - total, STEP_WAIT_NS, &count, error));
        total += count;
    }
    MUST(llm_context_fork(context, &fork, error));
    uint32_t length = step_info(fork).length;
    ck_assert_uint_ge(length, 16 + 20);
    ck_assert_uint_lt(length, 16 + 200);
    step_assert_tokens(fork, row, length);
    MUST(llm_generate(fork, &(llm_sampling){.max_tokens = 5}, &other, error));
    uint32_t answer[5];
    ck_assert_uint_eq(step_read(other, answer, NULL, 5, LLM_OK), 5);
    for (uint32_t i = 0; i < 5; i++) /* an echo of all of the fork */
        ck_assert_uint_eq(answer[i], row[i]);
    llm_stream_close(other);
    ck_assert_uint_eq(total + step_read(stream, got + total, NULL, 200 - total, LLM_OK), 200);
    for (uint32_t i = 0; i < 200; i++)
        ck_assert_uint_eq(got[i], row[16 + i]);
    llm_stream_close(stream);
    step_assert_tokens(context, row, 16 + 200);
    llm_context_close(fork);
    llm_context_close(context);
    finish(connection);
}
END_TEST

#define BRANCHES 4u

START_TEST(branches_say_what_unshared_runs_say_and_one_is_kept)
{
    uint32_t row[FIRST + 4 + ANSWER], want[BRANCHES][ANSWER], got[ANSWER];
    llm_branch branches[BRANCHES] = {0};
    llm_stream *streams[BRANCHES];
    step_ids(row, 2, FIRST);
    serve_model();
    llm_connection *connection = test_daemon_connect(&daemon_);
    for (uint32_t i = 0; i < BRANCHES; i++) {
        llm_sampling sampling = sampled(5, i);
        step_ids(row + FIRST, 100 + i, i);
        ck_assert_uint_eq(step_answer(connection, row, FIRST + i, &sampling, want[i], NULL),
                          ANSWER);
    }
    finish(connection);

    serve_model();
    connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, row, FIRST);
    uint32_t tails[BRANCHES][4];
    for (uint32_t i = 0; i < BRANCHES; i++) {
        step_ids(tails[i], 100 + i, i);
        branches[i] = (llm_branch){.tokens = tails[i], .token_count = i, .sampling = sampled(5, 0)};
    }
    MUST(llm_context_branch(context, branches, BRANCHES, streams, error));
    for (uint32_t i = 0; i < BRANCHES; i++) {
        ck_assert_uint_eq(step_read(streams[i], got, NULL, ANSWER, LLM_OK), ANSWER);
        ck_assert_msg(memcmp(got, want[i], sizeof got) == 0, "branch %u", i);
    }
    step_assert_tokens(context, row, FIRST); /* none of it is the context's yet */
    MUST(llm_context_keep(context, streams[2], error));
    memcpy(row + FIRST, tails[2], 2 * sizeof *row);
    memcpy(row + FIRST + 2, want[2], sizeof want[2]);
    step_assert_tokens(context, row, FIRST + 2 + ANSWER);
    for (uint32_t i = 0; i < BRANCHES; i++)
        llm_stream_close(streams[i]);
    llm_context_close(context);
    finish(connection);
}
END_TEST

/* ---- Scores and computed rows ----------------------------------------------------------------------- */

START_TEST(a_score_is_what_the_answer_said_of_itself)
{
    uint32_t row[FIRST], answer[ANSWER];
    float said[ANSWER], scored[ANSWER], again[ANSWER];
    llm_sampling sampling = sampled(3, 0);
    step_ids(row, 4, FIRST);
    serve_model();
    llm_connection *connection = test_daemon_connect(&daemon_);
    ck_assert_uint_eq(step_answer(connection, row, FIRST, &sampling, answer, said), ANSWER);
    finish(connection);

    serve_model();
    connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, row, FIRST);
    MUST(llm_context_score(context, answer, ANSWER, scored, error));
    ck_assert_mem_eq(scored, said, sizeof said);
    MUST(llm_context_score(context, answer, ANSWER, again, error));
    ck_assert_mem_eq(again, said, sizeof said);
    step_assert_tokens(context, row, FIRST);
    llm_context_close(context);
    finish(connection);
}
END_TEST

START_TEST(more_rows_than_a_step_scores_are_scored)
{
    uint32_t row[200];
    float one_call[199], by_prefix;
    step_ids(row, 8, 200);
    serve_model();
    llm_connection *connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, row, 1);
    MUST(llm_context_score(context, row + 1, 199, one_call, error));
    for (uint32_t at = 10; at < 199; at += 63) {
        llm_context *prefix = step_context(connection, row, at);
        MUST(llm_context_score(prefix, row + at, 1, &by_prefix, error));
        ck_assert_mem_eq(&by_prefix, &one_call[at - 1], sizeof by_prefix);
        ck_assert(isfinite(by_prefix) && by_prefix < 0);
        llm_context_close(prefix);
    }
    llm_context_close(context);
    finish(connection);
}
END_TEST

START_TEST(an_echo_is_certain_of_everything)
{
    const uint32_t ids[] = {4, 5, 6, 7};
    float logprobs[3] = {1, 1, 1};
    serve((const char *const[]){NULL});
    llm_connection *connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, ids, 1);
    MUST(llm_context_score(context, ids + 1, 3, logprobs, error));
    for (int i = 0; i < 3; i++)
        ck_assert_double_eq((double)logprobs[i], 0);
    llm_context_close(context);
    finish(connection);
}
END_TEST

START_TEST(computed_rows_are_found_by_the_next_answer)
{
    uint32_t row[100], answer[ANSWER];
    llm_stream *stream;
    llm_sampling sampling = sampled(1, 0);
    step_ids(row, 6, 100);
    serve_model();
    llm_connection *connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, row, 100);
    MUST(llm_context_compute(context, error));
    MUST(llm_context_compute(context, error)); /* nothing is missing */
    step_assert_tokens(context, row, 100);
    MUST(llm_generate(context, &sampling, &stream, error));
    ck_assert_uint_eq(step_read(stream, answer, NULL, ANSWER, LLM_OK), ANSWER);
    ck_assert_uint_eq(step_stream_info(stream).cached_tokens, 99); /* the last one's logits */
    llm_stream_close(stream);
    llm_context_close(context);
    finish(connection);
}
END_TEST

START_TEST(what_is_pinned_is_counted_until_it_is_not)
{
    uint32_t row[100];
    step_ids(row, 7, 100);
    serve_model();
    llm_connection *connection = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, row, 100);
    MUST(llm_context_pin(context, error));
    llm_context_info info = step_info(context);
    ck_assert(info.pinned);
    ck_assert_uint_eq(info.pinned_blocks, (100 + info.block_tokens - 1) / info.block_tokens);
    MUST(llm_context_unpin(context, error));
    ck_assert_uint_eq(step_info(context).pinned_blocks, 0);
    llm_context_close(context);
    finish(connection);
}
END_TEST

START_TEST(a_pin_that_does_not_fit_is_refused_and_nothing_is_left_of_it)
{
    static uint32_t row[8000];
    llm_context *contexts[3];
    llm_stream *stream;
    llm_error why;
    uint32_t token;
    serve(
        (const char *const[]){"--set", "kv.pool_bytes=32MiB", NULL}); /* 2048 blocks of 16 tokens */
    llm_connection *connection = test_daemon_connect(&daemon_);
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t k = 0; k < 8000; k++)
            row[k] = i * 8000 + k;
        contexts[i] = step_context(connection, row, 8000);
        if (i < 2)
            MUST(llm_context_pin(contexts[i], error));
    }
    ck_assert_int_eq(llm_context_pin(contexts[2], &why), LLM_ERR_LIMIT);
    ck_assert_msg(strstr(why.message, "1000 of 1024 pinned") != NULL, "%s", why.message);
    ck_assert_uint_eq(step_info(contexts[2]).pinned_blocks, 0);
    MUST(llm_generate(contexts[2], &(llm_sampling){.max_tokens = 1}, &stream, error));
    ck_assert_uint_eq(step_read(stream, &token, NULL, 1, LLM_OK), 1);
    llm_stream_close(stream);
    MUST(llm_context_unpin(contexts[0], error));
    MUST(llm_context_pin(contexts[2], error));
    for (uint32_t i = 0; i < 3; i++)
        llm_context_close(contexts[i]);
    finish(connection);
}
END_TEST

/* ---- Following -------------------------------------------------------------------------------------- */

START_TEST(followers_read_the_whole_answer_and_leave_as_they_like)
{
    uint32_t prompt[10], got[250], count, token;
    llm_stream *stream, *followers[3];
    step_ids(prompt, 8, 10);
    serve_slow_echo();
    llm_connection *connection = test_daemon_connect(&daemon_);
    llm_connection *other = test_daemon_connect(&daemon_);
    llm_context *context = step_context(connection, prompt, 10), *seen;
    MUST(llm_context_attach(other, llm_context_id(context), &seen, error));
    llm_error why;
    ck_assert_int_eq(llm_context_follow(seen, &followers[0], &why), LLM_ERR_NOT_FOUND);
    ck_assert_str_eq(why.message, "nothing is being generated on the context");

    MUST(llm_generate(context, &(llm_sampling){.max_tokens = 250}, &stream, error));
    MUST(llm_stream_read(stream, &token, NULL, 1, STEP_WAIT_NS, &count, error));
    for (int i = 0; i < 3; i++)
        MUST(llm_context_follow(i == 2 ? context : seen, &followers[i], error));
    MUST(llm_stream_read(followers[1], &token, NULL, 1, STEP_WAIT_NS, &count, error));
    ck_assert_uint_eq(token, prompt[0]);
    llm_stream_close(followers[1]); /* ends its own reading only */
    for (int i = 0; i < 3; i += 2) {
        ck_assert_uint_eq(step_read(followers[i], got, NULL, 250, LLM_OK), 250);
        for (uint32_t k = 0; k < 250; k++)
            ck_assert_uint_eq(got[k], prompt[k % 10]);
        ck_assert_int_eq(step_stream_info(followers[i]).finish, LLM_FINISHED_LENGTH);
        llm_stream_close(followers[i]);
    }
    ck_assert_uint_eq(step_read(stream, got, NULL, 249, LLM_OK), 249);
    llm_stream_close(stream);
    llm_context_close(seen);
    llm_context_close(context);
    llm_disconnect(other);
    finish(connection);
}
END_TEST

START_TEST(an_answer_whose_client_dies_ends_for_its_followers)
{
    uint32_t prompt[10], got[250];
    llm_stream *follower;
    llm_context *seen;
    step_ids(prompt, 8, 10);
    serve_slow_echo();
    llm_connection *connection = test_daemon_connect(&daemon_);
    const struct step_owner owner = step_start_owner(&daemon_, prompt, 10, 250, NULL);
    MUST(llm_context_attach(connection, owner.context_id, &seen, error));
    MUST(llm_context_follow(seen, &follower, error));
    step_kill_owner(&owner);
    ck_assert_uint_lt(step_read(follower, got, NULL, 250, LLM_ERR_CANCELLED), 250);
    ck_assert_str_eq(step_stream_info(follower).message,
                     "the answer ended with the client that had asked for it");
    llm_stream_close(follower);
    llm_context_close(seen);
    finish(connection);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/contexts");
    TCase *tcase = tcase_create("contexts");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, an_answer_on_a_context_is_the_one_to_the_whole_prompt);
    tcase_add_test(tcase, what_does_not_fit_or_is_not_there_is_a_sentence);
    tcase_add_test(tcase, a_cancelled_answer_leaves_what_it_published);
    tcase_add_test(tcase, a_context_of_131072_tokens_is_as_good_as_a_short_one);
    tcase_add_test(tcase, a_fork_of_a_running_answer_has_what_is_published_and_goes_its_own_way);
    tcase_add_test(tcase, branches_say_what_unshared_runs_say_and_one_is_kept);
    tcase_add_test(tcase, a_score_is_what_the_answer_said_of_itself);
    tcase_add_test(tcase, more_rows_than_a_step_scores_are_scored);
    tcase_add_test(tcase, an_echo_is_certain_of_everything);
    tcase_add_test(tcase, computed_rows_are_found_by_the_next_answer);
    tcase_add_test(tcase, what_is_pinned_is_counted_until_it_is_not);
    tcase_add_test(tcase, a_pin_that_does_not_fit_is_refused_and_nothing_is_left_of_it);
    tcase_add_test(tcase, followers_read_the_whole_answer_and_leave_as_they_like);
    tcase_add_test(tcase, an_answer_whose_client_dies_ends_for_its_followers);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
