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
/* How many units of `unit_words` to ask for at once, at most `wanted`: a part of the log, so that answers in flight have room. */
uint32_t llm_context_page_units(const struct llm_connection *connection, uint32_t wanted,
                                uint32_t unit_words);
/* Call for up to *units; for fewer, which *units then says, when the log is short of room for the moment. Without ids they
 * are the body's count. `out_words` [*units * unit_words]. */
enum llm_status llm_context_call_page(struct llm_connection *connection,
                                      struct llm_context_body *body, const uint32_t *ids,
                                      uint32_t *units, uint32_t unit_words, uint32_t *out_words,
                                      uint32_t *out_count, struct llm_error *error) LLM_MUST_CHECK;
/* LLM_ERR_PEER: what the daemon answered as `what` cannot be. */
enum llm_status llm_context_nonsense(struct llm_error *error, const char *what);
/* llm_context_call() for verbs that answer a record, which is checked: LLM_ERR_PEER. */
enum llm_status llm_context_call_record(struct llm_connection *connection,
                                        const struct llm_context_body *body,
                                        struct llm_context_record *out_record, uint64_t deadline_ns,
                                        struct llm_error *error) LLM_MUST_CHECK;
/* Ask for the end of a context and do not wait: now, or when there is room, with a later call. */
void llm_context_end_pending(struct llm_connection *connection); /* those of before */
void llm_context_end_soon(struct llm_connection *connection, const struct llm_context_end *end);

/* "A context has an id, terminated names, and no more shared tokens than tokens." LLM_OK, LLM_ERR_PEER. */
enum llm_status llm_context_record_check(const struct llm_context_record *record,
                                         struct llm_error *error) LLM_MUST_CHECK;

/* A handle for what `body` asks for (create, open, fork). */
enum llm_status llm_context_handle(struct llm_connection *connection,
                                   const struct llm_context_body *body, bool owned,
                                   llm_context **out_context, struct llm_error *error)
    LLM_MUST_CHECK;

/* For llm_stream_close(): a branch that nobody took over ends with its stream. False: nothing is known of it yet, and the
 * slot table pushes its end when the slot is free. */
bool llm_branch_end(struct llm_stream *stream, struct llm_context_end *out_end);

#endif
