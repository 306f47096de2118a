#include "shm/status.h"

#include <stdio.h>
#include <string.h>

const char *llm_status_name(enum llm_status status)
{
    static const char *const names[LLM_STATUS_COUNT] = {
        [LLM_OK] = "ok",
        [LLM_ERR_INVALID] = "invalid",
        [LLM_ERR_NOT_FOUND] = "not found",
        [LLM_ERR_PERMISSION] = "permission denied",
        [LLM_ERR_BUSY] = "busy",
        [LLM_ERR_LIMIT] = "limit exceeded",
        [LLM_ERR_TIMEOUT] = "timed out",
        [LLM_ERR_CANCELLED] = "cancelled",
        [LLM_ERR_PEER] = "peer gone",
        [LLM_ERR_FORKED] = "handle inherited across fork",
        [LLM_ERR_SYSTEM] = "system error",
        [LLM_ERR_MEMORY] = "out of memory",
        [LLM_ERR_UNSUPPORTED] = "unsupported",
        [LLM_ERR_VERSION] = "protocol version mismatch",
        [LLM_ERR_CORRUPT] = "corrupt",
        [LLM_ERR_POISON] = "poison request",
        [LLM_ERR_EXISTS] = "exists",
    };
    return (unsigned)status < LLM_STATUS_COUNT ? names[status] : "unknown status";
}

LLM_PRINTF(3, 0)
static void fill(struct llm_error *error, enum llm_status status, const char *format, va_list args)
{
    error->status = status;
    vsnprintf(error->message, sizeof error->message, format, args);
}

enum llm_status llm_fail(struct llm_error *error, enum llm_status status, const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        fill(error, status, format, args);
        va_end(args);
    }
    return status;
}

enum llm_status llm_fail_errno(struct llm_error *error, enum llm_status status, int error_number,
                               const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        fill(error, status, format, args);
        va_end(args);
        size_t used = strlen(error->message);
        snprintf(error->message + used, sizeof error->message - used, ": %s",
                 strerror(error_number));
    }
    return status;
}
