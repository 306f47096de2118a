/*
 * report.h - the engine's part of the status file.
 *
 * Idea     Counters, rows and the step recorder are stores into a page that nobody waits for; llmctl reads them
 *          by itself. A new engine goes on counting where the last one stopped.
 * Threads  The engine thread, except the wake counter (egress.h).
 * See      shm/status_file.h.
 */
#ifndef LLMD_ENGINE_REPORT_H
#define LLMD_ENGINE_REPORT_H

#include <stdint.h>

#include "daemon/core/core.h"
#include "shm/status_file.h"

struct connection;
struct engine;

/* What is served and where, before `ready`; rows of an earlier engine are cleared. */
void report_opened(struct engine *engine);
/* A failed CHECK prints the last steps before it ends the process. */
void report_on_failed_check(const struct engine *engine);
void report_ready(struct engine *engine, uint64_t recovery_ns);

/* The engine thread's counters have one writer: no locked instruction, which would wait for a step's stores to the logs. */
void report_count(struct engine *engine, enum llm_counter counter, uint64_t more);
void report_error(struct engine *engine, const char *text);

void report_attached(struct engine *engine, const struct connection *connection);
void report_detached(struct engine *engine, uint32_t connection_slot);

void report_admitted(struct engine *engine, uint32_t slot);
void report_recovered(struct engine *engine, uint32_t slot);
/* `first`: not after a preemption or an engine's death, when the tokens found count for nothing. */
void report_started(struct engine *engine, uint32_t slot, uint32_t cached_tokens, bool first);
void report_preempted(struct engine *engine, uint32_t slot);
/* `more` tokens were published, `produced_tokens` in all. */
void report_tokens(struct engine *engine, uint32_t slot, uint32_t produced_tokens, uint32_t more);
void report_finished(struct engine *engine, uint32_t slot, enum core_finish finish);

/* A step is done: the recorder, the counts of blocks and requests, the heartbeat. */
void report_step(struct engine *engine, const struct core_plan *plan, uint64_t started_ns);
/* The same counts when something changed without a step. */
void report_counts(struct engine *engine);

/* What names stand for has changed. */
void report_names(struct engine *engine);
/* A request of that model begins (`more_requests` 1) or ends. */
void report_model(struct engine *engine, uint32_t model, uint32_t more_requests);

#endif
