/* Reading an answer: look at the record, copy from the log, wait when there is nothing. */
#include "client/context.h"

#include <string.h>

#include "shm/check.h"
#include "shm/clock.h"
#include "shm/wait.h"

/* The wire's numbers are the API's numbers. */
static_assert((int)LLM_FINISHED_STOP_ID == (int)LLM_FINISH_STOP_ID, "one list");
static_assert((int)LLM_FINISHED_STOP_STRING == (int)LLM_FINISH_STOP_STRING, "one list");
static_assert((int)LLM_FINISHED_LENGTH == (int)LLM_FINISH_LENGTH, "one list");
static_assert((int)LLM_FINISHED_CONTEXT == (int)LLM_FINISH_CONTEXT, "one list");
static_assert((int)LLM_FINISHED_CANCELLED == (int)LLM_FINISH_CANCELLED, "one list");
static_assert((int)LLM_FINISHED_FAILED == (int)LLM_FINISH_FAILED, "one list");
static_assert((int)LLM_FINISHED_ANSWERED == (int)LLM_FINISH_ANSWERED, "one list");

/* ---- Looking -------------------------------------------------------------------------------------- */

static enum llm_status look_at(const struct llm_stream *stream, struct llm_stream_look *out_look,
                               struct llm_error *error)
{
    enum llm_status status = llm_stream_reader_look(&stream->reader, out_look);
    if (status != LLM_OK)
        return llm_fail(error, status,
                        "the daemon broke the protocol: the record of stream slot %u makes no "
                        "sense",
                        stream->slot);
    return LLM_OK;
}

static bool has_news(const struct llm_stream *stream, const struct llm_stream_look *look)
{
    return look->done || look->count > stream->reader.seen;
}

struct one_stream {
    const struct llm_stream *stream;
    struct llm_stream_look look;
};

static enum llm_status one_ready(void *what, struct llm_error *error)
{
    struct one_stream *wanted = what;
    enum llm_status status = look_at(wanted->stream, &wanted->look, error);
    if (status == LLM_OK && !has_news(wanted->stream, &wanted->look))
        status = LLM_ERR_TIMEOUT;
    return status;
}

/* How the answer ended; its sentence, or the status in words when it came without one. */
static enum llm_status final_status(const struct llm_stream *stream, struct llm_error *error)
{
    char note[LLM_NOTE_BYTES];
    enum llm_status status = llm_stream_reader_status(&stream->reader, note);
    if (status == LLM_OK)
        return LLM_OK;
    return llm_fail(error, status, "%s", note[0] ? note : llm_status_name(status));
}

/* ---- Reading -------------------------------------------------------------------------------------- */

enum llm_status llm_stream_read(llm_stream *stream, uint32_t *out_tokens, float *out_logprobs,
                                uint32_t capacity_tokens, uint64_t timeout_ns, uint32_t *out_count,
                                llm_error *error)
{
    enum llm_status status = llm_connection_own(stream->connection, error);
    if (status != LLM_OK)
        return status;
    if (capacity_tokens == 0)
        return llm_fail(error, LLM_ERR_INVALID, "capacity_tokens is 0: at least 1");
    struct one_stream wanted = {.stream = stream};
    status = llm_connection_wait(stream->connection, one_ready, &wanted,
                                 llm_deadline_ns(timeout_ns), error);
    if (status != LLM_OK)
        return status;
    if (wanted.look.count == stream->reader.seen) {
        status = final_status(stream, error);
        if (status == LLM_OK)
            *out_count = 0;
        return status;
    }
    *out_count = llm_stream_reader_take(&stream->reader, &wanted.look, out_tokens, out_logprobs,
                                        capacity_tokens);
    return LLM_OK;
}

struct any_stream {
    llm_stream *const *streams;
    uint32_t stream_count;
    uint32_t which;
};

static enum llm_status any_ready(void *what, struct llm_error *error)
{
    struct any_stream *wanted = what;
    for (uint32_t i = 0; i < wanted->stream_count; i++) {
        struct llm_stream_look look;
        if (!wanted->streams[i])
            continue;
        enum llm_status status = look_at(wanted->streams[i], &look, error);
        if (status != LLM_OK)
            return status;
        if (has_news(wanted->streams[i], &look)) {
            wanted->which = i;
            return LLM_OK;
        }
    }
    return LLM_ERR_TIMEOUT;
}

