/* Contexts that requests run on, and pins. */
#include <string.h>

#include "daemon/engine/contexts_private.h"
#include "daemon/engine/domains.h"
#include "shm/check.h"
#include "shm/clock.h"

/* ---- Requests -------------------------------------------------------------------------------------------- */

enum llm_status contexts_branch(struct engine *engine, struct connection *connection,
                                uint32_t parent, const struct context_by *by, uint32_t *out_slot,
                                struct llm_error *error)
{
    if (connection->replayed_position == by->position) {
        /* Its client may have written something else into the entry since: nothing but its own fork is run on, or ended. */
        uint32_t made = contexts_made_by(engine, by);
        if (made != CONTEXT_NONE && engine->contexts.slots[made].live &&
            engine->contexts.slots[made].connection_id == connection->peer.id &&
            context_now(engine, made)->uid == connection->peer.uid &&
            context_now(engine, made)->parent_id == context_now(engine, parent)->context_id) {
            *out_slot = made;
            return LLM_OK;
        }
    }
    return contexts_fork(engine, connection, parent, UINT32_MAX, by, out_slot, error);
}

enum llm_status contexts_begin(struct engine *engine, uint32_t slot, uint32_t request_slot,
                               struct llm_error *error)
{
    struct context *context = &engine->contexts.slots[slot];
    const struct llm_reqtab_record *record = &engine->tables.requests[request_slot];
    CHECK(record->body.prompt_tokens >= context->committed);
    enum llm_status status =
        contexts_may_append(engine, slot, record->body.prompt_tokens - context->committed, error);
    if (status != LLM_OK)
        return status;
    struct llm_ctx_version next = *context_now(engine, slot);
    next.request_id = record->request_id;
    contexts_write(engine, slot, &next, NULL);
    context->request_slot = request_slot;
    return LLM_OK;
}

void contexts_commit(struct engine *engine, uint32_t slot)
{
    const struct context *context = &engine->contexts.slots[slot];
    uint32_t length = contexts_length(engine, slot), committed = context->committed;
    if (length == committed)
        return;
    const uint32_t *ids = tables_ids(&engine->tables, context->request_slot);
    struct row_place place = rows_append(&engine->contexts.rows, contexts_place(engine, slot),
                                         context->owner, ids + committed, length - committed);
    struct llm_ctx_version next = *context_now(engine, slot);
    next.row = place.row;
    next.length = place.length;
    contexts_write(engine, slot, &next, NULL);
}

void contexts_end(struct engine *engine, uint32_t slot)
{
    struct context *context = &engine->contexts.slots[slot];
    contexts_commit(engine, slot);
    context->request_slot = REQUEST_NONE;
    context->used_ns = llm_boot_ns();
    if (context->orphan && context->connection_id != 0 && !context->ending)
        contexts_remove(engine, slot, NULL);
}

void contexts_resume(struct engine *engine, uint32_t slot, uint32_t request_slot)
{
    CHECK(engine->contexts.slots[slot].request_slot == REQUEST_NONE);
    engine->contexts.slots[slot].request_slot = request_slot;
}

void contexts_narrow(struct engine *engine, uint32_t slot)
{
    const struct context *context = &engine->contexts.slots[slot];
    if (context->request_slot == REQUEST_NONE)
        return;
    struct request *request = &engine->requests[context->request_slot];
    uint64_t before = request->domains.domains[0], now = context->domains[0];
    if (now == before || prefix_domain_kind(now) > prefix_domain_kind(before))
        return;                             /* for more: from the next request on */
    if (!prefix_domain_covers(before, now)) /* another group's: neither of the two may read all */
        now = llm_domain(LLM_DOMAIN_PRIVATE, context_now(engine, slot)->uid);
    request->domains = domains_sealed_in(now, &request->domains);
    if (request->place == REQUEST_IN_CORE)
        core_narrow(engine->core, context->request_slot, request->domains.domains,
                    request->domains.count);
}

/* ---- Pins ------------------------------------------------------------------------------------------------ */

static uint32_t blocks_of(const struct engine *engine, uint32_t slot, uint32_t tokens)
{
    uint32_t block_tokens = contexts_facts(engine, slot)->block_tokens;
    return tokens / block_tokens + (tokens % block_tokens != 0);
}

