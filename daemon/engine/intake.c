#include "daemon/engine/intake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/engine/context_ops.h"
#include "daemon/engine/control.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/journal.h"
#include "daemon/engine/on_context.h"
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

/* Nothing is known of an empty context: not even its first token could be scored. */
static enum llm_status check_context(const struct llm_request_body *body,
                                     const struct on_context *on,
                                     const struct executor_facts *facts, struct llm_error *error)
{
    char before[16], have[16], most[16];
    if (on->slot == CONTEXT_NONE)
        return LLM_OK;
    if (on->length == 0 && body->prompt_tokens == 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "context and prompt are empty: at least 1 token is needed");
    if ((body->flags & LLM_REQUEST_SCORE) && on->length == 0 && body->score_from == 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "the context is empty: its first token has no log-probability");
    if ((uint64_t)on->length + body->prompt_tokens > facts->context_tokens_max)
        return llm_fail(
            error, LLM_ERR_LIMIT,
            "context of %s tokens and prompt of %s do not fit the model's context of %s",
            grouped(on->length, before), grouped(body->prompt_tokens, have),
            grouped(facts->context_tokens_max, most));
    return LLM_OK;
}

static enum llm_status check_lengths(const struct llm_request_body *body,
                                     const struct on_context *on,
                                     const struct executor_facts *facts, struct llm_error *error)
{
    char have[16], most[16];
    enum llm_status status = check_context(body, on, facts, error);
    if (status != LLM_OK)
        return status;
    if (body->prompt_tokens > facts->context_tokens_max)
        return llm_fail(
            error, LLM_ERR_LIMIT, "prompt of %s tokens does not fit the model's context of %s",
            grouped(body->prompt_tokens, have), grouped(facts->context_tokens_max, most));
    bool answers = !(body->flags & (LLM_REQUEST_SCORE | LLM_REQUEST_COMPUTE));
    if (answers && on->length + body->prompt_tokens == facts->context_tokens_max)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "%s of %s tokens fills the model's context and leaves no room to answer",
                        on->length > 0 ? "context" : "prompt",
                        grouped(on->length + body->prompt_tokens, have));
    if (body->stop_string_count > 0 && !facts->vocab)
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "model \"%s\" has no text, so it cannot stop at strings", facts->name);
    return LLM_OK;
}

