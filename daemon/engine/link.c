#include "daemon/engine/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/check.h"

enum llm_status link_open(struct link *link, int socket, struct llm_error *error)
{
    int type = 0;
    socklen_t bytes = sizeof type;
    if (getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &bytes) != 0 || type != SOCK_SEQPACKET)
        return llm_fail(error, LLM_ERR_INVALID, "llmd-engine is started by llmd; run llmd instead");
    *link = (struct link){.socket = socket};
    link->events = calloc(LINK_EVENTS_MAX, sizeof *link->events);
    return link->events ? LLM_OK : llm_fail(error, LLM_ERR_MEMORY, "no memory for the channel");
}

static struct link_event to_event(struct link *link, const int fds[CHANNEL_FDS_MAX])
{
    struct link_event event = {.kind = (enum channel_kind)link->message.kind,
                               .connection = link->message.connection};
    memcpy(event.fds, fds, sizeof event.fds);
    if (event.kind == CHANNEL_NAMES && link->message.names.alias_count <= LLM_ALIASES_MAX)
        link->names = link->message.names;
    return event;
}

static enum llm_status receive(struct link *link, bool wait, struct link_event *out_event,
                               struct llm_error *error)
{
    int fds[CHANNEL_FDS_MAX];
    enum llm_status status = channel_receive(link->socket, wait, &link->message, fds, error);
    if (status == LLM_OK)
        *out_event = to_event(link, fds);
    return status;
}

enum llm_status link_next(struct link *link, bool wait, struct link_event *out_event,
                          struct llm_error *error)
{
    if (link->event_count == 0)
        return receive(link, wait, out_event, error);
    *out_event = link->events[link->event_head];
    link->event_head = (link->event_head + 1) % LINK_EVENTS_MAX;
    link->event_count--;
    return LLM_OK;
}

static void queue(struct link *link, const struct link_event *event)
{
    CHECK(link->event_count < LINK_EVENTS_MAX);
    struct link_event *place =
        &link->events[(link->event_head + link->event_count) % LINK_EVENTS_MAX];
    *place = *event;
    link->event_count++;
}

enum llm_status link_read_manifest(struct link *link, link_keep *keep, void *self,
                                   uint64_t *out_generation, struct llm_error *error)
{
    for (;;) {
        struct link_event event;
        enum llm_status status = receive(link, true, &event, error);
        if (status != LLM_OK)
            return status;
        if (event.kind == CHANNEL_SERVE) {
            *out_generation = link->message.generation;
            return LLM_OK;
        }
        if (event.kind == CHANNEL_KEPT || event.kind == CHANNEL_MODEL)
            keep(self, &link->message, event.fds[0]);
        else
            queue(link, &event);
    }
}

static enum llm_status take_answer(const struct link *link, const struct link_event *event,
                                   int *out_fd, struct llm_error *error)
{
    const struct channel_message *answer = &link->message;
    if (answer->status != LLM_OK)
        return llm_fail(error, (enum llm_status)answer->status, "%s", answer->text);
    if (out_fd && event->fds[0] < 0)
        return llm_fail(error, LLM_ERR_PEER, "the keeper answered without a descriptor");
    if (out_fd)
        *out_fd = event->fds[0];
    return LLM_OK;
}

enum llm_status link_ask(struct link *link, const struct channel_message *question, int *out_fd,
                         struct llm_error *error)
{
    struct channel_message message = *question;
    message.ticket = ++link->tickets;
    enum llm_status status = channel_send(link->socket, &message, NULL, 0, error);
    while (status == LLM_OK) {
        struct link_event event;
        status = receive(link, true, &event, error);
        if (status != LLM_OK)
            break;
        if (event.kind == CHANNEL_ANSWER && link->message.ticket == message.ticket)
            return take_answer(link, &event, out_fd, error);
        queue(link, &event);
    }
    return status;
}

enum llm_status link_say(struct link *link, enum channel_kind kind, uint64_t connection_id,
                         uint64_t generation, const char *text, struct llm_error *error)
{
    struct channel_message message = {
        .kind = kind, .generation = generation, .connection = {.id = connection_id}};
    snprintf(message.text, sizeof message.text, "%s", text);
    return channel_send(link->socket, &message, NULL, 0, error);
}

enum llm_status link_say_model(struct link *link, enum channel_kind kind, uint64_t model_id,
                               const char *text, struct llm_error *error)
{
    struct channel_message message = {.kind = kind, .model = {.id = model_id}};
    snprintf(message.text, sizeof message.text, "%.*s", LLM_NOTE_BYTES - 1, text);
    return channel_send(link->socket, &message, NULL, 0, error);
}
