/*
 * fuzz_hello.c - daemon/keeper/clients: whatever programs send to the socket, in whatever order, is answered in
 * the protocol's form or ends their connection, and costs nothing when they are gone.
 * How: the whole keeper (keeper_fixture.h). The input is a list of acts of up to five clients: connecting, a good
 * request with wrong numbers in it, bytes, descriptors, closing; and of an engine that lets go of who has left. Each
 * reply is looked at as a client would.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/check.h"
#include "shm/clock.h"
#include "tests/fuzz/keeper_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLIENTS  5
#define ACTS_MAX 40

static struct keeper_fixture fixture;

/* ---- Clients --------------------------------------------------------------------------------------- */

static void send_request(struct input *in, int socket)
{
    static const char *const names[] = {"a program", CHANNEL_NAME_CTL, "vocab", ""};
    uint8_t shape = input_byte(in), edits = input_byte(in);
    struct llm_keeper_request request = {.magic = LLM_MESSAGE_MAGIC,
                                         .abi_major = LLM_ABI_MAJOR,
                                         .abi_minor = LLM_ABI_MINOR,
                                         .verb = shape & 1 ? LLM_VERB_ATTACH
                                                           : shape / 2 % (LLM_VERB_COUNT + 1u)};
    strcpy(request.name, names[shape / 16 % 4]);
    for (edits = edits < 128 ? 0 : edits % 4; edits > 0; edits--)
        input_edit(in, &request, sizeof request);
    keeper_fixture_send(socket, &request, sizeof request, shape >= 240 ? shape : 0);
}

static void send_bytes(struct input *in, int socket)
{
    unsigned char bytes[600];
    size_t count = (size_t)input_number(in, 2) % sizeof bytes;
    uint8_t descriptors = input_byte(in);
    input_copy(in, bytes, count);
    keeper_fixture_send(socket, bytes, count, descriptors >= 192 ? descriptors : 0);
}

