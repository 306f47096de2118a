/*
 * llm-bench contexts - what a call on a long context takes, beside a round trip that does nothing.
 *
 * A context of --tokens tokens, computed once; then, in every round and for a spinning and a sleeping client, each point
 * in turn for --seconds. A sample follows an untimed llm_ping(), so that the engine is awake and has nothing left to do.
 *
 *     ping         llm_ping(): slot, submit, answer, reading
 *     fork         llm_context_fork(), from the call to its return; fork_close: with llm_context_close() of the fork
 *     fork_at      llm_context_fork_at() in the middle
 *     open         llm_context_open() by name
 *     append       llm_context_append() of 16 tokens; rewind: llm_context_rewind() that drops them again
 *     read         llm_context_read() of 1,024 ids from the middle
 *     branch       llm_context_branch() of 16 that generate one token each, until the last of them has been read
 *     publish      llm_context_publish() of a fork
 *     forks        --forks forks, one behind the other, nothing in between: time for each; then all are held:
 *     blocks       blocks held or cached that they added, for each
 *     bytes        bytes of all entries of llm_memory_ledger() that they added, for each
 *     engine_bytes resident memory that they added to the engine, for each: pages touched for the first time. Later rounds
 *                  find them touched, so it is the largest of all rounds
 *
 * `engine` is the median over the rounds of p50 less the p50 of ping in the same round: what the engine itself spends, and
 * the client on its handle and record.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/clock.h"
#include "tools/bench/bench.h"
#include "tools/bench/report.h"
#include "tools/bench/samples.h"
#include "tools/bench/target.h"

#define SAMPLES_MAX     (1u << 17)
#define SAMPLES_LEAST   16u /* taken however short the time is */
#define PING_NS         (10 * LLM_NS_PER_S)
#define SHOWN_NS        (20 * LLM_NS_PER_MS) /* the status file shows what is by then */
#define BASE_NAME       "bench/base"
#define FORK_NAME       "bench/fork"
#define APPENDED        16u
#define READ_IDS        1024u
#define BRANCHES        16u
#define CHUNK_TOKENS    65536u
#define ECHO_TOKENS     131072u /* the context's longest length, where --tokens needs no more */
#define BEHIND_TOKENS   1024u   /* left free behind --tokens */
#define LEDGER_CAPACITY 64u

enum point_id {
    PING,
    FORK,
    FORK_CLOSE,
    FORK_AT,
    OPEN,
    APPEND,
    REWIND,
    READ,
    BRANCH,
    PUBLISH,
    FORKS,
    POINT_COUNT
};

static const char *const point_names[POINT_COUNT] = {
    "ping",   "fork", "fork_close", "fork_at", "open",  "append",
    "rewind", "read", "branch",     "publish", "forks",
};

enum client_kind {
    CLIENT_SPIN,
    CLIENT_FUTEX,
    CLIENT_COUNT
};

static const char *const client_names[CLIENT_COUNT] = {"spin", "futex"};
static const enum llm_wait client_waits[CLIENT_COUNT] = {LLM_WAIT_SPIN, LLM_WAIT_FUTEX};

struct client {
    llm_connection *connection;
    llm_context *base; /* of --tokens tokens; the first client's own, the others' by name */
};

struct growth {          /* for each of the forks */
    double blocks;       /* held or cached */
    double bytes;        /* in the ledger */
    double engine_bytes; /* resident */
};

struct run {
    const struct bench_options *options;
    struct machine machine;
    struct target target;
    struct client clients[CLIENT_COUNT];
    uint32_t tokens, forks, round_count;
    uint64_t run_ns;
    struct samples samples;
    llm_context **held;     /* [forks] */
    struct summary *rounds; /* [CLIENT_COUNT][POINT_COUNT][round_count] */
    struct growth *growth;  /* [CLIENT_COUNT][round_count] */
    uint32_t ids[READ_IDS]; /* what is appended and read */
};

/* ---- Samples --------------------------------------------------------------------------------------- */

