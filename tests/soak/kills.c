/*
 * kills.c - a very long run of kills: 100,000 clients and 1,000 engines, and not one token of a bystander is lost.
 * How: one daemon; victims, several at a time, that do everything a client can (tests/support/client_life.c) until they are
 * killed, half of them by themselves at a crash point of libllm, half from outside at a moment drawn from LLM_TEST_SEED;
 * bystanders that compare each token of each answer; an engine that is killed every so many victims, every eighth time
 * again while it recovers. A next engine is killed only after each request went on with this one, so none is given up as
 * poison. Now and then, and at the end, all victims are killed and everything must be back: connection rows,
 * descriptors and mappings of keeper and engine, blocks, requests; and the keeper's memory must not grow.
 * LLM_SOAK_CLIENT_KILLS (100000) and LLM_SOAK_ENGINE_KILLS (1000) set the size. The last line says what happened.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/crash_point.h"
#include "tests/support/client_life.h"
#include "tests/support/daemon.h"
#include "tests/support/in_flight.h"
#include "tests/support/test_seed.h"

#define VICTIMS        8
#define BYSTANDERS     3
#define STREAMS        3 /* of a bystander, at once */
#define PROMPT_MAX     90
#define TOKENS_MAX     300
#define CHECKPOINTS    20
#define WAIT_NS        (120 * LLM_NS_PER_S)
#define VICTIM_LIFE_NS (LLM_NS_PER_S / 5) /* of one that does not pass its crash point */
#define KEEPER_GROWTH  (2u << 10)         /* KiB */
#define ENGINES_DONE_AT \
    90 /* per cent of the client kills: the last engine lives through the rest */

/* Shared with bystanders and victims. */
struct shared {
    struct client_counts bystander;
    struct client_counts victim;
    _Atomic bool stop;      /* bystanders finish what they have and leave */
    _Atomic bool closed;    /* the gate: bystanders submit nothing new */
    _Atomic uint32_t fresh; /* requests of bystanders without their first token */
};

struct victim {
    pid_t pid;
    uint64_t kill_ns; /* when it is killed from outside */
};

/* What the controller waits for before it kills the next engine. */
enum engine_phase {
    ENGINE_SERVES,
    ENGINE_KILLED,  /* until the next one is ready */
    ENGINE_GOES_ON, /* until each request that was in flight has moved */
    ENGINE_GATE_SHUT, /* until no request of a bystander is without its first token: two deaths in a row follow */
};

struct soak {
    struct test_daemon daemon;
    struct shared *shared;
    uint64_t seed, random, started_ns;
    uint64_t client_kills_wanted, engine_kills_wanted;
    uint64_t client_kills, at_points, engine_kills, in_recovery;
    struct victim victims[VICTIMS];
    pid_t bystanders[BYSTANDERS];
    enum engine_phase phase;
    uint64_t phase_ns; /* since when */
    uint64_t generation;
    struct in_flight in_flight;
    uint64_t keeper_kib_first, keeper_kib_last;
    unsigned keeper_maps_first, engine_fds_first, engine_maps_first;
};

static uint64_t below(uint64_t *random, uint64_t end)
{
    return test_random(random) % end;
}

/* A child of ours goes with us, whatever ends us. It makes no assertions: Check notes each in a file that it shares with us, and
 * one that is killed while it writes leaves half a note. */
static pid_t fork_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return 0;
    }
    ck_assert_msg(pid > 0, "cannot fork: %s", strerror(errno));
    return pid;
}

static uint64_t number_of(const char *name, uint64_t usual)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : usual;
}

/* ---- Bystanders ------------------------------------------------------------------------------------ */

struct asked {
    llm_stream *stream;
    uint32_t prompt[PROMPT_MAX];
    uint32_t prompt_tokens, max_tokens, seen;
};

static void lose(struct shared *shared, const char *doing, const char *message)
{
    if (atomic_fetch_add(&shared->bystander.failed, 1) == 0)
        snprintf(shared->bystander.first_failure, sizeof shared->bystander.first_failure,
                 "%.20s: %.200s", doing, message);
    _exit(1);
}

static void pass_gate(struct shared *shared)
{
    for (;;) {
        atomic_fetch_add(&shared->fresh, 1);
        if (!atomic_load(&shared->closed))
            return;
        atomic_fetch_sub(&shared->fresh, 1);
        test_sleep_ms(1);
    }
}

