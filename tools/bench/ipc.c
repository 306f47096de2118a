/*
 * llm-bench ipc - how long a hand-over takes, beside what this machine needs for a bare one.
 *
 * What is timed
 *     submit    from just before the submission is published to the engine's own time stamp of having taken it in (the
 *               record's admitted_ns: both clocks are CLOCK_MONOTONIC). It includes reading the clock once.
 *     answer    from that stamp to the moment the client has seen the answer's end
 *     round     a no-op from the caller's view: taking a slot, submit, answer, reading (what llm_ping() does)
 *     echo      a request of one prompt token for one token, from llm_submit() to having read it
 *     token     from publishing a token to having read it. The record keeps microseconds, so this is up to 1 us too
 *               long. The engine makes a token every PACED_US here, so that the reader is asleep (or spins) before each.
 *     taken     from publishing a no-op to seeing that the queue's head moved, with a spinning client: a round trip,
 *               halved
 *
 * In which state
 *     awake     the engine looks at its queues: each sample follows an untimed no-op at once
 *     asleep    the engine is parked: each sample begins rest_us after its flag said so, with the client spinning
 *
 * With which client: spin (LLM_WAIT_SPIN), futex (LLM_WAIT_FUTEX), eventfd (poll() on llm_connection_fd()).
 */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "client/connection.h"
#include "shm/clock.h"
#include "shm/fence.h"
#include "tools/bench/bench.h"
#include "tools/bench/floors.h"
#include "tools/bench/report.h"
#include "tools/bench/samples.h"
#include "tools/bench/target.h"

#define SAMPLES_MAX   (1u << 17)
#define ANSWER_NS     (10 * LLM_NS_PER_S)
#define PARKED_NS     (5 * LLM_NS_PER_S)
#define SAMPLES_LEAST 16 /* taken however short the time is */
#define PATIENCE_NS   (5 * LLM_NS_PER_S)
#define PACED_US      200
#define PACED_TEXT    "models.echo_step_us=200"
#define PACED_TOKENS  64

/* ---- The points ------------------------------------------------------------------------------------ */

enum point_id {
    BARE_CLOCK,
    BARE_SYSCALL,
    BARE_WAKE_NOBODY,
    BARE_LINE,
    BARE_STAMP,
    BARE_FUTEX,
    BARE_EVENTFD,
    BARE_STREAM,
    BARE_SEQPACKET,
    BARE_HTTP,
    RESTED_FUTEX,
    RESTED_EVENTFD,
    RESTED_STREAM,
    RESTED_SEQPACKET,
    RESTED_HTTP,
    AWAKE_SPIN_SUBMIT,
    AWAKE_SPIN_ANSWER,
    AWAKE_SPIN_ROUND,
    AWAKE_FUTEX_SUBMIT,
    AWAKE_FUTEX_ANSWER,
    AWAKE_FUTEX_ROUND,
    AWAKE_EVENTFD_SUBMIT,
    AWAKE_EVENTFD_ANSWER,
    AWAKE_EVENTFD_ROUND,
    ASLEEP_SPIN_SUBMIT,
    ASLEEP_SPIN_ANSWER,
    ASLEEP_SPIN_ROUND,
    ASLEEP_FUTEX_SUBMIT,
    ASLEEP_FUTEX_ANSWER,
    ASLEEP_FUTEX_ROUND,
    ASLEEP_EVENTFD_SUBMIT,
    ASLEEP_EVENTFD_ANSWER,
    ASLEEP_EVENTFD_ROUND,
    AWAKE_SPIN_TAKEN,
    AWAKE_SPIN_ECHO,
    AWAKE_FUTEX_ECHO,
    ASLEEP_FUTEX_ECHO,
    TOKEN_SPIN,
    TOKEN_FUTEX,
    TOKEN_EVENTFD,
    POINT_COUNT
};

struct point_row {
    const char *name;
    enum point_id floor; /* what its p50 is divided by; itself: nothing */
};