/* One sample of a point: the calls that are timed and those that put everything back. `out_ns`: what it took. */
typedef enum llm_status sample_fn(struct run *run, struct client *client, double *out_ns,
                                  struct llm_error *error);

static double since(uint64_t start_ns)
{
    return (double)(llm_now_ns() - start_ns);
}

static enum llm_status sample_ping(struct run *run, struct client *client, double *out_ns,
                                   struct llm_error *error)
{
    (void)run;
    uint64_t start_ns = llm_now_ns();
    enum llm_status status = llm_ping(client->connection, PING_NS, error);
    *out_ns = since(start_ns);
    return status;
}

static enum llm_status sample_fork(struct run *run, struct client *client, double *out_ns,
                                   struct llm_error *error)
{
    (void)run;
    llm_context *fork = NULL;
    uint64_t start_ns = llm_now_ns();
    enum llm_status status = llm_context_fork(client->base, &fork, error);
    *out_ns = since(start_ns);
    llm_context_close(fork);
    return status;
}

static enum llm_status sample_fork_close(struct run *run, struct client *client, double *out_ns,
                                         struct llm_error *error)
{
    (void)run;
    llm_context *fork = NULL;
    uint64_t start_ns = llm_now_ns();
    enum llm_status status = llm_context_fork(client->base, &fork, error);
    llm_context_close(fork);
    *out_ns = since(start_ns);
    return status;
}

static enum llm_status sample_fork_at(struct run *run, struct client *client, double *out_ns,
                                      struct llm_error *error)
{
    llm_context *fork = NULL;
    uint64_t start_ns = llm_now_ns();
    enum llm_status status = llm_context_fork_at(client->base, run->tokens / 2, &fork, error);
    *out_ns = since(start_ns);
    llm_context_close(fork);
    return status;
}

static enum llm_status sample_open(struct run *run, struct client *client, double *out_ns,
                                   struct llm_error *error)
{
    (void)run;
    llm_context *opened = NULL;
    uint64_t start_ns = llm_now_ns();
    enum llm_status status = llm_context_open(client->connection, BASE_NAME, &opened, error);
    *out_ns = since(start_ns);
    llm_context_close(opened);
    return status;
}

static enum llm_status sample_append(struct run *run, struct client *client, double *out_ns,
                                     struct llm_error *error)
{
    uint64_t start_ns = llm_now_ns();
    enum llm_status status = llm_context_append(client->base, run->ids, APPENDED, error);
    *out_ns = since(start_ns);
    return status == LLM_OK ? llm_context_rewind(client->base, run->tokens, error) : status;
}

static enum llm_status sample_rewind(struct run *run, struct client *client, double *out_ns,
                                     struct llm_error *error)
{
    enum llm_status status = llm_context_append(client->base, run->ids, APPENDED, error);
    uint64_t start_ns = llm_now_ns();
    if (status == LLM_OK)
        status = llm_context_rewind(client->base, run->tokens, error);
    *out_ns = since(start_ns);
    return status;
}

static enum llm_status sample_read(struct run *run, struct client *client, double *out_ns,
                                   struct llm_error *error)
{
    uint32_t count = 0;
    uint64_t start_ns = llm_now_ns();
    enum llm_status status = llm_context_read(client->base, (run->tokens - READ_IDS) / 2, run->ids,
                                              READ_IDS, &count, error);
    *out_ns = since(start_ns);
    if (status == LLM_OK && count != READ_IDS)
        return llm_fail(error, LLM_ERR_PEER, "%u ids were read where there are %u", count,
                        READ_IDS);
    return status;
}

static enum llm_status read_to_end(llm_stream *stream, struct llm_error *error)
{
    uint32_t token, count;
    enum llm_status status;
    do
        status = llm_stream_read(stream, &token, NULL, 1, PING_NS, &count, error);
    while (status == LLM_OK && count > 0);
    return status;
}

