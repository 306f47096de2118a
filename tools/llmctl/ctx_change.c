/* llmctl ctx create, append, fork, rewind, publish, rename, chmod, pin, unpin, lease, rm. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/attachment.h"
#include "tools/llmctl/ctx.h"

/* ---- Making ---------------------------------------------------------------------------------------- */

static enum llm_status fill_and_publish(llm_connection *connection, llm_context *context,
                                        const struct arguments *arguments, llm_error *error)
{
    llm_publish options;
    uint32_t *tokens, count;
    enum llm_status status = ctx_publish_options(arguments, &options, error);
    if (status == LLM_OK)
        status =
            ctx_input(connection, arguments->model, arguments, 1, true, &tokens, &count, error);
    if (status != LLM_OK)
        return status;
    if (count > 0)
        status = llm_context_append(context, tokens, count, error);
    free(tokens);
    if (status == LLM_OK)
        status = llm_context_publish(context, arguments->positional[0], &options, error);
    return status;
}

enum llmctl_exit llmctl_ctx_create(const struct arguments *arguments)
{
    llm_connection *connection;
    llm_context *context;
    llm_error error;
    if (ctx_input_check(arguments, 1, true, &error) != LLM_OK)
        return ctx_usage(&error);
    llmctl_limit_time(arguments);
    if (llmctl_connect(arguments, false, &connection, &error) != LLM_OK)
        return llmctl_fail(&error);
    enum llm_status status = llm_context_create(connection, arguments->model, &context, &error);
    if (status == LLM_OK) {
        status = fill_and_publish(connection, context, arguments, &error);
        if (status == LLM_OK)
            ctx_say(arguments, "created", context);
        llm_context_close(context);
    }
    llm_disconnect(connection);
    return status == LLM_OK ? LLMCTL_DONE : llmctl_fail(&error);
}

static enum llm_status fork_and_publish(llm_context *context, const struct arguments *arguments,
                                        llm_error *error)
{
    llm_publish options;
    llm_context *fork;
    enum llm_status status = ctx_publish_options(arguments, &options, error);
    if (status == LLM_OK)
        status = llm_context_fork(context, &fork, error);
    if (status != LLM_OK)
        return status;
    status = llm_context_publish(fork, arguments->positional[1], &options, error);
    if (status == LLM_OK)
        ctx_say(arguments, "forked", fork);
    llm_context_close(fork);
    return status;
}

enum llmctl_exit llmctl_ctx_fork(const struct arguments *arguments)
{
    return ctx_run(arguments, fork_and_publish, NULL);
}

/* ---- Its tokens ------------------------------------------------------------------------------------ */

static enum llm_status append(llm_context *context, const struct arguments *arguments,
                              llm_error *error)
{
    llm_context_info info;
    uint32_t *tokens, count;
    enum llm_status status = llm_context_describe(context, &info, error);
    if (status == LLM_OK)
        status = ctx_input(llm_context_connection(context), info.model, arguments, 1,
                           info.length == 0, &tokens, &count, error);
    if (status != LLM_OK)
        return status;
    status = llm_context_append(context, tokens, count, error);
    free(tokens);
    return status;
}

enum llmctl_exit llmctl_ctx_append(const struct arguments *arguments)
{
    llm_error error;
    if (ctx_input_check(arguments, 1, false, &error) != LLM_OK)
        return ctx_usage(&error);
    return ctx_run(arguments, append, "appended");
}

static enum llm_status parse_length(const char *text, uint32_t *out_length, llm_error *error)
{
    char *end;
    unsigned long long length = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || length > UINT32_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "rewind takes a number of tokens, not \"%.100s\"",
                        text);
    *out_length = (uint32_t)length;
    return LLM_OK;
}

static enum llm_status rewind_to(llm_context *context, const struct arguments *arguments,
                                 llm_error *error)
{
    uint32_t length = 0;
    enum llm_status status = parse_length(arguments->positional[1], &length, error);
    return status == LLM_OK ? llm_context_rewind(context, length, error) : status;
}

