/*
 * connection.h - one client's memories, as the engine sees them.
 *
 * Idea     Mapped when the keeper says ATTACH, unmapped when it says DETACH; in between the slot's struct holds
 *          everything private about the connection, so that nothing about it is ever read back from memory
 *          that the client can write.
 * Owner    The engine thread maps and unmaps; `up` is mapped read-only.
 * Trust    A client that breaks the protocol is reported to the keeper, which closes it; until the DETACH
 *          comes back its slot is deaf.
 * See      intake.h, shm/layout.h.
 */
#ifndef LLMD_ENGINE_CONNECTION_H
#define LLMD_ENGINE_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/channel.h"
#include "daemon/engine/domains.h"
#include "shm/queue.h"
#include "shm/stream.h"
#include "shm/wait.h"

struct engine;

struct connection {
    bool attached;
    bool broken; /* reported; nothing is taken in any more */
    struct channel_connection peer;
    int up_fd; /* for pread: bodies larger than a page */
    int to_engine_fd, to_client_fd;
    const char *up; /* read through shm/peer_memory.h only */
    char *down;
    struct llm_up_map up_map;
    struct llm_down_map down_map;
    struct llm_queue_consumer queue;
    struct llm_publisher publisher;
    struct llm_client_waker waker; /* under the egress lock */
    uint32_t bell_arms_seen;       /* the bell that was last rung, or handed over to be */
    uint64_t seen_bell;
    bool hot;                   /* looked at in every pass (parking.h) */
    bool muted;                 /* its doorbell is not heard: it is looked at now and then */
    uint32_t rings_for_nothing; /* in a row */
    uint64_t rung_head;         /* the queue's head at the last ring */
    uint64_t muted_until_ns;
    uint64_t heard_ns; /* when it last asked something */
    uint64_t
        replayed_position; /* the first after a recovery: perhaps answered already; UINT64_MAX: none */
    struct domain_set domains; /* whose cached blocks its requests find and make */
    uint32_t user;             /* its row in the ledger (users.h) */
    uint32_t live_streams;
    uint32_t *stream_request; /* [stream_slots] reqtab slot + 1 of the live request; 0: none */
};

static inline const struct llm_up_header *connection_up(const struct connection *connection)
{
    return (const struct llm_up_header *)(const void *)connection->up;
}
static inline struct llm_down_header *connection_down(const struct connection *connection)
{
    return (struct llm_down_header *)(void *)connection->down;
}

/* Map what came with ATTACH; takes over `fds` in any case. */
enum llm_status connection_attach(struct engine *engine, const struct channel_connection *peer,
                                  int fds[CHANNEL_FDS_MAX], struct llm_error *error) LLM_MUST_CHECK;
/* The client is gone: end its requests, unmap, tell the keeper. */
void connection_detach(struct engine *engine, uint64_t id);
/* It broke the protocol: log, count and report it. `format` says what it did. */
void connection_break(struct engine *engine, struct connection *connection, const char *format, ...)
    LLM_PRINTF(3, 4);
/* Take the keeper's messages that wait, at most so many: mapping and unmapping costs everybody's step, and those who
 * come and go in a loop would keep it up for ever. The channel rings until it is empty. */
void connections_take_news(struct engine *engine, uint32_t messages_max);

#endif
