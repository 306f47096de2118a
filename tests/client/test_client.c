/*
 * test_client.c - client/: libllm against a fake daemon in the same process (tests/support/fake_daemon.h).
 * How: the public calls only, but for llm_slot_table_sane() after each test. Nothing here depends on how long
 * something takes; a call that never returns is caught by the time-out.
 */
#include "client/llm.h"

#include <check.h>
#include <dirent.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/connection.h"
#include "shm/clock.h"
#include "tests/support/fake_daemon.h"
#include "tests/support/test_seed.h"

static char directory[64], path[96];
static struct fake_daemon *fake;
static llm_connection *connection;
static llm_error error;
static enum llm_wait wait_kind;
static const uint32_t prompt[] = {11, 22, 33};

static void make_path(void)
{
    snprintf(directory, sizeof directory, "/tmp/llm-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/llmd.sock", directory);
}

static enum llm_status connect_to_fake(llm_connection **out_connection)
{
    const llm_connect_options options = {.socket = path,
                                         .name = "test_client",
                                         .no_autostart = true,
                                         .wait = wait_kind,
                                         .timeout_ns = 5 * LLM_NS_PER_S};
    return llm_connect(out_connection, &options, &error);
}

static void open_fake(const struct fake_daemon_options *options)
{
    make_path();
    fake = fake_daemon_open(path, options);
    ck_assert_msg(connect_to_fake(&connection) == LLM_OK, "%s", error.message);
}

static void setup(void)
{
    open_fake(NULL);
}

static void setup_spinning(void)
{
    wait_kind = LLM_WAIT_SPIN;
    open_fake(NULL);
}

static void teardown(void)
{
    if (connection)
        ck_assert(llm_slot_table_sane(&connection->slots));
    llm_disconnect(connection);
    if (fake)
        fake_daemon_close(fake);
    rmdir(directory);
}

static llm_stream *submit(const llm_sampling *sampling)
{
    llm_stream *stream = NULL;
    enum llm_status status = llm_submit(connection, prompt, 3, sampling, &stream, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    return stream;
}

/* Read to the end; returns how many tokens, all of them checked, and how it ended. */
static uint32_t read_all(llm_stream *stream, enum llm_status *out_status)
{
    uint32_t total = 0, ids[7], count = 1;
    enum llm_status status;
    while ((status = llm_stream_read(stream, ids, NULL, 7, LLM_FOREVER, &count, &error)) ==
               LLM_OK &&
           count > 0) {
        ck_assert_uint_le(count, 7);
        for (uint32_t i = 0; i < count; i++)
            ck_assert_uint_eq(ids[i], prompt[(total + i) % 3]);
        total += count;
    }
    *out_status = status;
    return total;
}

/* ---- One answer ----------------------------------------------------------------------------------- */

START_TEST(an_answer_is_what_the_daemon_published)
{
    enum llm_status status;
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 10});
    ck_assert_uint_eq(read_all(stream, &status), 10);
    ck_assert_int_eq(status, LLM_OK);
    uint32_t id, count = 9;
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, 0, &count, &error), LLM_OK);
    ck_assert_uint_eq(count, 0); /* complete, and stays so */
    llm_stream_close(stream);
}
END_TEST

START_TEST(without_sampling_it_is_greedy_with_256_tokens)
{
    enum llm_status status;
    llm_stream *stream = submit(NULL);
    ck_assert_uint_eq(read_all(stream, &status), 256);
    llm_stream_close(stream);
}
END_TEST

START_TEST(logprobs_come_when_asked_for_and_are_nan_otherwise)
{
    for (int asked = 0; asked < 2; asked++) {
        llm_stream *stream = submit(&(llm_sampling){.max_tokens = 4, .logprobs = asked});
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t id, count;
            float logprob = 1;
            ck_assert_int_eq(llm_stream_read(stream, &id, &logprob, 1, LLM_FOREVER, &count, &error),
                             LLM_OK);
            ck_assert(asked ? logprob == -(float)(i + 1) / 8 : isnan(logprob));
        }
        llm_stream_close(stream);
    }
}
END_TEST

START_TEST(a_stop_id_ends_the_answer)
{
    enum llm_status status;
    const uint32_t stop_ids[] = {99, 33};
    llm_stream *stream =
        submit(&(llm_sampling){.max_tokens = 10, .stop_ids = stop_ids, .stop_id_count = 2});
    ck_assert_uint_eq(read_all(stream, &status), 3);
    llm_stream_info info;
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert_int_eq(info.finish, LLM_FINISHED_STOP_ID);
    llm_stream_close(stream);
}
END_TEST

START_TEST(a_finished_stream_describes_itself)
{
    enum llm_status status;
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 5});
    read_all(stream, &status);
    llm_stream_info info;
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert(info.done);
    ck_assert_int_eq(info.finish, LLM_FINISHED_LENGTH);
    ck_assert_int_eq(info.status, LLM_OK);
    ck_assert_uint_eq(info.request_id, 1);
    ck_assert_uint_eq(info.seed, 4711);
    ck_assert_uint_eq(info.prompt_tokens, 3);
    ck_assert_uint_eq(info.cached_tokens, 1);
    ck_assert_uint_eq(info.output_tokens, 5);
    ck_assert_uint_gt(info.first_token_ns, 0);
    ck_assert_uint_ge(info.last_token_ns, info.first_token_ns);
    ck_assert_uint_ge(info.first_token_ns, info.queued_ns);
    ck_assert_str_eq(info.message, "");
    llm_stream_close(stream);
}
END_TEST

