#include "client/text/content_marks.h"

#include "client/text/added.h"
#include "client/text/jinja/characters.h"

/* ---- The mark ----------------------------------------------------------------------------------------------- */

static bool occurs(const char *mark, const char *text, size_t bytes)
{
    return text && memmem(text, bytes, mark, LLM_MARK_BYTES);
}

enum llm_status llm_content_marks_init(struct llm_content_marks *marks, const llm_vocab *vocab,
                                       const char *const *texts, const size_t *bytes, size_t count,
                                       llm_error *error)
{
    for (unsigned i = 0; i < 32; i++) {
        const char mark[LLM_MARK_BYTES] = {(char)0xef, (char)0xb7, (char)(0x90 + i)};
        size_t clean = 0;
        while (clean < count && !occurs(mark, texts[clean], bytes[clean]))
            clean++;
        if (clean == count) {
            marks->vocab = vocab;
            memcpy(marks->mark, mark, sizeof mark);
            return LLM_OK;
        }
    }
    return llm_fail(error, LLM_ERR_INVALID,
                    "the conversation has all of the noncharacters U+FDD0..U+FDEF");
}

/* ---- Marking ------------------------------------------------------------------------------------------------- */

/* Whether [at, end) of the string is the beginning of a longer special token. */
static bool starts_special(const llm_vocab *vocab, const char *at, size_t bytes)
{
    uint32_t i = vocab->added_start[(uint8_t)*at], stop = vocab->added_start[(uint8_t)*at + 1u];
    for (; i < stop; i++) {
        size_t token_bytes;
        const uint8_t *token = llm_vocab_token(&vocab->view, vocab->view.added[i].id, &token_bytes);
        if (vocab->view.added[i].flags & LLM_ADDED_SPECIAL && token_bytes > bytes &&
            memcmp(token, at, bytes) == 0)
            return true;
    }
    return false;
}

/* Whether the string stops inside something that could go on to be a special token. */
static bool stops_inside(const llm_vocab *vocab, const struct jinja_string *s)
{
    size_t longest = vocab->view.header->token_bytes_max;
    size_t start = s->count > longest ? s->count - longest : 0;
    for (size_t at = start; at < s->count; at++)
        if (starts_special(vocab, s->bytes + at, s->count - at))
            return true;
    return false;
}

/* The place behind the first character of the next special token at or after `from`; 0: there is none. */
static size_t next_mark(const llm_vocab *vocab, const struct jinja_string *s, size_t from)
{
    struct llm_slice text = {(const uint8_t *)s->bytes, s->count};
    struct llm_added_match match;
    while (llm_added_find(vocab, text, from, true, &match)) {
        size_t bytes;
        const uint8_t *token = llm_vocab_token(&vocab->view, match.id, &bytes);
        const char *found = memmem(s->bytes + match.start, match.end - match.start, token, bytes);
        if (found && bytes > 1 && llm_token_is_special(vocab, match.id)) {
            unsigned length;
            (void)llm_jinja_character(found, bytes, 0, &length);
            return (size_t)(found - s->bytes) + length;
        }
        from = match.end;
    }
    return 0;
}

/* The string without what looks like our mark. */
static struct jinja_value without_mark(const struct llm_content_marks *marks, struct jinja_run *run,
                                       struct jinja_value v)
{
    if (!occurs(marks->mark, v.string->bytes, v.string->count))
        return v;
    const struct jinja_string mark = {marks->mark, LLM_MARK_BYTES, 1}, nothing = {"", 0, 0};
    struct llm_buffer text = {0};
    const char *at = v.string->bytes, *end = at + v.string->count, *found;
    while ((found = memmem(at, (size_t)(end - at), mark.bytes, mark.count))) {
        llm_jinja_append(run, &text, at, (size_t)(found - at));
        llm_jinja_append_string(run, &text, &nothing);
        at = found + mark.count;
    }
    llm_jinja_append(run, &text, at, (size_t)(end - at));
    return llm_jinja_finish(run, &text);
}

static struct jinja_value mark_string(const struct llm_content_marks *marks, struct jinja_run *run,
                                      struct jinja_value v)
{
    v = without_mark(marks, run, v);
    if (!jinja_is_string(v) || !llm_jinja_charge_bytes(run, v.string->count))
        return jinja_undefined();
    const struct jinja_string *s = v.string;
    struct llm_buffer text = {0};
    size_t at = 0, place;
    while (!llm_jinja_failed(run) && (place = next_mark(marks->vocab, s, at)) > 0) {
        llm_jinja_append(run, &text, s->bytes + at, place - at);
        llm_jinja_append(run, &text, marks->mark, LLM_MARK_BYTES);
        at = place;
    }
    bool open = stops_inside(marks->vocab, s);
    if (at == 0 && !open)
        return v;
    llm_jinja_append(run, &text, s->bytes + at, s->count - at);
    if (open)
        llm_jinja_append(run, &text, marks->mark, LLM_MARK_BYTES);
    return llm_jinja_finish(run, &text);
}

struct jinja_value llm_content_mark(const struct llm_content_marks *marks, struct jinja_run *run,
                                    struct jinja_value v)
{
    if (jinja_is_string(v))
        return mark_string(marks, run, v);
    if ((v.kind != JINJA_LIST && v.kind != JINJA_DICT) || !llm_jinja_enter(run))
        return v;
    struct jinja_value copy = v.kind == JINJA_LIST
                                  ? llm_jinja_list(run, JINJA_PLAIN_LIST, v.list->count)
                                  : llm_jinja_dict(run);
    for (size_t i = 0; v.kind == JINJA_LIST && i < v.list->count && !llm_jinja_failed(run); i++)
        llm_jinja_push(run, copy, llm_content_mark(marks, run, v.list->items[i]));
    for (size_t i = 0; v.kind == JINJA_DICT && i < v.dict->count && !llm_jinja_failed(run); i++) {
        struct jinja_value key = llm_content_mark(marks, run, v.dict->entries[i].key);
        struct jinja_value value = llm_content_mark(marks, run, v.dict->entries[i].value);
        if (!llm_jinja_failed(run))
            llm_jinja_put(run, copy.dict, key, value);
    }
    run->depth--;
    return copy;
}

bool llm_content_unmark(const struct llm_content_marks *marks, struct llm_buffer *text,
                        struct llm_buffer *out_seams)
{
    size_t kept = 0, at = 0;
    while (at < text->count) {
        const uint8_t *found =
            memmem(text->bytes + at, text->count - at, marks->mark, LLM_MARK_BYTES);
        size_t end = found ? (size_t)(found - text->bytes) : text->count;
        memmove(text->bytes + kept, text->bytes + at, end - at);
        kept += end - at;
        at = end + LLM_MARK_BYTES;
        if (found && !llm_buffer_append(out_seams, &kept, sizeof kept))
            return false;
    }
    text->count = kept;
    return true;
}
