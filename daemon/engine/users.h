/*
 * users.h - what one user may take, over however many connections.
 *
 * Idea     A ledger with one row for each user who has a connection or owns a context. Whatever is limited per user is
 *          counted there and only there, so that opening another connection gives nobody more: live requests, contexts,
 *          their tokens and pinned blocks, and in each pass of the intake entries and bytes of bodies. Who is over the
 *          pass's budget is not refused; the rest of the queue waits for the next pass, after which a step of
 *          everybody's work has been done.
 * Owner    The engine thread. A connection holds the row of its user from attach to detach, a context that of its owner
 *          from its making to its end; each counts itself, and a row is free when all its counts are zero.
 * Count    Who makes something asks first (users_may_...: the sentence has the numbers), then adds to the row; who ends it
 *          subtracts, and calls users_settle().
 * Trust    The uid is what the kernel told the keeper (SO_PEERCRED).
 * See      daemon/quota.h (what a user may), intake.h, daemon/core/scheduler.h (seats, shares of a step and waiting
 *          tokens), daemon/keeper/clients.h (connections), tests/daemon/test_users.c, tests/attack/test_user_limits.c.
 */
#ifndef LLMD_ENGINE_USERS_H
#define LLMD_ENGINE_USERS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/quota.h"
#include "shm/status_file.h"

#define USERS_PASS_ENTRIES 64          /* of one user in one pass */
#define USERS_PASS_BYTES   (64u << 10) /* ... of bodies; the one that reaches it is still taken */

struct engine_user {
    uint32_t uid;
    uint32_t connections;
    uint32_t requests;       /* live */
    uint32_t contexts;       /* owned */
    uint64_t context_tokens; /* that it wrote; what forks share is counted once */
    uint64_t pinned_blocks;
    struct quota quota; /* as of the last users_take(), or of users_row() without a connection */
    uint32_t entries;   /* in pass number `pass` */
    uint32_t bytes;
    uint64_t pass;
};

struct users {
    struct engine_user *rows; /* [row_count] */
    uint32_t row_count;
    uint32_t end; /* one past the highest row in use */
    uint64_t pass;
};

/* Rows for `owners_max` users with contexts, or tokens in rows of others' contexts, besides those who are connected; zeroed
 * pages cost nothing until used. LLM_ERR_MEMORY. */
enum llm_status users_open(struct users *users, uint32_t owners_max, struct llm_error *error)
    LLM_MUST_CHECK;
void users_close(struct users *users);

/* The row of `uid`; a new row is all zero. `quota` holds from now on, unless the user is connected: then its groups are known,
 * and what users_take() was told stays. The caller counts something into the row before the next call. */
uint32_t users_row(struct users *users, uint32_t uid, const struct quota *quota);
/* Something was counted out of `row`: it may be free now. */
void users_settle(struct users *users);
/* The row of `uid`, with one more connection, and its quota; and one less. */
uint32_t users_take(struct users *users, uint32_t uid, const struct quota *quota);
void users_drop(struct users *users, uint32_t row);

/* ---- May this user have that? ------------------------------------------------------------------------------- */

/* Each returns LLM_OK, or the status named and a sentence with what it has and may have. */

/* LLM_ERR_BUSY: another request. */
enum llm_status users_may_request(const struct users *users, uint32_t row, struct llm_error *error)
    LLM_MUST_CHECK;
/* LLM_ERR_INVALID: no enum llm_priority. LLM_ERR_PERMISSION: higher than the quota allows. */
enum llm_status users_may_have_priority(const struct users *users, uint32_t row, uint32_t priority,
                                        struct llm_error *error) LLM_MUST_CHECK;
/* LLM_ERR_LIMIT: another context. */
enum llm_status users_may_own_context(const struct users *users, uint32_t row,
                                      struct llm_error *error) LLM_MUST_CHECK;
/* LLM_ERR_LIMIT: so many more tokens in its contexts. */
enum llm_status users_may_keep_tokens(const struct users *users, uint32_t row, uint64_t tokens,
                                      struct llm_error *error) LLM_MUST_CHECK;
/* LLM_ERR_LIMIT: so many more pinned blocks. */
enum llm_status users_may_pin(const struct users *users, uint32_t row, uint64_t blocks,
                              struct llm_error *error) LLM_MUST_CHECK;

/* ---- Passes of the intake ----------------------------------------------------------------------------------- */

/* A new pass: everybody's budget is whole again. */
void users_begin_pass(struct users *users);
/* Whether this user may have another entry looked at in this pass. */
bool users_may_enter(struct users *users, uint32_t row);
/* One was looked at; it has a body of so many bytes. */
void users_entered(struct users *users, uint32_t row, uint32_t body_bytes);
/* It made as much work as so many more bytes of a body, 0..2^30. */
void users_charge(struct users *users, uint32_t row, uint32_t bytes);

#endif
