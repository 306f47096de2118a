#include "daemon/engine/report.h"

#include <stdio.h>

#include "daemon/engine/engine.h"
#include "shm/check.h"
#include "shm/clock.h"
#include "shm/crash_point.h"

#define store(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)
#define load(field)         atomic_load_explicit(&(field), memory_order_relaxed)

#define SHOW_NS (100 * LLM_NS_PER_US)

void report_count(struct engine *engine, enum llm_counter counter, uint64_t more)
{
    _Atomic uint64_t *count = &engine->status->engine.counters[counter];
    store(*count, load(*count) + more);
}

void report_error(struct engine *engine, const char *text)
{
    llm_status_note_error(engine->status->engine_errors, llm_wall_ns(), text);
}

/* ---- What happened to requests --------------------------------------------------------------------- */

static void record_event(struct engine *engine, enum llm_status_event_kind kind, uint32_t slot,
                         uint32_t value)
{
    uint64_t number = ++engine->events;
    struct llm_status_event *entry = &engine->status->events[number % LLM_STATUS_EVENTS];
    store(entry->number, 0); /* being written; a reader compares it before and after */
    atomic_thread_fence(memory_order_release);
    store(entry->at_ns, llm_now_ns());
    store(entry->request_id, engine->tables.requests[slot].request_id);
    store(entry->kind, (uint32_t)kind);
    store(entry->value, value);
    atomic_store_explicit(&entry->number, number, memory_order_release);
}

static uint64_t last_event(const struct engine *engine)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < LLM_STATUS_EVENTS; i++)
        if (load(engine->status->events[i].number) > last)
            last = load(engine->status->events[i].number);
    return last;
}

/* ---- Opening --------------------------------------------------------------------------------------- */

/* The default model, which may change, and which names count. */
void report_names(struct engine *engine)
{
    struct llm_status_engine *page = &engine->status->engine;
    const struct executor_facts *facts = &models_default(engine)->facts;
    snprintf(page->model_name, sizeof page->model_name, "%s", facts->name);
    snprintf(page->model_text, sizeof page->model_text, "%s", facts->text);
    snprintf(page->backend_text, sizeof page->backend_text, "%s", facts->backend_text);
    store(page->block_tokens, facts->block_tokens);
    store(page->block_bytes, (uint32_t)facts->block_bytes);
    /* Pairs with the acquire of the keeper, which tells whoever changed them. */
    atomic_store_explicit(&page->names_settled, engine->models.names.number, memory_order_release);
}

void report_model(struct engine *engine, uint32_t model, uint32_t more_requests)
{
    struct llm_status_model *row = &engine->status->models[model];
    store(row->requests_live, engine->executors[model]->live);
    store(row->requests, load(row->requests) + more_requests);
    store(row->used_ns, llm_now_ns());
}

/* A load's numbers go on under the next engine. */
static void report_models(struct engine *engine)
{
    uint64_t weights = 0, workspace = 0;
    for (uint32_t model = 0; model < ENGINE_MODELS_MAX; model++) {
        struct llm_status_model *row = &engine->status->models[model];
        const struct executor *executor =
            model < engine->executor_count ? engine->executors[model] : NULL;
        uint64_t id = executor ? executor->model_id : 0;
        if (load(row->counted_id) != id) {
            store(row->counted_id, 0);
            store(row->requests, 0);
            store(row->used_ns, 0);
        }
        store(row->requests_live, 0); /* those that are recovered are counted again */
        if (!executor)
            continue;
        const struct executor_facts *facts = &executor->facts;
        snprintf(row->text, sizeof row->text, "%s", facts->text);
        store(row->context_tokens, facts->context_tokens_max);
        store(row->weights_bytes, facts->weight_bytes);
        store(row->workspace_bytes, facts->workspace_bytes);
        atomic_store_explicit(&row->counted_id, id, memory_order_release);
        weights += facts->weight_bytes;
        workspace += facts->workspace_bytes;
    }
    store(engine->status->engine.weights_bytes, weights);
    store(engine->status->engine.workspace_bytes, workspace);
}

void report_opened(struct engine *engine)
{
    const struct llm_status_engine *page = &engine->status->engine;
    report_names(engine);
    report_models(engine);
    for (uint32_t slot = 0; slot < LLM_STATUS_REQUESTS_MAX; slot++)
        store(engine->status->requests[slot].request_id, 0);
    engine->steps = load(page->counters[LLM_COUNTER_STEPS]); /* the recorder goes on */
    engine->events = last_event(engine);
    report_counts(engine);
}

void report_ready(struct engine *engine, uint64_t recovery_ns)
{
    report_counts(engine);
    store(engine->status->engine.recovery_ns, recovery_ns);
    /* Pairs with acquire loads of readers: texts above are whole. */
    atomic_store_explicit(&engine->status->engine.ready_generation, engine->generation,
                          memory_order_release);
    CRASH_POINT(ready_status);
    atomic_store_explicit(&engine->ctl->ready_generation, engine->generation, memory_order_release);
    CRASH_POINT(ready_ctl);
}

