#include "daemon/engine/contexts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/contexts_private.h"
#include "daemon/engine/journal.h"
#include "shm/check.h"
#include "shm/clock.h"

#define CONTEXT_PRIVATE_MODE 0600u

/* ---- Limits ---------------------------------------------------------------------------------------------- */

uint32_t contexts_count_max(const struct engine *engine)
{
    return (uint32_t)engine->config.limits.contexts;
}

uint64_t contexts_pinnable(const struct engine *engine)
{
    return (uint64_t)core_counts(engine->core).kv.total * engine->config.kv.pinned_percent / 100;
}

/* ---- Looking --------------------------------------------------------------------------------------------- */

const struct llm_ctx_version *context_now(const struct engine *engine, uint32_t slot)
{
    const struct llm_ctxtab_record *record = &engine->tables.contexts[slot];
    uint64_t word = atomic_load_explicit(&record->word, memory_order_relaxed);
    return &record->versions[llm_word_generation(word) & 1];
}

struct row_place contexts_place(const struct engine *engine, uint32_t slot)
{
    const struct llm_ctx_version *now = context_now(engine, slot);
    return (struct row_place){now->row, now->length};
}

uint32_t contexts_slot(const struct engine *engine, uint64_t id)
{
    uint32_t slot = (uint32_t)(id & 0xffff) - 1; /* of 0: none */
    if (slot >= engine->contexts.count || !engine->contexts.slots[slot].live ||
        context_now(engine, slot)->context_id != id)
        return CONTEXT_NONE;
    return slot;
}

uint64_t contexts_id_of_request(const struct engine *engine, uint64_t request_id)
{
    const struct contexts *contexts = &engine->contexts;
    for (uint32_t slot = 0; slot < contexts->count && request_id != 0; slot++)
        if (contexts->request_ids[slot] == request_id && contexts->slots[slot].live)
            return context_now(engine, slot)->context_id;
    return 0;
}

uint32_t contexts_made_by(const struct engine *engine, const struct context_by *by)
{
    for (uint32_t slot = 0; slot < engine->contexts.count; slot++) {
        const struct llm_ctx_version *now = context_now(engine, slot);
        if (now->context_id != 0 && now->by_connection_id == by->connection_id &&
            now->by_position == by->position)
            return slot;
    }
    return CONTEXT_NONE;
}

/* All tokens of a running request's context are in its row of reqtok, in order. */
static const struct llm_reqtab_record *running(const struct engine *engine, uint32_t slot)
{
    uint32_t request_slot = engine->contexts.slots[slot].request_slot;
    return request_slot == REQUEST_NONE ? NULL : &engine->tables.requests[request_slot];
}

uint32_t contexts_length(const struct engine *engine, uint32_t slot)
{
    const struct llm_reqtab_record *record = running(engine, slot);
    return record ? record->body.prompt_tokens +
                        atomic_load_explicit(&record->published, memory_order_relaxed)
                  : engine->contexts.slots[slot].committed;
}

void contexts_copy_ids(const struct engine *engine, uint32_t slot, uint32_t from, uint32_t count,
                       uint32_t *out_ids)
{
    CHECK(from <= contexts_length(engine, slot) && count <= contexts_length(engine, slot) - from);
    if (running(engine, slot))
        memcpy(out_ids,
               tables_ids(&engine->tables, engine->contexts.slots[slot].request_slot) + from,
               count * sizeof *out_ids);
    else
        rows_copy(&engine->contexts.rows, contexts_place(engine, slot), from, count, out_ids);
}

/* ---- Names ----------------------------------------------------------------------------------------------- */

