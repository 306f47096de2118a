/* Conversations through a chat template: as text, and as tokens. */
#include <stdio.h>

#include "client/text/content_marks.h"
#include "client/text/jinja/filters.h"
#include "client/text/jinja/json_read.h"
#include "client/text/jinja/render.h"

/* ---- The template of a vocabulary ------------------------------------------------------------------------------ */

/* A token's text, terminated; empty for no token. NULL: no memory. */
static char *token_copy(const llm_vocab *vocab, uint32_t id)
{
    size_t bytes = 0;
    const uint8_t *token = id == LLM_TOKEN_NONE ? NULL : llm_vocab_token(&vocab->view, id, &bytes);
    char *copy = calloc(1, bytes + 1);
    if (copy && bytes > 0)
        memcpy(copy, token, bytes);
    return copy;
}

enum llm_status llm_template_open_vocab(const llm_vocab *vocab, llm_template **out_template,
                                        llm_error *error)
{
    const struct llm_vocab_view *view = &vocab->view;
    if (view->template_bytes == 0)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "model \"%s\" came without a chat template",
                        view->header->name);
    llm_template *t = NULL;
    enum llm_status status =
        llm_template_open(view->chat_template, view->template_bytes, &t, error);
    if (status != LLM_OK)
        return status;
    t->bos_token = token_copy(vocab, view->header->template_bos_id);
    t->eos_token = token_copy(vocab, view->header->template_eos_id);
    if (!t->bos_token || !t->eos_token) {
        llm_template_close(t);
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a chat template");
    }
    *out_template = t;
    return LLM_OK;
}

/* ---- Variables -------------------------------------------------------------------------------------------------- */

/* One rendering. */
struct rendering {
    struct jinja_run run;
    struct jinja_arena arena;
    const llm_template *t;
    const llm_render_options *options;
    const struct llm_content_marks *marks; /* NULL: none are made */
};

static void put(struct rendering *r, const char *name, struct jinja_value v)
{
    struct jinja_value key = llm_jinja_text(&r->run, name);
    if (!llm_jinja_failed(&r->run))
        llm_jinja_put(&r->run, r->run.variables.dict, key, v);
}

/* JSON that must be of a kind; marked where content is. */
static struct jinja_value read_json(struct rendering *r, const char *json, enum jinja_kind kind,
                                    const char *what)
{
    struct jinja_value v = llm_jinja_read_json(&r->run, json, strlen(json), what);
    if (!llm_jinja_failed(&r->run) && v.kind != kind)
        r->run.status = llm_fail(r->run.error, LLM_ERR_INVALID, "%s: the JSON is no %s", what,
                                 kind == JINJA_LIST ? "list" : "object");
    return llm_jinja_failed(&r->run) ? jinja_undefined() : v;
}

static struct jinja_value read_content(struct rendering *r, const char *json, const char *what)
{
    struct jinja_value v = read_json(r, json, JINJA_LIST, what);
    return r->marks && !llm_jinja_failed(&r->run) ? llm_content_mark(r->marks, &r->run, v) : v;
}

static struct jinja_value token_text(struct rendering *r, const char *wanted, const char *own)
{
    const char *text = wanted ? wanted : own ? own : "";
    return llm_jinja_text(&r->run, text);
}

/* What transformers gives a template, in the names that it has there. */
static void set_variables(struct rendering *r, const char *messages)
{
    const llm_render_options *o = r->options;
    r->run.variables = llm_jinja_dict(&r->run);
    put(r, "messages", read_content(r, messages, "messages"));
    put(r, "tools", o->tools ? read_content(r, o->tools, "tools") : jinja_none());
    put(r, "documents", jinja_none());
    put(r, "add_generation_prompt", jinja_bool(o->flags & LLM_RENDER_GENERATION_PROMPT));
    put(r, "bos_token", token_text(r, o->bos_token, r->t->bos_token));
    put(r, "eos_token", token_text(r, o->eos_token, r->t->eos_token));
    if (!o->variables || llm_jinja_failed(&r->run))
        return;
    struct jinja_value more = read_json(r, o->variables, JINJA_DICT, "variables");
    for (size_t i = 0; !llm_jinja_failed(&r->run) && i < more.dict->count; i++)
        llm_jinja_put(&r->run, r->run.variables.dict, more.dict->entries[i].key,
                      more.dict->entries[i].value);
}

