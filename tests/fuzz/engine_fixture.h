/*
 * engine_fixture.h - the whole engine in this process, with clients whose memories a test writes itself.
 *
 * Idea     engine_open() speaks to a thread that plays the keeper (memories, nothing else); afterwards there is no
 *          thread but the engine's own egress. Who uses this calls engine_step() where engine_run() would. The model is
 *          the echo, with a small vocabulary, so that stop strings are looked at too.
 * Owner    The process, until it ends. A client's memories and doorbells are made once and given to the engine again
 *          and again, zeroed, as those of a new connection.
 */
#ifndef TESTS_FUZZ_ENGINE_FIXTURE_H
#define TESTS_FUZZ_ENGINE_FIXTURE_H

#include "daemon/engine/engine.h"

/* Client i is of user 1000 + i and group 100 + i / 2; client 0 is an administrator. */
#define FIXTURE_CLIENTS  4
#define FIXTURE_REQUESTS 6 /* fewer than the clients have streams */

struct fixture_client {
    uint64_t id; /* 0: not attached */
    uint32_t slot;
    int up_fd, down_fd, to_engine_fd, bell[2]; /* bell[0] is the engine's end */
    char *up; /* [up_map.total_bytes], written by whoever plays the client */
    char *down;
};

struct fixture {
    struct engine engine;
    struct llm_geometry geometry;
    struct llm_up_map up_map;
    struct llm_down_map down_map;
    struct fixture_client clients[FIXTURE_CLIENTS];
    int keeper; /* the keeper's end of the channel */
    uint64_t generation;
    const struct kept_memory *kept; /* [kept_count] for the manifest of the next engine */
    uint32_t kept_count;
    uint64_t next_id;
    uint32_t detached_count; /* DETACHED heard */
};

/* Everything, once. Failures stop the process. */
void fixture_open(struct fixture *fixture);
/* The engine is replaced by a new one, which is handed the memories and the attached clients. The old one may have
 * gone on in a child of this process, and died there. */
void fixture_restart(struct fixture *fixture);
void fixture_attach(struct fixture *fixture, uint32_t client);
void fixture_detach(struct fixture *fixture, uint32_t client);
/* What the engine told the keeper: a client that it broke with is detached. */
void fixture_hear(struct fixture *fixture);

#endif