/* Behind the context's ids, which are copied last: only a request that will be needs them. */
static enum llm_status take_prompt(const struct engine *engine, const struct connection *connection,
                                   const struct llm_submission *submission,
                                   const struct on_context *on, uint32_t slot, uint32_t vocab_size,
                                   struct llm_error *error)
{
    const struct llm_request_body *body = &engine->tables.requests[slot].body;
    uint32_t *ids = tables_ids(&engine->tables, slot) + on->length;
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

/* Fixed part first: it says how long the lists are. */
static enum llm_status take_steering(const struct connection *connection,
                                     const struct llm_submission *submission,
                                     const struct llm_request_body *body,
                                     struct llm_steering_record *out, struct llm_error *error)
{
    struct llm_steering *steering = &out->steering;
    uint64_t at = submission->body_offset;
    if (!(body->flags & LLM_REQUEST_STEERED))
        return LLM_OK;
    enum llm_status status = copy_part(connection, at + llm_request_map(body, NULL).steering_offset,
                                       steering, sizeof *steering, error);
    if (status == LLM_OK)
        status = llm_steering_check(steering, body, error);
    if (status == LLM_OK)
        status = llm_steering_check_bytes(steering, body, submission->body_bytes, error);
    if (status != LLM_OK)
        return status;
    struct llm_request_map map = llm_request_map(body, steering);
    status = copy_part(connection, at + map.bias_offset, out->biases,
                       steering->bias_count * sizeof out->biases[0], error);
    if (status == LLM_OK)
        status = copy_part(connection, at + map.banned_id_offset, out->banned_ids,
                           steering->banned_id_count * sizeof out->banned_ids[0], error);
    if (status == LLM_OK)
        status = copy_part(connection, at + map.allowed_id_offset, out->allowed_ids,
                           steering->allowed_id_count * sizeof out->allowed_ids[0], error);
    return status;
}

static enum llm_status take_stops(const struct connection *connection,
                                  const struct llm_submission *submission,
                                  const struct llm_steering *steering,
                                  struct llm_reqtab_record *record, struct llm_error *error)
{
    const struct llm_request_body *body = &record->body;
    struct llm_request_map map = llm_request_map(body, steering);
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

/* The fixed part: who it is for, which model, which context. */
static enum llm_status take_fixed(struct engine *engine, struct connection *connection,
                                  const struct llm_submission *submission, uint32_t slot,
                                  struct on_context *out_on, struct llm_error *error)
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
        status = on_context_find(engine, connection, submission, &record->body, out_on, error);
    if (status == LLM_OK && out_on->slot == CONTEXT_NONE)
        status = engine_find_model(engine, record->body.model, &out_on->model, error);
    else if (status == LLM_OK)
        status = models_admit(engine, out_on->model, error);
    return status;
}

/* Copy and check what follows it, into the record and the row of `slot`. */
static enum llm_status take_parts(struct engine *engine, struct connection *connection,
                                  const struct llm_submission *submission,
                                  const struct on_context *on, uint32_t slot,
                                  struct llm_error *error)
{
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    const struct executor_facts *facts = &engine->executors[on->model]->facts;
    enum llm_status status = check_lengths(&record->body, on, facts, error);
    if (status == LLM_OK)
        status = take_prompt(engine, connection, submission, on, slot, facts->vocab_size, error);
    if (status == LLM_OK)
        status = take_steering(connection, submission, &record->body,
                               &engine->tables.steering[slot], error);
    if (status == LLM_OK)
        status = take_stops(connection, submission, &engine->tables.steering[slot].steering, record,
                            error);
    return status;
}

/* From here on its prompt is all that stands before its answer, and its model has a name. */
static void join_context(struct engine *engine, const struct connection *connection,
                         const struct on_context *on, uint32_t slot)
{
    struct llm_request_body *body = &engine->tables.requests[slot].body;
    if (on->slot == CONTEXT_NONE)
        return;
    contexts_copy_ids(engine, on->slot, 0, on->length, tables_ids(&engine->tables, slot));
    users_charge(&engine->users, connection->user, on->length * (uint32_t)sizeof(uint32_t));
    body->prompt_tokens += on->length;
    if (body->flags & LLM_REQUEST_SCORE)
        body->score_from += on->length;
    snprintf(body->model, sizeof body->model, "%s", engine->executors[on->model]->facts.name);
    engine->tables.requests[slot].context_id = context_now(engine, on->slot)->context_id;
    engine->requests[slot].domains = on_context_domains(engine, connection, on->slot, body->flags);
    on_context_share(engine, slot, on->slot, on->length);
}

/* What the request leaves to the model stands in the record as the model has it: recovery finds the same values there,
 * whatever the model's file says by then. */
static void take_defaults(const struct engine *engine, uint32_t slot, uint32_t model)
{
    struct llm_request_body *body = &engine->tables.requests[slot].body;
    struct llm_steering *steering = &engine->tables.steering[slot].steering;
    const struct llm_in_force *defaults = &engine->executors[model]->facts.defaults;
    if (body->defaults & LLM_REQUEST_DEFAULT_TEMPERATURE)
        body->temperature = defaults->temperature;
    if (body->defaults & LLM_REQUEST_DEFAULT_TOP_K)
        body->top_k = defaults->top_k;
    if (body->defaults & LLM_REQUEST_DEFAULT_TOP_P)
        body->top_p = defaults->top_p;
    if (body->defaults & LLM_REQUEST_DEFAULT_MIN_P)
        body->min_p = defaults->min_p;
    if (!(body->defaults & (LLM_REQUEST_DEFAULT_TYPICAL_P | LLM_REQUEST_DEFAULT_REPETITION)))
        return;
    if (!(body->flags & LLM_REQUEST_STEERED))
        *steering = llm_steering_none();
    body->flags |= LLM_REQUEST_STEERED;
    if (body->defaults & LLM_REQUEST_DEFAULT_TYPICAL_P)
        steering->typical_p = defaults->typical_p;
    if (body->defaults & LLM_REQUEST_DEFAULT_REPETITION)
        steering->repetition_penalty = defaults->repetition_penalty;
}

/* ---- Admission ------------------------------------------------------------------------------------- */

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
                                   const struct llm_request_body *body, struct llm_log_shape shape,
                                   struct llm_stream_writer *out_writer, struct llm_error *error)
{
    enum llm_status status = llm_stream_writer_init(
        out_writer, &connection->publisher, submission->stream_slot, submission->stream_epoch,
        submission->log_offset, submission->log_words, shape, error);
    if (status == LLM_OK && body->max_tokens > out_writer->capacity_tokens)
        return llm_fail(error, LLM_ERR_INVALID,
                        "max_tokens %u is more than the %u that the stream's log has room for",
                        body->max_tokens, out_writer->capacity_tokens);
    return status;
}

