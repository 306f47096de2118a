/*
 * test_generate_text.c - libllm-text on a real daemon with the built-in model: answers as text.
 * How: one daemon per test; the yardstick of every answer is llm_complete() of the same prompt.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "client/text.h"
#include "tests/support/command.h"
#include "tests/support/daemon.h"

static const char story[] = "Once upon a time";
static struct test_daemon served;
static llm_connection *llm;
static llm_error error;

#define ASSERT_OK(call)                                                              \
    do {                                                                             \
        error.message[0] = 0;                                                        \
        enum llm_status got = (call);                                                \
        ck_assert_msg(got == LLM_OK, "%s: %s", llm_status_name(got), error.message); \
    } while (0)

static void start(void)
{
    test_daemon_start(&served, (const char *const[]){"--model", "tinynotes", NULL});
    setenv("LLMD_SOCKET", served.socket, 1);
    ASSERT_OK(llm_connect(&llm, &(llm_connect_options){.no_autostart = true}, &error));
}

static void stop(void)
{
    llm_disconnect(llm);
    test_daemon_stop(&served);
}

/* Read an answer in pieces of at most `capacity` bytes; returns its length. */
static size_t read_in_pieces(llm_stream *stream, char *out_text, size_t capacity)
{
    size_t used = 0, bytes = 1;
    while (bytes > 0) {
        ASSERT_OK(
            llm_stream_read_text(stream, out_text + used, capacity, LLM_FOREVER, &bytes, &error));
        ck_assert_uint_le(bytes, capacity);
        used += bytes;
    }
    out_text[used] = 0;
    return used;
}

START_TEST(any_size_of_piece_gives_the_same_text)
{
    llm_sampling sampling = {.max_tokens = 80};
    char whole[4096], pieces[4096 + 256];
    ASSERT_OK(llm_complete(llm, story, &sampling, whole, sizeof whole, &error));
    ck_assert_uint_gt(strlen(whole), 80);
    static const size_t capacities[] = {LLM_DECODE_CAPACITY_MIN, 5, 7, 64, 256};
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
        llm_stream *stream;
        ASSERT_OK(llm_generate_text(llm, story, &sampling, &stream, &error));
        read_in_pieces(stream, pieces, capacities[i]);
        ck_assert_str_eq(pieces, whole);
        llm_stream_close(stream);
    }
}
END_TEST

START_TEST(an_answer_ends_before_its_stop_string_wherever_the_tokens_break)
{
    char whole[4096], cut[4096];
    ASSERT_OK(
        llm_complete(llm, story, &(llm_sampling){.max_tokens = 60}, whole, sizeof whole, &error));
    /* Every piece of three bytes of the answer is a stop string once: most lie across two tokens. */
    for (size_t at = 4; at < 24; at++) {
        char stop[4] = {whole[at], whole[at + 1], whole[at + 2], 0};
        const char *const stops[] = {stop};
        llm_sampling sampling = {.max_tokens = 60, .stop_strings = stops, .stop_string_count = 1};
        ASSERT_OK(llm_complete(llm, story, &sampling, cut, sizeof cut, &error));
        size_t expected = (size_t)(strstr(whole, stop) - whole);
        ck_assert_msg(strlen(cut) == expected && strncmp(cut, whole, expected) == 0,
                      "stop \"%s\": \"%s\"", stop, cut);
    }
}
END_TEST

/* The ids of `story` as llm_generate_text() makes them. */
static llm_stream *submit_story(const llm_sampling *sampling)
{
    const llm_vocab *vocab;
    uint32_t tokens[64];
    size_t count;
    llm_stream *stream;
    ASSERT_OK(llm_connection_vocab(llm, NULL, &vocab, &error));
    ASSERT_OK(
        llm_encode(vocab, story, strlen(story), LLM_ENCODE_AFFIXES, tokens, 64, &count, &error));
    ASSERT_OK(llm_submit(llm, tokens, (uint32_t)count, sampling, &stream, &error));
    return stream;
}

