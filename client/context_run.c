/* Requests on contexts: generating, computing, branching, scoring, following. */
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "client/context.h"
#include "client/submit.h"
#include "shm/clock.h"

#define SEND_TIMEOUT_NS  (10 * LLM_NS_PER_S) /* for a place in the queue, once some were sent */
#define FOLLOW_WORDS_MIN 256u

/* ---- Generating ------------------------------------------------------------------------------------- */

static enum llm_status check_model(const llm_sampling *sampling, struct llm_error *error)
{
    if (sampling && sampling->model)
        return llm_fail(error, LLM_ERR_INVALID,
                        "model is \"%.80s\": a context has its model already, leave it NULL",
                        sampling->model);
    return LLM_OK;
}

static struct llm_asking asking_on(const llm_context *context, const uint32_t *tokens,
                                   uint32_t count, const llm_sampling *sampling, uint32_t flags)
{
    return (struct llm_asking){.tokens = tokens,
                               .token_count = count,
                               .sampling = sampling ? sampling : &llm_sampling_default,
                               .flags = LLM_REQUEST_ON_CONTEXT | flags,
                               .context_id = context->id,
                               .context_model = context->model};
}

enum llm_status llm_generate_after(llm_context *context, const uint32_t *tokens, uint32_t count,
                                   const llm_sampling *sampling, llm_stream **out_stream,
                                   llm_error *error)
{
    const struct llm_asking asking = asking_on(context, tokens, count, sampling, 0);
    enum llm_status status = check_model(sampling, error);
    if (status == LLM_OK)
        status = llm_asking_submit(context->connection, &asking, out_stream, error);
    return status;
}

enum llm_status llm_generate(llm_context *context, const llm_sampling *sampling,
                             llm_stream **out_stream, llm_error *error)
{
    return llm_generate_after(context, NULL, 0, sampling, out_stream, error);
}

/* Compute all rows; the answer has no tokens. */
static enum llm_status compute(llm_context *context, uint32_t flags, struct llm_error *error)
{
    static const llm_sampling one = {.max_tokens = 1};
    const struct llm_asking asking = asking_on(context, NULL, 0, &one, LLM_REQUEST_COMPUTE | flags);
    llm_stream *stream;
    enum llm_status status = llm_asking_submit(context->connection, &asking, &stream, error);
    if (status != LLM_OK)
        return status;
    uint32_t token, count;
    status = llm_stream_read(stream, &token, NULL, 1, LLM_FOREVER, &count, error);
    if (status == LLM_OK && count > 0)
        status = llm_fail(error, LLM_ERR_PEER,
                          "the daemon broke the protocol: tokens where none were asked for");
    llm_stream_close(stream);
    return status;
}

enum llm_status llm_context_compute(llm_context *context, llm_error *error)
{
    return compute(context, 0, error);
}

enum llm_status llm_context_pin(llm_context *context, llm_error *error)
{
    return compute(context, LLM_REQUEST_PIN, error);
}

/* ---- Scoring ---------------------------------------------------------------------------------------- */

#define SCORE_PAGE 256u

static enum llm_status read_scores(llm_stream *stream, const uint32_t *tokens, uint32_t count,
                                   float *out_logprobs, struct llm_error *error)
{
    uint32_t ids[SCORE_PAGE], total = 0, got = 1;
    enum llm_status status = LLM_OK;
    while (status == LLM_OK && got > 0) {
        float logprobs[SCORE_PAGE];
        status = llm_stream_read(stream, ids, logprobs, SCORE_PAGE, LLM_FOREVER, &got, error);
        for (uint32_t i = 0; status == LLM_OK && i < got; i++, total++) {
            if (ids[i] != tokens[total])
                return llm_fail(error, LLM_ERR_PEER,
                                "the daemon broke the protocol: it scored token %u as %u, not %u",
                                total, ids[i], tokens[total]);
            out_logprobs[total] = logprobs[i];
        }
    }
    if (status == LLM_OK && total < count)
        status = llm_fail(error, LLM_ERR_PEER,
                          "the daemon broke the protocol: it scored %u tokens of %u", total, count);
    return status;
}

