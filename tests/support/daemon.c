#include "tests/support/daemon.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"

#define START_TIME_NS (60 * LLM_NS_PER_S) /* generous: sanitizers, a busy machine */
#define ARGUMENTS_MAX 32

void test_sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

/* ---- Starting -------------------------------------------------------------------------------------- */

static const char *last_words(const struct test_daemon *daemon)
{
    static char text[2048];
    int fd = open(daemon->log, O_RDONLY | O_CLOEXEC);
    text[0] = '\0';
    if (fd >= 0) {
        off_t end = lseek(fd, 0, SEEK_END);
        off_t from = end > (off_t)sizeof text - 1 ? end - ((off_t)sizeof text - 1) : 0;
        ssize_t taken = pread(fd, text, sizeof text - 1, from);
        text[taken > 0 ? taken : 0] = '\0';
        close(fd);
    }
    return text;
}

static void exec_daemon(const char *program, const char *log, const char *const *arguments)
{
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execv(program, (char *const *)(uintptr_t)arguments);
    _exit(127);
}

static void make_arguments(const struct test_daemon *daemon, const char *const *more,
                           const char *out[ARGUMENTS_MAX])
{
    const char *first[] = {
        "llmd",  "--foreground",         "--socket", daemon->socket, "--idle-exit", "120",
        "--set", "kv.pool_bytes=32MiB",  "--model",  "echo",         "--threads",   "1",
        "--set", "daemon.drain_s=0", /* SIGTERM ends it at once */
#ifdef __SANITIZE_ADDRESS__
        "--set", "daemon.debugging=true" /* what the leak sanitizer needs */
#endif
    };
    unsigned count = 0;
    for (; count < sizeof first / sizeof first[0]; count++)
        out[count] = first[count];
    for (; more && *more; more++) {
        ck_assert_uint_lt(count, ARGUMENTS_MAX - 1);
        out[count++] = *more;
    }
    out[count] = NULL;
}

void test_daemon_await(struct test_daemon *daemon)
{
    uint64_t deadline_ns = llm_deadline_ns(START_TIME_NS);
    llm_connection *connection;
    llm_error error;
    const llm_connect_options options = {.socket = daemon->socket, .no_autostart = true};
    while (llm_connect(&connection, &options, &error) != LLM_OK) {
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0 && waitpid(daemon->pid, NULL, WNOHANG) == 0,
                      "llmd does not start: %s\n%s", error.message, last_words(daemon));
        test_sleep_ms(5);
    }
    llm_connection_info info;
    ck_assert_int_eq(llm_connection_describe(connection, &info, &error), LLM_OK);
    snprintf(daemon->status_name, sizeof daemon->status_name, "%s", info.status_name);
    llm_disconnect(connection);
    ck_assert_msg(llm_status_open(daemon->status_name, &daemon->status, &error) == LLM_OK, "%s",
                  error.message);
    test_daemon_wait_generation(daemon, 1);
}

static void launch(struct test_daemon *daemon, const char *folder,
                   void (*prepare)(const struct test_daemon *daemon), const char *const *arguments)
{
    if (!daemon->directory[0]) {
        snprintf(daemon->directory, sizeof daemon->directory, "/tmp/llmd-test-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(daemon->directory));
    }
    snprintf(daemon->socket, sizeof daemon->socket, "%s/s", daemon->directory);
    snprintf(daemon->log, sizeof daemon->log, "%s/log", daemon->directory);
    char program[512];
    snprintf(program, sizeof program, "%s/%s/llmd", LLM_BINARY_DIR, folder);
    const char *all[ARGUMENTS_MAX];
    make_arguments(daemon, arguments, all);
    daemon->pid = fork();
    if (daemon->pid == 0 && prepare)
        prepare(daemon);
    if (daemon->pid == 0)
        exec_daemon(program, daemon->log, all);
    ck_assert_int_gt(daemon->pid, 0);
}

void test_daemon_launch(struct test_daemon *daemon, const char *folder,
                        const char *const *arguments)
{
    launch(daemon, folder, NULL, arguments);
}

static void start(struct test_daemon *daemon, const char *folder,
                  void (*prepare)(const struct test_daemon *daemon), const char *const *arguments)
{
    *daemon = (struct test_daemon){.pid = 0};
    launch(daemon, folder, prepare, arguments);
    test_daemon_await(daemon);
}

void test_daemon_start_in(struct test_daemon *daemon, const char *folder,
                          const char *const *arguments)
{
    start(daemon, folder, NULL, arguments);
}

void test_daemon_start_prepared(struct test_daemon *daemon,
                                void (*prepare)(const struct test_daemon *daemon),
                                const char *const *arguments)
{
    start(daemon, "bin", prepare, arguments);
}

void test_daemon_start(struct test_daemon *daemon, const char *const *arguments)
{
    start(daemon, "bin", NULL, arguments);
}

/* ---- Stopping -------------------------------------------------------------------------------------- */

static void remove_directory(const struct test_daemon *daemon)
{
    char path[128];
    static const char *const left[] = {"s.lock", "log", "s.log"};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", daemon->directory, left[i]);
        unlink(path);
    }
    ck_assert_msg(rmdir(daemon->directory) == 0, "%s is not empty: %s", daemon->directory,
                  strerror(errno));
}

