#include "tests/fuzz/engine_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/log.h"
#include "kernels/kernels.h"
#include "shm/check.h"
#include "shm/segment.h"
#include "tests/support/vocab_fixture.h"

/* ---- The keeper's side of the channel -------------------------------------------------------------- */

static void tell(int socket, struct channel_message *message, int fd)
{
    struct llm_error error;
    CHECK(channel_send(socket, message, &fd, fd >= 0, &error) == LLM_OK);
}

static void keep(int socket, const char *name, uint64_t bytes)
{
    struct llm_error error;
    struct channel_message message = {.kind = CHANNEL_KEPT, .bytes = bytes};
    snprintf(message.name, sizeof message.name, "%s", name);
    int fd;
    CHECK(llm_segment_create_draft(name, bytes, &fd, &error) == LLM_OK);
    tell(socket, &message, fd);
    close(fd);
}

static void answer(int socket, const struct channel_message *question)
{
    struct llm_error error;
    struct channel_message message = {.kind = CHANNEL_ANSWER, .ticket = question->ticket};
    int fd = -1;
    CHECK(question->kind == CHANNEL_ALLOC);
    CHECK(llm_segment_create_draft(question->name, question->bytes, &fd, &error) == LLM_OK);
    tell(socket, &message, fd);
    close(fd);
}

static struct channel_connection peer_of(const struct fixture *fixture, uint32_t which)
{
    const struct fixture_client *client = &fixture->clients[which];
    return (struct channel_connection){.id = client->id,
                                       .slot = client->slot,
                                       .pid = 4242,
                                       .uid = 1000 + which,
                                       .gid = 100 + which / 2,
                                       .administrator = which == 0,
                                       .geometry = fixture->geometry};
}

static void tell_attached(struct fixture *fixture, int socket)
{
    for (uint32_t i = 0; i < FIXTURE_CLIENTS; i++) {
        const struct fixture_client *client = &fixture->clients[i];
        struct llm_error error;
        struct channel_message message = {.kind = CHANNEL_ATTACH,
                                          .connection = peer_of(fixture, i)};
        const int fds[] = {client->up_fd, client->down_fd, client->to_engine_fd, client->bell[0]};
        if (client->id != 0)
            CHECK(channel_send(socket, &message, fds, 4, &error) == LLM_OK);
    }
}

/* A manifest, then memories as they are asked for, until the engine serves. */
static void *play_keeper(void *self)
{
    struct fixture *fixture = self;
    int socket = fixture->keeper;
    for (uint32_t i = 0; i < fixture->kept_count; i++) {
        const struct kept_memory *memory = &fixture->kept[i];
        struct channel_message message = {
            .kind = CHANNEL_KEPT, .bytes = memory->bytes, .flags = memory->flags};
        snprintf(message.name, sizeof message.name, "%s", memory->name);
        tell(socket, &message, memory->fd);
    }
    if (fixture->kept_count == 0) {
        keep(socket, CHANNEL_NAME_CTL, LLM_PAGE_BYTES);
        keep(socket, CHANNEL_NAME_STATUS, sizeof(struct llm_status_file));
    }
    tell(socket,
         &(struct channel_message){.kind = CHANNEL_MODEL,
                                   .model = {.id = 1, .version = 1},
                                   .name = EXECUTOR_ECHO_NAME,
                                   .path = EXECUTOR_ECHO_NAME},
         -1);
    tell_attached(fixture, socket);
    tell(socket,
         &(struct channel_message){.kind = CHANNEL_SERVE, .generation = ++fixture->generation}, -1);
    for (;;) {
        struct llm_error error;
        struct channel_message message;
        int fds[CHANNEL_FDS_MAX];
        CHECK(channel_receive(socket, true, &message, fds, &error) == LLM_OK);
        if (message.kind == CHANNEL_READY)
            return NULL;
        answer(socket, &message);
    }
}

/* ---- What the echo does without -------------------------------------------------------------------- */

enum llm_status executor_model_open(struct executor **out_executor, struct engine *engine,
                                    const struct model_spec *spec, struct llm_error *error)
{
    (void)out_executor, (void)engine;
    return llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: this engine only has the echo", spec->path);
}

void kernel_stream_close(struct kernel_stream *stream)
{
    CHECK(stream == NULL);
}

/* ---- The engine ------------------------------------------------------------------------------------ */

static void give_echo_a_vocabulary(struct engine *engine)
{
    static struct llm_vocab_view view;
    size_t bytes = 0;
    json_t *json = small_byte_level();
    void *image = build_image(json, NULL, &bytes);
    json_decref(json);
    CHECK(llm_vocab_image_check(image, bytes, &view, NULL) == LLM_OK);
    engine->executors[0]->facts.vocab = &view;
}

