#include "daemon/engine/follow.h"

#include <stdio.h>
#include <string.h>

#include "daemon/engine/drain.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/journal.h"
#include "daemon/engine/publish.h"
#include "daemon/engine/report.h"
#include "shm/check.h"
#include "shm/clock.h"

/* ---- The list -------------------------------------------------------------------------------------- */

static void link_to(struct engine *engine, uint32_t slot, uint32_t leader)
{
    struct request *request = &engine->requests[slot];
    request->leader = leader;
    request->next_follower = engine->requests[leader].first_follower;
    engine->requests[leader].first_follower = slot;
}

void follow_forget(struct engine *engine, uint32_t slot)
{
    struct request *request = &engine->requests[slot];
    if (request->leader == REQUEST_NONE)
        return;
    uint32_t *link = &engine->requests[request->leader].first_follower;
    while (*link != slot) {
        CHECK(*link != REQUEST_NONE);
        link = &engine->requests[*link].next_follower;
    }
    *link = request->next_follower;
    request->leader = request->next_follower = REQUEST_NONE;
}

/* ---- Telling --------------------------------------------------------------------------------------- */

static uint32_t published_of(const struct llm_reqtab_record *record)
{
    return atomic_load_explicit(&record->published, memory_order_acquire);
}

/* Copy what the leader's row has more of, and publish it. */
static void catch_up(struct engine *engine, uint32_t slot, uint32_t leader)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    const struct llm_reqtab_record *from = &engine->tables.requests[leader];
    uint32_t have = published_of(record), most = published_of(from);
    uint32_t room = engine->tables.context_tokens_max - record->body.prompt_tokens;
    if (most > record->body.max_tokens)
        most = record->body.max_tokens;
    if (most > room) /* a dead engine's stray write: both rows end there */
        most = room;
    if (most <= have)
        return;
    uint32_t *ids = tables_ids(&engine->tables, slot) + request_answer_start(record);
    const uint32_t *theirs = tables_ids(&engine->tables, leader) + request_answer_start(from);
    memcpy(ids + have, theirs + have, (most - have) * sizeof *ids);
    publish_ids(engine, slot, most - have, llm_now_ns());
}

static bool log_full(const struct engine *engine, uint32_t slot, uint32_t leader)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    return published_of(record) == record->body.max_tokens &&
           record->body.max_tokens < engine->tables.requests[leader].body.max_tokens;
}

void follow_published(struct engine *engine, uint32_t leader)
{
    uint32_t slot = engine->requests[leader].first_follower;
    while (slot != REQUEST_NONE) {
        uint32_t next = engine->requests[slot].next_follower;
        catch_up(engine, slot, leader);
        if (log_full(engine, slot, leader))
            publish_finished(engine, slot, CORE_FINISH_LENGTH);
        slot = next;
    }
}

/* To a follower's client LLM_ERR_PEER would say that the daemon is gone. */
static void end_as(struct engine *engine, uint32_t slot, enum core_finish finish,
                   enum llm_status status, const char *note)
{
    struct request *request = &engine->requests[slot];
    bool client_gone = status == LLM_ERR_PEER;
    request->end_status = client_gone ? LLM_ERR_CANCELLED : status;
    snprintf(request->end_note, sizeof request->end_note, "%.*s", LLM_NOTE_BYTES - 1,
             client_gone ? "the answer ended with the client that had asked for it" : note);
    publish_finished(engine, slot, finish);
}

void follow_finished(struct engine *engine, uint32_t leader, enum core_finish finish)
{
    const struct request *request = &engine->requests[leader];
    while (request->first_follower != REQUEST_NONE)
        end_as(engine, request->first_follower, finish, request->end_status, request->end_note);
}

/* ---- Coming ---------------------------------------------------------------------------------------- */

/* The leader's question as far as it says what the answer is: not the client's flags, nor its stops. */
static void fill_body(struct llm_request_body *out, const struct llm_request_body *leader,
                      uint32_t capacity_tokens)
{
    *out = *leader;
    out->flags = out->score_from = out->defaults = 0;
    out->stop_id_count = out->stop_string_count = out->stop_string_bytes = 0;
    if (out->max_tokens > capacity_tokens)
        out->max_tokens = capacity_tokens;
}