/* Those beside the tokens of a complete stream; `out_tops` [count][top_count], what is missing marked. */
static enum llm_status read_tops(llm_stream *stream, uint32_t count, uint32_t top_count,
                                 llm_top_logprob *out_tops, struct llm_error *error)
{
    enum llm_status status = LLM_OK;
    for (uint32_t i = 0; i < count && status == LLM_OK; i++) {
        llm_top_logprob *tops = out_tops + (size_t)i * top_count;
        uint32_t found = 0;
        status = llm_stream_tops(stream, i, tops, top_count, &found, error);
        for (uint32_t k = found; k < top_count; k++)
            tops[k] = (llm_top_logprob){UINT32_MAX, -INFINITY};
    }
    return status;
}

/* Into memory of ours: the caller's is untouched on failure. */
static enum llm_status score(llm_context *context, const struct llm_asking *asking,
                             uint32_t top_count, float *logprobs, llm_top_logprob *tops,
                             struct llm_error *error)
{
    llm_stream *stream;
    enum llm_status status = llm_asking_submit(context->connection, asking, &stream, error);
    if (status != LLM_OK)
        return status;
    status = read_scores(stream, asking->tokens, asking->token_count, logprobs, error);
    if (status == LLM_OK && top_count > 0)
        status = read_tops(stream, asking->token_count, top_count, tops, error);
    llm_stream_close(stream);
    return status;
}

enum llm_status llm_context_score_top(llm_context *context, const uint32_t *tokens, uint32_t count,
                                      uint32_t top_count, float *out_logprobs,
                                      llm_top_logprob *out_tops, llm_error *error)
{
    const llm_sampling_more more = {
        .sampling = {.max_tokens = count,
                     .logprobs = true,
                     .more_bytes = top_count > 0 ? sizeof(llm_sampling_more) : 0},
        .top_logprobs = top_count};
    const struct llm_asking asking =
        asking_on(context, tokens, count, &more.sampling, LLM_REQUEST_SCORE);
    if (count == 0)
        return llm_fail(error, LLM_ERR_INVALID, "no tokens to score: at least 1");
    if (top_count > LLM_TOP_LOGPROBS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "top_count is %u: it must be from 0 to %u",
                        top_count, LLM_TOP_LOGPROBS_MAX);
    size_t top_bytes = (size_t)count * top_count * sizeof *out_tops;
    float *logprobs = malloc(count * sizeof *logprobs);
    llm_top_logprob *tops = malloc(top_bytes + 1);
    enum llm_status status =
        logprobs && tops
            ? score(context, &asking, top_count, logprobs, tops, error)
            : llm_fail(error, LLM_ERR_MEMORY, "no memory for %u log-probabilities", count);
    if (status == LLM_OK)
        memcpy(out_logprobs, logprobs, count * sizeof *logprobs);
    if (status == LLM_OK && top_bytes > 0)
        memcpy(out_tops, tops, top_bytes);
    free(logprobs);
    free(tops);
    return status;
}

enum llm_status llm_context_score(llm_context *context, const uint32_t *tokens, uint32_t count,
                                  float *out_logprobs, llm_error *error)
{
    return llm_context_score_top(context, tokens, count, 0, out_logprobs, NULL, error);
}

/* ---- Branching -------------------------------------------------------------------------------------- */

/* Requests that are submitted together: branches that differ, or answers to one question. */
struct together {
    llm_context *context;
    uint32_t count;
    const llm_branch *branches; /* [count]; NULL: the rest says what all of them ask */
    const uint32_t *tokens;
    uint32_t token_count;
    const llm_sampling *sampling;
};

static struct llm_asking asking_of_answer(const struct together *all, uint32_t number,
                                          llm_sampling_more *memory)
{
    if (all->sampling->more_bytes != 0)
        *memory = *(const llm_sampling_more *)(const void *)all->sampling;
    else
        memory->sampling = *all->sampling;
    memory->sampling.branch = number;
    return asking_on(all->context, all->tokens, all->token_count, &memory->sampling,
                     LLM_REQUEST_BRANCH);
}

/* `*sampling` is the memory that the result points at. */
static struct llm_asking asking_of_branch(const llm_context *context, const llm_branch *branch,
                                          uint32_t number, llm_sampling *sampling)
{
    if (branch->score) {
        *sampling = (llm_sampling){.max_tokens = branch->token_count,
                                   .logprobs = true,
                                   .urgency = branch->sampling.urgency,
                                   .timeout_ns = branch->sampling.timeout_ns};
        return asking_on(context, branch->tokens, branch->token_count, sampling, LLM_REQUEST_SCORE);
    }
    *sampling = branch->sampling;
    if (sampling->branch == 0)
        sampling->branch = number;
    if (sampling->max_tokens == 0)
        sampling->max_tokens = llm_sampling_default.max_tokens;
    return asking_on(context, branch->tokens, branch->token_count, sampling, LLM_REQUEST_BRANCH);
}