static bool part_valid(const char *part, size_t bytes)
{
    return bytes > 0 && !(bytes == 1 && part[0] == '.') &&
           !(bytes == 2 && part[0] == '.' && part[1] == '.') &&
           strspn(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") >=
               bytes;
}

bool contexts_name_valid(const char name[LLM_CONTEXT_NAME_BYTES])
{
    if (!memchr(name, '\0', LLM_CONTEXT_NAME_BYTES))
        return false;
    for (;;) {
        size_t bytes = strcspn(name, "/");
        if (!part_valid(name, bytes))
            return false;
        if (name[bytes] == '\0')
            return true;
        name += bytes + 1;
    }
}

static uint32_t *bucket_of(const struct engine *engine, const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return &engine->contexts.buckets[(hash ^ hash >> 16) & engine->contexts.bucket_mask];
}

uint32_t contexts_named(const struct engine *engine, const char *name)
{
    uint32_t slot = *bucket_of(engine, name);
    while (slot != CONTEXT_NONE && strcmp(context_now(engine, slot)->name, name) != 0)
        slot = engine->contexts.slots[slot].next_named;
    return slot;
}

void contexts_name_add(struct engine *engine, uint32_t slot)
{
    const char *name = context_now(engine, slot)->name;
    if (name[0] == '\0')
        return;
    uint32_t *bucket = bucket_of(engine, name);
    engine->contexts.slots[slot].next_named = *bucket;
    *bucket = slot;
}

static void name_remove(struct engine *engine, uint32_t slot)
{
    const char *name = context_now(engine, slot)->name;
    if (name[0] == '\0')
        return;
    uint32_t *link = bucket_of(engine, name);
    while (*link != slot) {
        CHECK(*link != CONTEXT_NONE);
        link = &engine->contexts.slots[*link].next_named;
    }
    *link = engine->contexts.slots[slot].next_named;
}

/* ---- Rights ---------------------------------------------------------------------------------------------- */

bool contexts_in_group(const struct connection *connection, uint32_t gid)
{
    const struct channel_connection *peer = &connection->peer;
    bool found = peer->gid == gid;
    for (uint32_t i = 0; i < peer->group_count && i < CHANNEL_GROUPS_MAX && !found; i++)
        found = peer->groups[i] == gid;
    return found;
}

/* As open(2) has it: the owner's bits for the owner, else the group's for its members, else the others'. */
static unsigned mode_bits(const struct llm_ctx_version *now, const struct connection *connection)
{
    if (connection->peer.uid == now->uid)
        return now->mode >> 6 & 7;
    return (contexts_in_group(connection, now->gid) ? now->mode >> 3 : now->mode) & 7;
}

static bool has_right(const struct llm_ctx_version *now, const struct connection *connection,
                      enum context_right right)
{
    if (connection->peer.administrator)
        return true;
    if (right == CONTEXT_OWN)
        return connection->peer.uid == now->uid;
    return (mode_bits(now, connection) & (right == CONTEXT_READ ? 4 : 2)) != 0;
}

bool contexts_may(const struct engine *engine, const struct connection *connection, uint32_t slot,
                  enum context_right right)
{
    return has_right(context_now(engine, slot), connection, right);
}

enum llm_status contexts_permit(const struct engine *engine, const struct connection *connection,
                                uint32_t slot, enum context_right right, struct llm_error *error)
{
    static const char *const needs[] = {"read it", "write to it", "do this: its owner may"};
    const struct llm_ctx_version *now = context_now(engine, slot);
    if (has_right(now, connection, right))
        return LLM_OK;
    return llm_fail(error, LLM_ERR_PERMISSION,
                    "context %llu belongs to user %u and group %u, mode %04o: user %u may not %s",
                    (unsigned long long)now->context_id, now->uid, now->gid, now->mode,
                    connection->peer.uid, needs[right]);
}

enum llm_status contexts_find(const struct engine *engine, const struct connection *connection,
                              uint64_t id, enum context_right right, uint32_t *out_slot,
                              struct llm_error *error)
{
    uint32_t slot = contexts_slot(engine, id);
    if (slot == CONTEXT_NONE)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "there is no context %llu",
                        (unsigned long long)id);
    enum llm_status status = contexts_permit(engine, connection, slot, right, error);
    if (status == LLM_OK)
        *out_slot = slot;
    return status;
}

enum llm_status contexts_find_named(const struct engine *engine,
                                    const struct connection *connection, const char *name,
                                    enum context_right right, uint32_t *out_slot,
                                    struct llm_error *error)
{
    uint32_t slot = contexts_named(engine, name);
    if (slot == CONTEXT_NONE)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "there is no context \"%s\"", name);
    enum llm_status status = contexts_permit(engine, connection, slot, right, error);
    if (status == LLM_OK)
        *out_slot = slot;
    return status;
}

/* ---- Versions -------------------------------------------------------------------------------------------- */