static void ask(struct shared *shared, llm_connection *connection, struct asked *asked,
                uint64_t *random)
{
    llm_error error;
    *asked = (struct asked){.prompt_tokens = 1 + (uint32_t)below(random, PROMPT_MAX),
                            .max_tokens = 1 + (uint32_t)below(random, TOKENS_MAX)};
    uint32_t family = (uint32_t)below(random, 4);
    for (uint32_t i = 0; i < asked->prompt_tokens; i++)
        asked->prompt[i] = family * 1000 + i + (i > 40 ? (uint32_t)below(random, 2) : 0);
    pass_gate(shared);
    if (llm_submit(connection, asked->prompt, asked->prompt_tokens,
                   &(llm_sampling){.max_tokens = asked->max_tokens}, &asked->stream,
                   &error) != LLM_OK)
        lose(shared, "submit", error.message);
    atomic_fetch_add(&shared->bystander.requests, 1);
}

/* Up to `capacity` tokens; false at the end. */
static bool read_some(struct shared *shared, struct asked *asked, uint32_t capacity)
{
    uint32_t tokens[32], count = 0;
    llm_error error;
    if (llm_stream_read(asked->stream, tokens, NULL, capacity, WAIT_NS, &count, &error) != LLM_OK)
        lose(shared, "read", error.message);
    if (asked->seen == 0)
        atomic_fetch_sub(&shared->fresh, 1);
    for (uint32_t i = 0; i < count; i++, asked->seen++)
        if (asked->seen >= asked->max_tokens ||
            tokens[i] != test_echo(asked->prompt, asked->prompt_tokens, asked->seen)) {
            atomic_fetch_add(&shared->bystander.wrong, 1);
            lose(shared, "read", "a token that is doubled or not the echo's");
        }
    atomic_fetch_add(&shared->bystander.tokens, count);
    return count > 0;
}

static void finish(struct shared *shared, struct asked *asked)
{
    while (read_some(shared, asked, 32))
        ;
    if (asked->seen != asked->max_tokens) {
        atomic_fetch_add(&shared->bystander.wrong, 1);
        lose(shared, "read", "an answer that is too short");
    }
    atomic_fetch_add(&shared->bystander.answers, 1);
    llm_stream_close(asked->stream);
}

static void be_a_bystander(const struct soak *soak, uint64_t random)
{
    static struct asked asked[STREAMS];
    struct shared *shared = soak->shared;
    llm_connection *connection;
    llm_error error;
    const llm_connect_options options = {.socket = soak->daemon.socket, .no_autostart = true};
    if (llm_connect(&connection, &options, &error) != LLM_OK)
        lose(shared, "connect", error.message);
    while (!atomic_load(&shared->stop)) {
        for (int i = 0; i < STREAMS; i++)
            ask(shared, connection, &asked[i], &random);
        for (int i = 0; i < STREAMS; i++)
            read_some(shared, &asked[i], 1);
        for (int i = 0; i < STREAMS; i++)
            finish(shared, &asked[i]);
    }
    llm_disconnect(connection);
    _exit(0);
}

/* ---- Victims --------------------------------------------------------------------------------------- */

static enum llm_crash_point draw_point(uint64_t *random)
{
    for (;;) {
        enum llm_crash_point point = (enum llm_crash_point)below(random, LLM_CRASH_POINT_COUNT);
        if (llm_crash_point_who(point) == LLM_CRASH_OF_CLIENT)
            return point;
    }
}

/* Mostly soon, sometimes late: each of attaching, asking and reading gets its share. */
static uint64_t draw_moment_ns(uint64_t *random)
{
    uint64_t most_us = UINT64_C(100) << below(random, 9); /* 0.1 to 25.6 ms */
    return below(random, most_us) * LLM_NS_PER_US;
}

static void be_a_victim(const struct soak *soak, uint64_t random, bool at_point)
{
    if (at_point) {
        char crash[64];
        unsigned passes = 1u << below(&random, 4);
        snprintf(crash, sizeof crash, "%s:%u", llm_crash_point_name(draw_point(&random)),
                 1 + (unsigned)below(&random, passes));
        llm_crash_point_choose(crash);
    }
    client_life(soak->daemon.socket, random, 0, &soak->shared->victim);
    _exit(1);
}

