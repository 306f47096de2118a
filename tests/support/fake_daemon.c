#include "tests/support/fake_daemon.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shm/check.h"
#include "shm/clock.h"
#include "shm/fence.h"
#include "shm/queue.h"
#include "shm/request.h"
#include "shm/segment.h"
#include "shm/stream.h"
#include "shm/wait.h"

#define CONNECTIONS_MAX  16
#define SLOTS_MAX        64
#define PROMPT_MAX       4096
#define PUBLIC_NAME      "vocab"
#define PUBLIC_TEXT      "a public memory"
#define POLL_MS_DEADLINE 2 /* how often deadlines are looked at while somebody holds */

struct request {
    bool live, hold;
    bool fail;
    struct fake_context *context; /* grows with the answer; NULL: none */
    uint64_t deadline_ns;
    struct llm_request_body body;
    uint32_t stop_ids[LLM_STOP_IDS_MAX];
    uint32_t prompt[PROMPT_MAX];
    struct llm_stream_writer writer;
};

struct connection {
    bool open;
    uint64_t id;
    int socket, to_engine, to_client;
    void *up, *down;
    const unsigned char *arena;
    const _Atomic uint32_t *cancel_words;
    struct llm_queue_consumer queue;
    struct llm_publisher publisher;
    struct llm_client_waker waker;
    uint64_t seen_bell;
    bool published;
    struct request requests[SLOTS_MAX];
};

struct fake_daemon {
    struct fake_daemon_options options;
    char path[108];
    int listen_fd, stop_fd, ctl_fd, ctl_readonly_fd, public_fd;
    struct llm_ctl *ctl;
    uint64_t next_id;
    pthread_t thread;
    struct connection connections[CONNECTIONS_MAX];
    struct fake_contexts contexts;
    _Atomic bool paused, stopping;
    _Atomic uint32_t connection_count, request_count, cancel_count, sleep_count, open_count;
};

/* ---- The engine ----------------------------------------------------------------------------------- */

static void end_connection(struct fake_daemon *daemon, struct connection *connection)
{
    llm_segment_unmap(connection->up, llm_up_map(&daemon->options.geometry).total_bytes);
    llm_segment_unmap(connection->down, llm_down_map(&daemon->options.geometry).total_bytes);
    close(connection->socket);
    close(connection->to_engine);
    close(connection->to_client);
    connection->open = false;
    atomic_fetch_sub(&daemon->open_count, 1);
}

static void end_request(struct connection *connection, struct request *request,
                        enum llm_status status, enum llm_finish finish, const char *note)
{
    if (request->context)
        request->context->generating = false;
    request->context = NULL;
    llm_stream_writer_finish(&request->writer, status, finish, note);
    request->live = false;
    connection->published = true;
}

static void refuse(struct connection *connection, struct request *request,
                   const struct llm_error *error)
{
    end_request(connection, request, error->status, LLM_FINISH_FAILED, error->message);
}

/* Copy the body out of the arena and look at the copy. */
static enum llm_status copy_body(struct fake_daemon *daemon, struct connection *connection,
                                 const struct llm_submission *submission, struct request *request,
                                 struct llm_error *error)
{
    uint32_t arena_bytes = daemon->options.geometry.arena_bytes;
    if (submission->body_offset > arena_bytes ||
        submission->body_bytes > arena_bytes - submission->body_offset ||
        submission->body_bytes < sizeof request->body)
        return llm_fail(error, LLM_ERR_INVALID, "body outside the arena");
    const unsigned char *from = connection->arena + submission->body_offset;
    memcpy(&request->body, from, sizeof request->body);
    enum llm_status status = llm_request_check(&request->body, submission->body_bytes, error);
    if (status != LLM_OK)
        return status;
    struct llm_steering steering = llm_steering_none();
    struct llm_request_map map = llm_request_map(&request->body, NULL);
    if (request->body.flags & LLM_REQUEST_STEERED) {
        memcpy(&steering, from + map.steering_offset, sizeof steering);
        status = llm_steering_check(&steering, &request->body, error);
        if (status == LLM_OK)
            status =
                llm_steering_check_bytes(&steering, &request->body, submission->body_bytes, error);
        map = llm_request_map(&request->body, &steering);
    }
    if (status != LLM_OK)
        return status;
    if (request->body.prompt_tokens > PROMPT_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "prompt of %u tokens: the echo takes %d",
                        request->body.prompt_tokens, PROMPT_MAX);
    memcpy(request->prompt, from + map.prompt_offset,
           request->body.prompt_tokens * sizeof(uint32_t));
    memcpy(request->stop_ids, from + map.stop_id_offset,
           request->body.stop_id_count * sizeof(uint32_t));
    uint8_t strings[LLM_STOP_STRINGS_MAX * (1 + LLM_STOP_STRING_BYTES_MAX)];
    memcpy(strings, from + map.stop_string_offset, request->body.stop_string_bytes);
    return llm_stop_strings_check(strings, request->body.stop_string_bytes,
                                  request->body.stop_string_count, error);
}

