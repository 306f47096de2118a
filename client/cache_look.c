/* Looking at memory: the ledger and the pool's blocks, as words of the log, checked. */
#include "client/context.h"

#include <string.h>

#define ROW_WORDS  (sizeof(struct llm_ledger_row) / sizeof(uint32_t))
#define VIEW_WORDS (sizeof(struct llm_block_view) / sizeof(uint32_t))
#define ROWS_PAGE  64u
#define VIEWS_PAGE 128u

/* One page of records of `unit_words`, at most `*units` of them; `*units` is then how many came. */
static enum llm_status page(struct llm_connection *connection, enum llm_context_verb verb,
                            uint32_t from, uint32_t unit_words, uint32_t *out_words,
                            uint32_t *units, struct llm_error *error)
{
    struct llm_context_body body = {.verb = (uint32_t)verb, .length = from};
    uint32_t words = 0;
    *units = llm_context_page_units(connection, *units, unit_words);
    enum llm_status status =
        llm_context_call_page(connection, &body, NULL, units, unit_words, out_words, &words, error);
    if (status == LLM_OK && words % unit_words != 0)
        status = llm_context_nonsense(error, "a part of a record");
    if (status == LLM_OK)
        *units = words / unit_words;
    return status;
}

/* ---- The ledger ------------------------------------------------------------------------------------- */

static bool row_is_sane(const struct llm_ledger_row *row)
{
    return row->part >= LLM_LEDGER_WEIGHTS && row->part <= LLM_LEDGER_CLIENTS &&
           row->pinned_bytes <= row->bytes &&
           (row->owner == UINT64_MAX || row->owner >> 32 <= LLM_DOMAIN_PUBLIC) &&
           memchr(row->name, 0, sizeof row->name) != NULL;
}

static llm_ledger_entry to_entry(const struct llm_ledger_row *row)
{
    bool own = row->owner == UINT64_MAX;
    llm_ledger_entry entry = {.part = row->part,
                              .state = row->state,
                              .daemon_owned = own,
                              .domain_kind = own ? 0 : (uint32_t)(row->owner >> 32),
                              .domain_id = own ? 0 : (uint32_t)row->owner,
                              .bytes = row->bytes,
                              .pinned_bytes = row->pinned_bytes};
    static_assert(sizeof entry.name == sizeof row->name, "one size");
    memcpy(entry.name, row->name, sizeof entry.name);
    return entry;
}

enum llm_status llm_memory_ledger(llm_connection *connection, uint32_t *cursor,
                                  llm_ledger_entry *out_entries, uint32_t capacity,
                                  uint32_t *out_count, llm_error *error)
{
    struct llm_ledger_row rows[ROWS_PAGE];
    if (capacity == 0)
        return llm_fail(error, LLM_ERR_INVALID, "capacity is 0: at least 1");
    uint32_t count = capacity < ROWS_PAGE ? capacity : ROWS_PAGE;
    enum llm_status status = page(connection, LLM_CONTEXT_LEDGER, *cursor, ROW_WORDS,
                                  (uint32_t *)(void *)rows, &count, error);
    for (uint32_t i = 0; i < count && status == LLM_OK; i++)
        if (!row_is_sane(&rows[i]))
            status = llm_context_nonsense(error, "its ledger");
    if (status != LLM_OK)
        return status;
    for (uint32_t i = 0; i < count; i++)
        out_entries[i] = to_entry(&rows[i]);
    *cursor += count;
    *out_count = count;
    return LLM_OK;
}

/* ---- Blocks ----------------------------------------------------------------------------------------- */

static llm_block_info to_block(const struct llm_block_view *view)
{
    return (llm_block_info){.block = view->block,
                            .state = view->state,
                            .model = view->model,
                            .tokens = view->tokens,
                            .references = view->references,
                            .parent = view->parent,
                            .depth = view->depth,
                            .domain_kind = (uint32_t)(view->domain >> 32),
                            .domain_id = (uint32_t)view->domain};
}

enum llm_status llm_cache_blocks(llm_connection *connection, uint32_t *cursor,
                                 llm_block_info *out_blocks, uint32_t capacity, uint32_t *out_count,
                                 llm_error *error)
{
    struct llm_block_view views[VIEWS_PAGE];
    uint32_t next = *cursor;
    if (capacity == 0)
        return llm_fail(error, LLM_ERR_INVALID, "capacity is 0: at least 1");
    uint32_t count = capacity < VIEWS_PAGE ? capacity : VIEWS_PAGE;
    enum llm_status status = page(connection, LLM_CONTEXT_BLOCKS, next, VIEW_WORDS,
                                  (uint32_t *)(void *)views, &count, error);
    for (uint32_t i = 0; i < count && status == LLM_OK; i++) {
        /* Numbers only grow: a pool without end would keep its reader for ever. */
        if (views[i].block < next || views[i].block == UINT32_MAX || views[i].state > 5)
            status = llm_context_nonsense(error, "a block of its pool");
        next = views[i].block + 1;
    }
    if (status != LLM_OK)
        return status;
    for (uint32_t i = 0; i < count; i++)
        out_blocks[i] = to_block(&views[i]);
    *cursor = next;
    *out_count = count;
    return LLM_OK;
}
