/*
 * test_crash_clients.c - clients die at every place of libllm; their neighbour does not notice, and nothing is left.
 * How: a program that does everything a client can (tests/support/client_life.c) kills itself at the k-th pass of the
 * chosen place, in a daemon that is well, in one whose engine was killed a moment ago, and in one whose engine dies at a
 * place of its own. A neighbour's stream runs all the while and must come out token for token. A client that lives for
 * 90 s without passing its place fails the test: so no place of the list is forgotten.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/crash_point.h"
#include "tests/support/daemon.h"

#define WAIT_NS UINT64_C(60000000000)

/* ---- The neighbour --------------------------------------------------------------------------------- */

#define NEIGHBOUR_TOKENS 700
static const uint32_t neighbour_prompt[] = {11, 22, 33, 44, 55, 66, 77};
#define NEIGHBOUR_PROMPT ((uint32_t)(sizeof neighbour_prompt / sizeof neighbour_prompt[0]))

struct neighbour {
    llm_connection *connection;
    llm_stream *stream;
    uint32_t seen;
};

static void neighbour_begin(struct neighbour *neighbour, const struct test_daemon *daemon)
{
    llm_error error;
    *neighbour = (struct neighbour){.connection = test_daemon_connect(daemon)};
    ck_assert_int_eq(llm_submit(neighbour->connection, neighbour_prompt, NEIGHBOUR_PROMPT,
                                &(llm_sampling){.max_tokens = NEIGHBOUR_TOKENS}, &neighbour->stream,
                                &error),
                     LLM_OK);
}

/* At most `count_max` tokens; false at the end of the answer. */
static bool neighbour_read(struct neighbour *neighbour, uint32_t count_max, uint64_t timeout_ns)
{
    uint32_t tokens[256], count = 0;
    llm_error error;
    enum llm_status status =
        llm_stream_read(neighbour->stream, tokens, NULL, count_max, timeout_ns, &count, &error);
    if (status == LLM_ERR_TIMEOUT && timeout_ns == 0)
        return true;
    ck_assert_msg(status == LLM_OK, "the neighbour, after %u tokens: %s", neighbour->seen,
                  error.message);
    for (uint32_t i = 0; i < count; i++, neighbour->seen++)
        ck_assert_uint_eq(tokens[i],
                          test_echo(neighbour_prompt, NEIGHBOUR_PROMPT, neighbour->seen));
    return count > 0;
}

/* Read on until a token comes that the engine of now has made; its request is then no suspect. */
static void neighbour_advance(struct neighbour *neighbour)
{
    uint32_t before;
    do {
        before = neighbour->seen;
        if (!neighbour_read(neighbour, 256, 0))
            return;
    } while (neighbour->seen != before);
    neighbour_read(neighbour, 1, WAIT_NS);
}

static void neighbour_end(struct neighbour *neighbour)
{
    while (neighbour_read(neighbour, 256, WAIT_NS))
        ;
    ck_assert_uint_eq(neighbour->seen, NEIGHBOUR_TOKENS);
    llm_stream_close(neighbour->stream);
    llm_disconnect(neighbour->connection);
}

/* ---- The victim ------------------------------------------------------------------------------------ */

static pid_t start_victim(const struct test_daemon *daemon, enum llm_crash_point point, int pass)
{
    char crash[64], seed[32];
    snprintf(crash, sizeof crash, "%s:%d", llm_crash_point_name(point), pass);
    snprintf(seed, sizeof seed, "%d", 100 * (int)point + pass);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("LLMD_CRASH", crash, 1);
        execl(LLM_BINARY_DIR "/bin/crash_client", "crash_client", daemon->socket, seed, NULL);
        _exit(127);
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

static void expect_death(pid_t pid, enum llm_crash_point point)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM, "%s was never passed",
                  llm_crash_point_name(point));
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                  "%s: the client ended with status 0x%x; its sentence is on standard error",
                  llm_crash_point_name(point), (unsigned)status);
}

#ifdef __SANITIZE_ADDRESS__ /* several times as slow: each place is passed all the same */
#define PASSES_MAX 1
#else
#define PASSES_MAX 2
#endif

/* ---- Tests ----------------------------------------------------------------------------------------- */

static bool of_client(int point)
{
    return llm_crash_point_who((enum llm_crash_point)point) == LLM_CRASH_OF_CLIENT;
}

