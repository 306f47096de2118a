#include "tools/llmctl/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/llmctl/daemon_find.h"
#include "tools/llmctl/json_out.h"
#include "tools/llmctl/llmctl.h"

#define LOOK(field) atomic_load_explicit(&(field), memory_order_relaxed)

#define ENGINE_TRACK   1
#define REQUESTS_TRACK 2

/* ---- Copying --------------------------------------------------------------------------------------- */

static bool take_step(struct trace_step *out, const struct llm_status_step *entry)
{
    uint64_t step = atomic_load_explicit(&entry->step, memory_order_acquire);
    *out = (struct trace_step){
        .step = step,
        .started_ns = LOOK(entry->started_ns),
        .duration_us = LOOK(entry->duration_us),
        .prefill_tokens = LOOK(entry->prefill_tokens),
        .decode_tokens = LOOK(entry->decode_tokens),
        .sequences = LOOK(entry->sequences),
        .blocks_held = LOOK(entry->blocks_held),
        .blocks_cached = LOOK(entry->blocks_cached),
        .requests_queued = LOOK(entry->requests_queued),
        .engine_generation = LOOK(entry->engine_generation),
    };
    atomic_thread_fence(memory_order_acquire); /* the copy above lies before the second look */
    return step != 0 && LOOK(entry->step) == step;
}

static bool take_event(struct trace_event *out, const struct llm_status_event *entry)
{
    uint64_t number = atomic_load_explicit(&entry->number, memory_order_acquire);
    *out = (struct trace_event){.number = number,
                                .at_ns = LOOK(entry->at_ns),
                                .request_id = LOOK(entry->request_id),
                                .kind = LOOK(entry->kind),
                                .value = LOOK(entry->value)};
    atomic_thread_fence(memory_order_acquire); /* as for steps */
    return number != 0 && LOOK(entry->number) == number;
}

static int step_order(const void *a, const void *b)
{
    const struct trace_step *left = a, *right = b;
    return (left->step > right->step) - (left->step < right->step);
}

static int event_order(const void *a, const void *b)
{
    const struct trace_event *left = a, *right = b;
    return (left->number > right->number) - (left->number < right->number);
}

void trace_take(struct trace *out_trace, const struct llm_status_file *file, uint64_t from_ns,
                uint64_t to_ns)
{
    *out_trace = (struct trace){.from_ns = from_ns, .to_ns = to_ns};
    for (uint32_t i = 0; i < LLM_STATUS_STEPS; i++) {
        struct trace_step *step = &out_trace->steps[out_trace->step_count];
        if (take_step(step, &file->steps[i]) && step->started_ns >= from_ns)
            out_trace->step_count++;
    }
    for (uint32_t i = 0; i < LLM_STATUS_EVENTS; i++)
        out_trace->event_count +=
            take_event(&out_trace->events[out_trace->event_count], &file->events[i]);
    qsort(out_trace->steps, out_trace->step_count, sizeof out_trace->steps[0], step_order);
    qsort(out_trace->events, out_trace->event_count, sizeof out_trace->events[0], event_order);
}

/* ---- Writing --------------------------------------------------------------------------------------- */

static void head(struct json_out *json, const char *phase, const char *name, uint32_t track,
                 uint64_t at_ns)
{
    json_out_object(json, NULL);
    json_out_text(json, "ph", phase);
    json_out_text(json, "name", name);
    json_out_count(json, "pid", track);
    json_out_count(json, "tid", track);
    json_out_thousandths(json, "ts", at_ns);
}

static void write_track(struct json_out *json, uint32_t track, const char *name)
{
    head(json, "M", "process_name", track, 0);
    json_out_object(json, "args");
    json_out_text(json, "name", name);
    json_out_end(json);
    json_out_end(json);
}

static void write_step(struct json_out *json, const struct trace_step *step)
{
    char name[64];
    snprintf(name, sizeof name, "step %" PRIu64, step->step);
    head(json, "X", name, ENGINE_TRACK, step->started_ns);
    json_out_count(json, "dur", step->duration_us);
    json_out_object(json, "args");
    json_out_count(json, "sequences", step->sequences);
    json_out_count(json, "prefill_tokens", step->prefill_tokens);
    json_out_count(json, "decode_tokens", step->decode_tokens);
    json_out_count(json, "engine_generation", step->engine_generation);
    json_out_end(json);
    json_out_end(json);
    uint64_t end_ns = step->started_ns + step->duration_us * UINT64_C(1000);
    head(json, "C", "KV blocks", ENGINE_TRACK, end_ns);
    json_out_object(json, "args");
    json_out_count(json, "held", step->blocks_held);
    json_out_count(json, "cached", step->blocks_cached);
    json_out_end(json);
    json_out_end(json);
    head(json, "C", "requests waiting", ENGINE_TRACK, end_ns);
    json_out_object(json, "args");
    json_out_count(json, "requests", step->requests_queued);
    json_out_end(json);
    json_out_end(json);
}

/* Async events of one id nest: the request's span around those of its phases. */
static void write_edge(struct json_out *json, const char *phase, const char *name,
                       uint64_t request_id, uint64_t at_ns, const char *key, uint64_t value)
{
    char id[32];
    snprintf(id, sizeof id, "%" PRIu64, request_id);
    head(json, phase, name, REQUESTS_TRACK, at_ns);
    json_out_text(json, "cat", "request");
    json_out_text(json, "id", id);
    if (key) {
        json_out_object(json, "args");
        json_out_count(json, key, value);
        json_out_end(json);
    }
    json_out_end(json);
}