static const struct point_row points[POINT_COUNT] = {
    [BARE_CLOCK] = {"bare.clock", BARE_CLOCK},
    [BARE_SYSCALL] = {"bare.syscall", BARE_SYSCALL},
    [BARE_WAKE_NOBODY] = {"bare.wake_nobody", BARE_WAKE_NOBODY},
    [BARE_LINE] = {"bare.line", BARE_LINE},
    [BARE_STAMP] = {"bare.stamp", BARE_LINE},
    [BARE_FUTEX] = {"bare.futex", BARE_FUTEX},
    [BARE_EVENTFD] = {"bare.eventfd", BARE_FUTEX},
    [BARE_STREAM] = {"bare.unix_stream", BARE_FUTEX},
    [BARE_SEQPACKET] = {"bare.unix_seqpacket", BARE_FUTEX},
    [BARE_HTTP] = {"bare.http", BARE_FUTEX},
    [RESTED_FUTEX] = {"rested.futex", RESTED_FUTEX},
    [RESTED_EVENTFD] = {"rested.eventfd", RESTED_FUTEX},
    [RESTED_STREAM] = {"rested.unix_stream", RESTED_FUTEX},
    [RESTED_SEQPACKET] = {"rested.unix_seqpacket", RESTED_FUTEX},
    [RESTED_HTTP] = {"rested.http", RESTED_FUTEX},
    [AWAKE_SPIN_SUBMIT] = {"awake.spin.submit", BARE_LINE},
    [AWAKE_SPIN_ANSWER] = {"awake.spin.answer", BARE_LINE},
    [AWAKE_SPIN_ROUND] = {"awake.spin.round", BARE_LINE},
    [AWAKE_FUTEX_SUBMIT] = {"awake.futex.submit", BARE_LINE},
    [AWAKE_FUTEX_ANSWER] = {"awake.futex.answer", BARE_LINE},
    [AWAKE_FUTEX_ROUND] = {"awake.futex.round", BARE_FUTEX},
    [AWAKE_EVENTFD_SUBMIT] = {"awake.eventfd.submit", BARE_LINE},
    [AWAKE_EVENTFD_ANSWER] = {"awake.eventfd.answer", BARE_LINE},
    [AWAKE_EVENTFD_ROUND] = {"awake.eventfd.round", BARE_EVENTFD},
    [ASLEEP_SPIN_SUBMIT] = {"asleep.spin.submit", RESTED_FUTEX},
    [ASLEEP_SPIN_ANSWER] = {"asleep.spin.answer", BARE_LINE},
    [ASLEEP_SPIN_ROUND] = {"asleep.spin.round", RESTED_FUTEX},
    [ASLEEP_FUTEX_SUBMIT] = {"asleep.futex.submit", RESTED_FUTEX},
    [ASLEEP_FUTEX_ANSWER] = {"asleep.futex.answer", RESTED_FUTEX},
    [ASLEEP_FUTEX_ROUND] = {"asleep.futex.round", RESTED_FUTEX},
    [ASLEEP_EVENTFD_SUBMIT] = {"asleep.eventfd.submit", RESTED_FUTEX},
    [ASLEEP_EVENTFD_ANSWER] = {"asleep.eventfd.answer", RESTED_FUTEX},
    [ASLEEP_EVENTFD_ROUND] = {"asleep.eventfd.round", RESTED_EVENTFD},
    [AWAKE_SPIN_TAKEN] = {"awake.spin.taken", BARE_LINE},
    [AWAKE_SPIN_ECHO] = {"awake.spin.echo", BARE_LINE},
    [AWAKE_FUTEX_ECHO] = {"awake.futex.echo", BARE_FUTEX},
    [ASLEEP_FUTEX_ECHO] = {"asleep.futex.echo", RESTED_FUTEX},
    [TOKEN_SPIN] = {"token.spin", BARE_LINE},
    [TOKEN_FUTEX] = {"token.futex", RESTED_FUTEX},
    [TOKEN_EVENTFD] = {"token.eventfd", RESTED_EVENTFD},
};

/* ---- The run --------------------------------------------------------------------------------------- */

enum client_kind {
    CLIENT_SPIN,
    CLIENT_FUTEX,
    CLIENT_EVENTFD,
    CLIENT_COUNT,
    CLIENT_LOOK = CLIENT_COUNT /* any of them, looking again and again: for what is not timed */
};

struct run {
    const struct bench_options *options;
    struct machine machine;
    struct target target, paced; /* paced: a token every PACED_US; only beside a private target */
    llm_connection *clients[CLIENT_COUNT], *paced_clients[CLIENT_COUNT];
    struct samples samples[3];
    struct summary *rounds; /* [POINT_COUNT][round_count] */
    uint32_t round_count;
    uint64_t run_ns, rest_ns;
    uint64_t not_asleep, not_awake; /* samples left out: the engine was in the other state */
};

