#include "daemon/keeper/clients.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/peer.h"
#include "daemon/keeper/status_page.h"
#include "daemon/log.h"
#include "daemon/quota.h"
#include "shm/check.h"
#include "shm/clock.h"
#include "shm/crash_point.h"
#include "shm/segment.h"

void clients_init(struct clients *clients)
{
    memset(clients, 0, sizeof *clients);
    clients->next_id = 1;
    for (uint32_t slot = 0; slot < CLIENTS_MAX; slot++) {
        clients->slots[slot].socket = clients->slots[slot].pidfd = -1;
        clients->slots[slot].bundle = BUNDLE_EMPTY;
    }
}

/* ---- Slots ----------------------------------------------------------------------------------------- */

static void close_socket(struct client *client)
{
    if (client->socket >= 0)
        close(client->socket);
    if (client->pidfd >= 0)
        close(client->pidfd);
    client->socket = client->pidfd = -1;
}

static void free_slot(struct keeper *keeper, struct client *client)
{
    close_socket(client);
    bundle_close(&client->bundle);
    client->phase = CLIENT_FREE;
    client->serial++;
    while (keeper->clients.end > 0 &&
           keeper->clients.slots[keeper->clients.end - 1].phase == CLIENT_FREE)
        keeper->clients.end--;
    keeper->descriptors_changed = true;
}

/* The client is gone, or must go. What it left stays until the engine has let go of it. */
static void leave(struct keeper *keeper, struct client *client, const char *reason)
{
    uint32_t slot = (uint32_t)(client - keeper->clients.slots);
    if (client->phase == CLIENT_HELLO) {
        keeper->clients.hello_count--;
        free_slot(keeper, client);
        return;
    }
    CHECK(client->phase == CLIENT_ATTACHED);
    log_event(LOG_LEVEL_INFO, "client left", log_count("connection", client->id),
              log_count("client_pid", client->pid), log_text("reason", reason));
    keeper->clients.attached_count--;
    status_page_left(keeper, slot);
    close_socket(client);
    client->serial++;
    client->phase = CLIENT_LEAVING;
    if (!client->told_attach)
        free_slot(keeper, client); /* no engine ever heard of it */
    keeper->engine.has_news = true;
    keeper->descriptors_changed = true;
    keeper_note_idle(keeper);
}

static struct client *find_free(struct clients *clients)
{
    for (uint32_t slot = 0; slot < clients->end; slot++)
        if (clients->slots[slot].phase == CLIENT_FREE)
            return &clients->slots[slot];
    return clients->end < CLIENTS_MAX ? &clients->slots[clients->end++] : NULL;
}

static struct client *find_id(struct clients *clients, uint64_t id)
{
    for (uint32_t slot = 0; slot < clients->end; slot++) {
        struct client *client = &clients->slots[slot];
        if (client->id == id &&
            (client->phase == CLIENT_ATTACHED || client->phase == CLIENT_LEAVING))
            return client;
    }
    return NULL;
}

static struct client *find_live(struct clients *clients, uint32_t slot, uint32_t serial)
{
    struct client *client = slot < CLIENTS_MAX ? &clients->slots[slot] : NULL;
    return client && client->serial == (serial & KEEPER_SERIAL_MASK) && client->socket >= 0 ? client
                                                                                            : NULL;
}

/* ---- Messages -------------------------------------------------------------------------------------- */

static void start_reply(const struct keeper *keeper, struct llm_keeper_reply *reply)
{
    *reply = (struct llm_keeper_reply){
        .magic = LLM_MESSAGE_MAGIC, .abi_major = LLM_ABI_MAJOR, .abi_minor = LLM_ABI_MINOR};
    memcpy(reply->boot_id, keeper->ctl->boot_id, sizeof reply->boot_id);
}

