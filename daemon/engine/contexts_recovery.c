/* How contexts begin and end with an engine, a connection or a lease, and whether they fit together. */
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/contexts_private.h"
#include "daemon/engine/journal.h"
#include "daemon/log.h"
#include "shm/check.h"

/* ---- Opening --------------------------------------------------------------------------------------------- */

static uint32_t bucket_count(uint32_t contexts)
{
    uint32_t count = 1;
    while (count < contexts)
        count *= 2;
    return count;
}

enum llm_status contexts_open(struct engine *engine, struct llm_error *error)
{
    const struct tables *tables = &engine->tables;
    struct contexts *contexts = &engine->contexts;
    uint32_t buckets = bucket_count(tables->context_slots);
    struct row *own = calloc(tables->row_count, sizeof *own);
    *contexts = (struct contexts){
        .slots = calloc(tables->context_slots, sizeof *contexts->slots),
        .request_ids = calloc(tables->context_slots, sizeof *contexts->request_ids),
        .count = tables->context_slots,
        .buckets = calloc(buckets, sizeof *contexts->buckets),
        .bucket_mask = buckets - 1,
        .recount = calloc(tables->row_count, sizeof *contexts->recount),
        .scratch = calloc(tables->context_tokens_max, sizeof *contexts->scratch)};
    rows_init(&contexts->rows, tables->rows, tables->row_ids, tables->row_count,
              tables->context_tokens_max, own, &engine->users);
    engine->next_lease_ns = UINT64_MAX;
    if (!own || !contexts->slots || !contexts->request_ids || !contexts->buckets ||
        !contexts->recount || !contexts->scratch)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u contexts", tables->context_slots);
    return LLM_OK;
}

void contexts_close(struct engine *engine)
{
    struct contexts *contexts = &engine->contexts;
    free(contexts->slots);
    free(contexts->request_ids);
    free(contexts->buckets);
    free(contexts->scratch);
    free(contexts->recount);
    free(contexts->rows.own);
    *contexts = (struct contexts){0};
}

/* ---- Recovery -------------------------------------------------------------------------------------------- */

