/* From llm_sampling and a prompt to a submission that the engine can see. */
#include "client/submit.h"

#include <stdio.h>
#include <string.h>

#include "shm/clock.h"
#include "shm/crash_point.h"
#include "shm/request.h"
#include "shm/wait.h"

#define DEFAULT_MAX_TOKENS 256u

/* ---- The body ------------------------------------------------------------------------------------- */

/* Stop strings as the wire has them: a length byte, then the bytes. */
struct stop_strings {
    uint8_t bytes[LLM_STOP_STRINGS_MAX * (1 + LLM_STOP_STRING_BYTES_MAX)];
    uint32_t used;
};

static enum llm_status encode_stop_strings(const llm_sampling *sampling,
                                           struct stop_strings *out_strings,
                                           struct llm_error *error)
{
    out_strings->used = 0;
    if (sampling->stop_string_count > LLM_STOP_STRINGS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "%u stop strings: at most %u",
                        sampling->stop_string_count, LLM_STOP_STRINGS_MAX);
    for (uint32_t i = 0; i < sampling->stop_string_count; i++) {
        const char *text = sampling->stop_strings ? sampling->stop_strings[i] : NULL;
        size_t length = text ? strlen(text) : 0;
        if (length == 0 || length > LLM_STOP_STRING_BYTES_MAX)
            return llm_fail(error, LLM_ERR_INVALID, "stop string %u has %zu bytes: 1 to %u", i + 1,
                            length, LLM_STOP_STRING_BYTES_MAX);
        out_strings->bytes[out_strings->used] = (uint8_t)length;
        memcpy(&out_strings->bytes[out_strings->used + 1], text, length);
        out_strings->used += 1 + (uint32_t)length;
    }
    return LLM_OK;
}

static uint32_t flags_of(const llm_sampling *sampling)
{
    return (sampling->has_seed ? LLM_REQUEST_HAS_SEED : 0u) |
           (sampling->logprobs ? LLM_REQUEST_LOGPROBS : 0u) |
           (sampling->ignore_eos ? LLM_REQUEST_IGNORE_EOS : 0u);
}

static_assert((int)LLM_URGENCY_NORMAL == (int)LLM_PRIORITY_NORMAL, "one list");
static_assert((int)LLM_URGENCY_INTERACTIVE == (int)LLM_PRIORITY_INTERACTIVE, "one list");
static_assert((int)LLM_URGENCY_BATCH == (int)LLM_PRIORITY_BATCH, "one list");

static enum llm_status fill_body(const struct llm_asking *asking, uint32_t stop_string_bytes,
                                 struct llm_request_body *out_body, struct llm_error *error)
{
    const llm_sampling *sampling = asking->sampling;
    if ((unsigned)sampling->urgency >= LLM_PRIORITY_COUNT)
        return llm_fail(error, LLM_ERR_INVALID, "urgency is %u: 0 to %u",
                        (unsigned)sampling->urgency, LLM_PRIORITY_COUNT - 1);
    *out_body = (struct llm_request_body){
        .prompt_tokens = asking->token_count,
        .max_tokens = sampling->max_tokens,
        .temperature = sampling->temperature,
        /* In the library 0 means "off" everywhere; on the wire top_p is off at 1. */
        .top_p = sampling->top_p == 0.0f ? 1.0f : sampling->top_p,
        .min_p = sampling->min_p,
        .top_k = sampling->top_k,
        .seed = sampling->has_seed ? sampling->seed : 0,
        .flags = flags_of(sampling) | asking->flags,
        .stop_id_count = sampling->stop_id_count,
        .stop_string_count = sampling->stop_string_count,
        .stop_string_bytes = stop_string_bytes,
        .branch = sampling->branch,
        .priority = (uint32_t)sampling->urgency,
    };
    const char *model = sampling->model ? sampling->model : "";
    if (strlen(model) >= sizeof out_body->model)
        return llm_fail(error, LLM_ERR_INVALID, "model name \"%.80s\" has %zu bytes: at most %zu",
                        model, strlen(model), sizeof out_body->model - 1);
    memcpy(out_body->model, model, strlen(model));
    return LLM_OK;
}

