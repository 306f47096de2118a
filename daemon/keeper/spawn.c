#include "daemon/keeper/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/keeper/place.h"
#include "daemon/keeper/process.h"
#include "shm/crash_point.h"

#define CHANNEL_BUFFER_BYTES (1 << 20)
#define ARGUMENT_BYTES       65536
#define ARGUMENTS_MAX        (CONFIG_KEYS_MAX + CONFIG_QUOTAS_MAX * CONFIG_QUOTA_KEYS)

/* The engine's settings travel as "key=value" arguments, one for each item of the configuration. */
struct arguments {
    char text[ARGUMENT_BYTES];
    char *list[ARGUMENTS_MAX + 3]; /* the program and its first before, NULL behind */
};

static enum llm_status fill_arguments(const struct config *config, bool loader,
                                      struct arguments *arguments, struct llm_error *error)
{
    static char program[] = "llmd-engine", load[] = "--load";
    static char value[CONFIG_VALUE_BYTES];
    size_t used = 0, count = 0;
    arguments->list[count++] = program;
    if (loader)
        arguments->list[count++] = load;
    unsigned item_count = config_item_count(config);
    for (unsigned item = 0; item < item_count; item++) {
        char *at = arguments->text + used, name[CONFIG_NAME_BYTES];
        size_t room = sizeof arguments->text - used;
        config_item(config, item, name, value, sizeof value);
        int bytes = snprintf(at, room, "%s=%s", name, value);
        if (bytes < 0 || (size_t)bytes >= room)
            return llm_fail(error, LLM_ERR_LIMIT, "the configuration is too long to hand over");
        arguments->list[count++] = at;
        used += strlen(at) + 1;
    }
    arguments->list[count] = NULL;
    return LLM_OK;
}

/* Beside llmd, as in the build tree; or where it is installed, since it is nobody's command. */
static enum llm_status find_program(char *out_path, size_t bytes, struct llm_error *error)
{
    static const char *const places[] = {"llmd-engine", LLMD_ENGINE_FROM_BIN};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (place_program_sibling(places[i], out_path, bytes) && access(out_path, X_OK) == 0)
            return LLM_OK;
    return llm_fail(error, LLM_ERR_NOT_FOUND,
                    "llmd-engine is neither beside llmd nor at %s: the installation is not whole",
                    out_path);
}

#ifdef LLM_CRASH_POINTS
/* Crash tests let only some engines die: LLMD_CRASH_ENGINES=<last>, or =<first>-<last>; 1 when unset. */
static void limit_crash_points(uint64_t generation)
{
    const char *text = getenv("LLMD_CRASH_ENGINES");
    char *end = NULL;
    uint64_t last = text ? strtoull(text, &end, 10) : 1, first = 1;
    if (end && *end == '-') {
        first = last;
        last = strtoull(end + 1, NULL, 10);
    }
    if (generation < first || generation > last)
        unsetenv("LLMD_CRASH");
}
#endif

/* In the child, between fork and exec: async-signal-safe calls only (the keeper has one thread). */
static void become_engine(const char *program, char **arguments, int channel, pid_t keeper_pid)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* Ctrl-C at the terminal is for the keeper */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper_pid)
        _exit(1); /* the keeper died before the line above */
    if (dup2(channel, SPAWN_CHANNEL_FD) < 0)
        _exit(1);
    if (channel == SPAWN_CHANNEL_FD)
        fcntl(channel, F_SETFD, 0);
    execv(program, arguments);
    _exit(127);
}

static enum llm_status make_channel(int ends[2], struct llm_error *error)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot make the engine's channel");
    const int bytes = CHANNEL_BUFFER_BYTES; /* best effort: the system may allow less */
    for (int i = 0; i < 2; i++)
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    fcntl(ends[0], F_SETFL, O_NONBLOCK); /* a hung engine must not hang the keeper */
    return LLM_OK;
}

static enum llm_status start(const char *program, char **list, bool loader, uint64_t generation,
                             struct spawned *out, struct llm_error *error)
{
    int ends[2];
    enum llm_status status = make_channel(ends, error);
    if (status != LLM_OK)
        return status;
    pid_t keeper_pid = getpid();
    pid_t pid = fork();
    if (pid == 0) {
#ifdef LLM_CRASH_POINTS
        limit_crash_points(loader ? 0 : generation);
#else
        (void)generation;
#endif
        become_engine(program, list, ends[1], keeper_pid);
    }
    close(ends[1]);
    int pidfd = pid > 0 ? process_open(pid) : -1;
    if (pidfd < 0) {
        close(ends[0]);
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot start the %s",
                              loader ? "loader" : "engine");
    }
    CRASH_POINT(keeper_spawned);
    *out = (struct spawned){.pid = pid, .pidfd = pidfd, .channel = ends[0]};
    return LLM_OK;
}

enum llm_status spawn_engine(const struct config *config, bool loader, uint64_t generation,
                             struct spawned *out, struct llm_error *error)
{
    static struct arguments arguments; /* large; one thread */
    char program[PATH_MAX] = "";
    enum llm_status status = find_program(program, sizeof program, error);
    if (status == LLM_OK)
        status = fill_arguments(config, loader, &arguments, error);
    return status == LLM_OK ? start(program, arguments.list, loader, generation, out, error)
                            : status;
}