/* FNV-1a, folded: against a mistake, not against intent. */
uint32_t contexts_model_check(const struct engine *engine, uint32_t model)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (uint32_t i = 0; i < CORE_IDENTITY_WORDS; i++)
        hash = (hash ^ engine->executors[model]->facts.identity[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(hash ^ hash >> 32);
}

static bool is_live(const struct engine *engine, uint32_t slot)
{
    return llm_word_state(atomic_load_explicit(&engine->tables.contexts[slot].word,
                                               memory_order_acquire)) == LLM_CTX_LIVE;
}

/* Ids go on behind the highest that any version has, valid or not. Without the old table nobody knows them: then they
 * begin where no earlier engine can have come to. */
static uint64_t next_number(const struct engine *engine)
{
    uint64_t next = 1;
    for (uint32_t slot = 0; slot < engine->contexts.count; slot++)
        for (int i = 0; i < 2; i++) {
            uint64_t number = engine->tables.contexts[slot].versions[i].context_id >> 16;
            next = number >= next ? number + 1 : next;
        }
    if (!engine->tables.context_ids_known && engine->generation > 1)
        next = engine->generation << 28;
    return next;
}

/* What is wrong with it; NULL: nothing, and its rows are counted. */
static const char *adopt(struct engine *engine, uint32_t slot)
{
    const struct llm_ctx_version *now = context_now(engine, slot);
    if (!engine->tables.contexts_kept)
        return "its rows are gone";
    if ((now->context_id & 0xffff) != slot + 1)
        return "its id is another slot's";
    if (now->name[0] != '\0' && !contexts_name_valid(now->name))
        return "its name is none";
    if (now->name[0] != '\0' && contexts_named(engine, now->name) != CONTEXT_NONE)
        return "its name is another one's";
    if (!rows_adopt(&engine->contexts.rows, (struct row_place){now->row, now->length}))
        return "its rows do not hold its tokens";
    return NULL;
}

#define NO_GROUP UINT32_MAX

/* What the groups of a user who is not connected may be is not known; its next connection's are. */
static uint32_t row_of_user(void *self, uint32_t uid)
{
    struct engine *engine = self;
    struct quota quota = quota_of(&engine->config, uid, NO_GROUP, NULL, 0);
    return users_row(&engine->users, uid, &quota);
}

static bool model_gone(const struct engine *engine, const struct llm_ctx_version *now)
{
    return now->model >= engine->executor_count ||
           now->model_check != contexts_model_check(engine, now->model);
}

static void take_in(struct engine *engine, uint32_t slot)
{
    struct contexts *contexts = &engine->contexts;
    const struct llm_ctx_version *now = context_now(engine, slot);
    uint32_t owner = row_of_user(engine, now->uid);
    contexts->slots[slot] = (struct context){.live = true,
                                             .request_slot = REQUEST_NONE,
                                             .owner = owner,
                                             .model_gone = model_gone(engine, now)};
    engine->users.rows[owner].contexts++;
    contexts->live++;
    contexts_derive(engine, slot);
    contexts_name_add(engine, slot);
}

static void recover_slots(struct engine *engine)
{
    for (uint32_t slot = 0; slot < engine->contexts.count; slot++) {
        if (!is_live(engine, slot))
            continue;
        const char *fault = adopt(engine, slot);
        if (!fault) {
            take_in(engine, slot);
            continue;
        }
        struct llm_ctx_version last = *context_now(engine, slot);
        log_event(LOG_LEVEL_WARN, "dropped a context", log_count("context", last.context_id),
                  log_text("reason", fault));
        journal_context(&engine->tables.contexts[slot], &last, LLM_CTX_FREE);
    }
    rows_settle(&engine->contexts.rows, row_of_user, engine);
}

struct ended {
    uint64_t when_ns;
    uint32_t slot;
};

static int by_end(const void *left, const void *right)
{
    const struct ended *a = left, *b = right;
    if (a->when_ns != b->when_ns)
        return a->when_ns < b->when_ns ? -1 : 1;
    return a->slot < b->slot ? -1 : 1;
}

/* First ended, first used: a submission may still be taken in again that ended one of the last. */
static void list_free(struct engine *engine)
{
    uint32_t count = 0;
    struct ended *ended = malloc(engine->contexts.count * sizeof *ended);
    for (uint32_t slot = 0; slot < engine->contexts.count; slot++)
        if (!engine->contexts.slots[slot].live) {
            if (ended)
                ended[count++] = (struct ended){context_now(engine, slot)->used_ns, slot};
            else
                contexts_put_free(engine, slot); /* the order is a courtesy */
        }
    if (ended)
        qsort(ended, count, sizeof *ended, by_end);
    for (uint32_t i = 0; i < count; i++)
        contexts_put_free(engine, ended[i].slot);
    free(ended);
}

/* The request goes on, or its client is gone and the tokens are all that is left of it. */
static void commit_request(struct engine *engine, uint32_t request_slot)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[request_slot];
    unsigned state = llm_word_state(atomic_load_explicit(&record->word, memory_order_acquire));
    uint32_t slot = contexts_slot(engine, record->context_id);
    if (state != LLM_REQ_LIVE || slot == CONTEXT_NONE ||
        context_now(engine, slot)->request_id != record->request_id)
        return;
    struct context *context = &engine->contexts.slots[slot];
    uint64_t length = (uint64_t)record->body.prompt_tokens +
                      atomic_load_explicit(&record->published, memory_order_acquire);
    if (length < context->committed || length > engine->tables.context_tokens_max)
        return; /* a stray write: what was committed stays */
    context->request_slot = request_slot;
    contexts_commit(engine, slot);
    context->request_slot = REQUEST_NONE;
}