static const char *phase_after(uint32_t kind)
{
    switch (kind) {
    case LLM_EVENT_ADMITTED:
        return "queued";
    case LLM_EVENT_STARTED:
        return "prefill";
    case LLM_EVENT_FIRST_TOKEN:
        return "generating";
    case LLM_EVENT_PREEMPTED:
        return "preempted";
    case LLM_EVENT_RECOVERED:
        return "recovering";
    default:
        return NULL;
    }
}

static const char *value_name(uint32_t kind)
{
    switch (kind) {
    case LLM_EVENT_ADMITTED:
        return "prompt_tokens";
    case LLM_EVENT_STARTED:
        return "cached_tokens";
    case LLM_EVENT_PREEMPTED:
    case LLM_EVENT_RECOVERED:
        return "published_tokens";
    default:
        return NULL;
    }
}

/* A request that started with tokens published goes on generating: its first token is behind it. */
static const char *phase_of(const struct trace_event *event, bool first_token_seen)
{
    if (event->kind == LLM_EVENT_STARTED && first_token_seen)
        return "generating";
    return phase_after(event->kind);
}

/* All events of one request, the first of which is events[at]. */
static void write_request(struct json_out *json, const struct trace *trace, uint32_t at)
{
    uint64_t id = trace->events[at].request_id;
    char name[48];
    snprintf(name, sizeof name, "request %" PRIu64, id);
    const char *phase = NULL;
    bool first_token_seen = false, finished = false;
    write_edge(json, "b", name, id, trace->events[at].at_ns, NULL, 0);
    for (uint32_t i = at; i < trace->event_count && !finished; i++) {
        const struct trace_event *event = &trace->events[i];
        if (event->request_id != id)
            continue;
        if (phase)
            write_edge(json, "e", phase, id, event->at_ns, NULL, 0);
        first_token_seen |= event->kind == LLM_EVENT_FIRST_TOKEN ||
                            (event->kind == LLM_EVENT_RECOVERED && event->value > 0);
        finished = event->kind == LLM_EVENT_FINISHED;
        phase = finished ? NULL : phase_of(event, first_token_seen);
        if (phase)
            write_edge(json, "b", phase, id, event->at_ns, value_name(event->kind), event->value);
        if (finished)
            write_edge(json, "e", name, id, event->at_ns, "finish", event->value);
    }
    if (finished)
        return;
    if (phase)
        write_edge(json, "e", phase, id, trace->to_ns, NULL, 0);
    write_edge(json, "e", name, id, trace->to_ns, NULL, 0);
}

/* Is events[at] the first of its request? And does anything of the request lie in the time that is asked for? */
static bool begins_a_request(const struct trace *trace, uint32_t at)
{
    for (uint32_t i = 0; i < at; i++)
        if (trace->events[i].request_id == trace->events[at].request_id)
            return false;
    bool inside = true;
    for (uint32_t i = at; i < trace->event_count; i++)
        if (trace->events[i].request_id == trace->events[at].request_id)
            inside = trace->events[i].kind != LLM_EVENT_FINISHED ||
                     trace->events[i].at_ns >= trace->from_ns;
    return inside;
}

void trace_write(const struct trace *trace, const char *model_name, FILE *out)
{
    struct json_out json;
    json_out_init(&json, out);
    json_out_object(&json, NULL);
    json_out_text(&json, "displayTimeUnit", "ms");
    json_out_array(&json, "traceEvents");
    char name[LLM_NAME_BYTES + 32];
    snprintf(name, sizeof name, "engine: %s", model_name);
    write_track(&json, ENGINE_TRACK, name);
    write_track(&json, REQUESTS_TRACK, "requests");
    for (uint32_t i = 0; i < trace->step_count; i++)
        write_step(&json, &trace->steps[i]);
    for (uint32_t i = 0; i < trace->event_count; i++)
        if (begins_a_request(trace, i))
            write_request(&json, trace, i);
    json_out_end(&json);
    json_out_end(&json);
}

/* ---- The verb -------------------------------------------------------------------------------------- */

static enum llmctl_exit write_to(const struct trace *trace, const char *model_name,
                                 const char *path)
{
    struct llm_error error;
    FILE *out = path ? fopen(path, "we") : stdout;
    if (!out) {
        (void)llm_fail_errno(&error, LLM_ERR_SYSTEM, errno, "cannot write %s", path);
        return llmctl_fail(&error);
    }
    trace_write(trace, model_name, out);
    bool bad = fflush(out) != 0 || ferror(out);
    if (path)
        bad |= fclose(out) != 0;
    if (bad) {
        (void)llm_fail(&error, LLM_ERR_SYSTEM, "cannot write %s", path ? path : "the trace");
        return llmctl_fail(&error);
    }
    if (path)
        fprintf(stderr, "%u steps and %u events in %s; open it at https://ui.perfetto.dev\n",
                trace->step_count, trace->event_count, path);
    return LLMCTL_DONE;
}

enum llmctl_exit llmctl_trace(const struct arguments *arguments)
{
    struct llm_error error;
    struct status_view *view;
    const struct llm_status_file *file;
    if (daemon_look(arguments, &view, &error) != LLM_OK ||
        daemon_find(arguments, &file, &error) != LLM_OK)
        return llmctl_fail(&error);
    struct trace *trace = malloc(sizeof *trace);
    enum llmctl_exit result = LLMCTL_FAILED;
    if (trace) {
        uint64_t from_ns = arguments->last_ns > 0 && arguments->last_ns < view->taken_ns
                               ? view->taken_ns - arguments->last_ns
                               : 0;
        trace_take(trace, file, from_ns, view->taken_ns);
        result = write_to(trace, view->model_name, arguments->output_file);
    }
    free(trace);
    llm_status_close(file);
    free(view);
    return result;
}