START_TEST(a_request_that_fails_gives_its_tokens_then_its_sentence)
{
    enum llm_status status;
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 10, .model = "fail"});
    ck_assert_uint_eq(read_all(stream, &status), 2);
    ck_assert_int_eq(status, LLM_ERR_UNSUPPORTED);
    ck_assert_str_eq(error.message, "the echo is broken");
    llm_stream_info info;
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert_int_eq(info.status, LLM_ERR_UNSUPPORTED);
    ck_assert_int_eq(info.finish, LLM_FINISHED_FAILED);
    ck_assert_str_eq(info.message, "the echo is broken");
    llm_stream_close(stream);
}
END_TEST

START_TEST(a_held_request_times_out_and_is_cancelled)
{
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 10, .model = "hold"});
    uint32_t id, count = 7;
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, 0, &count, &error), LLM_ERR_TIMEOUT);
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, 10 * LLM_NS_PER_MS, &count, &error),
                     LLM_ERR_TIMEOUT);
    ck_assert_uint_eq(count, 7);
    llm_stream_info info;
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    ck_assert(!info.done);
    ck_assert_uint_eq(info.first_token_ns, 0);
    llm_stream_cancel(stream);
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, LLM_FOREVER, &count, &error),
                     LLM_ERR_CANCELLED);
    ck_assert_str_eq(error.message, "the request was cancelled");
    llm_stream_close(stream);
}
END_TEST

START_TEST(a_request_past_its_time_fails)
{
    llm_stream *stream =
        submit(&(llm_sampling){.max_tokens = 10, .model = "hold", .timeout_ns = 5 * LLM_NS_PER_MS});
    uint32_t id, count;
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, LLM_FOREVER, &count, &error),
                     LLM_ERR_TIMEOUT);
    ck_assert_str_eq(error.message, "the request's time is over");
    llm_stream_close(stream);
}
END_TEST

static llm_stream *stream_of_signal;

static void cancel_in_handler(int number)
{
    (void)number;
    llm_stream_cancel(stream_of_signal);
}

START_TEST(a_signal_handler_may_cancel)
{
    stream_of_signal = submit(&(llm_sampling){.max_tokens = 10, .model = "hold"});
    signal(SIGALRM, cancel_in_handler);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = 20000}, NULL);
    uint32_t id, count;
    ck_assert_int_eq(llm_stream_read(stream_of_signal, &id, NULL, 1, LLM_FOREVER, &count, &error),
                     LLM_ERR_CANCELLED);
    llm_stream_close(stream_of_signal);
}
END_TEST

/* ---- Many answers --------------------------------------------------------------------------------- */

/* Random lengths, random early closes; every answer that is read is read whole. */
static void many_requests(llm_connection *mine, uint64_t seed, int count)
{
    uint64_t random = seed;
    for (int i = 0; i < count; i++) {
        uint32_t ids[64], length = 1 + (uint32_t)(test_random(&random) % 40);
        for (uint32_t p = 0; p < length; p++)
            ids[p] = (uint32_t)test_random(&random);
        uint32_t max_tokens = 1 + (uint32_t)(test_random(&random) % 100);
        llm_sampling sampling = {.max_tokens = max_tokens,
                                 .logprobs = test_random(&random) % 2,
                                 .model = test_random(&random) % 16 ? NULL : "hold"};
        llm_stream *stream;
        llm_error why;
        enum llm_status status = llm_submit(mine, ids, length, &sampling, &stream, &why);
        if (status == LLM_ERR_BUSY) {
            sched_yield(); /* closed ones are still being cancelled */
            continue;
        }
        ck_assert_msg(status == LLM_OK, "seed %#lx request %d: %s", seed, i, why.message);
        uint32_t total = 0, got = 1;
        bool whole = !sampling.model && test_random(&random) % 8;
        while (whole && got > 0) {
            uint32_t out[16];
            status = llm_stream_read(stream, out, NULL, 16, LLM_FOREVER, &got, &why);
            ck_assert_msg(status == LLM_OK, "seed %#lx request %d: %s", seed, i, why.message);
            for (uint32_t t = 0; t < got; t++)
                ck_assert_msg(out[t] == ids[(total + t) % length], "seed %#lx request %d token %u",
                              seed, i, total + t);
            total += got;
        }
        ck_assert_msg(!whole || total == max_tokens, "seed %#lx request %d: %u tokens", seed, i,
                      total);
        llm_stream_close(stream);
    }
}

START_TEST(slots_logs_and_prompt_bytes_are_used_again_and_again)
{
    many_requests(connection, test_seed(), 1500);
}
END_TEST

START_TEST(epochs_wrap_and_old_cancels_hit_nobody)
{
    teardown();
    open_fake(&(struct fake_daemon_options){.first_epoch = UINT32_MAX - 2});
    for (int i = 0; i < 40; i++) {
        enum llm_status status;
        llm_stream *held = submit(&(llm_sampling){.max_tokens = 1, .model = "hold"});
        llm_stream_cancel(held);
        read_all(held, &status);
        ck_assert_int_eq(status, LLM_ERR_CANCELLED);
        llm_stream_close(held);
        llm_stream *stream = submit(&(llm_sampling){.max_tokens = 9});
        ck_assert_uint_eq(read_all(stream, &status), 9);
        ck_assert_int_eq(status, LLM_OK);
        llm_stream_close(stream);
    }
}
END_TEST

