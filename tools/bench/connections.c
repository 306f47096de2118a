/*
 * llm-bench connections - what it costs to attach, and to be attached and silent.
 *
 * A round: the daemon idle without clients, then --count connections attached one after the other and held, then the
 * daemon idle with them, then all away again. The connections are held by this process.
 *
 *     attach      llm_connect(): socket, five descriptors, two mappings
 *     no_op       the first no-op of each connection, engine asleep or not
 *     *_kib       memory per connection: proportional set size (every page counted once, shared ones in parts) of the
 *                 keeper, of the engine and of this process with all connections held, less that with none
 *     idle_0, idle_n   processor time of keeper and engine while nobody asks anything, in percent of one core
 *     switches_n  context switches of keeper and engine per second meanwhile
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "tools/bench/bench.h"
#include "tools/bench/report.h"
#include "tools/bench/samples.h"
#include "tools/bench/target.h"

#define SETTLE_NS   (200 * LLM_NS_PER_MS) /* what detaching left to do is done by then */
#define DETACHED_NS (30 * LLM_NS_PER_S)
#define PING_NS     (10 * LLM_NS_PER_S)

enum figure {
    ATTACH_P50,
    ATTACH_P99,
    ATTACH_MAX,
    NO_OP_P50,
    NO_OP_P99,
    KEEPER_KIB,
    ENGINE_KIB,
    CLIENT_KIB,
    IDLE_0,
    IDLE_N,
    SWITCHES_N,
    FIGURE_COUNT
};

struct run {
    const struct bench_options *options;
    struct machine machine;
    struct target target;
    uint32_t count, round_count;
    uint64_t idle_ns;
    llm_connection **connections; /* [count] */
    struct samples attach, no_op;
    double *figures; /* [FIGURE_COUNT][round_count] */
};

static void sleep_ns(uint64_t ns)
{
    uint64_t end_ns = llm_now_ns() + ns;
    while (llm_now_ns() < end_ns && !bench_interrupted())
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
}

/* ---- The daemon's own use -------------------------------------------------------------------------- */

struct use {
    uint64_t at_ns, cpu_ns, switches;
};

static struct use take_use(const struct target *target)
{
    pid_t keeper = target_keeper(target), engine = target_engine(target);
    return (struct use){
        .at_ns = llm_now_ns(),
        .cpu_ns = process_cpu_ns(keeper) + process_cpu_ns(engine),
        .switches = process_switches(keeper) + process_switches(engine),
    };
}

/* Percent of a core; *out_switches per second. */
static double idle(const struct run *run, double *out_switches)
{
    sleep_ns(SETTLE_NS);
    struct use a = take_use(&run->target);
    sleep_ns(run->idle_ns);
    struct use b = take_use(&run->target);
    double seconds = (double)(b.at_ns - a.at_ns) / 1e9;
    *out_switches = (double)(b.switches - a.switches) / seconds;
    return (double)(b.cpu_ns - a.cpu_ns) / 1e7 / seconds;
}

struct memory {
    double keeper, engine, client; /* bytes; NaN: not readable */
};

static double bytes_of(pid_t pid)
{
    struct process_memory memory = process_memory(pid);
    return memory.pss_bytes > 0 ? (double)memory.pss_bytes : (double)NAN;
}

static struct memory take_memory(const struct target *target)
{
    return (struct memory){.keeper = bytes_of(target_keeper(target)),
                           .engine = bytes_of(target_engine(target)),
                           .client = bytes_of(getpid())};
}

/* ---- A round --------------------------------------------------------------------------------------- */

static enum llm_status attach_all(struct run *run, struct llm_error *error)
{
    enum llm_status status = LLM_OK;
    for (uint32_t i = 0; i < run->count && status == LLM_OK && !bench_interrupted(); i++) {
        uint64_t start_ns = llm_now_ns();
        status = target_connect(&run->target, LLM_WAIT_FUTEX, &run->connections[i], error);
        uint64_t attached_ns = llm_now_ns();
        if (status == LLM_OK)
            status = llm_ping(run->connections[i], PING_NS, error);
        samples_add(&run->attach, (double)(attached_ns - start_ns));
        samples_add(&run->no_op, (double)(llm_now_ns() - attached_ns));
        if (status != LLM_OK) {
            struct llm_error inner = *error;
            llm_fail(error, status, "connection %u of %u: %.180s", i + 1, run->count,
                     inner.message);
        }
    }
    return status;
}

static enum llm_status detach_all(struct run *run, struct llm_error *error)
{
    for (uint32_t i = 0; i < run->count; i++) {
        llm_disconnect(run->connections[i]);
        run->connections[i] = NULL;
    }
    if (run->options->socket)
        return LLM_OK; /* others may be attached */
    uint64_t deadline_ns = llm_deadline_ns(DETACHED_NS);
    while (atomic_load(&run->target.status->keeper.connections_open) > 0) {
        if (llm_remaining_ns(deadline_ns) == 0)
            return llm_fail(error, LLM_ERR_TIMEOUT, "%u connections are not given up by the daemon",
                            atomic_load(&run->target.status->keeper.connections_open));
        sleep_ns(LLM_NS_PER_MS);
    }
    return LLM_OK;
}

static double kib_each(const struct run *run, double before, double after)
{
    return (after - before) / 1024 / run->count;
}