/* Never waits: a client that lets its socket fill up is closed. */
static bool send_reply(int socket, const struct llm_keeper_reply *reply, const int *fds,
                       uint32_t fd_count)
{
    struct llm_keeper_reply copy = *reply;
    copy.descriptor_count = fd_count;
    struct iovec part = {.iov_base = &copy, .iov_len = sizeof copy};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * LLM_ATTACH_FDS)];
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
    return sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof copy;
}

static bool send_refusal(const struct keeper *keeper, int socket, const struct llm_error *error)
{
    struct llm_keeper_reply reply;
    start_reply(keeper, &reply);
    reply.status = (uint32_t)error->status;
    snprintf(reply.message, sizeof reply.message, "%.*s", (int)sizeof reply.message - 1,
             error->message);
    return send_reply(socket, &reply, NULL, 0);
}

static bool reserved_zero(const struct llm_keeper_request *request)
{
    uint32_t any = request->reserved0;
    if (request->verb == LLM_VERB_MODEL_LOAD || request->verb == LLM_VERB_MODEL_ALIAS)
        return any == 0 && request->argument[sizeof request->argument - 1] == '\0';
    for (size_t i = 0; i < sizeof request->argument; i++)
        any |= (unsigned char)request->argument[i];
    return any == 0;
}

enum request_found {
    REQUEST_WHOLE,
    REQUEST_NONE,  /* nothing to read yet */
    REQUEST_END,   /* end of file, or an error */
    REQUEST_WRONG, /* size, magic, or descriptors came with it */
};

/* No space for descriptors is given: the kernel drops what a client sends and says MSG_CTRUNC. */
static enum request_found receive_request(int socket, struct llm_keeper_request *out_request)
{
    struct iovec part = {.iov_base = out_request, .iov_len = sizeof *out_request};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t taken = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (taken < 0)
        return errno == EAGAIN || errno == EINTR ? REQUEST_NONE : REQUEST_END;
    if (taken == 0)
        return REQUEST_END;
    if (taken != (ssize_t)sizeof *out_request || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) ||
        out_request->magic != LLM_MESSAGE_MAGIC)
        return REQUEST_WRONG;
    out_request->name[LLM_NAME_BYTES - 1] = '\0';
    return REQUEST_WHOLE;
}

/* ---- What a client may ask ------------------------------------------------------------------------- */

static uint32_t count_of_user(const struct clients *clients, uint32_t uid)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < clients->end; slot++)
        count += clients->slots[slot].phase == CLIENT_ATTACHED && clients->slots[slot].uid == uid;
    return count;
}

static enum llm_status check_room(const struct keeper *keeper, const struct client *client,
                                  struct llm_error *error)
{
    const struct config *config = keeper->config;
    if (client->phase == CLIENT_ATTACHED)
        return llm_fail(error, LLM_ERR_INVALID, "this connection is attached already");
    if (keeper->engine.failed)
        return llm_fail(error, LLM_ERR_SYSTEM, "%s", keeper->engine.reason);
    if (keeper->stopping)
        return llm_fail(error, LLM_ERR_PEER, "the daemon is stopping"); /* libllm tries again */
    if (keeper->drain.active && !client->administrator)
        return llm_fail(error, LLM_ERR_BUSY,
                        "llmd is draining: it ends what runs and takes no new clients");
    if (keeper->clients.attached_count >= config->limits.connections)
        return llm_fail(error, LLM_ERR_BUSY, "all %llu connections (limits.connections) are in use",
                        (unsigned long long)config->limits.connections);
    struct quota quota =
        quota_of(config, client->uid, client->gid, client->groups, client->group_count);
    if (count_of_user(&keeper->clients, client->uid) >= quota.connections)
        return llm_fail(error, LLM_ERR_BUSY, "user %u has all of its %u connections (%s) in use",
                        client->uid, quota.connections,
                        quota.connections == config->limits.connections_per_user
                            ? "limits.connections_per_user"
                            : "its quota");
    return LLM_OK;
}