struct worker {
    pthread_t thread;
    llm_connection *connection;
    uint64_t seed;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    many_requests(worker->connection, worker->seed, 120);
    return NULL;
}

START_TEST(several_threads_share_a_connection)
{
    struct worker workers[4];
    uint64_t seed = test_seed();
    for (uint64_t i = 0; i < 4; i++) {
        workers[i] = (struct worker){.connection = connection, .seed = seed + i};
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(workers[i].thread, NULL);
}
END_TEST

START_TEST(connections_do_not_disturb_each_other)
{
    struct worker workers[3];
    uint64_t seed = test_seed();
    for (uint64_t i = 0; i < 3; i++) {
        workers[i] = (struct worker){.seed = seed + i};
        ck_assert_int_eq(connect_to_fake(&workers[i].connection), LLM_OK);
        ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(workers[i].thread, NULL);
        ck_assert(llm_slot_table_sane(&workers[i].connection->slots));
        llm_disconnect(workers[i].connection);
    }
}
END_TEST

START_TEST(wait_any_finds_the_one_that_moved)
{
    llm_stream *streams[4] = {NULL};
    uint32_t which = 9;
    streams[1] = submit(&(llm_sampling){.max_tokens = 3, .model = "hold"});
    streams[3] = submit(&(llm_sampling){.max_tokens = 3});
    ck_assert_int_eq(llm_streams_wait_any(streams, 4, LLM_FOREVER, &which, &error), LLM_OK);
    ck_assert_uint_eq(which, 3);
    enum llm_status status;
    ck_assert_uint_eq(read_all(streams[3], &status), 3);
    ck_assert_int_eq(llm_streams_wait_any(streams, 4, 0, &which, &error), LLM_OK);
    ck_assert_uint_eq(which, 3); /* complete: still something to see */
    ck_assert_int_eq(llm_streams_wait_any(streams, 3, 5 * LLM_NS_PER_MS, &which, &error),
                     LLM_ERR_TIMEOUT);
    ck_assert_int_eq(llm_streams_wait_any(streams, 1, 0, &which, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "none of the 1 streams is one to wait for");
    llm_stream_close(streams[1]);
    llm_stream_close(streams[3]);
}
END_TEST

START_TEST(wait_any_refuses_streams_of_two_connections)
{
    llm_connection *other;
    ck_assert_int_eq(connect_to_fake(&other), LLM_OK);
    llm_stream *streams[2] = {submit(NULL)};
    ck_assert_int_eq(llm_submit(other, prompt, 3, NULL, &streams[1], &error), LLM_OK);
    uint32_t which;
    ck_assert_int_eq(llm_streams_wait_any(streams, 2, 0, &which, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message,
                     "stream 2 of 2 belongs to another connection than those before it");
    llm_stream_close(streams[0]);
    llm_stream_close(streams[1]);
    llm_disconnect(other);
}
END_TEST

START_TEST(an_event_loop_gets_every_token_through_its_descriptor)
{
    int fd = llm_connection_fd(connection);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(llm_connection_fd(connection), fd);
    llm_stream *streams[3];
    uint32_t totals[3] = {0}, open_streams = 3;
    for (int i = 0; i < 3; i++)
        streams[i] = submit(&(llm_sampling){.max_tokens = 200});
    while (open_streams > 0) {
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        ck_assert_int_eq(poll(&wanted, 1, -1), 1);
        llm_connection_acknowledge(connection);
        for (int i = 0; i < 3; i++) {
            uint32_t ids[16], count = 1;
            while (streams[i] && count > 0) {
                enum llm_status status =
                    llm_stream_read(streams[i], ids, NULL, 16, 0, &count, &error);
                if (status == LLM_ERR_TIMEOUT)
                    break;
                ck_assert_int_eq(status, LLM_OK);
                totals[i] += count;
            }
            if (streams[i] && count == 0) {
                llm_stream_close(streams[i]);
                streams[i] = NULL;
                open_streams--;
            }
        }
    }
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(totals[i], 200);
}
END_TEST

/* ---- What is refused ------------------------------------------------------------------------------ */

START_TEST(a_field_out_of_range_is_named)
{
    static const char *const long_stop[] = {"ok", "x"};
    static const char *const no_stops[] = {""};
    char too_long[80];
    memset(too_long, 'z', sizeof too_long - 1);
    too_long[sizeof too_long - 1] = '\0';
    const char *const long_stops[] = {"fine", too_long};
    const struct {
        llm_sampling sampling;
        const char *sentence;
    } rows[] = {
        {{.max_tokens = 0}, "max_tokens is 0: ask for at least 1"},
        {{.max_tokens = 1, .temperature = -0.5f}, "temperature is -0.5: it must be from 0 to 100"},
        {{.max_tokens = 1, .temperature = 101}, "temperature is 101: it must be from 0 to 100"},
        {{.max_tokens = 1, .temperature = NAN}, "temperature is nan: it must be from 0 to 100"},
        {{.max_tokens = 1, .temperature = INFINITY},
         "temperature is inf: it must be from 0 to 100"},
        {{.max_tokens = 1, .top_p = NAN}, "top_p is nan: it must be above 0 and at most 1"},
        {{.max_tokens = 1, .top_p = -1}, "top_p is -1: it must be above 0 and at most 1"},
        {{.max_tokens = 1, .top_p = 1.5f}, "top_p is 1.5: it must be above 0 and at most 1"},
        {{.max_tokens = 1, .min_p = NAN}, "min_p is nan: it must be from 0 to 1"},
        {{.max_tokens = 1, .min_p = 2}, "min_p is 2: it must be from 0 to 1"},
        {{.max_tokens = 1, .stop_ids = prompt, .stop_id_count = 17}, "17 stop ids: at most 16"},
        {{.max_tokens = 1, .stop_id_count = 2}, "the 2 stop ids are NULL"},
        {{.max_tokens = 1, .stop_strings = long_stop, .stop_string_count = 9},
         "9 stop strings: at most 8"},
        {{.max_tokens = 1, .stop_strings = no_stops, .stop_string_count = 1},
         "stop string 1 has 0 bytes: 1 to 64"},
        {{.max_tokens = 1, .stop_strings = long_stops, .stop_string_count = 2},
         "stop string 2 has 79 bytes: 1 to 64"},
        {{.max_tokens = 1, .model = too_long},
         "model name \"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"
         "zzz\" has 79 bytes: at most 63"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        llm_stream *const untouched = (void *)&error, *stream = untouched;
        ck_assert_int_eq(llm_submit(connection, prompt, 3, &rows[i].sampling, &stream, &error),
                         LLM_ERR_INVALID);
        ck_assert_str_eq(error.message, rows[i].sentence);
        ck_assert_ptr_eq(stream, untouched);
    }
    llm_stream *stream;
    ck_assert_int_eq(llm_submit(connection, prompt, 0, NULL, &stream, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "the prompt is empty: it needs at least 1 token");
    ck_assert_int_eq(llm_submit(connection, NULL, 5, NULL, &stream, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "the prompt of 5 tokens is NULL");
    ck_assert_int_eq(llm_submit(connection, NULL, 0, NULL, &stream, NULL), LLM_ERR_INVALID);
}
END_TEST

START_TEST(the_edges_of_every_range_are_accepted)
{
    const char *const stops[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    uint32_t stop_ids[16] = {0};
    const llm_sampling rows[] = {
        {.max_tokens = 1},
        {.max_tokens = 1, .temperature = 100, .top_p = 1, .min_p = 1, .top_k = UINT32_MAX},
        {.max_tokens = 1, .has_seed = true, .seed = UINT64_MAX, .ignore_eos = true},
        {.max_tokens = 1, .timeout_ns = UINT64_MAX},
        {.max_tokens = 1,
         .stop_ids = stop_ids,
         .stop_id_count = 16,
         .stop_strings = stops,
         .stop_string_count = 8},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum llm_status status;
        llm_stream *stream = submit(&rows[i]);
        ck_assert_uint_eq(read_all(stream, &status), 1);
        ck_assert_msg(status == LLM_OK, "row %zu: %s", i, error.message);
        llm_stream_close(stream);
    }
}
END_TEST

START_TEST(what_can_never_fit_is_over_a_limit)
{
    static uint32_t long_prompt[20000];
    llm_stream *stream;
    ck_assert_int_eq(
        llm_submit(connection, prompt, 3, &(llm_sampling){.max_tokens = 4097}, &stream, &error),
        LLM_ERR_LIMIT);
    ck_assert_str_eq(error.message, "an answer of 4097 log words can never fit: this connection "
                                    "has 4096 in all");
    ck_assert_int_eq(llm_submit(connection, prompt, 3,
                                &(llm_sampling){.max_tokens = UINT32_MAX, .logprobs = true},
                                &stream, &error),
                     LLM_ERR_LIMIT);
    ck_assert_int_eq(llm_submit(connection, long_prompt, 20000, NULL, &stream, &error),
                     LLM_ERR_LIMIT);
    ck_assert_str_eq(error.message, "a request of 80128 bytes can never fit: this connection has "
                                    "65536 for prompts");
    ck_assert_int_eq(llm_submit(connection, long_prompt, UINT32_MAX, NULL, &stream, &error),
                     LLM_ERR_LIMIT);
}
END_TEST

START_TEST(what_does_not_fit_now_is_busy_until_streams_are_closed)
{
    llm_stream *streams[8], *one_more;
    llm_sampling hold = {.max_tokens = 16, .model = "hold"};
    for (int i = 0; i < 8; i++)
        streams[i] = submit(&hold);
    ck_assert_int_eq(llm_submit(connection, prompt, 3, &hold, &one_more, &error), LLM_ERR_BUSY);
    ck_assert_str_eq(error.message, "all 8 stream slots of this connection are in use: close a "
                                    "stream or wait");
    for (int i = 0; i < 8; i++)
        llm_stream_close(streams[i]);
    hold.max_tokens = 4000;
    enum llm_status status;
    do
        status = llm_submit(connection, prompt, 3, &hold, &one_more, &error);
    while (status == LLM_ERR_BUSY); /* until the closed ones are cancelled */
    ck_assert_int_eq(status, LLM_OK);
    ck_assert_int_eq(llm_submit(connection, prompt, 3, &hold, &streams[0], &error), LLM_ERR_BUSY);
    ck_assert_ptr_nonnull(strstr(error.message, "of this connection's 4096 log words, this one "
                                                "needs 4000 together"));
    llm_stream_close(one_more);
}
END_TEST

START_TEST(reading_into_nothing_is_refused)
{
    llm_stream *stream = submit(NULL);
    uint32_t count;
    ck_assert_int_eq(llm_stream_read(stream, &count, NULL, 0, 0, &count, &error), LLM_ERR_INVALID);
    llm_stream_close(stream);
    llm_stream_close(NULL);
    llm_disconnect(NULL);
}
END_TEST

/* ---- When the daemon is gone or wrong ------------------------------------------------------------- */

static void *end_fake_soon(void *unused)
{
    (void)unused;
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    fake_daemon_close(fake);
    return NULL;
}

START_TEST(a_dead_daemon_ends_every_wait)
{
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 10, .model = "hold"});
    pthread_t killer;
    pthread_create(&killer, NULL, end_fake_soon, NULL);
    uint32_t id, count;
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, LLM_FOREVER, &count, &error),
                     LLM_ERR_PEER);
    ck_assert_str_eq(error.message, "the daemon is gone: it closed its socket");
    pthread_join(killer, NULL);
    fake = NULL;
    llm_stream *another;
    ck_assert_int_eq(llm_submit(connection, prompt, 3, NULL, &another, &error), LLM_ERR_PEER);
    ck_assert_int_eq(llm_ping(connection, LLM_FOREVER, &error), LLM_ERR_PEER);
    ck_assert_int_eq(llm_daemon_stop(connection, &error), LLM_ERR_PEER);
    llm_stream_close(stream);
}
END_TEST

START_TEST(tokens_that_arrived_are_read_before_the_daemons_death_is_told)
{
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 12});
    llm_stream_info info = {.done = false};
    while (!info.done)
        ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_OK);
    fake_daemon_close(fake);
    fake = NULL;
    enum llm_status status;
    ck_assert_uint_eq(read_all(stream, &status), 12);
    ck_assert_int_eq(status, LLM_OK);
    llm_stream_close(stream);
}
END_TEST