/* One measurement of one round: fills samples[0], or, where `count` is 3, submit, answer and round. */
struct probe {
    enum point_id first;
    uint32_t count;
    enum llm_status (*measure)(struct run *run, const struct probe *probe, struct llm_error *error);
    int kind; /* enum floor_kind or enum client_kind */
    bool asleep;
};

/* Whether another sample is due: until `end_ns`, and a while longer where there are hardly any. */
static bool more(const struct run *run, uint64_t end_ns)
{
    uint64_t now_ns = llm_now_ns();
    return !bench_interrupted() && !samples_full(&run->samples[0]) &&
           (now_ns < end_ns ||
            (run->samples[0].count < SAMPLES_LEAST && now_ns < end_ns + PATIENCE_NS));
}

/* ---- Bare ------------------------------------------------------------------------------------------ */

static enum llm_status measure_floor(struct run *run, const struct probe *probe,
                                     struct llm_error *error)
{
    return floor_measure((enum floor_kind)probe->kind, &run->machine,
                         probe->asleep ? run->rest_ns : 0, run->run_ns, &run->samples[0], error);
}

/* ---- A client's wait ------------------------------------------------------------------------------- */

/* For event loops: sleep in poll(), take the byte, look again. */
static enum llm_status read_by_poll(llm_connection *connection, llm_stream *stream,
                                    uint32_t *out_token, uint32_t *out_count,
                                    struct llm_error *error)
{
    int fd = llm_connection_fd(connection);
    uint64_t deadline_ns = llm_deadline_ns(ANSWER_NS);
    for (;;) {
        enum llm_status status = llm_stream_read(stream, out_token, NULL, 1, 0, out_count, error);
        if (status != LLM_ERR_TIMEOUT || llm_remaining_ns(deadline_ns) == 0)
            return status;
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        if (poll(&wanted, 1, 1000) < 0 && errno != EINTR)
            return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "poll() failed");
        llm_connection_acknowledge(connection);
    }
}

static enum llm_status read_by_looking(llm_stream *stream, uint32_t *out_token, uint32_t *out_count,
                                       struct llm_error *error)
{
    uint64_t deadline_ns = llm_deadline_ns(ANSWER_NS);
    enum llm_status status;
    while ((status = llm_stream_read(stream, out_token, NULL, 1, 0, out_count, error)) ==
               LLM_ERR_TIMEOUT &&
           llm_remaining_ns(deadline_ns) > 0)
        ;
    return status;
}

static enum llm_status read_one(llm_connection *connection, int kind, llm_stream *stream,
                                uint32_t *out_token, uint32_t *out_count, struct llm_error *error)
{
    if (kind == CLIENT_EVENTFD)
        return read_by_poll(connection, stream, out_token, out_count, error);
    if (kind == CLIENT_LOOK)
        return read_by_looking(stream, out_token, out_count, error);
    return llm_stream_read(stream, out_token, NULL, 1, ANSWER_NS, out_count, error);
}

/* ---- A no-op --------------------------------------------------------------------------------------- */

struct times {
    double submit, answer, round;
    bool rang; /* the engine slept when it was submitted */
};

static bool engine_sleeps(const llm_connection *connection)
{
    return atomic_load_explicit(&connection->down->engine_asleep, memory_order_relaxed) != 0;
}

/* What llm_ping() does, with its parts timed. */
static enum llm_status no_op(llm_connection *connection, int kind, struct times *out_times,
                             struct llm_error *error)
{
    static const struct llm_slot_needs nothing;
    struct llm_stream *stream;
    uint32_t token, count;
    bool rang = engine_sleeps(connection);
    uint64_t start_ns = llm_now_ns();
    enum llm_status status = llm_slot_table_take(&connection->slots, &nothing, &stream, error);
    if (status == LLM_OK)
        status = llm_connection_submit(connection, stream, LLM_OP_NOP, 0, 0, error);
    if (status != LLM_OK)
        return status;
    status = read_one(connection, kind, stream, &token, &count, error);
    uint64_t seen_ns = llm_now_ns();
    uint64_t admitted_ns =
        atomic_load_explicit(&stream->reader.record->admitted_ns, memory_order_relaxed);
    *out_times = (struct times){
        .submit = (double)(int64_t)(admitted_ns - stream->submitted_ns),
        .answer = (double)(int64_t)(seen_ns - admitted_ns),
        .round = (double)(seen_ns - start_ns),
        .rang = rang,
    };
    llm_stream_close(stream);
    return status;
}