static enum llm_status attach(struct keeper *keeper, struct client *client,
                              const struct llm_keeper_request *request, struct llm_error *error)
{
    enum llm_status status = check_room(keeper, client, error);
    if (status == LLM_OK)
        status = bundle_make(&client->bundle, &keeper->geometry, error);
    if (status != LLM_OK)
        return status;

    client->phase = CLIENT_ATTACHED;
    client->id = keeper->clients.next_id++;
    client->told_attach = client->told_detach = false;
    keeper->clients.hello_count--;
    keeper->clients.attached_count++;
    keeper->engine.has_news = true;
    keeper->descriptors_changed = true;
    status_page_attached(keeper, (uint32_t)(client - keeper->clients.slots), request->name);
    log_event(LOG_LEVEL_INFO, "client attached", log_count("connection", client->id),
              log_count("client_pid", client->pid), log_count("uid", client->uid),
              log_text("name", request->name));

    struct llm_keeper_reply reply;
    start_reply(keeper, &reply);
    reply.connection_id = client->id;
    reply.geometry = keeper->geometry;
    memcpy(reply.status_name, keeper->place.status_name, sizeof reply.status_name);
    const int fds[LLM_ATTACH_FDS] = {
        [LLM_FD_CTL] = keeper->ctl_readonly_fd,
        [LLM_FD_UP] = client->bundle.up,
        [LLM_FD_DOWN] = client->bundle.down_readonly,
        [LLM_FD_TO_ENGINE] = client->bundle.to_engine,
        [LLM_FD_TO_CLIENT] = client->bundle.from_engine,
    };
    bool sent = send_reply(client->socket, &reply, fds, LLM_ATTACH_FDS);
    CRASH_POINT(keeper_answered);
    bundle_close_client_views(&client->bundle);
    return sent ? LLM_OK : llm_fail(error, LLM_ERR_PEER, "cannot answer");
}

static enum llm_status give_models(struct keeper *keeper, struct client *client,
                                   struct llm_error *error)
{
    int fd;
    enum llm_status status = registry_image(keeper, client->administrator, &fd, error);
    if (status != LLM_OK)
        return status;
    struct llm_keeper_reply reply;
    start_reply(keeper, &reply);
    reply.memory_bytes = sizeof(struct llm_models_image);
    bool sent = send_reply(client->socket, &reply, &fd, 1);
    close(fd);
    return sent ? LLM_OK : llm_fail(error, LLM_ERR_PEER, "cannot answer");
}

static enum llm_status give_memory(struct keeper *keeper, struct client *client,
                                   const struct llm_keeper_request *request,
                                   struct llm_error *error)
{
    char name[CHANNEL_NAME_BYTES];
    if (strcmp(request->name, LLM_MODELS_MEMORY) == 0)
        return give_models(keeper, client, error);
    if (!registry_memory_name(&keeper->registry, request->name, name))
        snprintf(name, sizeof name, "%s", request->name);
    const struct memory *memory = memories_find(&keeper->memories, name);
    if (!memory || !(memory->flags & CHANNEL_MEMORY_PUBLIC))
        return llm_fail(error, LLM_ERR_NOT_FOUND, "there is no public memory \"%s\"",
                        request->name);
    int fd;
    enum llm_status status = llm_segment_reopen_readonly(memory->fd, &fd, error);
    if (status != LLM_OK)
        return status;
    struct llm_keeper_reply reply;
    start_reply(keeper, &reply);
    reply.memory_bytes = memory->bytes;
    bool sent = send_reply(client->socket, &reply, &fd, 1);
    close(fd);
    return sent ? LLM_OK : llm_fail(error, LLM_ERR_PEER, "cannot answer");
}

