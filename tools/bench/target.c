#include "tools/bench/target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "tools/bench/bench.h"

#define START_NS      (30 * LLM_NS_PER_S)
#define STOP_NS       (20 * LLM_NS_PER_S)
#define ARGUMENTS_MAX 48

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* ---- Starting -------------------------------------------------------------------------------------- */

/* llmd beside this program, or the one that LLMD_BINARY names. */
static enum llm_status find_program(char out_path[PATH_MAX], struct llm_error *error)
{
    const char *named = getenv("LLMD_BINARY");
    if (named) {
        snprintf(out_path, PATH_MAX, "%s", named);
    } else {
        ssize_t bytes = readlink("/proc/self/exe", out_path, PATH_MAX - 8);
        out_path[bytes > 0 ? bytes : 0] = '\0';
        char *slash = strrchr(out_path, '/');
        if (!slash)
            return llm_fail(error, LLM_ERR_NOT_FOUND, "cannot read /proc/self/exe");
        snprintf(slash, 8, "/llmd");
    }
    if (access(out_path, X_OK) != 0)
        return llm_fail(error, LLM_ERR_NOT_FOUND,
                        "%.150s is no program: build llmd, or name it in LLMD_BINARY", out_path);
    return LLM_OK;
}

/* The daemon ends with us: it gets SIGTERM should we be killed, and a terminal's Ctrl-C reaches only us. */
static void exec_daemon(const char *program, const char *log, const char *const *arguments)
{
    bench_child_begins();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setpgid(0, 0);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execv(program, (char *const *)(uintptr_t)arguments);
    _exit(127);
}

static void make_arguments(const struct target *target, const char *const *settings,
                           const char *out[ARGUMENTS_MAX])
{
    const char *first[] = {
        "llmd",     "--foreground",
        "--socket", target->socket,
        "--model",  "echo",
        "--set",    "daemon.idle_exit_s=60",
        "--set",    "kv.pool_bytes=256MiB",
        "--set",    "cpu.threads=1",
        "--set",    "daemon.debugging=true", /* its memory may be looked at */
    };
    unsigned count = 0;
    for (; count < sizeof first / sizeof first[0]; count++)
        out[count] = first[count];
    for (; settings && *settings && count + 3 < ARGUMENTS_MAX; settings++) {
        out[count++] = "--set";
        out[count++] = *settings;
    }
    out[count] = NULL;
}

/* The last line of the daemon's log: why it did not start. */
static void last_line(const struct target *target, char *out, size_t bytes)
{
    char line[256];
    out[0] = '\0';
    FILE *file = fopen(target->log, "re");
    while (file && fgets(line, sizeof line, file))
        snprintf(out, bytes, "%.*s", (int)strcspn(line, "\n"), line);
    if (file)
        fclose(file);
}

static enum llm_status start(struct target *target, const char *const *settings,
                             struct llm_error *error)
{
    char program[PATH_MAX];
    enum llm_status status = find_program(program, error);
    if (status != LLM_OK)
        return status;
    const char *folder = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    snprintf(target->directory, sizeof target->directory, "%.60s/llm-bench-XXXXXX", folder);
    if (!mkdtemp(target->directory)) {
        target->directory[0] = '\0';
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot make a directory in %.60s",
                              folder);
    }
    snprintf(target->socket, sizeof target->socket, "%s/s", target->directory);
    snprintf(target->log, sizeof target->log, "%s/log", target->directory);
    const char *arguments[ARGUMENTS_MAX];
    make_arguments(target, settings, arguments);
    fflush(NULL);
    target->child = fork();
    if (target->child == 0)
        exec_daemon(program, target->log, arguments);
    if (target->child < 0) {
        target->child = 0;
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot start %.150s", program);
    }
    return LLM_OK;
}

static bool serves(const struct target *target)
{
    return atomic_load(&target->status->engine.ready_generation) > 0 && target_engine(target) > 0;
}

