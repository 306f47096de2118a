/*
 * trace.h - the last steps and what happened to requests, copied out of the status file.
 *
 * Idea     The engine writes steps and events into two rings of the status file (shm/status_file.h); whoever looks copies
 *          what is whole, sorts it by time and needs nobody's help: a hung or dead engine's last steps are there.
 *          Written as a trace of Chrome's event format, which https://ui.perfetto.dev opens: steps as slices, KV blocks and
 *          the queue as counters, each request as nested spans (queued, prefill, generating, preempted).
 * Source   Trace Event Format, Google, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 * Trust    The file is hostile: numbers are only copied; an entry that changed meanwhile is left out.
 * See      `llmctl trace`, tests/tools/test_trace.c.
 */
#ifndef LLMCTL_TRACE_H
#define LLMCTL_TRACE_H

#include <stdio.h>

#include "shm/status_file.h"

struct trace_step {
    uint64_t step, started_ns;
    uint32_t duration_us, prefill_tokens, decode_tokens, sequences;
    uint32_t blocks_held, blocks_cached, requests_queued, engine_generation;
};

struct trace_event {
    uint64_t number, at_ns, request_id;
    uint32_t kind, value;
};

struct trace {
    uint64_t from_ns, to_ns; /* CLOCK_MONOTONIC; what began before `from_ns` is left out */
    uint32_t step_count, event_count;
    struct trace_step steps[LLM_STATUS_STEPS];    /* by step */
    struct trace_event events[LLM_STATUS_EVENTS]; /* by number; from before `from_ns` too */
};

/* Copy what is in the rings now. */
void trace_take(struct trace *out_trace, const struct llm_status_file *file, uint64_t from_ns,
                uint64_t to_ns);
/* One JSON object: {"traceEvents": [...]}; times in microseconds of CLOCK_MONOTONIC. */
void trace_write(const struct trace *trace, const char *model_name, FILE *out);

#endif
