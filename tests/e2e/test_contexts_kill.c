/*
 * test_contexts_kill.c - kill -9 the engine in the middle of everything that runs on contexts.
 * How: the built-in model computes an answer, branches, a score and a pin on contexts while its engine is killed at moments drawn
 * from LLM_TEST_SEED; all of it must come out as in a run that nobody disturbed. With a slow echo followers, forks and
 * what dead clients leave behind are looked at beside known answers.
 */
#include <check.h>
#include <stdlib.h>

#include "tests/support/context_steps.h"
#include "tests/support/in_flight.h"
#include "tests/support/test_seed.h"

#define FIRST    50u
#define ANSWER   120u
#define BRANCHES 3u
#define SCORED   90u
#define KILLS    4

struct said {
    uint32_t tokens[1 + BRANCHES][ANSWER];
    float logprobs[1 + BRANCHES][ANSWER];
    float scores[SCORED];
};

static void kill_and_wait(const struct test_daemon *daemon)
{
    uint64_t generation = test_daemon_generation(daemon);
    test_daemon_kill_engine(daemon);
    test_daemon_wait_generation(daemon, generation + 1);
}

/* Twice in a row without a token between would be poison. */
static void await_progress(const struct test_daemon *daemon)
{
    static struct in_flight seen;
    in_flight_remember(&seen, daemon->status);
    while (!in_flight_moved(&seen, daemon->status))
        test_sleep_ms(1);
}

/* Branches that choose, one that scores, and an answer on the context itself. */
static void start_all(llm_context *context, llm_stream **streams, const uint32_t *scored)
{
    llm_branch branches[BRANCHES + 1] = {0};
    const llm_sampling sampling = {.max_tokens = ANSWER,
                                   .temperature = 0.8F,
                                   .seed = 21,
                                   .has_seed = true,
                                   .logprobs = true,
                                   .ignore_eos = true};
    for (uint32_t i = 0; i < BRANCHES; i++)
        branches[i] = (llm_branch){.sampling = sampling};
    branches[BRANCHES] = (llm_branch){.tokens = scored, .token_count = SCORED, .score = true};
    MUST(llm_context_branch(context, branches, BRANCHES + 1, streams + 1, error));
    MUST(llm_generate(context, &sampling, &streams[0], error));
}

static void run_all(const struct test_daemon *daemon, int kills, uint64_t *random, struct said *out)
{
    uint32_t row[FIRST + ANSWER], scored[SCORED];
    llm_stream *streams[2 + BRANCHES];
    step_ids(row, 3, FIRST);
    step_ids(scored, 77, SCORED);
    llm_connection *connection = test_daemon_connect(daemon);
    llm_context *context = step_context(connection, row, FIRST);
    start_all(context, streams, scored);
    for (int i = 0; i < kills; i++) {
        test_sleep_ms((unsigned)(test_random(random) % 60));
        await_progress(daemon);
        kill_and_wait(daemon);
    }
    for (uint32_t i = 0; i <= BRANCHES; i++)
        ck_assert_uint_eq(step_read(streams[i], out->tokens[i], out->logprobs[i], ANSWER, LLM_OK),
                          ANSWER);
    uint32_t ids[SCORED];
    ck_assert_uint_eq(step_read(streams[1 + BRANCHES], ids, out->scores, SCORED, LLM_OK), SCORED);
    ck_assert_mem_eq(ids, scored, sizeof ids);
    memcpy(row + FIRST, out->tokens[0], sizeof out->tokens[0]);
    step_assert_tokens(context, row, FIRST + ANSWER);
    MUST(llm_context_keep(context, streams[2], error));
    memcpy(row + FIRST, out->tokens[2], sizeof out->tokens[2]);
    step_assert_tokens(context, row, FIRST + ANSWER);
    for (uint32_t i = 0; i < 2 + BRANCHES; i++)
        llm_stream_close(streams[i]);
    llm_context_close(context);
    llm_disconnect(connection);
    test_daemon_assert_clean(daemon);
}