/* Bring the engine into the state that is wanted, and a little beyond. */
static enum llm_status prepare(struct run *run, llm_connection *connection, bool asleep,
                               struct llm_error *error)
{
    struct times times;
    if (!asleep)
        return no_op(connection, CLIENT_LOOK, &times, error);
    uint64_t deadline_ns = llm_deadline_ns(PARKED_NS);
    while (!engine_sleeps(connection)) {
        if (llm_remaining_ns(deadline_ns) == 0)
            return llm_fail(error, LLM_ERR_BUSY,
                            "the engine does not go to sleep: somebody else uses this daemon");
        llm_spin_pause();
    }
    floor_rest(run->rest_ns);
    return LLM_OK;
}

static enum llm_status warm(struct run *run, llm_connection *connection, int kind,
                            struct llm_error *error)
{
    struct times times;
    enum llm_status status = LLM_OK;
    for (int i = 0; i < 32 && status == LLM_OK; i++) {
        status = no_op(connection, kind, &times, error);
        if (status == LLM_OK)
            status = prepare(run, connection, false, error);
    }
    return status;
}

static enum llm_status measure_no_op(struct run *run, const struct probe *probe,
                                     struct llm_error *error)
{
    llm_connection *connection = run->clients[probe->kind];
    enum llm_status status = warm(run, connection, probe->kind, error);
    uint64_t end_ns = llm_now_ns() + run->run_ns;
    struct times times;
    while (status == LLM_OK && more(run, end_ns)) {
        status = prepare(run, connection, probe->asleep, error);
        if (status == LLM_OK)
            status = no_op(connection, probe->kind, &times, error);
        if (status != LLM_OK)
            break;
        if (times.rang != probe->asleep) {
            *(probe->asleep ? &run->not_asleep : &run->not_awake) += 1;
            continue;
        }
        samples_add(&run->samples[0], times.submit);
        samples_add(&run->samples[1], times.answer);
        samples_add(&run->samples[2], times.round);
    }
    return status;
}

/* From publishing to the queue's head having moved, as a spinning client sees it. */
static enum llm_status measure_taken(struct run *run, const struct probe *probe,
                                     struct llm_error *error)
{
    static const struct llm_slot_needs nothing;
    llm_connection *connection = run->clients[probe->kind];
    enum llm_status status = warm(run, connection, probe->kind, error);
    uint64_t end_ns = llm_now_ns() + run->run_ns;
    while (status == LLM_OK && more(run, end_ns)) {
        struct llm_stream *stream;
        uint32_t token, count;
        bool slept = engine_sleeps(connection);
        status = llm_slot_table_take(&connection->slots, &nothing, &stream, error);
        if (status == LLM_OK)
            status = llm_connection_submit(connection, stream, LLM_OP_NOP, 0, 0, error);
        if (status != LLM_OK)
            break;
        while (!llm_queue_taken(&connection->queue, stream->position))
            ;
        double taken_ns = (double)(llm_now_ns() - stream->submitted_ns) / 2;
        if (slept)
            run->not_awake++;
        else
            samples_add(&run->samples[0], taken_ns);
        status = llm_stream_read(stream, &token, NULL, 1, ANSWER_NS, &count, error);
        llm_stream_close(stream);
    }
    return status;
}

/* ---- Echo ------------------------------------------------------------------------------------------ */

static enum llm_status echo(llm_connection *connection, int kind, struct llm_error *error)
{
    const uint32_t prompt = 17;
    uint32_t token = 0, count = 0;
    llm_stream *stream;
    enum llm_status status =
        llm_submit(connection, &prompt, 1, &(llm_sampling){.max_tokens = 1}, &stream, error);
    if (status != LLM_OK)
        return status;
    status = read_one(connection, kind, stream, &token, &count, error);
    if (status == LLM_OK && (count != 1 || token != prompt))
        status = llm_fail(error, LLM_ERR_CORRUPT, "the echo of %u is %u", prompt, token);
    llm_stream_close(stream);
    return status;
}

