/*
 * contexts.h - contexts: rows of token ids with an owner, which requests read and extend.
 *
 * Idea     A context is what its owner knows it as (an id, perhaps a name, mode bits, a lease) and a length; its token ids
 *          stand in rows that many contexts share (rows.h). What was computed for them is the KV cache's and found there
 *          by the ids alone, so a fork copies one record and takes no block, a context that nobody uses costs no KV
 *          block, and an engine that died has nothing to repair. Only a pin holds blocks.
 * Change   Each change is a new version of the record in ctxtab, made valid by one store, before it is answered; the
 *          version names the submission that made it, so that a submission taken in again is answered, not done again.
 * Running  While a request generates on a context, the ids of its answer are in reqtok; contexts_commit() copies what is
 *          published into the context's row: for a fork, for a reader, and when the request ends.
 * Owner    The engine thread. Slots are those of ctxtab and of core_hold().
 * See      rows.h, context_ops.h (LLM_OP_CONTEXT), journal.h, recovery.h, docs/ARCHITECTURE.md ("Contexts").
 */
#ifndef LLMD_ENGINE_CONTEXTS_H
#define LLMD_ENGINE_CONTEXTS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/core.h"
#include "shm/status.h"
#include "shm/tables.h"

struct connection;
struct engine;

#define CONTEXT_NONE UINT32_MAX

enum context_right {
    CONTEXT_READ,  /* mode bits: open, read, fork, follow, branch, score */
    CONTEXT_WRITE, /* mode bits: append, rewind, generate, compute */
    CONTEXT_OWN    /* the owner or an administrator: publish, mode, pin, lease, remove */
};

/* The private half of a slot of ctxtab. */
struct context {
    bool live;
    uint32_t request_slot;  /* generates on it; REQUEST_NONE: none */
    uint32_t committed;     /* tokens in rows; the version's `length` */
    uint64_t domains[1];    /* where blocks of its tokens are sealed: by its mode, llm_domain() */
    uint32_t pinned_blocks; /* counted against quota and pool, from admission on */
    uint32_t user;          /* its owner's row in the ledger of users */
    uint32_t next;          /* in the list of free slots */
};

/* The valid version. The slot must be live. */
const struct llm_ctx_version *context_now(const struct engine *engine, uint32_t slot);

/* The context of that id, if `connection`'s user has that right. NOT_FOUND, PERMISSION. */
enum llm_status contexts_find(const struct engine *engine, const struct connection *connection,
                              uint64_t id, enum context_right right, uint32_t *out_slot,
                              struct llm_error *error) LLM_MUST_CHECK;
/* The id of the context that request is, or was last, generating on; 0: none. */
uint64_t contexts_id_of_request(const struct engine *engine, uint64_t request_id);

/* Its tokens, those published of a running answer included. */
uint32_t contexts_length(const struct engine *engine, uint32_t slot);
/* Copy ids of positions from..from+count-1, all below contexts_length(). */
void contexts_copy_ids(const struct engine *engine, uint32_t slot, uint32_t from, uint32_t count,
                       uint32_t *out_ids);

/* ---- For requests on a context (intake.c, publish.c, recovery.c) ---------------------------------------------- */

/* Which submission asks, so that it is done once. */
struct context_by {
    uint64_t connection_id;
    uint64_t position;
};

/* A new unnamed fork of all of `parent`, the connection's; or the one that this very submission made before the engine
 * died. LLM_OK, LLM_ERR_LIMIT, LLM_ERR_BUSY. */
enum llm_status contexts_branch(struct engine *engine, struct connection *connection,
                                uint32_t parent, const struct context_by *by, uint32_t *out_slot,
                                struct llm_error *error) LLM_MUST_CHECK;
/* Request `request_slot`, whose row of reqtok begins with the context's tokens, runs on it from now on. LLM_ERR_BUSY: another
 * does. Called before journal_live(); the record names the context. */
enum llm_status contexts_begin(struct engine *engine, uint32_t slot, uint32_t request_slot,
                               struct llm_error *error) LLM_MUST_CHECK;
/* Copy what the running request has published (and its prompt) into the row. Without one: nothing. LLM_ERR_LIMIT: no row is
 * free; nothing is lost while the request runs. */
enum llm_status contexts_commit(struct engine *engine, uint32_t slot, struct llm_error *error)
    LLM_MUST_CHECK;
/* The running request has ended (before its record is ANSWERED): commit, forget it. An unnamed context whose connection is
 * gone ends here. */
void contexts_end(struct engine *engine, uint32_t slot);
/* After an engine's death: the live request goes on. */
void contexts_resume(struct engine *engine, uint32_t slot, uint32_t request_slot);

/* ---- Pins ---------------------------------------------------------------------------------------------- */

/* May `slot` pin its first `tokens`? Counts the blocks if so. LLM_ERR_LIMIT with the numbers. */
enum llm_status contexts_pin_admit(struct engine *engine, uint32_t slot, uint32_t tokens,
                                   struct llm_error *error) LLM_MUST_CHECK;
/* Their rows are computed: hold them and write it down. With `failed`, give the count back. */
void contexts_pin_done(struct engine *engine, uint32_t slot, uint32_t tokens, bool failed);

/* ---- Life ---------------------------------------------------------------------------------------------- */

enum llm_status contexts_open(struct engine *engine, struct llm_error *error) LLM_MUST_CHECK;
void contexts_close(struct engine *engine);
/* After the blocks were adopted and before requests resume: what an earlier engine left; pins are held again. */
void contexts_recover(struct engine *engine);
/* The connection is gone: its unnamed, unleased contexts end. */
void contexts_abandon(struct engine *engine, const struct connection *connection);
/* End those whose lease is over; engine->next_lease_ns is the next one's end (CLOCK_BOOTTIME). */
void contexts_expire(struct engine *engine, uint64_t now_ns);
/* Rows, references, names and counts fit together (LLM_OP_CHECK). */
enum llm_status contexts_sane(const struct engine *engine, struct llm_error *error) LLM_MUST_CHECK;

#endif