static enum llm_status common_connection(llm_stream *const *streams, uint32_t stream_count,
                                         struct llm_connection **out_connection,
                                         struct llm_error *error)
{
    struct llm_connection *connection = NULL;
    for (uint32_t i = 0; i < stream_count; i++) {
        if (!streams[i])
            continue;
        if (connection && streams[i]->connection != connection)
            return llm_fail(error, LLM_ERR_INVALID,
                            "stream %u of %u belongs to another connection than those before it",
                            i + 1, stream_count);
        connection = streams[i]->connection;
    }
    if (!connection)
        return llm_fail(error, LLM_ERR_INVALID, "none of the %u streams is one to wait for",
                        stream_count);
    *out_connection = connection;
    return LLM_OK;
}

enum llm_status llm_streams_wait_any(llm_stream *const *streams, uint32_t stream_count,
                                     uint64_t timeout_ns, uint32_t *out_which, llm_error *error)
{
    struct any_stream wanted = {.streams = streams, .stream_count = stream_count};
    struct llm_connection *connection = NULL;
    enum llm_status status = common_connection(streams, stream_count, &connection, error);
    if (status == LLM_OK)
        status = llm_connection_own(connection, error);
    if (status == LLM_OK)
        status =
            llm_connection_wait(connection, any_ready, &wanted, llm_deadline_ns(timeout_ns), error);
    if (status == LLM_OK)
        *out_which = wanted.which;
    return status;
}

/* ---- Describing ----------------------------------------------------------------------------------- */

static uint64_t since(uint64_t moment_ns, uint64_t submitted_ns)
{
    return moment_ns > submitted_ns ? moment_ns - submitted_ns : 0;
}

static void describe_open(const struct llm_stream *stream, llm_stream_info *info)
{
    const struct llm_stream_record *record = stream->reader.record;
    uint64_t admitted_ns = atomic_load_explicit(&record->admitted_ns, memory_order_relaxed);
    uint64_t first_us = atomic_load_explicit(&record->first_token_us, memory_order_relaxed);
    uint64_t last_us = atomic_load_explicit(&record->last_token_us, memory_order_relaxed);
    info->request_id = atomic_load_explicit(&record->request_id, memory_order_relaxed);
    info->seed = atomic_load_explicit(&record->seed, memory_order_relaxed);
    info->prompt_tokens = atomic_load_explicit(&record->prompt_tokens, memory_order_relaxed);
    info->cached_tokens = atomic_load_explicit(&record->cached_tokens, memory_order_relaxed);
    info->queued_ns = since(admitted_ns, stream->submitted_ns);
    if (first_us)
        info->first_token_ns = since(admitted_ns + first_us * LLM_NS_PER_US, stream->submitted_ns);
    if (last_us)
        info->last_token_ns = since(admitted_ns + last_us * LLM_NS_PER_US, stream->submitted_ns);
}

static void describe_done(const struct llm_stream *stream, llm_stream_info *info)
{
    uint32_t finish = atomic_load_explicit(&stream->reader.record->finish, memory_order_relaxed);
    info->done = true;
    info->finish =
        finish <= LLM_FINISHED_ANSWERED ? (enum llm_finish_reason)finish : LLM_FINISHED_FAILED;
    static_assert(sizeof info->message == LLM_NOTE_BYTES, "one size");
    info->status = llm_stream_reader_status(&stream->reader, info->message);
}

enum llm_status llm_stream_describe(llm_stream *stream, llm_stream_info *out_info, llm_error *error)
{
    struct llm_stream_look look;
    enum llm_status status = llm_connection_own(stream->connection, error);
    if (status == LLM_OK)
        status = look_at(stream, &look, error);
    if (status != LLM_OK)
        return status;
    llm_stream_info info = {.output_tokens = look.count};
    if (look.open)
        describe_open(stream, &info);
    if (look.open && look.done)
        describe_done(stream, &info);
    *out_info = info;
    return LLM_OK;
}

