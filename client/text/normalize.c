#include "client/text/normalize.h"

#include <utf8proc.h>

#include "client/text/charsmap.h"
#include "client/text/utf8.h"

#define MARK       "\xe2\x96\x81" /* U+2581 */
#define MARK_BYTES 3

static bool replace(struct llm_slice text, const char *from, size_t from_bytes, const char *to,
                    size_t to_bytes, struct llm_buffer *buffer)
{
    buffer->count = 0;
    const uint8_t *at = text.bytes, *end = text.bytes + text.count, *hit;
    while ((hit = memmem(at, (size_t)(end - at), from, from_bytes)) != NULL) {
        if (!llm_buffer_append(buffer, at, (size_t)(hit - at)) ||
            !llm_buffer_append(buffer, to, to_bytes))
            return false;
        at = hit + from_bytes;
    }
    return llm_buffer_append(buffer, at, (size_t)(end - at));
}

bool llm_mark_spaces(struct llm_slice text, struct llm_buffer *buffer)
{
    return replace(text, " ", 1, MARK, MARK_BYTES, buffer);
}

bool llm_unmark_spaces(struct llm_slice text, struct llm_buffer *buffer)
{
    return replace(text, MARK, MARK_BYTES, " ", 1, buffer);
}

/* ---- Normal forms --------------------------------------------------------------------------------- */

/* Blocks in which no character changes under NFC, reorders, or composes with the one before it (UAX 15,
 * NFC_Quick_Check=Yes and combining class 0): most of what is written needs no work. */
static bool is_inert(uint32_t c)
{
    return c < 0x300 || (c >= 0x388 && c <= 0x482) || (c >= 0x2010 && c <= 0x206f) ||
           (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xac00 && c <= 0xd7a3) ||
           (c >= 0x1f300 && c <= 0x1faff);
}

/* Whether the text surely has the form already; all forms leave ASCII alone. */
static bool is_normal(struct llm_slice text, uint32_t form)
{
    for (size_t i = 0; i < text.count;) {
        unsigned length = llm_utf8_length(text.bytes[i]);
        if (length > 1 &&
            (form != LLM_VOCAB_FORM_NFC || !is_inert(llm_utf8_code_point(text.bytes + i, length))))
            return false;
        i += length;
    }
    return true;
}

static utf8proc_option_t form_options(uint32_t form)
{
    static const int options[] = {
        [LLM_VOCAB_FORM_NONE] = 0,
        [LLM_VOCAB_FORM_NFC] = UTF8PROC_COMPOSE,
        [LLM_VOCAB_FORM_NFD] = UTF8PROC_DECOMPOSE,
        [LLM_VOCAB_FORM_NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [LLM_VOCAB_FORM_NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    return (utf8proc_option_t)(UTF8PROC_STABLE | options[form]);
}

static bool append_normal(struct llm_slice text, uint32_t form, struct llm_buffer *buffer)
{
    uint8_t *normal = NULL;
    utf8proc_ssize_t bytes = utf8proc_map(text.bytes, (utf8proc_ssize_t)text.count, &normal,
                                          form_options(form)); /* fails only for want of memory */
    bool done = bytes >= 0 && llm_buffer_append(buffer, normal, (size_t)bytes);
    free(normal);
    return done;
}

/* utf8proc up to 2.10 loses U+11A7 after a Hangul syllable: it takes it for the "no final consonant" of the
 * composition formula. The character composes with nothing, so the text is cut around it. */
static bool normal_form(struct llm_slice text, uint32_t form, struct llm_buffer *buffer)
{
    static const char lost[] = "\xe1\x86\xa7";
    buffer->count = 0;
    const uint8_t *at = text.bytes, *end = text.bytes + text.count, *hit;
    while ((hit = memmem(at, (size_t)(end - at), lost, 3)) != NULL) {
        if (!append_normal((struct llm_slice){at, (size_t)(hit - at)}, form, buffer) ||
            !llm_buffer_append(buffer, lost, 3))
            return false;
        at = hit + 3;
    }
    return append_normal((struct llm_slice){at, (size_t)(end - at)}, form, buffer);
}

/* ---- All of it ------------------------------------------------------------------------------------ */

static bool starts_with_space(struct llm_slice text, bool marks)
{
    return (text.count > 0 && text.bytes[0] == ' ') ||
           (marks && text.count >= MARK_BYTES && memcmp(text.bytes, MARK, MARK_BYTES) == 0);
}

/* The three changes one after the other; each works from `text` into its own buffer. */
static bool change(const llm_vocab *vocab, bool prefix, struct llm_slice *text,
                   struct llm_buffer *buffer)
{
    const struct llm_vocab_header *h = vocab->view.header;
    bool marks = h->flags & LLM_VOCAB_SPACE_MARKS;
    struct llm_buffer form = {0}, spaces = {0};
    bool done = true;
    if (h->normal_form != LLM_VOCAB_FORM_NONE && !is_normal(*text, h->normal_form)) {
        done = normal_form(*text, h->normal_form, &form);
        *text = (struct llm_slice){form.bytes, form.count};
    }
    if (done && marks && text->count > 0 && memmem(text->bytes, text->count, MARK, MARK_BYTES)) {
        done = llm_unmark_spaces(*text, &spaces);
        *text = (struct llm_slice){spaces.bytes, spaces.count};
    }
    if (prefix && h->flags & LLM_VOCAB_PREFIX_UNLESS && starts_with_space(*text, marks))
        prefix = false;
    if (done && (prefix || form.bytes || spaces.bytes)) {
        buffer->count = 0;
        done = (!prefix || llm_buffer_append(buffer, " ", 1)) &&
               llm_buffer_append(buffer, text->bytes, text->count);
        *text = (struct llm_slice){buffer->bytes, buffer->count};
    }
    llm_buffer_close(&form);
    llm_buffer_close(&spaces);
    return done;
}

enum llm_status llm_normalize(const llm_vocab *vocab, struct llm_slice text, bool prefix,
                              struct llm_buffer *buffer, struct llm_slice *out_text,
                              llm_error *error)
{
    size_t bytes = text.count;
    prefix = prefix && vocab->view.header->flags & LLM_VOCAB_PREFIX_SPACE;
    if (llm_charsmap_wanted(vocab)) {
        if (!llm_charsmap_normalize(vocab, text, prefix, buffer))
            return llm_fail(error, LLM_ERR_MEMORY, "no memory to normalise %zu bytes of text",
                            bytes);
        *out_text = (struct llm_slice){buffer->bytes, buffer->count};
        return LLM_OK;
    }
    if (!change(vocab, prefix, &text, buffer))
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to normalise %zu bytes of text", bytes);
    *out_text = text;
    return LLM_OK;
}
