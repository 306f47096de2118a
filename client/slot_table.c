#include "client/slot_table.h"

#include <errno.h>
#include <stdlib.h>

#include "shm/check.h"

#define LOG_GRANULE_WORDS   16u /* a cache line: two answers never share one */
#define ARENA_GRANULE_BYTES 64u

/* ---- Opening and closing -------------------------------------------------------------------------- */

static void init_streams(struct llm_slot_table *table, struct llm_connection *connection)
{
    uint32_t slots = table->geometry.stream_slots;
    const struct llm_stream_record *records =
        (const void *)((const char *)table->down + llm_down_map(&table->geometry).stream_offset);
    for (uint32_t slot = 0; slot < slots; slot++) {
        struct llm_stream *stream = &table->streams[slot];
        stream->connection = connection;
        stream->slot = slot;
        stream->reader.epoch =
            llm_commit_epoch(atomic_load_explicit(&records[slot].commit, memory_order_relaxed));
        table->free_slots[slots - 1 - slot] = slot; /* slot 0 on top */
    }
    table->free_count = slots;
}

enum llm_status llm_slot_table_open(struct llm_slot_table *table, struct llm_connection *connection,
                                    const struct llm_geometry *geometry, const void *down,
                                    const struct llm_queue_producer *queue, struct llm_error *error)
{
    uint32_t slots = geometry->stream_slots;
    *table = (struct llm_slot_table){
        .streams = calloc(slots, sizeof *table->streams),
        .free_slots = calloc(slots, sizeof *table->free_slots),
        .ranges = calloc(2 * (size_t)slots, sizeof *table->ranges),
        .ends = calloc(LLM_ENDS_PER_SLOT * (size_t)slots, sizeof *table->ends),
        .geometry = *geometry,
        .down = down,
        .queue = queue,
    };
    pthread_mutex_init(&table->lock, NULL);
    if (!table->streams || !table->free_slots || !table->ranges || !table->ends) {
        llm_slot_table_close(table, false);
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u stream slots", slots);
    }
    llm_range_set_init(&table->log, table->ranges, slots, geometry->log_words, LOG_GRANULE_WORDS);
    llm_range_set_init(&table->arena, table->ranges + slots, slots, geometry->arena_bytes,
                       ARENA_GRANULE_BYTES);
    init_streams(table, connection);
    return LLM_OK;
}

void llm_slot_table_close(struct llm_slot_table *table, bool inherited)
{
    for (uint32_t slot = 0; table->streams && slot < table->geometry.stream_slots; slot++)
        llm_attachment_drop(table->streams[slot].attachment); /* of streams that nobody closed */
    free(table->streams);
    free(table->free_slots);
    free(table->ranges);
    free(table->ends);
    if (!inherited)
        pthread_mutex_destroy(&table->lock);
}

/* ---- Ends that are still to come ------------------------------------------------------------------- */

static void push_end(struct llm_slot_table *table, const struct llm_context_end *end)
{
    uint32_t count = atomic_load_explicit(&table->end_count, memory_order_relaxed);
    if (count == LLM_ENDS_PER_SLOT * table->geometry.stream_slots)
        return;
    table->ends[count] = *end;
    atomic_store_explicit(&table->end_count, count + 1, memory_order_relaxed);
}

void llm_slot_table_push_end(struct llm_slot_table *table, const struct llm_context_end *end)
{
    pthread_mutex_lock(&table->lock);
    push_end(table, end);
    pthread_mutex_unlock(&table->lock);
}

/* The stream of a branch is gone, and nobody could name its request before. */
static void push_end_of(struct llm_slot_table *table, struct llm_stream *stream)
{
    const struct llm_context_end end = {
        .request_id =
            atomic_load_explicit(&stream->reader.record->request_id, memory_order_relaxed)};
    if (stream->branch_owned && end.request_id != 0)
        push_end(table, &end);
    if (stream->branch_owned && stream->state == LLM_SLOT_CLOSING)
        atomic_fetch_sub_explicit(&table->closing_branches, 1, memory_order_relaxed);
    stream->branch_owned = false;
}

