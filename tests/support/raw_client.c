#include "tests/support/raw_client.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/stream.h"
#include "shm/wait.h"
#include "tests/support/daemon.h"

#define PATIENCE_S 60

/* ---- The socket ------------------------------------------------------------------------------------ */

int raw_try_connect(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    struct timeval patience = {.tv_sec = PATIENCE_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

int raw_connect(const char *socket_path)
{
    int fd = raw_try_connect(socket_path);
    ck_assert_int_ge(fd, 0);
    return fd;
}

struct llm_keeper_request raw_hello(uint32_t verb)
{
    return (struct llm_keeper_request){.magic = LLM_MESSAGE_MAGIC,
                                       .abi_major = LLM_ABI_MAJOR,
                                       .abi_minor = LLM_ABI_MINOR,
                                       .verb = verb,
                                       .name = "bad client"};
}

int raw_ask(int fd, const void *message, size_t bytes)
{
    struct llm_keeper_reply reply;
    ck_assert_int_eq(send(fd, message, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
    ssize_t taken = recv(fd, &reply, sizeof reply, 0);
    return taken == (ssize_t)sizeof reply ? (int)reply.status : -1;
}

#define RAW_FDS_MAX 253 /* the kernel's SCM_MAX_FD */
ssize_t raw_send_with_fds(int fd, const struct llm_keeper_request *request, const int *fds,
                          unsigned count)
{
    struct llm_keeper_request copy = *request;
    struct iovec part = {.iov_base = &copy, .iov_len = sizeof copy};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * RAW_FDS_MAX)];
    } control = {.bytes = {0}};
    ck_assert_uint_le(count, RAW_FDS_MAX);
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(rights), fds, sizeof(int) * count);
    return sendmsg(fd, &header, MSG_NOSIGNAL);
}

void raw_assert_closed(int fd)
{
    struct llm_keeper_reply reply;
    ssize_t taken;
    while ((taken = recv(fd, &reply, sizeof reply, 0)) > 0)
        ;
    ck_assert_int_eq(taken, 0);
    close(fd);
}

/* ---- The memories ---------------------------------------------------------------------------------- */

static int receive_bundle(struct raw_client *client, struct llm_keeper_reply *out_reply)
{
    struct iovec part = {.iov_base = out_reply, .iov_len = sizeof *out_reply};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * LLM_ATTACH_FDS)];
    } control;
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
    if (recvmsg(client->socket, &header, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof *out_reply)
        return -1;
    if (out_reply->status == LLM_OK)
        memcpy(client->fds, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof client->fds);
    return (int)out_reply->status;
}

static void map_bundle(struct raw_client *client)
{
    client->up_map = llm_up_map(&client->geometry);
    client->down_map = llm_down_map(&client->geometry);
    client->up = mmap(NULL, client->up_map.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                      client->fds[LLM_FD_UP], 0);
    client->down = mmap(NULL, client->down_map.total_bytes, PROT_READ, MAP_SHARED,
                        client->fds[LLM_FD_DOWN], 0);
    ck_assert(client->up != MAP_FAILED && client->down != MAP_FAILED);
    llm_queue_producer_init(&client->queue, client->up, client->down, &client->geometry);
}

bool raw_try_attach(struct raw_client *client, const char *socket_path, int *out_status)
{
    struct llm_keeper_request request = raw_hello(LLM_VERB_ATTACH);
    struct llm_keeper_reply reply;
    int status = -1;
    *client = (struct raw_client){.socket = raw_try_connect(socket_path)};
    /* Who is refused at the door is told so, whether or not the request still goes through. */
    if (client->socket >= 0) {
        (void)!send(client->socket, &request, sizeof request, MSG_NOSIGNAL);
        status = receive_bundle(client, &reply);
    }
    if (out_status)
        *out_status = status;
    if (status != LLM_OK) {
        if (client->socket >= 0)
            close(client->socket);
        return false;
    }
    client->geometry = reply.geometry;
    map_bundle(client);
    return true;
}

void raw_attach(struct raw_client *client, const char *socket_path)
{
    int status;
    ck_assert_msg(raw_try_attach(client, socket_path, &status), "not attached: status %d", status);
}

void raw_detach(struct raw_client *client)
{
    munmap(client->up, client->up_map.total_bytes);
    munmap((void *)(uintptr_t)client->down, client->down_map.total_bytes);
    for (int i = 0; i < LLM_ATTACH_FDS; i++)
        close(client->fds[i]);
    close(client->socket);
}

struct llm_up_header *raw_up(const struct raw_client *client)
{
    return (struct llm_up_header *)(void *)client->up;
}

const struct llm_down_header *raw_down(const struct raw_client *client)
{
    return (const struct llm_down_header *)(const void *)client->down;
}

const struct llm_stream_record *raw_stream(const struct raw_client *client, uint32_t slot)
{
    return (const struct llm_stream_record *)(const void *)(client->down +
                                                            client->down_map.stream_offset) +
           slot;
}

void raw_ring(const struct raw_client *client)
{
    llm_engine_ring(raw_down(client), client->fds[LLM_FD_TO_ENGINE]);
}

bool raw_try_push(struct raw_client *client, const struct llm_submission *submission)
{
    uint64_t position;
    bool pushed = llm_queue_push(&client->queue, submission, &position) == LLM_OK;
    raw_ring(client);
    return pushed;
}

void raw_push(struct raw_client *client, const struct llm_submission *submission)
{
    ck_assert(raw_try_push(client, submission));
}

struct llm_submission raw_generate_entry(struct raw_client *client, uint32_t body_bytes)
{
    return (struct llm_submission){.operation = LLM_OP_GENERATE,
                                   .stream_slot = client->next_slot++,
                                   .stream_epoch = 1,
                                   .log_words = 64,
                                   .body_bytes = body_bytes};
}

const struct llm_stream_record *raw_wait_done(const struct raw_client *client, uint32_t slot)
{
    const struct llm_stream_record *record = raw_stream(client, slot);
    uint64_t deadline_ns = llm_deadline_ns(PATIENCE_S * LLM_NS_PER_S);
    while (!llm_commit_done(atomic_load(&record->commit))) {
        ck_assert_uint_gt(llm_remaining_ns(deadline_ns), 0);
        test_sleep_ms(1);
    }
    return record;
}
