/*
 * context_ops.h - what clients ask of contexts (LLM_OP_CONTEXT), answered at once.
 *
 * Idea     One table says for each verb what it needs: which fields of the body, which right to the context, whether it
 *          changes something. The answer's data are words of the stream's log; they count from its end on.
 * Once     A submission that is taken in again after an engine's death, and whose change is written down, is answered from
 *          what it made (contexts_made_by()). KEEP changes two contexts: the one that stays first, which says who asked; the
 *          replay ends the other.
 * Cost     What a verb looks through or copies is charged to its user like bytes of a body (users.h).
 * Trust    The body is copied once, its ids once; only the copies are looked at.
 * See      enum llm_context_verb in shm/layout.h, docs/PROTOCOL.md ("Contexts"), contexts.h, tests/daemon/test_contexts.c.
 */
#ifndef LLMD_ENGINE_CONTEXT_OPS_H
#define LLMD_ENGINE_CONTEXT_OPS_H

#include "shm/stream.h"

struct connection;
struct engine;

/* `submission` passed the entry's checks; its operation is LLM_OP_CONTEXT. */
void context_answer(struct engine *engine, struct connection *connection,
                    const struct llm_submission *submission, struct llm_stream_writer *writer);

#endif
