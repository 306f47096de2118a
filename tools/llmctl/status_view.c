#include "tools/llmctl/status_view.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/llmctl/text_out.h"

#define LOOK(field) atomic_load_explicit(&(field), memory_order_relaxed)

#define HUNG_AFTER_NS UINT64_C(5000000000) /* of silence with work to do; a step takes far less */

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Copy first: the text may change and lose its final zero while we look at it. */
static void take_text(char *out, size_t out_bytes, const char *shared, size_t shared_bytes)
{
    char copy[LLM_NOTE_BYTES + 1];
    memcpy(copy, shared, shared_bytes);
    copy[shared_bytes] = 0;
    text_printable(out, out_bytes, copy);
}
#define TAKE_TEXT(out, shared) take_text(out, sizeof(out), shared, sizeof(shared))

static void take_keeper(struct status_view *view, const struct llm_status_keeper *keeper)
{
    view->keeper_pid = keeper->keeper_pid;
    view->keeper_uid = keeper->keeper_uid;
    view->started_ns = keeper->started_ns;
    TAKE_TEXT(view->version, keeper->version);
    TAKE_TEXT(view->socket_path, keeper->socket_path);
    view->engine_pid = LOOK(keeper->engine_pid);
    view->daemon_state = LOOK(keeper->daemon_state);
    view->engine_generation = LOOK(keeper->engine_generation);
    view->engine_died_ns = LOOK(keeper->engine_died_ns);
    view->descriptors_held = LOOK(keeper->descriptors_held);
    view->descriptors_baseline = LOOK(keeper->descriptors_baseline);
    view->connections_open = LOOK(keeper->connections_open);
}

static void take_engine(struct status_view *view, const struct llm_status_engine *engine)
{
    view->ready_generation = atomic_load_explicit(&engine->ready_generation, memory_order_acquire);
    view->heartbeat_ns = LOOK(engine->heartbeat_ns);
    TAKE_TEXT(view->model_name, engine->model_name);
    TAKE_TEXT(view->model_text, engine->model_text);
    TAKE_TEXT(view->backend_text, engine->backend_text);
    view->block_tokens = LOOK(engine->block_tokens);
    view->block_bytes = LOOK(engine->block_bytes);
    view->blocks_total = LOOK(engine->blocks_total);
    view->blocks_held = LOOK(engine->blocks_held);
    view->blocks_cached = LOOK(engine->blocks_cached);
    view->blocks_free = LOOK(engine->blocks_free);
    view->requests_running = LOOK(engine->requests_running);
    view->requests_queued = LOOK(engine->requests_queued);
    view->weights_bytes = LOOK(engine->weights_bytes);
    view->workspace_bytes = LOOK(engine->workspace_bytes);
    view->recovery_ns = LOOK(engine->recovery_ns);
    for (int i = 0; i < LLM_COUNTER_COUNT; i++)
        view->counters[i] = LOOK(engine->counters[i]);
}

static void take_models(struct status_view *view, const struct llm_status_file *file)
{
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++) {
        const struct llm_status_model *row = &file->models[slot];
        uint64_t id = atomic_load_explicit(&row->model_id, memory_order_acquire);
        if (id == 0)
            continue;
        TAKE_TEXT(view->model_names[view->model_count], row->name);
        view->model_count += LOOK(row->model_id) == id;
    }
}

static void take_connections(struct status_view *view, const struct llm_status_file *file)
{
    for (uint32_t slot = 0; slot < LLM_STATUS_CONNECTIONS_MAX; slot++) {
        const struct llm_status_connection *row = &file->connections[slot];
        const struct llm_status_usage *usage = &file->usage[slot];
        struct view_connection *out = &view->connections[view->connection_count];
        *out = (struct view_connection){.slot = slot};
        /* Pairs with the keeper's release: the row is whole when its id is there. */
        out->connection_id = atomic_load_explicit(&row->connection_id, memory_order_acquire);
        out->live_streams = LOOK(usage->streams_live);
        if (out->connection_id == 0) {
            view->stray_streams += out->live_streams;
            continue;
        }
        out->pid = row->pid;
        out->uid = row->uid;
        out->gid = row->gid;
        out->attached_ns = row->attached_ns;
        TAKE_TEXT(out->name, row->name);
        out->requests = LOOK(usage->requests);
        out->in_tokens = LOOK(usage->tokens_in);
        out->out_tokens = LOOK(usage->tokens_out);
        atomic_thread_fence(memory_order_acquire); /* the copy above lies before the second look */
        if (LOOK(row->connection_id) == out->connection_id)
            view->connection_count++;
    }
}

static void take_requests(struct status_view *view, const struct llm_status_file *file)
{
    for (uint32_t slot = 0; slot < LLM_STATUS_REQUESTS_MAX; slot++) {
        const struct llm_status_request *row = &file->requests[slot];
        uint64_t id = atomic_load_explicit(&row->request_id, memory_order_acquire);
        if (id == 0)
            continue;
        struct view_request *out = &view->requests[view->request_count];
        *out = (struct view_request){
            .request_id = id,
            .slot = slot,
            .connection_slot = LOOK(row->connection_slot),
            .phase = LOOK(row->phase),
            .prompt_tokens = LOOK(row->prompt_tokens),
            .cached_tokens = LOOK(row->cached_tokens),
            .produced_tokens = LOOK(row->produced_tokens),
            .max_tokens = LOOK(row->max_tokens),
            .blocks = LOOK(row->blocks),
            .deaths = LOOK(row->deaths),
            .admitted_ns = LOOK(row->admitted_ns),
        };
        atomic_thread_fence(memory_order_acquire); /* as for connections */
        if (LOOK(row->request_id) == id)
            view->request_count++;
    }
}

