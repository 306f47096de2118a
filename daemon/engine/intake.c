#include "daemon/engine/intake.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/engine/context_ops.h"
#include "daemon/engine/control.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/journal.h"
#include "daemon/engine/publish.h"
#include "daemon/engine/report.h"
#include "shm/check.h"
#include "shm/clock.h"
#include "shm/peer_memory.h"
#include "shm/request.h"

#define STOP_PART_BYTES_MAX (LLM_STOP_STRINGS_MAX * (1 + LLM_STOP_STRING_BYTES_MAX))

/* ---- The body: copied part by part, checked on the copy -------------------------------------------- */

/* Up to a page is copied from the mapping; more is read, which costs a system call and cannot fault. */
static enum llm_status copy_part(const struct connection *connection, uint64_t arena_offset,
                                 void *out, size_t bytes, struct llm_error *error)
{
    uint64_t offset = connection->up_map.arena_offset + arena_offset;
    if (bytes <= LLM_PAGE_BYTES) {
        llm_peer_copy(out, connection->up + offset, bytes);
        return LLM_OK;
    }
    for (size_t done = 0; done < bytes;) {
        ssize_t taken = llm_peer_pread((char *)out + done, connection->up, connection->up_fd,
                                       offset + done, bytes - done);
        if (taken < 0 && errno == EINTR)
            continue;
        if (taken <= 0)
            return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot read the prompt");
        done += (size_t)taken;
    }
    return LLM_OK;
}

enum llm_status intake_copy(const struct connection *connection, uint64_t arena_offset, void *out,
                            size_t bytes, struct llm_error *error)
{
    return copy_part(connection, arena_offset, out, bytes, error);
}

/* 9120 as "9 120" */
static const char *grouped(uint32_t number, char out[16])
{
    char plain[16];
    int digits = snprintf(plain, sizeof plain, "%u", number);
    int used = 0;
    for (int i = 0; i < digits; i++) {
        if (i > 0 && (digits - i) % 3 == 0)
            out[used++] = ' ';
        out[used++] = plain[i];
    }
    out[used] = '\0';
    return out;
}

static enum llm_status check_lengths(const struct llm_request_body *body,
                                     const struct executor_facts *facts, struct llm_error *error)
{
    char have[16], most[16];
    if (body->prompt_tokens > facts->context_tokens_max)
        return llm_fail(
            error, LLM_ERR_LIMIT, "prompt of %s tokens does not fit the model's context of %s",
            grouped(body->prompt_tokens, have), grouped(facts->context_tokens_max, most));
    if (body->prompt_tokens == facts->context_tokens_max)
        return llm_fail(
            error, LLM_ERR_LIMIT,
            "prompt of %s tokens fills the model's context and leaves no room to answer",
            grouped(body->prompt_tokens, have));
    if (body->stop_string_count > 0 && !facts->vocab)
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "model \"%s\" has no text, so it cannot stop at strings", facts->name);
    return LLM_OK;
}

static enum llm_status take_prompt(const struct engine *engine, const struct connection *connection,
                                   const struct llm_submission *submission, uint32_t slot,
                                   uint32_t vocab_size, struct llm_error *error)
{
    const struct llm_request_body *body = &engine->tables.requests[slot].body;
    uint32_t *ids = tables_ids(&engine->tables, slot);
    enum llm_status status = copy_part(connection, submission->body_offset + sizeof *body, ids,
                                       body->prompt_tokens * sizeof *ids, error);
    for (uint32_t i = 0; i < body->prompt_tokens && status == LLM_OK; i++)
        if (ids[i] >= vocab_size)
            status = llm_fail(error, LLM_ERR_INVALID,
                              "prompt token %u is %u, the model's vocabulary ends at %u", i, ids[i],
                              vocab_size - 1);
    return status;
}

/* From "length, bytes, length, bytes" to one row each; `part` was checked. */
static void split_stop_strings(struct llm_reqtab_record *record, const uint8_t *part)
{
    for (uint32_t i = 0; i < record->body.stop_string_count; i++) {
        record->stop_string_length[i] = part[0];
        memcpy(record->stop_strings[i], part + 1, part[0]);
        part += 1 + part[0];
    }
}

static enum llm_status take_stops(const struct connection *connection,
                                  const struct llm_submission *submission,
                                  struct llm_reqtab_record *record, struct llm_error *error)
{
    const struct llm_request_body *body = &record->body;
    struct llm_request_map map = llm_request_map(body);
    uint8_t part[STOP_PART_BYTES_MAX];
    enum llm_status status =
        copy_part(connection, submission->body_offset + map.stop_id_offset, record->stop_ids,
                  body->stop_id_count * sizeof(uint32_t), error);
    if (status == LLM_OK)
        status = copy_part(connection, submission->body_offset + map.stop_string_offset, part,
                           body->stop_string_bytes, error);
    if (status == LLM_OK)
        status =
            llm_stop_strings_check(part, body->stop_string_bytes, body->stop_string_count, error);
    if (status == LLM_OK)
        split_stop_strings(record, part);
    return status;
}

