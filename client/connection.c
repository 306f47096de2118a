#include "client/connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "client/autostart.h"
#include "shm/clock.h"
#include "shm/crash_point.h"
#include "shm/segment.h"
#include "shm/wait.h"

#define CONNECT_TIMEOUT_NS (30 * LLM_NS_PER_S)
#define LEAVING_NS         (5 * LLM_NS_PER_S) /* how long a daemon may take to leave */
#define RETRY_NS           (10 * LLM_NS_PER_MS)

/* ---- Mapping what the keeper sent ----------------------------------------------------------------- */

static enum llm_status map_one(const char *name, int fd, size_t bytes, bool writable,
                               void **out_address, struct llm_error *error)
{
    void *address;
    enum llm_status status = llm_segment_map(name, fd, bytes, writable, &address, error);
    if (status != LLM_OK)
        return status;
    if (madvise(address, bytes, MADV_DONTFORK) < 0) {
        status =
            llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot keep \"%s\" from children", name);
        llm_segment_unmap(address, bytes);
        return status;
    }
    *out_address = address;
    return LLM_OK;
}

static enum llm_status map_all(struct llm_connection *connection, const int *fds,
                               struct llm_error *error)
{
    void *ctl = NULL, *up = NULL, *down = NULL;
    connection->up_bytes = llm_up_map(&connection->geometry).total_bytes;
    connection->down_bytes = llm_down_map(&connection->geometry).total_bytes;
    enum llm_status status = map_one("ctl", fds[LLM_FD_CTL], LLM_PAGE_BYTES, false, &ctl, error);
    connection->ctl = ctl;
    if (status == LLM_OK)
        status = map_one("up", fds[LLM_FD_UP], connection->up_bytes, true, &up, error);
    connection->up = up;
    if (status == LLM_OK)
        status = map_one("down", fds[LLM_FD_DOWN], connection->down_bytes, false, &down, error);
    connection->down = down;
    return status;
}

static enum llm_status check_ctl(const struct llm_connection *connection,
                                 const struct llm_keeper_reply *reply, struct llm_error *error)
{
    const struct llm_ctl *ctl = connection->ctl;
    if (ctl->magic != LLM_CTL_MAGIC || ctl->abi_major != LLM_ABI_MAJOR ||
        memcmp(ctl->boot_id, reply->boot_id, sizeof ctl->boot_id) != 0)
        return llm_fail(error, LLM_ERR_PEER,
                        "the control page (magic %#llx, version %u) is not that of the daemon "
                        "that answered",
                        (unsigned long long)ctl->magic, ctl->abi_major);
    return LLM_OK;
}

static enum llm_status set_up(struct llm_connection *connection,
                              const struct llm_keeper_reply *reply, const int *fds,
                              struct llm_error *error)
{
    connection->geometry = reply->geometry;
    connection->connection_id = reply->connection_id;
    memcpy(connection->status_name, reply->status_name, sizeof connection->status_name);
    if (!llm_geometry_valid(&connection->geometry))
        return llm_fail(error, LLM_ERR_PEER,
                        "the daemon's geometry (%u queue entries, %u stream slots, %u log words) "
                        "is not valid",
                        reply->geometry.queue_entries, reply->geometry.stream_slots,
                        reply->geometry.log_words);
    enum llm_status status = map_all(connection, fds, error);
    if (status == LLM_OK)
        status = check_ctl(connection, reply, error);
    if (status != LLM_OK)
        return status;
    struct llm_up_map map = llm_up_map(&connection->geometry);
    connection->cancel_words = (void *)((char *)connection->up + map.cancel_offset);
    connection->arena = (unsigned char *)connection->up + map.arena_offset;
    llm_queue_producer_init(&connection->queue, connection->up, connection->down,
                            &connection->geometry);
    return llm_slot_table_open(&connection->slots, connection, &connection->geometry,
                               connection->down, &connection->queue, error);
}

