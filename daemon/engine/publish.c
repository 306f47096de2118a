#include "daemon/engine/publish.h"

#include "daemon/engine/engine.h"
#include "daemon/engine/follow.h"
#include "daemon/engine/journal.h"
#include "daemon/engine/on_context.h"
#include "daemon/engine/report.h"
#include "shm/check.h"
#include "shm/clock.h"

/* ---- Hints ----------------------------------------------------------------------------------------- */

void publish_announce(struct engine *engine)
{
    struct connection *connection = engine->unannounced;
    if (!connection)
        return;
    engine->unannounced = NULL;
    llm_event_announce(&connection->publisher.events);
    egress_mark(&engine->egress, connection->peer.slot);
}

void publish_moved(struct engine *engine, struct connection *connection)
{
    if (engine->unannounced == connection)
        return;
    publish_announce(engine);
    engine->unannounced = connection;
}

/* ---- Streams --------------------------------------------------------------------------------------- */

static struct llm_stream_facts facts_of(const struct engine *engine,
                                        const struct llm_reqtab_record *record)
{
    return (struct llm_stream_facts){
        .request_id = record->request_id,
        .seed = record->body.seed,
        .admitted_ns = record->admitted_ns,
        .prompt_tokens = record->body.prompt_tokens,
        .cached_tokens = record->cached_tokens,
        .engine_generation = (uint32_t)engine->generation,
        .first_token_us = record->first_token_us,
        .last_token_us = record->last_token_us,
    };
}

static void tell_in_force(struct request *request)
{
    const struct sampling *sampling = &request->sampling;
    const struct llm_steering none = llm_steering_none();
    const struct llm_steering *s = sampling->steering ? &sampling->steering->steering : &none;
    const struct llm_in_force in_force = {.temperature = sampling->temperature,
                                          .top_k = (uint32_t)sampling->top_k,
                                          .top_p = sampling->top_p,
                                          .min_p = sampling->min_p,
                                          .typical_p = s->typical_p,
                                          .repetition_penalty = s->repetition_penalty};
    llm_stream_writer_in_force(&request->writer, &in_force);
}

/* A request that goes on after an engine's death has tokens already: they are written again. */
void publish_opened(struct engine *engine, uint32_t slot)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    struct request *request = &engine->requests[slot];
    struct llm_stream_facts facts = facts_of(engine, record);
    uint32_t count = atomic_load_explicit(&record->published, memory_order_relaxed);
    const uint32_t *ids = tables_ids(&engine->tables, slot) + request_answer_start(record);
    const float *logprobs = tables_logprobs(&engine->tables, slot) + request_answer_start(record);
    if (request->writer.in_force)
        tell_in_force(request);
    llm_stream_writer_open(&request->writer, &facts, ids, logprobs, count);
    publish_moved(engine, request->connection);
    publish_announce(engine);
}

void publish_answer(struct engine *engine, struct connection *connection,
                    struct llm_stream_writer *writer, enum llm_status status,
                    enum llm_finish finish, const char *note)
{
    struct llm_stream_facts facts = {.admitted_ns = llm_now_ns(),
                                     .engine_generation = (uint32_t)engine->generation};
    llm_stream_writer_open(writer, &facts, NULL, NULL, 0);
    llm_stream_writer_finish(writer, status, finish, note);
    publish_moved(engine, connection);
    publish_announce(engine);
}

/* ---- Requests -------------------------------------------------------------------------------------- */

static uint32_t elapsed_us(uint64_t since_ns, uint64_t now_ns)
{
    uint64_t us = now_ns > since_ns ? (now_ns - since_ns) / LLM_NS_PER_US : 0;
    return us > UINT32_MAX ? UINT32_MAX : us == 0 ? 1 : (uint32_t)us;
}

static void tell_client(struct engine *engine, uint32_t slot, uint32_t position, uint32_t more,
                        uint64_t now_ns)
{
    struct request *request = &engine->requests[slot];
    if (!request->connection)
        return;
    llm_stream_writer_append(&request->writer, tables_ids(&engine->tables, slot) + position,
                             tables_logprobs(&engine->tables, slot) + position, more, now_ns);
    publish_moved(engine, request->connection);
}

void publish_ids(struct engine *engine, uint32_t slot, uint32_t more, uint64_t now_ns)
{
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    uint32_t count = atomic_load_explicit(&record->published, memory_order_relaxed);
    record->last_token_us = elapsed_us(record->admitted_ns, now_ns);
    if (count == 0)
        record->first_token_us = record->last_token_us;
    journal_published(engine, slot, count + more);
    if (engine->trial_slot == slot)
        engine->trial_slot = REQUEST_NONE; /* it has proved itself */
    report_tokens(engine, slot, count + more, more);
    tell_client(engine, slot, request_answer_start(record) + count, more, now_ns);
    follow_published(engine, slot);
}

static void publish_token(struct engine *engine, uint32_t slot, uint32_t token, uint64_t now_ns)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    uint32_t position =
        record->body.prompt_tokens + atomic_load_explicit(&record->published, memory_order_relaxed);
    CHECK(tables_ids(&engine->tables, slot)[position] == token); /* the core appended it */
    tables_logprobs(&engine->tables, slot)[position] = engine->requests[slot].logprob;
    publish_ids(engine, slot, 1, now_ns);
}