/* ---- The last words -------------------------------------------------------------------------------- */

#define LAST_STEPS 16

static const struct engine *checked_engine; /* the hook has no argument */

static void print_last_steps(void)
{
    uint64_t end = checked_engine->steps + 1;
    for (uint64_t step = end > LAST_STEPS ? end - LAST_STEPS : 1; step < end; step++) {
        const struct llm_status_step *entry =
            &checked_engine->status->steps[step % LLM_STATUS_STEPS];
        fprintf(stderr, "step %llu: %u sequences, %u prefill and %u decode tokens, %u us\n",
                (unsigned long long)load(entry->step), load(entry->sequences),
                load(entry->prefill_tokens), load(entry->decode_tokens), load(entry->duration_us));
    }
}

void report_on_failed_check(const struct engine *engine)
{
    checked_engine = engine;
    llm_check_set_hook(print_last_steps);
}

/* ---- Connections ----------------------------------------------------------------------------------- */

static bool usage_is_of(const struct engine *engine, const struct connection *connection)
{
    /* The keeper's row names the connection; a recovered one goes on counting. */
    return connection->queue.head > 0 &&
           load(engine->status->connections[connection->peer.slot].connection_id) ==
               connection->peer.id;
}

void report_attached(struct engine *engine, const struct connection *connection)
{
    struct llm_status_usage *row = &engine->status->usage[connection->peer.slot];
    store(row->streams_live, 0);
    if (usage_is_of(engine, connection))
        return;
    store(row->requests, 0);
    store(row->tokens_in, 0);
    store(row->tokens_out, 0);
}

void report_detached(struct engine *engine, uint32_t connection_slot)
{
    store(engine->status->usage[connection_slot].streams_live, 0);
}

static struct llm_status_usage *usage_of(struct engine *engine, uint32_t slot)
{
    const struct connection *connection = engine->requests[slot].connection;
    return connection ? &engine->status->usage[connection->peer.slot] : NULL;
}

static void show_streams(struct engine *engine, uint32_t slot, uint32_t fewer)
{
    struct llm_status_usage *usage = usage_of(engine, slot);
    if (usage)
        store(usage->streams_live, engine->requests[slot].connection->live_streams - fewer);
}

/* ---- Requests -------------------------------------------------------------------------------------- */

/* A row is worth reading while its id is the same before and after: the id goes last. */
static void show_request(struct engine *engine, uint32_t slot)
{
    struct llm_status_request *row = &engine->status->requests[slot];
    const struct llm_reqtab_record *record = &engine->tables.requests[slot];
    store(row->connection_slot, record->connection_slot);
    store(row->phase,
          engine->requests[slot].place == REQUEST_FOLLOWS ? LLM_PHASE_DECODE : LLM_PHASE_QUEUED);
    store(row->prompt_tokens, record->body.prompt_tokens);
    store(row->cached_tokens, record->cached_tokens);
    store(row->produced_tokens, load(record->published));
    store(row->max_tokens, record->body.max_tokens);
    store(row->blocks, 0);
    store(row->deaths, record->deaths > 0 ? record->deaths - 1 : 0);
    store(row->admitted_ns, record->admitted_ns);
    atomic_store_explicit(&row->request_id, record->request_id, memory_order_release);
    show_streams(engine, slot, 0);
}

void report_admitted(struct engine *engine, uint32_t slot)
{
    /* A follower asks nothing of the model. */
    bool follows = engine->requests[slot].place == REQUEST_FOLLOWS;
    uint32_t prompt_tokens = follows ? 0 : engine->tables.requests[slot].body.prompt_tokens;
    struct llm_status_usage *usage = usage_of(engine, slot);
    report_count(engine, LLM_COUNTER_REQUESTS_ADMITTED, 1);
    report_count(engine, LLM_COUNTER_TOKENS_IN, prompt_tokens);
    if (usage) {
        store(usage->requests, load(usage->requests) + 1);
        store(usage->tokens_in, load(usage->tokens_in) + prompt_tokens);
    }
    record_event(engine, LLM_EVENT_ADMITTED, slot, prompt_tokens);
    show_request(engine, slot);
}

void report_recovered(struct engine *engine, uint32_t slot)
{
    record_event(engine, LLM_EVENT_RECOVERED, slot, load(engine->tables.requests[slot].published));
    show_request(engine, slot);
}

void report_started(struct engine *engine, uint32_t slot, uint32_t cached_tokens, bool first)
{
    record_event(engine, LLM_EVENT_STARTED, slot, cached_tokens);
    if (first)
        report_count(engine, LLM_COUNTER_TOKENS_CACHED, cached_tokens);
}

void report_preempted(struct engine *engine, uint32_t slot)
{
    record_event(engine, LLM_EVENT_PREEMPTED, slot, load(engine->tables.requests[slot].published));
}