static enum llm_status measure_echo(struct run *run, const struct probe *probe,
                                    struct llm_error *error)
{
    llm_connection *connection = run->clients[probe->kind];
    enum llm_status status = warm(run, connection, probe->kind, error);
    uint64_t end_ns = llm_now_ns() + run->run_ns;
    while (status == LLM_OK && more(run, end_ns)) {
        status = prepare(run, connection, probe->asleep, error);
        bool slept = engine_sleeps(connection);
        uint64_t start_ns = llm_now_ns();
        if (status == LLM_OK)
            status = echo(connection, probe->kind, error);
        if (slept == probe->asleep)
            samples_add(&run->samples[0], (double)(llm_now_ns() - start_ns));
        else
            *(probe->asleep ? &run->not_asleep : &run->not_awake) += 1;
    }
    return status;
}

/* ---- Tokens of a paced answer ---------------------------------------------------------------------- */

static enum llm_status read_paced(struct run *run, llm_connection *connection, int kind,
                                  llm_stream *stream, struct llm_error *error)
{
    const struct llm_stream_record *record = stream->reader.record;
    uint32_t token, count;
    for (uint32_t i = 0; i < PACED_TOKENS; i++) {
        enum llm_status status = read_one(connection, kind, stream, &token, &count, error);
        uint64_t seen_ns = llm_now_ns();
        if (status != LLM_OK)
            return status;
        uint32_t have =
            llm_commit_count(atomic_load_explicit(&record->commit, memory_order_relaxed));
        uint64_t published_ns =
            atomic_load_explicit(&record->admitted_ns, memory_order_relaxed) +
            LLM_NS_PER_US * atomic_load_explicit(&record->last_token_us, memory_order_relaxed);
        if (have == i + 1) /* else we were late, and the stamp is another token's */
            samples_add(&run->samples[0], (double)(int64_t)(seen_ns - published_ns));
    }
    return LLM_OK;
}

static enum llm_status measure_tokens(struct run *run, const struct probe *probe,
                                      struct llm_error *error)
{
    const uint32_t prompt = 17;
    llm_connection *connection = run->paced_clients[probe->kind];
    enum llm_status status = LLM_OK;
    uint64_t end_ns = llm_now_ns() + run->run_ns;
    do {
        llm_stream *stream;
        status = llm_submit(connection, &prompt, 1, &(llm_sampling){.max_tokens = PACED_TOKENS},
                            &stream, error);
        if (status != LLM_OK)
            break;
        status = read_paced(run, connection, probe->kind, stream, error);
        llm_stream_close(stream);
    } while (status == LLM_OK && more(run, end_ns));
    return status;
}

/* ---- The order of a round -------------------------------------------------------------------------- */

static const struct probe probes[] = {
    {BARE_CLOCK, 1, measure_floor, FLOOR_CLOCK, false},
    {BARE_SYSCALL, 1, measure_floor, FLOOR_SYSCALL, false},
    {BARE_WAKE_NOBODY, 1, measure_floor, FLOOR_WAKE_NOBODY, false},
    {BARE_LINE, 1, measure_floor, FLOOR_LINE, false},
    {BARE_STAMP, 1, measure_floor, FLOOR_STAMP, false},
    {AWAKE_SPIN_SUBMIT, 3, measure_no_op, CLIENT_SPIN, false},
    {AWAKE_SPIN_TAKEN, 1, measure_taken, CLIENT_SPIN, false},
    {AWAKE_SPIN_ECHO, 1, measure_echo, CLIENT_SPIN, false},
    {BARE_FUTEX, 1, measure_floor, FLOOR_FUTEX, false},
    {AWAKE_FUTEX_SUBMIT, 3, measure_no_op, CLIENT_FUTEX, false},
    {AWAKE_FUTEX_ECHO, 1, measure_echo, CLIENT_FUTEX, false},
    {BARE_EVENTFD, 1, measure_floor, FLOOR_EVENTFD, false},
    {AWAKE_EVENTFD_SUBMIT, 3, measure_no_op, CLIENT_EVENTFD, false},
    {BARE_STREAM, 1, measure_floor, FLOOR_STREAM, false},
    {BARE_SEQPACKET, 1, measure_floor, FLOOR_SEQPACKET, false},
    {BARE_HTTP, 1, measure_floor, FLOOR_HTTP, false},
    {ASLEEP_SPIN_SUBMIT, 3, measure_no_op, CLIENT_SPIN, true},
    {RESTED_FUTEX, 1, measure_floor, FLOOR_FUTEX, true},
    {ASLEEP_FUTEX_SUBMIT, 3, measure_no_op, CLIENT_FUTEX, true},
    {RESTED_EVENTFD, 1, measure_floor, FLOOR_EVENTFD, true},
    {ASLEEP_EVENTFD_SUBMIT, 3, measure_no_op, CLIENT_EVENTFD, true},
    {ASLEEP_FUTEX_ECHO, 1, measure_echo, CLIENT_FUTEX, true},
    {RESTED_STREAM, 1, measure_floor, FLOOR_STREAM, true},
    {RESTED_SEQPACKET, 1, measure_floor, FLOOR_SEQPACKET, true},
    {RESTED_HTTP, 1, measure_floor, FLOOR_HTTP, true},
    {TOKEN_SPIN, 1, measure_tokens, CLIENT_SPIN, false},
    {TOKEN_FUTEX, 1, measure_tokens, CLIENT_FUTEX, false},
    {TOKEN_EVENTFD, 1, measure_tokens, CLIENT_EVENTFD, false},
};
#define PROBE_COUNT (sizeof probes / sizeof probes[0])