static void take_errors(struct status_view *view, const char *from,
                        const struct llm_status_error *ring)
{
    for (uint32_t i = 0; i < LLM_STATUS_ERRORS; i++) {
        uint64_t count = atomic_load_explicit(&ring[i].count, memory_order_acquire);
        if (count == 0)
            continue;
        struct view_error *out = &view->errors[view->error_count++];
        *out = (struct view_error){.from = from,
                                   .count = count,
                                   .first_ns = LOOK(ring[i].first_ns),
                                   .last_ns = LOOK(ring[i].last_ns)};
        TAKE_TEXT(out->text, ring[i].text);
    }
}

static int newest_first(const void *a, const void *b)
{
    const struct view_error *left = a, *right = b;
    return (left->last_ns < right->last_ns) - (left->last_ns > right->last_ns);
}

void status_view_take(struct status_view *out_view, const struct llm_status_file *file)
{
    memset(out_view, 0, sizeof *out_view);
    take_keeper(out_view, &file->keeper);
    take_engine(out_view, &file->engine);
    take_models(out_view, file);
    take_connections(out_view, file);
    take_requests(out_view, file);
    take_errors(out_view, "keeper", file->keeper_errors);
    take_errors(out_view, "engine", file->engine_errors);
    qsort(out_view->errors, out_view->error_count, sizeof out_view->errors[0], newest_first);
    out_view->taken_ns = monotonic_ns(); /* last, so that no time stamp above lies after it */
}

/* The letter after the name in /proc/PID/stat; 0: not to be had. */
static char process_state(uint32_t pid)
{
    char path[32], text[512] = "";
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t bytes = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[bytes] = 0;
    const char *name_end = strrchr(text, ')');
    return name_end && name_end[1] ? name_end[2] : 0;
}

bool process_lives(uint32_t pid)
{
    if (pid == 0 || (kill((pid_t)pid, 0) != 0 && errno != EPERM))
        return false;
    char state = process_state(pid);
    return state != 'Z' && state != 'X'; /* dead, and nobody has asked how it ended */
}

const char *status_view_state_name(uint32_t daemon_state)
{
    static const char *const names[] = {
        [LLM_DAEMON_STARTING] = "starting",     [LLM_DAEMON_RUNNING] = "running",
        [LLM_DAEMON_RECOVERING] = "recovering", [LLM_DAEMON_STOPPING] = "stopping",
        [LLM_DAEMON_FAILED] = "failed",         [LLM_DAEMON_DRAINING] = "draining",
        [LLM_DAEMON_DRAINED] = "drained",
    };
    return daemon_state < sizeof names / sizeof names[0] ? names[daemon_state] : "unknown";
}

const char *status_view_phase_name(uint32_t phase)
{
    static const char *const names[] = {[LLM_PHASE_QUEUED] = "queued",
                                        [LLM_PHASE_PREFILL] = "prefill",
                                        [LLM_PHASE_DECODE] = "decode"};
    return phase < sizeof names / sizeof names[0] ? names[phase] : "unknown";
}

const struct view_connection *status_view_connection(const struct status_view *view, uint32_t slot)
{
    for (uint32_t i = 0; i < view->connection_count; i++)
        if (view->connections[i].slot == slot)
            return &view->connections[i];
    return NULL;
}

static uint64_t since(const struct status_view *view, uint64_t then_ns)
{
    return view->taken_ns > then_ns ? view->taken_ns - then_ns : 0;
}

enum llm_status status_view_health(const struct status_view *view, struct llm_error *out_sentence)
{
    uint64_t silence_ns = since(view, view->heartbeat_ns);
    uint32_t work = view->requests_running + view->requests_queued;
    if (!process_lives(view->keeper_pid))
        return llm_fail(out_sentence, LLM_ERR_PEER,
                        "the keeper (pid %u) is gone and left this status behind",
                        view->keeper_pid);
    if (view->daemon_state == LLM_DAEMON_FAILED)
        return llm_fail(out_sentence, LLM_ERR_PEER,
                        "the engine died too often and is not started again; see `llmctl errors`, "
                        "then `llmctl engine restart`");
    bool serving = view->ready_generation == view->engine_generation && view->engine_pid != 0;
    if (!serving && view->engine_died_ns != 0)
        return llm_fail(out_sentence, LLM_ERR_BUSY,
                        "the engine died %s ago; number %llu is being started",
                        text_span(since(view, view->engine_died_ns)).text,
                        (unsigned long long)view->engine_generation);
    if (!serving)
        return llm_fail(out_sentence, LLM_ERR_BUSY, "the engine (pid %u) is not ready yet",
                        view->engine_pid);
    if (work > 0 && silence_ns > HUNG_AFTER_NS)
        return llm_fail(out_sentence, LLM_ERR_TIMEOUT,
                        "the engine (pid %u) has %u requests and gave no sign of life for %s; "
                        "`llmctl engine restart` replaces it",
                        view->engine_pid, work, text_span(silence_ns).text);
    return LLM_OK;
}