/* Wait until it accepts connections, then map its status file. */
static enum llm_status await(struct target *target, struct llm_error *error)
{
    uint64_t deadline_ns = llm_deadline_ns(START_NS);
    llm_connection *connection;
    llm_connection_info info;
    const llm_connect_options options = {
        .socket = target->socket, .no_autostart = true, .name = "llm-bench"};
    enum llm_status status;
    while ((status = llm_connect(&connection, &options, error)) != LLM_OK) {
        if (!target->child) /* who is not there is no daemon, whatever the reason */
            return status == LLM_ERR_NOT_FOUND ? LLM_ERR_PEER : status;
        char line[128];
        last_line(target, line, sizeof line);
        if (waitpid(target->child, NULL, WNOHANG) != 0) {
            target->child = 0;
            return llm_fail(error, LLM_ERR_PEER, "llmd ended at its start: %s", line);
        }
        if (llm_remaining_ns(deadline_ns) == 0 || bench_interrupted())
            return llm_fail(error, LLM_ERR_PEER, "llmd does not start: %s", line);
        sleep_ms(5);
    }
    status = llm_connection_describe(connection, &info, error);
    if (status == LLM_OK)
        status = llm_status_open(info.status_name, &target->status, error);
    llm_disconnect(connection);
    while (status == LLM_OK && !serves(target)) {
        if (llm_remaining_ns(deadline_ns) == 0 || bench_interrupted())
            status =
                llm_fail(error, LLM_ERR_PEER, "the daemon at %s has no engine", target->socket);
        sleep_ms(1);
    }
    return status;
}

enum llm_status target_open(struct target *target, const char *socket, const char *const *settings,
                            struct llm_error *error)
{
    *target = (struct target){0};
    enum llm_status status = LLM_OK;
    if (!socket)
        status = start(target, settings, error);
    else if ((size_t)snprintf(target->socket, sizeof target->socket, "%s", socket) >=
             sizeof target->socket)
        status = llm_fail(error, LLM_ERR_INVALID, "--socket %.60s... is longer than %zu bytes",
                          socket, sizeof target->socket - 1);
    if (status == LLM_OK)
        status = await(target, error);
    if (status != LLM_OK)
        target_close(target);
    return status;
}

/* ---- Stopping -------------------------------------------------------------------------------------- */

static void stop_child(struct target *target)
{
    uint64_t deadline_ns = llm_deadline_ns(STOP_NS);
    kill(target->child, SIGTERM);
    while (waitpid(target->child, NULL, WNOHANG) == 0) {
        if (llm_remaining_ns(deadline_ns) == 0) {
            kill(target->child, SIGKILL);
            waitpid(target->child, NULL, 0);
            break;
        }
        sleep_ms(2);
    }
    target->child = 0;
}

static void remove_directory(const struct target *target)
{
    static const char *const names[] = {"s", "s.lock", "s.log", "log"};
    char path[96];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", target->directory, names[i]);
        unlink(path);
    }
    rmdir(target->directory);
}

void target_close(struct target *target)
{
    if (target->child > 0)
        stop_child(target);
    if (target->status)
        llm_status_close(target->status);
    if (target->directory[0])
        remove_directory(target);
    *target = (struct target){0};
}

/* ---- Looking --------------------------------------------------------------------------------------- */

pid_t target_keeper(const struct target *target)
{
    return (pid_t)target->status->keeper.keeper_pid;
}

pid_t target_engine(const struct target *target)
{
    return (pid_t)atomic_load_explicit(&target->status->keeper.engine_pid, memory_order_relaxed);
}

uint64_t target_counter(const struct target *target, enum llm_counter counter)
{
    return atomic_load_explicit(&target->status->engine.counters[counter], memory_order_relaxed);
}

struct pinning {
    const struct machine *machine;
    pid_t engine;
};

static void pin_thread(void *self, pid_t thread, const char *name, uint64_t cpu_ns)
{
    const struct pinning *pinning = self;
    (void)name;
    (void)cpu_ns;
    if (thread == pinning->engine) /* the first thread of the process is the engine thread */
        machine_pin(pinning->machine, thread, 1);
    else
        machine_pin_both(pinning->machine, thread);
}

void target_pin(const struct target *target, const struct machine *machine)
{
    struct pinning pinning = {.machine = machine, .engine = target_engine(target)};
    process_threads(pinning.engine, pin_thread, &pinning);
    process_threads(target_keeper(target), pin_thread, &pinning);
}

enum llm_status target_connect(const struct target *target, enum llm_wait wait,
                               llm_connection **out_connection, struct llm_error *error)
{
    const llm_connect_options options = {
        .socket = target->socket, .name = "llm-bench", .no_autostart = true, .wait = wait};
    return llm_connect(out_connection, &options, error);
}
