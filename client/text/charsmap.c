#include "client/text/charsmap.h"

#include "client/text/added.h"
#include "client/text/utf8.h"

#define MARK       "\xe2\x96\x81" /* U+2581 */
#define MARK_BYTES 3

/* What a beginning of the text becomes. */
struct step {
    struct llm_slice out;
    size_t used; /* bytes of the text, at least 1 */
};

bool llm_charsmap_wanted(const llm_vocab *vocab)
{
    return vocab->view.charsmap || vocab->view.header->flags & LLM_VOCAB_TRIM_SPACES;
}

/* ---- The table ------------------------------------------------------------------------------------- */

/* The longest entry that the text begins with; used is 0 when there is none. */
static struct step look_up(const struct llm_vocab_view *view, struct llm_slice text)
{
    const uint32_t *units = view->charsmap;
    struct step found = {.used = 0};
    if (!units)
        return found;
    size_t end = text.count < LLM_CHARSMAP_KEY_MAX ? text.count : LLM_CHARSMAP_KEY_MAX;
    uint32_t node = LLM_CHARSMAP_OFFSET(units[0]);
    for (size_t i = 0; i < end; i++) {
        uint32_t unit = units[node ^ text.bytes[i]];
        if (LLM_CHARSMAP_LABEL(unit) != text.bytes[i])
            break;
        node ^= text.bytes[i] ^ LLM_CHARSMAP_OFFSET(unit);
        if (LLM_CHARSMAP_HAS_VALUE(unit)) {
            const char *out = view->charsmap_text + LLM_CHARSMAP_VALUE(units[node]);
            found = (struct step){{(const uint8_t *)out, strlen(out)}, i + 1};
        }
    }
    return found;
}

/* ---- User-defined pieces --------------------------------------------------------------------------- */

static bool is_mark(struct llm_slice text)
{
    return text.count >= MARK_BYTES && memcmp(text.bytes, MARK, MARK_BYTES) == 0;
}

/* A user-defined piece at the text's beginning. Pieces are stored with spaces for marks, but here only a mark is
 * one: so the text is shown to the search as pieces are stored, with its own spaces as something else. */
static size_t user_defined(const llm_vocab *vocab, struct llm_slice text)
{
    uint8_t first = is_mark(text) ? ' ' : text.bytes[0];
    if (vocab->inside_count == 0 || vocab->added_start[first] == vocab->added_start[first + 1u])
        return 0;
    uint8_t shown[LLM_VOCAB_TOKEN_BYTES_MAX];
    size_t bytes = 0, longest = 0;
    struct llm_slice rest = text;
    while (rest.count > 0 && bytes < vocab->view.header->token_bytes_max) {
        size_t take = is_mark(rest) ? MARK_BYTES : 1;
        shown[bytes++] = take > 1 ? ' ' : rest.bytes[0] == ' ' ? 0xff : rest.bytes[0];
        rest.bytes += take;
        rest.count -= take;
    }
    if (llm_added_longest(&vocab->view, vocab->added_start, (struct llm_slice){shown, bytes}, true,
                          &longest) == LLM_TOKEN_NONE)
        return 0;
    size_t used = 0;
    for (size_t i = 0; i < longest; i++)
        used += shown[i] == ' ' ? MARK_BYTES : 1;
    return used;
}

static struct step next_step(const llm_vocab *vocab, struct llm_slice text)
{
    size_t kept = user_defined(vocab, text);
    struct step step = {.used = 0};
    if (kept == 0)
        step = look_up(&vocab->view, text);
    if (step.used == 0) {
        step.used = kept > 0 ? kept : llm_utf8_length(text.bytes[0]);
        step.out = (struct llm_slice){text.bytes, step.used};
    }
    return step;
}

/* ---- Spaces ---------------------------------------------------------------------------------------- */

static bool append_unmarked(struct llm_buffer *buffer, struct llm_slice text)
{
    while (text.count > 0) {
        size_t take = is_mark(text) ? MARK_BYTES : 1;
        if (!llm_buffer_append(buffer, take > 1 ? (const void *)" " : text.bytes, 1))
            return false;
        text.bytes += take;
        text.count -= take;
    }
    return true;
}

static struct llm_slice without(struct llm_slice text, size_t bytes)
{
    return (struct llm_slice){text.bytes + bytes, text.count - bytes};
}

static bool is_space(struct llm_slice text)
{
    return text.count == 1 && text.bytes[0] == ' ';
}

bool llm_charsmap_normalize(const llm_vocab *vocab, struct llm_slice text, bool prefix,
                            struct llm_buffer *buffer)
{
    bool trim = vocab->view.header->flags & LLM_VOCAB_TRIM_SPACES;
    bool after_space = trim; /* spaces that follow are dropped */
    struct step step;
    buffer->count = 0;
    while (trim && text.count > 0 && is_space((step = next_step(vocab, text)).out))
        text = without(text, step.used);
    if (text.count == 0)
        return true;
    if (prefix && !llm_buffer_append(buffer, " ", 1))
        return false;
    while (text.count > 0) {
        step = next_step(vocab, text);
        while (after_space && step.out.count > 0 && step.out.bytes[0] == ' ')
            step.out = without(step.out, 1);
        if (!append_unmarked(buffer, step.out))
            return false;
        if (trim && step.out.count > 0)
            after_space = step.out.bytes[step.out.count - 1] == ' ';
        text = without(text, step.used);
    }
    while (trim && buffer->count > 0 && buffer->bytes[buffer->count - 1] == ' ')
        buffer->count--;
    return true;
}
