/*
 * llm-bench throughput - many clients at once: tokens, processor time, fairness.
 *
 * One round runs every kind of reader once, for --seconds after a fifth of that (at most 0.5 s) for warming up. A row
 * is one kind; each of its figures is the median over the rounds:
 *
 *     tokens_per_s     read by all clients, per second
 *     engine_ns        processor time of all of the engine's threads per token; step_ns: of the engine thread alone
 *     delivery_ns      engine_ns, less that of the reader `late` in the same round: what it costs the engine that tokens are
 *                      read while they are made (lines taken away, wakes)
 *     client_ns        processor time of all clients per token
 *     tokens_per_step  published by one step of the engine
 *     wakes, parks     system calls that wake clients, and times the engine slept, per million tokens
 *     switches         context switches of the engine per million tokens
 *     jain, slowest    Jain's index over the clients' tokens; the slowest client's tokens per those of the fastest
 *     first            from submit to the first token's being read, of all requests
 */
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shm/clock.h"
#include "tools/bench/bench.h"
#include "tools/bench/readers.h"
#include "tools/bench/report.h"

#define UPDATE_NS     (2 * LLM_NS_PER_MS)
#define WARM_MAX_NS   (LLM_NS_PER_S / 2)
#define COUNTED_NS    (600 * LLM_NS_PER_S) /* a fixed amount of work that takes longer has failed */
#define REQUESTS_MAX  1024u
#define SEQUENCES_MAX 512u
#define BLOCK_TOKENS  16u
#define BLOCK_BYTES   (16u << 10)
#define SETTING_BYTES 64

/* ---- One round of one kind ------------------------------------------------------------------------- */

enum figure {
    TOKENS_PER_S,
    ENGINE_NS,
    STEP_NS,
    DELIVERY_NS,
    CLIENT_NS,
    TOKENS_PER_STEP,
    STEPS_PER_S,
    WAKES,
    PARKS,
    SWITCHES,
    JAIN,
    SLOWEST,
    FIRST_P50,
    FIRST_P99,
    REQUESTS,
    FIGURE_COUNT
};

struct run {
    const struct bench_options *options;
    struct machine machine;
    struct target target;
    struct reader_setup setup;
    bool kinds[READER_COUNT];
    double *figures; /* [READER_COUNT][FIGURE_COUNT][round_count] */
    uint32_t round_count;
    uint64_t run_ns;
};

/* A futex reader waits for one connection; the others share the processors beside the engine's. */
static uint32_t workers_for(const struct run *run, enum reader_kind kind)
{
    uint32_t beside_the_engine = run->machine.cpus > 1 ? run->machine.cpus - 1 : 1;
    if (run->options->workers)
        return run->options->workers;
    if (kind == READER_FUTEX || run->setup.clients < beside_the_engine)
        return run->setup.clients;
    return beside_the_engine;
}

struct snapshot {
    uint64_t at_ns, engine_ns, step_ns, client_ns, steps, wakes, parks, switches, tokens, requests;
    uint64_t *client_tokens; /* [clients] */
};

struct thread_search {
    pid_t thread;
    uint64_t cpu_ns;
};

static void find_thread(void *self, pid_t thread, const char *name, uint64_t cpu_ns)
{
    struct thread_search *search = self;
    (void)name;
    if (thread == search->thread)
        search->cpu_ns = cpu_ns;
}

static void take_snapshot(const struct run *run, const struct readers *readers,
                          struct snapshot *snapshot)
{
    struct thread_search engine = {.thread = target_engine(&run->target)};
    process_threads(engine.thread, find_thread, &engine);
    snapshot->at_ns = llm_now_ns();
    snapshot->engine_ns = process_cpu_ns(engine.thread);
    snapshot->step_ns = engine.cpu_ns;
    snapshot->client_ns = readers_cpu_ns(readers);
    snapshot->steps = target_counter(&run->target, LLM_COUNTER_STEPS);
    snapshot->wakes = target_counter(&run->target, LLM_COUNTER_WAKES);
    snapshot->parks = target_counter(&run->target, LLM_COUNTER_PARKS);
    snapshot->switches = process_switches(engine.thread);
    snapshot->tokens = snapshot->requests = 0;
    for (uint32_t c = 0; c < run->setup.clients; c++) {
        const struct reader_cell *cell = &readers->board->cells[c];
        snapshot->client_tokens[c] = atomic_load_explicit(&cell->tokens, memory_order_relaxed);
        snapshot->tokens += snapshot->client_tokens[c];
        snapshot->requests += atomic_load_explicit(&cell->requests, memory_order_relaxed);
    }
}