static enum llm_status sample_branch(struct run *run, struct client *client, double *out_ns,
                                     struct llm_error *error)
{
    llm_branch branches[BRANCHES];
    llm_stream *streams[BRANCHES] = {NULL};
    for (uint32_t i = 0; i < BRANCHES; i++)
        branches[i] = (llm_branch){.tokens = &run->ids[i],
                                   .token_count = 1,
                                   .sampling = {.max_tokens = 1, .ignore_eos = true}};
    uint64_t start_ns = llm_now_ns();
    enum llm_status status = llm_context_branch(client->base, branches, BRANCHES, streams, error);
    for (uint32_t i = 0; i < BRANCHES && status == LLM_OK; i++)
        status = read_to_end(streams[i], error);
    *out_ns = since(start_ns);
    for (uint32_t i = 0; i < BRANCHES; i++)
        llm_stream_close(streams[i]);
    return status;
}

static enum llm_status sample_publish(struct run *run, struct client *client, double *out_ns,
                                      struct llm_error *error)
{
    (void)run;
    llm_context *fork = NULL;
    enum llm_status status = llm_context_fork(client->base, &fork, error);
    uint64_t start_ns = llm_now_ns();
    if (status == LLM_OK)
        status = llm_context_publish(fork, FORK_NAME, NULL, error);
    *out_ns = since(start_ns);
    if (status == LLM_OK)
        status = llm_context_remove(fork, error);
    llm_context_close(fork);
    return status;
}

static sample_fn *const sample_fns[FORKS] = {
    sample_ping,   sample_fork,   sample_fork_close, sample_fork_at, sample_open,
    sample_append, sample_rewind, sample_read,       sample_branch,  sample_publish,
};

/* ---- Many forks at once ---------------------------------------------------------------------------- */

struct account {
    uint64_t blocks, bytes, engine_bytes;
};

/* What the daemon holds now; the status file shows it a moment later. */
static enum llm_status take_account(struct run *run, struct client *client,
                                    struct account *out_account, struct llm_error *error)
{
    llm_ledger_entry entries[LEDGER_CAPACITY];
    uint32_t cursor = 0, count = 0;
    uint64_t bytes = 0;
    enum llm_status status;
    nanosleep(&(struct timespec){.tv_nsec = (long)SHOWN_NS}, NULL);
    do {
        status =
            llm_memory_ledger(client->connection, &cursor, entries, LEDGER_CAPACITY, &count, error);
        for (uint32_t i = 0; i < count && status == LLM_OK; i++) {
            bool free_blocks = entries[i].part == LLM_MEMORY_POOL && entries[i].state == 0;
            bytes += free_blocks ? 0 : entries[i].bytes;
        }
    } while (status == LLM_OK && count > 0);
    const struct llm_status_engine *engine = &run->target.status->engine;
    *out_account = (struct account){
        .blocks = (uint64_t)atomic_load(&engine->blocks_held) + atomic_load(&engine->blocks_cached),
        .bytes = bytes,
        .engine_bytes = process_memory(target_engine(&run->target)).rss_bytes,
    };
    return status;
}

static double grown(const struct run *run, uint64_t before, uint64_t after)
{
    return (double)(int64_t)(after - before) / run->forks;
}

static enum llm_status measure_forks(struct run *run, struct client *client,
                                     struct growth *out_growth, struct llm_error *error)
{
    struct account before, after;
    memset(run->held, 0, run->forks * sizeof(llm_context *));
    samples_reset(&run->samples);
    enum llm_status status = take_account(run, client, &before, error);
    if (status == LLM_OK)
        status = llm_ping(client->connection, PING_NS, error);
    for (uint32_t i = 0; i < run->forks && status == LLM_OK && !bench_interrupted(); i++) {
        uint64_t start_ns = llm_now_ns();
        status = llm_context_fork(client->base, &run->held[i], error);
        samples_add(&run->samples, since(start_ns));
    }
    if (status == LLM_OK)
        status = take_account(run, client, &after, error);
    if (status == LLM_OK)
        *out_growth = (struct growth){
            .blocks = grown(run, before.blocks, after.blocks),
            .bytes = grown(run, before.bytes, after.bytes),
            .engine_bytes = grown(run, before.engine_bytes, after.engine_bytes),
        };
    for (uint32_t i = 0; i < run->forks; i++) {
        llm_context_close(run->held[i]);
        if (status ==
            LLM_OK) /* until the engine has ended it: no call of the next point shall ask for that */
            status = llm_ping(client->connection, PING_NS, error);
    }
    return status;
}

