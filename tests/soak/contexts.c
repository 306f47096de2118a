/*
 * contexts.c - engines killed again and again under clients that fork, name and extend contexts: nothing is lost.
 * How: the built-in model; documents published once; clients (processes) that fork them, append a question and generate, and
 * each a named context of their own that they append to, rewind and read back. Every answer must be the one that another
 * daemon gave alone beforehand, every context must hold what the client's own array says. The engine is killed at
 * moments drawn from LLM_TEST_SEED, the next one only after each request went on with this one, so that none is given up
 * as poison. Measured: the time from a kill to the next token of each answer under way, and the prompt tokens found again.
 * LLM_SOAK_ENGINE_KILLS (1000) and LLM_SOAK_CLIENTS (32) set the size. The last line says what happened.
 */
#include <check.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "tests/support/daemon.h"
#include "tests/support/in_flight.h"
#include "tests/support/test_seed.h"

#define CLIENTS_MAX     64
#define DOCUMENTS       4
#define DOCUMENT_TOKENS 200
#define QUESTIONS       24
#define QUESTION_TOKENS 12
#define ANSWER_TOKENS   24
#define OWN_TOKENS      300
#define VOCAB_TOKENS    2048
#define WAITS_MAX       (1u << 16)
#define WAIT_NS         (120 * LLM_NS_PER_S)

struct question {
    uint32_t document, suffix[QUESTION_TOKENS];
    llm_sampling sampling;
    uint32_t answer[ANSWER_TOKENS];
    uint32_t answer_tokens;
};

struct shared {
    struct question questions[QUESTIONS];
    _Atomic bool stop;
    _Atomic uint64_t killed_ns; /* the last kill */
    _Atomic uint64_t answers, tokens, forks, checks;
    _Atomic uint32_t wait_count;
    _Atomic uint32_t waits_us[WAITS_MAX]; /* kill to next token */
    struct {
        uint32_t ids[OWN_TOKENS];
        uint32_t length;
    } own[CLIENTS_MAX]; /* what each client's named context holds; written by the client alone */
    _Atomic bool failed;
    char failure[512];
};

struct soak {
    struct test_daemon daemon;
    uint64_t seed, random, started_ns;
    uint32_t clients, kills_wanted, kills;
    pid_t pids[CLIENTS_MAX];
};

static struct shared *shared;

static uint32_t below(uint64_t *random, uint32_t end)
{
    return (uint32_t)(test_random(random) % end);
}

static uint32_t number_of(const char *variable, uint32_t otherwise, uint32_t most)
{
    const char *text = getenv(variable);
    unsigned long value = text ? strtoul(text, NULL, 10) : otherwise;
    return value < most ? (uint32_t)value : most;
}

static uint32_t document_id(uint32_t document, uint32_t position)
{
    return 3 + (document * 977 + position * 31) % (VOCAB_TOKENS - 3);
}

/* ---- In a client: the first failure is told, and everybody stops ------------------------------------- */

static _Noreturn void give_up(const char *format, ...) LLM_PRINTF(1, 2);
static _Noreturn void give_up(const char *format, ...)
{
    if (!atomic_exchange(&shared->failed, true)) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(shared->failure, sizeof shared->failure, format, arguments);
        va_end(arguments);
        fprintf(stderr, "%s\n", shared->failure);
    }
    atomic_store(&shared->stop, true);
    _exit(1);
}