START_TEST(an_event_loop_is_told_of_the_daemons_death)
{
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 10, .model = "hold"});
    int fd = llm_connection_fd(connection);
    fake_daemon_close(fake);
    fake = NULL;
    uint32_t id, count;
    enum llm_status status = LLM_ERR_TIMEOUT;
    while (status == LLM_ERR_TIMEOUT) {
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        ck_assert_int_eq(poll(&wanted, 1, -1), 1);
        llm_connection_acknowledge(connection);
        status = llm_stream_read(stream, &id, NULL, 1, 0, &count, &error);
    }
    ck_assert_int_eq(status, LLM_ERR_PEER);
    llm_stream_close(stream);
}
END_TEST

START_TEST(an_expelled_client_hears_why)
{
    static const struct {
        const char *model, *sentence;
    } rows[] = {{"expel", "token 7 is not to our taste"},
                {"leave", "the daemon is gone: it closed its socket"}};
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 10, .model = rows[_i].model});
    uint32_t id, count;
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, LLM_FOREVER, &count, &error),
                     LLM_ERR_PEER);
    ck_assert_str_eq(error.message, rows[_i].sentence);
    const void *address;
    size_t bytes;
    ck_assert_int_eq(llm_memory_map(connection, "vocab", &address, &bytes, &error), LLM_ERR_PEER);
    ck_assert_str_eq(error.message, rows[_i].sentence);
    llm_stream_close(stream);
}
END_TEST