/* ---- A round --------------------------------------------------------------------------------------- */

static bool more(const struct run *run, uint64_t end_ns)
{
    return !bench_interrupted() && !samples_full(&run->samples) &&
           (llm_now_ns() < end_ns || run->samples.count < SAMPLES_LEAST);
}

static enum llm_status measure_point(struct run *run, struct client *client, sample_fn *sample,
                                     struct llm_error *error)
{
    uint64_t end_ns = llm_now_ns() + run->run_ns;
    enum llm_status status = LLM_OK;
    double taken_ns;
    samples_reset(&run->samples);
    while (status == LLM_OK && more(run, end_ns)) {
        status = llm_ping(client->connection, PING_NS, error);
        if (status == LLM_OK)
            status = sample(run, client, &taken_ns, error);
        if (status == LLM_OK)
            samples_add(&run->samples, taken_ns);
    }
    return status;
}

static struct summary *rounds_of(const struct run *run, int kind, int point)
{
    return &run->rounds[(size_t)(kind * POINT_COUNT + point) * run->round_count];
}

static enum llm_status measure_round(struct run *run, uint32_t round, struct llm_error *error)
{
    enum llm_status status = LLM_OK;
    for (int point = 0; point < POINT_COUNT && status == LLM_OK; point++)
        for (int kind = 0; kind < CLIENT_COUNT && status == LLM_OK; kind++) {
            struct client *client = &run->clients[kind];
            if (bench_interrupted())
                return LLM_OK;
            if (point == FORKS)
                status = measure_forks(
                    run, client, &run->growth[(uint32_t)kind * run->round_count + round], error);
            else
                status = measure_point(run, client, sample_fns[point], error);
            rounds_of(run, kind, point)[round] = samples_summarise(&run->samples);
        }
    return status;
}

/* ---- Report ---------------------------------------------------------------------------------------- */

static const struct report_column columns[] = {
    {"point", "point", "", REPORT_TEXT},
    {"client", "client", "", REPORT_TEXT},
    {"p50", "p50", "us", REPORT_REAL},
    {"p99", "p99", "us", REPORT_REAL},
    {"p999", NULL, "us", REPORT_REAL},
    {"min", "min", "us", REPORT_REAL},
    {"mean", NULL, "us", REPORT_REAL},
    {"p50_mad", "+-", "us", REPORT_REAL},
    {"p50_iqr", NULL, "us", REPORT_REAL},
    {"engine", "engine", "us", REPORT_REAL},
    {"blocks", "blocks", "", REPORT_REAL},
    {"bytes", "bytes", "B", REPORT_REAL},
    {"engine_bytes", "engine bytes", "B", REPORT_REAL},
    {"samples", "samples", "", REPORT_COUNT},
    {"rounds", NULL, "", REPORT_COUNT},
};

/* Median over the rounds of p50 less the ping's. */
static double beyond_ping(const struct run *run, int kind, int point)
{
    double values[RESULT_ROUNDS_MAX];
    const struct summary *rounds = rounds_of(run, kind, point), *pings = rounds_of(run, kind, PING);
    for (uint32_t round = 0; round < run->round_count; round++)
        values[round] = (rounds[round].p50 - pings[round].p50) / 1e3;
    return samples_median(values, run->round_count);
}

