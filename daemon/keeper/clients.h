/*
 * clients.h - who is connected: from accept() to the moment the engine has let go.
 *
 * Idea     One slot per socket. A slot goes FREE -> HELLO -> ATTACHED -> LEAVING -> FREE:
 *            HELLO      accepted; has a second to say what it wants (a fixed-size request)
 *            ATTACHED   has its memories; the engine knows of it, or will by the next manifest
 *            LEAVING    the client is gone; its memories stay until the engine says DETACHED or dies
 *          The kernel says who a client is (SO_PEERCRED) and when it is gone (pidfd, or end of file).
 * Owner    The keeper's only thread owns sockets, pidfds and bundles.
 * Trust    Clients may send anything, any amount, with descriptors or not at all. One wrong message ends the
 *          connection; nothing here waits for a client.
 * See      shm/layout.h (the messages), daemon/keeper/README.md rules 1 to 4.
 */
#ifndef LLMD_KEEPER_CLIENTS_H
#define LLMD_KEEPER_CLIENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/channel.h"
#include "daemon/keeper/bundle.h"
#include "shm/status_file.h"

#define CLIENTS_MAX           LLM_STATUS_CONNECTIONS_MAX
#define CLIENTS_HELLO_MAX     64 /* of all users; the one with most gives way */
#define CLIENTS_HELLO_TIME_NS UINT64_C(1000000000)

struct keeper;

enum client_phase {
    CLIENT_FREE,
    CLIENT_HELLO,
    CLIENT_ATTACHED,
    CLIENT_LEAVING
};

struct client {
    enum client_phase phase;
    uint32_t
        serial; /* moves on when the slot is reused, so that a late event cannot hit the next client */
    int socket, pidfd;
    uint32_t pid, uid, gid;
    bool administrator;
    uint32_t group_count;
    uint32_t groups[CHANNEL_GROUPS_MAX];
    uint64_t deadline_ns; /* HELLO: closed then */
    uint64_t id;          /* ATTACHED, LEAVING: never reused */
    bool told_attach;     /* the running engine knows that it came */
    bool told_detach;     /* ... that it went */
    struct bundle bundle;
};

struct clients {
    struct client slots[CLIENTS_MAX];
    uint32_t end; /* one past the highest slot in use; walks end there */
    uint32_t hello_count;
    uint32_t attached_count;
    uint64_t next_id;
};

void clients_init(struct clients *clients);
void clients_close(struct keeper *keeper);

/* The listening socket is readable. */
void clients_accept(struct keeper *keeper);
/* The socket or the pidfd of `slot` has something to say; late events of an earlier `serial` are dropped. */
void clients_socket_ready(struct keeper *keeper, uint32_t slot, uint32_t serial);
void clients_process_gone(struct keeper *keeper, uint32_t slot, uint32_t serial);
/* Close those whose time for a hello is over. Returns when the next one's is (UINT64_MAX: none). */
uint64_t clients_expire(struct keeper *keeper, uint64_t now_ns);

/* The engine broke with this client: close it. Unknown ids are ignored. */
void clients_break(struct keeper *keeper, uint64_t id, const char *reason);
/* The engine has let go of this client. */
void clients_detached(struct keeper *keeper, uint64_t id);
/* The engine died: nobody is told anything any more, and those who are leaving are gone. */
void clients_engine_gone(struct keeper *keeper);

#endif