START_TEST(a_record_that_makes_no_sense_is_reported)
{
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 10, .model = "lie"});
    uint32_t id, count;
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, LLM_FOREVER, &count, &error),
                     LLM_ERR_PEER);
    ck_assert_str_eq(error.message, "the daemon broke the protocol: the record of stream slot 0 "
                                    "makes no sense");
    llm_stream_info info;
    ck_assert_int_eq(llm_stream_describe(stream, &info, &error), LLM_ERR_PEER);
    llm_stream_close(stream);
    enum llm_status status;
    stream = submit(&(llm_sampling){.max_tokens = 10}); /* others go on */
    ck_assert_uint_eq(read_all(stream, &status), 10);
    llm_stream_close(stream);
}
END_TEST

/* ---- fork() --------------------------------------------------------------------------------------- */

static int use_inherited(llm_connection *inherited, llm_stream *stream)
{
    uint32_t id, count, which;
    const void *address;
    size_t bytes;
    char report[32];
    llm_stream *other;
    llm_stream_info info;
    llm_connection_info connection_info;
    const enum llm_status got[] = {
        llm_stream_read(stream, &id, NULL, 1, LLM_FOREVER, &count, &error),
        llm_streams_wait_any(&stream, 1, LLM_FOREVER, &which, &error),
        llm_stream_describe(stream, &info, &error),
        llm_submit(inherited, prompt, 3, NULL, &other, &error),
        llm_connection_describe(inherited, &connection_info, &error),
        llm_memory_map(inherited, "vocab", &address, &bytes, &error),
        llm_ping(inherited, LLM_FOREVER, &error),
        llm_request_cancel(inherited, 1, LLM_FOREVER, &error),
        llm_daemon_check(inherited, LLM_FOREVER, report, sizeof report, &error),
        llm_daemon_stop(inherited, &error),
        llm_daemon_restart_engine(inherited, &error),
    };
    for (size_t i = 0; i < sizeof got / sizeof got[0]; i++)
        if (got[i] != LLM_ERR_FORKED)
            return 10 + (int)i;
    if (llm_connection_fd(inherited) != -1)
        return 2;
    llm_connection_acknowledge(inherited);
    llm_stream_cancel(stream);
    llm_stream_close(stream);
    llm_disconnect(inherited);
    return 0;
}