static void pin_again(struct engine *engine, uint32_t slot)
{
    struct llm_ctx_version next = *context_now(engine, slot);
    uint32_t tokens = next.pinned_tokens < next.length ? next.pinned_tokens : next.length;
    uint32_t held = contexts_hold(engine, slot, tokens);
    if (held == next.pinned_tokens)
        return;
    log_event(LOG_LEVEL_WARN, "a pin lost blocks", log_count("context", next.context_id),
              log_count("tokens", held), log_count("of", next.pinned_tokens));
    next.pinned_tokens = held;
    contexts_write(engine, slot, &next, NULL);
}

void contexts_recover(struct engine *engine)
{
    struct contexts *contexts = &engine->contexts;
    rows_reset(&contexts->rows);
    contexts->live = 0;
    contexts->pinned_blocks = 0;
    contexts->free_first = CONTEXT_NONE;
    contexts->next_number = next_number(engine);
    for (uint32_t bucket = 0; bucket <= contexts->bucket_mask; bucket++)
        contexts->buckets[bucket] = CONTEXT_NONE;
    memset(contexts->slots, 0, contexts->count * sizeof *contexts->slots);
    recover_slots(engine);
    list_free(engine);
    if (engine->tables.requests_kept)
        for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++)
            commit_request(engine, slot);
    for (uint32_t slot = 0; slot < contexts->count; slot++)
        if (contexts->slots[slot].live && context_now(engine, slot)->pinned_tokens > 0)
            pin_again(engine, slot);
    if (contexts->live > 0)
        log_event(LOG_LEVEL_INFO, "recovered contexts", log_count("live", contexts->live),
                  log_count("rows", contexts->rows.live));
}

/* ---- Connections and leases ------------------------------------------------------------------------------ */

static bool is_attached(const struct engine *engine, uint64_t connection_id)
{
    for (uint32_t slot = 0; slot < engine->connection_end; slot++)
        if (engine->connections[slot].attached &&
            engine->connections[slot].peer.id == connection_id)
            return true;
    return false;
}

/* Nothing keeps it but, perhaps, a request. */
static void abandon(struct engine *engine, uint32_t slot)
{
    struct context *context = &engine->contexts.slots[slot];
    context->orphan = true;
    if (context->request_slot == REQUEST_NONE && !context->ending)
        contexts_remove(engine, slot, NULL);
}

void contexts_end_orphan(struct engine *engine, uint32_t slot)
{
    const struct context *context = &engine->contexts.slots[slot];
    if (context->live && context->connection_id != 0 &&
        !is_attached(engine, context->connection_id))
        abandon(engine, slot);
}

void contexts_abandon(struct engine *engine, const struct connection *connection)
{
    for (uint32_t slot = 0; slot < engine->contexts.count; slot++)
        if (engine->contexts.slots[slot].live &&
            engine->contexts.slots[slot].connection_id == connection->peer.id)
            abandon(engine, slot);
}

void contexts_settle(struct engine *engine)
{
    for (uint32_t slot = 0; slot < engine->contexts.count; slot++)
        contexts_end_orphan(engine, slot);
}

void contexts_expire(struct engine *engine, uint64_t now_ns)
{
    if (now_ns < engine->next_lease_ns)
        return;
    engine->next_lease_ns = UINT64_MAX;
    for (uint32_t slot = 0; slot < engine->contexts.count; slot++) {
        if (!engine->contexts.slots[slot].live)
            continue;
        uint64_t until_ns = context_now(engine, slot)->lease_until_ns;
        if (until_ns != 0 && until_ns <= now_ns)
            contexts_remove(engine, slot, NULL);
        else if (until_ns != 0 && until_ns < engine->next_lease_ns)
            engine->next_lease_ns = until_ns;
    }
}

/* ---- The walk -------------------------------------------------------------------------------------------- */

struct walk {             /* recounted */
    uint32_t *references; /* [rows] */
    uint32_t live, listed;
    uint64_t pinned_blocks;
};

