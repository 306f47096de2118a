#include "daemon/sample/sampling.h"

#include "shm/request.h"

#include <inttypes.h>
#include <math.h>

struct sampling sampling_default(void)
{
    return (struct sampling){.top_p = 1.0f, .max_tokens = 1};
}

static enum llm_status check_stop_ids(const struct sampling *s,
                                      const struct sampling_limits *limits, struct llm_error *error)
{
    if (s->stop_id_count > limits->stop_ids_max)
        return llm_fail(error, LLM_ERR_LIMIT, "%" PRIu32 " stop ids; at most %" PRIu32 " are taken",
                        s->stop_id_count, limits->stop_ids_max);
    for (uint32_t i = 0; i < s->stop_id_count; i++)
        if (s->stop_ids[i] < 0 || (uint32_t)s->stop_ids[i] >= limits->vocab_size)
            return llm_fail(error, LLM_ERR_INVALID,
                            "stop id %" PRIu32 " is %" PRId32 "; ids are 0..%" PRIu32, i,
                            s->stop_ids[i], limits->vocab_size - 1);
    return LLM_OK;
}

static enum llm_status check_id(const char *what, uint32_t index, uint32_t id,
                                const struct sampling_limits *limits, struct llm_error *error)
{
    if (id < limits->vocab_size)
        return LLM_OK;
    return llm_fail(error, LLM_ERR_INVALID, "%s id %" PRIu32 " is %" PRIu32 "; ids are 0..%" PRIu32,
                    what, index, id, limits->vocab_size - 1);
}

static bool is_banned(const struct llm_steering_record *s, uint32_t id)
{
    for (uint32_t i = 0; i < s->steering.banned_id_count; i++)
        if (s->banned_ids[i] == id)
            return true;
    return false;
}

/* Of a list of allowed ids at least one is not banned as well. */
static enum llm_status check_some_allowed(const struct llm_steering_record *s,
                                          struct llm_error *error)
{
    for (uint32_t i = 0; i < s->steering.allowed_id_count; i++)
        if (!is_banned(s, s->allowed_ids[i]))
            return LLM_OK;
    if (s->steering.allowed_id_count == 0)
        return LLM_OK;
    return llm_fail(error, LLM_ERR_INVALID,
                    "all %" PRIu32 " allowed ids are banned ids: no token could be chosen",
                    s->steering.allowed_id_count);
}

static enum llm_status check_steering(const struct llm_steering_record *s, uint32_t max_tokens,
                                      const struct sampling_limits *limits, struct llm_error *error)
{
    const struct llm_request_body body = {.max_tokens = max_tokens, .flags = LLM_REQUEST_LOGPROBS};
    enum llm_status status = llm_steering_check(&s->steering, &body, error);
    if (status == LLM_OK)
        status = llm_biases_check(s->biases, s->steering.bias_count, error);
    for (uint32_t i = 0; i < s->steering.bias_count && status == LLM_OK; i++)
        status = check_id("biased", i, s->biases[i].token, limits, error);
    for (uint32_t i = 0; i < s->steering.banned_id_count && status == LLM_OK; i++)
        status = check_id("banned", i, s->banned_ids[i], limits, error);
    for (uint32_t i = 0; i < s->steering.allowed_id_count && status == LLM_OK; i++)
        status = check_id("allowed", i, s->allowed_ids[i], limits, error);
    return status == LLM_OK ? check_some_allowed(s, error) : status;
}

enum llm_status sampling_check(const struct sampling *s, const struct sampling_limits *limits,
                               struct llm_error *error)
{
    /* Each test is written so that NaN fails it. */
    if (!(s->temperature >= 0 && isfinite(s->temperature)))
        return llm_fail(error, LLM_ERR_INVALID,
                        "temperature is %g; it must be 0 or more and finite",
                        (double)s->temperature);
    if (s->top_k < 0)
        return llm_fail(error, LLM_ERR_INVALID, "top_k is %" PRId32 "; it must be 0 (off) or more",
                        s->top_k);
    if (!(s->top_p > 0 && s->top_p <= 1))
        return llm_fail(error, LLM_ERR_INVALID, "top_p is %g; it must be above 0 and at most 1",
                        (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return llm_fail(error, LLM_ERR_INVALID, "min_p is %g; it must be 0..1", (double)s->min_p);
    if (s->max_tokens == 0)
        return llm_fail(error, LLM_ERR_INVALID, "max_tokens is 0; it must be 1..%" PRIu32,
                        limits->max_tokens);
    if (s->max_tokens > limits->max_tokens)
        return llm_fail(error, LLM_ERR_LIMIT, "max_tokens is %" PRIu32 "; it must be 1..%" PRIu32,
                        s->max_tokens, limits->max_tokens);
    enum llm_status status = check_stop_ids(s, limits, error);
    if (status == LLM_OK && s->steering)
        status = check_steering(s->steering, s->max_tokens, limits, error);
    return status;
}

uint32_t sampling_top_count(const struct sampling *sampling)
{
    return sampling->steering ? sampling->steering->steering.top_logprobs : 0;
}

uint32_t sampling_min_tokens(const struct sampling *sampling)
{
    return sampling->steering ? sampling->steering->steering.min_tokens : 0;
}

bool sampling_stops_at(const struct sampling *sampling, int32_t token_id)
{
    for (uint32_t i = 0; i < sampling->stop_id_count; i++)
        if (sampling->stop_ids[i] == token_id)
            return true;
    return false;
}