static void lie(struct connection *connection, const struct llm_submission *submission)
{
    atomic_store(&connection->publisher.records[submission->stream_slot].commit,
                 llm_commit_pack(submission->stream_epoch, false, submission->log_words + 1));
    llm_event_push(&connection->publisher.events, submission->stream_slot,
                   submission->stream_epoch);
    llm_event_announce(&connection->publisher.events);
    connection->published = true;
}

static void say_farewell(struct fake_daemon *daemon, struct connection *connection,
                         const char *message)
{
    struct llm_keeper_reply reply = {
        .magic = LLM_MESSAGE_MAGIC, .abi_major = LLM_ABI_MAJOR, .status = LLM_ERR_PEER};
    snprintf(reply.message, sizeof reply.message, "%s", message);
    if (message[0])
        send(connection->socket, &reply, sizeof reply, MSG_NOSIGNAL);
    end_connection(daemon, connection);
}

/* What only names of models can ask for. True: there is nothing more to do. */
static bool misbehave(struct fake_daemon *daemon, struct connection *connection,
                      const struct llm_submission *submission, const struct request *request)
{
    if (strcmp(request->body.model, "lie") == 0)
        lie(connection, submission);
    else if (strcmp(request->body.model, "expel") == 0)
        say_farewell(daemon, connection, "token 7 is not to our taste");
    else if (strcmp(request->body.model, "leave") == 0)
        say_farewell(daemon, connection, "");
    else
        return false;
    return true;
}

/* Put the context's tokens before the prompt's, and the prompt's into the context. */
static enum llm_status begin_on_context(struct fake_daemon *daemon, struct connection *connection,
                                        uint64_t context_id, struct request *request,
                                        struct llm_error *error)
{
    bool branch = (request->body.flags & LLM_REQUEST_BRANCH) != 0;
    uint32_t count = request->body.prompt_tokens;
    struct fake_context *context =
        fake_contexts_begin(&daemon->contexts, connection->id, context_id, branch,
                            atomic_load(&daemon->request_count), error);
    if (!context)
        return error->status;
    request->context = context;
    if (count > FAKE_CONTEXT_TOKENS - context->length)
        return llm_fail(error, LLM_ERR_LIMIT, "the context would be too long");
    memcpy(context->tokens + context->length, request->prompt, count * sizeof(uint32_t));
    context->length += count;
    memcpy(request->prompt, context->tokens, context->length * sizeof(uint32_t));
    request->body.prompt_tokens = context->length;
    memcpy(request->body.model, context->model, sizeof request->body.model);
    if (context->length == 0)
        return llm_fail(error, LLM_ERR_INVALID, "the context is empty");
    return LLM_OK;
}