static enum llm_status context_sane(const struct engine *engine, uint32_t slot, struct walk *walk,
                                    struct llm_error *error)
{
    const struct context *context = &engine->contexts.slots[slot];
    const struct llm_ctx_version *now = context_now(engine, slot);
    unsigned long long id = now->context_id;
    if (context->live != is_live(engine, slot))
        return llm_fail(error, LLM_ERR_CORRUPT, "context slot %u is live here or in ctxtab", slot);
    if (!context->live)
        return LLM_OK;
    walk->live++;
    walk->pinned_blocks += context->pinned_blocks;
    if (now->row != LLM_ROW_NONE)
        walk->references[now->row]++;
    if (context->committed != now->length || contexts_length(engine, slot) < now->length ||
        (now->row == LLM_ROW_NONE) != (now->length == 0))
        return llm_fail(error, LLM_ERR_CORRUPT, "context %llu has %u tokens, its version %u", id,
                        context->committed, now->length);
    if (now->name[0] != '\0' && contexts_named(engine, now->name) != slot)
        return llm_fail(error, LLM_ERR_CORRUPT, "context %llu is not found by its name", id);
    if (engine->users.rows[context->owner].uid != now->uid)
        return llm_fail(error, LLM_ERR_CORRUPT, "context %llu of user %u is charged to user %u", id,
                        now->uid, engine->users.rows[context->owner].uid);
    return LLM_OK;
}

static uint32_t free_count(const struct contexts *contexts)
{
    uint32_t count = 0;
    for (uint32_t slot = contexts->free_first; slot != CONTEXT_NONE && count <= contexts->count;
         slot = contexts->slots[slot].next)
        count++;
    return count;
}

static enum llm_status counts_sane(const struct engine *engine, const struct walk *walk,
                                   struct llm_error *error)
{
    const struct contexts *contexts = &engine->contexts;
    const struct users *users = &engine->users;
    uint64_t of_owners = 0, pinned = 0, tokens = 0, in_rows = 0;
    for (uint32_t i = 0; i < users->end; i++) {
        of_owners += users->rows[i].contexts;
        pinned += users->rows[i].pinned_blocks;
        tokens += users->rows[i].context_tokens;
    }
    for (uint32_t row = 0; row < contexts->rows.count; row++)
        if (contexts->rows.own[row].references > 0)
            in_rows +=
                atomic_load_explicit(&contexts->rows.records[row].end, memory_order_relaxed) -
                contexts->rows.records[row].start;
    if (walk->live != contexts->live || of_owners != contexts->live ||
        walk->live + free_count(contexts) != contexts->count)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "%u contexts are live (%u counted, %llu of owners), %u free, of %u",
                        walk->live, contexts->live, (unsigned long long)of_owners,
                        free_count(contexts), contexts->count);
    if (tokens != in_rows || pinned != contexts->pinned_blocks ||
        walk->pinned_blocks != contexts->pinned_blocks)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "contexts have %llu tokens in rows (%llu of owners) and pin %llu blocks "
                        "(%llu counted, %llu of owners)",
                        (unsigned long long)in_rows, (unsigned long long)tokens,
                        (unsigned long long)walk->pinned_blocks,
                        (unsigned long long)contexts->pinned_blocks, (unsigned long long)pinned);
    return LLM_OK;
}

enum llm_status contexts_sane(const struct engine *engine, struct llm_error *error)
{
    const struct contexts *contexts = &engine->contexts;
    struct walk walk = {.references = contexts->recount};
    memset(walk.references, 0, contexts->rows.count * sizeof *walk.references);
    enum llm_status status = LLM_OK;
    for (uint32_t slot = 0; slot < contexts->count && status == LLM_OK; slot++)
        status = context_sane(engine, slot, &walk, error);
    if (status == LLM_OK)
        status = counts_sane(engine, &walk, error);
    if (status == LLM_OK)
        status = rows_sane(&contexts->rows, walk.references, error);
    return status;
}
