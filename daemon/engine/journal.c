#include "daemon/engine/journal.h"

#include <stdio.h>
#include <string.h>

#include "daemon/engine/engine.h"
#include "shm/check.h"
#include "shm/crash_point.h"

/* The store that makes a record valid: whatever was written before it is seen by who sees it. */
static void set_word(_Atomic uint64_t *word, uint64_t generation, unsigned state)
{
    atomic_store_explicit(word, llm_word_pack(generation, state), memory_order_release);
}

static uint64_t word_of(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* Same generation, another state. */
static void change_state(_Atomic uint64_t *word, unsigned state)
{
    set_word(word, llm_word_generation(word_of(word)), state);
}

/* A new generation: whoever remembers the old one knows that this is another record. */
static void begin(_Atomic uint64_t *word, unsigned state)
{
    set_word(word, llm_word_generation(word_of(word)) + 1, state);
}

/* ---- conntab --------------------------------------------------------------------------------------- */

/* An engine may die after a request became LIVE and before its position counted as taken: the record is what
 * keeps it from being admitted twice. */
static uint64_t head_after_admitted(const struct engine *engine, uint64_t connection_id,
                                    uint64_t head)
{
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++) {
        const struct llm_reqtab_record *record = &engine->tables.requests[slot];
        if (llm_word_state(word_of(&record->word)) != LLM_REQ_FREE &&
            record->connection_id == connection_id && record->queue_position >= head)
            head = record->queue_position + 1;
    }
    return head;
}

bool journal_attach(struct engine *engine, const struct connection *connection, uint64_t *out_head)
{
    struct llm_conntab_record *row = &engine->tables.connections[connection->peer.slot];
    if (llm_word_state(word_of(&row->word)) == LLM_CONN_ATTACHED &&
        row->connection_id == connection->peer.id) {
        uint64_t head = atomic_load_explicit(&row->queue_head, memory_order_relaxed);
        head = head_after_admitted(engine, connection->peer.id, head);
        atomic_store_explicit(&row->queue_head, head, memory_order_release);
        CRASH_POINT(conn_resumed);
        *out_head = head;
        return true;
    }
    change_state(&row->word, LLM_CONN_FREE);
    CRASH_POINT(conn_reset);
    row->connection_id = connection->peer.id;
    atomic_store_explicit(&row->queue_head, 0, memory_order_relaxed);
    CRASH_POINT(conn_fields);
    begin(&row->word, LLM_CONN_ATTACHED);
    CRASH_POINT(conn_attached);
    *out_head = 0;
    return false;
}

void journal_detach(struct engine *engine, uint32_t connection_slot)
{
    change_state(&engine->tables.connections[connection_slot].word, LLM_CONN_FREE);
    CRASH_POINT(conn_free);
}

void journal_taken(struct engine *engine, const struct connection *connection, uint64_t queue_head)
{
    struct llm_conntab_record *row = &engine->tables.connections[connection->peer.slot];
    CRASH_POINT(conn_answered);
    atomic_store_explicit(&row->queue_head, queue_head, memory_order_release);
    CRASH_POINT(conn_head);
}

/* ---- reqtab ---------------------------------------------------------------------------------------- */

void journal_live(struct engine *engine, uint32_t slot)
{
    CRASH_POINT(req_record);
    begin(&engine->tables.requests[slot].word, LLM_REQ_LIVE);
    CRASH_POINT(req_live);
}

void journal_try(struct engine *engine, uint32_t slot)
{
    engine->tables.requests[slot].deaths++;
    CRASH_POINT(req_try);
}

void journal_published(struct engine *engine, uint32_t slot, uint32_t count)
{
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    CRASH_POINT(req_token);
    /* Pairs with the acquire in recovery.c: the ids below `count` are in the row. */
    atomic_store_explicit(&record->published, count, memory_order_release);
    CRASH_POINT(req_published);
    record->deaths = 0;
    CRASH_POINT(req_proved);
}

void journal_answered(struct engine *engine, uint32_t slot, enum llm_status status,
                      enum llm_finish finish, const char *note)
{
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    record->status = (uint32_t)status;
    record->finish = (uint32_t)finish;
    snprintf(record->note, sizeof record->note, "%s", note);
    CRASH_POINT(req_end);
    change_state(&record->word, LLM_REQ_ANSWERED);
    CRASH_POINT(req_answered);
}

void journal_free(struct engine *engine, uint32_t slot)
{
    change_state(&engine->tables.requests[slot].word, LLM_REQ_FREE);
    CRASH_POINT(req_free);
}

