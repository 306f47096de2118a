/*
 * llm-bench flood - what a user's questions wait for while another user asks for more than there is.
 *
 * Two users need two uids: this process, which must be root, is the one who asks short questions, one at a time; a child
 * process that has become "nobody" keeps --requests requests in flight on the built-in model, each a prompt of --prompt
 * tokens that nobody has asked before and an answer of --tokens.
 *
 * A round: --seconds of questions on a quiet daemon, then the flood until its first answer has begun, then --seconds of
 * questions beside it.
 *
 *     first        from llm_submit() to having read the first token, of the questions; `flood`: of the flood's requests
 *                  that were read while questions were asked
 *     times        median over the rounds of p50 / p50 of quiet; of p99 likewise
 *     step         duration of the engine's steps in that time, as the status file has them
 *     tokens_per_s read by whoever the row is about
 */
#include <errno.h>
#include <grp.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "tools/bench/bench.h"
#include "tools/bench/report.h"
#include "tools/bench/samples.h"
#include "tools/bench/target.h"

#define NOBODY          65534
#define SAMPLES_MAX     (1u << 16)
#define SAMPLES_LEAST   8u /* questions asked however short the time is */
#define ANSWER_NS       (600 * LLM_NS_PER_S)
#define FLOODED_NS      (300 * LLM_NS_PER_S) /* the flood's first answer has begun by then */
#define LOOK_NS         (100 * LLM_NS_PER_MS)
#define QUESTION_TOKENS 32u
#define ANSWER_TOKENS   4u
#define PAUSE_NS        (20 * LLM_NS_PER_MS) /* between questions, up to twice as much */
#define PROMPT_MAX      4096u
#define REQUESTS_MAX    400u
#define ID_FIRST        300u /* ids that are words of the built-in model */
#define ID_COUNT        1500u

enum who {
    QUIET,
    FLOODED,
    FLOOD,
    WHO_COUNT
};

static const char *const who_names[WHO_COUNT] = {"quiet", "flooded", "flood"};

struct board {             /* shared with the child */
    _Atomic bool counting; /* the bench: questions are being asked */
    _Atomic bool stop;
    _Atomic bool begun; /* the child: its first answer has begun */
    _Atomic uint64_t tokens;
    _Atomic uint32_t first_count;
    char failure[160];         /* why it ended; written before it does */
    double first[SAMPLES_MAX]; /* [first_count] ns */
};

struct figures { /* of one of `who` in one round */
    struct summary first, step;
    double tokens_per_s;
};

struct run {
    const struct bench_options *options;
    struct machine machine;
    struct target target;
    llm_connection *connection;
    struct board *board;
    struct samples samples, steps;
    struct figures *rounds; /* [WHO_COUNT][round_count] */
    uint32_t round_count;
    uint64_t run_ns;
    uint64_t random;
};

/* Nobody has asked it before: what is cached would be found. */
static void draw_prompt(uint64_t *random, uint32_t *out_ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        *random ^= *random << 13; /* xorshift64 */
        *random ^= *random >> 7;
        *random ^= *random << 17;
        out_ids[i] = ID_FIRST + (uint32_t)(*random % ID_COUNT);
    }
}

/* ---- The flood: another process, another user ------------------------------------------------------- */

struct flood {
    llm_connection *connection;
    struct board *board;
    llm_stream **streams;   /* [count] */
    uint64_t *submitted_ns; /* [count] */
    bool *begun;            /* [count] */
    uint32_t count, prompt, tokens;
    uint64_t random;
};

static enum llm_status flood_ask(struct flood *flood, uint32_t slot, struct llm_error *error)
{
    uint32_t ids[PROMPT_MAX];
    const llm_sampling sampling = {.max_tokens = flood->tokens, .ignore_eos = true};
    draw_prompt(&flood->random, ids, flood->prompt);
    flood->begun[slot] = false;
    flood->submitted_ns[slot] = llm_now_ns();
    return llm_submit(flood->connection, ids, flood->prompt, &sampling, &flood->streams[slot],
                      error);
}

static void flood_first(struct flood *flood, uint32_t slot)
{
    struct board *board = flood->board;
    uint32_t at = atomic_load(&board->first_count);
    flood->begun[slot] = true;
    atomic_store(&board->begun, true);
    if (!atomic_load(&board->counting) || at >= SAMPLES_MAX)
        return;
    board->first[at] = (double)(llm_now_ns() - flood->submitted_ns[slot]);
    atomic_store(&board->first_count, at + 1);
}