void report_tokens(struct engine *engine, uint32_t slot, uint32_t produced_tokens, uint32_t more)
{
    struct llm_status_usage *usage = usage_of(engine, slot);
    if (engine->requests[slot].place !=
        REQUEST_FOLLOWS) /* those were counted where they came from */
        report_count(engine, LLM_COUNTER_TOKENS_OUT, more);
    if (produced_tokens == more)
        record_event(engine, LLM_EVENT_FIRST_TOKEN, slot, 0);
    if (usage)
        store(usage->tokens_out, load(usage->tokens_out) + more);
    store(engine->status->requests[slot].produced_tokens, produced_tokens);
}

static enum llm_counter counter_of(enum core_finish finish)
{
    if (finish == CORE_FINISH_CANCELLED)
        return LLM_COUNTER_REQUESTS_CANCELLED;
    return finish == CORE_FINISH_FAILED ? LLM_COUNTER_REQUESTS_FAILED : LLM_COUNTER_REQUESTS_SERVED;
}

void report_finished(struct engine *engine, uint32_t slot, enum core_finish finish)
{
    report_count(engine, counter_of(finish), 1);
    record_event(engine, LLM_EVENT_FINISHED, slot, (uint32_t)finish);
    store(engine->status->requests[slot].request_id, 0);
    show_streams(engine, slot, 1);
}

/* ---- Steps ----------------------------------------------------------------------------------------- */

/* The core counts from this engine's start, the status file from the keeper's. */
static void count_since(struct engine *engine, enum llm_counter counter, uint64_t now,
                        uint64_t *counted)
{
    report_count(engine, counter, now - *counted);
    *counted = now;
}

void report_counts(struct engine *engine)
{
    struct llm_status_engine *page = &engine->status->engine;
    struct core_counts counts = core_counts(engine->core);
    store(page->blocks_total, counts.kv.total);
    store(page->blocks_held, counts.kv.held);
    store(page->blocks_cached, counts.kv.cached);
    store(page->blocks_free, counts.kv.free);
    store(page->requests_running, counts.running);
    store(page->requests_queued, counts.queued + engine->requests_in_line);
    count_since(engine, LLM_COUNTER_PREEMPTIONS, counts.preemptions, &engine->preemptions_counted);
    count_since(engine, LLM_COUNTER_EVICTIONS, counts.evictions, &engine->evictions_counted);
    store(page->heartbeat_ns, llm_now_ns());
}

static void show_sequences(struct engine *engine, const struct core_plan *plan)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        uint32_t slot = plan->sequences[i].slot;
        struct llm_status_request *row = &engine->status->requests[slot];
        if (engine->requests[slot].place == REQUEST_FREE)
            continue; /* it ended in this step */
        struct core_request_info info = core_request_info(engine->core, slot);
        store(row->phase, info.phase == CORE_PHASE_DECODE    ? LLM_PHASE_DECODE
                          : info.phase == CORE_PHASE_PREFILL ? LLM_PHASE_PREFILL
                                                             : LLM_PHASE_QUEUED);
        store(row->cached_tokens, engine->tables.requests[slot].cached_tokens);
        store(row->blocks, info.blocks);
    }
}

static void record_step(struct engine *engine, const struct core_plan *plan, uint64_t started_ns)
{
    uint32_t decode_tokens = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++)
        decode_tokens += plan->sequences[i].token_count == 1;
    uint64_t step = ++engine->steps;
    struct llm_status_step *entry = &engine->status->steps[step % LLM_STATUS_STEPS];
    struct core_counts counts = core_counts(engine->core);
    store(entry->step, 0); /* being written */
    store(entry->started_ns, started_ns);
    store(entry->duration_us, (uint32_t)((llm_now_ns() - started_ns) / LLM_NS_PER_US));
    store(entry->prefill_tokens, plan->token_count - decode_tokens);
    store(entry->decode_tokens, decode_tokens);
    store(entry->sequences, plan->sequence_count);
    store(entry->blocks_held, counts.kv.held);
    store(entry->blocks_cached, counts.kv.cached);
    store(entry->requests_queued, counts.queued + engine->requests_in_line);
    store(entry->engine_generation, (uint32_t)engine->generation);
    atomic_store_explicit(&entry->step, step, memory_order_release);
}

/* Steps of a model take longer than SHOW_NS, and each is shown whole. An echo's take less than showing does. */
void report_step(struct engine *engine, const struct core_plan *plan, uint64_t started_ns)
{
    report_count(engine, LLM_COUNTER_STEPS, 1);
    report_count(engine, LLM_COUNTER_TOKENS_COMPUTED, plan->token_count);
    record_step(engine, plan, started_ns);
    if (started_ns - engine->shown_ns < SHOW_NS)
        return;
    engine->shown_ns = started_ns;
    show_sequences(engine, plan);
    report_counts(engine);
}
