#include "client/text/jinja/render.h"

#include "client/text/jinja/interpret.h"
#include "client/text/jinja/json_read.h"
#include "client/text/jinja/parse.h"
#include "client/text/utf8.h"

#define SOURCE_BYTES_MAX ((size_t)4 << 20)

/* ---- Opening ----------------------------------------------------------------------------------------------------------- */

/* The text with \n for every newline and without one at its end, as the language has it. */
static void take_source(struct jinja_run *run, const char *text, size_t bytes)
{
    char *copy = llm_jinja_take(run, bytes);
    if (!copy)
        return;
    size_t used = 0;
    for (size_t i = 0; i < bytes; i++) {
        copy[used++] = (char)(text[i] == '\r' ? '\n' : text[i]);
        if (text[i] == '\r' && i + 1 < bytes && text[i + 1] == '\n')
            i++;
    }
    if (used > 0 && copy[used - 1] == '\n')
        used--;
    run->source = copy;
    run->source_bytes = used;
}

static bool check_utf8(struct jinja_run *run)
{
    const uint8_t *text = (const uint8_t *)run->source;
    for (size_t at = 0; at < run->source_bytes;) {
        unsigned length = llm_utf8_character(text + at, run->source_bytes - at);
        if (length == 0) {
            run->at = (uint32_t)at;
            (void)llm_jinja_fail(run, LLM_ERR_INVALID, "byte 0x%02x is not UTF-8", text[at]);
            return false;
        }
        at += length;
    }
    return true;
}

enum llm_status llm_template_open(const char *text, size_t text_bytes, llm_template **out_template,
                                  llm_error *error)
{
    if (text_bytes > SOURCE_BYTES_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "a chat template of %zu bytes; at most %zu",
                        text_bytes, SOURCE_BYTES_MAX);
    llm_template *t = calloc(1, sizeof *t);
    if (!t)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a chat template");
    t->arena.limit_bytes = JINJA_TEMPLATE_BYTES_MAX;
    struct jinja_run run = {
        .arena = &t->arena, .error = error, .steps_left = JINJA_STEPS_MAX, .source = ""};
    take_source(&run, text, text_bytes);
    if (!llm_jinja_failed(&run) && check_utf8(&run))
        t->root = llm_jinja_parse(&run);
    t->source = run.source;
    t->source_bytes = run.source_bytes;
    if (run.status == LLM_OK)
        *out_template = t;
    else
        llm_template_close(t);
    return run.status;
}

void llm_template_close(llm_template *t)
{
    if (!t)
        return;
    llm_jinja_arena_close(&t->arena);
    free(t->bos_token);
    free(t->eos_token);
    free(t);
}

/* ---- Rendering --------------------------------------------------------------------------------------------------------- */

void llm_jinja_run_init(struct jinja_run *run, struct jinja_arena *arena, const llm_template *t,
                        llm_error *error)
{
    *arena = (struct jinja_arena){.limit_bytes = JINJA_RUN_BYTES_MAX};
    *run = (struct jinja_run){.arena = arena,
                              .source = t->source,
                              .source_bytes = t->source_bytes,
                              .steps_left = JINJA_STEPS_MAX,
                              .error = error};
}

enum llm_status llm_jinja_render(struct jinja_run *run, const llm_template *t,
                                 struct llm_buffer *out)
{
    run->out = out;
    run->scope = llm_jinja_scope(run, NULL);
    if (run->scope)
        (void)llm_jinja_run_body(run, t->root->list);
    return run->status;
}

enum llm_status llm_template_render_json(const llm_template *t, const char *variables,
                                         size_t variables_bytes, const int64_t *now_s,
                                         struct llm_buffer *out, llm_error *error)
{
    struct jinja_arena arena;
    struct jinja_run run;
    llm_jinja_run_init(&run, &arena, t, error);
    run.now_given = now_s != NULL;
    run.now_s = now_s ? *now_s : 0;
    run.variables = llm_jinja_read_json(&run, variables, variables_bytes, "variables");
    if (run.status == LLM_OK && run.variables.kind != JINJA_DICT)
        run.status = llm_fail(error, LLM_ERR_INVALID, "variables: the JSON is no object");
    if (run.status == LLM_OK)
        run.status = llm_jinja_render(&run, t, out);
    llm_jinja_arena_close(&arena);
    return run.status;
}
