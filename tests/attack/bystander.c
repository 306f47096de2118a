#include "tests/attack/bystander.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"

#define PATIENCE_NS       (60 * LLM_NS_PER_S)
#define ANSWERS_TO_WARM   20
#define ANSWERS_TO_ATTACH 8 /* between two attaches */

static const uint32_t prompt[] = {301, 302, 303, 304, 305, 306};
#define PROMPT_TOKENS (sizeof prompt / sizeof prompt[0])

/* ---- The process ----------------------------------------------------------------------------------- */

static _Noreturn void complain(struct bystander_shared *shared, const char *what, uint64_t number)
{
    snprintf(shared->what, sizeof shared->what, "%s (%llu)", what, (unsigned long long)number);
    atomic_store(&shared->wrong, true);
    _exit(1);
}

static void keep(struct bystander_shared *shared, uint32_t phase, enum bystander_time time,
                 uint64_t ns)
{
    if (phase != BYSTANDER_QUIET && phase != BYSTANDER_ATTACKED)
        return;
    struct bystander_samples *samples = &shared->samples[phase][time];
    uint32_t count = atomic_load_explicit(&samples->count, memory_order_relaxed);
    if (count == BYSTANDER_SAMPLES_MAX)
        return;
    samples->ns[count] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
    atomic_store_explicit(&samples->count, count + 1, memory_order_release);
}

/* An answer counts for the phase in which it was asked. */
static void ask(struct bystander_shared *shared, llm_connection *connection)
{
    llm_stream *stream;
    llm_error error;
    uint32_t phase = atomic_load(&shared->phase), total = 0, count;
    uint64_t started_ns = llm_now_ns(), last_ns = started_ns;
    if (llm_submit(connection, prompt, PROMPT_TOKENS,
                   &(llm_sampling){.max_tokens = BYSTANDER_TOKENS}, &stream, &error) != LLM_OK)
        complain(shared, error.message, 0);
    do {
        uint32_t tokens[BYSTANDER_TOKENS];
        if (llm_stream_read(stream, tokens, NULL, BYSTANDER_TOKENS, PATIENCE_NS, &count, &error) !=
            LLM_OK)
            complain(shared, error.message, total);
        uint64_t now_ns = llm_now_ns();
        if (count > 0)
            keep(shared, phase, total == 0 ? BYSTANDER_FIRST : BYSTANDER_GAP, now_ns - last_ns);
        last_ns = now_ns;
        for (uint32_t i = 0; i < count; i++, total++)
            if (tokens[i] != test_echo(prompt, PROMPT_TOKENS, total))
                complain(shared, "a wrong token", total);
    } while (count > 0);
    keep(shared, phase, BYSTANDER_DONE, last_ns - started_ns);
    if (total != BYSTANDER_TOKENS)
        complain(shared, "tokens are missing", total);
    llm_stream_close(stream);
    atomic_fetch_add(&shared->answers, 1);
}

static llm_connection *attach(struct bystander_shared *shared, const struct test_daemon *daemon)
{
    llm_connection *connection;
    llm_error error;
    uint32_t phase = atomic_load(&shared->phase);
    uint64_t started_ns = llm_now_ns();
    const llm_connect_options options = {.socket = daemon->socket, .no_autostart = true};
    if (llm_connect(&connection, &options, &error) != LLM_OK)
        complain(shared, error.message, 0);
    keep(shared, phase, BYSTANDER_ATTACH, llm_now_ns() - started_ns);
    return connection;
}

static _Noreturn void mind_its_business(struct bystander_shared *shared,
                                        const struct test_daemon *daemon, bool attaches)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    llm_connection *connection = attach(shared, daemon);
    for (uint32_t i = 1; atomic_load(&shared->phase) != BYSTANDER_ENDING; i++) {
        ask(shared, connection);
        if (attaches && i % ANSWERS_TO_ATTACH == 0)
            llm_disconnect(attach(shared, daemon));
    }
    llm_disconnect(connection);
    _exit(0);
}

/* ---- The test's side ------------------------------------------------------------------------------- */

static void assert_right(const struct bystander *bystander)
{
    ck_assert_msg(!atomic_load(&bystander->shared->wrong), "the bystander: %s",
                  bystander->shared->what);
}

static void wait_for_answers(const struct bystander *bystander, uint32_t answers)
{
    uint64_t deadline_ns = llm_deadline_ns(PATIENCE_NS);
    while (atomic_load(&bystander->shared->answers) < answers) {
        assert_right(bystander);
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0, "the bystander is not answered");
        test_sleep_ms(1);
    }
}

void bystander_start(struct bystander *bystander, const struct test_daemon *daemon, bool attaches)
{
    bystander->shared = mmap(NULL, sizeof *bystander->shared, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(bystander->shared != MAP_FAILED);
    bystander->pid = fork();
    if (bystander->pid == 0)
        mind_its_business(bystander->shared, daemon, attaches);
    ck_assert_int_gt(bystander->pid, 0);
    wait_for_answers(bystander, ANSWERS_TO_WARM);
}

void bystander_enter(struct bystander *bystander, enum bystander_phase phase)
{
    assert_right(bystander);
    atomic_store(&bystander->shared->phase, phase);
}

void bystander_stop(struct bystander *bystander)
{
    int status;
    bystander_enter(bystander, BYSTANDER_WARMING);
    wait_for_answers(bystander, atomic_load(&bystander->shared->answers) + 2);
    bystander_enter(bystander, BYSTANDER_ENDING);
    ck_assert_int_eq(waitpid(bystander->pid, &status, 0), bystander->pid);
    assert_right(bystander);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the bystander ended with 0x%x",
                  (unsigned)status);
}

uint32_t bystander_answers(const struct bystander *bystander, enum bystander_phase phase)
{
    return atomic_load(&bystander->shared->samples[phase][BYSTANDER_DONE].count);
}

static int by_size(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

double bystander_us(struct bystander *bystander, enum bystander_phase phase,
                    enum bystander_time time, unsigned permille)
{
    struct bystander_samples *samples = &bystander->shared->samples[phase][time];
    uint32_t count = atomic_load(&samples->count);
    if (count == 0)
        return 0;
    qsort(samples->ns, count, sizeof samples->ns[0], by_size);
    uint32_t at = (uint32_t)((uint64_t)count * permille / 1000);
    return samples->ns[at < count ? at : count - 1] / 1000.0;
}
