#include "shm/request.h"

#include <string.h>

struct llm_steering llm_steering_none(void)
{
    return (struct llm_steering){.typical_p = 1.0f, .repetition_penalty = 1.0f};
}

struct llm_request_map llm_request_map(const struct llm_request_body *body,
                                       const struct llm_steering *steering)
{
    bool steered = (body->flags & LLM_REQUEST_STEERED) != 0;
    bool lists = steered && steering;
    struct llm_request_map map = {.prompt_offset = sizeof *body};
    map.stop_id_offset = map.prompt_offset + (uint64_t)body->prompt_tokens * sizeof(uint32_t);
    map.steering_offset = map.stop_id_offset + (uint64_t)body->stop_id_count * sizeof(uint32_t);
    map.bias_offset = map.steering_offset + (steered ? sizeof *steering : 0);
    map.banned_id_offset =
        map.bias_offset + (lists ? (uint64_t)steering->bias_count * sizeof(struct llm_bias) : 0);
    map.allowed_id_offset =
        map.banned_id_offset + (lists ? (uint64_t)steering->banned_id_count * sizeof(uint32_t) : 0);
    map.stop_string_offset = map.allowed_id_offset +
                             (lists ? (uint64_t)steering->allowed_id_count * sizeof(uint32_t) : 0);
    map.bytes = map.stop_string_offset + body->stop_string_bytes;
    return map;
}

/* ---- The log --------------------------------------------------------------------------------------- */

struct llm_log_shape llm_request_log_shape(const struct llm_request_body *body,
                                           uint32_t top_logprobs)
{
    return (struct llm_log_shape){.logprobs = (body->flags & LLM_REQUEST_LOGPROBS) != 0,
                                  .tells = body->defaults != 0,
                                  .top_count = top_logprobs};
}

static uint32_t words_per_token(const struct llm_log_shape *shape)
{
    return (shape->logprobs ? 2u : 1u) +
           shape->top_count * (uint32_t)(sizeof(struct llm_top) / sizeof(uint32_t));
}

uint64_t llm_log_words(const struct llm_log_shape *shape, uint32_t max_tokens)
{
    return (uint64_t)max_tokens * words_per_token(shape) + (shape->tells ? LLM_IN_FORCE_WORDS : 0);
}

uint32_t llm_log_capacity(const struct llm_log_shape *shape, uint32_t log_words)
{
    uint32_t apart = shape->tells ? LLM_IN_FORCE_WORDS : 0;
    return log_words < apart ? 0 : (log_words - apart) / words_per_token(shape);
}

/* ---- Fields ---------------------------------------------------------------------------------------- */

/* A float outside its range, NaN included (which compares false with everything). */
static enum llm_status check_range(const char *field, float value, bool in_range, const char *range,
                                   struct llm_error *error)
{
    return in_range ? LLM_OK
                    : llm_fail(error, LLM_ERR_INVALID, "%s is %g: it must be %s", field,
                               (double)value, range);
}

static enum llm_status check_sampling(const struct llm_request_body *body, struct llm_error *error)
{
    if (body->max_tokens == 0)
        return llm_fail(error, LLM_ERR_INVALID, "max_tokens is 0: ask for at least 1");
    enum llm_status status =
        check_range("temperature", body->temperature,
                    body->temperature >= 0.0f && body->temperature <= LLM_TEMPERATURE_MAX,
                    "from 0 to 100", error);
    if (status == LLM_OK)
        status = check_range("top_p", body->top_p, body->top_p > 0.0f && body->top_p <= 1.0f,
                             "above 0 and at most 1", error);
    if (status == LLM_OK)
        status = check_range("min_p", body->min_p, body->min_p >= 0.0f && body->min_p <= 1.0f,
                             "from 0 to 1", error);
    return status;
}

static enum llm_status check_stops(const struct llm_request_body *body, struct llm_error *error)
{
    if (body->stop_id_count > LLM_STOP_IDS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "%u stop ids: at most %u", body->stop_id_count,
                        LLM_STOP_IDS_MAX);
    if (body->stop_string_count > LLM_STOP_STRINGS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "%u stop strings: at most %u",
                        body->stop_string_count, LLM_STOP_STRINGS_MAX);
    uint32_t bytes_max = body->stop_string_count * (1 + LLM_STOP_STRING_BYTES_MAX);
    if (body->stop_string_bytes > bytes_max)
        return llm_fail(error, LLM_ERR_INVALID, "%u bytes of stop strings: %u have at most %u",
                        body->stop_string_bytes, body->stop_string_count, bytes_max);
    return LLM_OK;
}

static enum llm_status check_framing(const struct llm_request_body *body, uint32_t body_bytes,
                                     struct llm_error *error)
{
    uint64_t bytes = llm_request_map(body, NULL).bytes;
    if (body->flags & LLM_REQUEST_STEERED ? bytes > body_bytes : bytes != body_bytes)
        return llm_fail(error, LLM_ERR_INVALID, "the request has %u bytes, its parts have %llu",
                        body_bytes, (unsigned long long)bytes);
    if (!memchr(body->model, '\0', sizeof body->model))
        return llm_fail(error, LLM_ERR_INVALID, "the model's name has no end within %u bytes",
                        LLM_NAME_BYTES);
    if (body->defaults & ~LLM_REQUEST_DEFAULTS_KNOWN)
        return llm_fail(error, LLM_ERR_INVALID, "request defaults %#x: %#x are known",
                        body->defaults, LLM_REQUEST_DEFAULTS_KNOWN);
    return LLM_OK;
}

