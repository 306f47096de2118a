/*
 * fake_contexts.h - the contexts of the fake daemon: tokens in plain arrays, one user, every verb.
 *
 * Idea     As simple as it can be, so that what libllm does with the answers is all that is tested. A test may have the
 *          next verbs refused, or answered with a lie.
 * Owner    The fake daemon, and its thread; fake_contexts_refuse() and fake_contexts_lie() may be called from others.
 * See      fake_daemon.h, tests/client/test_context.c.
 */
#ifndef TESTS_SUPPORT_FAKE_CONTEXTS_H
#define TESTS_SUPPORT_FAKE_CONTEXTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"
#include "shm/stream.h"

#define FAKE_CONTEXTS       32
#define FAKE_CONTEXT_TOKENS 4096

/* What is wrong with the words of an answer. */
enum fake_context_lie {
    FAKE_CONTEXT_HONEST,
    FAKE_CONTEXT_SHORT,       /* one word less */
    FAKE_CONTEXT_NO_ID,       /* records: id 0 */
    FAKE_CONTEXT_OTHER_ID,    /* records: another one's */
    FAKE_CONTEXT_NAME,        /* records: a name without an end */
    FAKE_CONTEXT_MODEL,       /* records: a model without an end */
    FAKE_CONTEXT_SHARED,      /* records: more shared tokens than tokens */
    FAKE_CONTEXT_BACKWARDS,   /* a list: slots that go back */
    FAKE_CONTEXT_SPAN_KIND,   /* a probe: a kind that nobody knows */
    FAKE_CONTEXT_SPAN_GAP,    /* a probe: a span that does not begin where the last ended */
    FAKE_CONTEXT_SPAN_BEYOND, /* a probe: a span beyond the prompt */
    FAKE_CONTEXT_SPAN_DOMAIN, /* a probe: a domain that nobody knows */
    FAKE_CONTEXT_SCORES,      /* a score: of other tokens */
    FAKE_CONTEXT_SCORE_FEW,   /* a score: of fewer tokens */
    FAKE_CONTEXT_COMPUTED     /* tokens where only rows were asked for */
};

struct fake_context {
    uint64_t id; /* 0: free */
    uint64_t parent_id, request_id, connection_id;
    uint32_t length, shared, mode, gid, lease_ms;
    bool pinned, generating;
    char name[LLM_CONTEXT_NAME_BYTES];
    char model[LLM_NAME_BYTES];
    uint32_t tokens[FAKE_CONTEXT_TOKENS];
};

struct fake_contexts {
    _Atomic uint32_t refusal; /* enum llm_status: how every verb is answered; LLM_OK: by doing it */
    _Atomic uint32_t lie;     /* enum fake_context_lie */
    _Atomic uint32_t live;    /* contexts there are */
    uint64_t next_number;
    struct fake_context contexts[FAKE_CONTEXTS];
};

/* Answer LLM_OP_CONTEXT: words into the log, then the end. `ids` [body->count] may be NULL. */
void fake_contexts_answer(struct fake_contexts *contexts, uint64_t connection_id,
                          const struct llm_context_body *body, const uint32_t *ids,
                          struct llm_stream_writer *writer);

/* The context that a request runs on: `id`, or a new fork of it. NULL: there is none, or it is busy. */
struct fake_context *fake_contexts_begin(struct fake_contexts *contexts, uint64_t connection_id,
                                         uint64_t id, bool branch, uint64_t request_id,
                                         struct llm_error *error);
/* A context that is only read. */
struct fake_context *fake_contexts_find(struct fake_contexts *contexts, uint64_t id);

#endif