/* Let them run for so long, or until they have ended. */
static void let_run(struct readers *readers, uint64_t run_ns)
{
    uint64_t end_ns = llm_now_ns() + run_ns;
    do {
        nanosleep(&(struct timespec){.tv_nsec = UPDATE_NS}, NULL);
        readers_update(readers);
    } while (llm_now_ns() < end_ns && !readers_ended(readers) && !bench_interrupted());
}

static double per(uint64_t amount, uint64_t of)
{
    return of > 0 ? (double)amount / (double)of : (double)NAN;
}

static void fairness(const struct run *run, const struct snapshot *a, const struct snapshot *b,
                     double *out_jain, double *out_slowest)
{
    uint32_t count = run->setup.clients;
    double *tokens = calloc(count, sizeof *tokens), least = INFINITY, most = 0;
    *out_jain = *out_slowest = (double)NAN;
    if (!tokens)
        return;
    for (uint32_t c = 0; c < count; c++) {
        tokens[c] = (double)(b->client_tokens[c] - a->client_tokens[c]);
        least = fmin(least, tokens[c]);
        most = fmax(most, tokens[c]);
    }
    *out_jain = samples_jain(tokens, count);
    *out_slowest = most > 0 ? least / most : (double)NAN;
    free(tokens);
}

static enum llm_status first_tokens(const struct run *run, const struct readers *readers,
                                    double *out_p50, double *out_p99, struct llm_error *error)
{
    struct samples samples;
    enum llm_status status =
        samples_open(&samples, (size_t)run->setup.clients * READER_FIRSTS_MAX, error);
    if (status != LLM_OK)
        return status;
    for (uint32_t c = 0; c < run->setup.clients; c++) {
        const struct reader_cell *cell = &readers->board->cells[c];
        uint32_t count = atomic_load_explicit(&cell->first_count, memory_order_acquire);
        for (uint32_t i = 0; i < count; i++)
            samples_add(&samples, (double)cell->first_us[i]);
    }
    *out_p50 = samples_percentile(samples.values, samples.count, 0.5);
    *out_p99 = samples_percentile(samples.values, samples.count, 0.99);
    samples_close(&samples);
    return LLM_OK;
}

static void set_figures(const struct run *run, const struct snapshot *a, const struct snapshot *b,
                        double out[FIGURE_COUNT])
{
    uint64_t tokens = b->tokens - a->tokens, steps = b->steps - a->steps;
    double seconds = (double)(b->at_ns - a->at_ns) / 1e9;
    out[TOKENS_PER_S] = (double)tokens / seconds;
    out[ENGINE_NS] = per(b->engine_ns - a->engine_ns, tokens);
    out[STEP_NS] = per(b->step_ns - a->step_ns, tokens);
    out[CLIENT_NS] = per(b->client_ns - a->client_ns, tokens);
    out[TOKENS_PER_STEP] = per(tokens, steps);
    out[STEPS_PER_S] = (double)steps / seconds;
    out[WAKES] = 1e6 * per(b->wakes - a->wakes, tokens);
    out[PARKS] = 1e6 * per(b->parks - a->parks, tokens);
    out[SWITCHES] = 1e6 * per(b->switches - a->switches, tokens);
    out[REQUESTS] = (double)(b->requests - a->requests);
    fairness(run, a, b, &out[JAIN], &out[SLOWEST]);
}

static enum llm_status watch(const struct run *run, struct readers *readers, struct snapshot *a,
                             struct snapshot *b, double out[FIGURE_COUNT], struct llm_error *error)
{
    uint64_t warm_ns = run->run_ns / 5 < WARM_MAX_NS ? run->run_ns / 5 : WARM_MAX_NS;
    bool counted = run->setup.requests > 0;
    if (counted) /* a fixed amount of work: all of it counts */
        take_snapshot(run, readers, a);
    readers_go(readers);
    if (!counted) {
        let_run(readers, warm_ns);
        take_snapshot(run, readers, a);
    }
    let_run(readers, counted ? COUNTED_NS : run->run_ns);
    take_snapshot(run, readers, b);
    set_figures(run, a, b, out);
    return first_tokens(run, readers, &out[FIRST_P50], &out[FIRST_P99], error);
}