/* ---- What flags ask of each other and of the fields ------------------------------------------------ */

static const struct {
    uint32_t flag, needs, excludes; /* enum llm_request_flags */
    const char *sentence;
} flag_rules[] = {
    {LLM_REQUEST_BRANCH, LLM_REQUEST_ON_CONTEXT, 0, "a branch needs a context to branch from"},
    {LLM_REQUEST_SCORE, LLM_REQUEST_LOGPROBS, 0, "a score is log-probabilities: ask for them"},
    {LLM_REQUEST_SCORE, 0, LLM_REQUEST_BRANCH, "a score changes no context, so it has no branch"},
    {LLM_REQUEST_COMPUTE, 0, LLM_REQUEST_SCORE, "one request either scores or computes"},
    {LLM_REQUEST_COMPUTE, 0, LLM_REQUEST_BRANCH, "what is computed for a context needs no branch"},
    {LLM_REQUEST_COMPUTE, 0, LLM_REQUEST_LOGPROBS,
     "computing answers no tokens, so it has no log-probabilities"},
    {LLM_REQUEST_PIN, LLM_REQUEST_COMPUTE | LLM_REQUEST_ON_CONTEXT, 0,
     "a pin computes the rows of a context: both flags are needed"},
};

static enum llm_status check_flags(const struct llm_request_body *body, struct llm_error *error)
{
    if (body->flags & ~LLM_REQUEST_FLAGS_KNOWN)
        return llm_fail(error, LLM_ERR_INVALID, "request flags %#x: %#x are known", body->flags,
                        LLM_REQUEST_FLAGS_KNOWN);
    for (size_t i = 0; i < sizeof flag_rules / sizeof flag_rules[0]; i++)
        if ((body->flags & flag_rules[i].flag) &&
            ((body->flags & flag_rules[i].needs) != flag_rules[i].needs ||
             (body->flags & flag_rules[i].excludes)))
            return llm_fail(error, LLM_ERR_INVALID, "request flags %#x: %s", body->flags,
                            flag_rules[i].sentence);
    if ((body->flags & LLM_REQUEST_ON_CONTEXT) && body->model[0] != '\0')
        return llm_fail(error, LLM_ERR_INVALID,
                        "a request on a context names no model: the context has one");
    if (body->priority >= LLM_PRIORITY_COUNT)
        return llm_fail(error, LLM_ERR_INVALID, "priority %u is not known", body->priority);
    return LLM_OK;
}

static enum llm_status check_score(const struct llm_request_body *body, struct llm_error *error)
{
    uint32_t first = body->flags & LLM_REQUEST_ON_CONTEXT ? 0 : 1;
    if (body->score_from < first || body->score_from >= body->prompt_tokens)
        return llm_fail(
            error, LLM_ERR_INVALID, "score_from is %u: of %u tokens, %u to %lld can be scored",
            body->score_from, body->prompt_tokens, first, (long long)body->prompt_tokens - 1);
    if (body->max_tokens != body->prompt_tokens - body->score_from)
        return llm_fail(error, LLM_ERR_INVALID, "max_tokens is %u, %u tokens are scored",
                        body->max_tokens, body->prompt_tokens - body->score_from);
    return LLM_OK;
}

/* What is asked for: tokens, log-probabilities of given ones, or rows alone. */
static enum llm_status check_kind(const struct llm_request_body *body, struct llm_error *error)
{
    bool score = (body->flags & LLM_REQUEST_SCORE) != 0;
    bool compute = (body->flags & LLM_REQUEST_COMPUTE) != 0;
    if (body->prompt_tokens == 0 && !(body->flags & LLM_REQUEST_ON_CONTEXT))
        return llm_fail(error, LLM_ERR_INVALID, "the prompt is empty: it needs at least 1 token");
    if (!score && body->score_from != 0)
        return llm_fail(error, LLM_ERR_INVALID, "score_from is %u, but nothing is to be scored",
                        body->score_from);
    if (compute && body->max_tokens != 1)
        return llm_fail(error, LLM_ERR_INVALID, "max_tokens is %u: computing rows needs 1",
                        body->max_tokens);
    if ((score || compute) && (body->stop_id_count > 0 || body->stop_string_count > 0))
        return llm_fail(error, LLM_ERR_INVALID, "nothing is generated, so nothing can stop it");
    return score ? check_score(body, error) : LLM_OK;
}

enum llm_status llm_request_check(const struct llm_request_body *body, uint32_t body_bytes,
                                  struct llm_error *error)
{
    enum llm_status status = check_kind(body, error);
    if (status == LLM_OK)
        status = check_sampling(body, error);
    if (status == LLM_OK)
        status = check_stops(body, error);
    if (status == LLM_OK)
        status = check_framing(body, body_bytes, error);
    if (status == LLM_OK)
        status = check_flags(body, error);
    return status;
}