#define MUST(call)                                   \
    do {                                             \
        llm_error error;                             \
        if ((call) != LLM_OK)                        \
            give_up("%s: %s", #call, error.message); \
    } while (0)

/* A token came after the engine had been killed under its answer. */
static void note_wait(uint64_t began_ns, uint64_t last_ns)
{
    uint64_t killed_ns = atomic_load(&shared->killed_ns), now_ns = llm_now_ns();
    if (killed_ns <= began_ns || killed_ns <= last_ns)
        return;
    uint32_t i = atomic_fetch_add(&shared->wait_count, 1);
    if (i < WAITS_MAX)
        atomic_store(&shared->waits_us[i], (uint32_t)((now_ns - killed_ns) / LLM_NS_PER_US));
}

static void collect(llm_stream *stream, const struct question *question)
{
    uint32_t total = 0, count, tokens[ANSWER_TOKENS + 1];
    uint64_t began_ns = llm_now_ns(), last_ns = began_ns;
    do {
        MUST(llm_stream_read(stream, tokens + total, NULL, ANSWER_TOKENS + 1 - total, WAIT_NS,
                             &count, &error));
        if (count > 0)
            note_wait(began_ns, last_ns);
        last_ns = llm_now_ns();
        total += count;
    } while (count > 0 && total <= ANSWER_TOKENS);
    if (total != question->answer_tokens ||
        memcmp(tokens, question->answer, total * sizeof *tokens) != 0)
        give_up("question %td: %u tokens came, %u are right, and they differ",
                question - shared->questions, total, question->answer_tokens);
    atomic_fetch_add(&shared->answers, 1);
    atomic_fetch_add(&shared->tokens, total);
}

static void ask(llm_connection *connection, const struct question *question)
{
    char name[64];
    llm_context *document, *mine;
    llm_stream *stream;
    snprintf(name, sizeof name, "soak/document/%u", question->document);
    MUST(llm_context_open(connection, name, &document, &error));
    MUST(llm_context_fork(document, &mine, &error));
    MUST(llm_generate_after(mine, question->suffix, QUESTION_TOKENS, &question->sampling, &stream,
                            &error));
    atomic_fetch_add(&shared->forks, 1);
    collect(stream, question);
    llm_stream_close(stream);
    llm_context_close(mine);
    llm_context_close(document);
}

/* ---- A client's own context -------------------------------------------------------------------------- */

static void check_own(llm_context *context, uint32_t me)
{
    uint32_t ids[OWN_TOKENS + 1], total = 0, count;
    do {
        MUST(llm_context_read(context, total, ids + total, OWN_TOKENS + 1 - total, &count, &error));
        total += count;
    } while (count > 0 && total <= OWN_TOKENS);
    if (total != shared->own[me].length ||
        memcmp(ids, shared->own[me].ids, total * sizeof *ids) != 0)
        give_up("the context of client %u holds %u tokens; it appended %u", me, total,
                shared->own[me].length);
    atomic_fetch_add(&shared->checks, 1);
}

static void extend_own(llm_context *context, uint32_t me, uint64_t *random)
{
    uint32_t ids[16], count = 1 + below(random, 16);
    if (shared->own[me].length + count > OWN_TOKENS) {
        uint32_t length = below(random, 40);
        MUST(llm_context_rewind(context, length, &error));
        shared->own[me].length = length;
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        ids[i] = 3 + below(random, VOCAB_TOKENS - 3);
    MUST(llm_context_append(context, ids, count, &error));
    memcpy(shared->own[me].ids + shared->own[me].length, ids, count * sizeof *ids);
    shared->own[me].length += count;
}

static _Noreturn void be_a_client(const struct soak *soak, uint32_t me, uint64_t random)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char name[64];
    llm_context *own;
    llm_connection *connection = test_daemon_connect(&soak->daemon);
    snprintf(name, sizeof name, "soak/client/%u", me);
    MUST(llm_context_create(connection, NULL, &own, &error));
    MUST(llm_context_publish(own, name, NULL, &error));
    while (!atomic_load(&shared->stop)) {
        ask(connection, &shared->questions[below(&random, QUESTIONS)]);
        extend_own(own, me, &random);
        if (below(&random, 4) == 0)
            check_own(own, me);
        if (below(&random, 8) == 0) { /* under another name, and by that name */
            MUST(llm_context_publish(own, name, &(llm_publish){.mode = 0640}, &error));
            llm_context_close(own);
            MUST(llm_context_open(connection, name, &own, &error));
        }
    }
    llm_context_close(own);
    llm_disconnect(connection);
    _exit(0);
}

/* ---- Before and after -------------------------------------------------------------------------------- */

#define MUST_HERE(call)                                                  \
    do {                                                                 \
        llm_error error;                                                 \
        ck_assert_msg((call) == LLM_OK, "%s: %s", #call, error.message); \
    } while (0)

static void draw_questions(uint64_t *random)
{
    for (uint32_t i = 0; i < QUESTIONS; i++) {
        struct question *question = &shared->questions[i];
        question->document = below(random, DOCUMENTS);
        for (uint32_t t = 0; t < QUESTION_TOKENS; t++)
            question->suffix[t] = 3 + below(random, VOCAB_TOKENS - 3);
        question->sampling = (llm_sampling){.max_tokens = ANSWER_TOKENS,
                                            .temperature = below(random, 2) ? 0.9F : 0.0F,
                                            .seed = test_random(random),
                                            .has_seed = true,
                                            .ignore_eos = true};
    }
}

static void answer_alone(void)
{
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--model", "tinynotes", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    for (uint32_t i = 0; i < QUESTIONS; i++) {
        struct question *question = &shared->questions[i];
        uint32_t prompt[DOCUMENT_TOKENS + QUESTION_TOKENS], count;
        llm_stream *stream;
        for (uint32_t t = 0; t < DOCUMENT_TOKENS; t++)
            prompt[t] = document_id(question->document, t);
        memcpy(prompt + DOCUMENT_TOKENS, question->suffix, sizeof question->suffix);
        MUST_HERE(llm_submit(connection, prompt, DOCUMENT_TOKENS + QUESTION_TOKENS,
                             &question->sampling, &stream, &error));
        do {
            MUST_HERE(llm_stream_read(stream, question->answer + question->answer_tokens, NULL,
                                      ANSWER_TOKENS + 1 - question->answer_tokens, WAIT_NS, &count,
                                      &error));
            question->answer_tokens += count;
        } while (count > 0);
        llm_stream_close(stream);
    }
    llm_disconnect(connection);
    test_daemon_stop(&daemon);
}

static void publish_documents(llm_connection *connection)
{
    for (uint32_t document = 0; document < DOCUMENTS; document++) {
        char name[64];
        uint32_t ids[DOCUMENT_TOKENS];
        llm_context *context;
        snprintf(name, sizeof name, "soak/document/%u", document);
        for (uint32_t t = 0; t < DOCUMENT_TOKENS; t++)
            ids[t] = document_id(document, t);
        MUST_HERE(llm_context_create(connection, NULL, &context, &error));
        MUST_HERE(llm_context_append(context, ids, DOCUMENT_TOKENS, &error));
        MUST_HERE(llm_context_publish(context, name,
                                      &(llm_publish){.mode = 0644, .pin = document == 0}, &error));
        llm_context_close(context);
    }
}

/* Every name is there with what it held, and can be taken away. */
static void remove_everything(llm_connection *connection, const struct soak *soak)
{
    for (uint32_t i = 0; i < soak->clients + DOCUMENTS; i++) {
        char name[64];
        llm_context *context;
        bool document = i >= soak->clients;
        snprintf(name, sizeof name, document ? "soak/document/%u" : "soak/client/%u",
                 document ? i - soak->clients : i);
        MUST_HERE(llm_context_open(connection, name, &context, &error));
        if (!document)
            check_own(context, i);
        MUST_HERE(llm_context_remove(context, &error));
        llm_context_close(context);
    }
}

/* ---- The run ----------------------------------------------------------------------------------------- */

static void stop_if_failed(const struct soak *soak)
{
    ck_assert_msg(!atomic_load(&shared->failed), "seed %llu, after %u kills: %s",
                  (unsigned long long)soak->seed, soak->kills, shared->failure);
}

/* Kill; wait for the next engine, and until each request that was in flight went on with it. */
static void kill_one(struct soak *soak)
{
    struct in_flight in_flight;
    uint64_t generation = test_daemon_generation(&soak->daemon);
    uint64_t deadline_ns = llm_deadline_ns(WAIT_NS);
    atomic_store(&shared->killed_ns, llm_now_ns());
    test_daemon_kill_engine(&soak->daemon);
    soak->kills++;
    test_daemon_wait_generation(&soak->daemon, generation + 1);
    in_flight_remember(&in_flight, soak->daemon.status);
    while (!in_flight_moved(&in_flight, soak->daemon.status)) {
        stop_if_failed(soak);
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0, "seed %llu: nothing goes on after kill %u",
                      (unsigned long long)soak->seed, soak->kills);
        test_sleep_ms(1);
    }
}