static bool begins(const char *name, const char *beginning)
{
    return strncmp(name, beginning, strlen(beginning)) == 0;
}

/* Whether --point asks for one of its figures, or for one that is divided by one of its figures. */
static bool wanted(const struct run *run, const struct probe *probe)
{
    const char *point = run->options->point;
    if (probe->measure == measure_tokens && !run->paced.status)
        return false;
    for (uint32_t i = 0; i < POINT_COUNT; i++) {
        bool asked = !point || begins(points[i].name, point);
        bool here = i >= probe->first && i < probe->first + probe->count;
        bool floor =
            points[i].floor >= probe->first && points[i].floor < probe->first + probe->count;
        if (asked && (here || floor))
            return true;
    }
    return false;
}

static enum llm_status measure_round(struct run *run, uint32_t round, struct llm_error *error)
{
    for (size_t i = 0; i < PROBE_COUNT && !bench_interrupted(); i++) {
        const struct probe *probe = &probes[i];
        if (!wanted(run, probe))
            continue;
        for (int set = 0; set < 3; set++)
            samples_reset(&run->samples[set]);
        enum llm_status status = probe->measure(run, probe, error);
        if (status != LLM_OK)
            return status;
        for (uint32_t set = 0; set < probe->count; set++)
            run->rounds[(probe->first + set) * run->round_count + round] =
                samples_summarise(&run->samples[set]);
    }
    return LLM_OK;
}

/* ---- Report ---------------------------------------------------------------------------------------- */

static const struct report_column columns[] = {
    {"point", "point", "", REPORT_TEXT},      {"p50", "p50", "us", REPORT_REAL},
    {"p99", "p99", "us", REPORT_REAL},        {"p999", "p99.9", "us", REPORT_REAL},
    {"min", "min", "us", REPORT_REAL},        {"mean", NULL, "us", REPORT_REAL},
    {"p50_mad", "+-", "us", REPORT_REAL},     {"p50_iqr", NULL, "us", REPORT_REAL},
    {"ratio", "times", "", REPORT_REAL},      {"floor", "of", "", REPORT_TEXT},
    {"samples", "samples", "", REPORT_COUNT}, {"rounds", NULL, "", REPORT_COUNT},
};

static const struct summary *rounds_of(const struct run *run, enum point_id point)
{
    return &run->rounds[point * run->round_count];
}

static void add_row(const struct run *run, enum point_id point, struct report *report)
{
    const struct result result = samples_result(rounds_of(run, point), run->round_count);
    enum point_id floor = points[point].floor;
    if (result.count == 0)
        return;
    report_text(report, points[point].name);
    report_real(report, result.p50 / 1e3);
    report_real(report, result.p99 / 1e3);
    report_real(report, result.p999 / 1e3);
    report_real(report, result.min / 1e3);
    report_real(report, result.mean / 1e3);
    report_real(report, result.p50_mad / 1e3);
    report_real(report, result.p50_iqr / 1e3);
    report_real(report, floor == point ? (double)NAN
                                       : samples_ratio(rounds_of(run, point), rounds_of(run, floor),
                                                       run->round_count));
    report_text(report, floor == point ? "" : points[floor].name);
    report_count(report, result.count);
    report_count(report, result.rounds);
}

