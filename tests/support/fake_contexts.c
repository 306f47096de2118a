#include "tests/support/fake_contexts.h"

#include <stdio.h>
#include <string.h>

#define WORDS(type) (sizeof(type) / sizeof(uint32_t))

/* ---- The table -------------------------------------------------------------------------------------- */

struct fake_context *fake_contexts_find(struct fake_contexts *contexts, uint64_t id)
{
    for (int i = 0; i < FAKE_CONTEXTS; i++)
        if (id != 0 && contexts->contexts[i].id == id)
            return &contexts->contexts[i];
    return NULL;
}

static struct fake_context *find_named(struct fake_contexts *contexts, const char *name)
{
    for (int i = 0; i < FAKE_CONTEXTS; i++)
        if (contexts->contexts[i].id != 0 && strcmp(contexts->contexts[i].name, name) == 0)
            return &contexts->contexts[i];
    return NULL;
}

static struct fake_context *find_of_request(struct fake_contexts *contexts, uint64_t request_id)
{
    for (int i = 0; i < FAKE_CONTEXTS; i++)
        if (contexts->contexts[i].id != 0 && contexts->contexts[i].request_id == request_id)
            return &contexts->contexts[i];
    return NULL;
}

static struct fake_context *take(struct fake_contexts *contexts, uint64_t connection_id,
                                 const struct fake_context *parent, struct llm_error *error)
{
    uint64_t slot = 0;
    while (slot < FAKE_CONTEXTS && contexts->contexts[slot].id != 0)
        slot++;
    if (slot == FAKE_CONTEXTS) {
        (void)!llm_fail(error, LLM_ERR_LIMIT, "all %d contexts are in use", FAKE_CONTEXTS);
        return NULL;
    }
    struct fake_context *context = &contexts->contexts[slot];
    if (parent)
        *context = *parent;
    else
        memset(context, 0, sizeof *context);
    context->id = ++contexts->next_number << 16 | (slot + 1);
    context->parent_id = parent ? parent->id : 0;
    context->connection_id = connection_id;
    context->request_id = 0;
    context->shared = context->length;
    context->mode = 0600;
    context->lease_ms = 0;
    context->pinned = context->generating = false;
    memset(context->name, 0, sizeof context->name);
    atomic_fetch_add(&contexts->live, 1);
    return context;
}

static void end(struct fake_contexts *contexts, struct fake_context *context)
{
    context->id = 0;
    atomic_fetch_sub(&contexts->live, 1);
}

struct fake_context *fake_contexts_begin(struct fake_contexts *contexts, uint64_t connection_id,
                                         uint64_t id, bool branch, uint64_t request_id,
                                         struct llm_error *error)
{
    struct fake_context *context = fake_contexts_find(contexts, id);
    if (!context) {
        (void)!llm_fail(error, LLM_ERR_NOT_FOUND, "there is no context %llu",
                        (unsigned long long)id);
        return NULL;
    }
    if (branch)
        context = take(contexts, connection_id, context, error);
    else if (context->generating) {
        (void)!llm_fail(error, LLM_ERR_BUSY, "a generation is running on it");
        return NULL;
    }
    if (context) {
        context->request_id = request_id;
        context->generating = true;
    }
    return context;
}

/* ---- Words of an answer ----------------------------------------------------------------------------- */

static void put(struct fake_contexts *contexts, struct llm_stream_writer *writer, const void *words,
                size_t count)
{
    const unsigned char *from = words;
    if (atomic_load(&contexts->lie) == FAKE_CONTEXT_SHORT && count > 0)
        count--;
    if (count > writer->capacity_tokens - writer->count)
        count = writer->capacity_tokens - writer->count;
    for (size_t i = 0; i < count; i++) {
        uint32_t word;
        memcpy(&word, from + i * sizeof word, sizeof word);
        llm_stream_writer_append(writer, &word, NULL, 1, 1);
    }
}

static void put_record(struct fake_contexts *contexts, struct llm_stream_writer *writer,
                       const struct fake_context *context)
{
    enum fake_context_lie lie = (enum fake_context_lie)atomic_load(&contexts->lie);
    struct llm_context_record record = {
        .id = context->id,
        .parent_id = context->parent_id,
        .request_id = context->request_id,
        .slot = (uint32_t)(context - contexts->contexts),
        .length = context->length,
        .shared_tokens = context->shared,
        .pinned_blocks = context->pinned ? context->length / 16 : 0,
        .uid = 1000,
        .gid = context->gid,
        .mode = context->mode,
        .flags = (context->name[0] ? LLM_CONTEXT_NAMED : 0u) |
                 (context->pinned ? LLM_CONTEXT_PINNED : 0u) |
                 (context->lease_ms ? LLM_CONTEXT_LEASED : 0u) |
                 (context->generating ? LLM_CONTEXT_GENERATING : 0u) | LLM_CONTEXT_WRITABLE,
        .lease_ms = context->lease_ms,
        .idle_ms = 2000,
        .block_tokens = 16,
    };
    memcpy(record.name, context->name, sizeof record.name);
    memcpy(record.model, context->model, sizeof record.model);
    if (lie == FAKE_CONTEXT_NO_ID)
        record.id = 0;
    if (lie == FAKE_CONTEXT_OTHER_ID)
        record.id++;
    if (lie == FAKE_CONTEXT_NAME)
        memset(record.name, 'n', sizeof record.name);
    if (lie == FAKE_CONTEXT_MODEL)
        memset(record.model, 'm', sizeof record.model);
    if (lie == FAKE_CONTEXT_SHARED)
        record.shared_tokens = record.length + 1;
    if (lie == FAKE_CONTEXT_BACKWARDS)
        record.slot = 0;
    put(contexts, writer, &record, WORDS(record));
}

