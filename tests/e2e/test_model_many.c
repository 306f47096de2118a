/*
 * test_model_many.c - the built-in model under a crowd: sixteen processes, twenty requests each, a pool that is
 * too small for all of them, cancels, killed processes and a killed engine.
 * How: a catalogue of questions is drawn from LLM_TEST_SEED and each is answered alone, by a daemon that does
 * nothing else. Then a crowd asks the same questions of another daemon; every answer that was not cancelled must be
 * the lonely one, token for token and log-probability for log-probability. Sixteen families of shared prompts make
 * blocks be shared, evicted and computed again.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon.h"
#include "tests/support/test_seed.h"

#define PROCESSES     16
#define REQUESTS      20
#define IN_FLIGHT     4
#define QUESTIONS     32
#define PROMPT_TOKENS 96
#define ANSWER_TOKENS 96
#define VOCAB_TOKENS  2048
#define MINUTE        UINT64_C(60000000000)

struct question {
    uint32_t prompt[PROMPT_TOKENS];
    uint32_t prompt_tokens;
    llm_sampling sampling;
    uint32_t answer[ANSWER_TOKENS];
    float logprobs[ANSWER_TOKENS];
    uint32_t answer_tokens;
};

static struct question
    *questions; /* [QUESTIONS], shared with the children, written before they exist */
static uint64_t seed;

static uint32_t below(uint64_t *random, uint32_t end)
{
    return (uint32_t)(test_random(random) % end);
}

static void draw(struct question *question, uint64_t *random)
{
    uint32_t family = below(random, 4);
    question->prompt_tokens = 1 + below(random, PROMPT_TOKENS);
    for (uint32_t i = 0; i < question->prompt_tokens; i++)
        question->prompt[i] = i < 40 ? 3 + (family * 977 + i * 31) % (VOCAB_TOKENS - 3)
                                     : 3 + below(random, VOCAB_TOKENS - 3);
    question->sampling = (llm_sampling){.max_tokens = 1 + below(random, ANSWER_TOKENS),
                                        .temperature = below(random, 3) == 0 ? 0.0F : 0.9F,
                                        .top_k = below(random, 3) == 0 ? 50 : 0,
                                        .top_p = below(random, 3) == 0 ? 0.9F : 0.0F,
                                        .seed = test_random(random),
                                        .has_seed = true,
                                        .logprobs = true,
                                        .ignore_eos = below(random, 2) == 0};
}

static llm_stream *ask(llm_connection *connection, const struct question *question)
{
    llm_stream *stream = NULL;
    llm_error error;
    ck_assert_msg(llm_submit(connection, question->prompt, question->prompt_tokens,
                             &question->sampling, &stream, &error) == LLM_OK,
                  "seed %llu: %s", (unsigned long long)seed, error.message);
    return stream;
}

static uint32_t read_all(llm_stream *stream, uint32_t tokens[ANSWER_TOKENS + 1],
                         float logprobs[ANSWER_TOKENS + 1])
{
    uint32_t total = 0, count;
    llm_error error;
    do {
        ck_assert_msg(llm_stream_read(stream, tokens + total, logprobs + total,
                                      ANSWER_TOKENS + 1 - total, MINUTE, &count, &error) == LLM_OK,
                      "seed %llu, after %u tokens: %s", (unsigned long long)seed, total,
                      error.message);
        total += count;
    } while (count > 0);
    return total;
}

static void answer_alone(void)
{
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--model", "tinynotes", NULL});
    llm_connection *connection = test_daemon_connect(&daemon);
    for (int i = 0; i < QUESTIONS; i++) {
        uint32_t tokens[ANSWER_TOKENS + 1];
        float logprobs[ANSWER_TOKENS + 1];
        llm_stream *stream = ask(connection, &questions[i]);
        uint32_t count = read_all(stream, tokens, logprobs);
        ck_assert(count > 0 && count <= questions[i].sampling.max_tokens);
        memcpy(questions[i].answer, tokens, count * sizeof *tokens);
        memcpy(questions[i].logprobs, logprobs, count * sizeof *logprobs);
        questions[i].answer_tokens = count;
        llm_stream_close(stream);
    }
    llm_disconnect(connection);
    test_daemon_stop(&daemon);
}