static const char *steering_name(uint32_t verb)
{
    static const char *const names[LLM_VERB_COUNT] = {
        [LLM_VERB_STOP] = "stop",
        [LLM_VERB_RESTART_ENGINE] = "restart engine",
        [LLM_VERB_DRAIN] = "drain",
        [LLM_VERB_DRAIN_STOP] = "drain and stop",
        [LLM_VERB_RESUME] = "resume",
        [LLM_VERB_MODEL_LOAD] = "load a model",
        [LLM_VERB_MODEL_UNLOAD] = "unload a model",
        [LLM_VERB_MODEL_ALIAS] = "change an alias",
        [LLM_VERB_MODEL_DEFAULT] = "change the default model",
    };
    return names[verb];
}

static enum llm_status check_may_steer(const struct keeper *keeper, const struct client *client,
                                       struct llm_error *error)
{
    return client->administrator
               ? LLM_OK
               : llm_fail(error, LLM_ERR_PERMISSION,
                          "user %u may not steer the daemon: the daemon's user, root%s may",
                          client->uid,
                          keeper->config->daemon.admin_group[0] ? " and its admin_group" : "");
}

static enum llm_status change_models(struct keeper *keeper, struct client *client,
                                     const struct llm_keeper_request *request,
                                     struct llm_error *error)
{
    struct llm_keeper_reply reply;
    start_reply(keeper, &reply);
    enum llm_status status = check_may_steer(keeper, client, error);
    if (status != LLM_OK)
        return status;
    if (request->verb == LLM_VERB_MODEL_LOAD)
        status = registry_load(keeper, request->argument, request->name, &reply.model_id, error);
    else if (request->verb == LLM_VERB_MODEL_UNLOAD)
        status = registry_unload(keeper, request->name, &reply.model_id, error);
    else if (request->verb == LLM_VERB_MODEL_ALIAS)
        status = registry_alias(keeper, request->name, request->argument, &reply.model_id, error);
    else
        status = registry_set_default(keeper, request->name, &reply.model_id, error);
    if (status != LLM_OK)
        return status;
    reply.names_number = keeper->registry.names_number;
    log_event(LOG_LEVEL_INFO, "steered", log_text("verb", steering_name(request->verb)),
              log_text("name", request->name), log_text("argument", request->argument),
              log_count("client_pid", client->pid), log_count("uid", client->uid));
    bool sent = send_reply(client->socket, &reply, NULL, 0);
    return sent ? LLM_OK : llm_fail(error, LLM_ERR_PEER, "cannot answer");
}

static enum llm_status steer(struct keeper *keeper, struct client *client, uint32_t verb,
                             struct llm_error *error)
{
    enum llm_status status = check_may_steer(keeper, client, error);
    if (status != LLM_OK)
        return status;
    struct llm_keeper_reply reply;
    start_reply(keeper, &reply);
    bool sent = send_reply(client->socket, &reply, NULL, 0);
    log_event(LOG_LEVEL_INFO, "steered", log_text("verb", steering_name(verb)),
              log_count("client_pid", client->pid), log_count("uid", client->uid));
    if (verb == LLM_VERB_STOP)
        keeper_stop(keeper);
    else if (verb == LLM_VERB_RESTART_ENGINE)
        engine_restart(keeper);
    else if (verb == LLM_VERB_RESUME)
        drain_resume(keeper);
    else
        drain_begin(keeper, verb == LLM_VERB_DRAIN_STOP);
    return sent ? LLM_OK : llm_fail(error, LLM_ERR_PEER, "cannot answer");
}

/* LLM_ERR_PEER: the connection must end. Any other failure is sent to the client. */
static enum llm_status serve(struct keeper *keeper, struct client *client,
                             const struct llm_keeper_request *request, struct llm_error *error)
{
    if (request->abi_major != LLM_ABI_MAJOR)
        return llm_fail(error, LLM_ERR_VERSION,
                        "the daemon speaks protocol version %u, the client %u", LLM_ABI_MAJOR,
                        request->abi_major);
    if (!reserved_zero(request))
        return llm_fail(error, LLM_ERR_INVALID, "reserved bytes of the request are not zero");
    switch (request->verb) {
    case LLM_VERB_ATTACH:
        return attach(keeper, client, request, error);
    case LLM_VERB_MEMORY:
        return give_memory(keeper, client, request, error);
    case LLM_VERB_STOP:
    case LLM_VERB_RESTART_ENGINE:
    case LLM_VERB_DRAIN:
    case LLM_VERB_DRAIN_STOP:
    case LLM_VERB_RESUME:
        return steer(keeper, client, request->verb, error);
    case LLM_VERB_MODEL_LOAD:
    case LLM_VERB_MODEL_UNLOAD:
    case LLM_VERB_MODEL_ALIAS:
    case LLM_VERB_MODEL_DEFAULT:
        return change_models(keeper, client, request, error);
    default:
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "verb %u is not known", request->verb);
    }
}