static void put_list(struct fake_contexts *contexts, struct llm_stream_writer *writer,
                     uint32_t from)
{
    uint32_t room = writer->capacity_tokens / LLM_CONTEXT_RECORD_WORDS;
    for (uint32_t slot = from; slot < FAKE_CONTEXTS && room > 0; slot++)
        if (contexts->contexts[slot].id != 0) {
            put_record(contexts, writer, &contexts->contexts[slot]);
            room--;
        }
}

/* What stands in some named context is a hit; one token of it more is being made; then nothing. */
static void put_spans(struct fake_contexts *contexts, struct llm_stream_writer *writer,
                      const uint32_t *ids, uint32_t count)
{
    enum fake_context_lie lie = (enum fake_context_lie)atomic_load(&contexts->lie);
    const struct fake_context *best = NULL;
    uint32_t same = 0;
    for (int i = 0; i < FAKE_CONTEXTS; i++) {
        const struct fake_context *context = &contexts->contexts[i];
        uint32_t equal = 0;
        while (context->id && equal < count && equal < context->length &&
               context->tokens[equal] == ids[equal])
            equal++;
        if (equal > same) {
            same = equal;
            best = context;
        }
    }
    struct llm_probe_span spans[2] = {
        {LLM_PROBE_HIT, 0, same, UINT32_MAX, llm_domain(LLM_DOMAIN_GROUP, 77), best ? best->id : 0},
        {LLM_PROBE_MISS, same, count, best && same < best->length ? best->tokens[same] : UINT32_MAX,
         0, 0}};
    if (lie == FAKE_CONTEXT_SPAN_KIND)
        spans[1].kind = 6;
    if (lie == FAKE_CONTEXT_SPAN_GAP)
        spans[1].from++;
    if (lie == FAKE_CONTEXT_SPAN_BEYOND)
        spans[1].to++;
    if (lie == FAKE_CONTEXT_SPAN_DOMAIN)
        spans[1].domain = UINT64_C(3) << 32;
    bool hit = same > 0, miss = same < count;
    put(contexts, writer, hit ? &spans[0] : &spans[1], (size_t)(hit + miss) * WORDS(spans[0]));
}

/* ---- Verbs ------------------------------------------------------------------------------------------ */

static enum llm_status append(struct fake_context *context, const uint32_t *ids, uint32_t count,
                              struct llm_error *error)
{
    if (count > FAKE_CONTEXT_TOKENS - context->length)
        return llm_fail(error, LLM_ERR_LIMIT, "%u tokens and %u more: at most %d", context->length,
                        count, FAKE_CONTEXT_TOKENS);
    memcpy(context->tokens + context->length, ids, count * sizeof *ids);
    context->length += count;
    return LLM_OK;
}

static enum llm_status publish(struct fake_contexts *contexts, struct fake_context *context,
                               const struct llm_context_body *body, struct llm_error *error)
{
    const struct fake_context *taken = find_named(contexts, body->name);
    if (taken && taken != context)
        return llm_fail(error, LLM_ERR_EXISTS, "another context is called \"%s\"", body->name);
    if (body->mode > 0666)
        return llm_fail(error, LLM_ERR_INVALID, "mode %#o", body->mode);
    memcpy(context->name, body->name, sizeof context->name);
    context->mode = body->mode;
    context->gid = body->gid == UINT32_MAX ? 100 : body->gid;
    return LLM_OK;
}

static enum llm_status keep(struct fake_contexts *contexts, struct fake_context *context,
                            uint64_t other_id, struct llm_error *error)
{
    struct fake_context *other = fake_contexts_find(contexts, other_id);
    if (!other)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "there is no context %llu",
                        (unsigned long long)other_id);
    memcpy(context->tokens, other->tokens, sizeof context->tokens);
    context->length = other->length;
    end(contexts, other);
    return LLM_OK;
}