/* The engine's rules, and that the sizes fit 32 bits. */
static enum llm_status check_body(const struct llm_request_body *body,
                                  struct llm_slot_needs *out_needs, struct llm_error *error)
{
    uint64_t body_bytes = llm_request_map(body).bytes;
    bool logprobs = (body->flags & LLM_REQUEST_LOGPROBS) != 0;
    uint64_t log_words = (uint64_t)body->max_tokens * (logprobs ? 2 : 1);
    enum llm_status status = llm_request_check(body, (uint32_t)body_bytes, error);
    if (body_bytes >
        UINT32_MAX) /* the check above cannot know: its sentence would be about framing */
        status =
            llm_fail(error, LLM_ERR_LIMIT, "a request of %llu bytes can never fit a connection",
                     (unsigned long long)body_bytes);
    if (status == LLM_OK && log_words > LLM_COMMIT_COUNT_MAX)
        status = llm_fail(error, LLM_ERR_LIMIT,
                          "an answer of max_tokens %u can never fit a connection's log",
                          body->max_tokens);
    if (status == LLM_OK)
        *out_needs = (struct llm_slot_needs){.log_words = (uint32_t)log_words,
                                             .body_bytes = (uint32_t)body_bytes,
                                             .logprobs = logprobs};
    return status;
}

static void write_body(unsigned char *to, const struct llm_request_body *body,
                       const uint32_t *prompt, const uint32_t *stop_ids,
                       const struct stop_strings *strings)
{
    struct llm_request_map map = llm_request_map(body);
    memcpy(to, body, sizeof *body);
    if (body->prompt_tokens > 0)
        memcpy(to + map.prompt_offset, prompt, body->prompt_tokens * sizeof(uint32_t));
    if (body->stop_id_count > 0)
        memcpy(to + map.stop_id_offset, stop_ids, body->stop_id_count * sizeof(uint32_t));
    memcpy(to + map.stop_string_offset, strings->bytes, strings->used);
}

static enum llm_status check_pointers(const uint32_t *prompt, uint32_t prompt_tokens,
                                      const llm_sampling *sampling, struct llm_error *error)
{
    if (!prompt && prompt_tokens > 0)
        return llm_fail(error, LLM_ERR_INVALID, "the prompt of %u tokens is NULL", prompt_tokens);
    if (!sampling->stop_ids && sampling->stop_id_count > 0)
        return llm_fail(error, LLM_ERR_INVALID, "the %u stop ids are NULL",
                        sampling->stop_id_count);
    return LLM_OK;
}

/* ---- The submission ------------------------------------------------------------------------------- */

/* Publish; on failure the stream stays taken. */
static enum llm_status push(struct llm_connection *connection, struct llm_stream *stream,
                            enum llm_operation operation, uint64_t deadline_ns, uint64_t argument,
                            struct llm_error *error)
{
    struct llm_submission submission = {
        .operation = (uint8_t)operation,
        .stream_slot = stream->slot,
        .stream_epoch = stream->reader.epoch,
        .log_offset = stream->log_offset,
        .log_words = stream->log_words,
        .body_offset = stream->body_offset,
        .body_bytes = stream->body_bytes,
        .deadline_ns = deadline_ns,
        .argument = argument,
    };
    /* After 2^32 answers a slot's epochs begin anew, and its cancel word must not name one of the last lap. */
    atomic_store_explicit(&connection->cancel_words[stream->slot], stream->reader.epoch - 1,
                          memory_order_relaxed);
    CRASH_POINT(submit_word);
    stream->submitted_ns = llm_now_ns();
    uint64_t position;
    enum llm_status status = llm_queue_push(&connection->queue, &submission, &position);
    if (status != LLM_OK)
        return status == LLM_ERR_BUSY
                   ? llm_fail(error, status, "the submission queue of %u entries is full: wait",
                              connection->geometry.queue_entries)
                   : llm_fail(error, status,
                              "the daemon broke the protocol: it took in more than was submitted");
    /* Pairs with the acquire in drop_body_if_taken(). */
    atomic_store_explicit(&stream->position, position, memory_order_release);
    llm_engine_ring(connection->down, connection->to_engine_fd);
    return LLM_OK;
}