/* ---- Finding what is free again (under the lock) -------------------------------------------------- */

static void drop_body_if_taken(struct llm_slot_table *table, struct llm_stream *stream)
{
    /* Pairs with the release in llm_connection_submit(): the body's writer is done with it. */
    uint64_t position = atomic_load_explicit(&stream->position, memory_order_acquire);
    if (stream->body_held && llm_queue_taken(table->queue, position)) {
        llm_range_set_drop(&table->arena, stream->body_offset, stream->body_bytes);
        stream->body_held = false;
    }
}

static bool is_done(const struct llm_stream *stream)
{
    struct llm_stream_look look;
    return llm_stream_reader_look(&stream->reader, &look) == LLM_OK && look.open && look.done;
}

static void free_slot(struct llm_slot_table *table, struct llm_stream *stream)
{
    if (stream->body_held)
        llm_range_set_drop(&table->arena, stream->body_offset, stream->body_bytes);
    llm_range_set_drop(&table->log, stream->log_offset, stream->log_words);
    push_end_of(table, stream);
    stream->body_held = false;
    stream->state = LLM_SLOT_FREE;
    table->free_slots[table->free_count++] = stream->slot;
}

static void reclaim(struct llm_slot_table *table)
{
    for (uint32_t slot = 0; slot < table->geometry.stream_slots; slot++) {
        struct llm_stream *stream = &table->streams[slot];
        if (stream->state == LLM_SLOT_CLOSING && is_done(stream))
            free_slot(table, stream);
        else if (stream->state != LLM_SLOT_FREE)
            drop_body_if_taken(table, stream);
    }
}

bool llm_slot_table_pop_end(struct llm_slot_table *table, struct llm_context_end *out_end)
{
    if (atomic_load_explicit(&table->end_count, memory_order_relaxed) == 0 &&
        atomic_load_explicit(&table->closing_branches, memory_order_relaxed) == 0)
        return false; /* as almost always */
    pthread_mutex_lock(&table->lock);
    if (atomic_load_explicit(&table->closing_branches, memory_order_relaxed) > 0)
        reclaim(table);
    uint32_t count = atomic_load_explicit(&table->end_count, memory_order_relaxed);
    if (count > 0) {
        *out_end = table->ends[count - 1];
        atomic_store_explicit(&table->end_count, count - 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&table->lock);
    return count > 0;
}

/* ---- Taking and dropping -------------------------------------------------------------------------- */

static enum llm_status check_limits(const struct llm_slot_table *table,
                                    const struct llm_slot_needs *needs, struct llm_error *error)
{
    if (needs->log_words > table->log.total)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "an answer of %u log words can never fit: this connection has %u in all",
                        needs->log_words, table->log.total);
    if (needs->body_bytes > table->arena.total)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "a request of %u bytes can never fit: this connection has %u for prompts",
                        needs->body_bytes, table->arena.total);
    return LLM_OK;
}

