#include "client/keeper_link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shm/check.h"
#include "shm/clock.h"
#include "shm/crash_point.h"

#define RETRY_NS (5 * LLM_NS_PER_MS)

/* ---- Opening and closing -------------------------------------------------------------------------- */

static enum llm_status fail_connect(struct llm_error *error, int number, const char *path)
{
    switch (number) {
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
        return llm_fail(error, LLM_ERR_NOT_FOUND, "no daemon answers at %s", path);
    case EACCES:
    case EPERM:
        return llm_fail(error, LLM_ERR_PERMISSION,
                        "this user may not use the daemon's socket %s: ask for membership of its "
                        "group",
                        path);
    case EAGAIN:
        return llm_fail(error, LLM_ERR_TIMEOUT, "the daemon at %s does not take connections", path);
    default:
        return llm_fail_errno(error, LLM_ERR_SYSTEM, number, "cannot connect to %s", path);
    }
}

/* EAGAIN: the backlog is full. Returns 0 or an errno. */
static int connect_patiently(int socket, const struct sockaddr_un *address, uint64_t deadline_ns)
{
    for (;;) {
        if (connect(socket, (const struct sockaddr *)address, sizeof *address) == 0)
            return 0;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN || llm_remaining_ns(deadline_ns) == 0)
            return errno;
        nanosleep(&(struct timespec){.tv_nsec = (long)RETRY_NS}, NULL);
    }
}

void llm_keeper_link_adopt(struct llm_keeper_link *link, int socket)
{
    *link = (struct llm_keeper_link){.socket = socket};
    pthread_mutex_init(&link->lock, NULL);
}

enum llm_status llm_keeper_link_open(struct llm_keeper_link *link, const char *path,
                                     uint64_t deadline_ns, struct llm_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CHECK(strlen(path) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot open a socket");
    int number = connect_patiently(fd, &address, deadline_ns);
    if (number != 0) {
        close(fd);
        return fail_connect(error, number, path);
    }
    CRASH_POINT(link_open);
    llm_keeper_link_adopt(link, fd);
    return LLM_OK;
}

void llm_keeper_link_close(struct llm_keeper_link *link, bool inherited)
{
    if (link->socket < 0)
        return;
    close(link->socket);
    link->socket = -1;
    if (!inherited)
        pthread_mutex_destroy(&link->lock);
}

/* ---- The end -------------------------------------------------------------------------------------- */

/* Under the lock. The first reason stays. */
static void set_gone(struct llm_keeper_link *link, const char *why)
{
    if (atomic_load_explicit(&link->gone, memory_order_relaxed))
        return;
    snprintf(link->gone_message, sizeof link->gone_message, "%s", why);
    /* Pairs with the acquire in fail_gone(): who sees `gone` may read the sentence without the lock. */
    atomic_store_explicit(&link->gone, true, memory_order_release);
}

/* LLM_OK while the keeper is not known to be gone. */
static enum llm_status fail_gone(const struct llm_keeper_link *link, struct llm_error *error)
{
    if (!atomic_load_explicit(&link->gone, memory_order_acquire))
        return LLM_OK;
    return llm_fail(error, LLM_ERR_PEER, "%s", link->gone_message);
}

/* Whoever fails has a sentence, also where a keeper sends none. */
static void complete_sentence(struct llm_keeper_reply *reply)
{
    reply->message[sizeof reply->message - 1] = '\0';
    if (reply->message[0] == '\0')
        snprintf(reply->message, sizeof reply->message, "the daemon gave no reason");
}

static bool is_reply(const struct llm_keeper_reply *reply, ssize_t bytes)
{
    return bytes == (ssize_t)sizeof *reply && reply->magic == LLM_MESSAGE_MAGIC &&
           reply->status < LLM_STATUS_COUNT;
}

enum llm_status llm_keeper_link_check(struct llm_keeper_link *link, struct llm_error *error)
{
    enum llm_status status = fail_gone(link, error);
    if (status != LLM_OK || pthread_mutex_trylock(&link->lock) != 0)
        return status; /* a thread that asks will find out */
    struct llm_keeper_reply farewell;
    ssize_t bytes = recv(link->socket, &farewell, sizeof farewell, MSG_PEEK | MSG_DONTWAIT);
    if (is_reply(&farewell, bytes)) {
        complete_sentence(&farewell);
        set_gone(link, farewell.message);
    } else if (bytes >= 0 || (errno != EAGAIN && errno != EINTR)) {
        set_gone(link, "the daemon is gone: it closed its socket");
    }
    pthread_mutex_unlock(&link->lock);
    return fail_gone(link, error);
}

/* ---- Asking --------------------------------------------------------------------------------------- */

static bool send_request(struct llm_keeper_link *link, enum llm_verb verb, const char *name,
                         const char *argument)
{
    struct llm_keeper_request request = {.magic = LLM_MESSAGE_MAGIC,
                                         .abi_major = LLM_ABI_MAJOR,
                                         .abi_minor = LLM_ABI_MINOR,
                                         .verb = (uint32_t)verb};
    if (name)
        snprintf(request.name, sizeof request.name, "%s", name);
    if (argument)
        snprintf(request.argument, sizeof request.argument, "%s", argument);
    return send(link->socket, &request, sizeof request, MSG_NOSIGNAL) == (ssize_t)sizeof request;
}

static bool wait_readable(int socket, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t ms = llm_remaining_ns(deadline_ns) / LLM_NS_PER_MS;
        struct pollfd wanted = {.fd = socket, .events = POLLIN};
        int ready = poll(&wanted, 1, ms > 1000 ? 1000 : (int)ms + 1);
        if (ready > 0)
            return true;
        if (llm_remaining_ns(deadline_ns) == 0)
            return false;
    }
}