void test_daemon_wait(struct test_daemon *daemon)
{
    int status = 0;
    uint64_t deadline_ns = llm_deadline_ns(START_TIME_NS);
    pid_t ended;
    while ((ended = waitpid(daemon->pid, &status, WNOHANG)) == 0 &&
           llm_remaining_ns(deadline_ns) > 0)
        test_sleep_ms(2);
    ck_assert_msg(ended == daemon->pid, "llmd does not stop\n%s", last_words(daemon));
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "llmd ended with status 0x%x\n%s",
                  (unsigned)status, last_words(daemon));
    llm_status_close(daemon->status);
    const struct llm_status_file *gone;
    ck_assert_int_eq(llm_status_open(daemon->status_name, &gone, NULL), LLM_ERR_NOT_FOUND);
    ck_assert_int_ne(access(daemon->socket, F_OK), 0);
    remove_directory(daemon);
}

void test_daemon_stop(struct test_daemon *daemon)
{
    kill(daemon->pid, SIGTERM);
    test_daemon_wait(daemon);
}

/* ---- Looking --------------------------------------------------------------------------------------- */

llm_connection *test_daemon_connect(const struct test_daemon *daemon)
{
    llm_connection *connection = NULL;
    llm_error error;
    const llm_connect_options options = {.socket = daemon->socket, .no_autostart = true};
    ck_assert_msg(llm_connect(&connection, &options, &error) == LLM_OK, "%s\n%s", error.message,
                  last_words(daemon));
    return connection;
}

uint64_t test_daemon_generation(const struct test_daemon *daemon)
{
    return atomic_load(&daemon->status->engine.ready_generation);
}

void test_daemon_wait_generation(const struct test_daemon *daemon, uint64_t generation)
{
    uint64_t deadline_ns = llm_deadline_ns(START_TIME_NS);
    while (test_daemon_generation(daemon) < generation) {
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0, "no engine of generation %llu\n%s",
                      (unsigned long long)generation, last_words(daemon));
        test_sleep_ms(1);
    }
}

void test_daemon_kill_engine(const struct test_daemon *daemon)
{
    pid_t pid = (pid_t)atomic_load(&daemon->status->keeper.engine_pid);
    if (pid > 1)
        kill(pid, SIGKILL);
}

void test_daemon_assert_clean(const struct test_daemon *daemon)
{
    llm_connection *connection = test_daemon_connect(daemon);
    llm_error error;
    char report[256] = "";
    enum llm_status status =
        llm_daemon_check(connection, START_TIME_NS, report, sizeof report, &error);
    ck_assert_msg(status == LLM_OK, "%s: %s", error.message, report);
    ck_assert_msg(strstr(report, "sound: 0 requests (0 in reqtab, 0 streams)") != NULL, "%s",
                  report);
    ck_assert_msg(strstr(report, " 0 held") != NULL, "%s", report);
    llm_disconnect(connection);
    uint64_t deadline_ns = llm_deadline_ns(START_TIME_NS);
    while (atomic_load(&daemon->status->keeper.connections_open) != 0 ||
           atomic_load(&daemon->status->keeper.descriptors_held) !=
               atomic_load(&daemon->status->keeper.descriptors_baseline)) {
        ck_assert_msg(llm_remaining_ns(deadline_ns) > 0,
                      "%u connections, %u descriptors, of which %u belong to nobody",
                      atomic_load(&daemon->status->keeper.connections_open),
                      atomic_load(&daemon->status->keeper.descriptors_held),
                      atomic_load(&daemon->status->keeper.descriptors_baseline));
        test_sleep_ms(5);
    }
}

uint32_t test_read_echo(llm_stream *stream, const uint32_t *prompt, uint32_t prompt_tokens,
                        enum llm_status status)
{
    uint32_t tokens[64], count = 0, total = 0;
    llm_error error;
    for (;;) {
        enum llm_status got =
            llm_stream_read(stream, tokens, NULL, 64, START_TIME_NS, &count, &error);
        if (got != LLM_OK || count == 0) {
            ck_assert_msg(got == status, "after %u tokens: %s", total,
                          got == LLM_OK ? "complete" : error.message);
            return total;
        }
        for (uint32_t i = 0; i < count; i++, total++)
            ck_assert_msg(tokens[i] == test_echo(prompt, prompt_tokens, total),
                          "token %u is %u instead of %u", total, tokens[i],
                          test_echo(prompt, prompt_tokens, total));
    }
}

int test_run_llmd(const char *const *arguments, char *out_text, size_t bytes)
{
    int ends[2], status = 0;
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        execv(LLM_BINARY_DIR "/bin/llmd", (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t taken;
    while ((taken = read(ends[0], out_text + used, bytes - 1 - used)) > 0)
        used += (size_t)taken;
    out_text[used] = '\0';
    close(ends[0]);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