/* Read what there is of one answer; ask the next when it is complete. */
static enum llm_status flood_read(struct flood *flood, uint32_t slot, struct llm_error *error)
{
    uint32_t tokens[64], count;
    enum llm_status status =
        llm_stream_read(flood->streams[slot], tokens, NULL, 64, 0, &count, error);
    if (status == LLM_ERR_TIMEOUT)
        return LLM_OK;
    if (status != LLM_OK)
        return status;
    if (count > 0 && !flood->begun[slot])
        flood_first(flood, slot);
    if (atomic_load(&flood->board->counting))
        atomic_fetch_add(&flood->board->tokens, count);
    if (count > 0)
        return LLM_OK;
    llm_stream_close(flood->streams[slot]);
    flood->streams[slot] = NULL;
    return flood_ask(flood, slot, error);
}

static enum llm_status flood_run(struct flood *flood, struct llm_error *error)
{
    enum llm_status status = LLM_OK;
    uint32_t which;
    for (uint32_t slot = 0; slot < flood->count && status == LLM_OK; slot++)
        status = flood_ask(flood, slot, error);
    while (status == LLM_OK && !atomic_load(&flood->board->stop)) {
        status = llm_streams_wait_any(flood->streams, flood->count, LOOK_NS, &which, error);
        if (status == LLM_ERR_TIMEOUT)
            status = LLM_OK;
        for (uint32_t slot = 0; slot < flood->count && status == LLM_OK; slot++)
            status = flood_read(flood, slot, error);
    }
    return status;
}

static enum llm_status become_nobody(struct llm_error *error)
{
    if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
        return llm_fail_errno(error, LLM_ERR_PERMISSION, errno, "cannot become user %d", NOBODY);
    return LLM_OK;
}

static void flood_child(const struct run *run, uint64_t random)
{
    struct llm_error error = {0};
    struct flood flood = {
        .board = run->board,
        .count = run->options->flood,
        .prompt = run->options->prompt,
        .tokens = run->options->tokens,
        .random = random,
    };
    enum llm_status status = become_nobody(&error);
    bench_child_begins(); /* a change of user takes the wish to die with the bench away */
    if (getppid() == 1)
        _exit(0);
    flood.streams = calloc(flood.count, sizeof(llm_stream *));
    flood.submitted_ns = calloc(flood.count, sizeof *flood.submitted_ns);
    flood.begun = calloc(flood.count, sizeof *flood.begun);
    if (status == LLM_OK && (!flood.streams || !flood.submitted_ns || !flood.begun))
        status = llm_fail(&error, LLM_ERR_MEMORY, "no memory for %u requests", flood.count);
    if (status == LLM_OK)
        status = target_connect(&run->target, LLM_WAIT_FUTEX, &flood.connection, &error);
    if (status == LLM_OK)
        status = flood_run(&flood, &error);
    if (status != LLM_OK)
        snprintf(run->board->failure, sizeof run->board->failure, "%.159s", error.message);
    _exit(status == LLM_OK ? 0 : 1); /* the daemon cancels what it left */
}

static enum llm_status flood_failed(const struct run *run, struct llm_error *error)
{
    return llm_fail(error, LLM_ERR_SYSTEM, "the flood ended: %.150s",
                    run->board->failure[0] ? run->board->failure : "killed");
}