enum llm_status llm_connection_submit(struct llm_connection *connection, struct llm_stream *stream,
                                      enum llm_operation operation, uint64_t deadline_ns,
                                      uint64_t argument, struct llm_error *error)
{
    enum llm_status status = push(connection, stream, operation, deadline_ns, argument, error);
    if (status != LLM_OK)
        llm_slot_table_untake(&connection->slots, stream);
    return status;
}

/* ---- A request: prepared, then sent ---------------------------------------------------------------- */

/* For who reads the answer as text, when `asking` may be gone. */
static void remember(struct llm_stream *stream, const struct llm_asking *asking,
                     const struct llm_request_body *body, const struct stop_strings *strings)
{
    struct llm_stream_asked *asked = &stream->asked;
    memcpy(asked->model, asking->context_model ? asking->context_model : body->model,
           sizeof asked->model);
    asked->stop_id_count = body->stop_id_count;
    asked->stop_string_count = body->stop_string_count;
    if (body->stop_id_count > 0)
        memcpy(asked->stop_ids, asking->sampling->stop_ids,
               body->stop_id_count * sizeof asked->stop_ids[0]);
    memcpy(asked->stop_strings, strings->bytes, strings->used);
    stream->branched = stream->branch_owned = (asking->flags & LLM_REQUEST_BRANCH) != 0;
    stream->context_id = stream->branched ? 0 : asking->context_id;
}

enum llm_status llm_asking_prepare(struct llm_connection *connection,
                                   const struct llm_asking *asking, struct llm_stream **out_stream,
                                   struct llm_error *error)
{
    struct stop_strings strings;
    struct llm_request_body body;
    struct llm_slot_needs needs;
    struct llm_stream *stream;
    enum llm_status status =
        check_pointers(asking->tokens, asking->token_count, asking->sampling, error);
    if (status == LLM_OK)
        status = encode_stop_strings(asking->sampling, &strings, error);
    if (status == LLM_OK)
        status = fill_body(asking, strings.used, &body, error);
    if (status == LLM_OK)
        status = check_body(&body, &needs, error);
    if (status == LLM_OK)
        status = llm_slot_table_take(&connection->slots, &needs, &stream, error);
    if (status != LLM_OK)
        return status;
    remember(stream, asking, &body, &strings);
    write_body(connection->arena + stream->body_offset, &body, asking->tokens,
               asking->sampling->stop_ids, &strings);
    CRASH_POINT(submit_body);
    *out_stream = stream;
    return LLM_OK;
}

enum llm_status llm_asking_send(struct llm_connection *connection, const struct llm_asking *asking,
                                struct llm_stream *stream, struct llm_error *error)
{
    /* A deadline of 0 is none, and so is one beyond the end of time. */
    uint64_t timeout_ns = asking->sampling->timeout_ns;
    uint64_t deadline_ns = timeout_ns ? llm_deadline_ns(timeout_ns) : 0;
    if (deadline_ns == UINT64_MAX)
        deadline_ns = 0;
    return push(connection, stream, LLM_OP_GENERATE, deadline_ns, asking->context_id, error);
}

enum llm_status llm_asking_submit(struct llm_connection *connection,
                                  const struct llm_asking *asking, llm_stream **out_stream,
                                  struct llm_error *error)
{
    llm_stream *stream;
    enum llm_status status = llm_connection_own(connection, error);
    if (status == LLM_OK)
        status = llm_connection_alive(connection, error);
    if (status == LLM_OK)
        status = llm_asking_prepare(connection, asking, &stream, error);
    if (status != LLM_OK)
        return status;
    status = llm_asking_send(connection, asking, stream, error);
    if (status == LLM_OK)
        *out_stream = stream;
    else
        llm_slot_table_untake(&connection->slots, stream);
    return status;
}

const llm_sampling llm_sampling_default = {.max_tokens = DEFAULT_MAX_TOKENS};

enum llm_status llm_submit(llm_connection *connection, const uint32_t *prompt,
                           uint32_t prompt_tokens, const llm_sampling *sampling,
                           llm_stream **out_stream, llm_error *error)
{
    const struct llm_asking asking = {.tokens = prompt,
                                      .token_count = prompt_tokens,
                                      .sampling = sampling ? sampling : &llm_sampling_default};
    return llm_asking_submit(connection, &asking, out_stream, error);
}
