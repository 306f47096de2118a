/*
 * bundle.h - what one connection is made of: two memories, a doorbell each way.
 *
 * Idea     Made whole before anybody hears of it. The keeper keeps what a new engine needs (a read-only view of
 *          `up`, `down`, its ends of the doorbells) and gives the client's views away once.
 * Owner    struct bundle owns its descriptors until bundle_close().
 */
#ifndef LLMD_KEEPER_BUNDLE_H
#define LLMD_KEEPER_BUNDLE_H

#include "shm/layout.h"
#include "shm/status.h"

struct bundle {
    int up_readonly; /* the engine's view */
    int down;        /* the engine's view */
    int to_engine;   /* an eventfd, for both */
    int to_client;   /* a socket: the engine's end */
    /* the client's views; closed once they are sent */
    int up;
    int down_readonly; /* inode mode 0400 */
    int from_engine;   /* the other end of to_client */
};

#define BUNDLE_EMPTY ((struct bundle){-1, -1, -1, -1, -1, -1, -1})

enum llm_status bundle_make(struct bundle *bundle, const struct llm_geometry *geometry,
                            struct llm_error *error) LLM_MUST_CHECK;
void bundle_close_client_views(struct bundle *bundle);
void bundle_close(struct bundle *bundle);

#endif