/* ---- kvhdr, kvtok ---------------------------------------------------------------------------------- */

/* FNV-1a, 64 bits folded to 32: against stray writes, not against intent. */
static uint64_t mix(uint64_t hash, const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

uint32_t journal_block_check(const struct llm_kvhdr_record *header, uint64_t generation,
                             const uint32_t *ids)
{
    uint64_t hash = mix(UINT64_C(0xcbf29ce484222325), &generation, sizeof generation);
    size_t from = offsetof(struct llm_kvhdr_record, chain);
    size_t to = offsetof(struct llm_kvhdr_record, domain);
    hash = mix(hash, (const char *)header + from, to - from);
    hash = mix(hash, &header->data_check, sizeof header->data_check);
    hash = mix(hash, ids, header->tokens * sizeof *ids);
    return (uint32_t)(hash ^ hash >> 32);
}

void journal_block_taken(struct engine *engine, block_id block)
{
    begin(&engine->tables.blocks[block].word, LLM_BLOCK_WRITING);
    /* The word must be seen before any row is: the device (here: we) writes rows from now on. */
    atomic_thread_fence(memory_order_release);
    CRASH_POINT(block_taken);
}

void journal_block_sealed(struct engine *engine, block_id block)
{
    struct llm_kvhdr_record *header = &engine->tables.blocks[block];
    uint32_t *ids = engine->tables.block_ids + (size_t)block * engine->tables.block_tokens_max;
    struct core_block_info info = core_block_info(engine->core, block);
    uint64_t generation = llm_word_generation(word_of(&header->word));
    CHECK(info.tokens <= engine->tables.block_tokens_max);
    memcpy(ids, info.ids, info.tokens * sizeof *ids);
    CRASH_POINT(block_ids);
    memcpy(header->chain, info.chain.bytes, sizeof header->chain);
    memcpy(header->parent, info.parent.bytes, sizeof header->parent);
    header->tokens = (uint16_t)info.tokens;
    header->depth = info.depth;
    atomic_store_explicit(&header->domain, info.domain, memory_order_relaxed);
    header->model = (uint16_t)info.model;
    header->data_check = 0;
    header->header_check = journal_block_check(header, generation, ids);
    CRASH_POINT(block_header);
    set_word(&header->word, generation, LLM_BLOCK_SEALED);
    CRASH_POINT(block_sealed);
}

void journal_block_widened(struct engine *engine, block_id block)
{
    uint64_t domain = core_block_info(engine->core, block).domain;
    atomic_store_explicit(&engine->tables.blocks[block].domain, domain, memory_order_release);
    CRASH_POINT(block_widened);
}

void journal_block_quarantined(struct engine *engine, block_id block)
{
    change_state(&engine->tables.blocks[block].word, LLM_BLOCK_QUARANTINED);
    CRASH_POINT(block_waits);
}

void journal_block_freed(struct engine *engine, block_id block)
{
    change_state(&engine->tables.blocks[block].word, LLM_BLOCK_FREE);
    CRASH_POINT(block_freed);
}

/* ---- ctxrow, ctxtab -------------------------------------------------------------------------------- */

void journal_row_end(struct llm_ctxrow_record *row, uint32_t end)
{
    CRASH_POINT(row_ids);
    /* Pairs with the acquire in rows_adopt(): the ids below `end` are there. */
    atomic_store_explicit(&row->end, end, memory_order_release);
    CRASH_POINT(row_end);
}

void journal_row_live(struct llm_ctxrow_record *row, uint32_t parent, uint32_t start, uint32_t end,
                      uint32_t uid)
{
    row->parent = parent;
    row->start = start;
    row->uid = uid;
    atomic_store_explicit(&row->end, end, memory_order_relaxed);
    CRASH_POINT(row_fields);
    begin(&row->word, LLM_CTXROW_LIVE);
    CRASH_POINT(row_live);
}

void journal_row_free(struct llm_ctxrow_record *row)
{
    change_state(&row->word, LLM_CTXROW_FREE);
    CRASH_POINT(row_free);
}

void journal_context(struct llm_ctxtab_record *record, const struct llm_ctx_version *version,
                     enum llm_ctx_state state)
{
    record->versions[(llm_word_generation(word_of(&record->word)) + 1) & 1] = *version;
    CRASH_POINT(ctx_version);
    begin(&record->word, state);
    CRASH_POINT(ctx_word);
}