static void fork_and_use(void)
{
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 10, .model = "hold"});
    pid_t child = fork();
    if (child == 0) {
        int wrong = use_inherited(connection, stream);
        llm_connection *own; /* and may connect again */
        if (wrong == 0 && (connect_to_fake(&own) != LLM_OK || llm_ping(own, LLM_FOREVER, NULL)))
            wrong = 3;
        if (wrong == 0)
            llm_disconnect(own);
        _exit(wrong);
    }
    int result;
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert_int_eq(result, 0);
    uint32_t id, count; /* the child's closing cancelled nothing of ours */
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, 0, &count, &error), LLM_ERR_TIMEOUT);
    ck_assert_int_eq(llm_ping(connection, LLM_FOREVER, &error), LLM_OK);
    llm_stream_close(stream);
}

START_TEST(a_forked_child_is_told_to_connect_again)
{
    fork_and_use();
}
END_TEST

START_TEST(a_forked_child_is_told_so_without_wipeonfork)
{
    setenv("LLMD_DISABLE", "wipeonfork", 1);
    llm_disconnect(connection);
    ck_assert_int_eq(connect_to_fake(&connection), LLM_OK);
    ck_assert_ptr_null((const void *)(uintptr_t)connection->guard.page);
    fork_and_use();
}
END_TEST

/* ---- Steering and describing ---------------------------------------------------------------------- */

START_TEST(control_calls_bring_their_answers)
{
    char report[64];
    ck_assert_int_eq(llm_ping(connection, LLM_FOREVER, &error), LLM_OK);
    ck_assert_int_eq(llm_daemon_check(connection, LLM_FOREVER, report, sizeof report, &error),
                     LLM_OK);
    ck_assert_str_eq(report, "every echo was heard");
    ck_assert_int_eq(llm_daemon_check(connection, LLM_FOREVER, report, 6, &error), LLM_OK);
    ck_assert_str_eq(report, "every");
    ck_assert_int_eq(llm_request_cancel(connection, 77, LLM_FOREVER, &error), LLM_ERR_NOT_FOUND);
    ck_assert_str_eq(error.message, "there is no request 77");
    ck_assert_int_eq(llm_daemon_restart_engine(connection, &error), LLM_ERR_PERMISSION);
    ck_assert_str_eq(error.message, "user 1000 may not");
    ck_assert_int_eq(llm_daemon_stop(connection, &error), LLM_OK);
}
END_TEST

START_TEST(a_public_memory_is_mapped_and_outlives_the_connection)
{
    const void *address = NULL;
    size_t bytes = 0;
    ck_assert_int_eq(llm_memory_map(connection, "secrets", &address, &bytes, &error),
                     LLM_ERR_NOT_FOUND);
    ck_assert_str_eq(error.message, "there is no public memory \"secrets\"");
    ck_assert_ptr_null(address);
    ck_assert_int_eq(llm_memory_map(connection, "vocab", &address, &bytes, &error), LLM_OK);
    llm_disconnect(connection);
    connection = NULL;
    ck_assert_uint_eq(bytes, 4096);
    ck_assert_str_eq(address, "a public memory");
    llm_memory_unmap(address, bytes);
}
END_TEST

START_TEST(a_connection_describes_itself)
{
    llm_connection_info info;
    ck_assert_int_eq(llm_connection_describe(connection, &info, &error), LLM_OK);
    ck_assert_uint_eq(info.connection_id, 1);
    ck_assert_uint_eq(info.engine_generation, 1);
    ck_assert(info.engine_ready);
    ck_assert_uint_eq(info.keeper_pid, (uint32_t)getpid());
    ck_assert_uint_eq(info.stream_slots, 8);
    ck_assert_uint_eq(info.log_words, 4096);
    ck_assert_uint_eq(info.prompt_bytes, 65536);
    ck_assert_str_eq(info.status_name, "/llmd.fake");
    ck_assert_str_eq(info.socket, path);
}
END_TEST

static int count_descriptors(void)
{
    int count = 0;
    DIR *open_files = opendir("/proc/self/fd");
    while (readdir(open_files))
        count++;
    closedir(open_files);
    return count;
}

START_TEST(connecting_and_leaving_leaks_no_descriptor)
{
    ck_assert_int_eq(llm_ping(connection, LLM_FOREVER, &error), LLM_OK); /* the fake is done, too */
    int before = count_descriptors();
    for (int i = 0; i < 50; i++) {
        llm_connection *passing;
        ck_assert_int_eq(connect_to_fake(&passing), LLM_OK);
        ck_assert_int_eq(llm_ping(passing, LLM_FOREVER, &error), LLM_OK);
        llm_disconnect(passing);
        while (fake_daemon_counts(fake).open > 1)
            sched_yield();
    }
    ck_assert_int_eq(count_descriptors(), before);
}
END_TEST

