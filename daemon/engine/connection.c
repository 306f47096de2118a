#include "daemon/engine/connection.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/journal.h"
#include "daemon/engine/report.h"
#include "daemon/log.h"
#include "shm/check.h"
#include "shm/crash_point.h"
#include "shm/peer_memory.h"
#include "shm/segment.h"

/* ---- Coming ---------------------------------------------------------------------------------------- */

static enum llm_status map_memories(struct connection *connection, int down_fd,
                                    struct llm_error *error)
{
    const struct llm_geometry *geometry = &connection->peer.geometry;
    connection->up_map = llm_up_map(geometry);
    connection->down_map = llm_down_map(geometry);
    void *up = NULL, *down = NULL;
    enum llm_status status =
        llm_segment_map("up", connection->up_fd, connection->up_map.total_bytes, false, &up, error);
    if (status == LLM_OK)
        status =
            llm_segment_map("down", down_fd, connection->down_map.total_bytes, true, &down, error);
    connection->up = up;
    connection->down = down;
    if (up)
        llm_peer_map(up, connection->up_map.total_bytes);
    return status;
}

static void unmap(struct connection *connection)
{
    if (connection->up) {
        llm_peer_unmap(connection->up);
        llm_segment_unmap(connection->up, connection->up_map.total_bytes);
    }
    if (connection->down)
        llm_segment_unmap(connection->down, connection->down_map.total_bytes);
    free(connection->stream_request);
    const int fds[] = {connection->up_fd, connection->to_engine_fd, connection->to_client_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    *connection = (struct connection){.up_fd = -1, .to_engine_fd = -1, .to_client_fd = -1};
}

static void start(struct engine *engine, struct connection *connection)
{
    const struct llm_geometry *geometry = &connection->peer.geometry;
    uint64_t head;
    bool known = journal_attach(engine, connection, &head);
    connection->replayed_position = known ? head : UINT64_MAX;
    llm_queue_consumer_init(&connection->queue, connection->up, connection->down, geometry, head);
    llm_publisher_init(&connection->publisher, connection->down, geometry);
    llm_client_waker_init(&connection->waker, connection->up, connection->down,
                          connection->to_client_fd);
    if (known) {
        llm_event_lapse(&connection->publisher.events);
        egress_mark(&engine->egress, connection->peer.slot);
    }
    struct quota quota = quota_of(&engine->config, connection->peer.uid, connection->peer.gid,
                                  connection->peer.groups, connection->peer.group_count);
    connection->user = users_take(&engine->users, connection->peer.uid, &quota);
    connection->attached = true;
    if (connection->peer.slot >= engine->connection_end)
        engine->connection_end = connection->peer.slot + 1;
    report_attached(engine, connection);
}

enum llm_status connection_attach(struct engine *engine, const struct channel_connection *peer,
                                  int fds[CHANNEL_FDS_MAX], struct llm_error *error)
{
    CHECK(peer->slot < LLM_STATUS_CONNECTIONS_MAX);
    struct connection *connection = &engine->connections[peer->slot];
    CHECK(!connection->attached && llm_geometry_valid(&peer->geometry));
    *connection = (struct connection){.peer = *peer,
                                      .domains = domains_of_client(peer),
                                      .up_fd = fds[0],
                                      .to_engine_fd = fds[2],
                                      .to_client_fd = fds[3]};
    connection->stream_request =
        calloc(peer->geometry.stream_slots, sizeof *connection->stream_request);
    enum llm_status status =
        connection->stream_request
            ? map_memories(connection, fds[1], error)
            : llm_fail(error, LLM_ERR_MEMORY, "no memory for a connection's streams");
    close(fds[1]); /* the mapping holds it */
    if (status == LLM_OK)
        status = parking_add(engine, connection, error);
    if (status != LLM_OK) {
        unmap(connection);
        return status;
    }
    start(engine, connection);
    return LLM_OK;
}

/* ---- Going ----------------------------------------------------------------------------------------- */

static struct connection *find(struct engine *engine, uint64_t id)
{
    for (uint32_t slot = 0; slot < engine->connection_end; slot++)
        if (engine->connections[slot].attached && engine->connections[slot].peer.id == id)
            return &engine->connections[slot];
    return NULL;
}

void connection_detach(struct engine *engine, uint64_t id)
{
    struct connection *connection = find(engine, id);
    if (connection) {
        uint32_t slot = connection->peer.slot;
        requests_abandon(engine, connection);
        contexts_abandon(engine, connection);
        egress_forget(&engine->egress, slot);
        parking_remove(engine, connection);
        journal_detach(engine, slot);
        report_detached(engine, slot);
        users_drop(&engine->users, connection->user);
        unmap(connection);
        while (engine->connection_end > 0 &&
               !engine->connections[engine->connection_end - 1].attached)
            engine->connection_end--;
    }
    struct llm_error error;
    if (link_say(&engine->link, CHANNEL_DETACHED, id, 0, "", &error) != LLM_OK)
        engine->stopping = true; /* no keeper, no engine */
    CRASH_POINT(conn_told);
}

void connection_break(struct engine *engine, struct connection *connection, const char *format, ...)
{
    char what[LLM_NOTE_BYTES - 40], text[LLM_NOTE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    snprintf(text, sizeof text, "client pid %u: %s", connection->peer.pid, what);
    connection->broken = true;
    requests_abandon(engine, connection);
    report_error(engine, text);
    report_count(engine, LLM_COUNTER_CLIENTS_DETACHED, 1);
    log_event(LOG_LEVEL_WARN, "client detached", log_count("connection", connection->peer.id),
              log_text("reason", text));
    struct llm_error error;
    if (link_say(&engine->link, CHANNEL_BAD_CLIENT, connection->peer.id, 0, text, &error) != LLM_OK)
        engine->stopping = true;
}

/* ---- News ------------------------------------------------------------------------------------------ */

static void take_attach(struct engine *engine, struct link_event *event)
{
    struct llm_error error;
    if (connection_attach(engine, &event->connection, event->fds, &error) == LLM_OK)
        return;
    log_event(LOG_LEVEL_ERROR, "cannot serve a client",
              log_count("connection", event->connection.id), log_text("reason", error.message));
    (void)!link_say(&engine->link, CHANNEL_BAD_CLIENT, event->connection.id, 0, error.message,
                    &error);
}

void connections_take_news(struct engine *engine, uint32_t messages_max)
{
    struct link_event event;
    struct llm_error error;
    enum llm_status status = LLM_ERR_TIMEOUT;
    for (; messages_max > 0; messages_max--) {
        status = link_next(&engine->link, false, &event, &error);
        if (status != LLM_OK)
            break;
        if (event.kind == CHANNEL_ATTACH)
            take_attach(engine, &event);
        else if (event.kind == CHANNEL_DETACH)
            connection_detach(engine, event.connection.id);
        else if (event.kind == CHANNEL_DRAIN || event.kind == CHANNEL_RESUME)
            drain_set(engine, event.kind == CHANNEL_DRAIN ? event.connection.id : 0);
        else if (event.kind == CHANNEL_NAMES)
            models_rename(engine, &engine->link.names);
        else if (event.kind == CHANNEL_BEAT)
            report_counts(engine);
        else {
            CHECK(event.kind == CHANNEL_STOP);
            engine->stopping = true;
        }
    }
    if (status == LLM_ERR_PEER)
        engine->stopping = true;
}