static void unmap_all(struct llm_connection *connection)
{
    llm_segment_unmap(connection->ctl, LLM_PAGE_BYTES);
    llm_segment_unmap(connection->up, connection->up_bytes);
    llm_segment_unmap(connection->down, connection->down_bytes);
    connection->ctl = NULL;
    connection->up = NULL;
    connection->down = NULL;
}

enum llm_status llm_connection_hello(struct llm_connection *connection, const char *name,
                                     uint64_t deadline_ns, struct llm_error *error)
{
    struct llm_keeper_reply reply;
    int fds[LLM_ATTACH_FDS];
    enum llm_status status = llm_keeper_ask(&connection->link, LLM_VERB_ATTACH, name, deadline_ns,
                                            &reply, fds, LLM_ATTACH_FDS, error);
    if (status == LLM_OK) {
        connection->to_engine_fd = fds[LLM_FD_TO_ENGINE];
        connection->to_client_fd = fds[LLM_FD_TO_CLIENT];
        status = set_up(connection, &reply, fds, error);
        for (int i = LLM_FD_CTL; i <= LLM_FD_DOWN; i++)
            close(fds[i]); /* the mappings stay */
        if (status != LLM_OK) {
            unmap_all(connection);
            close(connection->to_engine_fd);
            close(connection->to_client_fd);
        }
    }
    if (status != LLM_OK)
        llm_keeper_link_close(&connection->link, false);
    return status;
}

/* One socket, one hello: LLM_ERR_NOT_FOUND when nobody listens, LLM_ERR_PEER when who listened went away. */
static enum llm_status attach(struct llm_connection *connection, const char *path, const char *name,
                              uint64_t deadline_ns, struct llm_error *error)
{
    enum llm_status status = llm_keeper_link_open(&connection->link, path, deadline_ns, error);
    if (status != LLM_OK)
        return status;
    snprintf(connection->socket_path, sizeof connection->socket_path, "%s", path);
    return llm_connection_hello(connection, name, deadline_ns, error);
}

/* ---- Finding a daemon ----------------------------------------------------------------------------- */

/* The first path at which somebody listens decides. */
static enum llm_status attach_to_any(struct llm_connection *connection,
                                     const struct llm_socket_paths *paths, const char *name,
                                     uint64_t deadline_ns, struct llm_error *error)
{
    enum llm_status status = LLM_ERR_NOT_FOUND;
    for (uint32_t i = 0; i < paths->count && status == LLM_ERR_NOT_FOUND; i++)
        status = attach(connection, paths->path[i], name, deadline_ns, error);
    return status;
}

/* A private daemon may be leaving just now (its last client left a minute ago): then the hello fails or nobody
 * listens any more, and the next round finds or starts a fresh one. */
static enum llm_status find_and_attach(struct llm_connection *connection,
                                       const struct llm_socket_paths *paths, const char *name,
                                       bool autostart, uint64_t deadline_ns,
                                       struct llm_error *error)
{
    uint64_t left_ns = llm_deadline_ns(LEAVING_NS);
    struct llm_error gone = {.status = LLM_OK}; /* why the last daemon that answered was no good */
    for (;;) {
        struct llm_error now = {.status = LLM_OK};
        enum llm_status status = attach_to_any(connection, paths, name, deadline_ns, &now);
        if (status == LLM_ERR_TIMEOUT && gone.status != LLM_OK)
            now = gone; /* the time ran out in a repetition: the first answer says more */
        if (error && status != LLM_OK)
            *error = now;
        if (status == LLM_ERR_PEER)
            gone = now;
        if (status == LLM_ERR_NOT_FOUND && !autostart)
            return llm_fail(error, LLM_ERR_NOT_FOUND,
                            "no daemon answers at %s: start llmd, or name its socket in "
                            "LLMD_SOCKET",
                            paths->path[0]);
        if (status == LLM_ERR_NOT_FOUND)
            status = llm_autostart(paths->path[0], deadline_ns, error);
        else if (status != LLM_ERR_PEER)
            return status == LLM_OK ? LLM_OK : now.status;
        bool late = llm_remaining_ns(deadline_ns) == 0;
        if (status == LLM_OK && late)
            return llm_fail(error, LLM_ERR_TIMEOUT, "the daemon at %s started but does not answer",
                            paths->path[0]);
        if (status == LLM_ERR_PEER && !late && llm_remaining_ns(left_ns) > 0)
            nanosleep(&(struct timespec){.tv_nsec = (long)RETRY_NS}, NULL);
        else if (status != LLM_OK)
            return status;
    }
}