static enum llm_status measure(struct run *run, enum reader_kind kind, double out[FIGURE_COUNT],
                               struct llm_error *error)
{
    struct readers readers;
    struct llm_error close_error;
    struct snapshot a = {0}, b = {0};
    run->setup.kind = kind;
    run->setup.workers = workers_for(run, kind);
    a.client_tokens = calloc(run->setup.clients, sizeof(uint64_t));
    b.client_tokens = calloc(run->setup.clients, sizeof(uint64_t));
    enum llm_status status =
        a.client_tokens && b.client_tokens
            ? readers_open(&readers, &run->setup, &run->target, &run->machine, error)
            : llm_fail(error, LLM_ERR_MEMORY, "no memory for %u clients", run->setup.clients);
    if (status == LLM_OK && !bench_interrupted())
        status = watch(run, &readers, &a, &b, out, error);
    enum llm_status closed = readers_close(&readers, &close_error);
    if (closed != LLM_OK) {
        *error = close_error;
        status = closed;
    }
    free(a.client_tokens);
    free(b.client_tokens);
    return status;
}

/* ---- Report ---------------------------------------------------------------------------------------- */

static const struct report_column columns[] = {
    {"reader", "reader", "", REPORT_TEXT},
    {"clients", "clients", "", REPORT_COUNT},
    {"streams", "streams", "", REPORT_COUNT},
    {"workers", "workers", "", REPORT_COUNT},
    {"tokens_per_s", "tokens", "/s", REPORT_REAL},
    {"tokens_per_s_mad", "+-", "/s", REPORT_REAL},
    {"engine_ns", "engine", "ns", REPORT_REAL},
    {"step_ns", "its step", "ns", REPORT_REAL},
    {"delivery_ns", "delivery", "ns", REPORT_REAL},
    {"client_ns", "client", "ns", REPORT_REAL},
    {"tokens_per_step", "per step", "", REPORT_REAL},
    {"steps_per_s", NULL, "1/s", REPORT_REAL},
    {"wakes_per_mtoken", "wakes", "/M", REPORT_REAL},
    {"parks_per_mtoken", "parks", "/M", REPORT_REAL},
    {"switches_per_mtoken", NULL, "/M", REPORT_REAL},
    {"jain", "jain", "", REPORT_REAL},
    {"slowest", "slowest", "", REPORT_REAL},
    {"first_p50", "first p50", "us", REPORT_REAL},
    {"first_p99", "p99", "us", REPORT_REAL},
    {"requests", "requests", "", REPORT_REAL},
};

static double *rounds_of(const struct run *run, int kind, enum figure figure)
{
    return &run->figures[(kind * FIGURE_COUNT + (int)figure) * (int)run->round_count];
}

static double median_of(const struct run *run, int kind, enum figure figure)
{
    double values[RESULT_ROUNDS_MAX];
    memcpy(values, rounds_of(run, kind, figure), run->round_count * sizeof *values);
    return samples_median(values, run->round_count);
}

static double mad_of(const struct run *run, int kind, enum figure figure)
{
    double values[RESULT_ROUNDS_MAX];
    memcpy(values, rounds_of(run, kind, figure), run->round_count * sizeof *values);
    return samples_mad(values, run->round_count);
}

/* Round by round; there is none without the reader `late`. */
static void set_delivery(struct run *run)
{
    for (int kind = 0; kind < READER_COUNT; kind++)
        for (uint32_t round = 0; round < run->round_count; round++) {
            double more = rounds_of(run, kind, ENGINE_NS)[round] -
                          rounds_of(run, READER_LATE, ENGINE_NS)[round];
            bool known = kind != READER_LATE && run->kinds[READER_LATE];
            rounds_of(run, kind, DELIVERY_NS)[round] = known ? more : (double)NAN;
        }
}

static void add_row(const struct run *run, int kind, struct report *report)
{
    static const enum figure behind_mad[] = {
        ENGINE_NS, STEP_NS,  DELIVERY_NS, CLIENT_NS, TOKENS_PER_STEP, STEPS_PER_S, WAKES,
        PARKS,     SWITCHES, JAIN,        SLOWEST,   FIRST_P50,       FIRST_P99,   REQUESTS};
    report_text(report, reader_names[kind]);
    report_count(report, run->setup.clients);
    report_count(report, run->setup.streams);
    report_count(report, workers_for(run, (enum reader_kind)kind));
    report_real(report, median_of(run, kind, TOKENS_PER_S));
    report_real(report, mad_of(run, kind, TOKENS_PER_S));
    for (size_t i = 0; i < sizeof behind_mad / sizeof behind_mad[0]; i++)
        report_real(report, median_of(run, kind, behind_mad[i]));
}

