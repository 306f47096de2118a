#include "client/autostart.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/keeper_link.h"
#include "client/socket_path.h"
#include "shm/clock.h"

#define RETRY_NS   (10 * LLM_NS_PER_MS)
#define PATH_BYTES PATH_MAX

/* ---- Finding the program -------------------------------------------------------------------------- */

static bool is_program(const char *path)
{
    struct stat file;
    return stat(path, &file) == 0 && S_ISREG(file.st_mode) && access(path, X_OK) == 0;
}

/* `directory` [directory_bytes] + "/" + rest + "/llmd" */
static bool try_directory(const char *directory, size_t directory_bytes, const char *rest,
                          char out_path[PATH_BYTES])
{
    int bytes =
        snprintf(out_path, PATH_BYTES, "%.*s/%sllmd", (int)directory_bytes, directory, rest);
    return bytes > 0 && bytes < PATH_BYTES && is_program(out_path);
}

static bool try_near(const char *file, char out_path[PATH_BYTES])
{
    const char *slash = strrchr(file, '/');
    size_t bytes = slash ? (size_t)(slash - file) : 0;
    return slash && (try_directory(file, bytes, "", out_path) ||
                     try_directory(file, bytes, "../bin/", out_path) ||
                     try_directory(file, bytes, "../../bin/", out_path));
}

static bool try_near_us(char out_path[PATH_BYTES])
{
    static const char here; /* an address inside this library */
    Dl_info info;
    if (dladdr(&here, &info) != 0 && info.dli_fname && try_near(info.dli_fname, out_path))
        return true;
    char program[PATH_BYTES];
    ssize_t bytes = readlink("/proc/self/exe", program, sizeof program - 1);
    if (bytes <= 0)
        return false;
    program[bytes] = '\0';
    return try_near(program, out_path);
}

static bool try_search_path(char out_path[PATH_BYTES])
{
    const char *list = secure_getenv("PATH");
    while (list && *list) {
        size_t bytes = strcspn(list, ":");
        if (bytes > 0 && try_directory(list, bytes, "", out_path))
            return true;
        list += bytes + (list[bytes] == ':');
    }
    return false;
}

/* Absolute, for the daemon is started in another directory. */
enum llm_status llm_autostart_find_program(char out_path[PATH_MAX], struct llm_error *error)
{
    const char *named = secure_getenv("LLMD_BINARY");
    char found[PATH_BYTES];
    if (named && !is_program(named))
        return llm_fail(error, LLM_ERR_NOT_FOUND, "LLMD_BINARY=%.150s is not a program", named);
    if (named)
        snprintf(found, sizeof found, "%s", named);
    else if (!try_near_us(found) && !try_search_path(found))
        return llm_fail(error, LLM_ERR_NOT_FOUND,
                        "no program llmd was found to start a daemon with: put it on PATH "
                        "or name it in LLMD_BINARY");
    if (!realpath(found, out_path))
        return llm_fail_errno(error, LLM_ERR_NOT_FOUND, errno, "cannot find %.150s", found);
    return LLM_OK;
}

/* ---- The place ------------------------------------------------------------------------------------ */

static enum llm_status make_directory(const char *socket_path, struct llm_error *error)
{
    char directory[LLM_SOCKET_PATH_BYTES];
    snprintf(directory, sizeof directory, "%s", socket_path);
    char *slash = strrchr(directory, '/');
    if (!slash || slash == directory)
        return LLM_OK;
    *slash = '\0';
    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        return llm_fail_errno(error, LLM_ERR_NOT_FOUND, errno,
                              "no daemon runs, and there is no place for a private one (set "
                              "XDG_RUNTIME_DIR or LLMD_SOCKET): cannot create %s",
                              directory);
    return LLM_OK;
}

static enum llm_status take_lock(const char *socket_path, uint64_t deadline_ns, int *out_fd,
                                 struct llm_error *error)
{
    char path[LLM_SOCKET_PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s.start", socket_path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return llm_fail_errno(error, errno == EACCES ? LLM_ERR_PERMISSION : LLM_ERR_NOT_FOUND,
                              errno, "no daemon runs, and none can be started: cannot open %s",
                              path);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (llm_remaining_ns(deadline_ns) == 0) {
            close(fd);
            return llm_fail(error, LLM_ERR_TIMEOUT, "another program has held %s for too long",
                            path);
        }
        nanosleep(&(struct timespec){.tv_nsec = (long)RETRY_NS}, NULL);
    }
    *out_fd = fd;
    return LLM_OK;
}

static bool somebody_listens(const char *socket_path)
{
    struct llm_keeper_link link;
    enum llm_status status = llm_keeper_link_open(&link, socket_path, 0, NULL);
    if (status == LLM_OK)
        llm_keeper_link_close(&link, false);
    return status == LLM_OK || status == LLM_ERR_TIMEOUT; /* TIMEOUT: its backlog is full */
}

/* ---- Starting ------------------------------------------------------------------------------------- */

/* What the grandchild needs, made before the fork: between fork and exec only async-signal-safe calls are allowed
 * in a child of a program with threads. */
struct start {
    char program[PATH_BYTES];
    char log_path[LLM_SOCKET_PATH_BYTES + 8];
    const char *argv[8];
    bool absolute;   /* nothing in argv depends on the working directory */
    int pid_pipe[2]; /* the grandchild's pid, from the child */
};

