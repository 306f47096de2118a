#include "client/text/jinja/json_read.h"

#include "client/text/jinja/numbers.h"
#include "client/text/utf8.h"

struct json_reader {
    struct jinja_run *run;
    const char *text;
    size_t bytes, next;
    const char *what;
};

static struct jinja_value read_value(struct json_reader *r);

/* A fault of the text, not of the template: without a template's line. */
static struct jinja_value bad(struct json_reader *r, const char *sentence)
{
    if (!llm_jinja_failed(r->run))
        r->run->status = llm_fail(r->run->error, LLM_ERR_INVALID, "%s: %s at byte %zu of the JSON",
                                  r->what, sentence, r->next);
    return jinja_undefined();
}

static void skip_space(struct json_reader *r)
{
    while (r->next < r->bytes && r->text[r->next] && strchr(" \t\n\r", r->text[r->next]))
        r->next++;
}

static bool skip(struct json_reader *r, char c)
{
    skip_space(r);
    bool here = r->next < r->bytes && r->text[r->next] == c;
    r->next += here;
    return here;
}

/* ---- Strings ----------------------------------------------------------------------------------------------------- */

/* "\ud83d\ude00" or "\u00e9", behind the "\u". */
static void read_code(struct json_reader *r, struct llm_buffer *text)
{
    uint32_t c, low;
    if (!llm_jinja_read_hex(r->text + r->next, r->bytes - r->next, 4, &c)) {
        (void)bad(r, "a broken \\u escape");
        return;
    }
    r->next += 4;
    if (c >= 0xd800 && c < 0xe000) {
        bool pair = c < 0xdc00 && r->bytes - r->next >= 6 && r->text[r->next] == '\\' &&
                    r->text[r->next + 1] == 'u' &&
                    llm_jinja_read_hex(r->text + r->next + 2, 4, 4, &low) && low >= 0xdc00 &&
                    low < 0xe000;
        if (!pair) {
            (void)bad(r, "half of a surrogate pair");
            return;
        }
        r->next += 6;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    llm_jinja_append_code_point(r->run, text, c);
}

static void read_escape(struct json_reader *r, struct llm_buffer *text)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char letter = r->next < r->bytes ? r->text[r->next] : 0;
    const char *known = letter ? strchr(letters, letter) : NULL;
    r->next++;
    if (letter == 'u')
        read_code(r, text);
    else if (known)
        llm_jinja_append(r->run, text, &meant[known - letters], 1);
    else
        (void)bad(r, "an escape that JSON does not have");
}

/* Over characters that stand for themselves; false: one that may not stand there. */
static bool skip_plain(struct json_reader *r)
{
    while (r->next < r->bytes) {
        uint8_t c = (uint8_t)r->text[r->next];
        if (c == '"' || c == '\\')
            return true;
        unsigned length =
            llm_utf8_character((const uint8_t *)r->text + r->next, r->bytes - r->next);
        if (c < 0x20 || length == 0)
            return false;
        r->next += length;
    }
    return false;
}

/* Behind the opening quote. */
static struct jinja_value read_string(struct json_reader *r)
{
    struct llm_buffer text = {0};
    size_t start = r->next;
    bool escapes = false;
    while (!llm_jinja_failed(r->run)) {
        size_t piece = r->next;
        if (!skip_plain(r)) {
            (void)bad(r, "a string with a bare control character, broken UTF-8 or no end");
            break;
        }
        if (r->text[r->next] == '"' && !escapes) { /* the usual case: no copy */
            r->next++;
            return llm_jinja_string(r->run, r->text + start, r->next - 1 - start);
        }
        llm_jinja_append(r->run, &text, r->text + piece, r->next - piece);
        if (r->text[r->next++] == '"')
            break;
        escapes = true;
        read_escape(r, &text);
    }
    return llm_jinja_finish(r->run, &text);
}

/* ---- Numbers and words --------------------------------------------------------------------------------------------- */

static size_t count_digits(const struct json_reader *r, size_t at)
{
    size_t start = at;
    while (at < r->bytes && r->text[at] >= '0' && r->text[at] <= '9')
        at++;
    return at - start;
}