/* Blocks of its tokens are made for all who may read it. */
static uint64_t domain_of(const struct llm_ctx_version *now)
{
    if (now->mode & 0004)
        return llm_domain(LLM_DOMAIN_PUBLIC, 0);
    return now->mode & 0040 ? llm_domain(LLM_DOMAIN_GROUP, now->gid)
                            : llm_domain(LLM_DOMAIN_PRIVATE, now->uid);
}

void contexts_derive(struct engine *engine, uint32_t slot)
{
    const struct llm_ctx_version *now = context_now(engine, slot);
    struct context *context = &engine->contexts.slots[slot];
    bool kept = now->name[0] != '\0' || now->lease_until_ns != 0;
    context->committed = now->length;
    context->domains[0] = domain_of(now);
    context->used_ns = now->used_ns;
    context->connection_id = kept ? 0 : now->connection_id;
    engine->contexts.request_ids[slot] = now->request_id;
    if (now->lease_until_ns != 0 && now->lease_until_ns < engine->next_lease_ns)
        engine->next_lease_ns = now->lease_until_ns;
}

static void sign(struct llm_ctx_version *next, const struct context_by *by)
{
    next->used_ns = llm_boot_ns();
    if (!by)
        return;
    next->by_connection_id = by->connection_id;
    next->by_position = by->position;
}

void contexts_write(struct engine *engine, uint32_t slot, struct llm_ctx_version *next,
                    const struct context_by *by)
{
    uint32_t row_before = context_now(engine, slot)->row;
    sign(next, by);
    journal_context(&engine->tables.contexts[slot], next, LLM_CTX_LIVE);
    contexts_derive(engine, slot);
    if (row_before != next->row)
        rows_drop(&engine->contexts.rows, row_before);
}

void contexts_change(struct engine *engine, uint32_t slot, struct llm_ctx_version *next,
                     const struct context_by *by)
{
    struct context *context = &engine->contexts.slots[slot];
    if (next->connection_id != context_now(engine, slot)->connection_id)
        context->orphan = false;
    name_remove(engine, slot);
    contexts_write(engine, slot, next, by);
    contexts_name_add(engine, slot);
    contexts_narrow(engine, slot);
}

/* ---- Slots ----------------------------------------------------------------------------------------------- */

void contexts_put_free(struct engine *engine, uint32_t slot)
{
    struct contexts *contexts = &engine->contexts;
    contexts->slots[slot] = (struct context){.request_slot = REQUEST_NONE, .next = CONTEXT_NONE};
    contexts->request_ids[slot] = 0;
    if (contexts->free_first == CONTEXT_NONE)
        contexts->free_first = slot;
    else
        contexts->slots[contexts->free_last].next = slot;
    contexts->free_last = slot;
}

static enum llm_status check_room(const struct engine *engine, uint32_t owner,
                                  struct llm_error *error)
{
    enum llm_status status = users_may_own_context(&engine->users, owner, error);
    if (status == LLM_OK && engine->contexts.free_first == CONTEXT_NONE)
        status = llm_fail(error, LLM_ERR_LIMIT, "all %u contexts (limits.contexts) are in use",
                          engine->contexts.count);
    return status;
}

/* A new context of the connection's user; `version` says what it is, but not whose. A reference to its row is the
 * caller's. */
static enum llm_status make(struct engine *engine, const struct connection *connection,
                            struct llm_ctx_version *version, const struct context_by *by,
                            uint32_t *out_slot, struct llm_error *error)
{
    struct contexts *contexts = &engine->contexts;
    uint32_t owner = connection->user;
    enum llm_status status = check_room(engine, owner, error);
    if (status != LLM_OK)
        return status;
    uint32_t slot = contexts->free_first;
    contexts->free_first = contexts->slots[slot].next;
    version->context_id = contexts->next_number++ << 16 | (slot + 1);
    version->connection_id = connection->peer.id;
    version->uid = connection->peer.uid;
    version->gid = connection->peer.gid;
    version->mode = CONTEXT_PRIVATE_MODE;
    version->model_check = contexts_model_check(engine, version->model);
    sign(version, by);
    rows_hold(&contexts->rows, (struct row_place){version->row, version->length});
    journal_context(&engine->tables.contexts[slot], version, LLM_CTX_LIVE);
    contexts->slots[slot] =
        (struct context){.live = true, .request_slot = REQUEST_NONE, .owner = owner};
    contexts->live++;
    engine->users.rows[owner].contexts++;
    contexts_derive(engine, slot);
    *out_slot = slot;
    return LLM_OK;
}