START_TEST(all_that_runs_on_contexts_survives_its_engines)
{
    static struct said undisturbed, disturbed;
    uint64_t seed = test_seed(), random = seed;
    struct test_daemon daemon;
    const char *const arguments[] = {"--model", "tinynotes", "--set", "limits.engine_deaths=1000",
                                     NULL};
    test_daemon_start(&daemon, arguments);
    run_all(&daemon, 0, &random, &undisturbed);
    test_daemon_stop(&daemon);
    test_daemon_start(&daemon, arguments);
    run_all(&daemon, KILLS, &random, &disturbed);
    ck_assert_msg(memcmp(&undisturbed, &disturbed, sizeof disturbed) == 0, "seed %llu",
                  (unsigned long long)seed);
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(an_answer_its_follower_and_its_fork_go_on_with_the_next_engine)
{
    uint32_t prompt[12], row[612], got[600], count, token;
    llm_stream *stream, *follower;
    llm_context *fork, *seen;
    step_ids(prompt, 8, 12);
    for (uint32_t i = 0; i < 612; i++)
        row[i] = prompt[i % 12];
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--set", "models.echo_step_us=2000", "--set",
                                                     "limits.engine_deaths=1000", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    llm_connection *other = test_daemon_connect(&daemon);
    llm_context *context = step_context(connection, prompt, 12);
    MUST(llm_generate(context, &(llm_sampling){.max_tokens = 600}, &stream, error));
    MUST(llm_stream_read(stream, &token, NULL, 1, STEP_WAIT_NS, &count, error));
    MUST(llm_context_attach(other, llm_context_id(context), &seen, error));
    MUST(llm_context_follow(seen, &follower, error));
    for (int i = 0; i < KILLS; i++) {
        await_progress(&daemon);
        kill_and_wait(&daemon);
        MUST(llm_context_fork(context, &fork, error));
        uint32_t length = step_info(fork).length;
        ck_assert_uint_gt(length, 12);
        step_assert_tokens(fork, row, length);
        llm_context_close(fork);
    }
    ck_assert_uint_eq(step_read(follower, got, NULL, 600, LLM_OK), 600);
    ck_assert_mem_eq(got, row + 12, sizeof got);
    ck_assert_uint_eq(step_read(stream, got, NULL, 599, LLM_OK), 599);
    step_assert_tokens(context, row, 612);
    llm_stream_close(follower);
    llm_stream_close(stream);
    llm_context_close(seen);
    llm_context_close(context);
    llm_disconnect(other);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(a_pinned_context_is_pinned_after_its_engine)
{
    uint32_t row[120], answer[8];
    llm_stream *stream;
    step_ids(row, 5, 120);
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--model", "tinynotes", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    llm_context *context = step_context(connection, row, 120);
    MUST(llm_context_pin(context, error));
    uint32_t blocks = step_info(context).pinned_blocks;
    ck_assert_uint_gt(blocks, 0);
    kill_and_wait(&daemon);
    ck_assert(step_info(context).pinned);
    ck_assert_uint_eq(step_info(context).pinned_blocks, blocks);
    MUST(llm_generate(context, &(llm_sampling){.max_tokens = 8, .ignore_eos = true}, &stream,
                      error));
    ck_assert_uint_eq(step_read(stream, answer, NULL, 8, LLM_OK), 8);
    ck_assert_uint_eq(step_stream_info(stream).cached_tokens, 119);
    llm_stream_close(stream);
    llm_context_close(context);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(a_named_context_keeps_what_was_published_when_its_client_and_engine_die)
{
    uint32_t prompt[12], row[512];
    llm_context *named;
    step_ids(prompt, 2, 12);
    for (uint32_t i = 0; i < 512; i++)
        row[i] = prompt[i % 12];
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--set", "models.echo_step_us=2000", NULL});
    const struct step_owner owner = step_start_owner(&daemon, prompt, 12, 500, "left/behind");
    uint64_t generation = test_daemon_generation(&daemon);
    test_daemon_kill_engine(&daemon);
    step_kill_owner(&owner); /* nobody is there when the next engine is */
    test_daemon_wait_generation(&daemon, generation + 1);
    llm_connection *connection = test_daemon_connect(&daemon);
    MUST(llm_context_open(connection, "left/behind", &named, error));
    while (step_info(named).generating) /* until the engine has heard that the client is gone */
        test_sleep_ms(2);
    uint32_t length = step_info(named).length;
    ck_assert_uint_ge(length, 13);
    step_assert_tokens(named, row, length);
    MUST(llm_context_remove(named, error));
    llm_context_close(named);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/contexts_kill");
    TCase *tcase = tcase_create("kill");
    tcase_set_timeout(tcase, 250);
    tcase_add_test(tcase, all_that_runs_on_contexts_survives_its_engines);
    tcase_add_test(tcase, an_answer_its_follower_and_its_fork_go_on_with_the_next_engine);
    tcase_add_test(tcase, a_pinned_context_is_pinned_after_its_engine);
    tcase_add_test(tcase, a_named_context_keeps_what_was_published_when_its_client_and_engine_die);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