static struct growth largest_growth(const struct run *run, int kind)
{
    const struct growth *rounds = &run->growth[(uint32_t)kind * run->round_count];
    struct growth largest = rounds[0];
    for (uint32_t round = 1; round < run->round_count; round++) {
        largest.blocks = fmax(largest.blocks, rounds[round].blocks);
        largest.bytes = fmax(largest.bytes, rounds[round].bytes);
        largest.engine_bytes = fmax(largest.engine_bytes, rounds[round].engine_bytes);
    }
    return largest;
}

static void add_row(const struct run *run, int kind, int point, struct report *report)
{
    const struct result result = samples_result(rounds_of(run, kind, point), run->round_count);
    struct growth growth = {(double)NAN, (double)NAN, (double)NAN};
    if (point == FORKS)
        growth = largest_growth(run, kind);
    report_text(report, point_names[point]);
    report_text(report, client_names[kind]);
    report_real(report, result.p50 / 1e3);
    report_real(report, result.p99 / 1e3);
    report_real(report, result.p999 / 1e3);
    report_real(report, result.min / 1e3);
    report_real(report, result.mean / 1e3);
    report_real(report, result.p50_mad / 1e3);
    report_real(report, result.p50_iqr / 1e3);
    report_real(report, point == PING ? (double)NAN : beyond_ping(run, kind, point));
    report_real(report, growth.blocks);
    report_real(report, growth.bytes);
    report_real(report, growth.engine_bytes);
    report_count(report, result.count);
    report_count(report, result.rounds);
}