/* ---- Steering -------------------------------------------------------------------------------------- */

static bool within(float value, float most)
{
    return value >= -most && value <= most;
}

static enum llm_status check_steering_fields(const struct llm_steering *s, struct llm_error *error)
{
    enum llm_status status =
        check_range("typical_p", s->typical_p, s->typical_p > 0.0f && s->typical_p <= 1.0f,
                    "above 0 and at most 1", error);
    if (status == LLM_OK)
        status = check_range("repetition_penalty", s->repetition_penalty,
                             s->repetition_penalty >= LLM_REPETITION_PENALTY_MIN &&
                                 s->repetition_penalty <= LLM_REPETITION_PENALTY_MAX,
                             "from 0.01 to 100", error);
    if (status == LLM_OK)
        status =
            check_range("presence_penalty", s->presence_penalty,
                        within(s->presence_penalty, LLM_PENALTY_MAX), "from -100 to 100", error);
    if (status == LLM_OK)
        status =
            check_range("frequency_penalty", s->frequency_penalty,
                        within(s->frequency_penalty, LLM_PENALTY_MAX), "from -100 to 100", error);
    return status;
}

static enum llm_status check_steering_counts(const struct llm_steering *s,
                                             const struct llm_request_body *body,
                                             struct llm_error *error)
{
    const struct {
        const char *what;
        uint32_t count, most;
    } lists[] = {{"biased ids", s->bias_count, LLM_BIASES_MAX},
                 {"banned ids", s->banned_id_count, LLM_BANNED_IDS_MAX},
                 {"allowed ids", s->allowed_id_count, LLM_ALLOWED_IDS_MAX}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (lists[i].count > lists[i].most)
            return llm_fail(error, LLM_ERR_INVALID, "%u %s: at most %u", lists[i].count,
                            lists[i].what, lists[i].most);
    if (s->min_tokens > body->max_tokens)
        return llm_fail(error, LLM_ERR_INVALID,
                        "min_tokens is %u: it must be from 0 to max_tokens, %u", s->min_tokens,
                        body->max_tokens);
    if (s->top_logprobs > LLM_TOP_LOGPROBS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "top_logprobs is %u: it must be from 0 to %u",
                        s->top_logprobs, LLM_TOP_LOGPROBS_MAX);
    if (s->top_logprobs > 0 && !(body->flags & LLM_REQUEST_LOGPROBS))
        return llm_fail(error, LLM_ERR_INVALID,
                        "top_logprobs is %u, but no log-probabilities are asked for",
                        s->top_logprobs);
    return LLM_OK;
}

enum llm_status llm_steering_check(const struct llm_steering *steering,
                                   const struct llm_request_body *body, struct llm_error *error)
{
    enum llm_status status = check_steering_fields(steering, error);
    if (status == LLM_OK)
        status = check_steering_counts(steering, body, error);
    for (size_t i = 0; i < sizeof steering->reserved && status == LLM_OK; i++)
        if (steering->reserved[i] != 0)
            status = llm_fail(error, LLM_ERR_INVALID,
                              "reserved byte %zu of the request's steering is not 0", i);
    return status;
}

enum llm_status llm_steering_check_bytes(const struct llm_steering *steering,
                                         const struct llm_request_body *body, uint32_t body_bytes,
                                         struct llm_error *error)
{
    uint64_t bytes = llm_request_map(body, steering).bytes;
    return bytes == body_bytes
               ? LLM_OK
               : llm_fail(error, LLM_ERR_INVALID, "the request has %u bytes, its parts have %llu",
                          body_bytes, (unsigned long long)bytes);
}

enum llm_status llm_biases_check(const struct llm_bias *biases, uint32_t count,
                                 struct llm_error *error)
{
    for (uint32_t i = 0; i < count; i++)
        if (!within(biases[i].bias, LLM_BIAS_MAX))
            return llm_fail(error, LLM_ERR_INVALID,
                            "bias %u, of token %u, is %g: it must be from -100 to 100", i,
                            biases[i].token, (double)biases[i].bias);
    return LLM_OK;
}

/* ---- Stop strings ---------------------------------------------------------------------------------- */

enum llm_status llm_stop_strings_check(const uint8_t *strings, uint32_t bytes, uint32_t count,
                                       struct llm_error *error)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (used >= bytes)
            return llm_fail(error, LLM_ERR_INVALID, "stop string %u of %u is missing", i + 1,
                            count);
        uint32_t length = strings[used];
        if (length == 0 || length > LLM_STOP_STRING_BYTES_MAX)
            return llm_fail(error, LLM_ERR_INVALID, "stop string %u has %u bytes: 1 to %u", i + 1,
                            length, LLM_STOP_STRING_BYTES_MAX);
        used += 1 + length;
    }
    if (used != bytes)
        return llm_fail(error, LLM_ERR_INVALID, "%u stop strings have %u bytes, not %u", count,
                        used, bytes);
    return LLM_OK;
}