static struct llm_asking asking_number(const struct together *all, uint32_t number,
                                       llm_sampling_more *memory)
{
    return all->branches
               ? asking_of_branch(all->context, &all->branches[number], number, &memory->sampling)
               : asking_of_answer(all, number, memory);
}

static enum llm_status check_number(const struct together *all, uint32_t number,
                                    struct llm_error *error)
{
    if (!all->branches)
        return check_model(all->sampling, error);
    const llm_branch *branch = &all->branches[number];
    if (branch->sampling.more_bytes != 0)
        return llm_fail(
            error, LLM_ERR_INVALID,
            "more_bytes of branch %u is %u: it must be 0; llm_context_answers() takes more", number,
            branch->sampling.more_bytes);
    if (branch->score && branch->token_count == 0)
        return llm_fail(error, LLM_ERR_INVALID, "branch %u has no tokens to score", number);
    return check_model(&branch->sampling, error);
}

/* On failure nothing is left taken. */
static enum llm_status prepare_together(const struct together *all, llm_stream **out_streams,
                                        struct llm_error *error)
{
    struct llm_connection *connection = all->context->connection;
    enum llm_status status = LLM_OK;
    uint32_t prepared = 0;
    while (prepared < all->count && status == LLM_OK) {
        llm_sampling_more memory;
        status = check_number(all, prepared, error);
        if (status != LLM_OK)
            break;
        const struct llm_asking asking = asking_number(all, prepared, &memory);
        status = llm_asking_prepare(connection, &asking, &out_streams[prepared], error);
        prepared += status == LLM_OK;
    }
    while (status != LLM_OK && prepared > 0)
        llm_slot_table_untake(&connection->slots, out_streams[--prepared]);
    return status;
}

/* Send, waiting for a place in the queue: the engine empties it within a step. */
static enum llm_status send_patiently(struct llm_connection *connection,
                                      const struct llm_asking *asking, llm_stream *stream,
                                      struct llm_error *error)
{
    uint64_t deadline_ns = llm_deadline_ns(SEND_TIMEOUT_NS);
    for (;;) {
        enum llm_status status = llm_asking_send(connection, asking, stream, error);
        if (status != LLM_ERR_BUSY || llm_remaining_ns(deadline_ns) == 0)
            return status;
        status = llm_connection_alive(connection, error);
        if (status != LLM_OK)
            return status;
        sched_yield();
    }
}

/* On failure those sent are cancelled, and nothing is left taken. */
static enum llm_status send_together(const struct together *all, llm_stream **streams,
                                     struct llm_error *error)
{
    struct llm_connection *connection = all->context->connection;
    enum llm_status status = LLM_OK;
    uint32_t sent = 0;
    while (sent < all->count && status == LLM_OK) {
        llm_sampling_more memory;
        const struct llm_asking asking = asking_number(all, sent, &memory);
        status = send_patiently(connection, &asking, streams[sent], error);
        sent += status == LLM_OK;
    }
    for (uint32_t i = 0; i < all->count && status != LLM_OK; i++) {
        if (i < sent)
            llm_stream_close(streams[i]);
        else
            llm_slot_table_untake(&connection->slots, streams[i]);
    }
    return status;
}

static enum llm_status submit_together(const struct together *all, llm_stream **out_streams,
                                       struct llm_error *error)
{
    struct llm_connection *connection = all->context->connection;
    enum llm_status status = llm_connection_own(connection, error);
    if (status == LLM_OK)
        status = llm_connection_alive(connection, error);
    if (status != LLM_OK)
        return status;
    uint32_t slots = connection->geometry.stream_slots;
    if (all->count == 0)
        return llm_fail(error, LLM_ERR_INVALID, "no %s: at least 1",
                        all->branches ? "branches" : "answers");
    if (all->count > slots)
        return llm_fail(error, LLM_ERR_LIMIT, "%u %s: this connection has %u stream slots in all",
                        all->count, all->branches ? "branches" : "answers", slots);
    llm_stream **streams = calloc(all->count, sizeof(llm_stream *));
    if (!streams)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u branches", all->count);
    llm_context_end_pending(connection);
    status = prepare_together(all, streams, error);
    if (status == LLM_OK)
        status = send_together(all, streams, error);
    for (uint32_t i = 0; i < all->count && status == LLM_OK; i++)
        out_streams[i] = streams[i];
    free(streams);
    return status;
}