/* The prompt's own ids with -(i + 1) / 8. */
static void score(struct fake_daemon *daemon, struct connection *connection,
                  const struct llm_submission *submission, struct request *request)
{
    uint32_t lie = atomic_load(&daemon->contexts.lie);
    uint32_t count = request->body.max_tokens;
    struct llm_error error;
    if ((request->body.flags & LLM_REQUEST_ON_CONTEXT) &&
        !fake_contexts_find(&daemon->contexts, submission->argument)) {
        (void)!llm_fail(&error, LLM_ERR_NOT_FOUND, "there is no such context");
        refuse(connection, request, &error);
        return;
    }
    for (uint32_t i = 0; i < count - (lie == FAKE_CONTEXT_SCORE_FEW); i++) {
        uint32_t id = request->prompt[request->body.score_from + i] + (lie == FAKE_CONTEXT_SCORES);
        float logprob = -(float)(i + 1) / 8;
        llm_stream_writer_append(&request->writer, &id, &logprob, 1, llm_now_ns());
    }
    end_request(connection, request, LLM_OK, LLM_FINISH_LENGTH, "");
}

static void compute(struct fake_daemon *daemon, struct connection *connection,
                    struct request *request)
{
    static const uint32_t surprise = 5;
    if (request->context && (request->body.flags & LLM_REQUEST_PIN))
        request->context->pinned = true;
    if (atomic_load(&daemon->contexts.lie) == FAKE_CONTEXT_COMPUTED)
        llm_stream_writer_append(&request->writer, &surprise, NULL, 1, llm_now_ns());
    end_request(connection, request, LLM_OK, LLM_FINISH_ANSWERED, "");
}

static void generate(struct fake_daemon *daemon, struct connection *connection,
                     const struct llm_submission *submission, struct request *request)
{
    struct llm_error error;
    enum llm_status status = copy_body(daemon, connection, submission, request, &error);
    uint32_t flags = request->body.flags;
    if (status == LLM_OK && (flags & LLM_REQUEST_ON_CONTEXT) &&
        atomic_load(&daemon->contexts.refusal) != LLM_OK)
        status = llm_fail(&error, (enum llm_status)atomic_load(&daemon->contexts.refusal),
                          "refused as the test wants it");
    if (status == LLM_OK && (flags & LLM_REQUEST_SCORE)) {
        score(daemon, connection, submission, request);
        return;
    }
    if (status == LLM_OK && (flags & LLM_REQUEST_ON_CONTEXT))
        status = begin_on_context(daemon, connection, submission->argument, request, &error);
    if (status != LLM_OK) {
        refuse(connection, request, &error);
        return;
    }
    if (flags & LLM_REQUEST_COMPUTE) {
        compute(daemon, connection, request);
        return;
    }
    if (misbehave(daemon, connection, submission, request))
        return;
    request->hold = strcmp(request->body.model, "hold") == 0;
    request->fail = strcmp(request->body.model, "fail") == 0;
    request->deadline_ns = submission->deadline_ns;
    request->live = true;
}

static void context_verb(struct fake_daemon *daemon, struct connection *connection,
                         const struct llm_submission *submission, struct request *request)
{
    struct llm_context_body body;
    const unsigned char *from = connection->arena + submission->body_offset;
    CHECK(submission->body_bytes >= sizeof body);
    memcpy(&body, from, sizeof body);
    bool has_ids = body.verb == LLM_CONTEXT_APPEND || body.verb == LLM_CONTEXT_PROBE;
    CHECK(submission->body_bytes == sizeof body + (has_ids ? body.count : 0) * sizeof(uint32_t));
    const uint32_t *ids = has_ids ? (const uint32_t *)(const void *)(from + sizeof body) : NULL;
    fake_contexts_answer(&daemon->contexts, connection->id, &body, ids, &request->writer);
    connection->published = true;
}

static void answer(struct fake_daemon *daemon, struct connection *connection,
                   const struct llm_submission *submission)
{
    struct request *request = &connection->requests[submission->stream_slot];
    switch ((enum llm_operation)submission->operation) {
    case LLM_OP_NOP:
        end_request(connection, request, LLM_OK, LLM_FINISH_ANSWERED, "");
        break;
    case LLM_OP_CHECK:
        end_request(connection, request, LLM_OK, LLM_FINISH_ANSWERED, "every echo was heard");
        break;
    case LLM_OP_CANCEL:
        end_request(connection, request, LLM_ERR_NOT_FOUND, LLM_FINISH_ANSWERED,
                    "there is no request 77");
        break;
    case LLM_OP_GENERATE:
        generate(daemon, connection, submission, request);
        break;
    case LLM_OP_CONTEXT:
        context_verb(daemon, connection, submission, request);
        break;
    case LLM_OP_COUNT:
    default:
        end_request(connection, request, LLM_ERR_UNSUPPORTED, LLM_FINISH_ANSWERED, "unknown");
    }
}

