/*
 * status_view.h - one look at a status file, copied so that nothing moves while it is printed.
 *
 * Idea     The file is live shared memory (shm/status_file.h); a view is plain data: rows in use, each read
 *          while its id stood still, texts printable and terminated. Every llmctl verb that shows something
 *          prints from a view, and so do the checks.
 * Owner    The caller owns the view (about 350 KiB: allocate it).
 * Trust    The file's writers may be dead or wrong: nothing read here is used as an index or a size.
 * See      tests/tools/test_status_check.c, tests/e2e/test_llmctl.c.
 */
#ifndef LLMCTL_STATUS_VIEW_H
#define LLMCTL_STATUS_VIEW_H

#include "shm/status_file.h"

struct view_connection {
    uint64_t connection_id;
    uint32_t slot;
    uint32_t pid;
    uint32_t uid;
    uint32_t gid;
    uint64_t attached_ns;
    char name[LLM_NAME_BYTES];
    uint32_t live_streams;
    uint64_t requests;
    uint64_t in_tokens;
    uint64_t out_tokens;
};

struct view_request {
    uint64_t request_id;
    uint32_t slot;
    uint32_t connection_slot;
    uint32_t phase;
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t produced_tokens;
    uint32_t max_tokens;
    uint32_t blocks;
    uint32_t deaths;
    uint64_t admitted_ns;
};

struct view_error {
    const char *from; /* "keeper", "engine" */
    uint64_t count;
    uint64_t first_ns; /* CLOCK_REALTIME, like the next */
    uint64_t last_ns;
    char text[LLM_NOTE_BYTES];
};

struct status_view {
    uint64_t taken_ns; /* CLOCK_MONOTONIC */

    /* keeper */
    uint32_t keeper_pid;
    uint32_t keeper_uid;
    uint64_t started_ns;
    char version[32];
    char socket_path[LLM_STATUS_TEXT_BYTES];
    uint32_t engine_pid;
    uint32_t daemon_state;
    uint64_t engine_generation;
    uint64_t engine_died_ns;
    uint32_t descriptors_held;
    uint32_t descriptors_baseline;
    uint32_t connections_open;

    /* engine */
    uint64_t ready_generation;
    uint64_t heartbeat_ns;
    char model_name[LLM_NAME_BYTES]; /* the default one */
    char model_names[LLM_MODELS_MAX]
                    [LLM_NAME_BYTES]; /* [model_count] all, a name once for each version */
    uint32_t model_count;
    char model_text[LLM_STATUS_TEXT_BYTES];
    char backend_text[LLM_STATUS_TEXT_BYTES];
    uint32_t block_tokens;
    uint32_t block_bytes;
    uint32_t blocks_total;
    uint32_t blocks_held;
    uint32_t blocks_cached;
    uint32_t blocks_free;
    uint32_t requests_running;
    uint32_t requests_queued;
    uint64_t weights_bytes;
    uint64_t workspace_bytes;
    uint64_t recovery_ns;
    uint64_t counters[LLM_COUNTER_COUNT];

    uint32_t connection_count;
    struct view_connection connections[LLM_STATUS_CONNECTIONS_MAX];
    uint32_t stray_streams; /* live streams on slots that no connection has */
    uint32_t request_count;
    struct view_request requests[LLM_STATUS_REQUESTS_MAX];
    uint32_t error_count;
    struct view_error errors[2 * LLM_STATUS_ERRORS]; /* newest first */
};

void status_view_take(struct status_view *out_view, const struct llm_status_file *file);

/* Is there a process with this id? False for 0. */
bool process_lives(uint32_t pid);
/* The name of an enum llm_daemon_state, also for a value that is none. */
const char *status_view_state_name(uint32_t daemon_state);
const char *status_view_phase_name(uint32_t phase);
/* The connection on a slot; NULL when there is none. */
const struct view_connection *status_view_connection(const struct status_view *view, uint32_t slot);

/* One sentence about what ails the daemon, or LLM_OK: the keeper is gone, the engine is dead, starting,
 * failed, or has shown no sign of life for seconds while it has work. */
enum llm_status status_view_health(const struct status_view *view, struct llm_error *out_sentence);

#endif