START_TEST(idle_waiting_costs_the_daemon_nothing)
{
    llm_stream *stream = submit(&(llm_sampling){.max_tokens = 10, .model = "hold"});
    uint32_t id, count;
    ck_assert_int_eq(llm_ping(connection, LLM_FOREVER, &error), LLM_OK);
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, 20 * LLM_NS_PER_MS, &count, &error),
                     LLM_ERR_TIMEOUT);
    uint32_t sleeps = fake_daemon_counts(fake).sleeps;
    ck_assert_int_eq(llm_stream_read(stream, &id, NULL, 1, 200 * LLM_NS_PER_MS, &count, &error),
                     LLM_ERR_TIMEOUT);
    ck_assert_uint_le(fake_daemon_counts(fake).sleeps, sleeps + 1);
    llm_stream_close(stream);
}
END_TEST

/* ---- Connecting ----------------------------------------------------------------------------------- */

START_TEST(a_missing_daemon_is_named)
{
    make_path();
    ck_assert_int_eq(connect_to_fake(&connection), LLM_ERR_NOT_FOUND);
    char sentence[256];
    snprintf(sentence, sizeof sentence,
             "no daemon answers at %s: start llmd, or name its socket in LLMD_SOCKET", path);
    ck_assert_str_eq(error.message, sentence);
    ck_assert_ptr_null(connection);
}
END_TEST

START_TEST(a_refused_hello_brings_the_daemons_sentence)
{
    static const struct {
        struct fake_daemon_options options;
        enum llm_status status;
        const char *sentence;
    } rows[] = {
        {{.refuse = LLM_ERR_BUSY}, LLM_ERR_BUSY, "not today"},
        {{.refuse = LLM_ERR_BUSY, .refuse_at_door = true}, LLM_ERR_BUSY, "not today"},
        {{.refuse = LLM_ERR_PERMISSION}, LLM_ERR_PERMISSION, "not today"},
        {{.refuse = LLM_ERR_BUSY, .refuse_wordless = true},
         LLM_ERR_BUSY,
         "the daemon gave no reason"},
        {{.wrong_version = true}, LLM_ERR_VERSION, "the daemon speaks protocol 2, this library 1"},
    };
    make_path();
    fake = fake_daemon_open(path, &rows[_i].options);
    ck_assert_int_eq(connect_to_fake(&connection), rows[_i].status);
    ck_assert_str_eq(error.message, rows[_i].sentence);
    ck_assert_ptr_null(connection);
}
END_TEST

START_TEST(a_silent_daemon_is_not_waited_for_longer_than_asked)
{
    make_path();
    fake = fake_daemon_open(path, &(struct fake_daemon_options){.silent = true});
    const llm_connect_options options = {
        .socket = path, .no_autostart = true, .timeout_ns = 30 * LLM_NS_PER_MS};
    ck_assert_int_eq(llm_connect(&connection, &options, &error), LLM_ERR_TIMEOUT);
    ck_assert_str_eq(error.message, "the daemon did not answer in time");
}
END_TEST

START_TEST(a_welcome_that_is_wrong_is_refused_and_leaks_nothing)
{
    static const struct {
        enum fake_lie lie;
        const char *sentence;
    } rows[] = {
        {FAKE_SHORT_REPLY, "the daemon's answer is not of this protocol"},
        {FAKE_WRONG_MAGIC, "the daemon's answer is not of this protocol"},
        {FAKE_NO_DESCRIPTORS, "the daemon sent 0 descriptors where 5 belong"},
        {FAKE_WRONG_GEOMETRY, "the daemon's geometry (17 queue entries, 8 stream slots, 4096 log "
                              "words) is not valid"},
        {FAKE_LARGER_GEOMETRY, "shared memory \"up\" has 73728 bytes where 77824 were agreed"},
        {FAKE_WRONG_BOOT_ID,
         "the control page (magic 0x4c54434d4c4c0001, version 1) is not that of "
         "the daemon that answered"},
    };
    make_path();
    fake = fake_daemon_open(path, &(struct fake_daemon_options){.lie = rows[_i].lie});
    const llm_connect_options options = {
        .socket = path, .no_autostart = true, .timeout_ns = 300 * LLM_NS_PER_MS};
    int before = count_descriptors();
    ck_assert_int_eq(llm_connect(&connection, &options, &error), LLM_ERR_PEER);
    ck_assert_str_eq(error.message, rows[_i].sentence);
    ck_assert_ptr_null(connection);
    while (count_descriptors() != before) /* until the fake has seen us leave; a leak times out */
        sched_yield();
}
END_TEST

START_TEST(the_socket_is_found_by_the_rule)
{
    open_fake(NULL);
    llm_connection *found;
    setenv("LLMD_SOCKET", path, 1);
    setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
    ck_assert_int_eq(llm_connect(&found, &(llm_connect_options){.no_autostart = true}, &error),
                     LLM_OK);
    llm_disconnect(found);

    fake_daemon_close(fake);
    char nested[80];
    snprintf(nested, sizeof nested, "%s/llmd", directory);
    ck_assert_int_eq(mkdir(nested, 0700), 0);
    snprintf(path, sizeof path, "%s/llmd.sock", nested);
    fake = fake_daemon_open(path, NULL);
    unsetenv("LLMD_SOCKET");
    setenv("XDG_RUNTIME_DIR", directory, 1);
    ck_assert_int_eq(llm_connect(&found, &(llm_connect_options){.no_autostart = true}, &error),
                     LLM_OK);
    llm_connection_info info;
    ck_assert_int_eq(llm_connection_describe(found, &info, &error), LLM_OK);
    ck_assert_str_eq(info.socket, path);
    llm_disconnect(found);
    fake_daemon_close(fake);
    fake = NULL;
    rmdir(nested);
}
END_TEST