/* Copy and check the whole body into the record and the row of `slot`. */
static enum llm_status take_body(struct engine *engine, struct connection *connection,
                                 const struct llm_submission *submission, uint32_t slot,
                                 uint32_t *out_model, struct llm_error *error)
{
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    if (submission->body_bytes < sizeof record->body)
        return llm_fail(error, LLM_ERR_INVALID, "the body has %u bytes, at least %zu are needed",
                        submission->body_bytes, sizeof record->body);
    enum llm_status status =
        copy_part(connection, submission->body_offset, &record->body, sizeof record->body, error);
    if (status == LLM_OK)
        status = llm_request_check(&record->body, submission->body_bytes, error);
    if (status == LLM_OK)
        status = engine_find_model(engine, record->body.model, out_model, error);
    if (status != LLM_OK)
        return status;
    const struct executor_facts *facts = &engine->executors[*out_model]->facts;
    status = check_lengths(&record->body, facts, error);
    if (status == LLM_OK)
        status = take_prompt(engine, connection, submission, slot, facts->vocab_size, error);
    if (status == LLM_OK)
        status = take_stops(connection, submission, record, error);
    return status;
}

static enum llm_status check_sampling(const struct engine *engine, uint32_t slot, uint32_t model,
                                      struct llm_error *error)
{
    const struct sampling_limits limits = {
        .vocab_size = engine->executors[model]->facts.vocab_size,
        .max_tokens = LLM_COMMIT_COUNT_MAX,
        .stop_ids_max = LLM_STOP_IDS_MAX,
    };
    return sampling_check(&engine->requests[slot].sampling, &limits, error);
}

/* ---- Admission ------------------------------------------------------------------------------------- */

static uint32_t find_free_slot(const struct engine *engine)
{
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++)
        if (engine->requests[slot].place == REQUEST_FREE)
            return slot;
    return REQUEST_NONE;
}

static enum llm_status check_room(const struct engine *engine, const struct connection *connection,
                                  uint32_t slot, struct llm_error *error)
{
    if (slot == REQUEST_NONE)
        return llm_fail(error, LLM_ERR_BUSY, "all %u requests (limits.requests) are in use",
                        engine->tables.request_slots);
    if (engine->users.rows[connection->user].requests >= engine->config.limits.requests_per_user)
        return llm_fail(error, LLM_ERR_BUSY,
                        "user %u has all of its %llu requests (limits.requests_per_user) in use",
                        connection->peer.uid,
                        (unsigned long long)engine->config.limits.requests_per_user);
    return LLM_OK;
}

static void fill_record(struct engine *engine, const struct connection *connection,
                        const struct llm_submission *submission, uint32_t slot)
{
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    atomic_store_explicit(&record->published, 0, memory_order_relaxed);
    record->deaths = 1; /* one attempt without a token so far, from now on */
    record->request_id = engine->next_request_id++;
    record->connection_id = connection->peer.id;
    record->queue_position = connection->queue.head;
    record->connection_slot = connection->peer.slot;
    record->stream_slot = submission->stream_slot;
    record->stream_epoch = submission->stream_epoch;
    record->log_offset = submission->log_offset;
    record->log_words = submission->log_words;
    record->status = record->finish = record->cached_tokens = 0;
    record->admitted_ns = llm_now_ns();
    record->deadline_ns = submission->deadline_ns;
    record->first_token_us = record->last_token_us = 0;
    record->uid = connection->peer.uid;
    record->gid = connection->peer.gid;
    record->note[0] = '\0';
}

static enum llm_status choose_seed(struct llm_request_body *body, struct llm_error *error)
{
    if (body->flags & LLM_REQUEST_HAS_SEED)
        return LLM_OK;
    if (getrandom(&body->seed, sizeof body->seed, 0) != (ssize_t)sizeof body->seed)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "no random seed");
    return LLM_OK;
}

/* The log must have room for the longest answer, so that a token can always be published. */
static enum llm_status open_writer(struct connection *connection,
                                   const struct llm_submission *submission,
                                   const struct llm_request_body *body,
                                   struct llm_stream_writer *out_writer, struct llm_error *error)
{
    bool logprobs = (body->flags & LLM_REQUEST_LOGPROBS) != 0;
    enum llm_status status = llm_stream_writer_init(
        out_writer, &connection->publisher, submission->stream_slot, submission->stream_epoch,
        submission->log_offset, submission->log_words, logprobs, error);
    if (status == LLM_OK && body->max_tokens > out_writer->capacity_tokens)
        return llm_fail(error, LLM_ERR_INVALID,
                        "max_tokens %u is more than the %u that the stream's log has room for",
                        body->max_tokens, out_writer->capacity_tokens);
    return status;
}

