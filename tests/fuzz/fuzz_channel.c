/*
 * fuzz_channel.c - daemon/keeper/engine: whatever an engine says, the keeper keeps its memories, opens nothing outside
 * the model directories and leaks nothing.
 * How: the whole keeper (keeper_fixture.h) with one client. The input is a list of messages, good ones with wrong
 * numbers in them or bytes, and of moments at which the engine listens.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/check.h"
#include "shm/clock.h"
#include "tests/fuzz/keeper_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ACTS_MAX 40

static struct keeper_fixture fixture;

static const char *const names[] = {
    "kvpool",     "a",   "b",   CHANNEL_NAME_CTL, CHANNEL_NAME_STATUS, "", "/",
    "vocab/tiny", "a b", "../x"};
static const char *const paths[] = {"/file",  "/out",   "/../etc/passwd", "", "/",
                                    "/file/", "//file", "/./file",        "x"};

static void send_message(struct input *in)
{
    uint8_t shape = input_byte(in), edits = input_byte(in);
    static const uint32_t kinds[] = {
        CHANNEL_ALLOC, CHANNEL_ALLOC,    CHANNEL_OPEN,       CHANNEL_DEPOSIT, CHANNEL_DROP,
        CHANNEL_READY, CHANNEL_DETACHED, CHANNEL_BAD_CLIENT, CHANNEL_FAILED,  CHANNEL_DRAINED};
    struct channel_message message = {.magic = CHANNEL_MAGIC,
                                      .kind = kinds[shape % (sizeof kinds / sizeof kinds[0])],
                                      .ticket = shape,
                                      .bytes = input_odd_number(in),
                                      .flags = CHANNEL_MEMORY_PUBLIC,
                                      .connection = {.id = fixture.keeper.clients.next_id - 1},
                                      .text = "it is only a test"};
    snprintf(message.name, sizeof message.name, "%s",
             names[input_byte(in) % (sizeof names / sizeof names[0])]);
    snprintf(message.path, sizeof message.path, "%s%s", shape >= 250 ? "" : fixture.root,
             paths[input_byte(in) % (sizeof paths / sizeof paths[0])]);
    for (edits = edits < 128 ? 0 : edits % 4; edits > 0; edits--)
        input_edit(in, &message, edits % 2 ? sizeof message : 64);
    keeper_fixture_send(fixture.engine, &message,
                        edits == 0 && shape == 249 ? sizeof message - 1 : sizeof message,
                        shape >= 240 ? shape : 0);
}

static void send_bytes(struct input *in)
{
    unsigned char bytes[64];
    size_t count = input_byte(in) % sizeof bytes;
    input_copy(in, bytes, count);
    keeper_fixture_send(fixture.engine, bytes, count, 0);
}

/* A file that was opened lies beneath the root. */
static void look_at_answer(const struct channel_message *message, int fd)
{
    char link[32], path[256] = "";
    CHECK(message->status < LLM_STATUS_COUNT);
    CHECK((message->status == LLM_OK) == (message->text[0] == '\0'));
    CHECK(fd < 0 || message->status == LLM_OK);
    if (fd < 0)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    CHECK(readlink(link, path, sizeof path - 1) > 0);
    CHECK(strncmp(path, "/memfd:", 7) == 0 ||
          strncmp(path, fixture.root, strlen(fixture.root)) == 0);
}

static void listen_to_keeper(void)
{
    struct llm_error error;
    struct channel_message message;
    int fds[CHANNEL_FDS_MAX];
    while (channel_receive(fixture.engine, false, &message, fds, &error) == LLM_OK) {
        CHECK(message.kind >= CHANNEL_KEPT && message.kind < CHANNEL_ALLOC);
        if (message.kind == CHANNEL_ANSWER)
            look_at_answer(&message, fds[0]);
        for (int i = 0; i < CHANNEL_FDS_MAX; i++)
            if (fds[i] >= 0)
                close(fds[i]);
    }
}

/* Every memory has a name of its own and a descriptor. */
static void check_memories(void)
{
    struct memories *memories = &fixture.keeper.memories;
    CHECK(memories_find(memories, CHANNEL_NAME_CTL));
    for (int i = 0; i < MEMORIES_MAX; i++) {
        struct memory *memory = &memories->items[i];
        CHECK((memory->name[0] != '\0') == (memory->fd >= 0));
        CHECK(memory->name[0] == '\0' || (memories_name_ok(memory->name) && memory->bytes > 0));
        CHECK(memory->name[0] == '\0' || memories_find(memories, memory->name) == memory);
    }
}

static void attach_one(int client)
{
    struct llm_keeper_request hello = {.magic = LLM_MESSAGE_MAGIC,
                                       .abi_major = LLM_ABI_MAJOR,
                                       .verb = LLM_VERB_ATTACH,
                                       .name = "fuzz"};
    keeper_fixture_send(client, &hello, sizeof hello, 0);
    keeper_fixture_turn(&fixture);
    CHECK(fixture.keeper.clients.attached_count == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    keeper_fixture_begin(&fixture);
    int client = keeper_fixture_connect(&fixture);
    attach_one(client);
    for (int acts = 0; acts < ACTS_MAX && in.left > 0; acts++) {
        uint8_t choice = input_byte(&in);
        if (choice < 160)
            send_message(&in);
        else if (choice < 176)
            send_bytes(&in);
        else if (choice < 208)
            listen_to_keeper();
        else
            keeper_fixture_turn(&fixture);
        check_memories();
    }
    keeper_fixture_turn(&fixture);
    listen_to_keeper();
    keeper_fixture_turn(&fixture);
    check_memories();
    close(client);
    keeper_fixture_end(&fixture);
    return 0;
}