static struct llm_log_shape shape_of(struct connection *connection,
                                     const struct llm_submission *submission)
{
    struct llm_request_body body;
    struct llm_steering steering = llm_steering_none();
    if (submission->operation != LLM_OP_GENERATE)
        return LLM_LOG_IDS;
    const unsigned char *from = connection->arena + submission->body_offset;
    memcpy(&body, from, sizeof body);
    if (body.flags & LLM_REQUEST_STEERED)
        memcpy(&steering, from + llm_request_map(&body, NULL).steering_offset, sizeof steering);
    return llm_request_log_shape(&body, steering.top_logprobs);
}

static void admit(struct fake_daemon *daemon, struct connection *connection,
                  const struct llm_submission *submission)
{
    struct request *request = &connection->requests[submission->stream_slot];
    /* A real engine would expel a client that breaks these; libllm never may. */
    CHECK(submission->stream_slot < daemon->options.geometry.stream_slots);
    CHECK(!request->live);
    CHECK(submission->stream_epoch ==
          (uint32_t)(llm_publisher_epoch(&connection->publisher, submission->stream_slot) + 1));
    CHECK(llm_stream_writer_init(&request->writer, &connection->publisher, submission->stream_slot,
                                 submission->stream_epoch, submission->log_offset,
                                 submission->log_words, shape_of(connection, submission),
                                 NULL) == LLM_OK);
    struct llm_stream_facts facts = {.request_id = ++daemon->request_count,
                                     .seed = 4711,
                                     .admitted_ns = llm_now_ns(),
                                     .prompt_tokens = 3,
                                     .cached_tokens = 1,
                                     .engine_generation = 1};
    llm_stream_writer_open(&request->writer, &facts, NULL, NULL, 0);
    connection->published = true;
    answer(daemon, connection, submission);
}

static bool take_in(struct fake_daemon *daemon, struct connection *connection)
{
    struct llm_submission submission;
    if (atomic_load(&daemon->paused))
        return false;
    enum llm_status status = llm_queue_peek(&connection->queue, &submission);
    if (status == LLM_ERR_TIMEOUT)
        return false;
    CHECK(status == LLM_OK);
    admit(daemon, connection, &submission);
    if (connection->open)
        llm_queue_advance(&connection->queue);
    return true;
}

static bool is_stop_id(const struct request *request, uint32_t id)
{
    for (uint32_t i = 0; i < request->body.stop_id_count; i++)
        if (request->stop_ids[i] == id)
            return true;
    return false;
}

static void produce(struct connection *connection, struct request *request, uint64_t now_ns)
{
    uint32_t count = request->writer.count;
    uint32_t id = request->prompt[count % request->body.prompt_tokens];
    float logprob = -(float)(count + 1) / 8;
    if (request->fail && count == 2) {
        end_request(connection, request, LLM_ERR_UNSUPPORTED, LLM_FINISH_FAILED,
                    "the echo is broken");
        return;
    }
    if (request->context && request->context->length < FAKE_CONTEXT_TOKENS)
        request->context->tokens[request->context->length++] = id;
    llm_stream_writer_append(&request->writer, &id, &logprob, 1, now_ns);
    connection->published = true;
    if (is_stop_id(request, id))
        end_request(connection, request, LLM_OK, LLM_FINISH_STOP_ID, "");
    else if (request->writer.count == request->body.max_tokens)
        end_request(connection, request, LLM_OK, LLM_FINISH_LENGTH, "");
}

static bool is_cancelled(const struct connection *connection, const struct request *request)
{
    return atomic_load(&connection->cancel_words[request->writer.slot]) == request->writer.epoch;
}