enum llm_status contexts_create(struct engine *engine, const struct connection *connection,
                                uint32_t model, const struct context_by *by, uint32_t *out_slot,
                                struct llm_error *error)
{
    struct llm_ctx_version version = {.row = LLM_ROW_NONE, .model = model};
    return make(engine, connection, &version, by, out_slot, error);
}

static_assert(PREFIX_SHARES_MAX == 2, "share_domains, share_tokens");

/* What of the first `length` tokens of a context others than its fork's owner may read: by where they came from, and by the
 * context's own mode. Wider domains first, and only what is wider than what follows. */
static void inherit_shares(struct llm_ctx_version *fork, const struct llm_ctx_version *from,
                           uint64_t own_domain, uint32_t length)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < PREFIX_SHARES_MAX; i++) {
        uint32_t tokens = from->share_tokens[i] < length ? from->share_tokens[i] : length;
        if (tokens == 0 ||
            prefix_domain_kind(from->share_domains[i]) <= prefix_domain_kind(own_domain))
            continue;
        fork->share_domains[count] = from->share_domains[i];
        fork->share_tokens[count++] = tokens;
    }
    if (prefix_domain_kind(own_domain) > LLM_DOMAIN_PRIVATE && count < PREFIX_SHARES_MAX) {
        fork->share_domains[count] = own_domain;
        fork->share_tokens[count] = length;
    }
}

static void cut_shares(struct llm_ctx_version *version)
{
    for (uint32_t i = 0; i < PREFIX_SHARES_MAX; i++)
        if (version->share_tokens[i] > version->length)
            version->share_tokens[i] = version->length;
}

enum llm_status contexts_fork(struct engine *engine, const struct connection *connection,
                              uint32_t parent, uint32_t length, const struct context_by *by,
                              uint32_t *out_slot, struct llm_error *error)
{
    uint32_t whole = contexts_length(engine, parent);
    if (length == UINT32_MAX)
        length = whole;
    if (length > whole)
        return llm_fail(error, LLM_ERR_INVALID, "a fork of %u tokens: context %llu has %u", length,
                        (unsigned long long)context_now(engine, parent)->context_id, whole);
    if (length > engine->contexts.slots[parent].committed)
        contexts_commit(engine, parent);
    const struct llm_ctx_version *now = context_now(engine, parent);
    struct row_place place =
        rows_cut(&engine->contexts.rows, contexts_place(engine, parent), length);
    struct llm_ctx_version version = {.parent_id = now->context_id,
                                      .row = place.row,
                                      .length = place.length,
                                      .model = now->model};
    inherit_shares(&version, now, engine->contexts.slots[parent].domains[0], length);
    engine->contexts.slots[parent].used_ns = llm_boot_ns();
    return make(engine, connection, &version, by, out_slot, error);
}

static void uncount(struct engine *engine, uint32_t slot)
{
    struct contexts *contexts = &engine->contexts;
    struct context *context = &contexts->slots[slot];
    contexts_hold(engine, slot, 0);
    engine->users.rows[context->owner].contexts--;
    contexts->live--;
}

void contexts_remove(struct engine *engine, uint32_t slot, const struct context_by *by)
{
    struct context *context = &engine->contexts.slots[slot];
    CHECK(context->live);
    context->ending = true;
    if (context->request_slot != REQUEST_NONE)
        request_end(engine, context->request_slot, CORE_FINISH_CANCELLED, LLM_ERR_CANCELLED,
                    "the context it ran on was removed");
    CHECK(context->request_slot == REQUEST_NONE);
    struct llm_ctx_version last = *context_now(engine, slot);
    sign(&last, by ? by : &(const struct context_by){0, 0});
    name_remove(engine, slot);
    uncount(engine, slot);
    journal_context(&engine->tables.contexts[slot], &last, LLM_CTX_FREE);
    rows_drop(&engine->contexts.rows, last.row);
    contexts_put_free(engine, slot);
    users_settle(&engine->users);
}

/* ---- Tokens ---------------------------------------------------------------------------------------------- */

