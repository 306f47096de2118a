/*
 * test_pin.c - what is pinned is still there after five thousand requests that have nothing to do with it.
 * How: two contexts of 4,000 tokens are computed, one of them is pinned; then so many unrelated prompts are asked that the pool
 * turns over many times; an engine is killed half way. Forks of both are asked: the pinned one's tokens must all be found, and those
 * of the other, which shows that there was pressure, must be gone.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/daemon.h"

#define TOKENS    4000u
#define UNRELATED 5000u
#define IN_FLIGHT 16u
#define MINUTE    UINT64_C(60000000000)

static llm_connection *connection;
static llm_error error;

#define MUST(call) ck_assert_msg((call) == LLM_OK, "%s: %s", #call, error.message)

static llm_context *computed_context(uint32_t first_id)
{
    static uint32_t ids[TOKENS];
    llm_context *context;
    for (uint32_t i = 0; i < TOKENS; i++)
        ids[i] = first_id + i;
    MUST(llm_context_create(connection, NULL, &context, &error));
    MUST(llm_context_append(context, ids, TOKENS, &error));
    MUST(llm_context_compute(context, &error));
    return context;
}

static void read_to_the_end(llm_stream *stream)
{
    uint32_t tokens[8], count = 1;
    while (count > 0)
        MUST(llm_stream_read(stream, tokens, NULL, 8, MINUTE, &count, &error));
    llm_stream_close(stream);
}

/* Prompts of 64 ids that begin differently, all of them. */
static void ask_unrelated(uint32_t from, uint32_t to)
{
    llm_stream *streams[IN_FLIGHT] = {NULL};
    for (uint32_t i = from; i < to; i++) {
        uint32_t prompt[64];
        for (uint32_t t = 0; t < 64; t++)
            prompt[t] = 20000 + (i * 7 + t * 131) % 40000;
        if (streams[i % IN_FLIGHT])
            read_to_the_end(streams[i % IN_FLIGHT]);
        MUST(llm_submit(connection, prompt, 64, &(llm_sampling){.max_tokens = 1},
                        &streams[i % IN_FLIGHT], &error));
    }
    for (uint32_t i = 0; i < IN_FLIGHT; i++)
        if (streams[i])
            read_to_the_end(streams[i]);
}

/* How many of its tokens a fork of it finds. */
static uint32_t found_of(llm_context *context)
{
    llm_context *fork;
    llm_stream *stream;
    llm_stream_info info;
    uint32_t token, count;
    const uint32_t question = 7;
    MUST(llm_context_fork(context, &fork, &error));
    MUST(llm_generate_after(fork, &question, 1, &(llm_sampling){.max_tokens = 1}, &stream, &error));
    MUST(llm_stream_read(stream, &token, NULL, 1, MINUTE, &count, &error));
    MUST(llm_stream_describe(stream, &info, &error));
    llm_stream_close(stream);
    llm_context_close(fork);
    return info.cached_tokens;
}

START_TEST(a_pinned_prefix_is_found_after_five_thousand_requests)
{
    struct test_daemon daemon; /* 2,048 blocks of 16 tokens */
    test_daemon_start(&daemon, (const char *const[]){NULL});
    connection = test_daemon_connect(&daemon);
    llm_context *pinned = computed_context(1), *other = computed_context(10000);
    MUST(llm_context_pin(pinned, &error));
    llm_context_info info;
    MUST(llm_context_describe(pinned, &info, &error));
    ck_assert_uint_eq(info.pinned_blocks, TOKENS / 16);
    ck_assert_uint_eq(found_of(other), TOKENS);
    ask_unrelated(0, UNRELATED / 2);
    test_daemon_kill_engine(&daemon);
    test_daemon_wait_generation(&daemon, 2);
    ask_unrelated(UNRELATED / 2, UNRELATED);
    ck_assert_uint_gt(atomic_load(&daemon.status->engine.counters[LLM_COUNTER_EVICTIONS]), 4096);
    ck_assert_uint_eq(found_of(pinned), TOKENS);
    ck_assert_uint_eq(found_of(other), 0);
    MUST(llm_context_unpin(pinned, &error));
    MUST(llm_context_describe(pinned, &info, &error));
    ck_assert_uint_eq(info.pinned_blocks, 0);
    llm_context_close(pinned);
    llm_context_close(other);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

START_TEST(a_pin_that_does_not_fit_is_refused_with_the_numbers)
{
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--set", "kv.pool_bytes=4MiB", "--set",
                                                     "kv.pinned_percent=50", NULL});
    connection = test_daemon_connect(&daemon);
    llm_context *context = computed_context(1);
    ck_assert_int_eq(llm_context_pin(context, &error), LLM_ERR_LIMIT);
    ck_assert_msg(strstr(error.message, "250") != NULL && strstr(error.message, "128") != NULL,
                  "the numbers are missing: %s", error.message);
    llm_context_info info;
    MUST(llm_context_describe(context, &info, &error));
    ck_assert_uint_eq(info.pinned_blocks, 0);
    llm_context_close(context);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/pin");
    TCase *tcase = tcase_create("pin");
    tcase_set_timeout(tcase, 250);
    tcase_add_test(tcase, a_pinned_prefix_is_found_after_five_thousand_requests);
    tcase_add_test(tcase, a_pin_that_does_not_fit_is_refused_with_the_numbers);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