enum llm_status llm_context_branch(llm_context *context, const llm_branch *branches, uint32_t count,
                                   llm_stream **out_streams, llm_error *error)
{
    static const llm_branch none;
    const struct together all = {
        .context = context, .count = count, .branches = branches ? branches : &none};
    return submit_together(&all, out_streams, error);
}

enum llm_status llm_context_answers(llm_context *context, const uint32_t *tokens,
                                    uint32_t token_count, const llm_sampling *sampling,
                                    uint32_t answer_count, llm_stream **out_streams,
                                    llm_error *error)
{
    const struct together all = {.context = context,
                                 .count = answer_count,
                                 .tokens = tokens,
                                 .token_count = token_count,
                                 .sampling = sampling ? sampling : &llm_sampling_default};
    if (sampling && sampling->more_bytes != 0 && sampling->more_bytes != sizeof(llm_sampling_more))
        return llm_fail(error, LLM_ERR_INVALID, "more_bytes is %u: it must be 0 or %zu",
                        sampling->more_bytes, sizeof(llm_sampling_more));
    return submit_together(&all, out_streams, error);
}

/* ---- The context of a stream ------------------------------------------------------------------------ */

static enum llm_status is_open(void *what, struct llm_error *error)
{
    const struct llm_stream *stream = what;
    struct llm_stream_look look;
    enum llm_status status = llm_stream_reader_look(&stream->reader, &look);
    if (status != LLM_OK)
        return llm_fail(error, status,
                        "the daemon broke the protocol: the record of stream slot %u makes no "
                        "sense",
                        stream->slot);
    return look.open ? LLM_OK : LLM_ERR_TIMEOUT;
}

/* The request's id, once the engine has begun it. */
static enum llm_status request_of(struct llm_stream *stream, uint64_t deadline_ns,
                                  uint64_t *out_request_id, struct llm_error *error)
{
    enum llm_status status =
        llm_connection_wait(stream->connection, is_open, stream, deadline_ns, error);
    if (status == LLM_OK)
        *out_request_id =
            atomic_load_explicit(&stream->reader.record->request_id, memory_order_relaxed);
    return status;
}

static enum llm_status no_context(struct llm_error *error)
{
    return llm_fail(error, LLM_ERR_INVALID, "the stream's answer belongs to no context");
}

/* How to ask for the context that a stream's answer is appended to. */
static enum llm_status body_of_stream(struct llm_stream *stream, uint64_t deadline_ns,
                                      struct llm_context_body *out_body, struct llm_error *error)
{
    *out_body = (struct llm_context_body){.verb = LLM_CONTEXT_OPEN, .id = stream->context_id};
    if (stream->context_id != 0)
        return LLM_OK;
    if (!stream->branched)
        return no_context(error);
    enum llm_status status = request_of(stream, deadline_ns, &out_body->other, error);
    if (status == LLM_OK && out_body->other == 0) /* it was refused */
        status = llm_fail(error, LLM_ERR_NOT_FOUND, "the branch was refused: it has no context");
    return status;
}

enum llm_status llm_stream_context(llm_stream *stream, llm_context **out_context, llm_error *error)
{
    struct llm_context_body body;
    enum llm_status status = llm_connection_own(stream->connection, error);
    if (status == LLM_OK)
        status = body_of_stream(stream, UINT64_MAX, &body, error);
    if (status == LLM_OK)
        status =
            llm_context_handle(stream->connection, &body, stream->branch_owned, out_context, error);
    if (status == LLM_OK) {
        stream->context_id = (*out_context)->id;
        stream->branch_owned = false; /* it ends with the handle */
    }
    return status;
}

static enum llm_status learn_branch(struct llm_stream *stream, uint64_t deadline_ns,
                                    struct llm_error *error)
{
    struct llm_context_body body;
    struct llm_context_record record;
    enum llm_status status = body_of_stream(stream, deadline_ns, &body, error);
    if (status == LLM_OK && stream->context_id == 0) {
        status = llm_context_call_record(stream->connection, &body, &record, deadline_ns, error);
        if (status == LLM_OK)
            stream->context_id = record.id;
    }
    return status;
}

