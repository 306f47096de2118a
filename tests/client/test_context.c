/*
 * test_context.c - client/: calls on contexts, against the fake daemon (tests/support/fake_contexts.h).
 * How: every call once as it is meant, once with each refusal, and its answers with each lie. The slot table is looked at
 * after each test, so that no call keeps a slot, log words or arena bytes.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/context.h"
#include "shm/clock.h"
#include "tests/support/fake_daemon.h"

static char directory[64], path[96];
static struct fake_daemon *fake;
static llm_connection *connection;
static llm_context *notes;
static llm_error error;
static const uint32_t past[] = {11, 22, 33, 44};

#define ASSERT_OK(call) ck_assert_msg((call) == LLM_OK, "%s", error.message)

static enum llm_status connect_to_fake(llm_connection **out_connection)
{
    const llm_connect_options options = {.socket = path,
                                         .name = "test_context",
                                         .no_autostart = true,
                                         .timeout_ns = 5 * LLM_NS_PER_S};
    return llm_connect(out_connection, &options, &error);
}

static void open_fake(const struct fake_daemon_options *options)
{
    snprintf(directory, sizeof directory, "/tmp/llm-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/llmd.sock", directory);
    fake = fake_daemon_open(path, options);
    ASSERT_OK(connect_to_fake(&connection));
    ASSERT_OK(llm_context_create(connection, NULL, &notes, &error));
    ASSERT_OK(llm_context_append(notes, past, 4, &error));
}

static void setup(void)
{
    open_fake(NULL);
}

static void teardown(void)
{
    llm_context_close(notes);
    if (connection)
        ck_assert(llm_slot_table_sane(&connection->slots));
    llm_disconnect(connection);
    if (fake)
        fake_daemon_close(fake);
    rmdir(directory);
}

/* What was sent and not waited for has happened after a round trip. */
static uint32_t contexts_now(void)
{
    enum llm_status status;
    do /* slots that were closed while they ran are free in a moment */
        status = llm_ping(connection, LLM_FOREVER, &error);
    while (status == LLM_ERR_BUSY);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    return fake_daemon_counts(fake).contexts;
}

/* What had no room to be asked for, or was not known yet, is asked for with later calls. If it never comes to this the
 * test's time is up. */
static void settle_at(uint32_t contexts)
{
    do {
        llm_context_info info;
        enum llm_status status = llm_context_describe(notes, &info, &error);
        ck_assert_msg(status == LLM_OK || status == LLM_ERR_BUSY, "%s", error.message);
    } while (contexts_now() != contexts);
}

static void expect_tokens(llm_context *context, const uint32_t *tokens, uint32_t count)
{
    uint32_t got[64], got_count;
    ASSERT_OK(llm_context_read(context, 0, got, 64, &got_count, &error));
    ck_assert_uint_eq(got_count, count);
    ck_assert_mem_eq(got, tokens, count * sizeof *tokens);
}

static uint32_t read_stream(llm_stream *stream, uint32_t *out, uint32_t capacity)
{
    uint32_t total = 0, count = 1;
    while (count > 0) {
        ck_assert_uint_lt(total, capacity);
        ASSERT_OK(llm_stream_read(stream, out + total, NULL, capacity - total, LLM_FOREVER, &count,
                                  &error));
        total += count;
    }
    return total;
}

/* ---- Making, finding, ending ------------------------------------------------------------------------- */

