/*
 * connection.h - the inside of llm_connection: the two memories, the socket, the slots.
 *
 * Idea     What llm_connect() fetched once from the keeper, mapped; everything else is built on it. Mappings are
 *          MADV_DONTFORK: a child that touches one by mistake faults instead of speaking for its parent.
 * Owner    The caller of llm_connect(), until llm_disconnect().
 * Threads  Fields are constant after connect except where they say so.
 * See      client/README.md.
 */
#ifndef LLM_CLIENT_CONNECTION_H
#define LLM_CLIENT_CONNECTION_H

#include "client/fork_guard.h"
#include "client/keeper_link.h"
#include "client/llm.h"
#include "client/slot_table.h"
#include "client/socket_path.h"
#include "shm/queue.h"

struct llm_connection {
    struct llm_fork_guard guard;
    struct llm_keeper_link link;
    struct llm_geometry geometry;
    const struct llm_ctl *ctl;
    struct llm_up_header *up;
    const struct llm_down_header *down;
    _Atomic uint32_t *cancel_words; /* [stream_slots] */
    unsigned char *arena;           /* [arena_bytes] */
    size_t up_bytes, down_bytes;
    int to_engine_fd, to_client_fd;
    enum llm_wait wait;
    uint64_t connection_id;
    char status_name[LLM_NAME_BYTES];
    char socket_path[LLM_SOCKET_PATH_BYTES];
    struct llm_queue_producer queue;   /* constant; what it points at is shared */
    struct llm_slot_table slots;       /* has its own lock */
    _Atomic uint64_t next_liveness_ns; /* when some waiting thread next looks at the socket */
    _Atomic bool bell_armed;           /* llm_connection_fd() was called */
    _Atomic(struct llm_attachment *) attachment; /* set once; attachment.h */
};

/* Say hello over `connection->link`, which is open, and map what comes back; everything else in `connection` is zero.
 * On failure the link is closed, and nothing is left but the caller's struct. */
enum llm_status llm_connection_hello(struct llm_connection *connection, const char *name,
                                     uint64_t deadline_ns, struct llm_error *error) LLM_MUST_CHECK;

/* LLM_ERR_FORKED in a child of the process that connected; touches no mapping. */
enum llm_status llm_connection_own(const struct llm_connection *connection, struct llm_error *error)
    LLM_MUST_CHECK;

/* LLM_ERR_PEER once it is known that the keeper is gone; asks the socket a few times a second at most. */
enum llm_status llm_connection_alive(struct llm_connection *connection, struct llm_error *error)
    LLM_MUST_CHECK;

/* What a thread waits for: LLM_OK (it is there), LLM_ERR_TIMEOUT (not yet), anything else ends the wait. */
typedef enum llm_status llm_ready_fn(void *what, struct llm_error *error);

/* Wait, as the connection's `wait` says, until ready() is no longer LLM_ERR_TIMEOUT.
 *   returns          what ready() returned; LLM_ERR_TIMEOUT at the deadline; LLM_ERR_PEER */
enum llm_status llm_connection_wait(struct llm_connection *connection, llm_ready_fn *ready,
                                    void *what, uint64_t deadline_ns, struct llm_error *error)
    LLM_MUST_CHECK;

/* Publish `operation` on a stream that was taken for it, and wake the engine. On failure the stream is given
 * back. LLM_OK, LLM_ERR_BUSY, LLM_ERR_PEER. */
enum llm_status llm_connection_submit(struct llm_connection *connection, struct llm_stream *stream,
                                      enum llm_operation operation, uint64_t deadline_ns,
                                      uint64_t argument, struct llm_error *error) LLM_MUST_CHECK;

#endif
