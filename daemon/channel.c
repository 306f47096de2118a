#include "daemon/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control_space {
    struct cmsghdr header; /* alignment */
    char bytes[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
};

static void attach_descriptors(struct msghdr *header, union control_space *control, const int *fds,
                               uint32_t fd_count)
{
    memset(control, 0, sizeof *control);
    header->msg_control = control->bytes;
    header->msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    struct cmsghdr *part = CMSG_FIRSTHDR(header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    memcpy(CMSG_DATA(part), fds, sizeof(int) * fd_count);
}

enum llm_status channel_send(int socket, const struct channel_message *message, const int *fds,
                             uint32_t fd_count, struct llm_error *error)
{
    struct channel_message copy = *message;
    copy.magic = CHANNEL_MAGIC;
    struct iovec part = {.iov_base = &copy, .iov_len = sizeof copy};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    union control_space control;
    if (fd_count > CHANNEL_FDS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "%u descriptors in one message, at most %d",
                        fd_count, CHANNEL_FDS_MAX);
    if (fd_count > 0)
        attach_descriptors(&header, &control, fds, fd_count);
    ssize_t sent;
    do
        sent = sendmsg(socket, &header, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent == (ssize_t)sizeof copy)
        return LLM_OK;
    if (sent < 0 && errno == EAGAIN)
        return llm_fail(error, LLM_ERR_TIMEOUT, "the channel is full");
    return llm_fail_errno(error, LLM_ERR_PEER, errno, "cannot send on the channel");
}

static void close_all(int fds[CHANNEL_FDS_MAX])
{
    for (int i = 0; i < CHANNEL_FDS_MAX; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

static void take_descriptors(struct msghdr *header, int out_fds[CHANNEL_FDS_MAX])
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t bytes = part->cmsg_len - CMSG_LEN(0);
        if (bytes <= sizeof(int) * CHANNEL_FDS_MAX) /* the space given allows no more */
            memcpy(out_fds, CMSG_DATA(part), bytes);
    }
}

/* Both sides are ours, but a text without its final zero would be a walk through memory. */
static void terminate_texts(struct channel_message *message)
{
    message->name[CHANNEL_NAME_BYTES - 1] = '\0';
    message->path[CHANNEL_PATH_BYTES - 1] = '\0';
    message->text[LLM_NOTE_BYTES - 1] = '\0';
    for (uint32_t i = 0; i < LLM_ALIASES_MAX; i++)
        message->names.aliases[i].name[LLM_NAME_BYTES - 1] = '\0';
}

enum llm_status channel_receive(int socket, bool wait, struct channel_message *out_message,
                                int out_fds[CHANNEL_FDS_MAX], struct llm_error *error)
{
    struct channel_message message;
    struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
    union control_space control;
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
    ssize_t taken;
    do
        taken = recvmsg(socket, &header, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
    while (taken < 0 && errno == EINTR);
    if (taken < 0 && errno == EAGAIN)
        return llm_fail(error, LLM_ERR_TIMEOUT, "no message on the channel");
    if (taken < 0)
        return llm_fail_errno(error, LLM_ERR_PEER, errno, "cannot read the channel");
    if (taken == 0)
        return llm_fail(error, LLM_ERR_PEER, "the other end of the channel is gone");

    int fds[CHANNEL_FDS_MAX] = {-1, -1, -1, -1, -1};
    take_descriptors(&header, fds);
    if (taken != (ssize_t)sizeof message || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ||
        message.magic != CHANNEL_MAGIC) {
        close_all(fds);
        return llm_fail(error, LLM_ERR_PEER, "a message of %zd bytes on the channel is not ours",
                        taken);
    }
    terminate_texts(&message);
    *out_message = message;
    memcpy(out_fds, fds, sizeof fds);
    return LLM_OK;
}
