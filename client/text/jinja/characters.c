#include "client/text/jinja/characters.h"

#include <utf8proc.h>

#include "client/text/utf8.h"

uint32_t llm_jinja_character(const char *bytes, size_t count, size_t at, unsigned *length)
{
    const uint8_t *text = (const uint8_t *)bytes + at;
    *length = llm_utf8_length(*text);
    if (*length == 0 || *length > count - at) /* not reached: strings are well-formed */
        *length = 1;
    return llm_utf8_code_point(text, *length);
}

size_t llm_jinja_place(const struct jinja_string *string, size_t index)
{
    if (string->characters == string->count)
        return index;
    size_t at = 0;
    for (unsigned length; index > 0 && at < string->count; index--) {
        (void)llm_jinja_character(string->bytes, string->count, at, &length);
        at += length;
    }
    return at;
}

bool llm_jinja_is_space(uint32_t c)
{
    if (c < 0x80)
        return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool llm_jinja_is_line_end(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

static utf8proc_category_t category(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c);
}

bool llm_jinja_is_letter(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool llm_jinja_is_digit(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool llm_jinja_is_upper(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_LU;
}

bool llm_jinja_is_lower(uint32_t c)
{
    return category(c) == UTF8PROC_CATEGORY_LL;
}

bool llm_jinja_is_printable(uint32_t c)
{
    if (c < 0x7f)
        return c >= 0x20;
    utf8proc_category_t k = category(c);
    return k != UTF8PROC_CATEGORY_CN && !(k >= UTF8PROC_CATEGORY_ZS && k <= UTF8PROC_CATEGORY_CO);
}

bool llm_jinja_is_name(uint32_t c, bool first)
{
    if (c < 0x80)
        return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               (!first && c >= '0' && c <= '9');
    utf8proc_category_t k = category(c);
    return llm_jinja_is_letter(c) || k == UTF8PROC_CATEGORY_NL ||
           (!first && (k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC ||
                       k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_PC));
}

/* ---- Cases ------------------------------------------------------------------------------------------ */

static void append_upper(struct jinja_run *run, struct llm_buffer *out, uint32_t c, bool title)
{
    if (c == 0xdf)
        llm_jinja_append_text(run, out, title ? "Ss" : "SS");
    else
        llm_jinja_append_code_point(run, out,
                                    (uint32_t)(title ? utf8proc_totitle((utf8proc_int32_t)c)
                                                     : utf8proc_toupper((utf8proc_int32_t)c)));
}

static void append_lower(struct jinja_run *run, struct llm_buffer *out, uint32_t c)
{
    if (c == 0x130)
        llm_jinja_append_text(run, out, "i\xcc\x87");
    else
        llm_jinja_append_code_point(run, out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

static bool has_case(uint32_t c)
{
    utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

struct jinja_value llm_jinja_change_case(struct jinja_run *run, struct jinja_value v,
                                         enum jinja_case wanted)
{
    struct llm_buffer out = {0};
    bool word_start = true;
    const struct jinja_string *s = v.string;
    unsigned length;
    for (size_t at = 0; at < s->count && !llm_jinja_failed(run); at += length) {
        uint32_t c = llm_jinja_character(s->bytes, s->count, at, &length);
        bool first = wanted == JINJA_TITLE ? word_start : at == 0;
        if (wanted == JINJA_UPPER || (wanted == JINJA_SWAP && llm_jinja_is_lower(c)))
            append_upper(run, &out, c, false);
        else if ((wanted == JINJA_TITLE || wanted == JINJA_CAPITALIZE) && first)
            append_upper(run, &out, c, true);
        else if (wanted == JINJA_SWAP && !llm_jinja_is_upper(c))
            llm_jinja_append(run, &out, s->bytes + at, length);
        else
            append_lower(run, &out, c);
        word_start = !has_case(c);
    }
    struct jinja_value changed = llm_jinja_finish(run, &out);
    changed.flavor = jinja_is_string(changed) ? v.flavor : changed.flavor;
    return changed;
}