static void start_victim(struct soak *soak, struct victim *victim)
{
    bool at_point = below(&soak->random, 2) == 0;
    uint64_t its_own = test_random(&soak->random);
    uint64_t life_ns = at_point ? VICTIM_LIFE_NS : draw_moment_ns(&soak->random);
    victim->pid = fork_child();
    if (victim->pid == 0)
        be_a_victim(soak, its_own, at_point);
    victim->kill_ns = llm_now_ns() + life_ns;
}

static void kill_due_victims(struct soak *soak)
{
    uint64_t now_ns = llm_now_ns();
    for (int i = 0; i < VICTIMS; i++)
        if (soak->victims[i].pid > 0 && soak->victims[i].kill_ns <= now_ns) {
            kill(soak->victims[i].pid, SIGKILL);
            soak->victims[i].kill_ns = UINT64_MAX; /* from outside: not at a point */
        }
}

static void bury(struct soak *soak, pid_t pid, int status)
{
    for (int i = 0; i < VICTIMS; i++) {
        if (soak->victims[i].pid != pid)
            continue;
        ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                      "seed %llu: a victim ended with status 0x%x: %s",
                      (unsigned long long)soak->seed, (unsigned)status,
                      soak->shared->victim.first_failure);
        soak->client_kills++;
        soak->at_points += soak->victims[i].kill_ns != UINT64_MAX;
        soak->victims[i].pid = 0;
        return;
    }
    ck_abort_msg("seed %llu: process %d ended with status 0x%x: %s", (unsigned long long)soak->seed,
                 (int)pid, (unsigned)status, soak->shared->bystander.first_failure);
}

static void bury_dead(struct soak *soak)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        bury(soak, pid, status);
}

static void start_missing(struct soak *soak)
{
    for (int i = 0; i < VICTIMS; i++)
        if (soak->victims[i].pid == 0)
            start_victim(soak, &soak->victims[i]);
}

static void end_all_victims(struct soak *soak)
{
    for (int i = 0; i < VICTIMS; i++)
        if (soak->victims[i].pid > 0) {
            kill(soak->victims[i].pid, SIGKILL);
            soak->victims[i].kill_ns = UINT64_MAX;
            int status;
            pid_t pid = soak->victims[i].pid;
            ck_assert_int_eq(waitpid(pid, &status, 0), pid);
            bury(soak, pid, status);
        }
}

/* ---- Engines --------------------------------------------------------------------------------------- */

static void enter(struct soak *soak, enum engine_phase phase)
{
    soak->phase = phase;
    soak->phase_ns = llm_now_ns();
}

static void kill_engine(struct soak *soak)
{
    pid_t pid = (pid_t)atomic_load(&soak->daemon.status->keeper.engine_pid);
    if (pid > 1 && kill(pid, SIGKILL) == 0)
        soak->engine_kills++;
}

static void kill_engine_twice(struct soak *soak)
{
    uint64_t before = soak->engine_kills;
    uint64_t generation = atomic_load(&soak->daemon.status->keeper.engine_generation);
    kill_engine(soak);
    while (atomic_load(&soak->daemon.status->keeper.engine_generation) == generation)
        test_sleep_ms(1);
    usleep((useconds_t)below(&soak->random, 8000)); /* somewhere in its opening */
    kill_engine(soak);
    soak->in_recovery += soak->engine_kills - before > 1;
}

static bool engine_kill_due(const struct soak *soak)
{
    uint64_t until = soak->client_kills_wanted * ENGINES_DONE_AT / 100;
    return soak->engine_kills < soak->engine_kills_wanted &&
           soak->client_kills * soak->engine_kills_wanted >= soak->engine_kills * until;
}

static void go_on_with_engine(struct soak *soak)
{
    ck_assert_msg(soak->phase == ENGINE_SERVES || llm_now_ns() - soak->phase_ns < WAIT_NS,
                  "seed %llu: nothing goes on after %llu engine kills (phase %d)",
                  (unsigned long long)soak->seed, (unsigned long long)soak->engine_kills,
                  (int)soak->phase);
    switch (soak->phase) {
    case ENGINE_SERVES:
        if (!engine_kill_due(soak))
            return;
        if (soak->engine_kills % 8 == 7) {
            atomic_store(&soak->shared->closed, true);
            enter(soak, ENGINE_GATE_SHUT);
            return;
        }
        kill_engine(soak);
        enter(soak, ENGINE_KILLED);
        return;
    case ENGINE_GATE_SHUT:
        if (atomic_load(&soak->shared->fresh) > 0)
            return;
        kill_engine_twice(soak);
        atomic_store(&soak->shared->closed, false);
        enter(soak, ENGINE_KILLED);
        return;
    case ENGINE_KILLED: /* the keeper's number first: it moves when it has noticed */
        if (atomic_load(&soak->daemon.status->keeper.engine_generation) == soak->generation ||
            test_daemon_generation(&soak->daemon) !=
                atomic_load(&soak->daemon.status->keeper.engine_generation))
            return;
        soak->generation = test_daemon_generation(&soak->daemon);
        in_flight_remember(&soak->in_flight, soak->daemon.status);
        enter(soak, ENGINE_GOES_ON);
        return;
    case ENGINE_GOES_ON:
        if (in_flight_moved(&soak->in_flight, soak->daemon.status))
            enter(soak, ENGINE_SERVES);
        return;
    }
}