/* One pass over the connection's requests; true if one of them can go on. */
static bool step(struct fake_daemon *daemon, struct connection *connection)
{
    bool busy = false;
    uint64_t now_ns = llm_now_ns();
    llm_cancel_bell_moved(connection->up, &connection->seen_bell);
    for (uint32_t slot = 0; slot < daemon->options.geometry.stream_slots; slot++) {
        struct request *request = &connection->requests[slot];
        if (!request->live)
            continue;
        if (is_cancelled(connection, request)) {
            atomic_fetch_add(&daemon->cancel_count, 1);
            end_request(connection, request, LLM_ERR_CANCELLED, LLM_FINISH_CANCELLED,
                        "the request was cancelled");
        } else if (request->deadline_ns && now_ns >= request->deadline_ns) {
            end_request(connection, request, LLM_ERR_TIMEOUT, LLM_FINISH_FAILED,
                        "the request's time is over");
        } else if (!request->hold) {
            produce(connection, request, now_ns);
        }
        busy = busy || (request->live && !request->hold);
    }
    return busy;
}

static bool serve(struct fake_daemon *daemon, struct connection *connection)
{
    bool busy = take_in(daemon, connection);
    if (!connection->open)
        return true;
    busy = step(daemon, connection) || busy;
    if (connection->published)
        llm_client_wake(&connection->waker);
    connection->published = false;
    return busy;
}

/* ---- The keeper ----------------------------------------------------------------------------------- */

static void send_with_fds(int socket, struct llm_keeper_reply *reply, const int *fds,
                          uint32_t fd_count)
{
    struct iovec part = {.iov_base = reply, .iov_len = sizeof *reply};
    union {
        struct cmsghdr alignment;
        char bytes[CMSG_SPACE(sizeof(int) * LLM_ATTACH_FDS)];
    } control = {.bytes = {0}};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(rights), fds, sizeof(int) * fd_count);
    }
    reply->descriptor_count = fd_count;
    sendmsg(socket, &header, MSG_NOSIGNAL);
}

static void send_welcome(struct fake_daemon *daemon, int socket, struct llm_keeper_reply *reply,
                         const int *fds)
{
    switch (daemon->options.lie) {
    case FAKE_SHORT_REPLY:
        send(socket, reply, sizeof *reply - 1, MSG_NOSIGNAL);
        return;
    case FAKE_NO_DESCRIPTORS:
        send_with_fds(socket, reply, NULL, 0);
        return;
    case FAKE_WRONG_MAGIC:
        reply->magic++;
        break;
    case FAKE_WRONG_GEOMETRY:
        reply->geometry.queue_entries = 17;
        break;
    case FAKE_LARGER_GEOMETRY:
        reply->geometry.arena_bytes += LLM_PAGE_BYTES;
        break;
    case FAKE_WRONG_BOOT_ID:
        reply->boot_id[15]++;
        break;
    case FAKE_HONEST:
        break;
    }
    send_with_fds(socket, reply, fds, LLM_ATTACH_FDS);
}

static void set_first_epoch(struct fake_daemon *daemon, struct connection *connection)
{
    for (uint32_t slot = 0; slot < daemon->options.geometry.stream_slots; slot++)
        atomic_store(&connection->publisher.records[slot].commit,
                     llm_commit_pack(daemon->options.first_epoch, true, 0));
}

