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
    if (body->flags & ~LLM_REQUEST_FLAGS_KNOWN)
        return llm_fail(error, LLM_ERR_INVALID, "request flags %#x: %#x are known", body->flags,
                        LLM_REQUEST_FLAGS_KNOWN);
    for (size_t i = 0; i < sizeof body->reserved; i++)
        if (body->reserved[i] != 0)
            return llm_fail(error, LLM_ERR_INVALID, "reserved byte %zu of the request is not 0", i);
    return LLM_OK;
}

enum llm_status llm_request_check(const struct llm_request_body *body, uint32_t body_bytes,
                                  struct llm_error *error)
{
    if (body->prompt_tokens == 0)
        return llm_fail(error, LLM_ERR_INVALID, "the prompt is empty: it needs at least 1 token");
    enum llm_status status = check_sampling(body, error);
    if (status == LLM_OK)
        status = check_stops(body, error);
    if (status == LLM_OK)
        status = check_framing(body, body_bytes, error);
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
