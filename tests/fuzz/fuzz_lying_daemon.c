/*
 * fuzz_lying_daemon.c - client: whatever a daemon answers and whatever it writes into its memories, libllm stays within
 * its bounds, returns from every call, and gives back what it took.
 * How: a connection over a socket whose other end, and whose memories, the input writes: a reply with wrong numbers in
 * it or with other descriptors; then calls of libllm between numbers written into `down`, `ctl` and `up`, honest tokens,
 * farewells and answers that nobody asked for. Nothing waits: every time-out is 0, or the answer is there (of calls on
 * contexts: before they ask).
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/context.h"
#include "shm/check.h"
#include "shm/segment.h"
#include "tests/fuzz/descriptors.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ACTS_MAX 40
#define STREAMS  6 /* held at once, two more than the connection has */

static const struct llm_geometry geometry = {.queue_entries = 8,
                                             .event_entries = 8,
                                             .stream_slots = 4,
                                             .log_words = 1024,
                                             .arena_bytes = LLM_PAGE_BYTES};

/* The daemon's side: made once, zeroed for each input. */
static struct {
    bool made;
    int fds[LLM_ATTACH_FDS], public_fd, bell;
    char *ctl, *up, *down;
    size_t up_bytes, down_bytes;
} daemon_side;

/* ---- The daemon ------------------------------------------------------------------------------------ */

static char *make_memory(const char *name, size_t bytes, int *out_fd)
{
    struct llm_error error;
    void *address;
    CHECK(llm_segment_create(name, bytes, out_fd, &error) == LLM_OK);
    CHECK(llm_segment_map(name, *out_fd, bytes, true, &address, &error) == LLM_OK);
    return address;
}

static void make_daemon(void)
{
    int bell[2];
    daemon_side.up_bytes = llm_up_map(&geometry).total_bytes;
    daemon_side.down_bytes = llm_down_map(&geometry).total_bytes;
    daemon_side.ctl = make_memory("ctl", LLM_PAGE_BYTES, &daemon_side.fds[LLM_FD_CTL]);
    daemon_side.up = make_memory("up", daemon_side.up_bytes, &daemon_side.fds[LLM_FD_UP]);
    daemon_side.down = make_memory("down", daemon_side.down_bytes, &daemon_side.fds[LLM_FD_DOWN]);
    make_memory("public", LLM_PAGE_BYTES, &daemon_side.public_fd);
    daemon_side.fds[LLM_FD_TO_ENGINE] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, bell) == 0);
    daemon_side.fds[LLM_FD_TO_CLIENT] = bell[0];
    daemon_side.bell = bell[1];
    daemon_side.made = true;
}

static void begin_daemon(void)
{
    if (!daemon_side.made)
        make_daemon();
    memset(daemon_side.up, 0, daemon_side.up_bytes);
    memset(daemon_side.down, 0, daemon_side.down_bytes);
    memset(daemon_side.ctl, 0, LLM_PAGE_BYTES);
    struct llm_ctl *ctl = (void *)daemon_side.ctl;
    ctl->magic = LLM_CTL_MAGIC;
    ctl->abi_major = LLM_ABI_MAJOR;
}

static void send_reply(int socket, const struct llm_keeper_reply *reply, size_t bytes,
                       const int *fds, uint32_t fd_count)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)reply, .iov_len = bytes};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    union {
        struct cmsghdr alignment;
        char bytes[CMSG_SPACE(sizeof(int) * 8)];
    } control = {.bytes = {0}};
    if (fd_count > 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * fd_count);
    }
    (void)!sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* An answer, with up to three wrong numbers and perhaps other descriptors than belong. */
static void answer(struct input *in, int socket, const int *fds, uint32_t fd_count)
{
    int sent[8];
    uint8_t shape = input_byte(in), edits = input_byte(in);
    struct llm_keeper_reply reply = {.magic = LLM_MESSAGE_MAGIC,
                                     .abi_major = LLM_ABI_MAJOR,
                                     .descriptor_count = fd_count,
                                     .connection_id = 1,
                                     .memory_bytes = LLM_PAGE_BYTES,
                                     .geometry = geometry,
                                     .status_name = "/llmd.fuzz",
                                     .message = "the daemon says something"};
    if (shape >= 232)
        reply.status = shape % (LLM_STATUS_COUNT + 2u);
    for (edits = edits < 160 ? 0 : edits % 4; edits > 0; edits--)
        input_edit(in, &reply, edits == 1 ? 128 : sizeof reply);
    for (uint32_t i = 0; i < 8; i++)
        sent[i] = i < fd_count ? fds[i] : daemon_side.fds[i % LLM_ATTACH_FDS];
    if (shape < 16)
        sent[input_byte(in) % 8] = daemon_side.fds[input_byte(in) % LLM_ATTACH_FDS];
    else if (shape < 24)
        fd_count = shape % 8;
    send_reply(socket, &reply, shape == 24 ? sizeof reply - 1 : sizeof reply, sent, fd_count);
}