/* ---- A final message that goes on ---------------------------------------------------------------------------------- */

/* The text of the last message: its content, or the last of its parts that has a text. */
static struct jinja_value final_text(struct rendering *r)
{
    struct jinja_entry *messages = llm_jinja_find_text(&r->run, r->run.variables.dict, "messages");
    const struct jinja_list *list = messages->value.list;
    struct jinja_value v = jinja_undefined();
    if (list->count > 0 && list->items[list->count - 1].kind == JINJA_DICT) {
        const struct jinja_entry *e =
            llm_jinja_find_text(&r->run, list->items[list->count - 1].dict, "content");
        v = e ? e->value : v;
    }
    const struct jinja_list *parts = v.kind == JINJA_LIST ? v.list : NULL;
    for (size_t i = parts ? parts->count : 0; i > 0; i--) {
        const struct jinja_entry *e =
            parts->items[i - 1].kind == JINJA_DICT
                ? llm_jinja_find_text(&r->run, parts->items[i - 1].dict, "text")
                : NULL;
        if (e)
            return e->value;
    }
    return v;
}

/* The last place of `piece` in `text`, or SIZE_MAX. Pays for each place: one repeated letter has many. */
static size_t find_last(struct jinja_run *run, const struct llm_buffer *text,
                        const struct jinja_string *piece)
{
    size_t found = SIZE_MAX;
    for (size_t at = 0;
         piece->count > 0 && at < text->count && llm_jinja_charge_bytes(run, piece->count);) {
        const uint8_t *next =
            memmem(text->bytes + at, text->count - at, piece->bytes, piece->count);
        if (!next)
            break;
        found = (size_t)(next - text->bytes);
        at = found + 1;
    }
    return found;
}

/* Cut behind the final message's text: with the white space at its end where the template kept that. */
static enum llm_status cut_behind_final(struct rendering *r, struct llm_buffer *out)
{
    struct jinja_value text = final_text(r);
    if (!jinja_is_string(text))
        return llm_fail(r->run.error, LLM_ERR_INVALID,
                        "the final message has no text that could be continued");
    struct jinja_value bare = llm_jinja_strip(&r->run, text, NULL, JINJA_BOTH);
    struct jinja_value tail = llm_jinja_strip(&r->run, text, NULL, JINJA_LEFT);
    if (llm_jinja_failed(&r->run))
        return r->run.status;
    size_t at = find_last(&r->run, out, bare.string);
    if (llm_jinja_failed(&r->run))
        return r->run.status;
    if (at == SIZE_MAX)
        return llm_fail(r->run.error, LLM_ERR_INVALID,
                        "the final message's text is empty, or the template changes it: it cannot "
                        "be continued");
    bool kept = out->count - at >= tail.string->count &&
                memcmp(out->bytes + at, tail.string->bytes, tail.string->count) == 0;
    out->count = at + (kept ? tail.string->count : bare.string->count);
    return LLM_OK;
}

/* ---- Text and tokens -------------------------------------------------------------------------------------------------- */

static enum llm_status check_options(const llm_render_options *options, llm_error *error)
{
    const uint32_t known = LLM_RENDER_GENERATION_PROMPT | LLM_RENDER_CONTINUE_FINAL;
    if (options->flags & ~known || options->reserved != 0)
        return llm_fail(error, LLM_ERR_INVALID, "unknown render flags 0x%x", options->flags);
    if (options->flags == known)
        return llm_fail(error, LLM_ERR_INVALID,
                        "a final message cannot go on and be answered at once");
    return LLM_OK;
}

static const llm_render_options no_options;

