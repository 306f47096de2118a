/* Looking at contexts and at the cache: what the engine answers as words of the log, checked. */
#include "client/context.h"

#include <string.h>

#include "shm/clock.h"

/* ---- Log words -------------------------------------------------------------------------------------- */

uint32_t llm_context_page_units(const struct llm_connection *connection, uint32_t wanted,
                                uint32_t unit_words)
{
    uint32_t most = connection->geometry.log_words / 4 / unit_words;
    return wanted < most ? wanted : most;
}

enum llm_status llm_context_call_page(struct llm_connection *connection,
                                      struct llm_context_body *body, const uint32_t *ids,
                                      uint32_t *units, uint32_t unit_words, uint32_t *out_words,
                                      uint32_t *out_count, struct llm_error *error)
{
    for (;;) {
        if (!ids)
            body->count = *units;
        enum llm_status status = llm_context_call(
            connection, body, ids, out_words, *units * unit_words, out_count, UINT64_MAX, error);
        if (status != LLM_ERR_BUSY || *units * unit_words <= 64)
            return status;
        *units = *units / 2 > 0 ? *units / 2 : 1;
    }
}

enum llm_status llm_context_nonsense(struct llm_error *error, const char *what)
{
    return llm_fail(error, LLM_ERR_PEER, "the daemon broke the protocol: %s makes no sense", what);
}

/* ---- Ids -------------------------------------------------------------------------------------------- */

enum llm_status llm_context_read(llm_context *context, uint32_t from, uint32_t *out_tokens,
                                 uint32_t capacity, uint32_t *out_count, llm_error *error)
{
    uint32_t total = 0, got, asked;
    enum llm_status status;
    if (capacity == 0)
        return llm_fail(error, LLM_ERR_INVALID, "capacity is 0: at least 1");
    if (from > UINT32_MAX - capacity)
        capacity = UINT32_MAX - from;
    do {
        struct llm_context_body body = {
            .verb = LLM_CONTEXT_READ, .id = context->id, .length = from + total};
        asked = llm_context_page_units(context->connection, capacity - total, 1);
        status = llm_context_call_page(context->connection, &body, NULL, &asked, 1,
                                       out_tokens + total, &got, error);
        if (status == LLM_OK)
            total += got;
    } while (status == LLM_OK && got == asked && total < capacity);
    if (status == LLM_OK)
        *out_count = total;
    return status;
}

/* ---- Records ---------------------------------------------------------------------------------------- */

static_assert(sizeof((llm_context_info *)NULL)->name == LLM_CONTEXT_NAME_BYTES, "one size");
static_assert(sizeof((llm_context_info *)NULL)->model == LLM_NAME_BYTES, "one size");

static void to_info(const struct llm_context_record *record, llm_context_info *out_info)
{
    *out_info = (llm_context_info){
        .id = record->id,
        .parent_id = record->parent_id,
        .request_id = record->request_id,
        .length = record->length,
        .shared_tokens = record->shared_tokens,
        .pinned_blocks = record->pinned_blocks,
        .block_tokens = record->block_tokens,
        .uid = record->uid,
        .gid = record->gid,
        .mode = record->mode,
        .named = (record->flags & LLM_CONTEXT_NAMED) != 0,
        .pinned = (record->flags & LLM_CONTEXT_PINNED) != 0,
        .leased = (record->flags & LLM_CONTEXT_LEASED) != 0,
        .generating = (record->flags & LLM_CONTEXT_GENERATING) != 0,
        .writable = (record->flags & LLM_CONTEXT_WRITABLE) != 0,
        .lease_ns = record->lease_ms * LLM_NS_PER_MS,
        .idle_ns = record->idle_ms * LLM_NS_PER_MS,
    };
    memcpy(out_info->name, record->name, sizeof out_info->name);
    memcpy(out_info->model, record->model, sizeof out_info->model);
}

enum llm_status llm_context_describe(llm_context *context, llm_context_info *out_info,
                                     llm_error *error)
{
    const struct llm_context_body body = {.verb = LLM_CONTEXT_OPEN, .id = context->id};
    struct llm_context_record record;
    enum llm_status status =
        llm_context_call_record(context->connection, &body, &record, UINT64_MAX, error);
    if (status == LLM_OK && record.id != context->id)
        status = llm_context_nonsense(error, "another context's record");
    if (status == LLM_OK)
        to_info(&record, out_info);
    return status;
}

/* A page of the list lies on the stack before it is checked. */
#define LIST_PAGE 16u