static void attach(struct fake_daemon *daemon, struct connection *connection,
                   struct llm_keeper_reply *reply)
{
    const struct llm_geometry *geometry = &daemon->options.geometry;
    struct llm_up_map up_map = llm_up_map(geometry);
    size_t down_bytes = llm_down_map(geometry).total_bytes;
    int up_fd, down_fd, down_readonly_fd, ends[2];
    CHECK(llm_segment_create("up", up_map.total_bytes, &up_fd, NULL) == LLM_OK);
    CHECK(llm_segment_create("down", down_bytes, &down_fd, NULL) == LLM_OK);
    CHECK(llm_segment_reopen_readonly(down_fd, &down_readonly_fd, NULL) == LLM_OK);
    CHECK(llm_segment_map("up", up_fd, up_map.total_bytes, false, &connection->up, NULL) == LLM_OK);
    CHECK(llm_segment_map("down", down_fd, down_bytes, true, &connection->down, NULL) == LLM_OK);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    connection->to_client = ends[1];
    connection->to_engine = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    connection->arena = (const unsigned char *)connection->up + up_map.arena_offset;
    connection->cancel_words = (const void *)((const char *)connection->up + up_map.cancel_offset);
    llm_queue_consumer_init(&connection->queue, connection->up, connection->down, geometry, 0);
    llm_publisher_init(&connection->publisher, connection->down, geometry);
    llm_client_waker_init(&connection->waker, connection->up, connection->down, ends[1]);
    set_first_epoch(daemon, connection);
    reply->connection_id = connection->id = ++daemon->next_id;
    reply->geometry = *geometry;
    const int fds[LLM_ATTACH_FDS] = {daemon->ctl_readonly_fd, up_fd, down_readonly_fd,
                                     connection->to_engine, ends[0]};
    send_welcome(daemon, connection->socket, reply, fds);
    close(up_fd);
    close(down_fd);
    close(down_readonly_fd);
    close(ends[0]);
}

static void give_memory(struct fake_daemon *daemon, int socket, const char *name,
                        struct llm_keeper_reply *reply)
{
    if (strcmp(name, PUBLIC_NAME) != 0) {
        reply->status = LLM_ERR_NOT_FOUND;
        snprintf(reply->message, sizeof reply->message, "there is no public memory \"%.40s\"",
                 name);
        send_with_fds(socket, reply, NULL, 0);
        return;
    }
    int fd;
    CHECK(llm_segment_reopen_readonly(daemon->public_fd, &fd, NULL) == LLM_OK);
    reply->memory_bytes = LLM_PAGE_BYTES;
    send_with_fds(socket, reply, &fd, 1);
    close(fd);
}

/* False: the client is gone. */
static bool answer_client(struct fake_daemon *daemon, struct connection *connection)
{
    struct llm_keeper_request request;
    ssize_t bytes = recv(connection->socket, &request, sizeof request, MSG_DONTWAIT);
    if (bytes != (ssize_t)sizeof request)
        return bytes < 0 && errno == EAGAIN;
    struct llm_keeper_reply reply = {.magic = LLM_MESSAGE_MAGIC, .abi_major = LLM_ABI_MAJOR};
    memcpy(reply.boot_id, daemon->ctl->boot_id, sizeof reply.boot_id);
    if (request.verb == LLM_VERB_MEMORY) {
        give_memory(daemon, connection->socket, request.name, &reply);
    } else if (request.verb == LLM_VERB_STOP) {
        send_with_fds(connection->socket, &reply, NULL, 0);
        return false;
    } else {
        reply.status = LLM_ERR_PERMISSION;
        snprintf(reply.message, sizeof reply.message, "user %u may not", 1000u);
        send_with_fds(connection->socket, &reply, NULL, 0);
    }
    return true;
}

static void refuse_hello(struct fake_daemon *daemon, int socket)
{
    struct llm_keeper_reply reply = {.magic = LLM_MESSAGE_MAGIC, .abi_major = LLM_ABI_MAJOR};
    if (daemon->options.wrong_version)
        reply.abi_major = LLM_ABI_MAJOR + 1;
    reply.status = (uint32_t)daemon->options.refuse;
    if (!daemon->options.refuse_wordless)
        snprintf(reply.message, sizeof reply.message, "not today");
    send_with_fds(socket, &reply, NULL, 0);
    close(socket);
}

