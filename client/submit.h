/*
 * submit.h - a request on its way to the engine: what llm_submit() and the calls on contexts have in common.
 *
 * Idea     Prepared (checked, a slot taken, the body written), then sent (one push to the queue). Apart, so that many can
 *          be prepared before the first is sent: llm_context_branch() is all or none.
 * Threads  Any. The stream is the caller's.
 * See      client/README.md ("Life of a request"), context_run.c.
 */
#ifndef LLM_CLIENT_SUBMIT_H
#define LLM_CLIENT_SUBMIT_H

#include "client/connection.h"

struct llm_asking {
    const uint32_t *tokens; /* [token_count] */
    uint32_t token_count;
    const llm_sampling *sampling; /* not NULL */
    /* on a context */
    uint32_t flags;            /* enum llm_request_flags, besides those of `sampling` */
    uint64_t context_id;       /* 0: none */
    const char *context_model; /* [LLM_NAME_BYTES]; NULL: none */
};

/* The model's own defaults, 256 tokens. */
extern const llm_sampling llm_sampling_default;

/* Check, take a slot, write the body. llm_slot_table_untake() undoes it. The connection was found to be ours.
 *   returns          LLM_OK, LLM_ERR_INVALID, LLM_ERR_LIMIT, LLM_ERR_BUSY */
enum llm_status llm_asking_prepare(struct llm_connection *connection,
                                   const struct llm_asking *asking, struct llm_stream **out_stream,
                                   struct llm_error *error) LLM_MUST_CHECK;
/* Show it to the engine. On failure the stream stays prepared. LLM_OK, LLM_ERR_BUSY (the queue is full), LLM_ERR_PEER. */
enum llm_status llm_asking_send(struct llm_connection *connection, const struct llm_asking *asking,
                                struct llm_stream *stream, struct llm_error *error) LLM_MUST_CHECK;
/* Both, after asking whose connection it is and whether the daemon lives. */
enum llm_status llm_asking_submit(struct llm_connection *connection,
                                  const struct llm_asking *asking, llm_stream **out_stream,
                                  struct llm_error *error) LLM_MUST_CHECK;

#endif
