#include "daemon/keeper/place.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SYSTEM_SOCKET "/run/llmd/llmd.sock"

#define GIVEN_FD 3 /* the first that a service manager hands over, sd_listen_fds(3) */

/* ---- A socket that we were given ------------------------------------------------------------------- */

/* How many descriptors were meant for this process; its children inherit the variables, but not the meaning. */
static long given_count(void)
{
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    return pid && count && strtol(pid, NULL, 10) == (long)getpid() ? strtol(count, NULL, 10) : 0;
}

static bool get_option(int fd, int option, int *out_value)
{
    socklen_t bytes = sizeof *out_value;
    return getsockopt(fd, SOL_SOCKET, option, out_value, &bytes) == 0;
}

/* The path of the listening socket on GIVEN_FD. */
static enum llm_status given_path(char *out_path, size_t bytes, struct llm_error *error)
{
    struct sockaddr_un address = {0};
    socklen_t used = sizeof address;
    int type = 0, listening = 0;
    if (given_count() != 1)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%ld sockets were handed over, llmd takes one (LISTEN_FDS)", given_count());
    if (!get_option(GIVEN_FD, SO_TYPE, &type) || !get_option(GIVEN_FD, SO_ACCEPTCONN, &listening) ||
        getsockname(GIVEN_FD, (struct sockaddr *)&address, &used) != 0 ||
        address.sun_family != AF_UNIX || type != SOCK_SEQPACKET || !listening ||
        address.sun_path[0] != '/')
        return llm_fail(error, LLM_ERR_INVALID,
                        "descriptor %d is no listening Unix socket of packets with a path "
                        "(ListenSequentialPacket= of the socket's unit)",
                        GIVEN_FD);
    snprintf(out_path, bytes, "%.*s", (int)sizeof address.sun_path, address.sun_path);
    return LLM_OK;
}

static enum llm_status take_given(struct place *place, struct llm_error *error)
{
    int flags = fcntl(GIVEN_FD, F_GETFL);
    if (flags < 0 || fcntl(GIVEN_FD, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(GIVEN_FD, F_SETFD, FD_CLOEXEC) != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot use descriptor %d", GIVEN_FD);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    place->listen_fd = GIVEN_FD;
    return LLM_OK;
}

/* ---- Names ----------------------------------------------------------------------------------------- */

static enum llm_status name_socket(struct place *place, const struct config *config,
                                   struct llm_error *error)
{
    place->given = given_count() > 0;
    const char *from_environment = getenv("LLMD_SOCKET");
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char path[PATH_MAX], given[PLACE_PATH_BYTES] = "";
    enum llm_status status = place->given ? given_path(given, sizeof given, error) : LLM_OK;
    if (status != LLM_OK)
        return status;
    if (place->given)
        snprintf(path, sizeof path, "%s", given);
    else if (config->daemon.socket[0])
        snprintf(path, sizeof path, "%s", config->daemon.socket);
    else if (from_environment && from_environment[0])
        snprintf(path, sizeof path, "%s", from_environment);
    else if (runtime && runtime[0])
        snprintf(path, sizeof path, "%s/llmd/llmd.sock", runtime);
    else
        snprintf(path, sizeof path, "%s", SYSTEM_SOCKET);
    if (place->given && config->daemon.socket[0] && strcmp(config->daemon.socket, path) != 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "daemon.socket is %s, but the socket handed over is %s: set one of them",
                        config->daemon.socket, path);
    if (path[0] != '/')
        return llm_fail(error, LLM_ERR_INVALID, "socket path \"%s\" is not absolute", path);
    if (strlen(path) + strlen(".lock") >= PLACE_PATH_BYTES)
        return llm_fail(error, LLM_ERR_INVALID,
                        "socket path %s is longer than the %d bytes the system allows", path,
                        PLACE_PATH_BYTES - 1 - (int)strlen(".lock"));
    memcpy(place->socket_path, path, strlen(path) + 1);
    return LLM_OK;
}

/* FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/): a name for people, nothing rests on it. */
static uint64_t path_hash(const char *path)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *path; path++)
        hash = (hash ^ (unsigned char)*path) * UINT64_C(0x100000001b3);
    return hash;
}

static enum llm_status name_status(struct place *place, const struct config *config,
                                   struct llm_error *error)
{
    char instance[CONFIG_TEXT_BYTES];
    if (config->daemon.instance[0])
        snprintf(instance, sizeof instance, "%s", config->daemon.instance);
    else
        snprintf(instance, sizeof instance, "%016llx",
                 (unsigned long long)path_hash(place->socket_path));
    int used = snprintf(place->status_name, sizeof place->status_name, "/llmd.%u.%s",
                        (unsigned)geteuid(), instance);
    if (used >= (int)sizeof place->status_name || strchr(instance, '/'))
        return llm_fail(error, LLM_ERR_INVALID,
                        "instance \"%s\" is not a name (no '/', at most 40 characters)", instance);
    return LLM_OK;
}

enum llm_status place_name(struct place *place, const struct config *config,
                           struct llm_error *error)
{
    *place = (struct place){.lock_fd = -1, .listen_fd = -1};
    enum llm_status status = name_socket(place, config, error);
    return status == LLM_OK ? name_status(place, config, error) : status;
}