static enum llm_status prepare(struct engine *engine, struct connection *connection,
                               const struct llm_submission *submission, uint32_t slot,
                               uint32_t leader, struct llm_error *error)
{
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    struct llm_stream_writer writer;
    enum llm_status status = llm_stream_writer_init(
        &writer, &connection->publisher, submission->stream_slot, submission->stream_epoch,
        submission->log_offset, submission->log_words, LLM_LOG_IDS, error);
    if (status == LLM_OK && writer.capacity_tokens == 0)
        return llm_fail(error, LLM_ERR_INVALID, "the stream's log has no room for a token");
    if (status != LLM_OK)
        return status;
    const struct llm_reqtab_record *from = &engine->tables.requests[leader];
    fill_body(&record->body, &from->body, writer.capacity_tokens);
    request_init(engine, slot, connection, engine->requests[leader].model);
    engine->requests[slot].writer = writer;
    request_fill_record(engine, connection, submission, slot);
    record->deaths = 0; /* nothing is computed for it */
    record->leader_id = from->request_id;
    record->context_id = from->context_id;
    return LLM_OK;
}

enum llm_status follow_start(struct engine *engine, struct connection *connection,
                             const struct llm_submission *submission, uint32_t context,
                             struct llm_error *error)
{
    uint32_t leader = engine->contexts.slots[context].request_slot, slot = REQUEST_NONE;
    enum llm_status status = drain_admits(engine, error);
    if (status == LLM_OK && leader == REQUEST_NONE)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "nothing is being generated on the context");
    if (status == LLM_OK)
        status = requests_find_free(engine, connection, &slot, error);
    if (status == LLM_OK)
        status = prepare(engine, connection, submission, slot, leader, error);
    if (status != LLM_OK)
        return status;
    request_enter(engine, slot, REQUEST_FOLLOWS);
    link_to(engine, slot, leader);
    journal_live(engine, slot);
    publish_opened(engine, slot);
    report_admitted(engine, slot);
    catch_up(engine, slot, leader);
    if (log_full(engine, slot, leader))
        publish_finished(engine, slot, CORE_FINISH_LENGTH);
    publish_announce(engine);
    return LLM_OK;
}

/* ---- After an engine's death ------------------------------------------------------------------------ */

/* Also one that is free by now: its slot is nobody else's before every follower has been told. */
static uint32_t slot_of_leader(const struct engine *engine, uint32_t follower)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[follower];
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++) {
        const struct llm_reqtab_record *leader = &engine->tables.requests[slot];
        if (leader->request_id == record->leader_id && leader->leader_id == 0 &&
            leader->body.prompt_tokens == record->body.prompt_tokens)
            return slot;
    }
    return REQUEST_NONE;
}

void follow_resume(struct engine *engine, uint32_t slot)
{
    uint32_t leader = slot_of_leader(engine, slot);
    if (leader == REQUEST_NONE)
        return; /* follow_settle() ends it */
    catch_up(engine, slot, leader);
    if (log_full(engine, slot, leader))
        publish_finished(engine, slot, CORE_FINISH_LENGTH);
}

void follow_gather(struct engine *engine, uint32_t leader)
{
    uint64_t leader_id = engine->tables.requests[leader].request_id;
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++)
        if (engine->requests[slot].place == REQUEST_FOLLOWS &&
            engine->tables.requests[slot].leader_id == leader_id)
            link_to(engine, slot, leader);
}

static void settle(struct engine *engine, uint32_t slot)
{
    uint32_t leader = slot_of_leader(engine, slot);
    const struct llm_reqtab_record *from =
        leader == REQUEST_NONE ? NULL : &engine->tables.requests[leader];
    if (from && from->finish != LLM_FINISH_NONE)
        end_as(engine, slot, (enum core_finish)from->finish, (enum llm_status)from->status,
               from->note);
    else
        end_as(engine, slot, CORE_FINISH_CANCELLED, LLM_ERR_PEER, "");
}

void follow_settle(struct engine *engine)
{
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++)
        if (engine->requests[slot].place == REQUEST_FOLLOWS &&
            engine->requests[slot].leader == REQUEST_NONE)
            settle(engine, slot);
}
