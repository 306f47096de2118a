/*
 * test_engine_replace.c - the engine's program is replaced under load, and no client notices.
 * How: keeper and engine are copied into a folder of their own; clients (processes) ask the built-in model without a break
 * while new copies take the engine program's place and the engine is restarted, again and again. Every answer must be the one
 * that was given before, every named context must be there, the program that runs must be the new file, and the weights must be
 * those that the keeper held: files are not read again.
 */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/daemon.h"

#define CLIENTS       4
#define REPLACEMENTS  5
#define ANSWER_TOKENS 48
#define PROMPT_TOKENS 20
#define MINUTE        UINT64_C(60000000000)
#define WEIGHTS_READ  "weights=read"
#define WEIGHTS_KEPT  "weights=kept"

struct shared {
    _Atomic bool stop, failed;
    _Atomic uint32_t answers;
    uint32_t answer[ANSWER_TOKENS];
    char failure[LLM_ERROR_MESSAGE_BYTES];
};

static struct shared *shared;
static char folder[64]; /* beneath the build folder */

/* ---- Files ------------------------------------------------------------------------------------------- */

static void path_of(const char *name, char out_path[512])
{
    snprintf(out_path, 512, LLM_BINARY_DIR "/%s/%s", folder, name);
}

/* A new file in the place of the old one, in one step. */
static void put_program(const char *name)
{
    char from[512], to[512], aside[520];
    struct stat file;
    snprintf(from, sizeof from, LLM_BINARY_DIR "/bin/%s", name);
    path_of(name, to);
    snprintf(aside, sizeof aside, "%s.new", to);
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    ck_assert(in >= 0 && out >= 0 && fstat(in, &file) == 0);
    for (off_t at = 0; at < file.st_size;)
        ck_assert_int_gt(sendfile(out, in, &at, (size_t)(file.st_size - at)), 0);
    close(in);
    close(out);
    ck_assert_int_eq(rename(aside, to), 0);
}

/* Does the engine that serves run the file that lies there now? */
static bool runs_the_new_file(const struct test_daemon *daemon)
{
    char exe[64], path[512];
    struct stat running, lying;
    snprintf(exe, sizeof exe, "/proc/%u/exe", atomic_load(&daemon->status->keeper.engine_pid));
    path_of("llmd-engine", path);
    return stat(exe, &running) == 0 && stat(path, &lying) == 0 && running.st_ino == lying.st_ino &&
           running.st_dev == lying.st_dev;
}

static uint32_t count_in_log(const struct test_daemon *daemon, const char *text)
{
    char line[1024];
    uint32_t count = 0;
    FILE *log = fopen(daemon->log, "re");
    ck_assert_ptr_nonnull(log);
    while (fgets(line, sizeof line, log))
        count += strstr(line, text) != NULL;
    fclose(log);
    return count;
}

/* ---- Clients ----------------------------------------------------------------------------------------- */

static enum llm_status ask(llm_connection *connection, uint32_t out_tokens[ANSWER_TOKENS + 1],
                           uint32_t *out_count, struct llm_error *error)
{
    uint32_t prompt[PROMPT_TOKENS], count = 1;
    llm_stream *stream = NULL;
    for (uint32_t i = 0; i < PROMPT_TOKENS; i++)
        prompt[i] = 3 + i * 31;
    *out_count = 0;
    enum llm_status status = llm_submit(connection, prompt, PROMPT_TOKENS,
                                        &(llm_sampling){.max_tokens = ANSWER_TOKENS,
                                                        .temperature = 0.9F,
                                                        .seed = 7,
                                                        .has_seed = true,
                                                        .ignore_eos = true},
                                        &stream, error);
    while (status == LLM_OK && count > 0) {
        status = llm_stream_read(stream, out_tokens + *out_count, NULL,
                                 ANSWER_TOKENS + 1 - *out_count, MINUTE, &count, error);
        *out_count += status == LLM_OK ? count : 0;
    }
    llm_stream_close(stream);
    return status;
}

static _Noreturn void be_a_client(const struct test_daemon *daemon)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    llm_connection *connection = test_daemon_connect(daemon);
    while (!atomic_load(&shared->stop)) {
        struct llm_error error;
        uint32_t tokens[ANSWER_TOKENS + 1], count;
        enum llm_status status = ask(connection, tokens, &count, &error);
        if (status == LLM_OK &&
            (count != ANSWER_TOKENS || memcmp(tokens, shared->answer, sizeof shared->answer) != 0))
            status =
                llm_fail(&error, LLM_ERR_CORRUPT, "another answer than before, %u tokens", count);
        if (status != LLM_OK) {
            if (!atomic_exchange(&shared->failed, true))
                snprintf(shared->failure, sizeof shared->failure, "%s", error.message);
            _exit(1);
        }
        atomic_fetch_add(&shared->answers, 1);
    }
    llm_disconnect(connection);
    _exit(0);
}