/* ---- Looking whether everything is back ------------------------------------------------------------ */

/* Mappings that are shared with somebody: clients' memories are. Private ones are the allocator's, which a sanitizer's
 * takes more of as time goes by. */
static unsigned count_shared_mappings(pid_t pid)
{
    char path[64], line[512], rights[8];
    unsigned shared = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        shared += sscanf(line, "%*s %7s", rights) == 1 && rights[3] == 's';
    if (file)
        fclose(file);
    return shared;
}

static unsigned count_descriptors(pid_t pid)
{
    char command[64];
    unsigned count = 0;
    snprintf(command, sizeof command, "ls /proc/%d/fd | wc -l", (int)pid);
    FILE *pipe = popen(command, "re");
    if (pipe) {
        if (fscanf(pipe, "%u", &count) != 1)
            count = 0;
        pclose(pipe);
    }
    return count;
}

static uint64_t resident_kib(pid_t pid)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib;
}

static pid_t engine_pid(const struct soak *soak)
{
    return (pid_t)atomic_load(&soak->daemon.status->keeper.engine_pid);
}

/* The bystanders' alone are left, in the keeper and in the engine. */
static void wait_until_back(struct soak *soak)
{
    uint64_t deadline_ns = llm_deadline_ns(WAIT_NS);
    const struct llm_status_file *status = soak->daemon.status;
    for (;;) {
        uint32_t held = atomic_load(&status->keeper.descriptors_held);
        uint32_t baseline = atomic_load(&status->keeper.descriptors_baseline);
        uint32_t open = atomic_load(&status->keeper.connections_open);
        uint32_t engine_fds = count_descriptors(engine_pid(soak));
        uint32_t engine_maps = count_shared_mappings(engine_pid(soak));
        if (soak->engine_fds_first == 0 && open == BYSTANDERS && held == baseline + 6 * open) {
            soak->engine_fds_first = engine_fds;
            soak->engine_maps_first = engine_maps;
            soak->keeper_maps_first = count_shared_mappings(soak->daemon.pid);
        }
        if (open == BYSTANDERS && held == baseline + 6 * open &&
            engine_fds == soak->engine_fds_first && engine_maps <= soak->engine_maps_first)
            return;
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0,
                      "seed %llu: %u connections for %d bystanders; keeper: %u descriptors, %u "
                      "nobody's; engine: %u descriptors and %u shared mappings, %u and %u at first",
                      (unsigned long long)soak->seed, open, BYSTANDERS, held, baseline, engine_fds,
                      engine_maps, soak->engine_fds_first, soak->engine_maps_first);
        test_sleep_ms(20);
    }
}

static void check_point(struct soak *soak)
{
    while (soak->phase != ENGINE_SERVES) {
        bury_dead(soak);
        go_on_with_engine(soak);
        test_sleep_ms(1);
    }
    end_all_victims(soak);
    wait_until_back(soak);
    soak->keeper_kib_last = resident_kib(soak->daemon.pid);
    if (soak->keeper_kib_first == 0)
        soak->keeper_kib_first = soak->keeper_kib_last;
    ck_assert_msg(soak->keeper_kib_last <= soak->keeper_kib_first + KEEPER_GROWTH &&
                      count_shared_mappings(soak->daemon.pid) <= soak->keeper_maps_first,
                  "seed %llu: the keeper grew from %llu KiB to %llu",
                  (unsigned long long)soak->seed, (unsigned long long)soak->keeper_kib_first,
                  (unsigned long long)soak->keeper_kib_last);
    printf("%llu client and %llu engine kills, %llu s: %llu answers exact; keeper %llu KiB, engine "
           "%llu KiB\n",
           (unsigned long long)soak->client_kills, (unsigned long long)soak->engine_kills,
           (unsigned long long)((llm_now_ns() - soak->started_ns) / LLM_NS_PER_S),
           (unsigned long long)soak->shared->bystander.answers,
           (unsigned long long)soak->keeper_kib_last,
           (unsigned long long)resident_kib(engine_pid(soak)));
    fflush(stdout);
}