const struct executor_facts *contexts_facts(const struct engine *engine, uint32_t slot)
{
    static const struct executor_facts gone = {.block_tokens = 1};
    return engine->contexts.slots[slot].model_gone
               ? &gone
               : &engine->executors[context_now(engine, slot)->model]->facts;
}

enum llm_status contexts_usable(const struct engine *engine, uint32_t slot, struct llm_error *error)
{
    if (!engine->contexts.slots[slot].model_gone)
        return LLM_OK;
    return llm_fail(
        error, LLM_ERR_NOT_FOUND,
        "the model of context %llu was unloaded: its tokens can be read, but nothing can "
        "go on behind them",
        (unsigned long long)context_now(engine, slot)->context_id);
}

enum llm_status contexts_idle(const struct engine *engine, uint32_t slot, struct llm_error *error)
{
    const struct llm_reqtab_record *record = running(engine, slot);
    return record ? llm_fail(error, LLM_ERR_BUSY, "request %llu is running on context %llu",
                             (unsigned long long)record->request_id,
                             (unsigned long long)context_now(engine, slot)->context_id)
                  : LLM_OK;
}

enum llm_status contexts_may_append(const struct engine *engine, uint32_t slot, uint32_t count,
                                    struct llm_error *error)
{
    const struct context *context = &engine->contexts.slots[slot];
    const struct llm_ctx_version *now = context_now(engine, slot);
    uint64_t most = contexts_facts(engine, slot)->context_tokens_max;
    enum llm_status status = contexts_idle(engine, slot, error);
    if (status != LLM_OK)
        return status;
    if ((uint64_t)now->length + count > most)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "%u tokens behind the %u of context %llu: the model's context has %llu",
                        count, now->length, (unsigned long long)now->context_id,
                        (unsigned long long)most);
    return users_may_keep_tokens(&engine->users, context->owner, count, error);
}

void contexts_append(struct engine *engine, uint32_t slot, const uint32_t *ids, uint32_t count,
                     const struct context_by *by)
{
    struct row_place place = rows_append(&engine->contexts.rows, contexts_place(engine, slot),
                                         engine->contexts.slots[slot].owner, ids, count);
    struct llm_ctx_version next = *context_now(engine, slot);
    next.row = place.row;
    next.length = place.length;
    contexts_write(engine, slot, &next, by);
}

/* Of other tokens less may be cached than was pinned: only what is held counts, here and after an engine's death. */
static void hold_again(struct engine *engine, uint32_t slot)
{
    struct llm_ctx_version next = *context_now(engine, slot);
    uint32_t held = contexts_hold(engine, slot, next.pinned_tokens);
    if (held == next.pinned_tokens)
        return;
    next.pinned_tokens = held;
    contexts_write(engine, slot, &next, NULL);
}

/* Its tokens are those of `place` from now on. `from`: whose tokens they are, and with them what others may read of them. */
static void move_to(struct engine *engine, uint32_t slot, uint32_t from, struct row_place place,
                    const struct context_by *by)
{
    struct llm_ctx_version next = *context_now(engine, slot);
    memcpy(next.share_domains, context_now(engine, from)->share_domains, sizeof next.share_domains);
    memcpy(next.share_tokens, context_now(engine, from)->share_tokens, sizeof next.share_tokens);
    bool pinned = next.pinned_tokens > 0;
    if (place.row != next.row)
        rows_hold(&engine->contexts.rows, place);
    next.row = place.row;
    next.length = place.length;
    cut_shares(&next);
    if (next.pinned_tokens > place.length)
        next.pinned_tokens = place.length;
    contexts_write(engine, slot, &next, by);
    rows_trim(&engine->contexts.rows, place);
    if (pinned)
        hold_again(engine, slot);
}

void contexts_rewind(struct engine *engine, uint32_t slot, uint32_t length,
                     const struct context_by *by)
{
    CHECK(engine->contexts.slots[slot].request_slot == REQUEST_NONE);
    move_to(engine, slot, slot,
            rows_cut(&engine->contexts.rows, contexts_place(engine, slot), length), by);
}

void contexts_take_tokens(struct engine *engine, uint32_t slot, uint32_t other,
                          const struct context_by *by)
{
    CHECK(engine->contexts.slots[slot].request_slot == REQUEST_NONE &&
          engine->contexts.slots[other].request_slot == REQUEST_NONE);
    move_to(engine, slot, other, contexts_place(engine, other), by);
}