/* ---- The test ---------------------------------------------------------------------------------------- */

static void start(struct test_daemon *daemon)
{
    char path[512];
    snprintf(folder, sizeof folder, "replace-%d", (int)getpid());
    snprintf(path, sizeof path, LLM_BINARY_DIR "/%s", folder);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    put_program("llmd");
    put_program("llmd-engine");
    test_daemon_start_in(daemon, folder, (const char *const[]){"--model", "tinynotes", NULL});
}

static void clean_up(void)
{
    char path[512];
    path_of("llmd-engine", path);
    unlink(path);
    path_of("llmd", path);
    unlink(path);
    path_of("", path);
    rmdir(path);
}

static void replace(const struct test_daemon *daemon, llm_connection *connection)
{
    llm_error error;
    uint64_t generation = test_daemon_generation(daemon);
    uint32_t answers = atomic_load(&shared->answers);
    put_program("llmd-engine");
    ck_assert(!runs_the_new_file(daemon));
    ck_assert_int_eq(llm_daemon_restart_engine(connection, &error), LLM_OK);
    test_daemon_wait_generation(daemon, generation + 1);
    ck_assert(runs_the_new_file(daemon));
    while (atomic_load(&shared->answers) < answers + CLIENTS && !atomic_load(&shared->failed))
        test_sleep_ms(1);
}

static void keep_a_context(llm_connection *connection, const uint32_t *ids, uint32_t count)
{
    llm_context *context;
    llm_error error;
    ck_assert_msg(llm_context_create(connection, NULL, &context, &error) == LLM_OK &&
                      llm_context_append(context, ids, count, &error) == LLM_OK &&
                      llm_context_publish(context, "kept/notes", NULL, &error) == LLM_OK,
                  "%s", error.message);
    llm_context_close(context);
}

static void find_the_context(llm_connection *connection, const uint32_t *ids, uint32_t count)
{
    llm_context *context;
    llm_error error;
    uint32_t held[64], got = 0;
    ck_assert_msg(llm_context_open(connection, "kept/notes", &context, &error) == LLM_OK &&
                      llm_context_read(context, 0, held, 64, &got, &error) == LLM_OK,
                  "%s", error.message);
    ck_assert_uint_eq(got, count);
    ck_assert_mem_eq(held, ids, count * sizeof *ids);
    llm_context_close(context);
}

START_TEST(a_new_program_takes_over_and_no_client_notices)
{
    static const uint32_t ids[] = {5, 6, 7, 8, 9, 10, 11};
    struct test_daemon daemon;
    llm_error error;
    pid_t pids[CLIENTS];
    uint32_t count, tokens[ANSWER_TOKENS + 1];
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    start(&daemon);
    llm_connection *connection = test_daemon_connect(&daemon);
    ck_assert_msg(ask(connection, tokens, &count, &error) == LLM_OK, "%s", error.message);
    ck_assert_uint_eq(count, ANSWER_TOKENS);
    memcpy(shared->answer, tokens, sizeof shared->answer);
    keep_a_context(connection, ids, sizeof ids / sizeof ids[0]);
    for (int i = 0; i < CLIENTS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            be_a_client(&daemon);
    }
    for (int i = 0; i < REPLACEMENTS; i++)
        replace(&daemon, connection);
    atomic_store(&shared->stop, true);
    for (int i = 0; i < CLIENTS; i++) {
        int status;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_msg(status == 0, "a client noticed: %s", shared->failure);
    }
    find_the_context(connection, ids, sizeof ids / sizeof ids[0]);
    ck_assert_uint_eq(count_in_log(&daemon, WEIGHTS_READ), 1);
    ck_assert_uint_eq(count_in_log(&daemon, WEIGHTS_KEPT), REPLACEMENTS);
    llm_disconnect(connection);
    test_daemon_assert_clean(&daemon);
    test_daemon_stop(&daemon);
    clean_up();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/engine_replace");
    TCase *tcase = tcase_create("replace");
    tcase_set_timeout(tcase, 200);
    tcase_add_test(tcase, a_new_program_takes_over_and_no_client_notices);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