static void run_daemon(const struct start *start)
{
    int null_fd = open("/dev/null", O_RDWR);
    int log_fd = open(start->log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW, 0600);
    dup2(null_fd, 0);
    dup2(log_fd < 0 ? null_fd : log_fd, 1);
    dup2(log_fd < 0 ? null_fd : log_fd, 2);
    syscall(SYS_close_range, 3u, ~0u, 0u);
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        signal(signal_number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (!start->absolute || chdir("/") == 0)
        execv(start->program, (char *const *)(uintptr_t)start->argv);
    static const char message[] = "llmd: cannot be executed\n";
    ssize_t written = write(2, message, sizeof message - 1);
    _exit(written > 0 ? 127 : 126);
}

/* The child leads a session of its own and ends at once; so the daemon belongs to init. */
static void run_child(const struct start *start)
{
    setsid();
    pid_t pid = fork();
    if (pid == 0)
        run_daemon(start);
    ssize_t written = write(start->pid_pipe[1], &pid, sizeof pid);
    _exit(pid < 0 || written != (ssize_t)sizeof pid);
}

static enum llm_status spawn(struct start *start, pid_t *out_pid, struct llm_error *error)
{
    if (pipe2(start->pid_pipe, O_CLOEXEC) < 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot start %.150s", start->program);
    pid_t child = fork();
    if (child == 0)
        run_child(start);
    int fork_errno = errno;
    close(start->pid_pipe[1]);
    pid_t pid = -1;
    if (child > 0) {
        ssize_t bytes;
        do
            bytes = read(start->pid_pipe[0], &pid, sizeof pid);
        while (bytes < 0 && errno == EINTR);
        if (bytes != (ssize_t)sizeof pid)
            pid = -1;
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    close(start->pid_pipe[0]);
    if (pid <= 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, fork_errno, "cannot start %.150s",
                              start->program);
    *out_pid = pid;
    return LLM_OK;
}

/* The last line of what the daemon printed; "" if it printed nothing. */
static void read_last_line(const char *log_path, char *out_line, size_t bytes)
{
    char tail[1024] = "";
    int fd = open(log_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
        off_t end = lseek(fd, 0, SEEK_END);
        off_t from = end > (off_t)sizeof tail - 1 ? end - ((off_t)sizeof tail - 1) : 0;
        ssize_t count = pread(fd, tail, sizeof tail - 1, from);
        tail[count > 0 ? count : 0] = '\0';
        close(fd);
    }
    size_t length = strlen(tail);
    while (length > 0 && tail[length - 1] == '\n')
        tail[--length] = '\0';
    const char *newline = strrchr(tail, '\n');
    snprintf(out_line, bytes, "%s", newline ? newline + 1 : tail);
}

/* Sleep a moment; true when the daemon's process ended meanwhile. */
static bool ended_meanwhile(int pidfd)
{
    struct pollfd process = {.fd = pidfd, .events = POLLIN};
    return poll(&process, 1, (int)(RETRY_NS / LLM_NS_PER_MS)) > 0;
}

static enum llm_status wait_until_it_listens(const struct start *start, pid_t pid,
                                             const char *socket_path, uint64_t deadline_ns,
                                             struct llm_error *error)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0u); /* < 0: ended already, or no pidfds */
    bool gone = pidfd < 0 && errno == ESRCH;
    enum llm_status status = LLM_OK;
    while (!somebody_listens(socket_path)) {
        if (gone) {
            char line[128];
            read_last_line(start->log_path, line, sizeof line);
            status = llm_fail(error, LLM_ERR_NOT_FOUND,
                              "the private daemon ended at once, saying \"%s\" (%s)", line,
                              start->log_path);
            break;
        }
        if (llm_remaining_ns(deadline_ns) == 0) {
            status = llm_fail(error, LLM_ERR_TIMEOUT,
                              "the private daemon (pid %d) does not answer yet; see %s", (int)pid,
                              start->log_path);
            break;
        }
        gone = ended_meanwhile(pidfd); /* and then look once more: it may have been replaced */
    }
    if (pidfd >= 0)
        close(pidfd);
    return status;
}

static enum llm_status start_daemon(const char *socket_path, uint64_t deadline_ns,
                                    struct llm_error *error)
{
    char idle_s[16];
    struct start start = {.argv = {"llmd", "--socket", socket_path, "--idle-exit", idle_s, NULL},
                          .absolute = socket_path[0] == '/'};
    snprintf(idle_s, sizeof idle_s, "%d", LLM_AUTOSTART_IDLE_S);
    snprintf(start.log_path, sizeof start.log_path, "%s.log", socket_path);
    pid_t pid = -1;
    enum llm_status status = llm_autostart_find_program(start.program, error);
    if (status == LLM_OK)
        status = spawn(&start, &pid, error);
    if (status == LLM_OK)
        status = wait_until_it_listens(&start, pid, socket_path, deadline_ns, error);
    return status;
}

enum llm_status llm_autostart(const char *socket_path, uint64_t deadline_ns,
                              struct llm_error *error)
{
    int lock_fd = -1;
    enum llm_status status = make_directory(socket_path, error);
    if (status == LLM_OK)
        status = take_lock(socket_path, deadline_ns, &lock_fd, error);
    if (status != LLM_OK)
        return status;
    if (!somebody_listens(socket_path))
        status = start_daemon(socket_path, deadline_ns, error);
    close(lock_fd);
    return status;
}