void clients_socket_ready(struct keeper *keeper, uint32_t slot, uint32_t serial)
{
    struct client *client = find_live(&keeper->clients, slot, serial);
    if (!client)
        return;
    struct llm_keeper_request request;
    struct llm_error error;
    enum request_found found = receive_request(client->socket, &request);
    if (found == REQUEST_NONE)
        return;
    if (found != REQUEST_WHOLE) {
        leave(keeper, client,
              found == REQUEST_END ? "closed its socket" : "sent a message that is not ours");
        return;
    }
    enum llm_status status = serve(keeper, client, &request, &error);
    bool keep = status == LLM_OK || (status != LLM_ERR_PEER && status != LLM_ERR_VERSION &&
                                     send_refusal(keeper, client->socket, &error));
    if (status == LLM_ERR_VERSION)
        (void)!send_refusal(keeper, client->socket, &error);
    if (!keep)
        leave(keeper, client, error.message);
    else
        client->deadline_ns = llm_deadline_ns(CLIENTS_HELLO_TIME_NS);
}

void clients_process_gone(struct keeper *keeper, uint32_t slot, uint32_t serial)
{
    struct client *client = find_live(&keeper->clients, slot, serial);
    if (client)
        leave(keeper, client, "its process is gone");
}

/* ---- Coming ---------------------------------------------------------------------------------------- */

#define CROWD_TEXT "too many clients are connecting at once; try again"

static void refuse_at_door(struct keeper *keeper, int socket, const char *why)
{
    struct llm_error error;
    (void)!llm_fail(&error, LLM_ERR_BUSY, "%s", why);
    (void)!send_refusal(keeper, socket, &error);
    close(socket);
}

static uint32_t waiting_of_user(const struct clients *clients, uint32_t uid)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < clients->end; slot++)
        count += clients->slots[slot].phase == CLIENT_HELLO && clients->slots[slot].uid == uid;
    return count;
}

/* Of those who have not said yet what they want: who waits longest, of the user who has most of them there. */
static struct client *find_crowd(struct clients *clients, uint32_t *out_count)
{
    struct client *longest = NULL;
    *out_count = 0;
    for (uint32_t slot = 0; slot < clients->end; slot++) {
        struct client *client = &clients->slots[slot];
        if (client->phase != CLIENT_HELLO)
            continue;
        if (longest && client->uid == longest->uid) {
            if (client->deadline_ns < longest->deadline_ns)
                longest = client;
            continue;
        }
        uint32_t count = waiting_of_user(clients, client->uid);
        if (count > *out_count) {
            longest = client;
            *out_count = count;
        }
    }
    return longest;
}

/* At most CLIENTS_HELLO_MAX wait to speak. When the places are taken, the user who has most of them gives one up for
 * a user who has fewer: a crowd keeps nobody out but itself. */
static bool make_room(struct keeper *keeper, uint32_t uid)
{
    uint32_t most = 0;
    if (keeper->clients.hello_count < CLIENTS_HELLO_MAX)
        return true;
    struct client *client = find_crowd(&keeper->clients, &most);
    if (!client || client->uid == uid || most <= waiting_of_user(&keeper->clients, uid) + 1)
        return false;
    struct llm_error error;
    (void)!llm_fail(&error, LLM_ERR_BUSY, CROWD_TEXT);
    (void)!send_refusal(keeper, client->socket, &error);
    leave(keeper, client, "made room for another user");
    return true;
}

