/*
 * test_double_read.c - nothing that a client wrote is read twice: real traffic over an engine that would notice.
 * How: the engine is built with LLM_DOUBLE_READ (shm/peer_memory.h): bytes of a submission that it copies a second time
 * come out changed, and it says so in its log. Every kind of traffic goes over it and must be answered exactly; the
 * log must have no such line. That the accessors do change a second reading is shown by tests/shm/test_peer_memory.c.
 */
#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/text.h"
#include "tests/support/daemon.h"
#include "tests/support/raw_client.h"
#include "tests/support/test_seed.h"

#define MINUTE UINT64_C(60000000000)

static struct test_daemon server;
static llm_connection *connection;
static llm_error error;

#define ASSERT_OK(call)                                                              \
    do {                                                                             \
        error.message[0] = 0;                                                        \
        enum llm_status got = (call);                                                \
        ck_assert_msg(got == LLM_OK, "%s: %s", llm_status_name(got), error.message); \
    } while (0)

static void assert_nothing_was_read_twice(void)
{
    char line[512];
    FILE *log = fopen(server.log, "re");
    ck_assert_ptr_nonnull(log);
    while (fgets(line, sizeof line, log))
        ck_assert_msg(strstr(line, "double read") == NULL, "%s", line);
    fclose(log);
}

static void setup(void)
{
    test_daemon_start_in(&server, "double_read", NULL);
    connection = test_daemon_connect(&server);
}

static void teardown(void)
{
    llm_disconnect(connection);
    test_daemon_assert_clean(&server);
    assert_nothing_was_read_twice();
    test_daemon_stop(&server);
}

/* ---- Echo ------------------------------------------------------------------------------------------ */

static void fill(uint32_t *prompt, uint32_t prompt_tokens, uint64_t *random)
{
    for (uint32_t i = 0; i < prompt_tokens; i++)
        prompt[i] = (uint32_t)(test_random(random) % 65536);
}

static void echo_once(uint32_t prompt_tokens, const llm_sampling *sampling, uint64_t *random)
{
    static uint32_t prompt[8192];
    llm_stream *stream;
    fill(prompt, prompt_tokens, random);
    ASSERT_OK(llm_submit(connection, prompt, prompt_tokens, sampling, &stream, &error));
    ck_assert_uint_eq(test_read_echo(stream, prompt, prompt_tokens, LLM_OK), sampling->max_tokens);
    llm_stream_close(stream);
}

START_TEST(prompts_of_every_length_are_echoed)
{
    /* Around a page, where the engine changes from the mapping to pread(), and the longest. */
    static const uint32_t lengths[] = {1, 2, 991, 992, 993, 1024, 1025, 4097, 8000};
    uint64_t random = test_seed();
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        echo_once(lengths[i], &(llm_sampling){.max_tokens = 3}, &random);
    for (uint32_t i = 0; i < 300; i++) /* more submissions than the queue has entries */
        echo_once(1 + i % 50, &(llm_sampling){.max_tokens = 3}, &random);
}
END_TEST

START_TEST(every_field_of_a_request_is_as_it_was_asked)
{
    const uint32_t prompt[] = {11, 22, 33, 44}, stop_ids[] = {900, 33, 901};
    llm_stream *stream;
    llm_stream_info info;
    uint32_t tokens[16], count = 0;
    ASSERT_OK(llm_submit(connection, prompt, 4,
                         &(llm_sampling){.max_tokens = 16,
                                         .seed = UINT64_C(0x0123456789abcdef),
                                         .has_seed = true,
                                         .logprobs = true,
                                         .stop_ids = stop_ids,
                                         .stop_id_count = 3},
                         &stream, &error));
    float logprobs[16];
    ck_assert_uint_eq(test_read_echo(stream, prompt, 4, LLM_OK), 3); /* up to the stop id */
    ASSERT_OK(llm_stream_describe(stream, &info, &error));
    ck_assert_int_eq(info.finish, LLM_FINISHED_STOP_ID);
    ck_assert_uint_eq(info.seed, UINT64_C(0x0123456789abcdef));
    ck_assert_uint_eq(info.prompt_tokens, 4);
    ck_assert_int_eq(llm_stream_read(stream, tokens, logprobs, 16, 0, &count, &error), LLM_OK);
    llm_stream_close(stream);
}
END_TEST

START_TEST(what_is_refused_is_refused_for_its_own_reason)
{
    struct raw_client client;
    raw_attach(&client, server.socket);
    const struct llm_request_body fine = {.prompt_tokens = 4, .max_tokens = 8, .top_p = 1};
    struct llm_request_body wrong = fine;
    wrong.temperature = NAN;
    const struct llm_request_body *const bodies[] = {&fine, &wrong, &fine};
    static const enum llm_status statuses[] = {LLM_OK, LLM_ERR_INVALID, LLM_OK};
    for (int i = 0; i < 3; i++) {
        memcpy(client.up + client.up_map.arena_offset, bodies[i], sizeof fine);
        struct llm_submission entry = raw_generate_entry(&client, (uint32_t)sizeof fine + 16);
        raw_push(&client, &entry);
        const struct llm_stream_record *record = raw_wait_done(&client, entry.stream_slot);
        ck_assert_uint_eq(atomic_load(&record->status), (uint32_t)statuses[i]);
    }
    raw_detach(&client);
}
END_TEST