static enum llm_status measure_round(struct run *run, double out[FIGURE_COUNT],
                                     struct llm_error *error)
{
    struct llm_error ignored;
    double switches;
    samples_reset(&run->attach);
    samples_reset(&run->no_op);
    out[IDLE_0] = idle(run, &switches);
    struct memory before = take_memory(&run->target);
    enum llm_status status = attach_all(run, error);
    if (status == LLM_OK) {
        out[IDLE_N] = idle(run, &out[SWITCHES_N]);
        struct memory after = take_memory(&run->target);
        out[KEEPER_KIB] = kib_each(run, before.keeper, after.keeper);
        out[ENGINE_KIB] = kib_each(run, before.engine, after.engine);
        out[CLIENT_KIB] = kib_each(run, before.client, after.client);
        struct summary attach = samples_summarise(&run->attach);
        struct summary no_op = samples_summarise(&run->no_op);
        out[ATTACH_P50] = attach.p50 / 1e3;
        out[ATTACH_P99] = attach.p99 / 1e3;
        out[ATTACH_MAX] = samples_percentile(run->attach.values, run->attach.count, 1) / 1e3;
        out[NO_OP_P50] = no_op.p50 / 1e3;
        out[NO_OP_P99] = no_op.p99 / 1e3;
    }
    enum llm_status detached = detach_all(run, status == LLM_OK ? error : &ignored);
    return status == LLM_OK ? detached : status;
}

/* ---- Report ---------------------------------------------------------------------------------------- */

static const struct report_column columns[] = {
    {"connections", "connections", "", REPORT_COUNT},
    {"attach_p50", "attach p50", "us", REPORT_REAL},
    {"attach_p99", "p99", "us", REPORT_REAL},
    {"attach_max", "max", "us", REPORT_REAL},
    {"no_op_p50", "no-op p50", "us", REPORT_REAL},
    {"no_op_p99", "p99", "us", REPORT_REAL},
    {"keeper_kib", "keeper", "KiB", REPORT_REAL},
    {"engine_kib", "engine", "KiB", REPORT_REAL},
    {"client_kib", "client", "KiB", REPORT_REAL},
    {"idle_0", "idle", "%", REPORT_REAL},
    {"idle_n", "idle with them", "%", REPORT_REAL},
    {"switches_n", "switches", "/s", REPORT_REAL},
};

static void write_report(const struct run *run)
{
    struct report report;
    double values[RESULT_ROUNDS_MAX];
    report_init(&report, "connections", columns, sizeof columns / sizeof columns[0]);
    report_set_number(&report, "rounds", run->round_count);
    report_set_number(&report, "seconds", (double)run->idle_ns / 1e9);
    report_set_text(&report, "daemon", run->options->socket ? "running" : "private");
    report_count(&report, run->count);
    for (int figure = 0; figure < FIGURE_COUNT; figure++) {
        memcpy(values, &run->figures[figure * (int)run->round_count],
               run->round_count * sizeof *values);
        report_real(&report, samples_median(values, run->round_count));
    }
    report_note(&report, "Medians over the rounds. KiB: memory of keeper, engine and client for "
                         "one connection, each page counted once.");
    report_note(&report, "idle: processor time of keeper and engine, percent of one core, while "
                         "nobody asks.");
    report_write(&report, &run->machine, run->options, stdout);
    report_close(&report);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static enum llm_status open_run(struct run *run, struct llm_error *error)
{
    const struct bench_options *options = run->options;
    char limit[48], user_limit[48];
    const char *settings[] = {limit, user_limit, NULL};
    run->round_count = options->quick ? 2 : options->rounds;
    run->idle_ns = (uint64_t)((options->quick ? 0.1 : options->seconds) * 1e9);
    run->count = options->quick && options->clients > 16 ? 16 : options->clients;
    run->connections = calloc(run->count, sizeof(llm_connection *));
    run->figures = calloc((size_t)FIGURE_COUNT * run->round_count, sizeof *run->figures);
    if (!run->connections || !run->figures)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u connections", run->count);
    machine_raise_descriptors();
    snprintf(limit, sizeof limit, "limits.connections=%u", run->count);
    snprintf(user_limit, sizeof user_limit, "limits.connections_per_user=%u", run->count);
    enum llm_status status = machine_open(&run->machine, options->cpus, options->fifo, error);
    if (status == LLM_OK)
        status = samples_open(&run->attach, run->count, error);
    if (status == LLM_OK)
        status = samples_open(&run->no_op, run->count, error);
    if (status == LLM_OK)
        status = target_open(&run->target, options->socket, settings, error);
    if (status == LLM_OK) {
        target_pin(&run->target, &run->machine);
        machine_pin(&run->machine, 0, 0);
    }
    return status;
}

enum llm_status bench_connections(const struct bench_options *options, struct llm_error *error)
{
    struct run run = {.options = options};
    enum llm_status status = open_run(&run, error);
    for (uint32_t round = 0; round < run.round_count && status == LLM_OK && !bench_interrupted();
         round++) {
        double figures[FIGURE_COUNT] = {0};
        status = measure_round(&run, figures, error);
        for (int figure = 0; figure < FIGURE_COUNT; figure++)
            run.figures[figure * (int)run.round_count + (int)round] = figures[figure];
    }
    if (status == LLM_OK && !bench_interrupted())
        write_report(&run);
    target_close(&run.target);
    samples_close(&run.attach);
    samples_close(&run.no_op);
    free(run.connections);
    free(run.figures);
    return status;
}

const struct option_row connections_options[] = {
    {"count", "N", OPTION_COUNT, offsetof(struct bench_options, clients), 1, 65536,
     "connections held at once"},
    {NULL, NULL, OPTION_FLAG, 0, 0, 0, NULL},
};
