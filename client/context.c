/* Contexts: making, finding, changing and ending them. */
#include "client/context.h"

#include <stdlib.h>
#include <string.h>

#include "shm/clock.h"

#define UNCHANGED UINT32_MAX /* as a gid */

/* ---- Making and finding ----------------------------------------------------------------------------- */

static enum llm_status copy_name(struct llm_context_body *body, const char *name, const char *what,
                                 size_t bytes_max, struct llm_error *error)
{
    size_t bytes = strlen(name);
    if (bytes > bytes_max)
        return llm_fail(error, LLM_ERR_INVALID, "%s \"%.80s\" has %zu bytes: at most %zu", what,
                        name, bytes, bytes_max);
    memcpy(body->name, name, bytes);
    return LLM_OK;
}

static enum llm_status copy_context_name(struct llm_context_body *body, const char *name,
                                         struct llm_error *error)
{
    if (!name || !*name)
        return llm_fail(error, LLM_ERR_INVALID, "the context's name is empty");
    return copy_name(body, name, "a context's name", LLM_CONTEXT_NAME_BYTES - 1, error);
}

enum llm_status llm_context_create(llm_connection *connection, const char *model,
                                   llm_context **out_context, llm_error *error)
{
    struct llm_context_body body = {.verb = LLM_CONTEXT_CREATE};
    enum llm_status status =
        model ? copy_name(&body, model, "a model's name", LLM_NAME_BYTES - 1, error) : LLM_OK;
    if (status == LLM_OK)
        status = llm_context_handle(connection, &body, true, out_context, error);
    return status;
}

enum llm_status llm_context_open(llm_connection *connection, const char *name,
                                 llm_context **out_context, llm_error *error)
{
    struct llm_context_body body = {.verb = LLM_CONTEXT_OPEN};
    enum llm_status status = copy_context_name(&body, name, error);
    if (status == LLM_OK)
        status = llm_context_handle(connection, &body, false, out_context, error);
    return status;
}

enum llm_status llm_context_attach(llm_connection *connection, uint64_t id,
                                   llm_context **out_context, llm_error *error)
{
    struct llm_context_body body = {.verb = LLM_CONTEXT_OPEN, .id = id};
    if (id == 0)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "there is no context 0");
    return llm_context_handle(connection, &body, false, out_context, error);
}

enum llm_status llm_context_fork_at(llm_context *context, uint32_t length,
                                    llm_context **out_context, llm_error *error)
{
    struct llm_context_body body = {.verb = LLM_CONTEXT_FORK, .id = context->id, .length = length};
    return llm_context_handle(context->connection, &body, true, out_context, error);
}

enum llm_status llm_context_fork(llm_context *context, llm_context **out_context, llm_error *error)
{
    return llm_context_fork_at(context, LLM_WHOLE, out_context, error);
}

uint64_t llm_context_id(const llm_context *context)
{
    return context->id;
}

void llm_context_close(llm_context *context)
{
    if (!context)
        return;
    const struct llm_context_end end = {.context_id = context->id};
    if (atomic_load(&context->owned) && llm_connection_own(context->connection, NULL) == LLM_OK)
        llm_context_end_soon(context->connection, &end);
    free(context);
}

/* ---- Changing --------------------------------------------------------------------------------------- */

/* A verb that answers no data. */
static enum llm_status change(llm_context *context, const struct llm_context_body *body,
                              const uint32_t *ids, struct llm_error *error)
{
    uint32_t count;
    return llm_context_call(context->connection, body, ids, NULL, 0, &count, UINT64_MAX, error);
}

enum llm_status llm_context_append(llm_context *context, const uint32_t *tokens, uint32_t count,
                                   llm_error *error)
{
    const struct llm_context_body body = {
        .verb = LLM_CONTEXT_APPEND, .id = context->id, .count = count};
    if (count == 0)
        return llm_fail(error, LLM_ERR_INVALID, "no tokens to append: at least 1");
    if (!tokens)
        return llm_fail(error, LLM_ERR_INVALID, "the %u tokens to append are NULL", count);
    return change(context, &body, tokens, error);
}