START_TEST(what_is_appended_is_read)
{
    expect_tokens(notes, past, 4);
    uint32_t tail[2], count;
    ASSERT_OK(llm_context_read(notes, 2, tail, 2, &count, &error));
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(tail[1], 44);
    ASSERT_OK(llm_context_read(notes, 4, tail, 2, &count, &error));
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(closing_the_handle_that_made_it_ends_an_unnamed_one)
{
    llm_context *other;
    uint64_t id = llm_context_id(notes);
    ASSERT_OK(llm_context_attach(connection, id, &other, &error));
    llm_context_close(other);
    ck_assert_uint_eq(contexts_now(), 1); /* it was only found */
    llm_context_close(notes);
    ck_assert_uint_eq(contexts_now(), 0);
    notes = NULL;
    ck_assert_int_eq(llm_context_attach(connection, id, &other, &error), LLM_ERR_NOT_FOUND);
    llm_context_close(NULL);
}
END_TEST

START_TEST(a_published_one_is_opened_by_name_and_outlives_its_handles)
{
    llm_context *other;
    llm_context_info info;
    ck_assert_int_eq(llm_context_open(connection, "team/notes", &other, &error), LLM_ERR_NOT_FOUND);
    ASSERT_OK(llm_context_publish(notes, "team/notes",
                                  &(llm_publish){.mode = 0640, .gid = 7, .has_gid = true}, &error));
    ASSERT_OK(llm_context_open(connection, "team/notes", &other, &error));
    ck_assert_uint_eq(llm_context_id(other), llm_context_id(notes));
    ASSERT_OK(llm_context_describe(other, &info, &error));
    ck_assert_str_eq(info.name, "team/notes");
    ck_assert_str_eq(info.model, "echo");
    ck_assert_uint_eq(info.mode, 0640);
    ck_assert_uint_eq(info.gid, 7);
    ck_assert_uint_eq(info.length, 4);
    ck_assert_uint_eq(info.block_tokens, 16);
    ck_assert_uint_eq(info.idle_ns, 2 * LLM_NS_PER_S);
    ck_assert(info.named && !info.pinned && !info.leased && !info.generating && info.writable);
    llm_context_close(other);
    llm_context_close(notes);
    notes = NULL;
    ck_assert_uint_eq(contexts_now(), 1);
}
END_TEST

START_TEST(without_options_it_is_published_for_its_owner_alone)
{
    llm_context_info info;
    ASSERT_OK(llm_context_publish(notes, "mine", NULL, &error));
    ASSERT_OK(llm_context_describe(notes, &info, &error));
    ck_assert_uint_eq(info.mode, 0600);
    ASSERT_OK(llm_context_chmod(notes, 0644, &error));
    ASSERT_OK(llm_context_describe(notes, &info, &error));
    ck_assert_uint_eq(info.mode, 0644);
}
END_TEST

START_TEST(names_out_of_range_are_refused_with_their_length)
{
    char long_name[200];
    llm_context *other = NULL;
    memset(long_name, 'x', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    ck_assert_int_eq(llm_context_open(connection, long_name, &other, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "199 bytes: at most 103"));
    ck_assert_int_eq(llm_context_open(connection, "", &other, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(llm_context_open(connection, NULL, &other, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(llm_context_publish(notes, long_name, NULL, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(llm_context_create(connection, long_name, &other, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "at most 63"));
    ck_assert_int_eq(llm_context_attach(connection, 0, &other, &error), LLM_ERR_NOT_FOUND);
    ck_assert_int_eq(llm_context_create(connection, "none", &other, &error), LLM_ERR_NOT_FOUND);
    ck_assert_ptr_null(other);
}
END_TEST

START_TEST(a_lease_is_told_in_milliseconds_rounded_up)
{
    llm_context_info info;
    ASSERT_OK(llm_context_lease(notes, 1, &error));
    ASSERT_OK(llm_context_describe(notes, &info, &error));
    ck_assert(info.leased);
    ck_assert_uint_eq(info.lease_ns, LLM_NS_PER_MS);
    ck_assert_int_eq(llm_context_lease(notes, 50 * 86400 * LLM_NS_PER_S, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(llm_context_lease(notes, UINT64_MAX, &error), LLM_ERR_INVALID);
    llm_context_close(notes);
    notes = NULL;
    ck_assert_uint_eq(contexts_now(), 1); /* the lease keeps it */
}
END_TEST

START_TEST(an_adopted_one_ends_with_the_handle)
{
    llm_connection *second;
    llm_context *other;
    ASSERT_OK(connect_to_fake(&second));
    ASSERT_OK(llm_context_attach(second, llm_context_id(notes), &other, &error));
    ASSERT_OK(llm_context_adopt(other, &error));
    llm_context_close(notes); /* no longer this connection's: it stays */
    notes = NULL;
    ck_assert_uint_eq(contexts_now(), 1);
    llm_context_close(other);
    ASSERT_OK(llm_ping(second, LLM_FOREVER, &error));
    ck_assert_uint_eq(contexts_now(), 0);
    llm_disconnect(second);
}
END_TEST

START_TEST(a_removed_one_is_gone_for_all_handles)
{
    llm_context *other;
    llm_context_info info;
    ASSERT_OK(llm_context_attach(connection, llm_context_id(notes), &other, &error));
    ASSERT_OK(llm_context_remove(notes, &error));
    ck_assert_int_eq(llm_context_describe(other, &info, &error), LLM_ERR_NOT_FOUND);
    llm_context_close(other);
}
END_TEST

/* ---- Forks ------------------------------------------------------------------------------------------- */

START_TEST(a_fork_has_the_same_tokens_and_goes_its_own_way)
{
    llm_context *mine, *half;
    llm_context_info info;
    const uint32_t five[] = {11, 22, 33, 44, 55};
    ASSERT_OK(llm_context_fork(notes, &mine, &error));
    ASSERT_OK(llm_context_fork_at(notes, 2, &half, &error));
    ASSERT_OK(llm_context_append(mine, five + 4, 1, &error));
    expect_tokens(mine, five, 5);
    expect_tokens(half, five, 2);
    expect_tokens(notes, past, 4);
    ASSERT_OK(llm_context_describe(mine, &info, &error));
    ck_assert_uint_eq(info.parent_id, llm_context_id(notes));
    ck_assert_uint_eq(info.shared_tokens, 4);
    ASSERT_OK(llm_context_rewind(mine, 1, &error));
    expect_tokens(mine, five, 1);
    ck_assert_int_eq(llm_context_rewind(mine, 2, &error), LLM_ERR_INVALID);
    llm_context_close(mine);
    llm_context_close(half);
    ck_assert_uint_eq(contexts_now(), 1);
}
END_TEST

START_TEST(a_long_context_is_read_page_by_page)
{
    static uint32_t tokens[3000], got[4000];
    uint32_t count;
    llm_context *tall;
    for (uint32_t i = 0; i < 3000; i++)
        tokens[i] = i * 7;
    ASSERT_OK(llm_context_create(connection, NULL, &tall, &error));
    ASSERT_OK(llm_context_append(tall, tokens, 3000, &error));
    ASSERT_OK(
        llm_context_read(tall, 0, got, 4000, &count, &error)); /* the log has 4096 words in all */
    ck_assert_uint_eq(count, 3000);
    ck_assert_mem_eq(got, tokens, sizeof tokens);
    ASSERT_OK(llm_context_read(tall, 2999, got, 4000, &count, &error));
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(got[0], 2999 * 7);
    llm_context_close(tall);
}
END_TEST

START_TEST(a_page_is_smaller_while_answers_hold_the_log)
{
    static uint32_t got[2000];
    uint32_t count;
    llm_stream *stream;
    const uint32_t prompt[] = {1};
    const llm_sampling most = {.max_tokens = 4000, .model = "hold"};
    ASSERT_OK(llm_submit(connection, prompt, 1, &most, &stream, &error));
    ASSERT_OK(llm_context_read(notes, 0, got, 2000, &count, &error));
    ck_assert_uint_eq(count, 4);
    llm_stream_close(stream);
}
END_TEST

/* ---- Generating -------------------------------------------------------------------------------------- */

START_TEST(what_is_generated_is_appended)
{
    llm_stream *stream;
    uint32_t out[16];
    const uint32_t grown[] = {11, 22, 33, 44, 55, 11, 22, 33};
    ASSERT_OK(
        llm_generate_after(notes, &grown[4], 1, &(llm_sampling){.max_tokens = 3}, &stream, &error));
    ck_assert_uint_eq(read_stream(stream, out, 16), 3);
    ck_assert_mem_eq(out, past, 3 * sizeof *past);
    llm_stream_close(stream);
    expect_tokens(notes, grown, 8);
    ASSERT_OK(llm_generate(notes, &(llm_sampling){.max_tokens = 1}, &stream, &error));
    ck_assert_uint_eq(read_stream(stream, out, 16), 1);
    llm_stream_close(stream);
}
END_TEST

START_TEST(a_context_has_its_model_already)
{
    llm_stream *stream = NULL;
    const llm_sampling sampling = {.max_tokens = 1, .model = "echo"};
    ck_assert_int_eq(llm_generate(notes, &sampling, &stream, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "\"echo\""));
    ck_assert_int_eq(
        llm_context_branch(notes, &(llm_branch){.sampling = sampling}, 1, &stream, &error),
        LLM_ERR_INVALID);
    ck_assert_ptr_null(stream);
}
END_TEST

START_TEST(a_second_generation_is_refused_and_a_fork_is_not)
{
    llm_context *held, *fork;
    llm_stream *stream, *second;
    uint32_t token, count;
    ASSERT_OK(llm_context_create(connection, "hold", &held, &error));
    ASSERT_OK(llm_generate_after(held, past, 4, NULL, &stream, &error));
    ASSERT_OK(llm_generate(held, NULL, &second, &error));
    ck_assert_int_eq(llm_stream_read(second, &token, NULL, 1, LLM_FOREVER, &count, &error),
                     LLM_ERR_BUSY);
    llm_stream_close(second);
    ASSERT_OK(llm_context_fork(held, &fork, &error));
    llm_context_close(fork);
    llm_stream_close(stream);
    llm_context_close(held);
}
END_TEST

START_TEST(urgency_and_branch_are_checked)
{
    llm_stream *stream = NULL;
    const llm_sampling sampling = {.max_tokens = 1, .urgency = (enum llm_urgency)3};
    ck_assert_int_eq(llm_generate(notes, &sampling, &stream, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "urgency is 3: 0 to 2");
    ASSERT_OK(llm_generate(
        notes, &(llm_sampling){.max_tokens = 1, .urgency = LLM_URGENCY_BATCH, .branch = 9}, &stream,
        &error));
    llm_stream_close(stream);
}
END_TEST

START_TEST(computing_and_pinning_wait_and_change_no_token)
{
    llm_context_info info;
    ASSERT_OK(llm_context_compute(notes, &error));
    ASSERT_OK(llm_context_describe(notes, &info, &error));
    ck_assert(!info.pinned && !info.generating);
    ASSERT_OK(llm_context_pin(notes, &error));
    ASSERT_OK(llm_context_describe(notes, &info, &error));
    ck_assert(info.pinned);
    ASSERT_OK(llm_context_unpin(notes, &error));
    ASSERT_OK(llm_context_describe(notes, &info, &error));
    ck_assert(!info.pinned);
    expect_tokens(notes, past, 4);
    fake_daemon_lie_about_contexts(fake, FAKE_CONTEXT_COMPUTED);
    ck_assert_int_eq(llm_context_compute(notes, &error), LLM_ERR_PEER);
}
END_TEST

START_TEST(a_publication_that_fails_leaves_pin_and_mode_as_they_were)
{
    llm_context *other;
    llm_context_info info;
    const llm_publish pinned = {.mode = 0640, .pin = true};
    ASSERT_OK(llm_context_publish(notes, "taken", &pinned, &error));
    ASSERT_OK(llm_context_fork(notes, &other, &error));
    ck_assert_int_eq(llm_context_publish(other, "taken", &pinned, &error), LLM_ERR_EXISTS);
    ASSERT_OK(llm_context_describe(other, &info, &error));
    ck_assert(!info.pinned);
    ck_assert_uint_eq(info.mode, 0600);
    ASSERT_OK(llm_context_pin(other, &error));
    ck_assert_int_eq(llm_context_publish(other, "taken", &pinned, &error), LLM_ERR_EXISTS);
    ASSERT_OK(llm_context_describe(other, &info, &error));
    ck_assert(info.pinned);
    ASSERT_OK(llm_context_describe(notes, &info, &error));
    ck_assert(info.pinned && info.named);
    llm_context_close(other);
}
END_TEST

START_TEST(scores_are_one_number_per_token)
{
    float logprobs[3] = {1, 1, 1};
    ASSERT_OK(llm_context_score(notes, past, 3, logprobs, &error));
    for (int i = 0; i < 3; i++)
        ck_assert(logprobs[i] == -(float)(i + 1) / 8);
    expect_tokens(notes, past, 4);
    static const enum fake_context_lie lies[] = {FAKE_CONTEXT_SCORES, FAKE_CONTEXT_SCORE_FEW};
    for (int i = 0; i < 2; i++) {
        float untouched[2] = {7, 7};
        fake_daemon_lie_about_contexts(fake, lies[i]);
        ck_assert_int_eq(llm_context_score(notes, past, 2, untouched, &error), LLM_ERR_PEER);
        ck_assert(untouched[0] == 7 && untouched[1] == 7);
    }
    ck_assert_int_eq(llm_context_score(notes, past, 0, logprobs, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(llm_context_score(notes, NULL, 2, logprobs, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(llm_context_append(notes, past, 0, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(llm_context_append(notes, NULL, 2, &error), LLM_ERR_INVALID);
}
END_TEST

/* ---- Branches ---------------------------------------------------------------------------------------- */

#define BRANCHES 4

static void branch_four(llm_stream **streams)
{
    static const uint32_t suffixes[BRANCHES] = {100, 101, 102, 103};
    llm_branch branches[BRANCHES];
    for (int i = 0; i < BRANCHES; i++)
        branches[i] =
            (llm_branch){.tokens = &suffixes[i], .token_count = 1, .sampling = {.max_tokens = 6}};
    ASSERT_OK(llm_context_branch(notes, branches, BRANCHES, streams, &error));
}

START_TEST(the_kept_branch_becomes_the_context_and_the_others_end_with_their_streams)
{
    llm_stream *streams[BRANCHES];
    uint32_t out[16];
    const uint32_t kept[] = {11, 22, 33, 44, 102, 11, 22, 33, 44, 102, 11};
    branch_four(streams);
    for (int i = 0; i < BRANCHES; i++)
        ck_assert_uint_eq(read_stream(streams[i], out, 16), 6);
    ck_assert_uint_eq(contexts_now(), 1 + BRANCHES);
    expect_tokens(notes, past, 4);
    ASSERT_OK(llm_context_keep(notes, streams[2], &error));
    expect_tokens(notes, kept, 11);
    ck_assert_uint_eq(contexts_now(), BRANCHES);
    for (int i = 0; i < BRANCHES; i++)
        llm_stream_close(streams[i]);
    ck_assert_uint_eq(contexts_now(), 1);
}
END_TEST

START_TEST(branches_end_also_when_they_took_every_slot)
{
    llm_branch branches[8];
    llm_stream *streams[8];
    for (int i = 0; i < 8; i++)
        branches[i] = (llm_branch){.sampling = {.max_tokens = 2}};
    ASSERT_OK(llm_context_branch(notes, branches, 8, streams, &error));
    for (int i = 0; i < 8; i++)
        llm_stream_close(streams[i]); /* running or not */
    settle_at(1);
}
END_TEST

START_TEST(branches_that_still_generate_end_when_closed)
{
    llm_context *held;
    llm_stream *streams[2];
    const llm_branch branches[2] = {{.tokens = past, .token_count = 4},
                                    {.tokens = past, .token_count = 2}};
    ASSERT_OK(llm_context_create(connection, "hold", &held, &error));
    ASSERT_OK(llm_context_branch(held, branches, 2, streams, &error));
    ck_assert_int_eq(llm_context_keep(held, streams[0], &error), LLM_ERR_BUSY);
    llm_stream_close(streams[0]);
    llm_stream_close(streams[1]);
    llm_context_close(held);
    settle_at(1);
}
END_TEST

START_TEST(a_branch_taken_over_by_a_handle_outlives_its_stream)
{
    llm_stream *streams[BRANCHES];
    llm_context *mine, *again;
    uint32_t out[16];
    branch_four(streams);
    read_stream(streams[1], out, 16);
    ASSERT_OK(llm_stream_context(streams[1], &mine, &error));
    ASSERT_OK(llm_stream_context(streams[1], &again, &error));
    ck_assert_uint_eq(llm_context_id(mine), llm_context_id(again));
    llm_context_close(again); /* found, not made */
    for (int i = 0; i < BRANCHES; i++)
        llm_stream_close(streams[i]);
    ck_assert_uint_eq(contexts_now(), 2);
    llm_context_close(mine);
    ck_assert_uint_eq(contexts_now(), 1);
}
END_TEST

START_TEST(the_context_of_a_stream_is_the_one_it_runs_on)
{
    llm_stream *stream;
    llm_context *same = NULL;
    ASSERT_OK(llm_generate(notes, &(llm_sampling){.max_tokens = 1}, &stream, &error));
    ASSERT_OK(llm_stream_context(stream, &same, &error));
    ck_assert_uint_eq(llm_context_id(same), llm_context_id(notes));
    llm_context_close(same);
    ck_assert_int_eq(llm_context_keep(notes, stream, &error), LLM_ERR_INVALID);
    llm_stream_close(stream);
    ck_assert_uint_eq(contexts_now(), 1);
    same = NULL;
    ASSERT_OK(llm_submit(connection, past, 4, &(llm_sampling){.max_tokens = 1}, &stream, &error));
    ck_assert_int_eq(llm_stream_context(stream, &same, &error), LLM_ERR_INVALID);
    ck_assert_ptr_null(same);
    llm_stream_close(stream);
}
END_TEST

START_TEST(a_scored_branch_gives_its_tokens_back_and_makes_no_context)
{
    const llm_branch branch = {.tokens = past, .token_count = 3, .score = true};
    llm_stream *stream;
    uint32_t ids[8], count;
    float logprobs[8];
    ASSERT_OK(llm_context_branch(notes, &branch, 1, &stream, &error));
    ASSERT_OK(llm_stream_read(stream, ids, logprobs, 8, LLM_FOREVER, &count, &error));
    ck_assert_uint_ge(count, 1);
    ck_assert_uint_eq(ids[0], 11);
    ck_assert(logprobs[0] == -0.125f);
    llm_stream_close(stream);
    ck_assert_uint_eq(contexts_now(), 1);
}
END_TEST

START_TEST(branches_are_all_or_none)
{
    llm_branch branches[9];
    llm_stream *streams[9] = {NULL};
    uint32_t before = fake_daemon_counts(fake).requests;
    for (int i = 0; i < 9; i++)
        branches[i] = (llm_branch){.sampling = {.max_tokens = 2}};
    ck_assert_int_eq(llm_context_branch(notes, branches, 9, streams, &error), LLM_ERR_LIMIT);
    ck_assert_str_eq(error.message, "9 branches: this connection has 8 stream slots in all");
    ck_assert_int_eq(llm_context_branch(notes, branches, 0, streams, &error), LLM_ERR_INVALID);
    branches[5].sampling.temperature = -1;
    ck_assert_int_eq(llm_context_branch(notes, branches, 8, streams, &error), LLM_ERR_INVALID);
    branches[5] = (llm_branch){.score = true};
    ck_assert_int_eq(llm_context_branch(notes, branches, 8, streams, &error), LLM_ERR_INVALID);
    ck_assert_uint_eq(fake_daemon_counts(fake).requests, before); /* nothing was sent */
    for (int i = 0; i < 9; i++)
        ck_assert_ptr_null(streams[i]);
    llm_stream *stream;
    ASSERT_OK(llm_submit(connection, past, 4, &(llm_sampling){.max_tokens = 9, .model = "hold"},
                         &stream, &error));
    branches[5] = branches[0];
    ck_assert_int_eq(llm_context_branch(notes, branches, 8, streams, &error), LLM_ERR_BUSY);
    llm_stream_close(stream);
}
END_TEST

static void *unpause(void *argument)
{
    (void)argument;
    usleep(20000);
    fake_daemon_pause(fake, false);
    return NULL;
}

START_TEST(more_branches_than_the_queue_holds_wait_for_it)
{
    const struct fake_daemon_options options = {.geometry = {.queue_entries = 8,
                                                             .event_entries = 64,
                                                             .stream_slots = 32,
                                                             .log_words = 4096,
                                                             .arena_bytes = 16 * LLM_PAGE_BYTES}};
    llm_branch branches[20];
    llm_stream *streams[20];
    uint32_t out[16];
    pthread_t thread;
    open_fake(&options);
    for (int i = 0; i < 20; i++)
        branches[i] = (llm_branch){.sampling = {.max_tokens = 2}};
    fake_daemon_pause(fake, true);
    ck_assert_int_eq(pthread_create(&thread, NULL, unpause, NULL), 0);
    ASSERT_OK(llm_context_branch(notes, branches, 20, streams, &error));
    pthread_join(thread, NULL);
    for (int i = 0; i < 20; i++) {
        ck_assert_uint_eq(read_stream(streams[i], out, 16), 2);
        llm_stream_close(streams[i]);
    }
    settle_at(1);
}
END_TEST

/* ---- Following --------------------------------------------------------------------------------------- */

START_TEST(only_a_running_answer_can_be_followed)
{
    llm_context *held;
    llm_stream *leader, *follower = NULL;
    uint32_t out[16];
    ck_assert_int_eq(llm_context_follow(notes, &follower, &error), LLM_ERR_NOT_FOUND);
    ck_assert_str_eq(error.message, "nothing is being generated on it");
    ck_assert_ptr_null(follower);
    ASSERT_OK(llm_context_create(connection, "hold", &held, &error));
    ASSERT_OK(llm_generate_after(held, past, 4, NULL, &leader, &error));
    ASSERT_OK(llm_context_follow(held, &follower, &error));
    ck_assert_uint_eq(read_stream(follower, out, 16), 4);
    llm_stream_close(follower);
    llm_stream_close(leader);
    llm_context_close(held);
}
END_TEST

/* ---- Lists and probes -------------------------------------------------------------------------------- */

START_TEST(a_list_is_read_to_its_end_in_pieces)
{
    llm_context *more[20];
    llm_context_info infos[16];
    uint32_t cursor = 0, count = 1, total = 0;
    uint64_t last = 0;
    for (int i = 0; i < 20; i++)
        ASSERT_OK(llm_context_fork(notes, &more[i], &error));
    while (count > 0) {
        ASSERT_OK(llm_contexts_list(connection, &cursor, infos, 7, &count, &error));
        ck_assert_uint_le(count, 7);
        for (uint32_t i = 0; i < count; i++) {
            ck_assert_uint_gt(infos[i].id, last); /* the fake's ids grow with their slots */
            last = infos[i].id;
        }
        total += count;
    }
    ck_assert_uint_eq(total, 21);
    for (int i = 0; i < 20; i++)
        llm_context_close(more[i]);
    cursor = 0;
    ck_assert_int_eq(llm_contexts_list(connection, &cursor, infos, 0, &count, &error),
                     LLM_ERR_INVALID);
}
END_TEST

START_TEST(a_list_that_lies_is_the_peers_fault_and_moves_nothing)
{
    static const enum fake_context_lie lies[] = {FAKE_CONTEXT_SHORT,  FAKE_CONTEXT_NO_ID,
                                                 FAKE_CONTEXT_NAME,   FAKE_CONTEXT_MODEL,
                                                 FAKE_CONTEXT_SHARED, FAKE_CONTEXT_BACKWARDS};
    llm_context_info infos[4] = {{.id = 99}};
    uint32_t cursor = 0, count = 77;
    llm_context *second;
    ASSERT_OK(llm_context_fork(notes, &second, &error));
    fake_daemon_lie_about_contexts(fake, lies[_i]);
    ck_assert_int_eq(llm_contexts_list(connection, &cursor, infos, 4, &count, &error),
                     LLM_ERR_PEER);
    ck_assert_uint_eq(cursor, 0);
    ck_assert_uint_eq(count, 77);
    ck_assert_uint_eq(infos[0].id, 99);
    llm_context_close(second);
}
END_TEST

START_TEST(a_record_that_lies_is_the_peers_fault)
{
    static const enum fake_context_lie lies[] = {FAKE_CONTEXT_SHORT, FAKE_CONTEXT_NO_ID,
                                                 FAKE_CONTEXT_NAME, FAKE_CONTEXT_MODEL,
                                                 FAKE_CONTEXT_SHARED};
    llm_context *other = NULL;
    llm_context_info info = {.id = 99};
    fake_daemon_lie_about_contexts(fake, lies[_i]);
    ck_assert_int_eq(llm_context_fork(notes, &other, &error), LLM_ERR_PEER);
    ck_assert_int_eq(llm_context_create(connection, NULL, &other, &error), LLM_ERR_PEER);
    ck_assert_int_eq(llm_context_attach(connection, llm_context_id(notes), &other, &error),
                     LLM_ERR_PEER);
    ck_assert_int_eq(llm_context_describe(notes, &info, &error), LLM_ERR_PEER);
    ck_assert_int_eq(llm_context_publish(notes, "a", NULL, &error), LLM_ERR_PEER);
    ck_assert_int_eq(llm_context_adopt(notes, &error), LLM_ERR_PEER);
    fake_daemon_lie_about_contexts(fake, FAKE_CONTEXT_OTHER_ID);
    ck_assert_int_eq(llm_context_describe(notes, &info, &error), LLM_ERR_PEER);
    ck_assert_ptr_null(other);
    ck_assert_uint_eq(info.id, 99);
}
END_TEST

START_TEST(a_probe_says_what_is_there)
{
    const uint32_t prompt[] = {11, 22, 34, 44};
    llm_probe_result results[8];
    uint32_t count;
    ASSERT_OK(llm_cache_probe(connection, NULL, prompt, 4, results, 8, &count, &error));
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(results[0].kind, LLM_PROBE_HIT);
    ck_assert_uint_eq(results[0].to, 2);
    ck_assert_uint_eq(results[0].domain_kind, LLM_DOMAIN_GROUP);
    ck_assert_uint_eq(results[0].domain_id, 77);
    ck_assert_uint_eq(results[0].context_id, llm_context_id(notes));
    ck_assert_uint_eq(results[1].kind, LLM_PROBE_MISS);
    ck_assert_uint_eq(results[1].from, 2);
    ck_assert_uint_eq(results[1].to, 4);
    ck_assert_uint_eq(results[1].cached_token, 33);
    ASSERT_OK(llm_cache_probe(connection, "echo", prompt, 4, results, 1, &count, &error));
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(llm_cache_probe(connection, NULL, prompt, 0, results, 8, &count, &error),
                     LLM_ERR_INVALID);
    ck_assert_int_eq(llm_cache_probe(connection, NULL, prompt, 4, results, 0, &count, &error),
                     LLM_ERR_INVALID);
}
END_TEST

START_TEST(a_probe_that_lies_is_the_peers_fault)
{
    static const enum fake_context_lie lies[] = {FAKE_CONTEXT_SHORT, FAKE_CONTEXT_SPAN_KIND,
                                                 FAKE_CONTEXT_SPAN_GAP, FAKE_CONTEXT_SPAN_BEYOND,
                                                 FAKE_CONTEXT_SPAN_DOMAIN};
    const uint32_t prompt[] = {11, 22, 34, 44};
    llm_probe_result results[8] = {{.to = 99}};
    uint32_t count = 77;
    fake_daemon_lie_about_contexts(fake, lies[_i]);
    ck_assert_int_eq(llm_cache_probe(connection, NULL, prompt, 4, results, 8, &count, &error),
                     LLM_ERR_PEER);
    ck_assert_uint_eq(count, 77);
    ck_assert_uint_eq(results[0].to, 99);
}
END_TEST

/* ---- Every call, at its worst ------------------------------------------------------------------------ */

static enum llm_status call(int which, llm_context *context)
{
    static const llm_branch branch = {.sampling = {.max_tokens = 1}};
    llm_context *other = NULL;
    llm_context_info info;
    llm_probe_result result;
    uint32_t token = 1, count = 0, cursor = 0;
    float logprob;
    llm_stream *stream = NULL;
    enum llm_status status;
    switch (which) {
    case 0:
        status = llm_context_create(context->connection, NULL, &other, &error);
        break;
    case 1:
        status = llm_context_open(context->connection, "x", &other, &error);
        break;
    case 2:
        status = llm_context_attach(context->connection, 1, &other, &error);
        break;
    case 3:
        status = llm_context_fork(context, &other, &error);
        break;
    case 4:
        status = llm_context_append(context, &token, 1, &error);
        break;
    case 5:
        status = llm_context_rewind(context, 0, &error);
        break;
    case 6:
        status = llm_context_publish(context, "x", NULL, &error);
        break;
    case 7:
        status = llm_context_chmod(context, 0600, &error);
        break;
    case 8:
        status = llm_context_unpin(context, &error);
        break;
    case 9:
        status = llm_context_lease(context, 0, &error);
        break;
    case 10:
        status = llm_context_adopt(context, &error);
        break;
    case 11:
        status = llm_context_remove(context, &error);
        break;
    case 12:
        status = llm_context_read(context, 0, &token, 1, &count, &error);
        break;
    case 13:
        status = llm_context_describe(context, &info, &error);
        break;
    case 14:
        status = llm_contexts_list(context->connection, &cursor, &info, 1, &count, &error);
        break;
    case 15:
        status = llm_cache_probe(context->connection, NULL, &token, 1, &result, 1, &count, &error);
        break;
    case 16:
        status = llm_context_follow(context, &stream, &error);
        break;
    case 17:
        status = llm_context_compute(context, &error);
        break;
    case 18:
        status = llm_context_pin(context, &error);
        break;
    case 19:
        status = llm_context_score(context, &token, 1, &logprob, &error);
        break;
    case 20: /* what the engine says of these comes with the stream */
        status = llm_generate(context, NULL, &stream, &error);
        break;
    default:
        status = llm_context_branch(context, &branch, 1, &stream, &error);
        break;
    }
    if (status != LLM_OK)
        ck_assert(!other && !stream && count == 0 && cursor == 0);
    if (status == LLM_OK && stream) {
        status = llm_stream_read(stream, &token, NULL, 1, LLM_FOREVER, &count, &error);
        llm_stream_close(stream);
    }
    return status;
}
#define CALLS 22

START_TEST(what_the_engine_refuses_comes_back_with_its_sentence)
{
    static const enum llm_status refusals[] = {
        LLM_ERR_NOT_FOUND, LLM_ERR_PERMISSION, LLM_ERR_BUSY,   LLM_ERR_LIMIT,
        LLM_ERR_INVALID,   LLM_ERR_EXISTS,     LLM_ERR_MEMORY, LLM_ERR_UNSUPPORTED};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        fake_daemon_refuse_contexts(fake, refusals[i]);
        ck_assert_int_eq(call(_i, notes), refusals[i]);
        ck_assert_str_eq(error.message, "refused as the test wants it");
    }
    fake_daemon_refuse_contexts(fake, LLM_OK);
    ck_assert(llm_slot_table_sane(&connection->slots));
}
END_TEST

START_TEST(in_a_forks_child_every_call_is_refused)
{
    pid_t pid = fork();
    if (pid == 0) {
        int wrong = 0;
        for (int i = 0; i < CALLS; i++)
            wrong += call(i, notes) != LLM_ERR_FORKED;
        llm_context_close(notes);
        llm_disconnect(connection);
        _exit(wrong);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    expect_tokens(notes, past, 4); /* the parent's goes on */
}
END_TEST

START_TEST(when_the_daemon_is_gone_every_call_says_so)
{
    fake_daemon_close(fake);
    fake = NULL;
    for (int i = 0; i < CALLS; i++)
        ck_assert_int_eq(call(i, notes), LLM_ERR_PEER);
}
END_TEST

START_TEST(without_a_free_slot_a_call_is_busy_and_what_was_closed_ends_with_the_next_one)
{
    llm_stream *streams[8];
    llm_context *fork;
    ASSERT_OK(llm_context_fork(notes, &fork, &error));
    ck_assert_uint_eq(contexts_now(), 2);
    for (int i = 0; i < 8; i++)
        ASSERT_OK(llm_submit(connection, past, 4, &(llm_sampling){.max_tokens = 9, .model = "hold"},
                             &streams[i], &error));
    ck_assert_int_eq(llm_context_rewind(notes, 0, &error), LLM_ERR_BUSY);
    llm_context_close(fork);
    for (int i = 0; i < 8; i++)
        llm_stream_close(streams[i]);
    ck_assert_uint_eq(contexts_now(), 2); /* there was no slot to ask with */
    settle_at(1);
}
END_TEST

START_TEST(a_branch_closed_before_the_engine_saw_it_ends_too)
{
    const llm_branch branch = {.sampling = {.max_tokens = 2}};
    llm_stream *stream;
    fake_daemon_pause(fake, true);
    ASSERT_OK(llm_context_branch(notes, &branch, 1, &stream, &error));
    llm_stream_close(stream);
    fake_daemon_pause(fake, false);
    /* Its slot is looked at when somebody needs one: here all of them at once. */
    llm_branch branches[8];
    llm_stream *streams[8];
    for (int i = 0; i < 8; i++)
        branches[i] = branch;
    ck_assert_uint_eq(contexts_now(), 2);
    enum llm_status status;
    while ((status = llm_context_branch(notes, branches, 8, streams, &error)) == LLM_ERR_BUSY)
        ;
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    for (int i = 0; i < 8; i++)
        llm_stream_close(streams[i]);
    settle_at(1);
}
END_TEST

#define THREADS 4

static void *work(void *argument)
{
    llm_context *context = argument;
    llm_error mine;
    for (int i = 0; i < 100; i++) {
        llm_context *fork;
        uint32_t token, count;
        enum llm_status status = llm_context_fork(context, &fork, &mine);
        if (status == LLM_ERR_BUSY || status == LLM_ERR_LIMIT)
            continue; /* the others are many */
        ck_assert_msg(status == LLM_OK, "%s", mine.message);
        status = llm_context_append(fork, past, 4, &mine);
        ck_assert_msg(status == LLM_OK || status == LLM_ERR_BUSY, "%s", mine.message);
        status = llm_context_read(fork, 3, &token, 1, &count, &mine);
        ck_assert_msg(status == LLM_OK || status == LLM_ERR_BUSY, "%s", mine.message);
        ck_assert(status != LLM_OK || (count == 1 && token == 44));
        llm_context_close(fork);
    }
    return NULL;
}

START_TEST(threads_share_one_handle)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, notes), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    expect_tokens(notes, past, 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/context");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_is_appended_is_read);
    tcase_add_test(tc, closing_the_handle_that_made_it_ends_an_unnamed_one);
    tcase_add_test(tc, a_published_one_is_opened_by_name_and_outlives_its_handles);
    tcase_add_test(tc, without_options_it_is_published_for_its_owner_alone);
    tcase_add_test(tc, names_out_of_range_are_refused_with_their_length);
    tcase_add_test(tc, a_lease_is_told_in_milliseconds_rounded_up);
    tcase_add_test(tc, an_adopted_one_ends_with_the_handle);
    tcase_add_test(tc, a_removed_one_is_gone_for_all_handles);
    tcase_add_test(tc, a_fork_has_the_same_tokens_and_goes_its_own_way);
    tcase_add_test(tc, a_long_context_is_read_page_by_page);
    tcase_add_test(tc, a_page_is_smaller_while_answers_hold_the_log);
    tcase_add_test(tc, what_is_generated_is_appended);
    tcase_add_test(tc, a_context_has_its_model_already);
    tcase_add_test(tc, a_second_generation_is_refused_and_a_fork_is_not);
    tcase_add_test(tc, urgency_and_branch_are_checked);
    tcase_add_test(tc, computing_and_pinning_wait_and_change_no_token);
    tcase_add_test(tc, a_publication_that_fails_leaves_pin_and_mode_as_they_were);
    tcase_add_test(tc, scores_are_one_number_per_token);
    tcase_add_test(tc, the_kept_branch_becomes_the_context_and_the_others_end_with_their_streams);
    tcase_add_test(tc, branches_end_also_when_they_took_every_slot);
    tcase_add_test(tc, branches_that_still_generate_end_when_closed);
    tcase_add_test(tc, a_branch_taken_over_by_a_handle_outlives_its_stream);
    tcase_add_test(tc, the_context_of_a_stream_is_the_one_it_runs_on);
    tcase_add_test(tc, a_scored_branch_gives_its_tokens_back_and_makes_no_context);
    tcase_add_test(tc, branches_are_all_or_none);
    tcase_add_test(tc, only_a_running_answer_can_be_followed);
    tcase_add_test(tc, a_list_is_read_to_its_end_in_pieces);
    tcase_add_loop_test(tc, a_list_that_lies_is_the_peers_fault_and_moves_nothing, 0, 6);
    tcase_add_loop_test(tc, a_record_that_lies_is_the_peers_fault, 0, 5);
    tcase_add_test(tc, a_probe_says_what_is_there);
    tcase_add_loop_test(tc, a_probe_that_lies_is_the_peers_fault, 0, 5);
    tcase_add_loop_test(tc, what_the_engine_refuses_comes_back_with_its_sentence, 0, CALLS);
    tcase_add_test(tc, in_a_forks_child_every_call_is_refused);
    tcase_add_test(tc, when_the_daemon_is_gone_every_call_says_so);
    tcase_add_test(tc,
                   without_a_free_slot_a_call_is_busy_and_what_was_closed_ends_with_the_next_one);
    tcase_add_test(tc, a_branch_closed_before_the_engine_saw_it_ends_too);
    tcase_add_test(tc, threads_share_one_handle);
    suite_add_tcase(suite, tc);
    TCase *other = tcase_create("other geometry");
    tcase_set_timeout(other, 60);
    tcase_add_checked_fixture(other, NULL, teardown);
    tcase_add_test(other, more_branches_than_the_queue_holds_wait_for_it);
    suite_add_tcase(suite, other);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