/* What an attached client is given: memories of which only one can be written. */
static void look_at_bundle(const int *fds)
{
    for (int i = LLM_FD_CTL; i <= LLM_FD_DOWN; i++) {
        void *page = mmap(NULL, LLM_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
        CHECK((page != MAP_FAILED) == (i == LLM_FD_UP));
        if (page != MAP_FAILED)
            munmap(page, LLM_PAGE_BYTES);
    }
}

static void look_at_reply(const struct llm_keeper_reply *reply, const int *fds, uint32_t fd_count)
{
    CHECK(reply->magic == LLM_MESSAGE_MAGIC && reply->abi_major == LLM_ABI_MAJOR);
    CHECK(reply->status < LLM_STATUS_COUNT && reply->descriptor_count == fd_count);
    CHECK(memchr(reply->message, '\0', sizeof reply->message));
    CHECK(memchr(reply->status_name, '\0', sizeof reply->status_name));
    CHECK((reply->status == LLM_OK) == (reply->message[0] == '\0'));
    if (fd_count == LLM_ATTACH_FDS) {
        CHECK(llm_geometry_valid(&reply->geometry) && reply->connection_id > 0);
        look_at_bundle(fds);
    } else {
        CHECK(fd_count <= 1 && (fd_count == 0 || reply->memory_bytes > 0));
    }
}

/* False: there was none. */
static bool take_reply(int socket)
{
    struct llm_keeper_reply reply;
    struct iovec part = {.iov_base = &reply, .iov_len = sizeof reply};
    union {
        struct cmsghdr alignment;
        char bytes[CMSG_SPACE(sizeof(int) * 16)];
    } control;
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
    ssize_t bytes = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (bytes <= 0)
        return bytes < 0 && errno == ECONNRESET; /* said once, ahead of a last message */
    CHECK(bytes == (ssize_t)sizeof reply && !(header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)));
    int fds[16];
    uint32_t count = 0;
    const struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    if (rights) {
        count = (uint32_t)((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        CHECK(count <= 16);
        memcpy(fds, CMSG_DATA(rights), count * sizeof(int));
    }
    look_at_reply(&reply, fds, count);
    for (uint32_t i = 0; i < count; i++)
        close(fds[i]);
    return true;
}

/* ---- The engine ------------------------------------------------------------------------------------ */

/* Takes what it is told; lets go of who has left, and sometimes breaks with somebody. */
static void play_engine(struct input *in)
{
    uint8_t mood = input_byte(in);
    struct llm_error error;
    struct channel_message message;
    int fds[CHANNEL_FDS_MAX];
    while (channel_receive(fixture.engine, false, &message, fds, &error) == LLM_OK) {
        for (int i = 0; i < CHANNEL_FDS_MAX; i++)
            if (fds[i] >= 0)
                close(fds[i]);
        struct channel_message say = {.connection = {.id = message.connection.id}};
        if (message.kind == CHANNEL_ATTACH && mood % 4 == 0)
            say = (struct channel_message){.kind = CHANNEL_BAD_CLIENT,
                                           .connection = {.id = message.connection.id},
                                           .text = "client pid 1: it is only a test"};
        else if (message.kind == CHANNEL_DETACH)
            say.kind = CHANNEL_DETACHED;
        else if (message.kind == CHANNEL_SERVE)
            say.kind = CHANNEL_READY;
        else if (message.kind == CHANNEL_DRAIN)
            say.kind = CHANNEL_DRAINED;
        else
            continue;
        CHECK(channel_send(fixture.engine, &say, NULL, 0, &error) == LLM_OK);
    }
}

/* ---- Acts ------------------------------------------------------------------------------------------ */

static void check_keeper(void)
{
    const struct clients *clients = &fixture.keeper.clients;
    uint32_t hello = 0, attached = 0;
    for (uint32_t slot = 0; slot < CLIENTS_MAX; slot++) {
        hello += clients->slots[slot].phase == CLIENT_HELLO;
        attached += clients->slots[slot].phase == CLIENT_ATTACHED;
        CHECK((clients->slots[slot].socket >= 0) ==
              (clients->slots[slot].phase == CLIENT_HELLO ||
               clients->slots[slot].phase == CLIENT_ATTACHED));
    }
    CHECK(hello == clients->hello_count && attached == clients->attached_count);
    CHECK(attached <= fixture.config.limits.connections);
}

static void act(struct input *in, int sockets[CLIENTS])
{
    uint8_t choice = input_byte(in);
    int *socket = &sockets[choice / 8 % CLIENTS];
    if (*socket < 0) {
        *socket = keeper_fixture_connect(&fixture);
        return;
    }
    switch (choice % 8) {
    case 0:
    case 1:
        send_request(in, *socket);
        break;
    case 2:
        send_bytes(in, *socket);
        break;
    case 3:
        close(*socket);
        *socket = -1;
        break;
    case 4:
        play_engine(in);
        break;
    case 5:
        clients_expire(&fixture.keeper, llm_now_ns() + (choice >= 192 ? 2 * LLM_NS_PER_S : 0));
        break;
    case 6:
        while (take_reply(*socket))
            ;
        break;
    default:
        keeper_fixture_turn(&fixture);
        check_keeper();
    }
}

static bool nobody_is_left(void)
{
    struct pollfd door = {.fd = fixture.keeper.place.listen_fd, .events = POLLIN};
    if (poll(&door, 1, 0) > 0)
        return false;
    for (uint32_t slot = 0; slot < CLIENTS_MAX; slot++)
        if (fixture.keeper.clients.slots[slot].phase != CLIENT_FREE)
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    int sockets[CLIENTS] = {-1, -1, -1, -1, -1};
    keeper_fixture_begin(&fixture);
    for (int acts = 0; acts < ACTS_MAX && in.left > 0; acts++)
        act(&in, sockets);
    keeper_fixture_turn(&fixture);
    keeper_fixture_turn(&fixture);
    for (int i = 0; i < CLIENTS; i++) {
        while (sockets[i] >= 0 && take_reply(sockets[i]))
            ;
        if (sockets[i] >= 0)
            close(sockets[i]);
    }
    /* Everybody has left, perhaps with much to be read first, and the engine lets go. */
    for (int turn = 0; turn < 2 * ACTS_MAX && !nobody_is_left(); turn++) {
        keeper_fixture_turn(&fixture);
        play_engine(&(struct input){(const uint8_t *)"\1", 1});
    }
    check_keeper();
    CHECK(nobody_is_left());
    keeper_fixture_end(&fixture);
    return 0;
}
