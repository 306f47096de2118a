#include "daemon/engine/request.h"

#include <stdio.h>
#include <string.h>

#include "daemon/engine/contexts.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/publish.h"
#include "daemon/engine/report.h"
#include "shm/check.h"
#include "shm/clock.h"

enum core_request_kind request_kind(const struct llm_reqtab_record *record)
{
    if (record->body.flags & LLM_REQUEST_SCORE)
        return CORE_SCORE;
    return record->body.flags & LLM_REQUEST_COMPUTE ? CORE_COMPUTE : CORE_GENERATE;
}

uint32_t request_answer_start(const struct llm_reqtab_record *record)
{
    return request_kind(record) == CORE_SCORE ? record->body.score_from
                                              : record->body.prompt_tokens;
}

enum llm_status request_busy(const struct engine *engine, uint32_t own, struct llm_error *error,
                             enum llm_status status)
{
    if (status == LLM_ERR_BUSY)
        pace_say(&engine->pace, llm_now_ns(), own, engine->requests_live, error);
    return status;
}

enum llm_status requests_find_free(const struct engine *engine, const struct connection *connection,
                                   uint32_t *out_slot, struct llm_error *error)
{
    uint32_t slot = 0;
    while (slot < engine->tables.request_slots && engine->requests[slot].place != REQUEST_FREE)
        slot++;
    if (slot == engine->tables.request_slots)
        return request_busy(engine, engine->requests_live, error,
                            llm_fail(error, LLM_ERR_BUSY,
                                     "all %u requests (limits.requests) are in use; try again",
                                     engine->tables.request_slots));
    enum llm_status status = users_may_request(&engine->users, connection->user, error);
    if (status != LLM_OK)
        return request_busy(engine, engine->users.rows[connection->user].requests, error, status);
    *out_slot = slot;
    return LLM_OK;
}

void request_fill_record(struct engine *engine, const struct connection *connection,
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
    record->context_id = record->leader_id = 0;
    record->note[0] = '\0';
}

void request_enter(struct engine *engine, uint32_t slot, enum request_place place)
{
    struct request *request = &engine->requests[slot];
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    request->place = place;
    request->connection->stream_request[record->stream_slot] = slot + 1;
    request->connection->live_streams++;
    engine->requests_live++;
    engine->executors[request->model]->live++;
    report_model(engine, request->model, place == REQUEST_IN_CORE); /* recovered ones count once */
    engine->requests_in_line += place == REQUEST_IN_LINE;
    engine->users.rows[request->user].requests++;
    pace_begun(&engine->pace, llm_now_ns());
    if (record->deadline_ns != 0 && record->deadline_ns < engine->next_deadline_ns)
        engine->next_deadline_ns = record->deadline_ns;
}

static uint32_t top_k_within(uint32_t top_k)
{
    return top_k > INT32_MAX ? INT32_MAX : top_k;
}

static const struct llm_steering_record *steering_of(const struct engine *engine, uint32_t slot)
{
    bool steered = (engine->tables.requests[slot].body.flags & LLM_REQUEST_STEERED) != 0;
    return steered ? &engine->tables.steering[slot] : NULL;
}

struct llm_log_shape request_log_shape(const struct engine *engine, uint32_t slot)
{
    const struct llm_steering_record *s = steering_of(engine, slot);
    return llm_request_log_shape(&engine->tables.requests[slot].body,
                                 s ? s->steering.top_logprobs : 0);
}

static struct sampling sampling_of(const struct engine *engine, uint32_t slot, uint32_t model)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    const struct llm_request_body *body = &record->body;
    const struct executor_facts *facts = &engine->executors[model]->facts;
    bool ends = !(body->flags & LLM_REQUEST_IGNORE_EOS);
    return (struct sampling){
        .temperature = body->temperature,
        .top_k = (int32_t)top_k_within(body->top_k),
        .top_p = body->top_p,
        .min_p = body->min_p,
        .seed = body->seed,
        .branch = body->branch,
        .max_tokens = body->max_tokens,
        .want_logprob = (body->flags & LLM_REQUEST_LOGPROBS) != 0,
        .stop_ids = (const int32_t *)record->stop_ids,
        .stop_id_count = body->stop_id_count,
        .eos_ids = facts->eos_ids,
        .eos_id_count = ends ? facts->eos_count : 0,
        .steering = steering_of(engine, slot),
    };
}