static void write_report(const struct run *run)
{
    struct report report;
    report_init(&report, "contexts", columns, sizeof columns / sizeof columns[0]);
    report_set_number(&report, "rounds", run->round_count);
    report_set_number(&report, "seconds", (double)run->run_ns / 1e9);
    report_set_number(&report, "tokens", run->tokens);
    report_set_number(&report, "forks", run->forks);
    report_set_number(&report, "branches", BRANCHES);
    for (int kind = 0; kind < CLIENT_COUNT; kind++)
        for (int point = 0; point < POINT_COUNT; point++)
            add_row(run, kind, point, &report);
    report_note(&report, "p50, p99: medians over the rounds; min: of all; +-: median absolute "
                         "deviation of the rounds' p50;");
    report_note(&report, "engine: p50 less that of ping in the same round; blocks, bytes: that "
                         "one of the forks adds to the pool,");
    report_note(&report, "to all entries of the ledger, and (engine bytes) to what the engine has "
                         "resident; largest of all rounds.");
    report_write(&report, &run->machine, run->options, stdout);
    report_close(&report);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static enum llm_status append_all(const struct run *run, llm_context *context,
                                  struct llm_error *error)
{
    uint32_t *ids = malloc(CHUNK_TOKENS * sizeof *ids);
    enum llm_status status = LLM_OK;
    if (!ids)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u ids", CHUNK_TOKENS);
    for (uint32_t done = 0; done < run->tokens && status == LLM_OK;) {
        uint32_t left = run->tokens - done, count = left < CHUNK_TOKENS ? left : CHUNK_TOKENS;
        for (uint32_t i = 0; i < count; i++)
            ids[i] = 3 + (done + i) * 7 % 250;
        status = llm_context_append(context, ids, count, error);
        done += count;
    }
    free(ids);
    return status;
}

static enum llm_status make_base(struct run *run, struct llm_error *error)
{
    struct client *first = &run->clients[0];
    enum llm_status status = llm_context_create(first->connection, NULL, &first->base, error);
    if (status == LLM_OK)
        status = append_all(run, first->base, error);
    if (status == LLM_OK)
        status = llm_context_compute(first->base, error);
    if (status == LLM_OK)
        status = llm_context_publish(first->base, BASE_NAME, NULL, error);
    for (int kind = 1; kind < CLIENT_COUNT && status == LLM_OK; kind++)
        status = llm_context_open(run->clients[kind].connection, BASE_NAME,
                                  &run->clients[kind].base, error);
    return status;
}

/* A private daemon that has room for the context, its forks (each counted in full) and their branches. */
static enum llm_status open_target(struct run *run, struct llm_error *error)
{
    uint32_t longest = run->tokens + BEHIND_TOKENS;
    char length[64], contexts[64], of_user[64], tokens[64];
    const char *settings[] = {
        length, contexts, of_user, tokens, "kv.pool_bytes=2GiB", "limits.sequences=72", NULL};
    snprintf(length, sizeof length, "models.echo_context_tokens=%u",
             longest < ECHO_TOKENS ? ECHO_TOKENS : longest);
    snprintf(contexts, sizeof contexts, "limits.contexts=%u", run->forks + 2 * BRANCHES + 64);
    snprintf(of_user, sizeof of_user, "limits.contexts_per_user=%u",
             run->forks + 2 * BRANCHES + 64);
    snprintf(tokens, sizeof tokens, "limits.context_tokens_per_user=%llu",
             (unsigned long long)longest * (run->forks + 2 * BRANCHES + 64));
    return target_open(&run->target, NULL, settings, error);
}

static enum llm_status open_run(struct run *run, struct llm_error *error)
{
    const struct bench_options *options = run->options;
    run->round_count = options->quick ? 2 : options->rounds;
    run->run_ns = (uint64_t)((options->quick ? 0.005 : options->seconds) * 1e9);
    run->tokens = options->quick && options->tokens > 4096 ? 4096 : options->tokens;
    run->forks = options->quick && options->forks > 50 ? 50 : options->forks;
    if (options->socket)
        return llm_fail(error, LLM_ERR_INVALID,
                        "contexts are measured on a private daemon: leave --socket away");
    run->rounds =
        calloc((size_t)CLIENT_COUNT * POINT_COUNT * run->round_count, sizeof *run->rounds);
    run->growth = calloc((size_t)CLIENT_COUNT * run->round_count, sizeof *run->growth);
    run->held = calloc(run->forks, sizeof(llm_context *));
    if (!run->rounds || !run->growth || !run->held)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u rounds", run->round_count);
    for (uint32_t i = 0; i < READ_IDS; i++)
        run->ids[i] = 3 + i;
    enum llm_status status = machine_open(&run->machine, options->cpus, options->fifo, error);
    if (status == LLM_OK)
        status = samples_open(&run->samples, SAMPLES_MAX, error);
    if (status == LLM_OK)
        status = open_target(run, error);
    for (int kind = 0; kind < CLIENT_COUNT && status == LLM_OK; kind++)
        status =
            target_connect(&run->target, client_waits[kind], &run->clients[kind].connection, error);
    if (status == LLM_OK)
        status = make_base(run, error);
    if (status == LLM_OK) {
        target_pin(&run->target, &run->machine);
        machine_pin(&run->machine, 0, 0);
    }
    return status;
}

static void close_run(struct run *run)
{
    for (int kind = 0; kind < CLIENT_COUNT; kind++) {
        llm_context_close(run->clients[kind].base);
        llm_disconnect(run->clients[kind].connection);
    }
    target_close(&run->target);
    samples_close(&run->samples);
    free(run->held);
    free(run->growth);
    free(run->rounds);
}

enum llm_status bench_contexts(const struct bench_options *options, struct llm_error *error)
{
    struct run run = {.options = options};
    enum llm_status status = open_run(&run, error);
    for (uint32_t round = 0; round < run.round_count && status == LLM_OK && !bench_interrupted();
         round++)
        status = measure_round(&run, round, error);
    if (status == LLM_OK && !bench_interrupted())
        write_report(&run);
    close_run(&run);
    return status;
}

const struct option_row contexts_options[] = {
    {"tokens", "N", OPTION_COUNT, offsetof(struct bench_options, tokens), 2 * READ_IDS, 1000000,
     "of the context that is forked, read, branched"},
    {"forks", "N", OPTION_COUNT, offsetof(struct bench_options, forks), 1, 60000,
     "held at once to see what they take"},
    {NULL, NULL, OPTION_FLAG, 0, 0, 0, NULL},
};
