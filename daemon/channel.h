/*
 * channel.h - what keeper and engine say to each other.
 *
 * Idea     One seqpacket socketpair per engine. Each message is one fixed-size record with at most
 *          CHANNEL_FDS_MAX descriptors. The keeper tells a fresh engine everything it holds (the manifest:
 *          KEPT for every memory, ATTACH for every connection, then SERVE); after that each side speaks when
 *          it has something to say. The engine asks (ALLOC, OPEN) and waits for the answer with the same
 *          `ticket`; messages that arrive meanwhile are queued for the ordinary loop.
 * Owner    The keeper owns every descriptor before it is sent and keeps its own copy; the engine closes
 *          what it was sent. A death on either side is an end-of-file on the other.
 * Threads  One thread on each side.
 * Trust    The engine parses models and client bytes and may be wrong about anything: the keeper checks
 *          names, sizes and paths, and refuses with a sentence. The keeper is trusted.
 * See      daemon/keeper/README.md, daemon/engine/README.md, docs/PROTOCOL.md ("Channel").
 */
#ifndef LLMD_DAEMON_CHANNEL_H
#define LLMD_DAEMON_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"
#include "shm/models.h"
#include "shm/status.h"

#define CHANNEL_MAGIC       UINT32_C(0x4843444c) /* "LDCH" */
#define CHANNEL_FDS_MAX     5
#define CHANNEL_NAME_BYTES  128
#define CHANNEL_PATH_BYTES  1024
#define CHANNEL_GROUPS_MAX  32 /* supplementary groups of a client; the kernel may know more */
#define CHANNEL_NAME_STATUS "status" /* the status file; CTL is the ctl page: both always kept */
#define CHANNEL_NAME_CTL    "ctl"

enum channel_kind {
    /* keeper to engine */
    CHANNEL_KEPT = 1, /* a memory that exists: name, bytes, flags; fd. Part of the manifest */
    CHANNEL_ATTACH,   /* a connection: connection; fds up (read-only), down, to_engine, to_client */
    CHANNEL_DETACH,   /* the client of connection.id is gone: cancel, unmap, then say DETACHED */
    CHANNEL_SERVE,    /* the manifest is complete */
    CHANNEL_ANSWER, /* to ALLOC, OPEN, DEPOSIT, DROP: ticket, status, text; ALLOC and OPEN with one fd */
    CHANNEL_STOP,   /* finish the step and exit 0 */
    CHANNEL_DRAIN,  /* refuse new requests; connection.id is the drain's number */
    CHANNEL_RESUME, /* take requests again */
    CHANNEL_BEAT,   /* give a sign of life: the heartbeat in the status file */
    CHANNEL_MODEL, /* a model to serve (to a loader: to load): model, name, path. Part of the manifest */
    CHANNEL_NAMES, /* what names stand for, and what takes no requests: names */
    /* engine to keeper */
    CHANNEL_ALLOC = 64, /* a new memory by name and bytes; fails with INVALID if the name exists */
    CHANNEL_OPEN,       /* a file, read-only, beneath the configured model directories; by `path` */
    CHANNEL_DEPOSIT, /* flags of a memory change: PUBLIC makes it fetchable by clients (read-only) */
    CHANNEL_DROP,    /* forget a memory */
    CHANNEL_DETACHED, /* answer to DETACH: nothing of that connection is mapped any more */
    CHANNEL_BAD_CLIENT, /* connection.id broke the protocol: text; the keeper closes it and says DETACH */
    CHANNEL_READY,       /* the engine serves: generation */
    CHANNEL_FAILED,      /* the engine cannot start and exits: text; it is not tried again */
    CHANNEL_DRAINED,     /* no request is left; connection.id is the drain's number */
    CHANNEL_MODEL_IDLE,  /* no request is left for the draining model.id */
    CHANNEL_MODEL_FAILED /* model.id cannot be opened: text; the engine serves without it */
};

enum channel_memory_flags {
    CHANNEL_MEMORY_PUBLIC =
        1u << 0 /* clients may map it read-only under LLM_VERB_MEMORY; sealed against writing */
};

struct channel_connection {
    uint64_t id;   /* never reused within one keeper */
    uint32_t slot; /* 0..LLM_STATUS_CONNECTIONS_MAX-1; free again after DETACHED */
    uint32_t pid;
    uint32_t uid;
    uint32_t gid;
    uint32_t administrator; /* 1: the daemon's uid, root or the configured group */
    uint32_t group_count;   /* 0..CHANNEL_GROUPS_MAX */
    struct llm_geometry geometry;
    uint32_t groups[CHANNEL_GROUPS_MAX]; /* supplementary, as of connect() */
};

enum channel_model_flags {
    CHANNEL_MODEL_REQUIRED = 1u << 0, /* configured: without it the daemon does not start */
    CHANNEL_MODEL_LOADED = 1u << 1    /* its weights are in memory; its files are not read again */
};

struct channel_model {
    uint64_t id; /* of this load, never used again */
    uint32_t slot;
    uint32_t version;
    uint32_t flags; /* enum channel_model_flags */
    uint32_t reserved;
};

struct channel_names {
    uint64_t number; /* of the change; 0: nothing was ever said */
    uint64_t default_id;
    uint32_t draining_slots; /* one bit for each slot */
    uint32_t alias_count;
    struct llm_model_alias aliases[LLM_ALIASES_MAX];
};

struct channel_message {
    uint32_t magic;
    uint32_t kind;   /* enum channel_kind */
    uint64_t ticket; /* ALLOC, OPEN, DEPOSIT, DROP and their ANSWER */
    uint64_t bytes;
    uint64_t generation;
    uint32_t flags;
    uint32_t status; /* ANSWER */
    struct channel_connection connection;
    char name[CHANNEL_NAME_BYTES];
    char path[CHANNEL_PATH_BYTES]; /* OPEN, MODEL: absolute */
    char text[LLM_NOTE_BYTES];
    struct channel_model model; /* MODEL, MODEL_*; OPEN: for which */
    struct channel_names names; /* NAMES */
};

/* Send one message with `fd_count` descriptors (they stay the caller's). LLM_ERR_PEER: the other side is gone. */
enum llm_status channel_send(int socket, const struct channel_message *message, const int *fds,
                             uint32_t fd_count, struct llm_error *error) LLM_MUST_CHECK;
/* Take one message. `out_fds` [CHANNEL_FDS_MAX] receives close-on-exec descriptors, now the caller's; unused
 * entries are -1. LLM_ERR_TIMEOUT: nothing there (only with `wait` false). LLM_ERR_PEER: end of file, or not
 * a message of ours. */
enum llm_status channel_receive(int socket, bool wait, struct channel_message *out_message,
                                int out_fds[CHANNEL_FDS_MAX], struct llm_error *error)
    LLM_MUST_CHECK;

#endif
