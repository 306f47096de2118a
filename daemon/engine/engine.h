/*
 * engine.h - the process that computes, and may die at any instruction.
 *
 * Idea     One thread does everything that changes state: it takes in submissions, asks the core for a plan,
 *          lets an executor run it, mirrors what the core says into the keeper's tables and publishes. What
 *          must survive is in those tables before anybody is told about it; what is here is derived from them.
 * Owner    Everything is taken in engine_open(), before the first request; nothing is taken afterwards.
 * Threads  The engine thread owns this struct. The egress thread (egress.h) sees only its own part.
 * See      step.h (the loop), daemon/engine/README.md (life of a request), notes on recovery in recovery.h.
 */
#ifndef LLMD_ENGINE_ENGINE_H
#define LLMD_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config.h"
#include "daemon/core/core.h"
#include "daemon/engine/connection.h"
#include "daemon/engine/contexts.h"
#include "daemon/engine/drain.h"
#include "daemon/engine/egress.h"
#include "daemon/engine/executor.h"
#include "daemon/engine/kept.h"
#include "daemon/engine/link.h"
#include "daemon/engine/models.h"
#include "daemon/engine/pace.h"
#include "daemon/engine/parking.h"
#include "daemon/engine/request.h"
#include "daemon/engine/tables.h"
#include "daemon/engine/users.h"
#include "shm/status_file.h"

#define ENGINE_POOL_NAME "kvpool" /* the kept memory of the KV blocks */

struct engine {
    /* constant after engine_open() */
    struct config config;
    uint64_t generation;
    struct link link;
    struct kept kept;
    struct tables tables;
    struct llm_ctl *ctl;
    struct llm_status_file *status;
    struct kernel_stream *stream;                  /* the backend; NULL when no model needs one */
    struct executor *executors[ENGINE_MODELS_MAX]; /* index: the core's model */
    uint32_t executor_count;                       /* one past the last slot that has a model */
    unsigned char *chain_key;                      /* kept: chain values outlive an engine */
    struct core *core;
    struct executor_choice *choices; /* [limits.sequences] of the step that runs */
    struct core_result *results;
    float *scores;        /* [limits.step_tokens] of its rows */
    struct llm_top *tops; /* [limits.step_tokens][LLM_TOP_LOGPROBS_MAX] of those that want them */
    /* engine thread */
    struct connection *connections; /* [LLM_STATUS_CONNECTIONS_MAX] by slot */
    uint32_t connection_end;        /* one past the highest slot in use */
    struct request *requests;       /* [tables.request_slots] by slot */
    uint32_t requests_live;
    uint32_t requests_in_line; /* of those, waiting for their trial (recovery.h) */
    uint32_t trial_slot;       /* whose trial it is; REQUEST_NONE: nobody's */
    uint64_t next_request_id;
    uint64_t next_deadline_ns; /* no request's deadline is earlier */
    struct contexts contexts;
    uint64_t next_lease_ns; /* no context's lease ends earlier; CLOCK_BOOTTIME */
    struct connection
        *unannounced; /* streams of it moved; its hints are not announced (publish.c) */
    uint64_t steps;
    uint64_t events;   /* recorded in the status file */
    uint64_t shown_ns; /* when the status file last got what a step changes in passing */
    uint64_t preemptions_counted, evictions_counted; /* of the core's, in the status file */
    bool stopping;
    struct models models; /* the set is constant; names change */
    struct drain drain;
    struct users users;
    struct pace pace;
    uint32_t intake_turn; /* moves the hot connection that a pass begins with */
    struct parking parking;
    struct egress egress;
};

/* Read the manifest, open models and tables, recover what an earlier engine left. On failure the process is to
 * end; the sentence goes to the keeper. */
enum llm_status engine_open(struct engine *engine, int channel, const struct config *config,
                            struct llm_error *error) LLM_MUST_CHECK;
/* Tell the keeper that it serves. */
enum llm_status engine_ready(struct engine *engine, struct llm_error *error) LLM_MUST_CHECK;
void engine_close(struct engine *engine);

#endif
