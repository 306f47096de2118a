/*
 * on_context.h - a request on a context: what it begins with, what it leaves behind.
 *
 * Idea     To the core a request on a context is a request with a long prompt: the context's ids are copied into its row of
 *          reqtok, the prompt's behind them, and its prompt_tokens count both. What the cache has of them is found by the
 *          ids. Its kind says what it does to the context:
 *            generate   runs on it: nobody else may; prompt and answer become the context's, each token as published
 *            branch     the same on a new fork, which is made here and belongs to the connection
 *            compute    runs on it; the prompt becomes the context's; with a pin, which is its owner's alone, its rows are held
 *                       from then on
 *            score      reads it and leaves it as it is
 *          Who generates on a context must be allowed to read it as well as to write: the answer tells what is in it.
 *          Blocks of a score are sealed in the client's private domain: its ids are not the context's.
 * Order    find (checks, the fork) -> core_admit -> begin (before the record is LIVE) -> ... -> end (before it is ANSWERED).
 * Owner    The engine thread. Between find and begin the caller holds a struct on_context; drop() undoes a find.
 * See      contexts.h, intake.c, publish.c, recovery.c, docs/ARCHITECTURE.md ("Life of a request").
 */
#ifndef LLMD_ENGINE_ON_CONTEXT_H
#define LLMD_ENGINE_ON_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/effect.h"
#include "daemon/engine/contexts.h"
#include "daemon/engine/domains.h"
#include "shm/layout.h"

struct connection;
struct engine;

struct on_context {
    uint32_t slot;   /* CONTEXT_NONE: a request without a context */
    uint32_t length; /* tokens of it, before the prompt */
    uint32_t model;
    bool forked; /* by this request */
};
#define ON_CONTEXT_NONE ((struct on_context){.slot = CONTEXT_NONE})

/* The context that `submission` names, when body->flags (checked) have ON_CONTEXT; with BRANCH a fork of it.
 * NOT_FOUND, PERMISSION, BUSY when another runs on it, and LIMIT of a fork that cannot be made. */
enum llm_status on_context_find(struct engine *engine, struct connection *connection,
                                const struct llm_submission *submission,
                                const struct llm_request_body *body, struct on_context *out,
                                struct llm_error *error) LLM_MUST_CHECK;
/* The request is not to be: a fork made for it ends. */
void on_context_drop(struct engine *engine, const struct on_context *on);

/* Whose blocks a request with those flags on context `slot` finds, and where its own are sealed. */
struct domain_set on_context_domains(const struct engine *engine,
                                     const struct connection *connection, uint32_t slot,
                                     uint32_t flags);

/* What wider domains than the request's may read of its prompt, the first `length` tokens of which are those of `context` (0: only
 * what the context itself was forked from): the whole blocks of those tokens are sealed there, so that a document which
 * many users may read is computed once. Its domains are set. */
void on_context_share(struct engine *engine, uint32_t slot, uint32_t context, uint32_t length);

/* Request `slot` (its record is filled in) runs on it from now on, unless it only reads. BUSY: another does. LIMIT: a pin that
 * does not fit. */
enum llm_status on_context_begin(struct engine *engine, const struct on_context *on, uint32_t slot,
                                 struct llm_error *error) LLM_MUST_CHECK;
/* It has ended: what it published is the context's. Before its record is ANSWERED. Nothing for one that runs on none.
 * Returns how it ended: FAILED, with the sentence in the request, when its pin could not be held after all. */
enum core_finish on_context_end(struct engine *engine, uint32_t slot, enum core_finish finish);

/* After an engine's death, for a LIVE record that names a context: go on with it. NOT_FOUND: the context is gone. LIMIT: the
 * pin does not fit any more. */
enum llm_status on_context_resume(struct engine *engine, uint32_t slot, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
