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

static_assert(sizeof(llm_logit_bias) == sizeof(struct llm_bias), "one form");
static_assert(offsetof(llm_logit_bias, bias) == offsetof(struct llm_bias, bias), "one form");
static_assert((uint32_t)LLM_DEFAULT_TEMPERATURE == (uint32_t)LLM_REQUEST_DEFAULT_TEMPERATURE &&
                  (uint32_t)LLM_DEFAULT_TOP_K == (uint32_t)LLM_REQUEST_DEFAULT_TOP_K &&
                  (uint32_t)LLM_DEFAULT_TOP_P == (uint32_t)LLM_REQUEST_DEFAULT_TOP_P &&
                  (uint32_t)LLM_DEFAULT_MIN_P == (uint32_t)LLM_REQUEST_DEFAULT_MIN_P &&
                  (uint32_t)LLM_DEFAULT_TYPICAL_P == (uint32_t)LLM_REQUEST_DEFAULT_TYPICAL_P &&
                  (uint32_t)LLM_DEFAULT_REPETITION_PENALTY ==
                      (uint32_t)LLM_REQUEST_DEFAULT_REPETITION &&
                  (uint32_t)LLM_DEFAULT_ALL == LLM_REQUEST_DEFAULTS_KNOWN,
              "one list");

/* NULL: it is none. */
static const llm_sampling_more *more_of(const llm_sampling *sampling)
{
    return sampling->more_bytes == 0 ? NULL : (const llm_sampling_more *)(const void *)sampling;
}

static enum llm_status check_more(const llm_sampling *sampling, struct llm_error *error)
{
    if (sampling->more_bytes != 0 && sampling->more_bytes != sizeof(llm_sampling_more))
        return llm_fail(error, LLM_ERR_INVALID, "more_bytes is %u: it must be 0 or %zu",
                        sampling->more_bytes, sizeof(llm_sampling_more));
    const llm_sampling_more *more = more_of(sampling);
    const struct {
        const char *what;
        const void *list;
        uint32_t count;
    } lists[] = {
        {"biases", more ? more->biases : NULL, more ? more->bias_count : 0},
        {"banned ids", more ? more->banned_ids : NULL, more ? more->banned_id_count : 0},
        {"allowed ids", more ? more->allowed_ids : NULL, more ? more->allowed_id_count : 0}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (!lists[i].list && lists[i].count > 0)
            return llm_fail(error, LLM_ERR_INVALID, "the %u %s are NULL", lists[i].count,
                            lists[i].what);
    return LLM_OK;
}

/* In the library 0 means "off" everywhere; on the wire these are off at 1. */
static float off_at_one(float value)
{
    return value < 0.0f || value > 0.0f || value != value ? value : 1.0f;
}

static struct llm_steering steering_of(const llm_sampling *sampling)
{
    const llm_sampling_more *more = more_of(sampling);
    if (!more)
        return llm_steering_none();
    return (struct llm_steering){.typical_p = off_at_one(more->typical_p),
                                 .repetition_penalty = off_at_one(more->repetition_penalty),
                                 .presence_penalty = more->presence_penalty,
                                 .frequency_penalty = more->frequency_penalty,
                                 .min_tokens = more->min_tokens,
                                 .top_logprobs = more->top_logprobs,
                                 .bias_count = more->bias_count,
                                 .banned_id_count = more->banned_id_count,
                                 .allowed_id_count = more->allowed_id_count};
}

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
        .top_p = off_at_one(sampling->top_p),
        .min_p = sampling->min_p,
        .top_k = sampling->top_k,
        .seed = sampling->has_seed ? sampling->seed : 0,
        .flags = flags_of(sampling) | asking->flags |
                 (sampling->more_bytes != 0 ? LLM_REQUEST_STEERED : 0u),
        .defaults = sampling->model_defaults,
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
                                  const struct llm_steering *steering,
                                  struct llm_slot_needs *out_needs, struct llm_error *error)
{
    uint64_t body_bytes = llm_request_map(body, steering).bytes;
    struct llm_log_shape shape = llm_request_log_shape(body, steering->top_logprobs);
    uint64_t log_words = llm_log_words(&shape, body->max_tokens);
    enum llm_status status = llm_request_check(body, (uint32_t)body_bytes, error);
    if (status == LLM_OK && (body->flags & LLM_REQUEST_STEERED))
        status = llm_steering_check(steering, body, error);
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
        *out_needs = (struct llm_slot_needs){
            .log_words = (uint32_t)log_words, .body_bytes = (uint32_t)body_bytes, .shape = shape};
    return status;
}

static void write_list(unsigned char *to, const void *list, size_t bytes)
{
    if (bytes > 0)
        memcpy(to, list, bytes);
}

static void write_steering(unsigned char *to, const struct llm_request_map *map,
                           const struct llm_steering *steering, const llm_sampling_more *more)
{
    memcpy(to + map->steering_offset, steering, sizeof *steering);
    write_list(to + map->bias_offset, more->biases, more->bias_count * sizeof(struct llm_bias));
    write_list(to + map->banned_id_offset, more->banned_ids,
               more->banned_id_count * sizeof(uint32_t));
    write_list(to + map->allowed_id_offset, more->allowed_ids,
               more->allowed_id_count * sizeof(uint32_t));
}

static void write_body(unsigned char *to, const struct llm_request_body *body,
                       const struct llm_steering *steering, const uint32_t *prompt,
                       const llm_sampling *sampling, const struct stop_strings *strings)
{
    struct llm_request_map map = llm_request_map(body, steering);
    memcpy(to, body, sizeof *body);
    write_list(to + map.prompt_offset, prompt, body->prompt_tokens * sizeof(uint32_t));
    write_list(to + map.stop_id_offset, sampling->stop_ids, body->stop_id_count * sizeof(uint32_t));
    if (more_of(sampling))
        write_steering(to, &map, steering, more_of(sampling));
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
    return check_more(sampling, error);
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
                     const struct llm_request_body *body, const struct llm_steering *steering,
                     const struct stop_strings *strings)
{
    struct llm_stream_asked *asked = &stream->asked;
    asked->min_tokens = steering->min_tokens;
    stream->in_force = (struct llm_in_force){.temperature = body->temperature,
                                             .top_k = body->top_k,
                                             .top_p = body->top_p,
                                             .min_p = body->min_p,
                                             .typical_p = steering->typical_p,
                                             .repetition_penalty = steering->repetition_penalty};
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
    if (status != LLM_OK)
        return status;
    const struct llm_steering steering = steering_of(asking->sampling);
    status = check_body(&body, &steering, &needs, error);
    if (status == LLM_OK)
        status = llm_slot_table_take(&connection->slots, &needs, &stream, error);
    if (status != LLM_OK)
        return status;
    remember(stream, asking, &body, &steering, &strings);
    write_body(connection->arena + stream->body_offset, &body, &steering, asking->tokens,
               asking->sampling, &strings);
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

const llm_sampling llm_sampling_default = {.max_tokens = DEFAULT_MAX_TOKENS,
                                           .model_defaults = LLM_DEFAULT_ALL};

enum llm_status llm_submit(llm_connection *connection, const uint32_t *prompt,
                           uint32_t prompt_tokens, const llm_sampling *sampling,
                           llm_stream **out_stream, llm_error *error)
{
    const struct llm_asking asking = {.tokens = prompt,
                                      .token_count = prompt_tokens,
                                      .sampling = sampling ? sampling : &llm_sampling_default};
    return llm_asking_submit(connection, &asking, out_stream, error);
}