/* ---- Beside the tokens ----------------------------------------------------------------------------- */

static_assert(sizeof(llm_top_logprob) == sizeof(struct llm_top), "one form");
static_assert(offsetof(llm_top_logprob, logprob) == offsetof(struct llm_top, logprob), "one form");

enum llm_status llm_stream_tops(llm_stream *stream, uint32_t index, llm_top_logprob *out_tops,
                                uint32_t capacity, uint32_t *out_count, llm_error *error)
{
    struct llm_stream_look look;
    struct llm_top tops[LLM_TOP_LOGPROBS_MAX];
    enum llm_status status = llm_connection_own(stream->connection, error);
    if (status == LLM_OK)
        status = look_at(stream, &look, error);
    if (status != LLM_OK)
        return status;
    if (!stream->reader.tops)
        return llm_fail(error, LLM_ERR_INVALID,
                        "the request did not ask for the likeliest tokens (top_logprobs)");
    if (index >= look.count)
        return llm_fail(error, LLM_ERR_INVALID,
                        "the answer has %u tokens so far, none with index %u", look.count, index);
    llm_stream_reader_tops(&stream->reader, index, tops);
    uint32_t count = 0;
    while (count < stream->reader.top_count && tops[count].token != UINT32_MAX)
        count++;
    for (uint32_t i = 0; i < count && i < capacity; i++)
        out_tops[i] = (llm_top_logprob){tops[i].token, tops[i].logprob};
    *out_count = count;
    return LLM_OK;
}

enum llm_status llm_stream_sampling(llm_stream *stream, llm_sampling_in_force *out_sampling,
                                    llm_error *error)
{
    struct llm_stream_look look;
    enum llm_status status = llm_connection_own(stream->connection, error);
    if (status == LLM_OK)
        status = look_at(stream, &look, error);
    if (status != LLM_OK)
        return status;
    if (!look.open)
        return llm_fail(error, LLM_ERR_BUSY, "the engine has not begun the answer yet");
    if (atomic_load_explicit(&stream->reader.record->request_id, memory_order_relaxed) == 0)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "the request was refused: nothing was in force");
    struct llm_in_force f =
        stream->reader.in_force ? llm_stream_reader_in_force(&stream->reader) : stream->in_force;
    if (!(f.top_p > 0.0f)) /* a stream that follows, or no request at all */
        return llm_fail(error, LLM_ERR_NOT_FOUND,
                        "the stream is no answer to a request of its own");
    *out_sampling = (llm_sampling_in_force){.temperature = f.temperature,
                                            .top_k = f.top_k,
                                            .top_p = f.top_p,
                                            .min_p = f.min_p,
                                            .typical_p = f.typical_p,
                                            .repetition_penalty = f.repetition_penalty};
    return LLM_OK;
}

/* ---- Ending --------------------------------------------------------------------------------------- */

static void cancel(const struct llm_stream *stream)
{
    struct llm_connection *connection = stream->connection;
    llm_cancel_post(connection->up, connection->cancel_words, stream->slot, stream->reader.epoch);
    llm_engine_ring(connection->down, connection->to_engine_fd);
}

void llm_stream_cancel(llm_stream *stream)
{
    if (llm_connection_own(stream->connection, NULL) == LLM_OK)
        cancel(stream);
}

void llm_stream_close(llm_stream *stream)
{
    if (!stream || llm_connection_own(stream->connection, NULL) != LLM_OK)
        return; /* an inherited one lies in its connection, which llm_disconnect() frees */
    /* The cancel word is written while the slot is still ours: later it may belong to another answer. */
    struct llm_stream_look look;
    if (look_at(stream, &look, NULL) != LLM_OK || !look.done)
        cancel(stream);
    struct llm_connection *connection = stream->connection;
    struct llm_context_end end;
    bool ends = llm_branch_end(stream, &end);
    llm_attachment_drop(stream->attachment);
    stream->attachment = NULL;
    llm_slot_table_drop(&connection->slots, stream);
    if (ends)
        llm_context_end_soon(connection, &end); /* needs a slot, perhaps this one */
}
