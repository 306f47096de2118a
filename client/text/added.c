#include "client/text/added.h"

#include <utf8proc.h>

#include "client/text/utf8.h"

/* ---- Neighbouring characters ---------------------------------------------------------------------- */

static bool is_white_space(uint32_t c) /* the Unicode property White_Space */
{
    return (c >= 0x09 && c <= 0x0d) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

static bool is_word(uint32_t c) /* letters, marks, decimal digits, connectors */
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) ||
           category == UTF8PROC_CATEGORY_PC;
}

/* Length and code point of the character after / before `at`; 0 when there is none or it is not UTF-8. */
static unsigned after(struct llm_slice text, size_t at, uint32_t *out_c)
{
    unsigned length = at < text.count ? llm_utf8_character(text.bytes + at, text.count - at) : 0;
    if (length)
        *out_c = llm_utf8_code_point(text.bytes + at, length);
    return length;
}

static unsigned before(struct llm_slice text, size_t at, uint32_t *out_c)
{
    for (unsigned length = 1; length <= 4 && length <= at; length++)
        if (llm_utf8_character(text.bytes + at - length, length) == length) {
            *out_c = llm_utf8_code_point(text.bytes + at - length, length);
            return length;
        }
    return 0;
}

/* ---- Matching ------------------------------------------------------------------------------------- */

static int byte_at(const struct llm_vocab_view *view, uint32_t index, size_t at)
{
    size_t bytes;
    const uint8_t *token = llm_vocab_token(view, view->added[index].id, &bytes);
    return at < bytes ? token[at] : -1;
}

/* The first of [low, high) whose byte `at` is at least `byte`; they ascend in it. */
static uint32_t lower_bound(const struct llm_vocab_view *view, uint32_t low, uint32_t high,
                            size_t at, int byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (byte_at(view, middle, at) < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t llm_added_longest(const struct llm_vocab_view *view, const uint32_t start[257],
                           struct llm_slice text, bool inside, size_t *out_bytes)
{
    uint32_t low = start[text.bytes[0]];
    uint32_t high = start[text.bytes[0] + 1u];
    uint32_t best = LLM_TOKEN_NONE;
    for (size_t depth = 1; low < high; depth++) {
        /* All of [low, high) agree with the text in `depth` bytes; one that ends here is the first. */
        if (byte_at(view, low, depth) < 0) {
            if (!(view->added[low].flags & LLM_ADDED_INSIDE) == !inside) {
                best = low;
                *out_bytes = depth;
            }
            low++;
        }
        if (depth == text.count)
            break;
        low = lower_bound(view, low, high, depth, text.bytes[depth]);
        high = lower_bound(view, low, high, depth, text.bytes[depth] + 1);
    }
    return best;
}

static bool stands_alone(struct llm_slice text, size_t start, size_t end)
{
    uint32_t c;
    return !(before(text, start, &c) && is_word(c)) && !(after(text, end, &c) && is_word(c));
}

bool llm_added_find(const llm_vocab *vocab, struct llm_slice text, size_t from, bool special,
                    struct llm_added_match *out_match)
{
    if (vocab->view.header->added_count == vocab->inside_count)
        return false;
    for (size_t at = from; at < text.count; at++) {
        size_t bytes = 0;
        if (vocab->added_start[text.bytes[at]] == vocab->added_start[text.bytes[at] + 1u])
            continue;
        uint32_t index =
            llm_added_longest(&vocab->view, vocab->added_start,
                              (struct llm_slice){text.bytes + at, text.count - at}, false, &bytes);
        if (index == LLM_TOKEN_NONE)
            continue;
        const struct llm_vocab_added *added = &vocab->view.added[index];
        size_t start = at, end = at + bytes;
        bool plain = (added->flags & LLM_ADDED_SPECIAL && !special) ||
                     (added->flags & LLM_ADDED_SINGLE_WORD && !stands_alone(text, start, end));
        if (plain) { /* all of it is plain text, shorter tokens inside it too */
            at = end - 1;
            continue;
        }
        uint32_t c;
        unsigned length;
        if (added->flags & LLM_ADDED_STRIP_LEFT)
            while ((length = before(text, start, &c)) && start - length >= from &&
                   is_white_space(c))
                start -= length;
        if (added->flags & LLM_ADDED_STRIP_RIGHT)
            while ((length = after(text, end, &c)) && is_white_space(c))
                end += length;
        *out_match = (struct llm_added_match){.id = added->id, .start = start, .end = end};
        return true;
    }
    return false;
}