/* As the engine does: the next tokens of whatever stream is at this slot, then perhaps the end. */
static void publish(struct input *in)
{
    uint8_t shape = input_byte(in);
    uint32_t slot = shape % geometry.stream_slots, ids[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float logprobs[8] = {0};
    struct llm_publisher publisher;
    struct llm_stream_writer writer;
    llm_publisher_init(&publisher, daemon_side.down, &geometry);
    uint64_t commit = atomic_load(&publisher.records[slot].commit);
    uint32_t epoch = llm_commit_epoch(commit) + (shape & 64 ? 1 : 0);
    if (llm_stream_writer_init(&writer, &publisher, slot, epoch, slot * 128, 128,
                               shape & 32 ? LLM_LOG_LOGPROBS : LLM_LOG_IDS, NULL) != LLM_OK)
        return;
    struct llm_stream_facts facts = {.request_id = 1, .admitted_ns = input_odd_number(in)};
    if (shape & 64)
        llm_stream_writer_open(&writer, &facts, NULL, NULL, 0);
    writer.count = llm_commit_epoch(commit) == epoch ? llm_commit_count(commit) : 0;
    uint32_t count = input_byte(in) % 8;
    if (writer.count <= writer.capacity_tokens && count <= writer.capacity_tokens - writer.count &&
        count > 0)
        llm_stream_writer_append(&writer, ids, logprobs, count, 1);
    if (shape & 128)
        llm_stream_writer_finish(&writer, input_byte(in) % LLM_STATUS_COUNT,
                                 input_byte(in) % (LLM_FINISH_ANSWERED + 1), "it ended");
}

static void scribble(struct input *in)
{
    uint8_t where = input_byte(in);
    size_t stream_offset = llm_down_map(&geometry).stream_offset;
    if (where < 128)
        input_edit(in, daemon_side.down + stream_offset,
                   geometry.stream_slots * sizeof(struct llm_stream_record));
    else if (where < 208)
        input_edit(in, daemon_side.down, daemon_side.down_bytes);
    else if (where < 232)
        input_edit(in, daemon_side.ctl, sizeof(struct llm_ctl));
    else
        input_edit(in, daemon_side.up, sizeof(struct llm_up_header));
}

/* ---- The client ------------------------------------------------------------------------------------ */

struct client {
    llm_connection *connection;
    int keeper; /* the daemon's end of the socket */
    llm_stream *streams[STREAMS];
};

static void judge(enum llm_status status, const llm_error *error)
{
    CHECK(status < LLM_STATUS_COUNT);
    CHECK(status == LLM_OK || (error->message[0] && error->status == status));
}

static void submit(struct input *in, struct client *client, llm_stream **stream)
{
    static const uint32_t prompt[64];
    static const char *const stops[] = {"a", "the end"};
    uint8_t shape = input_byte(in);
    llm_error error = {0};
    llm_sampling sampling = {.max_tokens = 1 + input_byte(in),
                             .logprobs = shape & 1,
                             .stop_strings = stops,
                             .stop_string_count = shape / 2 % 3,
                             .stop_ids = prompt,
                             .stop_id_count = shape / 8 % 4};
    if (*stream)
        llm_stream_close(*stream);
    *stream = NULL;
    judge(llm_submit(client->connection, prompt, 1 + shape / 32 * 9, &sampling, stream, &error),
          &error);
}

static void read_stream(struct input *in, llm_stream *stream)
{
    uint32_t tokens[16], count = UINT32_MAX, capacity = 1 + input_byte(in) % 16;
    float logprobs[16];
    llm_error error = {0};
    enum llm_status status = llm_stream_read(stream, tokens, capacity % 2 ? logprobs : NULL,
                                             capacity, 0, &count, &error);
    judge(status, &error);
    CHECK(status == LLM_OK ? count <= capacity : count == UINT32_MAX);
}

static void describe(struct client *client, llm_stream *stream)
{
    llm_error error = {0};
    llm_stream_info info;
    llm_connection_info connection_info;
    uint32_t which = STREAMS;
    enum llm_status status = llm_stream_describe(stream, &info, &error);
    judge(status, &error);
    CHECK(status != LLM_OK ||
          (memchr(info.message, '\0', sizeof info.message) &&
           info.finish <= LLM_FINISHED_ANSWERED && info.output_tokens <= geometry.log_words));
    status = llm_streams_wait_any(client->streams, STREAMS, 0, &which, &error);
    judge(status, &error);
    CHECK(status == LLM_OK ? which < STREAMS && client->streams[which] : which == STREAMS);
    status = llm_connection_describe(client->connection, &connection_info, &error);
    judge(status, &error);
    CHECK(memchr(connection_info.status_name, '\0', sizeof connection_info.status_name));
}

/* Operations through the engine and the keeper; the keeper's answer is there before the question. */
static void operate(struct input *in, struct client *client)
{
    uint8_t what = input_byte(in);
    char report[32] = "";
    const void *address;
    size_t bytes;
    llm_error error = {0};
    switch (what % 5) {
    case 0:
        judge(llm_ping(client->connection, 0, &error), &error);
        break;
    case 1:
        judge(llm_daemon_check(client->connection, 0, report, sizeof report, &error), &error);
        CHECK(memchr(report, '\0', sizeof report));
        break;
    case 2:
        judge(llm_request_cancel(client->connection, what, 0, &error), &error);
        break;
    case 3:
        answer(in, client->keeper, NULL, 0);
        judge(llm_daemon_stop(client->connection, &error), &error);
        break;
    default:
        answer(in, client->keeper, &daemon_side.public_fd, 1);
        if (llm_memory_map(client->connection, "vocab", &address, &bytes, &error) == LLM_OK)
            llm_memory_unmap(address, bytes);
    }
}

/* ---- Contexts: the answer is there before the question -------------------------------------------------- */

#define AHEAD_CONTEXTS 4

/* A plausible record, or spans, in the whole log, with some wrong words in it. */
static void fill_log(struct input *in, bool spans)
{
    struct llm_context_record record = {
        .id = 1, .length = 9, .shared_tokens = 3, .block_tokens = 16, .name = "a", .model = "m"};
    unsigned char *log = (unsigned char *)daemon_side.down + llm_down_map(&geometry).log_offset;
    for (uint32_t i = 0; i < geometry.log_words / LLM_CONTEXT_RECORD_WORDS; i++) {
        struct llm_probe_span pair[8] = {{1, 0, 3, 0, 0, 1}, {4, 3, 8, 5, 0, 0}};
        record.slot = i;
        memcpy(log + i * sizeof record, spans ? (const void *)pair : (const void *)&record,
               sizeof record);
    }
    for (uint8_t edits = input_byte(in) % 4; edits > 0; edits--)
        input_edit(in, log, 2 * sizeof record);
}

/* Whatever slot is taken next, its answer is complete. Never LLM_ERR_BUSY: that is asked again, and nobody answers. False:
 * the client was given other memories for `up` or `down`, so nobody can answer it. */
static bool answer_ahead(struct input *in, struct client *client)
{
    uint8_t shape = input_byte(in);
    uint32_t count = shape & 1 ? LLM_CONTEXT_RECORD_WORDS : input_byte(in);
    uint32_t status = shape < 192 ? LLM_OK : shape % (LLM_STATUS_COUNT + 2u);
    struct llm_publisher publisher;
    llm_publisher_init(&publisher, daemon_side.down, &geometry);
    fill_log(in, (shape & 2) != 0);
    for (uint32_t slot = 0; slot < geometry.stream_slots; slot++) {
        const struct llm_stream *stream = &client->connection->slots.streams[slot];
        if (stream->state == LLM_SLOT_OPEN)
            continue; /* and a closed one that was not done stays closed */
        atomic_store(&publisher.records[slot].status, status == LLM_ERR_BUSY ? 0 : status);
        atomic_store(&publisher.records[slot].finish, LLM_FINISH_ANSWERED);
        atomic_store(&publisher.records[slot].commit,
                     llm_commit_pack(stream->reader.epoch + 1, true, count));
    }
    return memcmp(client->connection->down, daemon_side.down, daemon_side.down_bytes) == 0 &&
           memcmp(client->connection->up, daemon_side.up, daemon_side.up_bytes) == 0;
}

static void check_info(enum llm_status status, const llm_context_info *info)
{
    CHECK(status != LLM_OK ||
          (info->id != 0 && memchr(info->name, '\0', sizeof info->name) &&
           memchr(info->model, '\0', sizeof info->model) && info->shared_tokens <= info->length));
}

static void look(struct llm_context *context, uint8_t what)
{
    llm_error error = {0};
    llm_context_info infos[AHEAD_CONTEXTS];
    llm_probe_result results[AHEAD_CONTEXTS];
    uint32_t tokens[64] = {0}, count = UINT32_MAX, cursor = 0;
    enum llm_status status;
    switch (what % 4) {
    case 0:
        status = llm_context_describe(context, &infos[0], &error);
        check_info(status, &infos[0]);
        break;
    case 1:
        status = llm_context_read(context, 0, tokens, 1 + what % 64, &count, &error);
        CHECK(status == LLM_OK ? count <= 1 + what % 64u : count == UINT32_MAX);
        break;
    case 2:
        status =
            llm_contexts_list(context->connection, &cursor, infos, AHEAD_CONTEXTS, &count, &error);
        CHECK(status == LLM_OK ? count <= AHEAD_CONTEXTS && cursor >= count : cursor == 0);
        for (uint32_t i = 0; status == LLM_OK && i < count; i++)
            check_info(status, &infos[i]);
        break;
    default:
        status = llm_cache_probe(context->connection, NULL, tokens, 8, results, AHEAD_CONTEXTS,
                                 &count, &error);
        CHECK(status == LLM_OK ? count <= AHEAD_CONTEXTS : count == UINT32_MAX);
        for (uint32_t i = 0; status == LLM_OK && i < count; i++)
            CHECK(results[i].from < results[i].to && results[i].to <= 8 &&
                  results[i].from == (i ? results[i - 1].to : 0) && results[i].domain_kind <= 2);
    }
    judge(status, &error);
}

static void use_contexts(struct input *in, struct client *client)
{
    static const uint32_t tokens[8];
    uint8_t what = input_byte(in);
    struct llm_context context = {.connection = client->connection, .id = 1};
    llm_context *made = NULL;
    llm_error error = {0};
    enum llm_status status;
    if (!answer_ahead(in, client))
        return;
    switch (what % 4) {
    case 0:
        status = llm_context_fork(&context, &made, &error);
        break;
    case 1:
        status = llm_context_append(&context, tokens, 8, &error);
        break;
    case 2:
        status = llm_context_publish(&context, "a", NULL, &error);
        break;
    default:
        look(&context, what / 4);
        return;
    }
    judge(status, &error);
    CHECK((status == LLM_OK && what % 4 == 0) == (made != NULL));
    if (made)
        made->owned = false; /* it would be waited for when slots are short */
    llm_context_close(made);
}

static void act(struct input *in, struct client *client)
{
    uint8_t choice = input_byte(in);
    llm_stream **stream = &client->streams[choice / 8 % STREAMS];
    switch (choice % 8) {
    case 0:
        submit(in, client, stream);
        break;
    case 1:
        scribble(in);
        break;
    case 2:
        publish(in);
        break;
    case 3:
    case 4:
        if (*stream)
            read_stream(in, *stream);
        break;
    case 5:
        if (*stream)
            describe(client, *stream);
        break;
    case 6:
        operate(in, client);
        break;
    default:
        if (choice >= 64 && choice < 128)
            use_contexts(in, client);
        else if (choice >= 240)
            answer(in, client->keeper, NULL, 0); /* nobody asked */
        else if (choice >= 128 && *stream)
            llm_stream_cancel(*stream);
        else if (llm_connection_fd(client->connection) >= 0)
            llm_connection_acknowledge(client->connection);
    }
    CHECK(llm_slot_table_sane(&client->connection->slots));
}

static void use(struct input *in, struct client *client)
{
    for (int acts = 0; acts < ACTS_MAX && in->left > 0; acts++) {
        /* A look at the socket is due four times a second; here it is due now and then. */
        atomic_store(&client->connection->next_liveness_ns, input_byte(in) < 32 ? 0 : UINT64_MAX);
        act(in, client);
    }
    for (int i = 0; i < STREAMS; i++)
        if (client->streams[i])
            llm_stream_close(client->streams[i]);
    llm_disconnect(client->connection);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    int ends[2];
    llm_error error = {0};
    begin_daemon();
    uint32_t open_before = descriptors_open();
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    struct client client = {.connection = calloc(1, sizeof *client.connection), .keeper = ends[0]};
    CHECK(client.connection);
    answer(&in, ends[0], daemon_side.fds, LLM_ATTACH_FDS);
    llm_keeper_link_adopt(&client.connection->link, ends[1]);
    enum llm_status status = llm_connection_hello(client.connection, "fuzz", 0, &error);
    judge(status, &error);
    if (status == LLM_OK) {
        llm_fork_guard_open(&client.connection->guard);
        use(&in, &client);
    } else {
        free(client.connection);
    }
    close(ends[0]);
    CHECK(descriptors_open() == open_before);
    return 0;
}