/* ---- The run --------------------------------------------------------------------------------------- */

static void open_soak(struct soak *soak)
{
    soak->seed = soak->random = test_seed();
    soak->client_kills_wanted = number_of("LLM_SOAK_CLIENT_KILLS", 100000);
    soak->engine_kills_wanted = number_of("LLM_SOAK_ENGINE_KILLS", 1000);
    soak->shared =
        mmap(NULL, sizeof *soak->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(soak->shared, MAP_FAILED);
    test_daemon_start(&soak->daemon,
                      (const char *const[]){"--set", "models.echo_step_us=100", "--set",
                                            "limits.engine_deaths=1000", "--set",
                                            "limits.engine_deaths_window_s=1", "--set",
                                            "log.level=warn", NULL});
    soak->generation = 1;
    soak->started_ns = llm_now_ns();
    for (int i = 0; i < BYSTANDERS; i++) {
        uint64_t its_own = test_random(&soak->random);
        soak->bystanders[i] = fork_child();
        if (soak->bystanders[i] == 0)
            be_a_bystander(soak, its_own);
    }
}

static void end_bystanders(struct soak *soak)
{
    atomic_store(&soak->shared->stop, true);
    for (int i = 0; i < BYSTANDERS; i++) {
        int status;
        ck_assert_int_eq(waitpid(soak->bystanders[i], &status, 0), soak->bystanders[i]);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "seed %llu: bystander: %s",
                      (unsigned long long)soak->seed, soak->shared->bystander.first_failure);
    }
}

static void print_counts(const struct soak *soak)
{
    const struct client_counts *b = &soak->shared->bystander, *v = &soak->shared->victim;
    printf(
        "kills: %llu client kills (%llu at crash points), %llu engine kills (%llu of them within a "
        "recovery); bystanders: %llu answers, %llu tokens compared, %llu wrong, %llu lost; "
        "victims: %llu answers, %llu tokens compared, %llu wrong, %llu poisoned; keeper "
        "%llu -> %llu KiB, 0 descriptors and 0 connections left; %llu s, seed %llu\n",
        (unsigned long long)soak->client_kills, (unsigned long long)soak->at_points,
        (unsigned long long)soak->engine_kills, (unsigned long long)soak->in_recovery,
        (unsigned long long)b->answers, (unsigned long long)b->tokens, (unsigned long long)b->wrong,
        (unsigned long long)(b->requests - b->answers), (unsigned long long)v->answers,
        (unsigned long long)v->tokens, (unsigned long long)v->wrong,
        (unsigned long long)v->poisoned, (unsigned long long)soak->keeper_kib_first,
        (unsigned long long)soak->keeper_kib_last,
        (unsigned long long)((llm_now_ns() - soak->started_ns) / LLM_NS_PER_S),
        (unsigned long long)soak->seed);
}

START_TEST(nothing_is_lost_doubled_different_or_left)
{
    static struct soak soak;
    open_soak(&soak);
    uint64_t next_check = soak.client_kills_wanted / CHECKPOINTS;
    while (soak.client_kills < soak.client_kills_wanted ||
           soak.engine_kills < soak.engine_kills_wanted) {
        start_missing(&soak);
        kill_due_victims(&soak);
        bury_dead(&soak);
        go_on_with_engine(&soak);
        if (soak.client_kills >= next_check) {
            check_point(&soak);
            next_check += soak.client_kills_wanted / CHECKPOINTS;
        }
        usleep(200);
    }
    check_point(&soak);
    end_bystanders(&soak);
    ck_assert_uint_eq(soak.shared->victim.wrong, 0);
    ck_assert_uint_eq(soak.shared->bystander.requests, soak.shared->bystander.answers);
    test_daemon_assert_clean(&soak.daemon);
    test_daemon_stop(&soak.daemon);
    print_counts(&soak);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("soak/kills");
    TCase *tcase = tcase_create("kills");
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, nothing_is_lost_doubled_different_or_left);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK); /* its children are its own */
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
