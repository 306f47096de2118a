/*
 * bench.h - llm-bench: what one run measures, and the verbs that measure it.
 *
 * Idea     A verb is a function from options to a report (report.h). Every number in a report is computed from
 *          samples of this run (samples.h); what it is compared with was measured in the same run, in turns.
 * Exit     0 done, 1 failed, 2 usage, 3 no daemon, 130 interrupted.
 * See      README.md (what each figure means), docs/PERFORMANCE.md (how to measure).
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/status.h"
#include "tools/bench/options.h"

enum bench_exit {
    BENCH_DONE = 0,
    BENCH_FAILED = 1,
    BENCH_USAGE = 2,
    BENCH_NO_DAEMON = 3,
    BENCH_INTERRUPTED = 130
};

struct bench_verb {
    const char *name;
    const char *sentence;
    const struct option_row *options; /* its own; options_common is always understood */
    struct bench_options initial;
    enum llm_status (*run)(const struct bench_options *options, struct llm_error *error);
};
extern const struct bench_verb bench_verbs[]; /* up to a row without a name */

enum llm_status bench_ipc(const struct bench_options *options, struct llm_error *error);
enum llm_status bench_throughput(const struct bench_options *options, struct llm_error *error);
enum llm_status bench_connections(const struct bench_options *options, struct llm_error *error);
enum llm_status bench_contexts(const struct bench_options *options, struct llm_error *error);
enum llm_status bench_flood(const struct bench_options *options, struct llm_error *error);
enum llm_status bench_ops(const struct bench_options *options, struct llm_error *error);
enum llm_status bench_sim(const struct bench_options *options, struct llm_error *error);

extern const struct option_row ipc_options[], throughput_options[], connections_options[],
    contexts_options[], flood_options[], ops_options[], sim_options[];

/* Whether SIGINT or SIGTERM arrived: loops end, what was started is taken down, exit code 130. */
bool bench_interrupted(void);
/* In a child of fork(): signals end it again, and it dies with the bench. */
void bench_child_begins(void);

#endif
