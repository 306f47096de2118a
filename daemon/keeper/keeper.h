/*
 * keeper.h - the process that owns everything and risks nothing.
 *
 * Idea     One thread, one epoll set, no waiting: sockets of clients, their pidfds, the engine's pidfd and
 *          channel, signals. Everything that could go wrong slowly (models, arithmetic, client memory)
 *          happens in the engine, which may die at any instruction.
 * Owner    main() opens and closes; the parts (place, memories, clients, engine) are plain members.
 * See      daemon/keeper/README.md.
 */
#ifndef LLMD_KEEPER_KEEPER_H
#define LLMD_KEEPER_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/config.h"
#include "daemon/keeper/clients.h"
#include "daemon/keeper/drain.h"
#include "daemon/keeper/engine.h"
#include "daemon/keeper/heartbeat.h"
#include "daemon/keeper/loader.h"
#include "daemon/keeper/memories.h"
#include "daemon/keeper/model_roots.h"
#include "daemon/keeper/place.h"
#include "daemon/keeper/registry.h"
#include "daemon/keeper/service.h"
#include "shm/status_file.h"

/* What an event is about; with an index and the serial of whoever had that index. */
enum keeper_event {
    KEEPER_LISTEN,
    KEEPER_SIGNAL,
    KEEPER_ENGINE_PROCESS,
    KEEPER_ENGINE_CHANNEL,
    KEEPER_CLIENT_SOCKET,
    KEEPER_CLIENT_PROCESS,
    KEEPER_LOADER_PROCESS,
    KEEPER_LOADER_CHANNEL
};
#define KEEPER_SERIAL_MASK 0xffffffu

struct keeper {
    const struct config *config;
    struct place place;
    struct llm_geometry geometry; /* of every connection */
    int epoll_fd, signal_fd;
    struct llm_ctl *ctl;
    int ctl_fd; /* kept under CHANNEL_NAME_CTL */
    int ctl_readonly_fd;
    struct llm_status_file *status;
    struct memories memories;
    struct model_roots roots;
    struct clients clients;
    struct engine engine;
    struct registry registry;
    struct loader loader;
    struct drain drain;
    struct heartbeat heartbeat;
    struct service service;
    bool stopping;
    bool accepting;
    uint64_t accept_again_ns; /* with !accepting */
    uint64_t idle_since_ns;   /* last moment with a client; UINT64_MAX while there is one */
    bool descriptors_changed; /* the status file's count is old */
    uint64_t descriptors_counted_ns;
    uint32_t descriptors_own; /* open from the beginning to the end */
    int exit_code;
    int ready_fd; /* whoever started us waits here for "ready" or a sentence; -1: nobody */
    bool starter_told;
};

/* Take everything. On failure keeper_close() has been called. */
enum llm_status keeper_open(struct keeper *keeper, struct config *config, int ready_fd,
                            struct llm_error *error) LLM_MUST_CHECK;
/* Serve until told to stop; the exit code of the process. */
int keeper_run(struct keeper *keeper);
void keeper_close(struct keeper *keeper);

/* ---- For the parts ---------------------------------------------------------------------------------- */

void keeper_watch(struct keeper *keeper, int fd, enum keeper_event event, uint32_t index,
                  uint64_t serial);
void keeper_watch_writable(struct keeper *keeper, int fd, enum keeper_event event, uint64_t serial,
                           bool wanted);
void keeper_unwatch(struct keeper *keeper, int fd);
void keeper_stop(struct keeper *keeper);
void keeper_note_idle(struct keeper *keeper);
/* Out of descriptors: leave the listening socket alone for a moment. */
void keeper_pause_accepting(struct keeper *keeper);
void keeper_engine_ready(struct keeper *keeper);
void keeper_engine_failed(struct keeper *keeper);

#endif
