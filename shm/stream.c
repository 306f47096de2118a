#include "shm/stream.h"

#include <math.h>
#include <string.h>

#include "shm/check.h"
#include "shm/clock.h"
#include "shm/crash_point.h"

/* The record's plain fields and the log are stored and loaded relaxed: the commit word orders them. */
#define STORE(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)
#define LOAD(field)         atomic_load_explicit(&(field), memory_order_relaxed)

/* ---- The words of a log ---------------------------------------------------------------------------- */

#define TOP_WORDS (sizeof(struct llm_top) / sizeof(uint32_t))

static size_t tops_at(const struct llm_log_shape *shape, uint32_t capacity)
{
    return (size_t)capacity * (shape->logprobs ? 2 : 1);
}

static void store_words(_Atomic uint32_t *to, const void *from, size_t words)
{
    for (size_t i = 0; i < words; i++) {
        uint32_t word;
        memcpy(&word, (const char *)from + i * sizeof word, sizeof word);
        STORE(to[i], word);
    }
}

static void load_words(void *to, const _Atomic uint32_t *from, size_t words)
{
    for (size_t i = 0; i < words; i++) {
        uint32_t word = LOAD(from[i]);
        memcpy((char *)to + i * sizeof word, &word, sizeof word);
    }
}

/* ---- Engine side ---------------------------------------------------------------------------------- */

void llm_publisher_init(struct llm_publisher *publisher, void *down,
                        const struct llm_geometry *geometry)
{
    struct llm_down_map map = llm_down_map(geometry);
    *publisher = (struct llm_publisher){
        .records = (void *)((char *)down + map.stream_offset),
        .notes = (void *)((char *)down + map.note_offset),
        .log = (void *)((char *)down + map.log_offset),
        .stream_slots = geometry->stream_slots,
        .log_words = geometry->log_words,
    };
    llm_event_writer_init(&publisher->events, down, geometry);
}

uint32_t llm_publisher_epoch(const struct llm_publisher *publisher, uint32_t slot)
{
    CHECK(slot < publisher->stream_slots);
    return llm_commit_epoch(LOAD(publisher->records[slot].commit));
}

enum llm_status llm_stream_writer_init(struct llm_stream_writer *writer,
                                       struct llm_publisher *publisher, uint32_t slot,
                                       uint32_t epoch, uint32_t log_offset, uint32_t log_words,
                                       struct llm_log_shape shape, struct llm_error *error)
{
    if (slot >= publisher->stream_slots)
        return llm_fail(error, LLM_ERR_INVALID, "stream slot %u: this connection has %u", slot,
                        publisher->stream_slots);
    if (log_offset > publisher->log_words || log_words > publisher->log_words - log_offset)
        return llm_fail(error, LLM_ERR_INVALID,
                        "log of %u words at %u: this connection's log has %u words", log_words,
                        log_offset, publisher->log_words);
    uint32_t capacity = llm_log_capacity(&shape, log_words);
    _Atomic uint32_t *ids = publisher->log + log_offset;
    bool tells = shape.tells && log_words >= LLM_IN_FORCE_WORDS;
    *writer = (struct llm_stream_writer){
        .record = &publisher->records[slot],
        .note = publisher->notes[slot],
        .ids = ids,
        .logprobs = shape.logprobs ? ids + capacity : NULL,
        .tops = shape.top_count > 0 ? ids + tops_at(&shape, capacity) : NULL,
        .in_force = tells ? ids + log_words - LLM_IN_FORCE_WORDS : NULL,
        .events = &publisher->events,
        .slot = slot,
        .epoch = epoch,
        .capacity_tokens = capacity,
        .top_count = shape.top_count,
    };
    return LLM_OK;
}

static uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void write_log(struct llm_stream_writer *writer, const uint32_t *ids, const float *logprobs,
                      uint32_t count)
{
    CHECK(count <= writer->capacity_tokens - writer->count);
    for (uint32_t i = 0; i < count; i++) {
        STORE(writer->ids[writer->count + i], ids[i]);
        if (writer->logprobs)
            STORE(writer->logprobs[writer->count + i], float_bits(logprobs[i]));
    }
    writer->count += count;
}