void request_init(struct engine *engine, uint32_t slot, struct connection *connection,
                  uint32_t model)
{
    struct request *request = &engine->requests[slot];
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    record->model_id = engine->executors[model]->model_id;
    *request = (struct request){.connection = connection,
                                .user = connection->user,
                                .model = model,
                                .domains = connection->domains,
                                .context = CONTEXT_NONE,
                                .leader = REQUEST_NONE,
                                .first_follower = REQUEST_NONE,
                                .next_follower = REQUEST_NONE,
                                .sampling = sampling_of(engine, slot, model)};
    stop_strings_init(&request->stops, record);
}

enum llm_status request_check_sampling(const struct engine *engine, uint32_t slot,
                                       struct llm_error *error)
{
    const struct request *request = &engine->requests[slot];
    const struct sampling_limits limits = {
        .vocab_size = engine->executors[request->model]->facts.vocab_size,
        .max_tokens = LLM_COMMIT_COUNT_MAX,
        .stop_ids_max = LLM_STOP_IDS_MAX,
    };
    return sampling_check(&request->sampling, &limits, error);
}

struct core_request request_for_core(const struct engine *engine, uint32_t slot, bool recovered)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    const struct quota *quota = &engine->users.rows[engine->requests[slot].user].quota;
    enum core_request_kind kind = request_kind(record);
    uint32_t published = atomic_load_explicit(&record->published, memory_order_relaxed);
    return (struct core_request){
        .request_id = record->request_id,
        .uid = record->uid,
        .domains = engine->requests[slot].domains.domains,
        .domain_count = engine->requests[slot].domains.count,
        .shares = {engine->requests[slot].shares[0], engine->requests[slot].shares[1]},
        .model = engine->requests[slot].model,
        .prompt_tokens = record->body.prompt_tokens,
        .generated_tokens = kind == CORE_GENERATE ? published : 0,
        .max_tokens = kind == CORE_GENERATE ? record->body.max_tokens : 0,
        .kind = kind,
        .score_from = kind == CORE_SCORE ? record->body.score_from + published : 0,
        .priority = record->body.priority,
        .weight = quota->weight,
        .user_running_max = quota->sequences,
        .user_queued_tokens = quota->queued_tokens,
        .recovered = recovered,
    };
}

void request_end(struct engine *engine, uint32_t slot, enum core_finish finish,
                 enum llm_status status, const char *note)
{
    struct request *request = &engine->requests[slot];
    request->end_status = status;
    snprintf(request->end_note, sizeof request->end_note, "%s", note);
    if (request->place == REQUEST_IN_LINE || request->place == REQUEST_FOLLOWS) {
        publish_finished(engine, slot, finish);
        return;
    }
    CHECK(request->place == REQUEST_IN_CORE && core_cancel(engine->core, slot, finish));
    publish_effects(engine); /* no plan is out between steps: the request ends here and now */
    CHECK(request->place == REQUEST_FREE);
}

void requests_abandon(struct engine *engine, struct connection *connection)
{
    for (uint32_t i = 0; connection->live_streams > 0; i++) {
        CHECK(i < connection->peer.geometry.stream_slots);
        uint32_t slot_after = connection->stream_request[i];
        if (slot_after == 0)
            continue;
        connection->stream_request[i] = 0;
        connection->live_streams--;
        engine->requests[slot_after - 1].connection = NULL;
        request_end(engine, slot_after - 1, CORE_FINISH_CANCELLED, LLM_ERR_PEER,
                    "the client is gone");
    }
}

void requests_expire(struct engine *engine, uint64_t now_ns)
{
    if (now_ns < engine->next_deadline_ns)
        return;
    uint64_t next_ns = UINT64_MAX;
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++) {
        if (engine->requests[slot].place == REQUEST_FREE)
            continue;
        uint64_t deadline_ns = engine->tables.requests[slot].deadline_ns;
        if (deadline_ns == 0)
            continue;
        if (deadline_ns <= now_ns)
            request_end(engine, slot, CORE_FINISH_FAILED, LLM_ERR_TIMEOUT,
                        "the request was not done by its deadline");
        else if (deadline_ns < next_ns)
            next_ns = deadline_ns;
    }
    engine->next_deadline_ns = next_ns;
}

uint32_t requests_find(const struct engine *engine, uint64_t request_id)
{
    for (uint32_t slot = 0; slot < engine->tables.request_slots; slot++)
        if (engine->requests[slot].place != REQUEST_FREE &&
            engine->tables.requests[slot].request_id == request_id)
            return slot;
    return REQUEST_NONE;
}