START_TEST(stop_strings_count_behind_the_least_length)
{
    char whole[4096], cut[4096];
    const char *stops[] = {" "}; /* in nearly every token */
    llm_sampling_more more = {.sampling = {.max_tokens = 60,
                                           .stop_strings = stops,
                                           .stop_string_count = 1,
                                           .more_bytes = sizeof(llm_sampling_more)}};
    llm_stream *stream;
    ASSERT_OK(
        llm_complete(llm, story, &(llm_sampling){.max_tokens = 60}, whole, sizeof whole, &error));
    for (uint32_t least = 0; least < 40; least += 13) {
        more.min_tokens = least;
        for (size_t capacity = 8; capacity <= 64; capacity += 56) {
            ASSERT_OK(llm_generate_text(llm, story, &more.sampling, &stream, &error));
            size_t bytes = read_in_pieces(stream, cut, capacity);
            llm_stream_info info;
            ASSERT_OK(llm_stream_describe(stream, &info, &error));
            llm_stream_close(stream);
            ck_assert_int_eq(info.finish, LLM_FINISHED_STOP_STRING);
            ck_assert_uint_gt(info.output_tokens, least);
            ck_assert_uint_le(info.output_tokens, least + 8);
            ck_assert_mem_eq(cut, whole, bytes);
            ck_assert(least == 0 ? strchr(cut, ' ') == NULL : strchr(cut, ' ') != NULL);
            ck_assert_int_eq(whole[bytes], ' '); /* it ends before the one that counts */
        }
    }
}
END_TEST

START_TEST(any_stream_is_read_as_text_and_keeps_its_stops)
{
    char whole[4096], pieces[4096 + 256], stop[4];
    ASSERT_OK(
        llm_complete(llm, story, &(llm_sampling){.max_tokens = 60}, whole, sizeof whole, &error));
    llm_stream *stream = submit_story(&(llm_sampling){.max_tokens = 60});
    read_in_pieces(stream, pieces, 64);
    ck_assert_str_eq(pieces, whole);
    llm_stream_close(stream);

    memcpy(stop, whole + 9, 3);
    stop[3] = 0;
    {
        const char *const stops[] = {stop}; /* gone before the text is read */
        stream = submit_story(
            &(llm_sampling){.max_tokens = 60, .stop_strings = stops, .stop_string_count = 1});
    }
    memset(stop, '?', 3);
    read_in_pieces(stream, pieces, 64);
    ck_assert_uint_le(strlen(pieces), 9);
    ck_assert(strncmp(pieces, whole, strlen(pieces)) == 0);
    llm_stream_close(stream);
}
END_TEST

START_TEST(text_begins_with_the_first_token_that_was_not_read_as_an_id)
{
    char pieces[4096 + 256];
    uint32_t ids[64], count, total = 0;
    const llm_vocab *vocab;
    char rest[4096];
    size_t bytes;
    llm_stream *stream = submit_story(&(llm_sampling){.max_tokens = 20});
    while (total < 20) {
        ASSERT_OK(
            llm_stream_read(stream, ids + total, NULL, 20 - total, LLM_FOREVER, &count, &error));
        total += count;
    }
    llm_stream_close(stream);
    stream = submit_story(&(llm_sampling){.max_tokens = 20});
    ASSERT_OK(llm_stream_read(stream, ids, NULL, 1, LLM_FOREVER, &count, &error));
    read_in_pieces(stream, pieces, 64);
    llm_stream_close(stream);
    ASSERT_OK(llm_connection_vocab(llm, NULL, &vocab, &error));
    ASSERT_OK(llm_decode_whole(vocab, ids + 1, 19, LLM_DECODE_CONTINUE, rest, sizeof rest, &bytes,
                               &error));
    rest[bytes] = 0;
    ck_assert_str_eq(pieces, rest);
}
END_TEST