static void collect(llm_stream *stream, const struct question *question)
{
    uint32_t tokens[ANSWER_TOKENS + 1];
    float logprobs[ANSWER_TOKENS + 1];
    uint32_t count = read_all(stream, tokens, logprobs);
    ck_assert_msg(count == question->answer_tokens &&
                      memcmp(tokens, question->answer, count * sizeof *tokens) == 0 &&
                      memcmp(logprobs, question->logprobs, count * sizeof *logprobs) == 0,
                  "seed %llu: question %td was answered otherwise than alone",
                  (unsigned long long)seed, question - questions);
}

static void be_a_client(const struct test_daemon *daemon, uint64_t random)
{
    llm_connection *connection = test_daemon_connect(daemon);
    for (int round = 0; round < REQUESTS / IN_FLIGHT; round++) {
        const struct question *asked[IN_FLIGHT];
        llm_stream *streams[IN_FLIGHT];
        bool cancelled[IN_FLIGHT];
        for (int i = 0; i < IN_FLIGHT; i++) {
            asked[i] = &questions[below(&random, QUESTIONS)];
            streams[i] = ask(connection, asked[i]);
            cancelled[i] = below(&random, 5) == 0;
            if (cancelled[i])
                llm_stream_cancel(streams[i]);
        }
        for (int i = 0; i < IN_FLIGHT; i++) {
            if (!cancelled[i])
                collect(streams[i], asked[i]);
            llm_stream_close(streams[i]);
        }
    }
    llm_disconnect(connection);
    exit(0);
}

/* Some processes, and the engine in between. */
static void kill_some(const struct test_daemon *daemon, const pid_t *pids, const bool *doomed,
                      uint64_t *random)
{
    for (int i = 0; i < PROCESSES; i++)
        if (doomed[i]) {
            test_sleep_ms(20 + below(random, 100));
            kill(pids[i], SIGKILL);
        }
    test_daemon_kill_engine(daemon);
    test_daemon_wait_generation(daemon, 2);
}

static void wait_for(const pid_t *pids, const bool *doomed)
{
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_msg(doomed[i] || (WIFEXITED(status) && WEXITSTATUS(status) == 0),
                      "seed %llu: process %d ended with status 0x%x", (unsigned long long)seed, i,
                      (unsigned)status);
    }
}

START_TEST(every_survivor_gets_the_answer_it_gets_alone)
{
    seed = test_seed();
    uint64_t random = seed;
    questions = mmap(NULL, QUESTIONS * sizeof *questions, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(questions != MAP_FAILED);
    for (int i = 0; i < QUESTIONS; i++)
        draw(&questions[i], &random);
    answer_alone();

    struct test_daemon daemon; /* 64 blocks of 16 tokens: a fraction of what the crowd would like */
    test_daemon_start(&daemon,
                      (const char *const[]){"--model", "tinynotes", "--set", "kv.pool_bytes=2MiB",
                                            "--set", "limits.step_tokens=72", NULL});
    pid_t pids[PROCESSES];
    bool doomed[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        uint64_t its_own = test_random(&random);
        doomed[i] = below(&random, 4) == 0;
        pids[i] = fork();
        if (pids[i] == 0)
            be_a_client(&daemon, its_own);
    }
    kill_some(&daemon, pids, doomed, &random);
    wait_for(pids, doomed);
    test_daemon_assert_clean(&daemon);
    ck_assert_uint_gt(atomic_load(&daemon.status->engine.counters[LLM_COUNTER_EVICTIONS]), 0);
    test_daemon_stop(&daemon);
    munmap(questions, QUESTIONS * sizeof *questions);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/model_many");
    TCase *tcase = tcase_create("many");
    tcase_set_timeout(tcase, 280);
    tcase_add_test(tcase, every_survivor_gets_the_answer_it_gets_alone);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