enum llm_status llm_contexts_list(llm_connection *connection, uint32_t *cursor,
                                  llm_context_info *out_infos, uint32_t capacity,
                                  uint32_t *out_count, llm_error *error)
{
    union {
        struct llm_context_record records[LIST_PAGE];
        uint32_t words[LIST_PAGE * LLM_CONTEXT_RECORD_WORDS];
    } page;
    struct llm_context_body body = {.verb = LLM_CONTEXT_LIST, .length = *cursor};
    uint32_t next = *cursor, units, words;
    if (capacity == 0)
        return llm_fail(error, LLM_ERR_INVALID, "capacity is 0: at least 1");
    units = llm_context_page_units(connection, capacity < LIST_PAGE ? capacity : LIST_PAGE,
                                   LLM_CONTEXT_RECORD_WORDS);
    enum llm_status status = llm_context_call_page(
        connection, &body, NULL, &units, LLM_CONTEXT_RECORD_WORDS, page.words, &words, error);
    if (status == LLM_OK && words % LLM_CONTEXT_RECORD_WORDS != 0)
        status = llm_context_nonsense(error, "a part of a context's record");
    uint32_t count = status == LLM_OK ? words / LLM_CONTEXT_RECORD_WORDS : 0;
    for (uint32_t i = 0; i < count && status == LLM_OK; i++) {
        status = llm_context_record_check(&page.records[i], error);
        /* Slots only grow: a list without end would keep its reader for ever. */
        if (status == LLM_OK && (page.records[i].slot < next || page.records[i].slot == UINT32_MAX))
            status = llm_context_nonsense(error, "a list of contexts that goes back");
        next = page.records[i].slot + 1;
    }
    if (status != LLM_OK)
        return status;
    for (uint32_t i = 0; i < count; i++)
        to_info(&page.records[i], &out_infos[i]);
    *cursor = next;
    *out_count = count;
    return LLM_OK;
}

/* ---- The cache -------------------------------------------------------------------------------------- */

#define SPAN_WORDS (sizeof(struct llm_probe_span) / sizeof(uint32_t))
#define PROBE_PAGE 128u

static bool span_is_sane(const struct llm_probe_span *span, uint32_t from, uint32_t count)
{
    return span->kind >= LLM_PROBE_HIT && span->kind <= LLM_PROBE_FOREIGN && span->from == from &&
           span->to > span->from && span->to <= count && span->domain >> 32 <= LLM_DOMAIN_PUBLIC;
}

static llm_probe_result to_result(const struct llm_probe_span *span)
{
    return (llm_probe_result){.kind = span->kind,
                              .from = span->from,
                              .to = span->to,
                              .cached_token = span->cached_token,
                              .domain_kind = (uint32_t)(span->domain >> 32),
                              .domain_id = (uint32_t)span->domain,
                              .context_id = span->context_id};
}

static enum llm_status check_probe(const char *model, const uint32_t *tokens, uint32_t count,
                                   uint32_t capacity, struct llm_error *error)
{
    if (model && strlen(model) >= LLM_NAME_BYTES)
        return llm_fail(error, LLM_ERR_INVALID,
                        "a model's name \"%.80s\" has %zu bytes: at most %u", model, strlen(model),
                        LLM_NAME_BYTES - 1);
    if (!tokens || count == 0)
        return llm_fail(error, LLM_ERR_INVALID, "no tokens to look for: at least 1");
    if (capacity == 0)
        return llm_fail(error, LLM_ERR_INVALID, "capacity is 0: at least 1");
    return LLM_OK;
}

enum llm_status llm_cache_probe(llm_connection *connection, const char *model,
                                const uint32_t *tokens, uint32_t count,
                                llm_probe_result *out_results, uint32_t capacity,
                                uint32_t *out_count, llm_error *error)
{
    union {
        struct llm_probe_span spans[PROBE_PAGE];
        uint32_t words[PROBE_PAGE * SPAN_WORDS];
    } page;
    struct llm_context_body body = {.verb = LLM_CONTEXT_PROBE, .count = count};
    uint32_t words = 0, units;
    enum llm_status status = check_probe(model, tokens, count, capacity, error);
    if (status != LLM_OK)
        return status;
    if (model)
        memcpy(body.name, model, strlen(model));
    units = llm_context_page_units(connection, capacity < PROBE_PAGE ? capacity : PROBE_PAGE,
                                   SPAN_WORDS);
    status = llm_context_call_page(connection, &body, tokens, &units, SPAN_WORDS, page.words,
                                   &words, error);
    if (status == LLM_OK && words % SPAN_WORDS != 0)
        status = llm_context_nonsense(error, "a part of a span");
    for (uint32_t i = 0, from = 0; i < words / SPAN_WORDS && status == LLM_OK; i++) {
        if (!span_is_sane(&page.spans[i], from, count))
            status = llm_context_nonsense(error, "what it says of the cache");
        from = page.spans[i].to;
    }
    if (status != LLM_OK)
        return status;
    for (uint32_t i = 0; i < words / SPAN_WORDS; i++)
        out_results[i] = to_result(&page.spans[i]);
    *out_count = (uint32_t)(words / SPAN_WORDS);
    return LLM_OK;
}