START_TEST(what_does_not_fit_is_named)
{
    char text[32], piece[3];
    size_t bytes;
    llm_stream *stream;
    ck_assert_int_eq(llm_complete(llm, story, NULL, text, sizeof text, &error), LLM_ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(error.message, "32 bytes"));
    ck_assert_uint_lt(strlen(text), sizeof text);
    ASSERT_OK(llm_generate_text(llm, story, NULL, &stream, &error));
    ck_assert_int_eq(llm_stream_read_text(stream, piece, sizeof piece, 0, &bytes, &error),
                     LLM_ERR_LIMIT);
    llm_stream_close(stream);
    const llm_vocab *vocab;
    ck_assert_int_eq(llm_connection_vocab(llm, "nobody", &vocab, &error), LLM_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "nobody"));
}
END_TEST

START_TEST(looking_without_waiting_times_out_and_loses_nothing)
{
    llm_sampling sampling = {.max_tokens = 50};
    char whole[4096], text[4096];
    size_t used = 0, bytes = 1;
    llm_stream *stream;
    ASSERT_OK(llm_complete(llm, story, &sampling, whole, sizeof whole, &error));
    ASSERT_OK(llm_generate_text(llm, story, &sampling, &stream, &error));
    while (bytes > 0) {
        enum llm_status status =
            llm_stream_read_text(stream, text + used, sizeof text - used, 0, &bytes, &error);
        if (status == LLM_ERR_TIMEOUT)
            continue;
        ASSERT_OK(status);
        used += bytes;
    }
    text[used] = 0;
    ck_assert_str_eq(text, whole);
    llm_stream_close(stream);
}
END_TEST

START_TEST(a_cancelled_answer_keeps_the_text_it_had)
{
    llm_sampling sampling = {.max_tokens = 4000, .ignore_eos = true};
    llm_stream *stream;
    char piece[64];
    size_t bytes;
    ASSERT_OK(llm_generate_text(llm, story, &sampling, &stream, &error));
    ASSERT_OK(llm_stream_read_text(stream, piece, sizeof piece, LLM_FOREVER, &bytes, &error));
    ck_assert_uint_gt(bytes, 0);
    llm_stream_cancel(stream);
    enum llm_status status;
    do
        status = llm_stream_read_text(stream, piece, sizeof piece, LLM_FOREVER, &bytes, &error);
    while (status == LLM_OK && bytes > 0);
    ck_assert_int_eq(status, LLM_ERR_CANCELLED);
    /* The end is told again, not waited for. */
    ck_assert_int_eq(llm_stream_read_text(stream, piece, sizeof piece, LLM_FOREVER, &bytes, &error),
                     LLM_ERR_CANCELLED);
    llm_stream_close(stream);
}
END_TEST

static void *complete_in_thread(void *out_text)
{
    llm_error own;
    if (llm_complete(llm, story, &(llm_sampling){.max_tokens = 30}, out_text, 1024, &own) != LLM_OK)
        strcpy(out_text, own.message);
    return NULL;
}

START_TEST(threads_share_a_connection_and_its_vocabulary)
{
    enum {
        THREADS = 8
    };
    pthread_t threads[THREADS];
    static char texts[THREADS][1024];
    char whole[1024];
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, complete_in_thread, texts[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ASSERT_OK(
        llm_complete(llm, story, &(llm_sampling){.max_tokens = 30}, whole, sizeof whole, &error));
    for (int i = 0; i < THREADS; i++)
        ck_assert_str_eq(texts[i], whole);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/generate_text");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, start, stop);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, any_size_of_piece_gives_the_same_text);
    tcase_add_test(tc, an_answer_ends_before_its_stop_string_wherever_the_tokens_break);
    tcase_add_test(tc, stop_strings_count_behind_the_least_length);
    tcase_add_test(tc, any_stream_is_read_as_text_and_keeps_its_stops);
    tcase_add_test(tc, text_begins_with_the_first_token_that_was_not_read_as_an_id);
    tcase_add_test(tc, what_does_not_fit_is_named);
    tcase_add_test(tc, looking_without_waiting_times_out_and_loses_nothing);
    tcase_add_test(tc, a_cancelled_answer_keeps_the_text_it_had);
    tcase_add_test(tc, threads_share_a_connection_and_its_vocabulary);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
