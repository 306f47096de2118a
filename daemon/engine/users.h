/*
 * users.h - what one user may take, over however many connections.
 *
 * Idea     A ledger with one row for each user who has a connection. Whatever is limited per user is counted there and only
 *          there, so that opening another connection gives nobody more: live requests, and in each pass of the
 *          intake entries and bytes of bodies. Who is over the pass's budget is not refused; the rest of the queue
 *          waits for the next pass, after which a step of everybody's work has been done.
 * Owner    The engine thread. A connection holds the row of its user from attach to detach.
 * Trust    The uid is what the kernel told the keeper (SO_PEERCRED).
 * See      intake.h, daemon/core/scheduler.h (seats and shares of a step), daemon/keeper/clients.h (connections),
 *          tests/attack/test_user_limits.c.
 */
#ifndef LLMD_ENGINE_USERS_H
#define LLMD_ENGINE_USERS_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/status_file.h"

#define USERS_PASS_ENTRIES 64          /* of one user in one pass */
#define USERS_PASS_BYTES   (64u << 10) /* ... of bodies; the one that reaches it is still taken */

struct engine_user {
    uint32_t uid;
    uint32_t connections; /* 0: the row is free */
    uint32_t requests;    /* live */
    uint32_t entries;     /* in pass number `pass` */
    uint32_t bytes;
    uint64_t pass;
};

struct users {
    struct engine_user rows[LLM_STATUS_CONNECTIONS_MAX];
    uint32_t end; /* one past the highest row in use */
    uint64_t pass;
};

/* The row of `uid`, with one more connection; and one less. */
uint32_t users_take(struct users *users, uint32_t uid);
void users_drop(struct users *users, uint32_t row);

/* A new pass: everybody's budget is whole again. */
void users_begin_pass(struct users *users);
/* Whether this user may have another entry looked at in this pass. */
bool users_may_enter(struct users *users, uint32_t row);
/* One was looked at; it has a body of so many bytes. */
void users_entered(struct users *users, uint32_t row, uint32_t body_bytes);
/* It made as much work as so many more bytes of a body, 0..2^30. */
void users_charge(struct users *users, uint32_t row, uint32_t bytes);

#endif
