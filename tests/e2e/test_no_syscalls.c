/*
 * test_no_syscalls.c - while readers look by themselves, the engine makes no system call per token.
 * How: strace counts the engine's calls (all threads) while echo requests are answered, 64 at a time, until some 10^5
 * tokens are out, and then until some 10^6 are, to a client that only looks. The calls of ten times the tokens may not
 * be more than those of once, but for a few that time brings along.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/feature.h"
#include "tests/support/daemon.h"

#define STREAMS       64
#define TOKENS        782  /* of each answer */
#define FEW_REQUESTS  128  /* * 782 = 100 096 tokens */
#define MANY_REQUESTS 1280 /* * 782 = 1 000 960 */
#define CALLS_SPARE   100  /* a call in every step would be some 14 000 */
#define WAIT_NS       (30 * LLM_NS_PER_S)

static struct test_daemon served;

/* ---- strace ---------------------------------------------------------------------------------------- */

static pid_t start_strace(const char *summary, pid_t engine)
{
    char pid_text[16];
    snprintf(pid_text, sizeof pid_text, "%d", engine);
    pid_t pid = fork();
    if (pid == 0) {
        execlp("strace", "strace", "-f", "-c", "-q", "-o", summary, "-p", pid_text, (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* Whether every thread of `pid` has a tracer. */
static bool traced(pid_t pid)
{
    char command[160], text[32] = "1";
    snprintf(command, sizeof command,
             "grep -h TracerPid /proc/%d/task/*/status | grep -cw 'TracerPid:.0$'", pid);
    FILE *pipe = popen(command, "r");
    if (!pipe || !fgets(text, sizeof text, pipe))
        text[0] = '1';
    if (pipe)
        pclose(pipe);
    return text[0] == '0';
}

/* The line "100.00 ... CALLS [ERRORS] total" of strace's summary; the whole of it is printed should the test fail. */
static long total_calls(const char *summary, char *out_text, size_t bytes)
{
    char line[256];
    long calls = -1;
    double percent, seconds, us_each;
    out_text[0] = '\0';
    FILE *file = fopen(summary, "re");
    ck_assert_msg(file != NULL, "strace left no summary");
    while (fgets(line, sizeof line, file)) {
        strncat(out_text, line, bytes - strlen(out_text) - 1);
        if (strstr(line, "total") &&
            sscanf(line, "%lf %lf %lf %ld", &percent, &seconds, &us_each, &calls) != 4)
            sscanf(line, "%lf %lf %ld", &percent, &seconds, &calls);
    }
    fclose(file);
    return calls;
}

/* ---- Looking --------------------------------------------------------------------------------------- */

static uint32_t look(llm_stream *stream)
{
    uint32_t tokens[256], count = 0;
    llm_error error;
    enum llm_status status = llm_stream_read(stream, tokens, NULL, 256, 0, &count, &error);
    ck_assert_msg(status == LLM_OK || status == LLM_ERR_TIMEOUT, "%s", error.message);
    return status == LLM_OK && count == 0 ? UINT32_MAX : count;
}

static llm_stream *ask(llm_connection *connection)
{
    static const llm_sampling sampling = {.max_tokens = TOKENS, .seed = 1, .has_seed = true};
    const uint32_t prompt = 5;
    llm_stream *stream = NULL;
    llm_error error;
    ck_assert_msg(llm_submit(connection, &prompt, 1, &sampling, &stream, &error) == LLM_OK, "%s",
                  error.message);
    return stream;
}

/* `requests` answers, STREAMS at a time, so that the engine never runs out of work; returns their tokens. */
static uint64_t read_answers(llm_connection *connection, uint32_t requests)
{
    llm_stream *streams[STREAMS];
    uint64_t total = 0;
    uint32_t asked = STREAMS, done = 0;
    for (int i = 0; i < STREAMS; i++)
        streams[i] = ask(connection);
    while (done < requests)
        for (int i = 0; i < STREAMS; i++) {
            uint32_t count = streams[i] ? look(streams[i]) : 0;
            if (count != UINT32_MAX) {
                total += count;
                continue;
            }
            done++;
            llm_stream_close(streams[i]);
            streams[i] = asked < requests ? ask(connection) : NULL;
            asked += streams[i] != NULL;
        }
    return total;
}

static long calls_of(uint32_t requests, char *out_text, size_t bytes)
{
    char summary[96];
    snprintf(summary, sizeof summary, "%s/strace", served.directory);
    pid_t engine = (pid_t)atomic_load(&served.status->keeper.engine_pid);
    llm_connection *connection = test_daemon_connect(&served);
    pid_t strace = start_strace(summary, engine);
    uint64_t deadline_ns = llm_deadline_ns(WAIT_NS);
    while (!traced(engine)) {
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0, "strace does not attach");
        test_sleep_ms(5);
    }
    uint64_t total = read_answers(connection, requests);
    kill(strace, SIGINT);
    waitpid(strace, NULL, 0);
    llm_disconnect(connection);
    ck_assert_uint_eq(total, (uint64_t)requests * TOKENS);
    long calls = total_calls(summary, out_text, bytes);
    unlink(summary);
    return calls;
}

START_TEST(ten_times_the_tokens_are_not_more_system_calls)
{
    static char few_text[4096], many_text[4096];
    test_daemon_start(&served, (const char *const[]){"--set", "daemon.debugging=true", "--set",
                                                     "kv.pool_bytes=64MiB", NULL});
    long few = calls_of(FEW_REQUESTS, few_text, sizeof few_text);
    long many = calls_of(MANY_REQUESTS, many_text, sizeof many_text);
    printf("%ld system calls for 100 096 tokens, %ld for 1 000 960\n", few, many);
    ck_assert_msg(few >= 0 && many >= 0 && many <= few + CALLS_SPARE,
                  "%ld system calls for 100 096 tokens:\n%s\n%ld for 1 000 960:\n%s", few, few_text,
                  many, many_text);
    test_daemon_stop(&served);
}
END_TEST

int main(void)
{
    const struct llm_feature *feature = llm_features;
    struct llm_error error;
    while (feature->name && strcmp(feature->name, "io_uring") != 0)
        feature++;
    if (!feature->name || llm_feature_look(feature, &error) != LLM_OK) {
        printf("skipped: without io_uring the engine asks epoll once per step (%s)\n",
               error.message);
        return 77;
    }
    if (system("strace -f -c -o /dev/null true 2>/dev/null") != 0) {
        puts("skipped: strace is not installed, or tracing is not permitted here");
        return 77;
    }
    Suite *suite = suite_create("e2e/no_syscalls");
    TCase *tcase = tcase_create("no_syscalls");
    tcase_set_timeout(tcase, 240);
    tcase_add_test(tcase, ten_times_the_tokens_are_not_more_system_calls);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