/* A request that the core has just admitted is not to be: nobody has heard of it. */
static void withdraw(struct engine *engine, uint32_t slot)
{
    uint32_t count;
    const struct core_effect *effects = core_effects(engine->core, &count);
    for (uint32_t i = 0; i < count;
         i++) /* what it asked to be computed was there: it has FINISHED */
        if (effects[i].kind == CORE_BLOCK_WIDENED)
            journal_block_widened(engine, effects[i].block);
    if (!core_cancel(engine->core, slot, CORE_FINISH_CANCELLED))
        return;
    effects = core_effects(engine->core, &count);
    CHECK(count == 1 && effects[0].kind == CORE_REQUEST_FINISHED && effects[0].slot == slot);
}

/* Into the core, and onto its context. */
static enum llm_status place(struct engine *engine, const struct on_context *on, uint32_t slot,
                             struct llm_error *error)
{
    struct core_request request = request_for_core(engine, slot, false);
    uint32_t own = engine->users.rows[engine->requests[slot].user].requests;
    enum llm_status status =
        request_busy(engine, own, error, core_admit(engine->core, &request, slot, error));
    if (status != LLM_OK)
        return status;
    status = on_context_begin(engine, on, slot, error);
    if (status != LLM_OK)
        withdraw(engine, slot);
    return status;
}

/* From a sound entry to a request in the core that nobody knows of yet. */
static enum llm_status prepare(struct engine *engine, struct connection *connection,
                               const struct llm_submission *submission, uint32_t slot,
                               struct on_context *out_on, struct llm_error *error)
{
    enum llm_status status = take_fixed(engine, connection, submission, slot, out_on, error);
    struct llm_request_body *body = &engine->tables.requests[slot].body;
    if (status == LLM_OK)
        status = users_may_have_priority(&engine->users, connection->user, body->priority, error);
    if (status == LLM_OK)
        status = take_parts(engine, connection, submission, out_on, slot, error);
    if (status == LLM_OK)
        status = choose_seed(body, error);
    if (status != LLM_OK)
        return status;
    take_defaults(engine, slot, out_on->model);
    request_init(engine, slot, connection, out_on->model); /* from the record: as recovery will */
    status = request_check_sampling(engine, slot, error);
    if (status == LLM_OK)
        status = open_writer(connection, submission, body, request_log_shape(engine, slot),
                             &engine->requests[slot].writer, error);
    if (status != LLM_OK)
        return status;
    request_fill_record(engine, connection, submission, slot);
    join_context(engine, connection, out_on, slot);
    return place(engine, out_on, slot, error);
}

static void admit(struct engine *engine, uint32_t slot)
{
    request_enter(engine, slot, REQUEST_IN_CORE);
    journal_live(engine, slot);
    publish_opened(engine, slot);
    report_admitted(engine, slot);
    publish_effects(engine);
}

static void generate(struct engine *engine, struct connection *connection,
                     const struct llm_submission *submission, struct llm_stream_writer *writer)
{
    struct llm_error error;
    struct on_context on = ON_CONTEXT_NONE;
    uint32_t slot = REQUEST_NONE;
    enum llm_status status = drain_admits(engine, &error);
    if (status == LLM_OK)
        status = requests_find_free(engine, connection, &slot, &error);
    if (status == LLM_OK)
        status = prepare(engine, connection, submission, slot, &on, &error);
    if (status == LLM_OK) {
        admit(engine, slot);
        return;
    }
    on_context_drop(engine, &on);
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
        submission->log_offset, submission->log_words, LLM_LOG_IDS, error);
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
