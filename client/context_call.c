/* One round trip through the engine for a call on a context. */
#include "client/context.h"

#include <stdlib.h>
#include <string.h>

#include "shm/clock.h"

/* ---- There ------------------------------------------------------------------------------------------ */

static enum llm_status send_one(struct llm_connection *connection,
                                const struct llm_context_body *body, const uint32_t *ids,
                                uint32_t log_words, struct llm_stream **out_stream,
                                struct llm_error *error)
{
    uint64_t body_bytes = sizeof *body + (uint64_t)body->count * (ids ? sizeof *ids : 0);
    if (body_bytes > UINT32_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "%u tokens can never fit a connection", body->count);
    struct llm_slot_needs needs = {.log_words = log_words, .body_bytes = (uint32_t)body_bytes};
    struct llm_stream *stream;
    enum llm_status status = llm_slot_table_take(&connection->slots, &needs, &stream, error);
    if (status != LLM_OK)
        return status;
    unsigned char *to = connection->arena + stream->body_offset;
    memcpy(to, body, sizeof *body);
    if (ids && body->count > 0)
        memcpy(to + sizeof *body, ids, body->count * sizeof *ids);
    status = llm_connection_submit(connection, stream, LLM_OP_CONTEXT, 0, 0, error);
    if (status == LLM_OK)
        *out_stream = stream;
    return status;
}

/* False: there is no room; nothing was sent. */
static bool post_end(struct llm_connection *connection, const struct llm_context_end *end)
{
    const struct llm_context_body body = {.verb = LLM_CONTEXT_CLOSE,
                                          .id = end->context_id,
                                          .other = end->context_id ? 0 : end->request_id};
    struct llm_stream *stream;
    enum llm_status status = send_one(connection, &body, NULL, 0, &stream, NULL);
    if (status == LLM_OK)
        llm_slot_table_drop(&connection->slots, stream); /* free again when it is answered */
    return status != LLM_ERR_BUSY;
}

void llm_context_end_pending(struct llm_connection *connection)
{
    struct llm_context_end end;
    while (llm_slot_table_pop_end(&connection->slots, &end))
        if (!post_end(connection, &end)) {
            llm_slot_table_push_end(&connection->slots, &end);
            return;
        }
}

void llm_context_end_soon(struct llm_connection *connection, const struct llm_context_end *end)
{
    llm_context_end_pending(connection);
    if (!post_end(connection, end))
        llm_slot_table_push_end(&connection->slots, end);
}

enum llm_status llm_context_send(struct llm_connection *connection,
                                 const struct llm_context_body *body, const uint32_t *ids,
                                 uint32_t log_words, struct llm_stream **out_stream,
                                 struct llm_error *error)
{
    llm_context_end_pending(connection);
    return send_one(connection, body, ids, log_words, out_stream, error);
}

/* ---- And back --------------------------------------------------------------------------------------- */

/* All words of the answer, and how it ended. The reader has seen to it that they are not more than `capacity`. */
static enum llm_status receive(struct llm_stream *stream, uint32_t *out_words, uint32_t capacity,
                               uint32_t *out_count, uint64_t deadline_ns, struct llm_error *error)
{
    uint32_t total = 0, count, none;
    enum llm_status status;
    do {
        uint64_t timeout_ns =
            deadline_ns == UINT64_MAX ? LLM_FOREVER : llm_remaining_ns(deadline_ns);
        bool full = total == capacity;
        status = llm_stream_read(stream, full ? &none : out_words + total, NULL,
                                 full ? 1 : capacity - total, timeout_ns, &count, error);
        if (status == LLM_OK)
            total += count;
    } while (status == LLM_OK && count > 0);
    if (status == LLM_OK)
        *out_count = total;
    return status;
}

enum llm_status llm_context_call(struct llm_connection *connection,
                                 const struct llm_context_body *body, const uint32_t *ids,
                                 uint32_t *out_words, uint32_t capacity, uint32_t *out_count,
                                 uint64_t deadline_ns, struct llm_error *error)
{
    struct llm_stream *stream;
    enum llm_status status = llm_connection_own(connection, error);
    if (status == LLM_OK)
        status = llm_connection_alive(connection, error);
    if (status == LLM_OK)
        status = llm_context_send(connection, body, ids, capacity, &stream, error);
    if (status != LLM_OK)
        return status;
    status = receive(stream, out_words, capacity, out_count, deadline_ns, error);
    llm_stream_close(stream);
    return status;
}

/* ---- Records ---------------------------------------------------------------------------------------- */

static_assert(sizeof(struct llm_context_record) == LLM_CONTEXT_RECORD_WORDS * sizeof(uint32_t),
              "a record is whole words");

enum llm_status llm_context_record_check(const struct llm_context_record *record,
                                         struct llm_error *error)
{
    bool good = record->id != 0 && memchr(record->name, 0, sizeof record->name) &&
                memchr(record->model, 0, sizeof record->model) &&
                record->shared_tokens <= record->length;
    return good ? LLM_OK
                : llm_fail(error, LLM_ERR_PEER,
                           "the daemon broke the protocol: the record of context %llu makes no "
                           "sense",
                           (unsigned long long)record->id);
}

enum llm_status llm_context_call_record(struct llm_connection *connection,
                                        const struct llm_context_body *body,
                                        struct llm_context_record *out_record, uint64_t deadline_ns,
                                        struct llm_error *error)
{
    uint32_t words[LLM_CONTEXT_RECORD_WORDS], count;
    struct llm_context_record record;
    enum llm_status status = llm_context_call(connection, body, NULL, words,
                                              LLM_CONTEXT_RECORD_WORDS, &count, deadline_ns, error);
    if (status != LLM_OK)
        return status;
    if (count != LLM_CONTEXT_RECORD_WORDS)
        return llm_fail(error, LLM_ERR_PEER,
                        "the daemon broke the protocol: %u words where a context's record has %u",
                        count, LLM_CONTEXT_RECORD_WORDS);
    memcpy(&record, words, sizeof record);
    status = llm_context_record_check(&record, error);
    if (status == LLM_OK)
        *out_record = record;
    return status;
}

enum llm_status llm_context_handle(struct llm_connection *connection,
                                   const struct llm_context_body *body, bool owned,
                                   llm_context **out_context, struct llm_error *error)
{
    struct llm_context_record record;
    struct llm_context *context = malloc(sizeof *context);
    if (!context)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a context's handle");
    enum llm_status status = llm_context_call_record(connection, body, &record, UINT64_MAX, error);
    if (status != LLM_OK) {
        free(context);
        return status;
    }
    context->connection = connection;
    context->id = record.id;
    atomic_init(&context->owned, owned);
    memcpy(context->model, record.model, sizeof context->model);
    *out_context = context;
    return LLM_OK;
}