/* The hello is awaited here and now: test clients say it at once, or go away. */
static void welcome(struct fake_daemon *daemon, int socket)
{
    if (daemon->options.refuse_at_door) {
        refuse_hello(daemon, socket);
        return;
    }
    struct llm_keeper_request hello;
    ssize_t bytes = recv(socket, &hello, sizeof hello, 0);
    if (bytes != (ssize_t)sizeof hello || hello.verb != LLM_VERB_ATTACH) {
        close(socket);
        return;
    }
    if (daemon->options.silent)
        return; /* and the descriptor stays open for the process's life */
    if (daemon->options.refuse != LLM_OK || daemon->options.wrong_version) {
        refuse_hello(daemon, socket);
        return;
    }
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &daemon->connections[i];
        if (connection->open)
            continue;
        memset(connection, 0, sizeof *connection);
        connection->open = true;
        connection->socket = socket;
        struct llm_keeper_reply reply = {.magic = LLM_MESSAGE_MAGIC, .abi_major = LLM_ABI_MAJOR};
        memcpy(reply.boot_id, daemon->ctl->boot_id, sizeof reply.boot_id);
        snprintf(reply.status_name, sizeof reply.status_name, "/llmd.fake");
        attach(daemon, connection, &reply);
        atomic_fetch_add(&daemon->connection_count, 1);
        atomic_fetch_add(&daemon->open_count, 1);
        return;
    }
    close(socket);
}

/* ---- The loop ------------------------------------------------------------------------------------- */

static bool serve_all(struct fake_daemon *daemon)
{
    bool busy = false;
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (daemon->connections[i].open)
            busy = serve(daemon, &daemon->connections[i]) || busy;
    return busy;
}

static void set_all_asleep(struct fake_daemon *daemon, bool asleep)
{
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (daemon->connections[i].open)
            llm_engine_set_asleep(daemon->connections[i].down, asleep);
}

static bool anybody_holds(const struct fake_daemon *daemon)
{
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        for (int slot = 0; slot < SLOTS_MAX; slot++)
            if (daemon->connections[i].open && daemon->connections[i].requests[slot].live &&
                daemon->connections[i].requests[slot].deadline_ns)
                return true;
    return false;
}

/* Sleep at most `timeout_ms`, then handle sockets. False: the test wants the thread to end. */
static bool look_at_descriptors(struct fake_daemon *daemon, int timeout_ms)
{
    struct pollfd fds[2 + 2 * CONNECTIONS_MAX] = {{.fd = daemon->stop_fd, .events = POLLIN},
                                                  {.fd = daemon->listen_fd, .events = POLLIN}};
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        const struct connection *connection = &daemon->connections[i];
        fds[2 + 2 * i].fd = connection->open ? connection->socket : -1;
        fds[3 + 2 * i].fd = connection->open ? connection->to_engine : -1;
        fds[2 + 2 * i].events = fds[3 + 2 * i].events = POLLIN;
    }
    poll(fds, sizeof fds / sizeof fds[0], timeout_ms);
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &daemon->connections[i];
        uint64_t rings;
        if (fds[3 + 2 * i].revents && read(connection->to_engine, &rings, sizeof rings) < 0)
            CHECK(errno == EAGAIN);
        if (fds[2 + 2 * i].revents && !answer_client(daemon, connection))
            end_connection(daemon, connection);
    }
    if (fds[1].revents)
        welcome(daemon, accept4(daemon->listen_fd, NULL, NULL, SOCK_CLOEXEC));
    uint64_t wakes;
    if (fds[0].revents && read(daemon->stop_fd, &wakes, sizeof wakes) < 0)
        CHECK(errno == EAGAIN);
    return !atomic_load(&daemon->stopping);
}

static void *run(void *argument)
{
    struct fake_daemon *daemon = argument;
    bool going = true;
    while (going) {
        if (serve_all(daemon)) {
            going = look_at_descriptors(daemon, 0);
            continue;
        }
        set_all_asleep(daemon, true);
        llm_fence_full();
        if (serve_all(daemon)) {
            set_all_asleep(daemon, false);
            continue;
        }
        atomic_fetch_add(&daemon->sleep_count, 1);
        going = look_at_descriptors(daemon, anybody_holds(daemon) ? POLL_MS_DEADLINE : -1);
        set_all_asleep(daemon, false);
    }
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (daemon->connections[i].open)
            end_connection(daemon, &daemon->connections[i]);
    return NULL;
}

/* ---- Opening and closing -------------------------------------------------------------------------- */