/* The prompt's own ids below `end`; the step put their log-probabilities beside them. */
static void publish_scored(struct engine *engine, uint32_t slot, uint32_t end, uint64_t now_ns)
{
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    uint32_t from =
        record->body.score_from + atomic_load_explicit(&record->published, memory_order_relaxed);
    CHECK(end > from && end <= record->body.prompt_tokens);
    publish_ids(engine, slot, end - from, now_ns);
}

static enum llm_status status_of(const struct request *request, enum core_finish finish)
{
    if (finish != CORE_FINISH_CANCELLED && finish != CORE_FINISH_FAILED)
        return LLM_OK;
    if (request->end_status != LLM_OK)
        return request->end_status;
    return finish == CORE_FINISH_CANCELLED ? LLM_ERR_CANCELLED : LLM_ERR_SYSTEM;
}

static void release_slot(struct engine *engine, uint32_t slot)
{
    struct request *request = &engine->requests[slot];
    if (request->connection) {
        request->connection->stream_request[engine->tables.requests[slot].stream_slot] = 0;
        request->connection->live_streams--;
    }
    if (request->place == REQUEST_IN_LINE)
        engine->requests_in_line--;
    follow_forget(engine, slot);
    if (engine->trial_slot == slot)
        engine->trial_slot = REQUEST_NONE;
    engine->requests_live--;
    engine->executors[request->model]->live--;
    report_model(engine, request->model, 0);
    engine->users.rows[request->user].requests--;
    pace_ended(&engine->pace, llm_now_ns(), engine->requests_live);
    request->place = REQUEST_FREE;
    request->connection = NULL;
}

void publish_finished(struct engine *engine, uint32_t slot, enum core_finish finish)
{
    struct request *request = &engine->requests[slot];
    finish = on_context_end(engine, slot, finish);
    enum llm_status status = status_of(request, finish);
    journal_answered(engine, slot, status, (enum llm_finish)finish, request->end_note);
    if (request->connection) {
        llm_stream_writer_finish(&request->writer, status, (enum llm_finish)finish,
                                 request->end_note);
        publish_moved(engine, request->connection);
    }
    follow_finished(engine, slot, finish);
    report_finished(engine, slot, finish);
    release_slot(engine, slot);
    journal_free(engine, slot);
    report_counts(
        engine); /* no step may follow: the last request of a dead client ends without one */
}

static void publish_started(struct engine *engine, uint32_t slot)
{
    struct llm_reqtab_record *record = &engine->tables.requests[slot];
    struct request *request = &engine->requests[slot];
    struct core_request_info info = core_request_info(engine->core, slot);
    /* When it goes on after a preemption or a death, what it reused at first is what counts. */
    bool first = atomic_load_explicit(&record->published, memory_order_relaxed) == 0;
    report_started(engine, slot, info.cached_tokens, first);
    if (!first)
        return;
    record->cached_tokens = info.cached_tokens;
    if (request->connection)
        llm_stream_writer_set_cached(&request->writer, info.cached_tokens);
}

/* ---- Effects --------------------------------------------------------------------------------------- */

/* Whose geometry the block has; NULL: its slab is nobody's again, and with it what was to be done. */
static struct executor *executor_of(const struct engine *engine, block_id block)
{
    uint32_t model = core_block_model(engine->core, block);
    return model < engine->executor_count ? engine->executors[model] : NULL;
}

static void publish_taken(struct engine *engine, block_id block, bool zero)
{
    journal_block_taken(engine, block);
    struct executor *executor = zero ? executor_of(engine, block) : NULL;
    if (executor)
        executor->ops->zero_block(executor, block);
}

/* The rows count for nothing before the block is sealed, so nothing is written down. */
static void publish_copied(struct engine *engine, block_id to, block_id from)
{
    struct executor *executor = executor_of(engine, to);
    if (executor)
        executor->ops->copy_block(executor, to, from);
}

static void publish_effect(struct engine *engine, const struct core_effect *effect, uint64_t now_ns)
{
    switch (effect->kind) {
    case CORE_BLOCK_TAKEN:
        publish_taken(engine, effect->block, effect->value != 0);
        break;
    case CORE_BLOCK_SEALED:
        journal_block_sealed(engine, effect->block);
        break;
    case CORE_BLOCK_FREED:
        journal_block_freed(engine, effect->block);
        break;
    case CORE_REQUEST_STARTED:
        publish_started(engine, effect->slot);
        break;
    case CORE_REQUEST_PREEMPTED:
        report_preempted(engine, effect->slot); /* what it published stays published */
        break;
    case CORE_REQUEST_TOKEN:
        publish_token(engine, effect->slot, effect->value, now_ns);
        break;
    case CORE_BLOCK_COPIED:
        publish_copied(engine, effect->block, effect->value);
        break;
    case CORE_BLOCK_WIDENED:
        journal_block_widened(engine, effect->block);
        break;
    case CORE_REQUEST_SCORED:
        publish_scored(engine, effect->slot, effect->value, now_ns);
        break;
    case CORE_REQUEST_FINISHED:
        publish_finished(engine, effect->slot, (enum core_finish)effect->value);
        break;
    }
}

void publish_effects(struct engine *engine)
{
    uint32_t count;
    const struct core_effect *effects = core_effects(engine->core, &count);
    uint64_t now_ns = count > 0 ? llm_now_ns() : 0;
    for (uint32_t i = 0; i < count; i++)
        publish_effect(engine, &effects[i], now_ns);
    publish_announce(engine);
}