/* The bytes of a number at r->next, 0 when it is none; RFC 8259 section 6. */
static size_t number_bytes(const struct json_reader *r, bool *out_real)
{
    size_t at = r->next + (r->text[r->next] == '-'), digits = count_digits(r, at);
    if (digits == 0 || (digits > 1 && r->text[at] == '0'))
        return 0;
    at += digits;
    *out_real = false;
    if (at < r->bytes && r->text[at] == '.') {
        digits = count_digits(r, at + 1);
        if (digits == 0)
            return 0;
        at += 1 + digits;
        *out_real = true;
    }
    if (at < r->bytes && (r->text[at] | 0x20) == 'e') {
        at++;
        at += at < r->bytes && (r->text[at] == '+' || r->text[at] == '-');
        digits = count_digits(r, at);
        if (digits == 0)
            return 0;
        at += digits;
        *out_real = true;
    }
    return at - r->next;
}

static struct jinja_value read_number(struct json_reader *r)
{
    bool real = false;
    const char *text = r->text + r->next;
    size_t bytes = number_bytes(r, &real);
    int64_t integer;
    double number;
    if (bytes == 0 || bytes > 4096)
        return bad(r, "no JSON value, or a malformed number");
    r->next += bytes;
    if (real)
        return llm_jinja_parse_float(text, bytes, &number) ? jinja_float(number)
                                                           : bad(r, "a malformed number");
    if (llm_jinja_parse_int(text, bytes, 10, &integer))
        return jinja_int(integer);
    struct jinja_value v = llm_jinja_string(r->run, text, bytes);
    v.kind = jinja_is_string(v) ? JINJA_BIG_INT : v.kind;
    return v;
}

static bool skip_word(struct json_reader *r, const char *word)
{
    size_t bytes = strlen(word);
    bool here = r->bytes - r->next >= bytes && memcmp(r->text + r->next, word, bytes) == 0;
    r->next += here ? bytes : 0;
    return here;
}

/* ---- Lists and objects ---------------------------------------------------------------------------------------------- */

static struct jinja_value read_list(struct json_reader *r)
{
    struct jinja_value list = llm_jinja_list(r->run, JINJA_PLAIN_LIST, 0);
    if (skip(r, ']'))
        return list;
    do
        llm_jinja_push(r->run, list, read_value(r));
    while (!llm_jinja_failed(r->run) && skip(r, ','));
    return skip(r, ']') ? list : bad(r, "a list without its \"]\"");
}

static struct jinja_value read_object(struct json_reader *r)
{
    struct jinja_value dict = llm_jinja_dict(r->run);
    if (skip(r, '}'))
        return dict;
    do {
        if (!skip(r, '"'))
            return bad(r, "a member without its name");
        struct jinja_value key = read_string(r);
        if (!skip(r, ':'))
            return bad(r, "a member's name without \":\"");
        struct jinja_value value = read_value(r);
        if (!llm_jinja_failed(r->run))
            llm_jinja_put(r->run, dict.dict, key, value);
    } while (!llm_jinja_failed(r->run) && skip(r, ','));
    return skip(r, '}') ? dict : bad(r, "an object without its \"}\"");
}

static struct jinja_value read_value(struct json_reader *r)
{
    struct jinja_value v = jinja_undefined();
    if (!llm_jinja_charge(r->run, 1) || !llm_jinja_enter(r->run))
        return v;
    skip_space(r);
    char c = r->next < r->bytes ? r->text[r->next] : 0;
    if (c == '"' || c == '[' || c == '{') {
        r->next++;
        v = c == '"' ? read_string(r) : c == '[' ? read_list(r) : read_object(r);
    } else if (skip_word(r, "true")) {
        v = jinja_bool(true);
    } else if (skip_word(r, "false")) {
        v = jinja_bool(false);
    } else if (skip_word(r, "null")) {
        v = jinja_none();
    } else {
        v = r->next < r->bytes ? read_number(r) : bad(r, "nothing where a value should be");
    }
    r->run->depth--;
    return v;
}

struct jinja_value llm_jinja_read_json(struct jinja_run *run, const char *text, size_t bytes,
                                       const char *what)
{
    struct json_reader r = {run, text, bytes, 0, what};
    struct jinja_value v = read_value(&r);
    skip_space(&r);
    if (!llm_jinja_failed(run) && r.next < bytes)
        return bad(&r, "more text behind the value");
    return v;
}