static void write_report(const struct run *run)
{
    struct report report;
    report_init(&report, "ipc", columns, sizeof columns / sizeof columns[0]);
    report_set_number(&report, "rounds", run->round_count);
    report_set_number(&report, "seconds", (double)run->run_ns / 1e9);
    report_set_number(&report, "rest_us", (double)run->rest_ns / 1e3);
    report_set_text(&report, "daemon", run->options->socket ? "running" : "private");
    for (uint32_t point = 0; point < POINT_COUNT; point++)
        add_row(run, (enum point_id)point, &report);
    report_note(&report, "p50, p99, p99.9: medians over the rounds; min: of all; +-: median "
                         "absolute deviation of the rounds' p50;");
    report_note(&report, "times: median over the rounds of p50 / p50 of the point it is compared "
                         "with, measured in the same round.");
    if (run->not_asleep + run->not_awake > 0)
        report_note(&report,
                    "Left out: %llu samples whose engine was not asleep, %llu whose engine was "
                    "not awake.",
                    (unsigned long long)run->not_asleep, (unsigned long long)run->not_awake);
    if (run->options->socket)
        report_note(&report, "token.*: not measured, they need a private daemon.");
    report_write(&report, &run->machine, run->options, stdout);
    report_close(&report);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static enum llm_status connect_clients(const struct target *target,
                                       llm_connection *clients[CLIENT_COUNT],
                                       struct llm_error *error)
{
    static const enum llm_wait waits[CLIENT_COUNT] = {LLM_WAIT_SPIN, LLM_WAIT_FUTEX,
                                                      LLM_WAIT_FUTEX};
    enum llm_status status = LLM_OK;
    for (int kind = 0; kind < CLIENT_COUNT && status == LLM_OK; kind++)
        status = target_connect(target, waits[kind], &clients[kind], error);
    return status;
}

static enum llm_status open_run(struct run *run, struct llm_error *error)
{
    static const char *const paced[] = {PACED_TEXT, NULL};
    const struct bench_options *options = run->options;
    run->round_count = options->quick ? 2 : options->rounds;
    run->run_ns = (uint64_t)((options->quick ? 0.01 : options->seconds) * 1e9);
    run->rest_ns = options->rest_us * LLM_NS_PER_US;
    run->rounds = calloc((size_t)POINT_COUNT * run->round_count, sizeof *run->rounds);
    if (!run->rounds)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u rounds", run->round_count);
    enum llm_status status = machine_open(&run->machine, options->cpus, options->fifo, error);
    for (int set = 0; set < 3 && status == LLM_OK; set++)
        status = samples_open(&run->samples[set], SAMPLES_MAX, error);
    if (status == LLM_OK)
        status = target_open(&run->target, options->socket, NULL, error);
    if (status == LLM_OK && !options->socket)
        status = target_open(&run->paced, NULL, paced, error);
    if (status == LLM_OK)
        status = connect_clients(&run->target, run->clients, error);
    if (status == LLM_OK && run->paced.status)
        status = connect_clients(&run->paced, run->paced_clients, error);
    if (status != LLM_OK)
        return status;
    target_pin(&run->target, &run->machine);
    if (run->paced.status)
        target_pin(&run->paced, &run->machine);
    machine_pin(&run->machine, 0, 0);
    return LLM_OK;
}

static void close_run(struct run *run)
{
    for (int kind = 0; kind < CLIENT_COUNT; kind++) {
        llm_disconnect(run->clients[kind]);
        llm_disconnect(run->paced_clients[kind]);
    }
    target_close(&run->paced);
    target_close(&run->target);
    for (int set = 0; set < 3; set++)
        samples_close(&run->samples[set]);
    free(run->rounds);
}

enum llm_status bench_ipc(const struct bench_options *options, struct llm_error *error)
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

const struct option_row ipc_options[] = {
    {"point", "NAME", OPTION_TEXT, offsetof(struct bench_options, point), 0, 0,
     "only points whose name begins so, and what they are compared with"},
    {"rest-us", "N", OPTION_COUNT, offsetof(struct bench_options, rest_us), 1, 1000000,
     "how long the other side has slept before a sample"},
    {NULL, NULL, OPTION_FLAG, 0, 0, 0, NULL},
};
