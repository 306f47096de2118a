/*
 * test_echo_many.c - sixteen and sixty-four processes (24 under a sanitizer), twenty requests each, some cancelled, some
 * processes killed, with sixty-four the engine too.
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
#include "tests/support/in_flight.h"
#include "tests/support/test_seed.h"

#define PROCESSES 16
#ifdef __SANITIZE_ADDRESS__
#define PROCESSES_MAX 24 /* each is several times as large and as slow */
#else
#define PROCESSES_MAX 64
#endif
#define REQUESTS     20
#define IN_FLIGHT    5
#define ENGINE_KILLS 6

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

/* ---- The crowd ------------------------------------------------------------------------------------- */

struct crowd {
    struct test_daemon daemon;
    uint64_t random;
    int process_count;
    pid_t pids[PROCESSES_MAX];
    bool doomed[PROCESSES_MAX];
};

static void start_crowd(struct crowd *crowd, int process_count, const char *step_us)
{
    seed = crowd->random = test_seed();
    crowd->process_count = process_count;
    test_daemon_start(&crowd->daemon, (const char *const[]){"--set", step_us, "--set",
                                                            "limits.engine_deaths=1000", NULL});
    for (int i = 0; i < process_count; i++) {
        uint64_t its_own = test_random(&crowd->random);
        crowd->doomed[i] = below(&crowd->random, 3) == 0;
        crowd->pids[i] = fork();
        if (crowd->pids[i] == 0)
            be_a_client(&crowd->daemon, its_own);
        ck_assert_int_gt(crowd->pids[i], 0);
    }
}

static void kill_clients(struct crowd *crowd, int from, int end)
{
    for (int i = from; i < end; i++)
        if (crowd->doomed[i]) {
            test_sleep_ms(5 + below(&crowd->random, 40));
            kill(crowd->pids[i], SIGKILL);
        }
}

/* And wait until the next one has gone on with every request: two deaths without a token are poison. How many
 * requests it died over. */
static uint32_t kill_engine(const struct crowd *crowd)
{
    static struct in_flight seen;
    uint32_t in_flight = in_flight_count(crowd->daemon.status);
    uint64_t generation = test_daemon_generation(&crowd->daemon);
    test_daemon_kill_engine(&crowd->daemon);
    test_daemon_wait_generation(&crowd->daemon, generation + 1);
    in_flight_remember(&seen, crowd->daemon.status);
    while (!in_flight_moved(&seen, crowd->daemon.status))
        test_sleep_ms(1);
    return in_flight;
}

static void end_crowd(struct crowd *crowd, uint64_t generation)
{
    for (int i = 0; i < crowd->process_count; i++) {
        int status;
        ck_assert_int_eq(waitpid(crowd->pids[i], &status, 0), crowd->pids[i]);
        ck_assert_msg(crowd->doomed[i] || (WIFEXITED(status) && WEXITSTATUS(status) == 0),
                      "seed %llu: process %d ended with status 0x%x", (unsigned long long)seed, i,
                      (unsigned)status);
    }
    ck_assert_uint_eq(test_daemon_generation(&crowd->daemon), generation);
    test_daemon_assert_clean(&crowd->daemon);
    test_daemon_stop(&crowd->daemon);
}

START_TEST(every_survivor_gets_its_tokens_and_nothing_is_left)
{
    static struct crowd crowd;
    start_crowd(&crowd, PROCESSES, "models.echo_step_us=200");
    kill_clients(&crowd, 0, PROCESSES);
    end_crowd(&crowd, 1);
}
END_TEST

START_TEST(a_crowd_loses_nothing_though_engines_die_too)
{
    static struct crowd crowd;
    uint32_t in_flight = 0;
    start_crowd(&crowd, PROCESSES_MAX, "models.echo_step_us=1500");
    for (int k = 0; k < ENGINE_KILLS; k++) {
        kill_clients(&crowd, PROCESSES_MAX * k / ENGINE_KILLS,
                     PROCESSES_MAX * (k + 1) / ENGINE_KILLS);
        in_flight += kill_engine(&crowd);
    }
    ck_assert_uint_gt(in_flight, 0); /* else the engines died for nothing */
    end_crowd(&crowd, 1 + ENGINE_KILLS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/echo_many");
    TCase *tcase = tcase_create("many");
    tcase_set_timeout(tcase, 110);
    tcase_add_loop_test(tcase, every_survivor_gets_its_tokens_and_nothing_is_left, 0, 3);
    tcase_add_test(tcase, a_crowd_loses_nothing_though_engines_die_too);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