static void start_clients(struct soak *soak)
{
    for (uint32_t i = 0; i < soak->clients; i++) {
        uint64_t its_own = test_random(&soak->random);
        soak->pids[i] = fork();
        ck_assert_int_ge(soak->pids[i], 0);
        if (soak->pids[i] == 0)
            be_a_client(soak, i, its_own);
    }
}

static void end_clients(struct soak *soak)
{
    atomic_store(&shared->stop, true);
    for (uint32_t i = 0; i < soak->clients; i++) {
        int status;
        ck_assert_int_eq(waitpid(soak->pids[i], &status, 0), soak->pids[i]);
        stop_if_failed(soak);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                      "seed %llu: client %u ended with status 0x%x", (unsigned long long)soak->seed,
                      i, (unsigned)status);
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static void print_counts(const struct soak *soak)
{
    static uint32_t waits[WAITS_MAX];
    uint32_t count = atomic_load(&shared->wait_count);
    count = count < WAITS_MAX ? count : WAITS_MAX;
    for (uint32_t i = 0; i < count; i++)
        waits[i] = atomic_load(&shared->waits_us[i]);
    qsort(waits, count, sizeof waits[0], by_size);
    const struct llm_status_engine *engine = &soak->daemon.status->engine;
    printf("contexts: %u engine kills under %u clients; %llu answers, %llu tokens compared, %llu "
           "forks, %llu readings of named contexts, 0 wrong, 0 lost; kill to next token: median "
           "%.1f ms, longest %.1f ms of %u; prompt tokens %llu, taken from the cache %llu (again "
           "after each kill); %llu s, "
           "seed %llu\n",
           soak->kills, soak->clients, (unsigned long long)atomic_load(&shared->answers),
           (unsigned long long)atomic_load(&shared->tokens),
           (unsigned long long)atomic_load(&shared->forks),
           (unsigned long long)atomic_load(&shared->checks), count ? waits[count / 2] / 1e3 : 0.0,
           count ? waits[count - 1] / 1e3 : 0.0, count,
           (unsigned long long)atomic_load(&engine->counters[LLM_COUNTER_TOKENS_IN]),
           (unsigned long long)atomic_load(&engine->counters[LLM_COUNTER_TOKENS_CACHED]),
           (unsigned long long)((llm_now_ns() - soak->started_ns) / LLM_NS_PER_S),
           (unsigned long long)soak->seed);
}

START_TEST(no_token_and_no_context_is_lost)
{
    static struct soak soak;
    soak.seed = soak.random = test_seed();
    soak.kills_wanted = number_of("LLM_SOAK_ENGINE_KILLS", 1000, 1000000);
    soak.clients = number_of("LLM_SOAK_CLIENTS", 32, CLIENTS_MAX);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    draw_questions(&soak.random);
    answer_alone();
    test_daemon_start(&soak.daemon, (const char *const[]){"--model", "tinynotes", "--set",
                                                          "limits.engine_deaths=1000", "--set",
                                                          "limits.engine_deaths_window_s=1",
                                                          "--set", "log.level=warn", NULL});
    soak.started_ns = llm_now_ns();
    llm_connection *connection = test_daemon_connect(&soak.daemon);
    publish_documents(connection);
    start_clients(&soak);
    while (soak.kills < soak.kills_wanted) {
        test_sleep_ms(20 + below(&soak.random, 300));
        stop_if_failed(&soak);
        kill_one(&soak);
    }
    end_clients(&soak);
    remove_everything(connection, &soak);
    llm_disconnect(connection);
    const struct llm_status_engine *engine = &soak.daemon.status->engine;
    ck_assert_uint_gt(atomic_load(&engine->counters[LLM_COUNTER_TOKENS_CACHED]), 0);
    test_daemon_assert_clean(&soak.daemon);
    print_counts(&soak);
    test_daemon_stop(&soak.daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("soak/contexts");
    TCase *tcase = tcase_create("contexts");
    tcase_set_timeout(tcase, 0);
    tcase_add_test(tcase, no_token_and_no_context_is_lost);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK); /* its children are its own */
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