static void count_blocks(struct engine *engine, uint32_t slot, uint32_t blocks)
{
    struct context *context = &engine->contexts.slots[slot];
    uint64_t *of_owner = &engine->users.rows[context->owner].pinned_blocks;
    *of_owner = *of_owner - context->pinned_blocks + blocks;
    engine->contexts.pinned_blocks =
        engine->contexts.pinned_blocks - context->pinned_blocks + blocks;
    context->pinned_blocks = blocks;
}

/* Where its blocks may be found: those that its owner finds without asking a connection. */
static uint32_t domains_of(const struct engine *engine, uint32_t slot, uint64_t out_domains[4])
{
    const struct llm_ctx_version *now = context_now(engine, slot);
    const uint64_t all[] = {
        engine->contexts.slots[slot].domains[0], llm_domain(LLM_DOMAIN_PRIVATE, now->uid),
        llm_domain(LLM_DOMAIN_GROUP, now->gid), llm_domain(LLM_DOMAIN_PUBLIC, 0)};
    uint32_t count = 0;
    for (uint32_t i = 0; i < 4; i++)
        if (i == 0 || all[i] != all[0])
            out_domains[count++] = all[i];
    return count;
}

uint32_t contexts_hold(struct engine *engine, uint32_t slot, uint32_t tokens)
{
    uint64_t domains[4];
    uint32_t held = 0;
    core_unhold(engine->core, slot);
    if (tokens > 0 && !engine->contexts.slots[slot].model_gone) {
        uint32_t *ids = engine->contexts.scratch;
        contexts_copy_ids(engine, slot, 0, tokens, ids);
        uint32_t count = domains_of(engine, slot, domains);
        held = core_hold(engine->core, slot, context_now(engine, slot)->model, domains, count, ids,
                         tokens);
    }
    count_blocks(engine, slot, blocks_of(engine, slot, held));
    return held;
}

static enum llm_status check_pool(const struct engine *engine, uint32_t blocks,
                                  struct llm_error *error)
{
    uint64_t pinned = engine->contexts.pinned_blocks, most = contexts_pinnable(engine);
    if (pinned + blocks <= most)
        return LLM_OK;
    return llm_fail(error, LLM_ERR_LIMIT,
                    "pinning %u more blocks would exceed the part of the pool that may be pinned "
                    "(kv.pinned_percent: %llu of %llu pinned)",
                    blocks, (unsigned long long)pinned, (unsigned long long)most);
}

enum llm_status contexts_pin_admit(struct engine *engine, uint32_t slot, uint32_t tokens,
                                   struct llm_error *error)
{
    const struct context *context = &engine->contexts.slots[slot];
    uint32_t blocks = blocks_of(engine, slot, tokens);
    uint32_t more = blocks > context->pinned_blocks ? blocks - context->pinned_blocks : 0;
    enum llm_status status = users_may_pin(&engine->users, context->owner, more, error);
    if (status == LLM_OK)
        status = check_pool(engine, more, error);
    if (status == LLM_OK)
        count_blocks(engine, slot, context->pinned_blocks + more);
    return status;
}

void contexts_pin_give_up(struct engine *engine, uint32_t slot)
{
    uint32_t tokens = context_now(engine, slot)->pinned_tokens;
    count_blocks(engine, slot, blocks_of(engine, slot, tokens));
}

enum llm_status contexts_pin_done(struct engine *engine, uint32_t slot, uint32_t tokens,
                                  struct llm_error *error)
{
    struct llm_ctx_version next = *context_now(engine, slot);
    uint32_t before = next.pinned_tokens;
    next.pinned_tokens = contexts_hold(engine, slot, tokens);
    if (next.pinned_tokens == tokens) {
        contexts_write(engine, slot, &next, NULL);
        return LLM_OK;
    }
    next.pinned_tokens = contexts_hold(engine, slot, before);
    if (next.pinned_tokens != before)
        contexts_write(engine, slot, &next, NULL);
    return llm_fail(error, LLM_ERR_LIMIT,
                    "the pool cannot hold %u blocks for context %llu beside what runs and waits "
                    "(%llu are pinned)",
                    blocks_of(engine, slot, tokens), (unsigned long long)next.context_id,
                    (unsigned long long)engine->contexts.pinned_blocks);
}

void contexts_unpin(struct engine *engine, uint32_t slot, const struct context_by *by)
{
    struct llm_ctx_version next = *context_now(engine, slot);
    next.pinned_tokens = 0;
    contexts_write(engine, slot, &next, by);
    contexts_hold(engine, slot, 0);
}