enum llm_status llm_context_rewind(llm_context *context, uint32_t length, llm_error *error)
{
    const struct llm_context_body body = {
        .verb = LLM_CONTEXT_REWIND, .id = context->id, .length = length};
    return change(context, &body, NULL, error);
}

static enum llm_status change_mode(llm_context *context, uint32_t mode, uint32_t gid,
                                   struct llm_error *error)
{
    const struct llm_context_body body = {
        .verb = LLM_CONTEXT_MODE, .id = context->id, .mode = mode, .gid = gid};
    return change(context, &body, NULL, error);
}

enum llm_status llm_context_chmod(llm_context *context, uint32_t mode, llm_error *error)
{
    return change_mode(context, mode, UNCHANGED, error);
}

enum llm_status llm_context_unpin(llm_context *context, llm_error *error)
{
    const struct llm_context_body body = {.verb = LLM_CONTEXT_UNPIN, .id = context->id};
    return change(context, &body, NULL, error);
}

enum llm_status llm_context_lease(llm_context *context, uint64_t lease_ns, llm_error *error)
{
    struct llm_context_body body = {.verb = LLM_CONTEXT_LEASE, .id = context->id};
    uint64_t lease_ms = lease_ns / LLM_NS_PER_MS + (lease_ns % LLM_NS_PER_MS != 0);
    if (lease_ms > UINT32_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "a lease of %llu s: at most %u (49 days)",
                        (unsigned long long)(lease_ns / LLM_NS_PER_S), UINT32_MAX / 1000);
    body.lease_ms = (uint32_t)lease_ms;
    return change(context, &body, NULL, error);
}

enum llm_status llm_context_adopt(llm_context *context, llm_error *error)
{
    const struct llm_context_body body = {.verb = LLM_CONTEXT_ADOPT, .id = context->id};
    struct llm_context_record record;
    enum llm_status status =
        llm_context_call_record(context->connection, &body, &record, UINT64_MAX, error);
    if (status == LLM_OK)
        atomic_store(&context->owned, true);
    return status;
}

enum llm_status llm_context_remove(llm_context *context, llm_error *error)
{
    const struct llm_context_body body = {.verb = LLM_CONTEXT_REMOVE, .id = context->id};
    enum llm_status status = change(context, &body, NULL, error);
    if (status == LLM_OK)
        atomic_store(&context->owned, false);
    return status;
}

/* ---- Publishing ------------------------------------------------------------------------------------- */

static void restore(llm_context *context, const llm_context_info *before)
{
    if (!before->pinned)
        (void)!llm_context_unpin(context, NULL);
    (void)!change_mode(context, before->mode, before->gid, NULL);
}

/* The mode bits first: they decide who may share what is computed for the pin. */
static enum llm_status prepare_pinned(llm_context *context, const struct llm_context_body *body,
                                      llm_context_info *out_before, struct llm_error *error)
{
    enum llm_status status = llm_context_describe(context, out_before, error);
    if (status == LLM_OK)
        status = change_mode(context, body->mode, body->gid, error);
    if (status != LLM_OK)
        return status;
    status = llm_context_pin(context, error);
    if (status != LLM_OK)
        (void)!change_mode(context, out_before->mode, out_before->gid, NULL);
    return status;
}

enum llm_status llm_context_publish(llm_context *context, const char *name,
                                    const llm_publish *options, llm_error *error)
{
    static const llm_publish defaults;
    const llm_publish *wanted = options ? options : &defaults;
    struct llm_context_body body = {.verb = LLM_CONTEXT_PUBLISH,
                                    .id = context->id,
                                    .mode = wanted->mode ? wanted->mode : 0600,
                                    .gid = wanted->has_gid ? wanted->gid : UNCHANGED};
    struct llm_context_record record;
    llm_context_info before;
    enum llm_status status = copy_context_name(&body, name, error);
    if (status == LLM_OK && wanted->pin)
        status = prepare_pinned(context, &body, &before, error);
    if (status != LLM_OK)
        return status;
    status = llm_context_call_record(context->connection, &body, &record, UINT64_MAX, error);
    if (status != LLM_OK && wanted->pin)
        restore(context, &before); /* the reason to tell stays the name's */
    return status;
}
