/*
 * run.h - one reading or one rendering of a template: its budgets, its first failure, its output.
 *
 * Idea     Failures stick. The first thing that goes wrong is recorded with the place of the node that was at work;
 *          from then on calls return undefined, and every loop ends at its next look at llm_jinja_failed(). So the
 *          code reads as the language does, without a status at each step.
 *          What a template may spend is counted: steps (a node evaluated, 64 bytes moved or compared), bytes of
 *          memory, bytes of output, depth of nesting. Each limit ends the run with a sentence.
 * Owner    The caller's stack; the arena and the text are closed by who opened them.
 * Threads  One run is one thread's. A parsed template is constant and serves any number of runs.
 * Source   The language: https://jinja.palletsprojects.com/en/stable/templates/ (3.1). The set-up (sandbox, trimmed
 *          blocks, tojson): https://huggingface.co/docs/transformers/chat_templating
 */
#ifndef LLM_CLIENT_TEXT_JINJA_RUN_H
#define LLM_CLIENT_TEXT_JINJA_RUN_H

#include "client/text/buffer.h"
#include "client/text/jinja/arena.h"
#include "client/text/jinja/value.h"
#include "shm/status.h"

#define JINJA_STEPS_MAX          UINT64_C(10000000)
#define JINJA_RUN_BYTES_MAX      ((size_t)256 << 20)
#define JINJA_TEMPLATE_BYTES_MAX ((size_t)128 << 20) /* of a parsed template */
#define JINJA_OUTPUT_BYTES_MAX   ((size_t)64 << 20)  /* as LLM_ENCODE_BYTES_MAX */
#define JINJA_DEPTH_MAX          500u /* nodes inside each other at work, macros' calls included */
#define JINJA_VALUE_DEPTH_MAX    200u /* lists in lists, for what walks a value */
#define JINJA_RANGE_MAX          100000 /* as the reference's sandbox */

struct jinja_scope;

struct jinja_run {
    struct jinja_arena *arena;
    const char *source; /* [source_bytes], to find lines */
    size_t source_bytes;
    uint32_t at; /* the node at work: its place in the source */

    enum llm_status status; /* the first failure */
    llm_error *error;
    uint64_t steps_left;
    unsigned depth;

    struct llm_buffer *out; /* where output goes now: the whole text, or that of a macro or block */
    struct jinja_value variables; /* a dict */
    struct jinja_scope *scope;    /* the innermost */
    struct jinja_value
        block_text; /* what the filters of a filter block or a set block are applied to */
    bool now_given; /* strftime_now(): this time instead of the clock's */
    int64_t now_s;
};

static inline bool llm_jinja_failed(const struct jinja_run *run)
{
    return run->status != LLM_OK;
}

/* Record a failure at run->at, if it is the first: "template line 3, column 7: <sentence>". Returns undefined. */
struct jinja_value llm_jinja_fail(struct jinja_run *run, enum llm_status status, const char *format,
                                  ...) LLM_PRINTF(3, 4);
/* Pay for work; false when the steps are used up or the run has failed already. */
bool llm_jinja_charge(struct jinja_run *run, uint64_t steps);
/* Pay for going through `bytes`. */
bool llm_jinja_charge_bytes(struct jinja_run *run, size_t bytes);
/* Enter one level of nesting, or fail; who entered leaves by --run->depth. */
bool llm_jinja_enter(struct jinja_run *run);
/* From the arena; NULL and a recorded failure when it is full. */
void *llm_jinja_take(struct jinja_run *run, size_t bytes);
/* Append to a text under construction; a recorded failure when it grows too large. */
void llm_jinja_append(struct jinja_run *run, struct llm_buffer *text, const void *bytes,
                      size_t count);
void llm_jinja_append_text(struct jinja_run *run, struct llm_buffer *text, const char *terminated);
void llm_jinja_append_string(struct jinja_run *run, struct llm_buffer *text,
                             const struct jinja_string *string);
void llm_jinja_append_code_point(struct jinja_run *run, struct llm_buffer *text, uint32_t c);
/* The finished text as a value; closes the buffer. */
struct jinja_value llm_jinja_finish(struct jinja_run *run, struct llm_buffer *text);

#endif
