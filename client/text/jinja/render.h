/*
 * render.h - a template from its text to its output.
 *
 * Owner    llm_template_open() to llm_template_close(): the source and the tree, in one arena. A rendering has an arena
 *          of its own, which goes with it.
 * Threads  A template is constant once opened: any number of threads may render it at once.
 * See      client/text.h ("Chat templates"), run.h for the limits.
 */
#ifndef LLM_CLIENT_TEXT_JINJA_RENDER_H
#define LLM_CLIENT_TEXT_JINJA_RENDER_H

#include "client/text.h"
#include "client/text/jinja/syntax.h"

struct llm_template {
    struct jinja_arena arena;
    const char *source;
    size_t source_bytes;
    const struct jinja_node *root;
    char *bos_token, *eos_token; /* of the vocabulary that the template came with, or NULL */
};

/* Make a run that renders `t`; its arena is the caller's, empty, to be closed after use. */
void llm_jinja_run_init(struct jinja_run *run, struct jinja_arena *arena, const llm_template *t,
                        llm_error *error);
/* The output of `t` with run->variables, appended to `out`. */
LLM_MUST_CHECK enum llm_status llm_jinja_render(struct jinja_run *run, const llm_template *t,
                                                struct llm_buffer *out);

/*
 * Render with all variables given as one JSON object.
 *
 *   now_s    strftime_now() shows this time (seconds since 1970, UTC); NULL: the clock's, in local time
 *   out      appended to; the caller closes it, also after a failure
 *   returns  as llm_template_render()
 */
LLM_MUST_CHECK enum llm_status
llm_template_render_json(const llm_template *t, const char *variables, size_t variables_bytes,
                         const int64_t *now_s, struct llm_buffer *out, llm_error *error);

#endif