/* From a sound entry to a request in the core that nobody knows of yet. */
static enum llm_status prepare(struct engine *engine, struct connection *connection,
                               const struct llm_submission *submission, uint32_t slot,
                               struct llm_error *error)
{
    uint32_t model = 0;
    enum llm_status status = take_body(engine, connection, submission, slot, &model, error);
    struct llm_request_body *body = &engine->tables.requests[slot].body;
    if (status == LLM_OK)
        status = choose_seed(body, error);
    if (status != LLM_OK)
        return status;
    request_init(engine, slot, connection, model); /* from the record: as recovery will */
    status = check_sampling(engine, slot, model, error);
    if (status == LLM_OK)
        status = open_writer(connection, submission, body, &engine->requests[slot].writer, error);
    if (status != LLM_OK)
        return status;
    fill_record(engine, connection, submission, slot);
    struct core_request request = request_for_core(engine, slot, false);
    return core_admit(engine->core, &request, slot, error);
}

static void admit(struct engine *engine, struct connection *connection,
                  const struct llm_submission *submission, uint32_t slot)
{
    struct request *request = &engine->requests[slot];
    request->place = REQUEST_IN_CORE;
    connection->stream_request[submission->stream_slot] = slot + 1;
    connection->live_streams++;
    engine->requests_live++;
    engine->users.rows[request->user].requests++;
    if (submission->deadline_ns != 0 && submission->deadline_ns < engine->next_deadline_ns)
        engine->next_deadline_ns = submission->deadline_ns;
    journal_live(engine, slot);
    publish_opened(engine, slot);
    report_admitted(engine, slot);
    publish_effects(engine);
}

static void generate(struct engine *engine, struct connection *connection,
                     const struct llm_submission *submission, struct llm_stream_writer *writer)
{
    struct llm_error error;
    uint32_t slot = find_free_slot(engine);
    enum llm_status status = drain_admits(engine, &error);
    if (status == LLM_OK)
        status = check_room(engine, connection, slot, &error);
    if (status == LLM_OK)
        status = prepare(engine, connection, submission, slot, &error);
    if (status == LLM_OK) {
        admit(engine, connection, submission, slot);
        return;
    }
    report_count(engine, LLM_COUNTER_REQUESTS_REFUSED, 1);
    publish_answer(engine, connection, writer, status, LLM_FINISH_FAILED, error.message);
}

/* ---- The entry ------------------------------------------------------------------------------------- */

static bool range_inside(uint64_t offset, uint64_t bytes, uint64_t room)
{
    return offset <= room && bytes <= room - offset;
}

/* An engine may die between the first store of an answer and the position that says it was given: then the first
 * entry after the recovery may find its stream open already, or done. */
static bool replayed(const struct connection *connection, const struct llm_submission *submission,
                     bool *out_done)
{
    if (connection->queue.head != connection->replayed_position ||
        submission->stream_slot >= connection->peer.geometry.stream_slots)
        return false;
    uint64_t commit = atomic_load_explicit(
        &connection->publisher.records[submission->stream_slot].commit, memory_order_relaxed);
    *out_done = llm_commit_done(commit);
    return llm_commit_epoch(commit) == submission->stream_epoch;
}

/* What no honest library could have written; the sentence goes to the keeper and into its log. */
static enum llm_status check_entry(struct connection *connection,
                                   const struct llm_submission *submission, bool again,
                                   struct llm_stream_writer *out_writer, struct llm_error *error)
{
    enum llm_status status = llm_stream_writer_init(
        out_writer, &connection->publisher, submission->stream_slot, submission->stream_epoch,
        submission->log_offset, submission->log_words, false, error);
    if (status != LLM_OK)
        return status;
    if (submission->operation >= LLM_OP_COUNT)
        return llm_fail(error, LLM_ERR_INVALID, "operation %u is not known", submission->operation);
    if (submission->reserved0 != 0 || submission->reserved1 != 0 || submission->reserved2 != 0 ||
        submission->reserved3 != 0)
        return llm_fail(error, LLM_ERR_INVALID, "reserved bytes of a submission are not zero");
    if (submission->body_offset % 8 != 0 ||
        !range_inside(submission->body_offset, submission->body_bytes,
                      connection->peer.geometry.arena_bytes))
        return llm_fail(error, LLM_ERR_INVALID, "body of %u bytes at %u: the arena has %u",
                        submission->body_bytes, submission->body_offset,
                        connection->peer.geometry.arena_bytes);
    uint32_t epoch = llm_publisher_epoch(&connection->publisher, submission->stream_slot);
    if (connection->stream_request[submission->stream_slot] != 0 ||
        submission->stream_epoch != (again ? epoch : epoch + 1))
        return llm_fail(error, LLM_ERR_INVALID,
                        "stream slot %u is submitted at epoch %u while it stands at %u%s",
                        submission->stream_slot, submission->stream_epoch, epoch,
                        connection->stream_request[submission->stream_slot] ? " and is live" : "");
    return LLM_OK;
}

