/* What the verbs share: a connection, and the way from a status to an exit code. */
#include <stdio.h>

#include "tools/llmctl/llmctl.h"

static enum llmctl_exit exit_code(enum llm_status status)
{
    switch (status) {
    case LLM_OK:
        return LLMCTL_DONE;
    case LLM_ERR_PERMISSION:
    case LLM_ERR_BUSY:
    case LLM_ERR_LIMIT:
        return LLMCTL_REFUSED;
    case LLM_ERR_TIMEOUT:
        return LLMCTL_TIMED_OUT;
    case LLM_ERR_PEER:
        return LLMCTL_NO_DAEMON;
    case LLM_ERR_INVALID:
    case LLM_ERR_NOT_FOUND:
    case LLM_ERR_CANCELLED:
    case LLM_ERR_FORKED:
    case LLM_ERR_SYSTEM:
    case LLM_ERR_MEMORY:
    case LLM_ERR_UNSUPPORTED:
    case LLM_ERR_VERSION:
    case LLM_ERR_CORRUPT:
    case LLM_ERR_POISON:
    case LLM_ERR_EXISTS:
    case LLM_STATUS_COUNT:
        break;
    }
    return LLMCTL_FAILED;
}

enum llmctl_exit llmctl_fail(const struct llm_error *error)
{
    fprintf(stderr, "llmctl: %s\n", error->message);
    return exit_code(error->status);
}

enum llm_status llmctl_connect(const struct arguments *arguments, bool autostart,
                               llm_connection **out_connection, llm_error *error)
{
    llm_connect_options options = {.socket = arguments->socket,
                                   .name = "llmctl",
                                   .no_autostart = !autostart,
                                   .timeout_ns = arguments->timeout_ns};
    enum llm_status status = llm_connect(out_connection, &options, error);
    /* Nobody to connect to is its own exit code; elsewhere "not found" is about a request or a model. */
    if (status == LLM_ERR_NOT_FOUND)
        error->status = LLM_ERR_PEER;
    return status == LLM_ERR_NOT_FOUND ? LLM_ERR_PEER : status;
}
