/*
 * test_echo_many.c - sixteen processes, twenty requests each, some cancelled, some processes killed.
 * How: what every process will do is drawn from LLM_TEST_SEED before it is forked. A process that is not killed
 * checks every token of every request it did not cancel; afterwards nothing may be left in the daemon.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon.h"
#include "tests/support/test_seed.h"

#define PROCESSES 16
#define REQUESTS  20
#define IN_FLIGHT 5

static uint64_t seed;

static uint32_t below(uint64_t *random, uint32_t end)
{
    return (uint32_t)(test_random(random) % end);
}

struct asked {
    llm_stream *stream;
    uint32_t prompt[80];
    uint32_t prompt_tokens;
    uint32_t max_tokens;
    bool cancelled;
};

static void ask(llm_connection *connection, struct asked *asked, uint64_t *random)
{
    asked->prompt_tokens = 1 + below(random, 80);
    asked->max_tokens = 1 + below(random, 120);
    uint32_t family = below(random, 4); /* so that processes share prefixes, or nearly */
    for (uint32_t i = 0; i < asked->prompt_tokens; i++)
        asked->prompt[i] = family * 1000 + i + (i > 40 ? below(random, 2) : 0);
    llm_error error;
    const llm_sampling sampling = {.max_tokens = asked->max_tokens};
    ck_assert_msg(llm_submit(connection, asked->prompt, asked->prompt_tokens, &sampling,
                             &asked->stream, &error) == LLM_OK,
                  "seed %llu: %s", (unsigned long long)seed, error.message);
    asked->cancelled = below(random, 4) == 0;
    if (asked->cancelled)
        llm_stream_cancel(asked->stream);
}

static void collect(struct asked *asked)
{
    if (!asked->cancelled)
        ck_assert_uint_eq(
            test_read_echo(asked->stream, asked->prompt, asked->prompt_tokens, LLM_OK),
            asked->max_tokens);
    llm_stream_close(asked->stream); /* a cancelled one may still be running */
}

static void be_a_client(const struct test_daemon *daemon, uint64_t random)
{
    llm_connection *connection = test_daemon_connect(daemon);
    for (int round = 0; round < REQUESTS / IN_FLIGHT; round++) {
        static struct asked asked[IN_FLIGHT];
        for (int i = 0; i < IN_FLIGHT; i++)
            ask(connection, &asked[i], &random);
        for (int i = 0; i < IN_FLIGHT; i++)
            collect(&asked[i]);
    }
    llm_disconnect(connection);
    exit(0);
}

static void kill_some(const pid_t *pids, const bool *doomed, uint64_t *random)
{
    for (int i = 0; i < PROCESSES; i++)
        if (doomed[i]) {
            test_sleep_ms(5 + below(random, 40));
            kill(pids[i], SIGKILL);
        }
}

START_TEST(every_survivor_gets_its_tokens_and_nothing_is_left)
{
    seed = test_seed();
    uint64_t random = seed;
    struct test_daemon daemon;
    test_daemon_start(&daemon, (const char *const[]){"--set", "models.echo_step_us=200", NULL});
    pid_t pids[PROCESSES];
    bool doomed[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        uint64_t its_own = test_random(&random);
        doomed[i] = below(&random, 3) == 0;
        pids[i] = fork();
        if (pids[i] == 0)
            be_a_client(&daemon, its_own);
    }
    kill_some(pids, doomed, &random);
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_msg(doomed[i] || (WIFEXITED(status) && WEXITSTATUS(status) == 0),
                      "seed %llu: process %d ended with status 0x%x", (unsigned long long)seed, i,
                      (unsigned)status);
    }
    ck_assert_uint_eq(test_daemon_generation(&daemon), 1);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/echo_many");
    TCase *tcase = tcase_create("many");
    tcase_set_timeout(tcase, 110);
    tcase_add_loop_test(tcase, every_survivor_gets_its_tokens_and_nothing_is_left, 0, 3);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