static void welcome(struct keeper *keeper, int socket)
{
    struct peer peer;
    struct llm_error error;
    if (peer_identify(socket, keeper->config->daemon.admin_group, &peer, &error) != LLM_OK) {
        log_event(LOG_LEVEL_WARN, "client refused", log_text("reason", error.message));
        close(socket);
        return;
    }
    bool room = make_room(keeper, peer.uid);
    struct client *client = find_free(&keeper->clients);
    if (!room || !client) {
        refuse_at_door(keeper, socket,
                       room ? "all connection slots are in use; try again later" : CROWD_TEXT);
        close(peer.pidfd);
        return;
    }
    uint32_t serial = client->serial & KEEPER_SERIAL_MASK;
    *client = (struct client){.phase = CLIENT_HELLO,
                              .serial = serial,
                              .socket = socket,
                              .pidfd = peer.pidfd,
                              .pid = peer.pid,
                              .uid = peer.uid,
                              .gid = peer.gid,
                              .administrator = peer.administrator,
                              .group_count = peer.group_count,
                              .deadline_ns = llm_deadline_ns(CLIENTS_HELLO_TIME_NS),
                              .bundle = BUNDLE_EMPTY};
    memcpy(client->groups, peer.groups, sizeof client->groups);
    keeper->clients.hello_count++;
    keeper->descriptors_changed = true;
    uint32_t slot = (uint32_t)(client - keeper->clients.slots);
    keeper_watch(keeper, socket, KEEPER_CLIENT_SOCKET, slot, serial);
    keeper_watch(keeper, peer.pidfd, KEEPER_CLIENT_PROCESS, slot, serial);
}

void clients_accept(struct keeper *keeper)
{
    int socket = accept4(keeper->place.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            keeper_pause_accepting(keeper);
        return;
    }
    welcome(keeper, socket);
}

uint64_t clients_expire(struct keeper *keeper, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;
    if (keeper->clients.hello_count == 0)
        return next_ns;
    for (uint32_t slot = 0; slot < keeper->clients.end; slot++) {
        struct client *client = &keeper->clients.slots[slot];
        if (client->phase != CLIENT_HELLO)
            continue;
        if (client->deadline_ns <= now_ns)
            leave(keeper, client, "said nothing");
        else if (client->deadline_ns < next_ns)
            next_ns = client->deadline_ns;
    }
    return next_ns;
}

/* ---- Going ----------------------------------------------------------------------------------------- */

void clients_break(struct keeper *keeper, uint64_t id, const char *reason)
{
    struct client *client = find_id(&keeper->clients, id);
    if (!client || client->phase != CLIENT_ATTACHED)
        return;
    status_page_error(keeper, reason);
    struct llm_error error;
    (void)!llm_fail(&error, LLM_ERR_PEER, "%s", reason);
    (void)!send_refusal(keeper, client->socket, &error); /* the last thing it hears */
    leave(keeper, client, reason);
}

void clients_detached(struct keeper *keeper, uint64_t id)
{
    struct client *client = find_id(&keeper->clients, id);
    if (client && client->phase == CLIENT_LEAVING)
        free_slot(keeper, client);
}

void clients_engine_gone(struct keeper *keeper)
{
    for (uint32_t slot = 0; slot < keeper->clients.end; slot++) {
        struct client *client = &keeper->clients.slots[slot];
        if (client->phase == CLIENT_LEAVING)
            free_slot(keeper, client);
        client->told_attach = client->told_detach = false;
    }
}

void clients_close(struct keeper *keeper)
{
    for (uint32_t slot = 0; slot < keeper->clients.end; slot++) {
        struct client *client = &keeper->clients.slots[slot];
        close_socket(client);
        bundle_close(&client->bundle);
        client->phase = CLIENT_FREE;
    }
}
