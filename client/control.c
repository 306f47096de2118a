/* What steers the daemon: operations that the engine answers in a stream record, and verbs of the keeper. */
#include "client/connection.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/segment.h"

#define KEEPER_TIMEOUT_NS (10 * LLM_NS_PER_S)

/* ---- Through the engine --------------------------------------------------------------------------- */

/* Submit an operation without a body, wait for its answer, and copy the sentence that comes with it. */
static enum llm_status operate(struct llm_connection *connection, enum llm_operation operation,
                               uint64_t argument, uint64_t timeout_ns, char *out_report,
                               size_t report_bytes, struct llm_error *error)
{
    static const struct llm_slot_needs nothing;
    struct llm_stream *stream;
    enum llm_status status = llm_connection_own(connection, error);
    if (status == LLM_OK)
        status = llm_connection_alive(connection, error);
    if (status == LLM_OK)
        status = llm_slot_table_take(&connection->slots, &nothing, &stream, error);
    if (status == LLM_OK)
        status = llm_connection_submit(connection, stream, operation, 0, argument, error);
    if (status != LLM_OK)
        return status;
    uint32_t token, count;
    status = llm_stream_read(stream, &token, NULL, 1, timeout_ns, &count, error);
    if (status == LLM_OK && out_report && report_bytes > 0) {
        char note
            [LLM_NOTE_BYTES]; /* the status was judged by the read: a daemon might change it now */
        (void)!llm_stream_reader_status(&stream->reader, note);
        snprintf(out_report, report_bytes, "%s", note);
    }
    llm_stream_close(stream);
    return status;
}

enum llm_status llm_ping(llm_connection *connection, uint64_t timeout_ns, llm_error *error)
{
    return operate(connection, LLM_OP_NOP, 0, timeout_ns, NULL, 0, error);
}

enum llm_status llm_request_cancel(llm_connection *connection, uint64_t request_id,
                                   uint64_t timeout_ns, llm_error *error)
{
    return operate(connection, LLM_OP_CANCEL, request_id, timeout_ns, NULL, 0, error);
}

enum llm_status llm_daemon_check(llm_connection *connection, uint64_t timeout_ns, char *out_report,
                                 size_t report_bytes, llm_error *error)
{
    return operate(connection, LLM_OP_CHECK, 0, timeout_ns, out_report, report_bytes, error);
}

/* ---- Through the keeper --------------------------------------------------------------------------- */

static enum llm_status ask(struct llm_connection *connection, enum llm_verb verb, const char *name,
                           struct llm_keeper_reply *out_reply, int *out_fds, uint32_t fd_count,
                           struct llm_error *error)
{
    enum llm_status status = llm_connection_own(connection, error);
    if (status == LLM_OK)
        status = llm_keeper_ask(&connection->link, verb, name, llm_deadline_ns(KEEPER_TIMEOUT_NS),
                                out_reply, out_fds, fd_count, error);
    return status;
}

enum llm_status llm_daemon_stop(llm_connection *connection, llm_error *error)
{
    struct llm_keeper_reply reply;
    return ask(connection, LLM_VERB_STOP, NULL, &reply, NULL, 0, error);
}

enum llm_status llm_daemon_restart_engine(llm_connection *connection, llm_error *error)
{
    struct llm_keeper_reply reply;
    return ask(connection, LLM_VERB_RESTART_ENGINE, NULL, &reply, NULL, 0, error);
}

enum llm_status llm_daemon_drain(llm_connection *connection, bool then_stop, llm_error *error)
{
    struct llm_keeper_reply reply;
    return ask(connection, then_stop ? LLM_VERB_DRAIN_STOP : LLM_VERB_DRAIN, NULL, &reply, NULL, 0,
               error);
}

enum llm_status llm_daemon_resume(llm_connection *connection, llm_error *error)
{
    struct llm_keeper_reply reply;
    return ask(connection, LLM_VERB_RESUME, NULL, &reply, NULL, 0, error);
}

enum llm_status llm_memory_map(llm_connection *connection, const char *name,
                               const void **out_address, size_t *out_bytes, llm_error *error)
{
    struct llm_keeper_reply reply;
    int fd;
    void *address;
    enum llm_status status = ask(connection, LLM_VERB_MEMORY, name, &reply, &fd, 1, error);
    if (status != LLM_OK)
        return status;
    status = llm_segment_map(name, fd, reply.memory_bytes, false, &address, error);
    close(fd);
    if (status == LLM_OK) {
        *out_address = address;
        *out_bytes = reply.memory_bytes;
    }
    return status;
}

void llm_memory_unmap(const void *address, size_t bytes)
{
    llm_segment_unmap(address, bytes);
}