/* ---- The public calls ----------------------------------------------------------------------------- */

enum llm_status llm_connect(llm_connection **out_connection, const llm_connect_options *options,
                            llm_error *error)
{
    static const llm_connect_options defaults;
    if (!options)
        options = &defaults;
    struct llm_socket_paths paths;
    enum llm_status status = llm_socket_paths_find(options->socket, &paths, error);
    if (status != LLM_OK)
        return status;
    struct llm_connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a connection");
    connection->wait = options->wait;
    uint64_t deadline_ns =
        llm_deadline_ns(options->timeout_ns ? options->timeout_ns : CONNECT_TIMEOUT_NS);
    const char *name = options->name ? options->name : program_invocation_short_name;
    status = find_and_attach(connection, &paths, name, !options->no_autostart, deadline_ns, error);
    if (status != LLM_OK) {
        free(connection);
        return status;
    }
    CRASH_POINT(client_mapped);
    llm_fork_guard_open(&connection->guard);
    *out_connection = connection;
    return LLM_OK;
}

void llm_disconnect(llm_connection *connection)
{
    if (!connection)
        return;
    /* In a child the mappings are not there, and what lies at their addresses is not ours. */
    bool inherited = llm_fork_guard_inherited(&connection->guard);
    if (!inherited)
        unmap_all(connection);
    CRASH_POINT(client_unmapped);
    llm_keeper_link_close(&connection->link, inherited);
    close(connection->to_engine_fd);
    close(connection->to_client_fd);
    llm_slot_table_close(&connection->slots, inherited);
    llm_attachment_drop(llm_connection_attachment(connection));
    llm_fork_guard_close(&connection->guard);
    free(connection);
}

int llm_connection_fd(llm_connection *connection)
{
    if (llm_connection_own(connection, NULL) != LLM_OK)
        return -1;
    if (!atomic_exchange_explicit(&connection->bell_armed, true, memory_order_relaxed))
        llm_client_arm_bell(connection->up);
    return connection->to_client_fd;
}

void llm_connection_acknowledge(llm_connection *connection)
{
    if (llm_connection_own(connection, NULL) != LLM_OK)
        return;
    if (!llm_client_clear_bell(
            connection->to_client_fd)) /* then the next wait asks the socket at once */
        atomic_store_explicit(&connection->next_liveness_ns, 0, memory_order_relaxed);
    llm_client_arm_bell(connection->up);
}

enum llm_status llm_connection_describe(llm_connection *connection, llm_connection_info *out_info,
                                        llm_error *error)
{
    enum llm_status status = llm_connection_own(connection, error);
    if (status != LLM_OK)
        return status;
    const struct llm_ctl *ctl = connection->ctl;
    uint64_t generation = atomic_load_explicit(&ctl->engine_generation, memory_order_acquire);
    *out_info = (llm_connection_info){
        .connection_id = connection->connection_id,
        .engine_generation = generation,
        .engine_ready =
            atomic_load_explicit(&ctl->ready_generation, memory_order_acquire) == generation,
        .keeper_pid = ctl->keeper_pid,
        .stream_slots = connection->geometry.stream_slots,
        .log_words = connection->geometry.log_words,
        .prompt_bytes = connection->geometry.arena_bytes,
    };
    static_assert(sizeof out_info->status_name == sizeof connection->status_name, "one size");
    static_assert(sizeof out_info->socket == sizeof connection->socket_path, "one size");
    memcpy(out_info->status_name, connection->status_name, sizeof out_info->status_name);
    memcpy(out_info->socket, connection->socket_path, sizeof out_info->socket);
    return LLM_OK;
}