START_TEST(a_path_that_is_no_socket_address_is_refused)
{
    char long_path[200];
    memset(long_path, 'a', sizeof long_path - 1);
    long_path[0] = '/';
    long_path[sizeof long_path - 1] = '\0';
    ck_assert_int_eq(llm_connect(&connection, &(llm_connect_options){.socket = long_path}, &error),
                     LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "has 199 bytes: 1 to 107"));
    ck_assert_int_eq(llm_connect(&connection, &(llm_connect_options){.socket = ""}, &error),
                     LLM_ERR_INVALID);
}
END_TEST

START_TEST(a_socket_of_somebody_else_is_refused)
{
    open_fake(NULL);
    chmod(path, 0600);
    chmod(directory, 0755);
    pid_t child = fork();
    if (child == 0) {
        llm_connection *none = NULL;
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(2);
        _exit(connect_to_fake(&none) != LLM_ERR_PERMISSION || none != NULL ||
              strstr(error.message, "ask for membership of its group") == NULL);
    }
    int result;
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert_int_eq(result, 0);
}
END_TEST

static void add_answers(TCase *tc)
{
    tcase_add_test(tc, an_answer_is_what_the_daemon_published);
    tcase_add_test(tc, a_held_request_times_out_and_is_cancelled);
    tcase_add_test(tc, slots_logs_and_prompt_bytes_are_used_again_and_again);
    tcase_add_test(tc, several_threads_share_a_connection);
    tcase_add_test(tc, wait_any_finds_the_one_that_moved);
    tcase_add_test(tc, a_dead_daemon_ends_every_wait);
}

int main(void)
{
    Suite *suite = suite_create("client/client");
    TCase *tc = tcase_create("asleep");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    add_answers(tc);
    tcase_add_test(tc, without_sampling_it_is_greedy_with_256_tokens);
    tcase_add_test(tc, logprobs_come_when_asked_for_and_are_nan_otherwise);
    tcase_add_test(tc, a_stop_id_ends_the_answer);
    tcase_add_test(tc, a_finished_stream_describes_itself);
    tcase_add_test(tc, a_request_that_fails_gives_its_tokens_then_its_sentence);
    tcase_add_test(tc, a_request_past_its_time_fails);
    tcase_add_test(tc, a_signal_handler_may_cancel);
    tcase_add_test(tc, epochs_wrap_and_old_cancels_hit_nobody);
    tcase_add_test(tc, connections_do_not_disturb_each_other);
    tcase_add_test(tc, wait_any_refuses_streams_of_two_connections);
    tcase_add_test(tc, an_event_loop_gets_every_token_through_its_descriptor);
    tcase_add_test(tc, a_field_out_of_range_is_named);
    tcase_add_test(tc, the_edges_of_every_range_are_accepted);
    tcase_add_test(tc, what_can_never_fit_is_over_a_limit);
    tcase_add_test(tc, what_does_not_fit_now_is_busy_until_streams_are_closed);
    tcase_add_test(tc, reading_into_nothing_is_refused);
    tcase_add_test(tc, tokens_that_arrived_are_read_before_the_daemons_death_is_told);
    tcase_add_test(tc, an_event_loop_is_told_of_the_daemons_death);
    tcase_add_loop_test(tc, an_expelled_client_hears_why, 0, 2);
    tcase_add_test(tc, a_record_that_makes_no_sense_is_reported);
    tcase_add_test(tc, a_forked_child_is_told_to_connect_again);
    tcase_add_test(tc, a_forked_child_is_told_so_without_wipeonfork);
    tcase_add_test(tc, control_calls_bring_their_answers);
    tcase_add_test(tc, a_public_memory_is_mapped_and_outlives_the_connection);
    tcase_add_test(tc, a_connection_describes_itself);
    tcase_add_test(tc, connecting_and_leaving_leaks_no_descriptor);
    tcase_add_test(tc, idle_waiting_costs_the_daemon_nothing);
    suite_add_tcase(suite, tc);

    TCase *spinning = tcase_create("spinning");
    tcase_add_checked_fixture(spinning, setup_spinning, teardown);
    tcase_set_timeout(spinning, 60);
    add_answers(spinning);
    suite_add_tcase(suite, spinning);

    TCase *connecting = tcase_create("connecting");
    tcase_add_checked_fixture(connecting, NULL, teardown);
    tcase_set_timeout(connecting, 60);
    tcase_add_test(connecting, a_missing_daemon_is_named);
    tcase_add_loop_test(connecting, a_refused_hello_brings_the_daemons_sentence, 0, 5);
    tcase_add_test(connecting, a_silent_daemon_is_not_waited_for_longer_than_asked);
    tcase_add_loop_test(connecting, a_welcome_that_is_wrong_is_refused_and_leaks_nothing, 0, 6);
    tcase_add_test(connecting, the_socket_is_found_by_the_rule);
    tcase_add_test(connecting, a_path_that_is_no_socket_address_is_refused);
    if (getuid() == 0)
        tcase_add_test(connecting, a_socket_of_somebody_else_is_refused);
    else
        printf("a_socket_of_somebody_else_is_refused: skipped: needs root\n");
    suite_add_tcase(suite, connecting);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