static enum llm_status check_keep(const llm_context *context, const llm_stream *stream,
                                  struct llm_error *error)
{
    struct llm_stream_look look;
    enum llm_status status = llm_connection_own(context->connection, error);
    if (status != LLM_OK)
        return status;
    if (stream->connection != context->connection)
        return llm_fail(error, LLM_ERR_INVALID, "the stream belongs to another connection");
    if (!stream->branched)
        return llm_fail(error, LLM_ERR_INVALID,
                        "the stream is no branch that chose tokens: there is nothing to keep");
    status = llm_stream_reader_look(&stream->reader, &look);
    if (status != LLM_OK)
        return llm_fail(error, status,
                        "the daemon broke the protocol: the record of stream slot "
                        "%u makes no sense",
                        stream->slot);
    if (!look.done)
        return llm_fail(error, LLM_ERR_BUSY,
                        "the branch is still generating: read its stream to "
                        "the end");
    return LLM_OK;
}

enum llm_status llm_context_keep(llm_context *context, llm_stream *stream, llm_error *error)
{
    struct llm_context_record record;
    enum llm_status status = check_keep(context, stream, error);
    if (status == LLM_OK)
        status = learn_branch(stream, UINT64_MAX, error);
    if (status != LLM_OK)
        return status;
    const struct llm_context_body body = {
        .verb = LLM_CONTEXT_KEEP, .id = context->id, .other = stream->context_id};
    status = llm_context_call_record(context->connection, &body, &record, UINT64_MAX, error);
    if (status == LLM_OK)
        stream->branch_owned = false;
    return status;
}

/* ---- The end of a branch ---------------------------------------------------------------------------- */

bool llm_branch_end(struct llm_stream *stream, struct llm_context_end *out_end)
{
    struct llm_stream_look look;
    if (!stream->branch_owned)
        return false;
    if (stream->context_id != 0) {
        *out_end = (struct llm_context_end){.context_id = stream->context_id};
    } else {
        if (llm_stream_reader_look(&stream->reader, &look) != LLM_OK || !look.open)
            return false;
        *out_end =
            (struct llm_context_end){.request_id = atomic_load_explicit(
                                         &stream->reader.record->request_id, memory_order_relaxed)};
    }
    stream->branch_owned = false;
    return out_end->context_id != 0 || out_end->request_id != 0; /* 0: it was refused */
}

/* ---- Following -------------------------------------------------------------------------------------- */

static enum llm_status send_follow(llm_context *context, llm_stream **out_stream,
                                   struct llm_error *error)
{
    const struct llm_context_body body = {.verb = LLM_CONTEXT_FOLLOW, .id = context->id};
    struct llm_connection *connection = context->connection;
    /* How long the answer may become is the other's secret: as much of the log as may be had. */
    uint32_t words = connection->geometry.log_words / 4;
    enum llm_status status;
    do {
        status = llm_context_send(connection, &body, NULL, words, out_stream, error);
        words /= 2;
    } while (status == LLM_ERR_BUSY && words >= FOLLOW_WORDS_MIN);
    return status;
}

/* The engine takes in what was submitted in order: after a round trip it has said whether an answer is running. */
static enum llm_status await_verdict(llm_stream *stream, struct llm_error *error)
{
    llm_stream_info info;
    enum llm_status status = llm_ping(stream->connection, LLM_FOREVER, error);
    if (status == LLM_ERR_BUSY)
        return LLM_OK; /* no slot for that: the first read will tell */
    if (status == LLM_OK)
        status = llm_stream_describe(stream, &info, error);
    if (status == LLM_OK && info.done && info.output_tokens == 0 && info.status != LLM_OK)
        status = llm_fail(error, info.status, "%s",
                          info.message[0] ? info.message : llm_status_name(info.status));
    return status;
}

enum llm_status llm_context_follow(llm_context *context, llm_stream **out_stream, llm_error *error)
{
    llm_stream *stream;
    enum llm_status status = llm_connection_own(context->connection, error);
    if (status == LLM_OK)
        status = llm_connection_alive(context->connection, error);
    if (status == LLM_OK)
        status = send_follow(context, &stream, error);
    if (status != LLM_OK)
        return status;
    stream->context_id = context->id;
    memcpy(stream->asked.model, context->model, sizeof stream->asked.model);
    status = await_verdict(stream, error);
    if (status == LLM_OK)
        *out_stream = stream;
    else
        llm_stream_close(stream);
    return status;
}