/* Under the lock: all or nothing. */
static enum llm_status try_take(struct llm_slot_table *table, const struct llm_slot_needs *needs,
                                struct llm_stream **out_stream, struct llm_error *error)
{
    uint32_t log_offset, body_offset;
    if (table->free_count == 0)
        return llm_fail(error, LLM_ERR_BUSY,
                        "all %u stream slots of this connection are in use: close a stream or wait",
                        table->geometry.stream_slots);
    if (!llm_range_set_take(&table->log, needs->log_words, &log_offset))
        return llm_fail(error, LLM_ERR_BUSY,
                        "answers in flight use %u of this connection's %u log words, this one "
                        "needs %u together: close a stream or wait",
                        llm_range_set_used(&table->log), table->log.total, needs->log_words);
    if (!llm_range_set_take(&table->arena, needs->body_bytes, &body_offset)) {
        llm_range_set_drop(&table->log, log_offset, needs->log_words);
        return llm_fail(error, LLM_ERR_BUSY,
                        "prompts being submitted use %u of this connection's %u bytes, this one "
                        "needs %u together: try again",
                        llm_range_set_used(&table->arena), table->arena.total, needs->body_bytes);
    }
    struct llm_stream *stream = &table->streams[table->free_slots[--table->free_count]];
    stream->state = LLM_SLOT_OPEN;
    stream->body_held = needs->body_bytes > 0;
    stream->log_offset = log_offset;
    stream->log_words = needs->log_words;
    stream->body_offset = body_offset;
    stream->body_bytes = needs->body_bytes;
    stream->context_id = 0;
    stream->branched = stream->branch_owned = false;
    stream->asked.model[0] = 0;
    stream->asked.stop_id_count = stream->asked.stop_string_count = stream->asked.min_tokens = 0;
    stream->in_force = (struct llm_in_force){0};
    atomic_store_explicit(&stream->position, UINT64_MAX, memory_order_relaxed);
    llm_stream_reader_init(&stream->reader, table->down, &table->geometry, stream->slot,
                           stream->reader.epoch + 1, log_offset, needs->log_words, needs->shape);
    *out_stream = stream;
    return LLM_OK;
}

enum llm_status llm_slot_table_take(struct llm_slot_table *table,
                                    const struct llm_slot_needs *needs,
                                    struct llm_stream **out_stream, struct llm_error *error)
{
    enum llm_status status = check_limits(table, needs, error);
    if (status != LLM_OK)
        return status;
    pthread_mutex_lock(&table->lock);
    status = try_take(table, needs, out_stream, error);
    if (status == LLM_ERR_BUSY) {
        reclaim(table);
        status = try_take(table, needs, out_stream, error);
    }
    pthread_mutex_unlock(&table->lock);
    return status;
}

void llm_slot_table_untake(struct llm_slot_table *table, struct llm_stream *stream)
{
    pthread_mutex_lock(&table->lock);
    stream->reader.epoch--;
    stream->branch_owned = false;
    free_slot(table, stream);
    pthread_mutex_unlock(&table->lock);
}

void llm_slot_table_drop(struct llm_slot_table *table, struct llm_stream *stream)
{
    pthread_mutex_lock(&table->lock);
    CHECK(stream->state == LLM_SLOT_OPEN);
    if (is_done(stream))
        free_slot(table, stream);
    else
        stream->state = LLM_SLOT_CLOSING;
    if (stream->state == LLM_SLOT_CLOSING && stream->branch_owned)
        atomic_fetch_add_explicit(&table->closing_branches, 1, memory_order_relaxed);
    pthread_mutex_unlock(&table->lock);
}

/* ---- Sanity --------------------------------------------------------------------------------------- */

static uint32_t rounded(uint32_t size, uint32_t granule)
{
    return (size + granule - 1) & ~(granule - 1);
}

bool llm_slot_table_sane(struct llm_slot_table *table)
{
    uint32_t free_count = 0, log_words = 0, arena_bytes = 0;
    pthread_mutex_lock(&table->lock);
    for (uint32_t slot = 0; slot < table->geometry.stream_slots; slot++) {
        const struct llm_stream *stream = &table->streams[slot];
        free_count += stream->state == LLM_SLOT_FREE;
        if (stream->state != LLM_SLOT_FREE)
            log_words += rounded(stream->log_words, LOG_GRANULE_WORDS);
        if (stream->body_held)
            arena_bytes += rounded(stream->body_bytes, ARENA_GRANULE_BYTES);
    }
    bool sane = free_count == table->free_count && llm_range_set_sane(&table->log) &&
                llm_range_set_sane(&table->arena) && log_words == llm_range_set_used(&table->log) &&
                arena_bytes == llm_range_set_used(&table->arena);
    pthread_mutex_unlock(&table->lock);
    return sane;
}
