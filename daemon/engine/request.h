/*
 * request.h - one live request, as the engine sees it: the private half of its record in reqtab.
 *
 * Idea     A request has one slot everywhere: in reqtab, in the core, here, in the status file. The record
 *          (what was asked, what was answered) is what survives; this struct is derived from it, at admission
 *          and again at recovery, by the same function.
 * Owner    The engine thread.
 * See      intake.h (how it comes), publish.h (how it ends), recovery.h.
 */
#ifndef LLMD_ENGINE_REQUEST_H
#define LLMD_ENGINE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/core.h"
#include "daemon/engine/domains.h"
#include "daemon/engine/stop_strings.h"
#include "daemon/sample/sampling.h"
#include "shm/status.h"
#include "shm/stream.h"

struct connection;
struct engine;
struct llm_reqtab_record;
struct llm_submission;

enum request_place {
    REQUEST_FREE,
    REQUEST_IN_LINE, /* recovered, waits for its trial */
    REQUEST_IN_CORE,
    REQUEST_FOLLOWS /* computes nothing: it repeats another's answer (follow.h) */
};

struct request {
    struct prefix_share
        shares[PREFIX_SHARES_MAX]; /* of its context: what wider domains may read too */
    enum request_place place;
    struct connection *connection; /* NULL: its client is gone */
    struct llm_stream_writer writer;
    uint32_t user; /* its row in the ledger (users.h), also when the client is gone */
    uint32_t model;
    struct domain_set domains; /* the core holds on to the array */
    struct sampling sampling;  /* stop_ids and steering point into the record */
    uint32_t answered_tokens;  /* step_finish_after() has looked at */
    struct stop_strings stops;
    float logprob;           /* of the token that the running step chose */
    uint32_t context;        /* it runs on, a slot of ctxtab; CONTEXT_NONE: none (on_context.h) */
    bool pin_counted;        /* with a pin: contexts_pin_admit() was asked */
    uint32_t leader;         /* whom it follows; REQUEST_NONE: nobody */
    uint32_t first_follower; /* who follows it; REQUEST_NONE: nobody */
    uint32_t next_follower;  /* of the same leader */
    enum llm_status end_status; /* with a FAILED or CANCELLED finish; LLM_OK: the usual one */
    char end_note[LLM_NOTE_BYTES];
};

/* What its record asks for. */
enum core_request_kind request_kind(const struct llm_reqtab_record *record);
/* Where in its row the answer begins: published token i is at this position + i. */
uint32_t request_answer_start(const struct llm_reqtab_record *record);

/* `status`; with LLM_ERR_BUSY, the sentence, which ends with "try again", says when one of `own` requests has likely ended. */
enum llm_status request_busy(const struct engine *engine, uint32_t own, struct llm_error *error,
                             enum llm_status status) LLM_MUST_CHECK;
/* A free slot for one more request of the connection's user. LLM_ERR_BUSY: none is free, or the user has all of theirs. */
enum llm_status requests_find_free(const struct engine *engine, const struct connection *connection,
                                   uint32_t *out_slot, struct llm_error *error) LLM_MUST_CHECK;
/* Whose it is, when it came, a fresh id; the body is the caller's. */
void request_fill_record(struct engine *engine, const struct connection *connection,
                         const struct llm_submission *submission, uint32_t slot);
/* It is one of its connection's from now on. */
void request_enter(struct engine *engine, uint32_t slot, enum request_place place);

/* How the words of its log are used. */
struct llm_log_shape request_log_shape(const struct engine *engine, uint32_t slot);

/* Derive the private half from the record. */
void request_init(struct engine *engine, uint32_t slot, struct connection *connection,
                  uint32_t model);
/* Whether what it asks for is in its ranges and its ids in the model's vocabulary. */
enum llm_status request_check_sampling(const struct engine *engine, uint32_t slot,
                                       struct llm_error *error) LLM_MUST_CHECK;
/* What the core is told. */
struct core_request request_for_core(const struct engine *engine, uint32_t slot, bool recovered);

/* End it early with `status` and a sentence; it is gone when the call returns. */
void request_end(struct engine *engine, uint32_t slot, enum core_finish finish,
                 enum llm_status status, const char *note);
/* End all of a connection's, without writing to its memory any more. */
void requests_abandon(struct engine *engine, struct connection *connection);
/* End those whose deadline has passed. */
void requests_expire(struct engine *engine, uint64_t now_ns);

/* The live request with this id, or REQUEST_NONE. */
uint32_t requests_find(const struct engine *engine, uint64_t request_id);

#endif