static void start(struct test_daemon *daemon)
{
    test_daemon_start_in(daemon, "crash",
                         (const char *const[]){"--set", "models.echo_step_us=300", "--set",
                                               "limits.engine_deaths=1000", NULL});
}

static void finish(struct test_daemon *daemon, struct neighbour *neighbour)
{
    neighbour_end(neighbour);
    test_daemon_assert_clean(daemon);
    test_daemon_stop(daemon);
}

START_TEST(a_client_may_die_anywhere)
{
    static const int passes[] = {1, 7};
    if (!of_client(_i))
        return;
    struct test_daemon daemon;
    struct neighbour neighbour;
    start(&daemon);
    neighbour_begin(&neighbour, &daemon);
    for (size_t i = 0; i < PASSES_MAX; i++)
        expect_death(start_victim(&daemon, (enum llm_crash_point)_i, passes[i]),
                     (enum llm_crash_point)_i);
    ck_assert_uint_eq(test_daemon_generation(&daemon), 1);
    finish(&daemon, &neighbour);
}
END_TEST

START_TEST(a_client_may_die_anywhere_while_the_engine_is_replaced)
{
    static const int passes[] = {1, 3};
    if (!of_client(_i))
        return;
    struct test_daemon daemon;
    struct neighbour neighbour;
    start(&daemon);
    neighbour_begin(&neighbour, &daemon);
    for (size_t i = 0; i < PASSES_MAX; i++) {
        uint64_t generation = test_daemon_generation(&daemon);
        neighbour_advance(&neighbour);
        pid_t victim = start_victim(&daemon, (enum llm_crash_point)_i, passes[i]);
        test_daemon_kill_engine(&daemon);
        expect_death(victim, (enum llm_crash_point)_i);
        test_daemon_wait_generation(&daemon, generation + 1);
    }
    ck_assert_uint_gt(test_daemon_generation(&daemon), PASSES_MAX);
    finish(&daemon, &neighbour);
}
END_TEST

/* Places of the engine at which it dies once, in turn, while clients die at theirs. */
static const enum llm_crash_point engine_points[] = {
    LLM_CRASH_req_record,   LLM_CRASH_req_live,  LLM_CRASH_conn_answered, LLM_CRASH_conn_head,
    LLM_CRASH_queue_head,   LLM_CRASH_conn_free, LLM_CRASH_conn_told,     LLM_CRASH_conn_fields,
    LLM_CRASH_stream_open,  LLM_CRASH_req_end,   LLM_CRASH_req_answered,  LLM_CRASH_stream_done,
    LLM_CRASH_conn_attached};
#define ENGINE_POINTS ((int)(sizeof engine_points / sizeof engine_points[0]))

START_TEST(client_and_engine_may_die_at_places_of_their_own)
{
    if (!of_client(_i))
        return;
    for (int k = 0; k < PASSES_MAX; k++) {
        char text[64];
        snprintf(text, sizeof text, "%s:%d",
                 llm_crash_point_name(engine_points[(_i + 5 * k) % ENGINE_POINTS]), 3 + 2 * k);
        setenv("LLMD_CRASH", text, 1);
        struct test_daemon daemon;
        struct neighbour neighbour;
        start(&daemon);
        unsetenv("LLMD_CRASH");
        neighbour_begin(&neighbour, &daemon);
        pid_t victims[3];
        for (int i = 0; i < 3; i++)
            victims[i] = start_victim(&daemon, (enum llm_crash_point)_i, 1 + 3 * i);
        for (int i = 0; i < 3; i++)
            expect_death(victims[i], (enum llm_crash_point)_i);
        finish(&daemon, &neighbour);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/crash_clients");
    TCase *tcase = tcase_create("client");
    tcase_set_timeout(tcase, 100);
    tcase_add_loop_test(tcase, a_client_may_die_anywhere, 0, LLM_CRASH_POINT_COUNT);
    tcase_add_loop_test(tcase, a_client_may_die_anywhere_while_the_engine_is_replaced, 0,
                        LLM_CRASH_POINT_COUNT);
    tcase_add_loop_test(tcase, client_and_engine_may_die_at_places_of_their_own, 0,
                        LLM_CRASH_POINT_COUNT);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