/* Those that name a context. `*out_record`: whose record is part of the answer; NULL: none is. */
static enum llm_status apply(struct fake_contexts *contexts, uint64_t connection_id,
                             const struct llm_context_body *body, const uint32_t *ids,
                             struct llm_stream_writer *writer, struct fake_context *context,
                             struct fake_context **out_record, struct llm_error *error)
{
    *out_record = NULL;
    switch ((enum llm_context_verb)body->verb) {
    case LLM_CONTEXT_OPEN:
        *out_record = context;
        return LLM_OK;
    case LLM_CONTEXT_FORK:
        *out_record = take(contexts, connection_id, context, error);
        if (!*out_record)
            return LLM_ERR_LIMIT;
        if (body->length < (*out_record)->length)
            (*out_record)->length = (*out_record)->shared = body->length;
        return LLM_OK;
    case LLM_CONTEXT_APPEND:
        return append(context, ids, body->count, error);
    case LLM_CONTEXT_REWIND:
        if (body->length > context->length)
            return llm_fail(error, LLM_ERR_INVALID, "it has %u tokens", context->length);
        context->length = body->length;
        context->shared = context->shared < body->length ? context->shared : body->length;
        return LLM_OK;
    case LLM_CONTEXT_KEEP:
        *out_record = context;
        return keep(contexts, context, body->other, error);
    case LLM_CONTEXT_PUBLISH:
        *out_record = context;
        return publish(contexts, context, body, error);
    case LLM_CONTEXT_MODE:
        context->mode = body->mode;
        return LLM_OK;
    case LLM_CONTEXT_UNPIN:
        context->pinned = false;
        return LLM_OK;
    case LLM_CONTEXT_LEASE:
        context->lease_ms = body->lease_ms;
        return LLM_OK;
    case LLM_CONTEXT_ADOPT:
        context->connection_id = connection_id;
        *out_record = context;
        return LLM_OK;
    case LLM_CONTEXT_CLOSE:
        if (!context->name[0] && !context->lease_ms && context->connection_id == connection_id)
            end(contexts, context);
        return LLM_OK;
    case LLM_CONTEXT_REMOVE:
        end(contexts, context);
        return LLM_OK;
    case LLM_CONTEXT_READ:
        if (body->length > context->length)
            return llm_fail(error, LLM_ERR_INVALID, "it has %u tokens", context->length);
        put(contexts, writer, context->tokens + body->length,
            body->count < context->length - body->length ? body->count
                                                         : context->length - body->length);
        return LLM_OK;
    case LLM_CONTEXT_FOLLOW:
        if (!context->generating)
            return llm_fail(error, LLM_ERR_NOT_FOUND, "nothing is being generated on it");
        put(contexts, writer, context->tokens, context->length);
        return LLM_OK;
    case LLM_CONTEXT_CREATE:
    case LLM_CONTEXT_LIST:
    case LLM_CONTEXT_PROBE:
    case LLM_CONTEXT_BLOCKS:
    case LLM_CONTEXT_LEDGER:
    case LLM_CONTEXT_VERB_COUNT:
    default:
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "verb %u", body->verb);
    }
}

static enum llm_status create(struct fake_contexts *contexts, uint64_t connection_id,
                              const char *model, struct fake_context **out_record,
                              struct llm_error *error)
{
    if (strcmp(model, "none") == 0)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "there is no model \"none\"");
    *out_record = take(contexts, connection_id, NULL, error);
    if (!*out_record)
        return LLM_ERR_LIMIT;
    snprintf((*out_record)->model, sizeof(*out_record)->model, "%.63s", model[0] ? model : "echo");
    return LLM_OK;
}

static enum llm_status find_and_apply(struct fake_contexts *contexts, uint64_t connection_id,
                                      const struct llm_context_body *body, const uint32_t *ids,
                                      struct llm_stream_writer *writer,
                                      struct fake_context **out_record, struct llm_error *error)
{
    struct fake_context *context = body->other && body->verb != LLM_CONTEXT_KEEP
                                       ? find_of_request(contexts, body->other)
                                   : body->id ? fake_contexts_find(contexts, body->id)
                                              : find_named(contexts, body->name);
    if (!context)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "there is no context %llu \"%s\"",
                        (unsigned long long)body->id, body->name);
    return apply(contexts, connection_id, body, ids, writer, context, out_record, error);
}

void fake_contexts_answer(struct fake_contexts *contexts, uint64_t connection_id,
                          const struct llm_context_body *body, const uint32_t *ids,
                          struct llm_stream_writer *writer)
{
    struct fake_context *record = NULL;
    struct llm_error error = {.status = LLM_OK};
    enum llm_status status = (enum llm_status)atomic_load(&contexts->refusal);
    if (status != LLM_OK)
        status = llm_fail(&error, status, "refused as the test wants it");
    else if (body->verb == LLM_CONTEXT_CREATE)
        status = create(contexts, connection_id, body->name, &record, &error);
    else if (body->verb == LLM_CONTEXT_LIST)
        put_list(contexts, writer, body->length);
    else if (body->verb == LLM_CONTEXT_PROBE)
        put_spans(contexts, writer, ids, body->count);
    else
        status = find_and_apply(contexts, connection_id, body, ids, writer, &record, &error);
    if (status == LLM_OK && record)
        put_record(contexts, writer, record);
    llm_stream_writer_finish(writer, status, LLM_FINISH_ANSWERED, error.message);
}
