#include "daemon/engine/on_context.h"

#include <stdio.h>

#include "daemon/engine/engine.h"
#include "shm/check.h"

/* It changes the context, so it is the only one that runs on it. */
static bool runs_on(uint32_t flags)
{
    return (flags & LLM_REQUEST_ON_CONTEXT) && !(flags & LLM_REQUEST_SCORE);
}

/* ---- Coming ---------------------------------------------------------------------------------------- */

static enum llm_status find_allowed(struct engine *engine, struct connection *connection,
                                    uint64_t id, uint32_t flags, uint32_t *out_slot,
                                    struct llm_error *error)
{
    enum llm_status status = contexts_find(engine, connection, id, CONTEXT_READ, out_slot, error);
    if (status == LLM_OK && !(flags & (LLM_REQUEST_SCORE | LLM_REQUEST_BRANCH)))
        status = contexts_find(engine, connection, id, CONTEXT_WRITE, out_slot, error);
    if (status == LLM_OK && (flags & LLM_REQUEST_PIN))
        status = contexts_find(engine, connection, id, CONTEXT_OWN, out_slot, error);
    return status;
}

enum llm_status on_context_find(struct engine *engine, struct connection *connection,
                                const struct llm_submission *submission,
                                const struct llm_request_body *body, struct on_context *out,
                                struct llm_error *error)
{
    struct on_context on = ON_CONTEXT_NONE;
    *out = on;
    if (!(body->flags & LLM_REQUEST_ON_CONTEXT))
        return LLM_OK;
    enum llm_status status =
        find_allowed(engine, connection, submission->argument, body->flags, &on.slot, error);
    if (status == LLM_OK)
        status = contexts_usable(engine, on.slot, error);
    if (status == LLM_OK && runs_on(body->flags) && !(body->flags & LLM_REQUEST_BRANCH))
        status = contexts_idle(engine, on.slot, error);
    if (status == LLM_OK && (body->flags & LLM_REQUEST_BRANCH)) {
        const struct context_by by = {connection->peer.id, connection->queue.head};
        on.forked = true;
        status = contexts_branch(engine, connection, on.slot, &by, &on.slot, error);
    }
    if (status != LLM_OK)
        return status;
    on.length = contexts_length(engine, on.slot);
    on.model = context_now(engine, on.slot)->model;
    *out = on;
    return LLM_OK;
}

void on_context_drop(struct engine *engine, const struct on_context *on)
{
    if (on->forked)
        contexts_remove(engine, on->slot, NULL);
}

struct domain_set on_context_domains(const struct engine *engine,
                                     const struct connection *connection, uint32_t slot,
                                     uint32_t flags)
{
    uint64_t domain = engine->contexts.slots[slot].domains[0];
    return runs_on(flags) ? domains_sealed_in(domain, &connection->domains)
                          : domains_also(&connection->domains, domain);
}

void on_context_share(struct engine *engine, uint32_t slot, uint32_t context, uint32_t length)
{
    struct request *request = &engine->requests[slot];
    const struct llm_ctx_version *now = context_now(engine, context);
    uint64_t own = engine->contexts.slots[context].domains[0];
    uint64_t sealed_in = request->domains.domains[0];
    uint32_t count = 0;
    for (uint32_t i = 0; i < PREFIX_SHARES_MAX; i++)
        if (now->share_tokens[i] > 0 &&
            prefix_domain_kind(now->share_domains[i]) > prefix_domain_kind(own) &&
            prefix_domain_kind(now->share_domains[i]) > prefix_domain_kind(sealed_in))
            request->shares[count++] =
                (struct prefix_share){now->share_domains[i], now->share_tokens[i]};
    if (count < PREFIX_SHARES_MAX && length > 0 &&
        prefix_domain_kind(own) > prefix_domain_kind(sealed_in))
        request->shares[count] = (struct prefix_share){own, length};
}

enum llm_status on_context_begin(struct engine *engine, const struct on_context *on, uint32_t slot,
                                 struct llm_error *error)
{
    const struct llm_request_body *body = &engine->tables.requests[slot].body;
    if (on->slot == CONTEXT_NONE || !runs_on(body->flags))
        return LLM_OK;
    bool pin = (body->flags & LLM_REQUEST_PIN) != 0;
    enum llm_status status = LLM_OK;
    if (pin)
        status = contexts_pin_admit(engine, on->slot, body->prompt_tokens, error);
    if (status != LLM_OK)
        return status;
    status = contexts_begin(engine, on->slot, slot, error);
    if (status == LLM_OK) {
        engine->requests[slot].context = on->slot;
        engine->requests[slot].pin_counted = pin;
    } else if (pin)
        contexts_pin_give_up(engine, on->slot);
    return status;
}

/* ---- Going ----------------------------------------------------------------------------------------- */

/* The prompt must be the context's before what is pinned of it is written down. A pin that cannot be held is a failure. */
static enum core_finish settle_pin(struct engine *engine, uint32_t slot, enum core_finish finish)
{
    struct request *request = &engine->requests[slot];
    struct llm_error error;
    if (finish == CORE_FINISH_CANCELLED || finish == CORE_FINISH_FAILED) {
        contexts_pin_give_up(engine, request->context);
        return finish;
    }
    contexts_commit(engine, request->context);
    request->end_status = contexts_pin_done(
        engine, request->context, engine->tables.requests[slot].body.prompt_tokens, &error);
    if (request->end_status == LLM_OK)
        return finish;
    snprintf(request->end_note, sizeof request->end_note, "%.*s", LLM_NOTE_BYTES - 1,
             error.message);
    return CORE_FINISH_FAILED;
}

enum core_finish on_context_end(struct engine *engine, uint32_t slot, enum core_finish finish)
{
    struct request *request = &engine->requests[slot];
    uint32_t context = request->context;
    if (context == CONTEXT_NONE)
        return finish;
    if (request->pin_counted)
        finish = settle_pin(engine, slot, finish);
    request->context = CONTEXT_NONE;
    contexts_end(engine, context);
    return finish;
}

/* ---- After an engine's death ------------------------------------------------------------------------ */

enum llm_status on_context_resume(struct engine *engine, uint32_t slot, struct llm_error *error)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    struct request *request = &engine->requests[slot];
    uint32_t context = contexts_slot(engine, record->context_id);
    if (record->context_id == 0)
        return LLM_OK;
    if (!runs_on(record->body.flags)) { /* it has all it needs, whatever became of the context */
        if (context != CONTEXT_NONE &&
            contexts_may(engine, request->connection, context, CONTEXT_READ))
            request->domains =
                on_context_domains(engine, request->connection, context, record->body.flags);
        return LLM_OK;
    }
    if (context == CONTEXT_NONE)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "the request's context is gone");
    request->domains = on_context_domains(engine, request->connection, context, record->body.flags);
    on_context_share(engine, slot, context, 0);
    contexts_resume(engine, context, slot);
    request->context = context;
    if (!(record->body.flags & LLM_REQUEST_PIN))
        return LLM_OK;
    enum llm_status status = contexts_pin_admit(engine, context, record->body.prompt_tokens, error);
    request->pin_counted = status == LLM_OK;
    return status;
}