static void advance(struct engine *engine, struct connection *connection)
{
    journal_taken(engine, connection, connection->queue.head + 1);
    llm_queue_advance(&connection->queue);
}

/* One entry. False: nothing there, or the client is broken. */
static bool take_one(struct engine *engine, struct connection *connection)
{
    struct llm_submission submission;
    struct llm_stream_writer writer;
    struct llm_error error;
    enum llm_status status = llm_queue_peek(&connection->queue, &submission);
    if (status == LLM_ERR_TIMEOUT)
        return false;
    if (status != LLM_OK) {
        connection_break(engine, connection, "its queue at position %llu holds nonsense",
                         (unsigned long long)connection->queue.head);
        return false;
    }
    bool done = false;
    bool again = replayed(connection, &submission, &done);
    if (!again || !done) {
        status = check_entry(connection, &submission, again, &writer, &error);
        if (status != LLM_OK) {
            connection_break(engine, connection, "%s", error.message);
            return false;
        }
        users_entered(&engine->users, connection->user, submission.body_bytes);
        if (submission.operation == LLM_OP_GENERATE)
            generate(engine, connection, &submission, &writer);
        else if (submission.operation == LLM_OP_CONTEXT)
            context_answer(engine, connection, &submission, &writer);
        else
            control_answer(engine, connection, &submission, &writer);
    }
    advance(engine, connection);
    return true;
}

/* ---- Cancels --------------------------------------------------------------------------------------- */

static void take_cancels(struct engine *engine, struct connection *connection)
{
    const _Atomic uint32_t *words =
        (const _Atomic uint32_t *)(const void *)(connection->up + connection->up_map.cancel_offset);
    for (uint32_t i = 0; i < connection->peer.geometry.stream_slots; i++) {
        uint32_t slot_after = connection->stream_request[i];
        if (slot_after == 0)
            continue;
        uint32_t epoch = llm_peer_poll32(&words[i]);
        if (epoch == engine->tables.requests[slot_after - 1].stream_epoch)
            request_end(engine, slot_after - 1, CORE_FINISH_CANCELLED, LLM_ERR_CANCELLED,
                        "cancelled by its client");
    }
}

/* ---- Passes ---------------------------------------------------------------------------------------- */

static bool take_connection(struct engine *engine, struct connection *connection)
{
    /* The bell is heard before the queue is read: a cancel that came with its submission is found by the
     * next pass at the latest, because the word stays and the bell is compared again below. */
    bool any = false;
    for (int budget = INTAKE_AT_ONCE;
         budget > 0 && users_may_enter(&engine->users, connection->user) &&
         take_one(engine, connection);
         budget--)
        any = true;
    if (!connection->broken && connection->live_streams > 0 &&
        (llm_cancel_bell_moved(connection_up(connection), &connection->seen_bell) || any)) {
        take_cancels(engine, connection);
        any = true;
    }
    return any;
}

bool intake_pass(struct engine *engine)
{
    bool any = false;
    uint64_t now_ns = llm_now_ns();
    uint32_t count = engine->parking.hot_count,
             first = count > 0 ? engine->intake_turn++ % count : 0;
    users_begin_pass(&engine->users);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t hot = first + i < count ? first + i : first + i - count;
        struct connection *connection = &engine->connections[engine->parking.hot[hot]];
        if (connection->broken || !take_connection(engine, connection))
            continue;
        connection->heard_ns = now_ns;
        any = true;
    }
    return any;
}

bool intake_waits_at(const struct connection *connection)
{
    uint64_t bell = connection->seen_bell;
    return !connection->broken && (llm_queue_look(&connection->queue) != LLM_ERR_TIMEOUT ||
                                   (connection->live_streams > 0 &&
                                    llm_cancel_bell_moved(connection_up(connection), &bell)));
}

bool intake_waits(const struct engine *engine)
{
    for (uint32_t i = 0; i < engine->parking.hot_count; i++)
        if (intake_waits_at(&engine->connections[engine->parking.hot[i]]))
            return true;
    return false;
}