static void open_engine(struct fixture *fixture)
{
    static struct config config;
    struct llm_error error;
    int ends[2];
    pthread_t keeper;
    log_open(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT, 1, "fuzz"); /* a line a minute from each place */
    config_init(&config);
    static const char *const settings[] = {"models.default=echo",        "limits.requests=6",
                                           "limits.sequences=4",         "limits.step_tokens=32",
                                           "kv.pool_bytes=4MiB",         "limits.contexts=64",
                                           "limits.contexts_per_user=32"};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        CHECK(config_set_pair(&config, settings[i], "fuzz", &error) == LLM_OK);
    CHECK(config.limits.requests == FIXTURE_REQUESTS);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    fixture->keeper = ends[0];
    CHECK(pthread_create(&keeper, NULL, play_keeper, fixture) == 0);
    CHECK(engine_open(&fixture->engine, ends[1], &config, &error) == LLM_OK);
    CHECK(engine_ready(&fixture->engine, &error) == LLM_OK);
    pthread_join(keeper, NULL);
    give_echo_a_vocabulary(&fixture->engine);
}

void fixture_restart(struct fixture *fixture)
{
    static struct kept_memory memories[KEPT_MAX];
    fixture->kept = memories;
    fixture->kept_count = fixture->engine.kept.count;
    memcpy(memories, fixture->engine.kept.items, fixture->kept_count * sizeof *memories);
    engine_close(&fixture->engine);
    close(fixture->keeper);
    open_engine(fixture);
}

/* ---- Clients --------------------------------------------------------------------------------------- */

static void *map(int fd, size_t bytes)
{
    void *address;
    struct llm_error error;
    CHECK(llm_segment_map("fuzz", fd, bytes, true, &address, &error) == LLM_OK);
    return address;
}

static void make_client(struct fixture *fixture, struct fixture_client *client)
{
    struct llm_error error;
    size_t up_bytes = fixture->up_map.total_bytes, down_bytes = fixture->down_map.total_bytes;
    CHECK(llm_segment_create("up", up_bytes, &client->up_fd, &error) == LLM_OK);
    CHECK(llm_segment_create("down", down_bytes, &client->down_fd, &error) == LLM_OK);
    client->up = map(client->up_fd, up_bytes);
    client->down = map(client->down_fd, down_bytes);
    client->to_engine_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(client->to_engine_fd >= 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, client->bell) == 0);
}

void fixture_open(struct fixture *fixture)
{
    open_engine(fixture);
    fixture->geometry = (struct llm_geometry){.queue_entries = 8,
                                              .event_entries = 8,
                                              .stream_slots = 4,
                                              .log_words = 1024,
                                              .arena_bytes = 16 * LLM_PAGE_BYTES};
    CHECK(llm_geometry_valid(&fixture->geometry));
    fixture->up_map = llm_up_map(&fixture->geometry);
    fixture->down_map = llm_down_map(&fixture->geometry);
    for (uint32_t i = 0; i < FIXTURE_CLIENTS; i++)
        make_client(fixture, &fixture->clients[i]);
}

static int copy_of(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    CHECK(copy >= 0);
    return copy;
}

void fixture_attach(struct fixture *fixture, uint32_t which)
{
    struct llm_error error;
    struct fixture_client *client = &fixture->clients[which];
    CHECK(client->id == 0);
    memset(client->up, 0, fixture->up_map.total_bytes);
    memset(client->down, 0, fixture->down_map.total_bytes);
    client->id = ++fixture->next_id;
    client->slot = which == 0 ? 0 : LLM_STATUS_CONNECTIONS_MAX - which;
    struct channel_connection peer = peer_of(fixture, which);
    int fds[CHANNEL_FDS_MAX] = {copy_of(client->up_fd), copy_of(client->down_fd),
                                copy_of(client->to_engine_fd), copy_of(client->bell[0]), -1};
    CHECK(connection_attach(&fixture->engine, &peer, fds, &error) == LLM_OK);
}

void fixture_detach(struct fixture *fixture, uint32_t which)
{
    char bytes[64];
    struct fixture_client *client = &fixture->clients[which];
    CHECK(client->id != 0);
    connection_detach(&fixture->engine, client->id);
    client->id = 0;
    while (read(client->bell[1], bytes, sizeof bytes) > 0)
        ;
}

static void hear_bad_client(struct fixture *fixture, const struct channel_message *message)
{
    CHECK(message->text[0]);
    for (uint32_t i = 0; i < FIXTURE_CLIENTS; i++)
        if (fixture->clients[i].id == message->connection.id) {
            CHECK(fixture->engine.connections[fixture->clients[i].slot].broken);
            fixture_detach(fixture, i);
        }
}

void fixture_hear(struct fixture *fixture)
{
    struct llm_error error;
    struct channel_message message;
    int fds[CHANNEL_FDS_MAX];
    while (channel_receive(fixture->keeper, false, &message, fds, &error) == LLM_OK) {
        CHECK(message.kind == CHANNEL_BAD_CLIENT || message.kind == CHANNEL_DETACHED);
        if (message.kind == CHANNEL_BAD_CLIENT)
            hear_bad_client(fixture, &message);
        else
            fixture->detached_count++;
    }
}