static enum llm_status flood_begin(struct run *run, pid_t *out_child, struct llm_error *error)
{
    struct board *board = run->board;
    uint64_t random;
    draw_prompt(&run->random, &(uint32_t){0}, 1);
    random = run->random * 2654435761u | 1;
    memset(board, 0, offsetof(struct board, first));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        flood_child(run, random);
    if (child < 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot start the flood");
    *out_child = child;
    uint64_t deadline_ns = llm_deadline_ns(FLOODED_NS);
    while (!atomic_load(&board->begun) && !bench_interrupted()) {
        if (waitpid(child, NULL, WNOHANG) != 0) {
            *out_child = 0;
            return flood_failed(run, error);
        }
        if (llm_remaining_ns(deadline_ns) == 0)
            return llm_fail(error, LLM_ERR_TIMEOUT, "none of the flood's answers begins");
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return LLM_OK;
}

/* It ends, and what it left is gone before the next round begins. */
static enum llm_status flood_end(struct run *run, pid_t child, struct llm_error *error)
{
    int ended;
    atomic_store(&run->board->stop, true);
    if (bench_interrupted())
        kill(child, SIGKILL);
    waitpid(child, &ended, 0);
    if (!bench_interrupted() && ended != 0)
        return flood_failed(run, error);
    uint64_t deadline_ns = llm_deadline_ns(FLOODED_NS);
    const struct llm_status_engine *engine = &run->target.status->engine;
    while (!bench_interrupted() && (atomic_load(&engine->requests_running) > 0 ||
                                    atomic_load(&engine->requests_queued) > 0)) {
        if (llm_remaining_ns(deadline_ns) == 0)
            return llm_fail(error, LLM_ERR_TIMEOUT, "the flood's requests do not end");
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return LLM_OK;
}

/* ---- The questions --------------------------------------------------------------------------------- */

static enum llm_status ask(struct run *run, struct llm_error *error)
{
    uint32_t ids[QUESTION_TOKENS], token, count, total = 0;
    const llm_sampling sampling = {.max_tokens = ANSWER_TOKENS, .ignore_eos = true};
    llm_stream *stream;
    draw_prompt(&run->random, ids, QUESTION_TOKENS);
    uint64_t start_ns = llm_now_ns();
    enum llm_status status =
        llm_submit(run->connection, ids, QUESTION_TOKENS, &sampling, &stream, error);
    if (status != LLM_OK)
        return status;
    do {
        status = llm_stream_read(stream, &token, NULL, 1, ANSWER_NS, &count, error);
        if (status == LLM_OK && count > 0 && total++ == 0)
            samples_add(&run->samples, (double)(llm_now_ns() - start_ns));
    } while (status == LLM_OK && count > 0);
    llm_stream_close(stream);
    return status;
}

/* Steps that began in from_ns..to_ns and are still in the status file's ring. */
static void collect_steps(struct run *run, uint64_t from_ns, uint64_t to_ns)
{
    samples_reset(&run->steps);
    for (uint32_t i = 0; i < LLM_STATUS_STEPS; i++) {
        const struct llm_status_step *entry = &run->target.status->steps[i];
        uint64_t step = atomic_load(&entry->step), started_ns = atomic_load(&entry->started_ns);
        uint32_t duration_us = atomic_load(&entry->duration_us);
        if (step > 0 && step == atomic_load(&entry->step) && started_ns >= from_ns &&
            started_ns < to_ns)
            samples_add(&run->steps, duration_us * 1e3);
    }
}

static enum llm_status ask_for_a_while(struct run *run, struct figures *out_figures,
                                       struct llm_error *error)
{
    uint64_t start_ns = llm_now_ns(), end_ns = start_ns + run->run_ns;
    enum llm_status status = LLM_OK;
    samples_reset(&run->samples);
    while (status == LLM_OK && !bench_interrupted() && !samples_full(&run->samples) &&
           (llm_now_ns() < end_ns || run->samples.count < SAMPLES_LEAST)) {
        draw_prompt(&run->random, &(uint32_t){0}, 1);
        uint64_t pause_ns = PAUSE_NS + run->random % PAUSE_NS; /* not in step with the engine */
        nanosleep(&(struct timespec){.tv_nsec = (long)pause_ns}, NULL);
        status = ask(run, error);
    }
    uint64_t now_ns = llm_now_ns();
    collect_steps(run, start_ns, now_ns);
    *out_figures = (struct figures){
        .tokens_per_s =
            (double)run->samples.count * ANSWER_TOKENS * 1e9 / (double)(now_ns - start_ns),
        .first = samples_summarise(&run->samples),
        .step = samples_summarise(&run->steps),
    };
    return status;
}

/* ---- A round --------------------------------------------------------------------------------------- */

static struct figures *figures_of(const struct run *run, int who, uint32_t round)
{
    return &run->rounds[(uint32_t)who * run->round_count + round];
}

static void set_flood(struct run *run, uint32_t round, uint64_t ns)
{
    struct board *board = run->board;
    uint32_t count = atomic_load(&board->first_count);
    samples_reset(&run->samples);
    for (uint32_t i = 0; i < count; i++)
        samples_add(&run->samples, board->first[i]);
    *figures_of(run, FLOOD, round) = (struct figures){
        .tokens_per_s = (double)atomic_load(&board->tokens) * 1e9 / (double)ns,
        .first = samples_summarise(&run->samples),
        .step = figures_of(run, FLOODED, round)->step,
    };
}

static enum llm_status measure_round(struct run *run, uint32_t round, struct llm_error *error)
{
    pid_t child = 0;
    enum llm_status status = ask_for_a_while(run, figures_of(run, QUIET, round), error);
    if (status == LLM_OK && !bench_interrupted())
        status = flood_begin(run, &child, error);
    uint64_t start_ns = llm_now_ns();
    if (status == LLM_OK) {
        atomic_store(&run->board->counting, true);
        status = ask_for_a_while(run, figures_of(run, FLOODED, round), error);
        atomic_store(&run->board->counting, false);
    }
    if (status == LLM_OK)
        set_flood(run, round, llm_now_ns() - start_ns);
    if (child > 0) {
        struct llm_error ignored;
        enum llm_status ended = flood_end(run, child, status == LLM_OK ? error : &ignored);
        status = status == LLM_OK ? ended : status;
    }
    return status;
}

/* ---- Report ---------------------------------------------------------------------------------------- */

static const struct report_column columns[] = {
    {"who", "who", "", REPORT_TEXT},          {"first_p50", "first p50", "ms", REPORT_REAL},
    {"first_p99", "p99", "ms", REPORT_REAL},  {"first_max", "max", "ms", REPORT_REAL},
    {"first_mad", "+-", "ms", REPORT_REAL},   {"times_p50", "times p50", "", REPORT_REAL},
    {"times_p99", "p99", "", REPORT_REAL},    {"step_p50", "step p50", "ms", REPORT_REAL},
    {"step_p99", "p99", "ms", REPORT_REAL},   {"tokens_per_s", "tokens/s", "1/s", REPORT_REAL},
    {"samples", "samples", "", REPORT_COUNT}, {"rounds", NULL, "", REPORT_COUNT},
};

enum figure {
    TIMES_P50,
    TIMES_P99,
    TOKENS_PER_S
};

static double median_of(const struct run *run, int who, enum figure figure)
{
    double values[RESULT_ROUNDS_MAX];
    for (uint32_t round = 0; round < run->round_count; round++) {
        const struct figures *quiet = figures_of(run, QUIET, round);
        const struct figures *its = figures_of(run, who, round);
        values[round] = figure == TIMES_P50   ? its->first.p50 / quiet->first.p50
                        : figure == TIMES_P99 ? its->first.p99 / quiet->first.p99
                                              : its->tokens_per_s;
    }
    return samples_median(values, run->round_count);
}

static void add_row(const struct run *run, int who, struct report *report)
{
    struct summary first[RESULT_ROUNDS_MAX], step[RESULT_ROUNDS_MAX];
    double largest = (double)NAN;
    for (uint32_t round = 0; round < run->round_count; round++) {
        first[round] = figures_of(run, who, round)->first;
        step[round] = figures_of(run, who, round)->step;
        largest = fmax(largest, first[round].p999); /* of at most a thousand: the longest */
    }
    const struct result firsts = samples_result(first, run->round_count);
    const struct result steps = samples_result(step, run->round_count);
    report_text(report, who_names[who]);
    report_real(report, firsts.p50 / 1e6);
    report_real(report, firsts.p99 / 1e6);
    report_real(report, largest / 1e6);
    report_real(report, firsts.p50_mad / 1e6);
    report_real(report, who == FLOODED ? median_of(run, who, TIMES_P50) : (double)NAN);
    report_real(report, who == FLOODED ? median_of(run, who, TIMES_P99) : (double)NAN);
    report_real(report, steps.p50 / 1e6);
    report_real(report, steps.p99 / 1e6);
    report_real(report, median_of(run, who, TOKENS_PER_S));
    report_count(report, firsts.count);
    report_count(report, firsts.rounds);
}

static void write_report(const struct run *run)
{
    struct report report;
    report_init(&report, "flood", columns, sizeof columns / sizeof columns[0]);
    report_set_number(&report, "rounds", run->round_count);
    report_set_number(&report, "seconds", (double)run->run_ns / 1e9);
    report_set_number(&report, "requests", run->options->flood);
    report_set_number(&report, "prompt", run->options->prompt);
    report_set_number(&report, "tokens", run->options->tokens);
    report_set_number(&report, "question", QUESTION_TOKENS);
    report_set_number(&report, "step_tokens", run->options->step_tokens);
    for (int who = 0; who < WHO_COUNT; who++)
        add_row(run, who, &report);
    report_note(&report, "first: submit to first token, of the one who asks one short question at "
                         "a time, without (quiet) and");
    report_note(&report,
                "with (flooded) another user's %u requests in flight; flood: of those. "
                "Medians over the rounds; max: of all.",
                run->options->flood);
    report_write(&report, &run->machine, run->options, stdout);
    report_close(&report);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

/* A user that is not root must reach the socket in our directory. */
static enum llm_status let_nobody_in(const struct target *target, struct llm_error *error)
{
    if (chmod(target->directory, 0711) != 0 || chmod(target->socket, 0666) != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot open %s to another user",
                              target->socket);
    return LLM_OK;
}

static enum llm_status check_options(const struct bench_options *options, struct llm_error *error)
{
    if (options->socket)
        return llm_fail(error, LLM_ERR_INVALID,
                        "a flood needs a private daemon: leave --socket away");
    if (geteuid() != 0)
        return llm_fail(error, LLM_ERR_PERMISSION,
                        "a flood needs two users, and only root can be two: run it as root");
    return LLM_OK;
}

static enum llm_status open_run(struct run *run, struct llm_error *error)
{
    const struct bench_options *options = run->options;
    char slots[48], step[48];
    const char *settings[] = {"models.default=tinynotes", slots, step, NULL};
    run->round_count = options->quick ? 1 : options->rounds;
    run->run_ns = (uint64_t)((options->quick ? 0.1 : options->seconds) * 1e9);
    run->random = 88172645463325252u;
    enum llm_status status = check_options(options, error);
    if (status != LLM_OK)
        return status;
    run->rounds = calloc((size_t)WHO_COUNT * run->round_count, sizeof *run->rounds);
    run->board =
        mmap(NULL, sizeof *run->board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!run->rounds || run->board == MAP_FAILED)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u rounds", run->round_count);
    snprintf(slots, sizeof slots, "limits.stream_slots=%u", options->flood + 1);
    snprintf(step, sizeof step, "limits.step_tokens=%u", options->step_tokens);
    status = machine_open(&run->machine, options->cpus, options->fifo, error);
    if (status == LLM_OK)
        status = samples_open(&run->samples, SAMPLES_MAX, error);
    if (status == LLM_OK)
        status = samples_open(&run->steps, LLM_STATUS_STEPS, error);
    if (status == LLM_OK)
        status = target_open(&run->target, NULL, settings, error);
    if (status == LLM_OK)
        status = let_nobody_in(&run->target, error);
    if (status == LLM_OK)
        status = target_connect(&run->target, LLM_WAIT_FUTEX, &run->connection, error);
    if (status == LLM_OK) {
        target_pin(&run->target, &run->machine);
        machine_pin(&run->machine, 0, 0);
    }
    return status;
}

static void close_run(struct run *run)
{
    llm_disconnect(run->connection);
    target_close(&run->target);
    samples_close(&run->samples);
    samples_close(&run->steps);
    if (run->board && run->board != MAP_FAILED)
        munmap(run->board, sizeof *run->board);
    free(run->rounds);
}

enum llm_status bench_flood(const struct bench_options *options, struct llm_error *error)
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

const struct option_row flood_options[] = {
    {"requests", "N", OPTION_COUNT, offsetof(struct bench_options, flood), 1, REQUESTS_MAX,
     "that the flood keeps in flight"},
    {"prompt", "N", OPTION_COUNT, offsetof(struct bench_options, prompt), 1, PROMPT_MAX,
     "tokens of each of its prompts"},
    {"tokens", "N", OPTION_COUNT, offsetof(struct bench_options, tokens), 1, 1024,
     "of each of its answers"},
    {"step-tokens", "N", OPTION_COUNT, offsetof(struct bench_options, step_tokens), 72, 16384,
     "that a step computes (limits.step_tokens)"},
    {NULL, NULL, OPTION_FLAG, 0, 0, 0, NULL},
};