/* Pairs with the acquire in llm_stream_reader_look(): log, fields and sentence become visible before the word
 * that announces them. A writer killed above this line published nothing. */
static void commit(struct llm_stream_writer *writer, bool done)
{
    atomic_store_explicit(&writer->record->commit,
                          llm_commit_pack(writer->epoch, done, writer->count),
                          memory_order_release);
}

void llm_stream_writer_open(struct llm_stream_writer *writer, const struct llm_stream_facts *facts,
                            const uint32_t *ids, const float *logprobs, uint32_t count)
{
    struct llm_stream_record *record = writer->record;
    writer->count = 0;
    writer->admitted_ns = facts->admitted_ns;
    write_log(writer, ids, logprobs, count);
    STORE(record->status, LLM_OK);
    STORE(record->finish, LLM_FINISH_NONE);
    STORE(record->prompt_tokens, facts->prompt_tokens);
    STORE(record->cached_tokens, facts->cached_tokens);
    STORE(record->seed, facts->seed);
    STORE(record->request_id, facts->request_id);
    STORE(record->admitted_ns, facts->admitted_ns);
    STORE(record->first_token_us, facts->first_token_us);
    STORE(record->last_token_us, facts->last_token_us);
    STORE(record->engine_generation, facts->engine_generation);
    CRASH_POINT(stream_fields);
    commit(writer, false);
    CRASH_POINT(stream_open);
    llm_event_push(writer->events, writer->slot, writer->epoch);
}

