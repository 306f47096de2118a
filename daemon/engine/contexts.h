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
 *          published into the context's row: for a fork, and when the request ends.
 * Owner    The engine thread. Slots are those of ctxtab and of core_hold().
 * See      rows.h, users.h, context_ops.h (LLM_OP_CONTEXT), journal.h, recovery.h, docs/ARCHITECTURE.md ("Contexts").
 */
#ifndef LLMD_ENGINE_CONTEXTS_H
#define LLMD_ENGINE_CONTEXTS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/core.h"
#include "daemon/engine/rows.h"
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
    bool ending;            /* being removed: only its request is still to end */
    bool orphan;            /* `connection_id` left; it ends with its request */
    bool model_gone;        /* its model was unloaded: its tokens can be read, no more */
    uint32_t request_slot;  /* generates on it; REQUEST_NONE: none */
    uint32_t committed;     /* tokens in rows; the version's `length` */
    uint64_t domains[1];    /* where blocks of its tokens are sealed: by its mode, llm_domain() */
    uint32_t pinned_blocks; /* counted against quota and pool, from admission on */
    uint32_t owner;         /* who is charged, in the ledger of users */
    uint64_t used_ns;       /* CLOCK_BOOTTIME */
    uint64_t connection_id; /* it ends with this connection; 0: with none */
    uint32_t next;          /* in the list of free slots */
    uint32_t next_named;    /* in its bucket of names */
};

struct contexts {
    struct context *slots; /* [count] */
    uint64_t *request_ids; /* [count] as in the versions: a search touches little memory */
    uint32_t count;        /* 1..65535 */
    uint32_t live;
    uint32_t free_first,
        free_last;     /* first freed, first used: who ended a context is known for long */
    uint32_t *buckets; /* [bucket_mask + 1] slots of named contexts */
    uint32_t bucket_mask;
    uint64_t next_number; /* of the next context: its id is number << 16 | slot + 1 */
    uint64_t pinned_blocks;
    uint32_t *recount; /* [rows.count] for contexts_sane() */
    uint32_t *scratch; /* [tables.context_tokens_max] ids, for the length of a call */
    struct rows rows;
};

/* The valid version. The slot must be live. */
const struct llm_ctx_version *context_now(const struct engine *engine, uint32_t slot);

/* The context of that id, if `connection`'s user has that right. NOT_FOUND, PERMISSION. */
enum llm_status contexts_find(const struct engine *engine, const struct connection *connection,
                              uint64_t id, enum context_right right, uint32_t *out_slot,
                              struct llm_error *error) LLM_MUST_CHECK;
/* The same by name. */
enum llm_status contexts_find_named(const struct engine *engine,
                                    const struct connection *connection, const char *name,
                                    enum context_right right, uint32_t *out_slot,
                                    struct llm_error *error) LLM_MUST_CHECK;
/* Whoever asks; CONTEXT_NONE: there is none. */
uint32_t contexts_slot(const struct engine *engine, uint64_t id);
bool contexts_may(const struct engine *engine, const struct connection *connection, uint32_t slot,
                  enum context_right right);
bool contexts_in_group(const struct connection *connection, uint32_t gid);
/* Has `connection`'s user that right? PERMISSION, with what there is and what is missing. */
enum llm_status contexts_permit(const struct engine *engine, const struct connection *connection,
                                uint32_t slot, enum context_right right, struct llm_error *error)
    LLM_MUST_CHECK;
/* The id of the context that request is, or was last, generating on; 0: none. */
uint64_t contexts_id_of_request(const struct engine *engine, uint64_t request_id);
/* Whoever has that name; CONTEXT_NONE: nobody. */
uint32_t contexts_named(const struct engine *engine, const char *name);
/* At most 103 bytes of parts of [A-Za-z0-9._-] with one '/' between them, none of them "." or "..". */
bool contexts_name_valid(const char name[LLM_CONTEXT_NAME_BYTES]);

/* What its model is; of a model that is gone, what can be said of any. */
const struct executor_facts *contexts_facts(const struct engine *engine, uint32_t slot);
/* Its model is there to go on with. LLM_ERR_NOT_FOUND: it was unloaded. */
enum llm_status contexts_usable(const struct engine *engine, uint32_t slot, struct llm_error *error)
    LLM_MUST_CHECK;

/* Its tokens, those published of a running answer included. */
uint32_t contexts_length(const struct engine *engine, uint32_t slot);
/* Copy ids of positions from..from+count-1, all below contexts_length(). */
void contexts_copy_ids(const struct engine *engine, uint32_t slot, uint32_t from, uint32_t count,
                       uint32_t *out_ids);
/* Where in rows its committed tokens are. */
struct row_place contexts_place(const struct engine *engine, uint32_t slot);

/* ---- Changes (context_ops.c) ---------------------------------------------------------------------------- */

/* Which submission asks, so that it is done once. */
struct context_by {
    uint64_t connection_id;
    uint64_t position;
};

/* What that very submission made before the engine died: the slot of the record, CONTEXT_NONE: nothing. A record that it ended
 * is not live any more. */
uint32_t contexts_made_by(const struct engine *engine, const struct context_by *by);

/* An empty one of `model`. LLM_ERR_LIMIT. */
enum llm_status contexts_create(struct engine *engine, const struct connection *connection,
                                uint32_t model, const struct context_by *by, uint32_t *out_slot,
                                struct llm_error *error) LLM_MUST_CHECK;