static enum llm_status render(const llm_template *t, const char *messages,
                              const llm_render_options *options,
                              const struct llm_content_marks *marks, struct llm_buffer *out,
                              llm_error *error)
{
    struct rendering r = {.t = t, .options = options, .marks = marks};
    llm_jinja_run_init(&r.run, &r.arena, t, error);
    r.run.now_given = options->now_s != 0;
    r.run.now_s = options->now_s;
    set_variables(&r, messages);
    enum llm_status status = r.run.status;
    if (status == LLM_OK)
        status = llm_jinja_render(&r.run, t, out);
    if (status == LLM_OK && options->flags & LLM_RENDER_CONTINUE_FINAL)
        status = cut_behind_final(&r, out);
    llm_jinja_arena_close(&r.arena);
    return status;
}

enum llm_status llm_template_render(const llm_template *t, const char *messages,
                                    const llm_render_options *options, char **out_text,
                                    size_t *out_bytes, llm_error *error)
{
    struct llm_buffer out = {0};
    options = options ? options : &no_options;
    enum llm_status status = check_options(options, error);
    if (status == LLM_OK)
        status = render(t, messages, options, NULL, &out, error);
    if (status == LLM_OK && !llm_buffer_append(&out, "", 1))
        status = llm_fail(error, LLM_ERR_MEMORY, "no memory for a text of %zu bytes", out.count);
    if (status == LLM_OK) {
        *out_text = (char *)out.bytes;
        *out_bytes = out.count - 1;
    } else {
        llm_buffer_close(&out);
    }
    return status;
}

static enum llm_status encode(const llm_vocab *vocab, const struct llm_buffer *text,
                              const struct llm_buffer *seams, uint32_t **out_tokens,
                              size_t *out_count, llm_error *error)
{
    const char *bytes = (const char *)text->bytes;
    const size_t *places = (const size_t *)(const void *)seams->bytes;
    size_t place_count = seams->count / sizeof *places, count = 0;
    enum llm_status status = llm_encode_seamed(vocab, bytes, text->count, LLM_ENCODE_SPECIAL,
                                               places, place_count, NULL, 0, &count, error);
    if (status != LLM_OK)
        return status;
    uint32_t *tokens = malloc((count + 1) * sizeof *tokens); /* + 1: an empty text is no NULL */
    if (!tokens)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %zu tokens", count);
    status = llm_encode_seamed(vocab, bytes, text->count, LLM_ENCODE_SPECIAL, places, place_count,
                               tokens, count, &count, error);
    if (status != LLM_OK) {
        free(tokens);
        return status;
    }
    *out_tokens = tokens;
    *out_count = count;
    return LLM_OK;
}

enum llm_status llm_template_encode(const llm_template *t, const llm_vocab *vocab,
                                    const char *messages, const llm_render_options *options,
                                    uint32_t **out_tokens, size_t *out_count, llm_error *error)
{
    options = options ? options : &no_options;
    const char *const texts[] = {t->source, options->variables, options->bos_token,
                                 options->eos_token};
    const size_t bytes[] = {t->source_bytes, options->variables ? strlen(options->variables) : 0,
                            options->bos_token ? strlen(options->bos_token) : 0,
                            options->eos_token ? strlen(options->eos_token) : 0};
    struct llm_content_marks marks;
    struct llm_buffer text = {0}, seams = {0};
    enum llm_status status = check_options(options, error);
    if (status == LLM_OK)
        status = llm_content_marks_init(&marks, vocab, texts, bytes, 4, error);
    if (status == LLM_OK)
        status = render(t, messages, options, &marks, &text, error);
    if (status == LLM_OK && !llm_content_unmark(&marks, &text, &seams))
        status = llm_fail(error, LLM_ERR_MEMORY, "no memory for a conversation's seams");
    if (status == LLM_OK)
        status = encode(vocab, &text, &seams, out_tokens, out_count, error);
    llm_buffer_close(&text);
    llm_buffer_close(&seams);
    return status;
}

void llm_text_free(void *text)
{
    free(text);
}