bool place_program_sibling(const char *relative, char *out_path, size_t bytes)
{
    char program[PATH_MAX];
    ssize_t used = readlink("/proc/self/exe", program, sizeof program - 1);
    if (used <= 0)
        return false;
    program[used] = '\0';
    *strrchr(program, '/') = '\0'; /* the link is absolute */
    int written = snprintf(out_path, bytes, "%s/%s", program, relative);
    return written > 0 && (size_t)written < bytes;
}

/* ---- Directory, lock, socket ------------------------------------------------------------------------ */

static enum llm_status find_group(const struct config *config, gid_t *out_gid,
                                  struct llm_error *error)
{
    *out_gid = (gid_t)-1;
    if (config->daemon.group[0] == '\0')
        return LLM_OK;
    const struct group *group = getgrnam(config->daemon.group); /* one thread */
    if (!group)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "daemon.group: there is no group \"%s\"",
                        config->daemon.group);
    *out_gid = group->gr_gid;
    return LLM_OK;
}

/* The socket's own directory is made when missing, its parents are not: a mistyped path stays visible. */
enum llm_status place_make_directory(const struct place *place, const struct config *config,
                                     struct llm_error *error)
{
    gid_t group;
    enum llm_status status = find_group(config, &group, error);
    if (status != LLM_OK)
        return status;
    char directory[PLACE_PATH_BYTES];
    memcpy(directory, place->socket_path, sizeof directory);
    char *slash = strrchr(directory, '/');
    if (!slash || slash == directory)
        return LLM_OK;
    *slash = '\0';
    if (mkdir(directory, group == (gid_t)-1 ? 0700 : 0750) != 0) {
        if (errno == EEXIST)
            return LLM_OK;
        return llm_fail_errno(error, LLM_ERR_PERMISSION, errno,
                              "cannot make the socket's directory %s", directory);
    }
    if (group != (gid_t)-1 && chown(directory, (uid_t)-1, group) != 0)
        return llm_fail_errno(error, LLM_ERR_PERMISSION, errno, "cannot give %s to the group",
                              directory);
    return LLM_OK;
}

static enum llm_status refuse_second(const struct place *place, int fd, struct llm_error *error)
{
    char text[32] = "";
    ssize_t used = pread(fd, text, sizeof text - 1, 0);
    long pid = used > 0 ? strtol(text, NULL, 10) : 0;
    return llm_fail(error, LLM_ERR_BUSY,
                    "another daemon (pid %ld) owns %s; use --socket for a second one", pid,
                    place->socket_path);
}

static enum llm_status take_lock(struct place *place, struct llm_error *error)
{
    char path[PLACE_PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s.lock", place->socket_path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return llm_fail_errno(error, LLM_ERR_PERMISSION, errno, "cannot open the lock %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum llm_status status = refuse_second(place, fd, error);
        close(fd);
        return status;
    }
    char text[32];
    int used = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)used, 0) != used) {
        close(fd);
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot write the lock %s", path);
    }
    place->lock_fd = fd;
    return LLM_OK;
}

/* We hold the lock, so a socket that lies there is a dead daemon's. Anything else is somebody's file. */
static enum llm_status remove_stale(const struct place *place, struct llm_error *error)
{
    struct stat stat;
    if (lstat(place->socket_path, &stat) != 0)
        return LLM_OK;
    if (!S_ISSOCK(stat.st_mode))
        return llm_fail(error, LLM_ERR_INVALID, "%s exists and is not a socket",
                        place->socket_path);
    if (unlink(place->socket_path) != 0)
        return llm_fail_errno(error, LLM_ERR_PERMISSION, errno,
                              "cannot replace the stale socket %s", place->socket_path);
    return LLM_OK;
}

static enum llm_status listen_at(struct place *place, gid_t group, struct llm_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, place->socket_path, strlen(place->socket_path) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot make a socket");
    mode_t old_mask = umask(0117); /* born with 0660: never open to others, not even for a moment */
    int bound = bind(fd, (const struct sockaddr *)&address, sizeof address);
    int bind_error = errno;
    umask(old_mask);
    if (bound != 0 || (group != (gid_t)-1 && chown(place->socket_path, (uid_t)-1, group) != 0) ||
        listen(fd, 128) != 0) {
        close(fd);
        return llm_fail_errno(error, LLM_ERR_PERMISSION, bound != 0 ? bind_error : errno,
                              "cannot listen on %s", place->socket_path);
    }
    place->listen_fd = fd;
    return LLM_OK;
}

enum llm_status place_take(struct place *place, const struct config *config,
                           struct llm_error *error)
{
    gid_t group;
    enum llm_status status = find_group(config, &group, error);
    if (status == LLM_OK)
        status = place_make_directory(place, config, error);
    if (status == LLM_OK)
        status = take_lock(place, error);
    if (status == LLM_OK && place->given)
        status = take_given(place, error);
    if (status == LLM_OK && !place->given)
        status = remove_stale(place, error);
    if (status == LLM_OK && !place->given)
        status = listen_at(place, group, error);
    if (status != LLM_OK)
        place_drop(place);
    return status;
}

void place_drop(struct place *place)
{
    if (place->listen_fd >= 0) {
        if (!place->given)
            unlink(place->socket_path);
        close(place->listen_fd);
    }
    if (place->lock_fd >= 0)
        close(place->lock_fd);
    place->listen_fd = place->lock_fd = -1;
}