enum llmctl_exit llmctl_ctx_rewind(const struct arguments *arguments)
{
    uint32_t length;
    llm_error error;
    if (parse_length(arguments->positional[1], &length, &error) != LLM_OK)
        return ctx_usage(&error);
    return ctx_run(arguments, rewind_to, "rewound");
}

/* ---- Its name and who may what --------------------------------------------------------------------- */

static enum llm_status publish(llm_context *context, const struct arguments *arguments,
                               llm_error *error)
{
    llm_publish options;
    enum llm_status status = ctx_publish_options(arguments, &options, error);
    if (status == LLM_OK)
        status = llm_context_publish(context, arguments->positional[1], &options, error);
    return status;
}

enum llmctl_exit llmctl_ctx_publish(const struct arguments *arguments)
{
    return ctx_run(arguments, publish, "published");
}

static enum llm_status rename_to(llm_context *context, const struct arguments *arguments,
                                 llm_error *error)
{
    llm_context_info info;
    enum llm_status status = llm_context_describe(context, &info, error);
    if (status != LLM_OK)
        return status;
    const llm_publish same = {.mode = info.mode, .gid = info.gid, .has_gid = true};
    return llm_context_publish(context, arguments->positional[1], &same, error);
}

enum llmctl_exit llmctl_ctx_rename(const struct arguments *arguments)
{
    return ctx_run(arguments, rename_to, "renamed");
}

static enum llm_status change_mode(llm_context *context, const struct arguments *arguments,
                                   llm_error *error)
{
    uint32_t mode;
    enum llm_status status = arguments_mode("chmod", arguments->positional[1], &mode, error);
    return status == LLM_OK ? llm_context_chmod(context, mode, error) : status;
}

enum llmctl_exit llmctl_ctx_chmod(const struct arguments *arguments)
{
    uint32_t mode;
    llm_error error;
    if (arguments_mode("chmod", arguments->positional[1], &mode, &error) != LLM_OK)
        return ctx_usage(&error);
    return ctx_run(arguments, change_mode, "changed");
}

/* ---- How long it stays ----------------------------------------------------------------------------- */

static enum llm_status pin(llm_context *context, const struct arguments *arguments,
                           llm_error *error)
{
    (void)arguments;
    return llm_context_pin(context, error);
}

enum llmctl_exit llmctl_ctx_pin(const struct arguments *arguments)
{
    return ctx_run(arguments, pin, "pinned");
}

static enum llm_status unpin(llm_context *context, const struct arguments *arguments,
                             llm_error *error)
{
    (void)arguments;
    return llm_context_unpin(context, error);
}

enum llmctl_exit llmctl_ctx_unpin(const struct arguments *arguments)
{
    return ctx_run(arguments, unpin, "unpinned");
}

static enum llm_status lease(llm_context *context, const struct arguments *arguments,
                             llm_error *error)
{
    uint64_t lease_ns;
    enum llm_status status = arguments_duration(arguments->positional[1], &lease_ns, error);
    return status == LLM_OK ? llm_context_lease(context, lease_ns, error) : status;
}

enum llmctl_exit llmctl_ctx_lease(const struct arguments *arguments)
{
    uint64_t lease_ns;
    llm_error error;
    if (arguments_duration(arguments->positional[1], &lease_ns, &error) != LLM_OK)
        return ctx_usage(&error);
    return ctx_run(arguments, lease, "leased");
}

static enum llm_status remove_it(llm_context *context, const struct arguments *arguments,
                                 llm_error *error)
{
    (void)arguments;
    return llm_context_remove(context, error);
}

/* Each of them; the first failure decides the exit code, the others are still tried. */
enum llmctl_exit llmctl_ctx_rm(const struct arguments *arguments)
{
    enum llmctl_exit result = LLMCTL_DONE;
    for (int i = 0; i < arguments->positional_count; i++) {
        struct arguments one = *arguments;
        one.positional[0] = arguments->positional[i];
        enum llmctl_exit each = ctx_run(&one, remove_it, "removed");
        result = result == LLMCTL_DONE ? each : result;
    }
    return result;
}