static void write_report(const struct run *run)
{
    struct report report;
    report_init(&report, "throughput", columns, sizeof columns / sizeof columns[0]);
    report_set_number(&report, "rounds", run->round_count);
    report_set_number(&report, "seconds", (double)run->run_ns / 1e9);
    report_set_number(&report, "tokens", run->setup.tokens);
    report_set_number(&report, "prompt", run->setup.prompt);
    report_set_number(&report, "requests", run->setup.requests);
    report_set_text(&report, "as", run->setup.threads ? "threads" : "processes");
    report_set_number(&report, "step_us", run->options->step_us);
    report_set_text(&report, "daemon", run->options->socket ? "running" : "private");
    for (int kind = 0; kind < READER_COUNT; kind++)
        if (run->kinds[kind])
            add_row(run, kind, &report);
    report_note(&report, "Medians over the rounds. engine, its step, client: processor time per "
                         "token of the engine's threads, of");
    report_note(&report, "the engine thread alone, of the clients; /M: per million tokens; "
                         "slowest: of the fastest client's tokens;");
    report_note(&report, "delivery: engine, less that of the reader late in the same round.");
    report_write(&report, &run->machine, run->options, stdout);
    report_close(&report);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static enum llm_status choose_kinds(struct run *run, struct llm_error *error)
{
    const char *names = run->options->reader;
    for (int kind = 0; kind < READER_COUNT; kind++)
        run->kinds[kind] = !names;
    while (names && *names) {
        size_t bytes = strcspn(names, ",");
        int found = -1;
        for (int kind = 0; kind < READER_COUNT; kind++)
            if (strlen(reader_names[kind]) == bytes &&
                strncmp(reader_names[kind], names, bytes) == 0)
                found = kind;
        if (found < 0)
            return llm_fail(error, LLM_ERR_INVALID,
                            "--reader %.*s is not one of late, look, spin, futex, eventfd",
                            (int)(bytes > 40 ? 40 : bytes), names);
        run->kinds[found] = true;
        names += bytes + (names[bytes] == ',');
    }
    return LLM_OK;
}

static enum llm_status choose_setup(struct run *run, struct llm_error *error)
{
    const struct bench_options *options = run->options;
    run->setup = (struct reader_setup){
        .clients = options->clients,
        .streams = options->streams,
        .requests = options->requests,
        .tokens = options->tokens,
        .prompt = options->prompt,
        .look_us = options->look_us,
        .threads = options->threads,
    };
    if (options->workers > options->clients)
        return llm_fail(error, LLM_ERR_INVALID, "--workers %u is more than --clients %u",
                        options->workers, options->clients);
    if (run->kinds[READER_FUTEX] && options->workers && options->workers < options->clients)
        return llm_fail(error, LLM_ERR_INVALID,
                        "--reader futex needs a worker per client (%u): leave --workers away, or "
                        "name other readers",
                        run->setup.clients);
    if ((uint64_t)run->setup.clients * run->setup.streams > REQUESTS_MAX)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%u clients of %u streams are more than the %u requests a daemon holds",
                        run->setup.clients, run->setup.streams, REQUESTS_MAX);
    if (run->setup.tokens + run->setup.prompt > 8192)
        return llm_fail(error, LLM_ERR_INVALID,
                        "--prompt %u and --tokens %u do not fit the echo's context of 8192",
                        run->setup.prompt, run->setup.tokens);
    return LLM_OK;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* A private daemon has room for exactly this load. */
static enum llm_status open_target(struct run *run, struct llm_error *error)
{
    const struct reader_setup *setup = &run->setup;
    uint32_t requests = setup->clients * setup->streams;
    uint32_t sequences = requests < SEQUENCES_MAX ? requests : SEQUENCES_MAX;
    uint64_t blocks = (setup->tokens + setup->prompt) / BLOCK_TOKENS + 2;
    uint64_t pool_bytes = 2 * requests * blocks * BLOCK_BYTES;
    const struct {
        const char *key;
        uint64_t value;
    } wanted[] = {
        {"limits.requests", requests},
        {"limits.requests_per_user", requests},
        {"limits.sequences", sequences},
        {"limits.sequences_per_user", sequences},
        {"limits.step_tokens", larger(256, sequences)},
        {"limits.stream_slots", larger(64, setup->streams)},
        {"limits.log_words", larger(1024, 2ull * setup->streams * setup->tokens)},
        {"limits.connections_per_user", 1024},
        {"kv.pool_bytes", larger(64u << 20, pool_bytes)},
        {"models.echo_step_us", run->options->step_us},
    };
    enum {
        WANTED_COUNT = sizeof wanted / sizeof wanted[0]
    };
    char text[WANTED_COUNT][SETTING_BYTES];
    const char *settings[WANTED_COUNT + 1] = {NULL};
    for (int i = 0; i < WANTED_COUNT; i++) {
        snprintf(text[i], SETTING_BYTES, "%s=%llu", wanted[i].key,
                 (unsigned long long)wanted[i].value);
        settings[i] = text[i];
    }
    return target_open(&run->target, run->options->socket, settings, error);
}

static enum llm_status open_run(struct run *run, struct llm_error *error)
{
    const struct bench_options *options = run->options;
    run->round_count = options->quick ? 2 : options->rounds;
    run->run_ns = (uint64_t)((options->quick ? 0.05 : options->seconds) * 1e9);
    run->figures =
        calloc((size_t)READER_COUNT * FIGURE_COUNT * run->round_count, sizeof *run->figures);
    if (!run->figures)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u rounds", run->round_count);
    machine_raise_descriptors();
    enum llm_status status = machine_open(&run->machine, options->cpus, options->fifo, error);
    if (status == LLM_OK)
        status = choose_kinds(run, error);
    if (status == LLM_OK)
        status = choose_setup(run, error);
    if (status == LLM_OK)
        status = open_target(run, error);
    if (status == LLM_OK)
        target_pin(&run->target, &run->machine);
    return status;
}

enum llm_status bench_throughput(const struct bench_options *options, struct llm_error *error)
{
    struct run run = {.options = options};
    enum llm_status status = open_run(&run, error);
    for (uint32_t round = 0; round < run.round_count && status == LLM_OK; round++)
        for (int kind = 0; kind < READER_COUNT && status == LLM_OK && !bench_interrupted();
             kind++) {
            double figures[FIGURE_COUNT] = {0};
            if (!run.kinds[kind])
                continue;
            status = measure(&run, (enum reader_kind)kind, figures, error);
            for (int figure = 0; figure < FIGURE_COUNT; figure++)
                run.figures[(kind * FIGURE_COUNT + figure) * (int)run.round_count + (int)round] =
                    figures[figure];
        }
    if (status == LLM_OK && !bench_interrupted()) {
        set_delivery(&run);
        write_report(&run);
    }
    target_close(&run.target);
    free(run.figures);
    return status;
}

#define COUNT(name, text, field, least, most, sentence)                                        \
    {                                                                                          \
        name, text, OPTION_COUNT, offsetof(struct bench_options, field), least, most, sentence \
    }

const struct option_row throughput_options[] = {
    {"reader", "KINDS", OPTION_TEXT, offsetof(struct bench_options, reader), 0, 0,
     "late, look, spin, futex, eventfd; default: all"},
    COUNT("clients", "N", clients, 1, 1024, "connections"),
    COUNT("streams", "N", streams, 1, 1024, "requests at once on each connection"),
    COUNT("requests", "N", requests, 0, 1000000,
          "per stream, however long they take; 0: as many as fit the time"),
    COUNT("tokens", "N", tokens, 1, 8191, "of each answer"),
    COUNT("prompt", "N", prompt, 1, 8191, "tokens of each prompt"),
    COUNT("workers", "N", workers, 1, 1024,
          "processes that the clients are spread over; default: futex one per client, others one "
          "per processor beside the engine's"),
    {"threads", NULL, OPTION_FLAG, offsetof(struct bench_options, threads), 0, 0,
     "the workers are threads instead"},
    COUNT("look-us", "N", look_us, 1, 1000000,
          "how often reader look looks; default: once per step, as measured"),
    COUNT("step-us", "N", step_us, 0, 1000000, "how long a step of the private daemon takes"),
    {NULL, NULL, OPTION_FLAG, 0, 0, 0, NULL},
};