static void make_memories(struct fake_daemon *daemon)
{
    void *ctl, *text;
    CHECK(llm_segment_create("ctl", LLM_PAGE_BYTES, &daemon->ctl_fd, NULL) == LLM_OK);
    CHECK(llm_segment_reopen_readonly(daemon->ctl_fd, &daemon->ctl_readonly_fd, NULL) == LLM_OK);
    CHECK(llm_segment_map("ctl", daemon->ctl_fd, LLM_PAGE_BYTES, true, &ctl, NULL) == LLM_OK);
    daemon->ctl = ctl;
    daemon->ctl->magic = LLM_CTL_MAGIC;
    daemon->ctl->abi_major = LLM_ABI_MAJOR;
    daemon->ctl->keeper_pid = (uint32_t)getpid();
    memset(daemon->ctl->boot_id, 0xb0, sizeof daemon->ctl->boot_id);
    atomic_store(&daemon->ctl->engine_generation, 1);
    atomic_store(&daemon->ctl->ready_generation, 1);
    CHECK(llm_segment_create("public", LLM_PAGE_BYTES, &daemon->public_fd, NULL) == LLM_OK);
    CHECK(llm_segment_map("public", daemon->public_fd, LLM_PAGE_BYTES, true, &text, NULL) ==
          LLM_OK);
    memcpy(text, PUBLIC_TEXT, sizeof PUBLIC_TEXT);
    llm_segment_unmap(text, LLM_PAGE_BYTES);
}

static void listen_at(struct fake_daemon *daemon, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(daemon->path, sizeof daemon->path, "%s", path);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    unlink(path);
    daemon->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CHECK(bind(daemon->listen_fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(daemon->listen_fd, 16) == 0);
}

struct fake_daemon *fake_daemon_open(const char *path, const struct fake_daemon_options *options)
{
    static const struct llm_geometry small = {.queue_entries = 16,
                                              .event_entries = 64,
                                              .stream_slots = 8,
                                              .log_words = 4096,
                                              .arena_bytes = 16 * LLM_PAGE_BYTES};
    struct fake_daemon *daemon = calloc(1, sizeof *daemon);
    CHECK(daemon != NULL);
    if (options)
        daemon->options = *options;
    if (daemon->options.geometry.queue_entries == 0)
        daemon->options.geometry = small;
    CHECK(daemon->options.geometry.stream_slots <= SLOTS_MAX);
    make_memories(daemon);
    listen_at(daemon, path);
    daemon->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(pthread_create(&daemon->thread, NULL, run, daemon) == 0);
    return daemon;
}

static void wake(struct fake_daemon *daemon)
{
    uint64_t one = 1;
    CHECK(write(daemon->stop_fd, &one, sizeof one) == (ssize_t)sizeof one);
}

void fake_daemon_close(struct fake_daemon *daemon)
{
    atomic_store(&daemon->stopping, true);
    wake(daemon);
    pthread_join(daemon->thread, NULL);
    unlink(daemon->path);
    llm_segment_unmap(daemon->ctl, LLM_PAGE_BYTES);
    const int fds[] = {daemon->listen_fd, daemon->stop_fd, daemon->ctl_fd, daemon->ctl_readonly_fd,
                       daemon->public_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        close(fds[i]);
    free(daemon);
}

void fake_daemon_refuse_contexts(struct fake_daemon *daemon, enum llm_status status)
{
    atomic_store(&daemon->contexts.refusal, (uint32_t)status);
}

void fake_daemon_lie_about_contexts(struct fake_daemon *daemon, enum fake_context_lie lie)
{
    atomic_store(&daemon->contexts.lie, (uint32_t)lie);
}

void fake_daemon_pause(struct fake_daemon *daemon, bool paused)
{
    atomic_store(&daemon->paused, paused);
    wake(daemon);
}

struct fake_daemon_counts fake_daemon_counts(struct fake_daemon *daemon)
{
    return (struct fake_daemon_counts){
        .connections = atomic_load(&daemon->connection_count),
        .requests = atomic_load(&daemon->request_count),
        .cancelled = atomic_load(&daemon->cancel_count),
        .sleeps = atomic_load(&daemon->sleep_count),
        .open = atomic_load(&daemon->open_count),
        .contexts = atomic_load(&daemon->contexts.live),
    };
}