/* At least 1, because 0 means "no token yet". */
static uint32_t elapsed_us(uint64_t since_ns, uint64_t now_ns)
{
    uint64_t us = now_ns > since_ns ? (now_ns - since_ns) / LLM_NS_PER_US : 0;
    return us == 0 ? 1 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

void llm_stream_writer_append(struct llm_stream_writer *writer, const uint32_t *ids,
                              const float *logprobs, uint32_t count, uint64_t now_ns)
{
    uint32_t now_us = elapsed_us(writer->admitted_ns, now_ns);
    if (writer->count == 0)
        STORE(writer->record->first_token_us, now_us);
    STORE(writer->record->last_token_us, now_us);
    write_log(writer, ids, logprobs, count);
    CRASH_POINT(stream_tokens);
    commit(writer, false);
    CRASH_POINT(stream_commit);
    llm_event_push(writer->events, writer->slot, writer->epoch);
}

void llm_stream_writer_tops(struct llm_stream_writer *writer, uint32_t index,
                            const struct llm_top *tops)
{
    CHECK(writer->tops && index < writer->capacity_tokens);
    size_t words = writer->top_count * TOP_WORDS;
    store_words(writer->tops + index * words, tops, words);
    CRASH_POINT(stream_tops);
}

void llm_stream_writer_in_force(struct llm_stream_writer *writer,
                                const struct llm_in_force *in_force)
{
    CHECK(writer->in_force);
    store_words(writer->in_force, in_force, LLM_IN_FORCE_WORDS);
}

void llm_stream_writer_put(struct llm_stream_writer *writer, const uint32_t *words, uint32_t count)
{
    CHECK(!writer->logprobs);
    write_log(writer, words, NULL, count);
}

void llm_stream_writer_set_cached(struct llm_stream_writer *writer, uint32_t cached_tokens)
{
    STORE(writer->record->cached_tokens, cached_tokens);
}

void llm_stream_writer_finish(struct llm_stream_writer *writer, enum llm_status status,
                              enum llm_finish finish, const char *note)
{
    STORE(writer->record->status, (uint32_t)status);
    STORE(writer->record->finish, (uint32_t)finish);
    strncpy(writer->note, note ? note : "", LLM_NOTE_BYTES - 1); /* pads with zeroes */
    writer->note[LLM_NOTE_BYTES - 1] = '\0';
    CRASH_POINT(stream_end);
    commit(writer, true);
    CRASH_POINT(stream_done);
    llm_event_push(writer->events, writer->slot, writer->epoch);
}

/* ---- Client side ---------------------------------------------------------------------------------- */

void llm_stream_reader_init(struct llm_stream_reader *reader, const void *down,
                            const struct llm_geometry *geometry, uint32_t slot, uint32_t epoch,
                            uint32_t log_offset, uint32_t log_words, struct llm_log_shape shape)
{
    CHECK(slot < geometry->stream_slots);
    CHECK(log_offset <= geometry->log_words && log_words <= geometry->log_words - log_offset);
    struct llm_down_map map = llm_down_map(geometry);
    const struct llm_stream_record *records =
        (const void *)((const char *)down + map.stream_offset);
    const _Atomic uint32_t *log = (const void *)((const char *)down + map.log_offset);
    uint32_t capacity = llm_log_capacity(&shape, log_words);
    const _Atomic uint32_t *ids = log + log_offset;
    bool tells = shape.tells && log_words >= LLM_IN_FORCE_WORDS;
    *reader = (struct llm_stream_reader){
        .record = &records[slot],
        .note = (const char *)down + map.note_offset + (size_t)slot * LLM_NOTE_BYTES,
        .ids = ids,
        .logprobs = shape.logprobs ? ids + capacity : NULL,
        .tops = shape.top_count > 0 ? ids + tops_at(&shape, capacity) : NULL,
        .in_force = tells ? ids + log_words - LLM_IN_FORCE_WORDS : NULL,
        .epoch = epoch,
        .capacity_tokens = capacity,
        .top_count = shape.top_count,
    };
}

enum llm_status llm_stream_reader_look(const struct llm_stream_reader *reader,
                                       struct llm_stream_look *out_look)
{
    /* Pairs with the release in commit(). */
    uint64_t word = atomic_load_explicit(&reader->record->commit, memory_order_acquire);
    if (llm_commit_epoch(word) == reader->epoch - 1 && reader->seen == 0) {
        *out_look = (struct llm_stream_look){.open = false};
        return LLM_OK;
    }
    uint32_t count = llm_commit_count(word);
    if (llm_commit_epoch(word) != reader->epoch || count > reader->capacity_tokens ||
        count < reader->seen)
        return LLM_ERR_PEER;
    *out_look =
        (struct llm_stream_look){.open = true, .done = llm_commit_done(word), .count = count};
    return LLM_OK;
}

static float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float llm_stream_reader_logprob(const struct llm_stream_reader *reader, uint32_t index)
{
    return reader->logprobs ? float_from_bits(LOAD(reader->logprobs[index])) : NAN;
}

void llm_stream_reader_tops(const struct llm_stream_reader *reader, uint32_t index,
                            struct llm_top *out_tops)
{
    CHECK(reader->tops && index < reader->capacity_tokens);
    size_t words = reader->top_count * TOP_WORDS;
    load_words(out_tops, reader->tops + index * words, words);
}

struct llm_in_force llm_stream_reader_in_force(const struct llm_stream_reader *reader)
{
    struct llm_in_force in_force;
    CHECK(reader->in_force);
    load_words(&in_force, reader->in_force, LLM_IN_FORCE_WORDS);
    return in_force;
}

uint32_t llm_stream_reader_take(struct llm_stream_reader *reader,
                                const struct llm_stream_look *look, uint32_t *out_ids,
                                float *out_logprobs, uint32_t capacity)
{
    uint32_t ready = look->count - reader->seen;
    uint32_t count = ready < capacity ? ready : capacity;
    for (uint32_t i = 0; i < count; i++) {
        out_ids[i] = LOAD(reader->ids[reader->seen + i]);
        if (out_logprobs)
            out_logprobs[i] = llm_stream_reader_logprob(reader, reader->seen + i);
    }
    reader->seen += count;
    return count;
}

enum llm_status llm_stream_reader_status(const struct llm_stream_reader *reader,
                                         char out_note[LLM_NOTE_BYTES])
{
    uint32_t status = LOAD(reader->record->status);
    memcpy(out_note, reader->note, LLM_NOTE_BYTES);
    out_note[LLM_NOTE_BYTES - 1] = '\0';
    return status < LLM_STATUS_COUNT ? (enum llm_status)status : LLM_ERR_PEER;
}