/* A new unnamed one of the first `length` tokens (UINT32_MAX: all). LLM_ERR_INVALID, LLM_ERR_LIMIT. */
enum llm_status contexts_fork(struct engine *engine, const struct connection *connection,
                              uint32_t parent, uint32_t length, const struct context_by *by,
                              uint32_t *out_slot, struct llm_error *error) LLM_MUST_CHECK;
/* Nothing generates on it? BUSY. */
enum llm_status contexts_idle(const struct engine *engine, uint32_t slot, struct llm_error *error)
    LLM_MUST_CHECK;
/* Nothing generates on it and `count` more tokens fit the model's context and the owner's quota? BUSY, LIMIT. */
enum llm_status contexts_may_append(const struct engine *engine, uint32_t slot, uint32_t count,
                                    struct llm_error *error) LLM_MUST_CHECK;
/* Allowed by contexts_may_append(). */
void contexts_append(struct engine *engine, uint32_t slot, const uint32_t *ids, uint32_t count,
                     const struct context_by *by);
/* To its first `length` tokens; nothing may generate on it. */
void contexts_rewind(struct engine *engine, uint32_t slot, uint32_t length,
                     const struct context_by *by);
/* Its tokens become those of `other`; nothing may generate on either. `other` stays. */
void contexts_take_tokens(struct engine *engine, uint32_t slot, uint32_t other,
                          const struct context_by *by);
/* What is no token: name (free, valid), gid, mode, lease, connection. `next` began as a copy of the version. */
void contexts_change(struct engine *engine, uint32_t slot, struct llm_ctx_version *next,
                     const struct context_by *by);
/* Its blocks may be evicted again. Nothing may generate on it. */
void contexts_unpin(struct engine *engine, uint32_t slot, const struct context_by *by);
/* End it; the request that generates on it is cancelled. `by` NULL: nobody asked. */
void contexts_remove(struct engine *engine, uint32_t slot, const struct context_by *by);
/* A context that neither name nor lease nor connection keeps, and that nothing generates on, ends. */
void contexts_end_orphan(struct engine *engine, uint32_t slot);

/* ---- For requests on a context (intake.c, publish.c, recovery.c) ---------------------------------------------- */

/* A new unnamed fork of all of `parent`, the connection's; or the one that this very submission made before the engine
 * died. LLM_OK, LLM_ERR_LIMIT. contexts_remove() when the request is refused after all. */
enum llm_status contexts_branch(struct engine *engine, struct connection *connection,
                                uint32_t parent, const struct context_by *by, uint32_t *out_slot,
                                struct llm_error *error) LLM_MUST_CHECK;
/* Request `request_slot`, whose row of reqtok begins with the context's tokens, runs on it from now on. LLM_ERR_BUSY: another
 * does; LLM_ERR_LIMIT: its prompt does not fit the owner's quota. Called when its record is filled in, before
 * journal_live(); the record names the context. */
enum llm_status contexts_begin(struct engine *engine, uint32_t slot, uint32_t request_slot,
                               struct llm_error *error) LLM_MUST_CHECK;
/* Copy what the running request has published (and its prompt) into the row. Without one: nothing. */
void contexts_commit(struct engine *engine, uint32_t slot);
/* The running request has ended (before its record is ANSWERED): commit, forget it. An unnamed context whose connection is
 * gone ends here. */
void contexts_end(struct engine *engine, uint32_t slot);
/* After an engine's death: the live request goes on. */
void contexts_resume(struct engine *engine, uint32_t slot, uint32_t request_slot);

/* ---- Pins ---------------------------------------------------------------------------------------------- */

/* May `slot` pin its first `tokens`? Counts the blocks if so. LLM_ERR_LIMIT with the numbers. */
enum llm_status contexts_pin_admit(struct engine *engine, uint32_t slot, uint32_t tokens,
                                   struct llm_error *error) LLM_MUST_CHECK;
/* Their rows are computed: hold them and write it down. LLM_ERR_LIMIT: the pool cannot hold them beside what runs and waits;
 * then, and when the request failed (contexts_pin_give_up()), what was pinned before is. */
enum llm_status contexts_pin_done(struct engine *engine, uint32_t slot, uint32_t tokens,
                                  struct llm_error *error) LLM_MUST_CHECK;
void contexts_pin_give_up(struct engine *engine, uint32_t slot);

/* ---- Life ---------------------------------------------------------------------------------------------- */

/* How many there are at most: slots of ctxtab, and of core_hold(). Known before the core is opened. */
uint32_t contexts_count_max(const struct engine *engine);
/* After tables_open_contexts(). LLM_ERR_MEMORY. */
enum llm_status contexts_open(struct engine *engine, struct llm_error *error) LLM_MUST_CHECK;
void contexts_close(struct engine *engine);
/* After the blocks were adopted and before requests resume: what an earlier engine left; pins are held again, and what live
 * requests have published is committed. */
void contexts_recover(struct engine *engine);
/* After requests resumed: contexts of connections that left while no engine was there end. */
void contexts_settle(struct engine *engine);
/* The connection is gone: its unnamed, unleased contexts end. */
void contexts_abandon(struct engine *engine, const struct connection *connection);
/* End those whose lease is over; engine->next_lease_ns is the next one's end (CLOCK_BOOTTIME). */
void contexts_expire(struct engine *engine, uint64_t now_ns);
/* Rows, references, names and counts fit together (LLM_OP_CHECK). */
enum llm_status contexts_sane(const struct engine *engine, struct llm_error *error) LLM_MUST_CHECK;

#endif