/* The descriptors of a message. Alignment makes the kernel's buffer a little larger than asked for, and whatever
 * fits into it may arrive. */
#define CONTROL_BYTES CMSG_SPACE(sizeof(int) * LLM_ATTACH_FDS)
struct fd_list {
    int fd[(CONTROL_BYTES - CMSG_LEN(0)) / sizeof(int)];
    uint32_t count;
};

static void take_descriptors(struct msghdr *header, struct fd_list *fds)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        uint32_t count = (uint32_t)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds->fd, CMSG_DATA(part), count * sizeof(int));
        fds->count = count;
    }
}

static ssize_t receive_reply(int socket, struct llm_keeper_reply *reply, struct fd_list *fds)
{
    struct iovec part = {.iov_base = reply, .iov_len = sizeof *reply};
    union {
        struct cmsghdr alignment;
        char bytes[CONTROL_BYTES];
    } control;
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
    ssize_t bytes = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (bytes < 0 && errno == ECONNRESET) /* reported once, ahead of a last message */
        bytes = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (bytes >= 0)
        take_descriptors(&header, fds);
    return bytes;
}

static enum llm_status judge_reply(const struct llm_keeper_reply *reply, const struct fd_list *fds,
                                   uint32_t fd_count, struct llm_error *error)
{
    if (reply->status != LLM_OK)
        return llm_fail(error, (enum llm_status)reply->status, "%s", reply->message);
    if (reply->abi_major != LLM_ABI_MAJOR)
        return llm_fail(error, LLM_ERR_VERSION, "the daemon speaks protocol %u, this library %u",
                        reply->abi_major, LLM_ABI_MAJOR);
    if (fds->count != fd_count)
        return llm_fail(error, LLM_ERR_PEER, "the daemon sent %u descriptors where %u belong",
                        fds->count, fd_count);
    return LLM_OK;
}

/* Under the lock. */
static enum llm_status exchange(struct llm_keeper_link *link, enum llm_verb verb, const char *name,
                                const char *argument, uint64_t deadline_ns,
                                struct llm_keeper_reply *reply, struct fd_list *fds,
                                uint32_t fd_count, struct llm_error *error)
{
    enum llm_status status = fail_gone(link, error);
    if (status != LLM_OK)
        return status;
    /* A keeper that refuses at the door closes at once, but its reason is there to be read. */
    bool sent = send_request(link, verb, name, argument);
    CRASH_POINT(link_asked);
    if (sent && !wait_readable(link->socket, deadline_ns)) {
        set_gone(link, "the daemon did not answer in time");
        return llm_fail(error, LLM_ERR_TIMEOUT, "the daemon did not answer in time");
    }
    ssize_t bytes = receive_reply(link->socket, reply, fds);
    CRASH_POINT(link_answered);
    if (!is_reply(reply, bytes)) {
        set_gone(link, bytes > 0 ? "the daemon's answer is not of this protocol"
                                 : "the daemon is gone: it closed its socket");
        return fail_gone(link, error);
    }
    complete_sentence(reply);
    reply->status_name[sizeof reply->status_name - 1] = '\0';
    if (reply->status == LLM_ERR_PEER)
        set_gone(link, reply->message); /* it was not an answer but a farewell */
    return judge_reply(reply, fds, fd_count, error);
}

enum llm_status llm_keeper_ask(struct llm_keeper_link *link, enum llm_verb verb, const char *name,
                               uint64_t deadline_ns, struct llm_keeper_reply *out_reply,
                               int *out_fds, uint32_t fd_count, struct llm_error *error)
{
    struct llm_keeper_reply reply = {0};
    struct fd_list fds = {.count = 0};
    pthread_mutex_lock(&link->lock);
    enum llm_status status =
        exchange(link, verb, name, NULL, deadline_ns, &reply, &fds, fd_count, error);
    pthread_mutex_unlock(&link->lock);
    if (status != LLM_OK) {
        for (uint32_t i = 0; i < fds.count; i++)
            close(fds.fd[i]);
        return status;
    }
    *out_reply = reply;
    for (uint32_t i = 0; i < fd_count; i++)
        out_fds[i] = fds.fd[i];
    return LLM_OK;
}

enum llm_status llm_keeper_ask_about(struct llm_keeper_link *link, enum llm_verb verb,
                                     const char *name, const char *argument, uint64_t deadline_ns,
                                     struct llm_keeper_reply *out_reply, struct llm_error *error)
{
    struct llm_keeper_reply reply = {0};
    struct fd_list fds = {.count = 0};
    pthread_mutex_lock(&link->lock);
    enum llm_status status =
        exchange(link, verb, name, argument, deadline_ns, &reply, &fds, 0, error);
    pthread_mutex_unlock(&link->lock);
    for (uint32_t i = 0; i < fds.count; i++)
        close(fds.fd[i]);
    if (status == LLM_OK)
        *out_reply = reply;
    return status;
}