START_TEST(control_operations_are_answered)
{
    const uint32_t prompt[] = {5, 6};
    char report[256];
    llm_stream *stream;
    llm_stream_info info;
    uint32_t which;
    for (int i = 0; i < 300; i++)
        ASSERT_OK(llm_ping(connection, MINUTE, &error));
    ASSERT_OK(llm_daemon_check(connection, MINUTE, report, sizeof report, &error));
    ASSERT_OK(
        llm_submit(connection, prompt, 2, &(llm_sampling){.max_tokens = 8000}, &stream, &error));
    ASSERT_OK(llm_streams_wait_any(&stream, 1, MINUTE, &which, &error));
    ASSERT_OK(llm_stream_describe(stream, &info, &error));
    ck_assert_int_eq(llm_request_cancel(connection, info.request_id + 99, MINUTE, &error),
                     LLM_ERR_NOT_FOUND);
    ASSERT_OK(llm_request_cancel(connection, info.request_id, MINUTE, &error));
    test_read_echo(stream, prompt, 2, LLM_ERR_CANCELLED);
    llm_stream_close(stream);
    ASSERT_OK(
        llm_submit(connection, prompt, 2, &(llm_sampling){.max_tokens = 8000}, &stream, &error));
    llm_stream_cancel(stream);
    test_read_echo(stream, prompt, 2, LLM_ERR_CANCELLED);
    llm_stream_close(stream);
}
END_TEST

/* ---- Engines that die ------------------------------------------------------------------------------ */

#define STREAMS 12

START_TEST(killed_engines_change_no_answer)
{
    static uint32_t prompts[STREAMS][1500];
    llm_stream *streams[STREAMS];
    uint64_t random = test_seed();
    for (uint64_t generation = 1; generation <= 3; generation++) {
        for (int i = 0; i < STREAMS; i++) {
            fill(prompts[i], 1500, &random);
            ASSERT_OK(llm_submit(connection, prompts[i], 1500, &(llm_sampling){.max_tokens = 400},
                                 &streams[i], &error));
        }
        test_daemon_kill_engine(&server); /* some are taken in, some are not */
        for (int i = 0; i < STREAMS; i++) {
            ck_assert_uint_eq(test_read_echo(streams[i], prompts[i], 1500, LLM_OK), 400);
            llm_stream_close(streams[i]);
        }
        test_daemon_wait_generation(&server, generation + 1);
    }
}
END_TEST

/* ---- The built-in model ---------------------------------------------------------------------------- */

static char plain[4096];

/* What the ordinary engine answers. */
static void ask_the_ordinary(const char *prompt, const llm_sampling *sampling)
{
    struct test_daemon ordinary;
    test_daemon_start(&ordinary, (const char *const[]){"--model", "tinynotes", NULL});
    llm_connection *other = test_daemon_connect(&ordinary);
    ASSERT_OK(llm_complete(other, prompt, sampling, plain, sizeof plain, &error));
    llm_disconnect(other);
    test_daemon_stop(&ordinary);
}

START_TEST(the_model_answers_as_ever_and_stops_at_the_same_strings)
{
    static const char story[] = "Once upon a time";
    const llm_sampling sampling = {.max_tokens = 60};
    char text[4096];
    ask_the_ordinary(story, &sampling);
    test_daemon_start_in(&server, "double_read",
                         (const char *const[]){"--model", "tinynotes", NULL});
    connection = test_daemon_connect(&server);
    ASSERT_OK(llm_complete(connection, story, &sampling, text, sizeof text, &error));
    ck_assert_str_eq(text, plain);
    for (size_t at = 4; at < 24; at += 3) {
        char stop[4] = {plain[at], plain[at + 1], plain[at + 2], 0};
        const char *const stops[] = {"no such text", stop, "nor this"};
        llm_sampling until = {.max_tokens = 60, .stop_strings = stops, .stop_string_count = 3};
        ASSERT_OK(llm_complete(connection, story, &until, text, sizeof text, &error));
        size_t expected = (size_t)(strstr(plain, stop) - plain);
        ck_assert_msg(strlen(text) == expected && strncmp(text, plain, expected) == 0,
                      "stop \"%s\": \"%s\"", stop, text);
    }
    teardown();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attack/double_read");
    TCase *echo = tcase_create("echo"), *model = tcase_create("model");
    tcase_add_checked_fixture(echo, setup, teardown);
    tcase_set_timeout(echo, 100);
    tcase_set_timeout(model, 100);
    tcase_add_test(echo, prompts_of_every_length_are_echoed);
    tcase_add_test(echo, every_field_of_a_request_is_as_it_was_asked);
    tcase_add_test(echo, what_is_refused_is_refused_for_its_own_reason);
    tcase_add_test(echo, control_operations_are_answered);
    tcase_add_test(echo, killed_engines_change_no_answer);
    tcase_add_test(model, the_model_answers_as_ever_and_stops_at_the_same_strings);
    suite_add_tcase(suite, echo);
    suite_add_tcase(suite, model);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
