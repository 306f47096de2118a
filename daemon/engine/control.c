#include "daemon/engine/control.h"

#include <stdio.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/publish.h"

static enum llm_status cancel(struct engine *engine, const struct connection *connection,
                              uint64_t request_id, char out_text[LLM_NOTE_BYTES])
{
    uint32_t slot = requests_find(engine, request_id);
    if (slot == REQUEST_NONE) {
        snprintf(out_text, LLM_NOTE_BYTES, "there is no request %llu",
                 (unsigned long long)request_id);
        return LLM_ERR_NOT_FOUND;
    }
    uint32_t owner = engine->tables.requests[slot].uid;
    if (connection->peer.uid != owner && !connection->peer.administrator) {
        snprintf(out_text, LLM_NOTE_BYTES, "request %llu belongs to user %u",
                 (unsigned long long)request_id, owner);
        return LLM_ERR_PERMISSION;
    }
    request_end(engine, slot, CORE_FINISH_CANCELLED, LLM_ERR_CANCELLED, "cancelled by request id");
    snprintf(out_text, LLM_NOTE_BYTES, "request %llu is cancelled", (unsigned long long)request_id);
    return LLM_OK;
}

/* ---- The walk -------------------------------------------------------------------------------------- */

struct walk {
    uint32_t requests;    /* live here */
    uint32_t live;        /* LIVE in reqtab */
    uint32_t connections; /* attached */
    uint32_t streams;     /* of those connections */
    uint32_t sealed;      /* SEALED in kvhdr */
    uint32_t writing;     /* WRITING */
};

static void walk_requests(const struct engine *engine, struct walk *walk)
{
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++) {
        walk->requests += engine->requests[slot].place != REQUEST_FREE;
        walk->live += llm_word_state(atomic_load_explicit(&engine->tables.requests[slot].word,
                                                          memory_order_relaxed)) == LLM_REQ_LIVE;
    }
    for (uint32_t slot = 0; slot < engine->connection_end; slot++) {
        walk->connections += engine->connections[slot].attached;
        walk->streams += engine->connections[slot].live_streams;
    }
}

static void walk_blocks(const struct engine *engine, struct walk *walk)
{
    for (uint32_t block = 0; block < engine->tables.block_count; block++) {
        unsigned state = llm_word_state(
            atomic_load_explicit(&engine->tables.blocks[block].word, memory_order_relaxed));
        walk->sealed += state == LLM_BLOCK_SEALED;
        walk->writing += state == LLM_BLOCK_WRITING;
    }
}

enum llm_status control_check(const struct engine *engine, char out_text[LLM_NOTE_BYTES])
{
    struct llm_error error;
    struct walk walk = {0};
    walk_requests(engine, &walk);
    walk_blocks(engine, &walk);
    struct kv_counts kv = core_counts(engine->core).kv;
    enum llm_status status = core_sane(engine->core, &error);
    if (status == LLM_OK)
        status = contexts_sane(engine, &error);
    if (status != LLM_OK) {
        snprintf(out_text, LLM_NOTE_BYTES, "%.*s", LLM_NOTE_BYTES - 1, error.message);
        return status;
    }
    bool sound = walk.requests == engine->requests_live && walk.requests == walk.live &&
                 walk.streams <= walk.requests && walk.sealed + walk.writing == kv.held + kv.cached;
    snprintf(out_text, LLM_NOTE_BYTES,
             "%s: %u requests (%u in reqtab, %u streams), %u connections, %u blocks: %u held, %u "
             "cached, %u free (%u sealed and %u open in kvhdr), %u contexts in %u rows",
             sound ? "sound" : "not sound", walk.requests, walk.live, walk.streams,
             walk.connections, kv.total, kv.held, kv.cached, kv.free, walk.sealed, walk.writing,
             engine->contexts.live, engine->contexts.rows.live);
    return sound ? LLM_OK : LLM_ERR_CORRUPT;
}

static enum llm_status check(const struct engine *engine, const struct connection *connection,
                             char out_text[LLM_NOTE_BYTES])
{
    if (connection->peer.administrator)
        return control_check(engine, out_text);
    snprintf(out_text, LLM_NOTE_BYTES, "user %u may not check the daemon", connection->peer.uid);
    return LLM_ERR_PERMISSION;
}

void control_answer(struct engine *engine, struct connection *connection,
                    const struct llm_submission *submission, struct llm_stream_writer *writer)
{
    char text[LLM_NOTE_BYTES] = "";
    enum llm_status status = LLM_OK;
    if (submission->operation == LLM_OP_CANCEL)
        status = cancel(engine, connection, submission->argument, text);
    else if (submission->operation == LLM_OP_CHECK)
        status = check(engine, connection, text);
    publish_answer(engine, connection, writer, status, LLM_FINISH_ANSWERED, text);
}
