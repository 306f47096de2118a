#include "shm/request.h"

#include <string.h>

struct llm_request_map llm_request_map(const struct llm_request_body *body)
{
    struct llm_request_map map = {.prompt_offset = sizeof *body};
    map.stop_id_offset = map.prompt_offset + (uint64_t)body->prompt_tokens * sizeof(uint32_t);
    map.stop_string_offset = map.stop_id_offset + (uint64_t)body->stop_id_count * sizeof(uint32_t);
    map.bytes = map.stop_string_offset + body->stop_string_bytes;
    return map;
}

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
    uint64_t bytes = llm_request_map(body).bytes;
    if (bytes != body_bytes)
        return llm_fail(error, LLM_ERR_INVALID, "the request has %u bytes, its parts have %llu",
                        body_bytes, (unsigned long long)bytes);
    if (!memchr(body->model, '\0', sizeof body->model))
        return llm_fail(error, LLM_ERR_INVALID, "the model's name has no end within %u bytes",
                        LLM_NAME_BYTES);
    for (size_t i = 0; i < sizeof body->reserved; i++)
        if (body->reserved[i] != 0)
            return llm_fail(error, LLM_ERR_INVALID, "reserved byte %zu of the request is not 0", i);
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
