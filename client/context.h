/*
 * context.h - the inside of llm_context, and the round trip that every call on one is.
 *
 * Idea     A handle is a connection, an id and the name of the model; all else is the engine's. A call puts a
 *          struct llm_context_body and perhaps ids into the arena, waits for the answer, and copies its words out
 *          of the log. What comes back is checked before anybody sees it.
 * Owner    Handles are the caller's, until llm_context_close(). One that made its context (create, fork, adopt, a branch's
 *          llm_stream_context()) asks the engine to end it; one that found it (open, attach) does not.
 * Threads  A handle never changes but for `owned`: any thread, any number at once.
 * See      layout.h ("Contexts"), context.c, context_read.c, context_run.c, tests/client/test_context.c.
 */
#ifndef LLM_CLIENT_CONTEXT_H
#define LLM_CLIENT_CONTEXT_H

#include "client/connection.h"

struct llm_context {
    struct llm_connection *connection;
    uint64_t id;
    _Atomic bool owned;         /* closing the handle closes the context */
    char model[LLM_NAME_BYTES]; /* terminated */
};

/* One call: `body` and ids [body->count] go there, at most `capacity` words come back.
 *   deadline_ns      CLOCK_MONOTONIC; UINT64_MAX: none
 *   out_words        [capacity]
 *   returns          LLM_OK, LLM_ERR_FORKED, LLM_ERR_PEER, LLM_ERR_BUSY, LLM_ERR_LIMIT, LLM_ERR_TIMEOUT (the deadline), or
 *                    what the engine says, with its sentence */
enum llm_status llm_context_call(struct llm_connection *connection,
                                 const struct llm_context_body *body, const uint32_t *ids,
                                 uint32_t *out_words, uint32_t capacity, uint32_t *out_count,
                                 uint64_t deadline_ns, struct llm_error *error) LLM_MUST_CHECK;
/* Its first half: the stream is the answer. The connection was found to be ours and alive. */
enum llm_status llm_context_send(struct llm_connection *connection,
                                 const struct llm_context_body *body, const uint32_t *ids,
                                 uint32_t log_words, struct llm_stream **out_stream,
                                 struct llm_error *error) LLM_MUST_CHECK;
/* The same for verbs that answer a record, which is checked: LLM_ERR_PEER. */
enum llm_status llm_context_call_record(struct llm_connection *connection,
                                        const struct llm_context_body *body,
                                        struct llm_context_record *out_record, uint64_t deadline_ns,
                                        struct llm_error *error) LLM_MUST_CHECK;
/* Send and do not wait. What cannot be sent within 0.1 s is not: the context then ends with its connection. */
void llm_context_post(struct llm_connection *connection, const struct llm_context_body *body);

/* "A context has an id, terminated names, and no more shared tokens than tokens." LLM_OK, LLM_ERR_PEER. */
enum llm_status llm_context_record_check(const struct llm_context_record *record,
                                         struct llm_error *error) LLM_MUST_CHECK;

/* A handle for what `body` asks for (create, open, fork). */
enum llm_status llm_context_handle(struct llm_connection *connection,
                                   const struct llm_context_body *body, bool owned,
                                   llm_context **out_context, struct llm_error *error)
    LLM_MUST_CHECK;

/* For llm_stream_close(): how to find the context of a branch when its stream is gone. */
struct llm_branch_end {
    bool wanted;
    uint64_t context_id; /* 0: by the request */
    uint64_t request_id; /* 0: there is none */
};
/* While the stream is still the caller's: waits until the engine has begun it, at most 0.1 s. */
struct llm_branch_end llm_branch_end_plan(struct llm_stream *stream);
void llm_branch_end(struct llm_connection *connection, const struct llm_branch_end *end);

#endif
