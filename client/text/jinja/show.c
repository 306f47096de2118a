/* Values as text: str(), repr(), the % operator, HTML escapes. */
#include <stdio.h>

#include "client/text/jinja/characters.h"
#include "client/text/jinja/interpret.h"
#include "client/text/jinja/numbers.h"

/* ---- repr() -------------------------------------------------------------------------------------------------- */

static void show_code(struct jinja_run *run, struct llm_buffer *out, uint32_t c)
{
    char text[16];
    if (c < 0x100)
        snprintf(text, sizeof text, "\\x%02x", c);
    else if (c < 0x10000)
        snprintf(text, sizeof text, "\\u%04x", c);
    else
        snprintf(text, sizeof text, "\\U%08x", c);
    llm_jinja_append_text(run, out, text);
}

static void show_quoted(struct jinja_run *run, struct llm_buffer *out, const struct jinja_string *s)
{
    static const char plain[] = "\n\r\t\\", letters[] = "nrt\\";
    bool single = s->count > 0 && memchr(s->bytes, '\'', s->count);
    char quote = single && !memchr(s->bytes, '"', s->count) ? '"' : '\'';
    unsigned length;
    llm_jinja_append(run, out, &quote, 1);
    for (size_t at = 0; at < s->count && !llm_jinja_failed(run); at += length) {
        uint32_t c = llm_jinja_character(s->bytes, s->count, at, &length);
        const char *known = c > 0 && c < 0x80 ? strchr(plain, (int)c) : NULL;
        if (known)
            llm_jinja_append(run, out, (char[]){'\\', letters[known - plain]}, 2);
        else if (c == (uint32_t)quote)
            llm_jinja_append(run, out, (char[]){'\\', quote}, 2);
        else if (!llm_jinja_is_printable(c))
            show_code(run, out, c);
        else
            llm_jinja_append(run, out, s->bytes + at, length);
    }
    llm_jinja_append(run, out, &quote, 1);
}

static void show_number(struct jinja_run *run, struct llm_buffer *out, struct jinja_value v)
{
    char text[JINJA_NUMBER_BYTES];
    if (v.kind == JINJA_FLOAT)
        (void)llm_jinja_format_float(v.real, text);
    else
        snprintf(text, sizeof text, "%lld", (long long)v.integer);
    llm_jinja_append_text(run, out, text);
}

static void show_items(struct jinja_run *run, struct llm_buffer *out, const struct jinja_list *list)
{
    for (size_t i = 0; i < list->count && !llm_jinja_failed(run); i++) {
        if (i > 0)
            llm_jinja_append_text(run, out, ", ");
        llm_jinja_show_exact(run, out, list->items[i]);
    }
}

static void show_range(struct jinja_run *run, struct llm_buffer *out, const struct jinja_list *list)
{
    int64_t first = list->count > 0 ? list->items[0].integer : 0, end = first;
    int64_t step = list->count > 1 ? list->items[1].integer - first : 1;
    char text[80];
    if (list->count > 0)
        end = list->items[list->count - 1].integer + step;
    int bytes = snprintf(text, sizeof text, "range(%lld, %lld", (long long)first, (long long)end);
    if (step != 1)
        bytes += snprintf(text + bytes, sizeof text - (size_t)bytes, ", %lld", (long long)step);
    llm_jinja_append(run, out, text, (size_t)bytes);
    llm_jinja_append_text(run, out, ")");
}

static void show_list(struct jinja_run *run, struct llm_buffer *out, struct jinja_value v)
{
    static const char *const opens[] = {"[",           "(", "", "", "dict_keys([", "dict_values([",
                                        "dict_items(["};
    static const char *const closes[] = {"]", ")", "", "", "])", "])", "])"};
    if (v.flavor == JINJA_RANGE) {
        show_range(run, out, v.list);
    } else if (v.flavor == JINJA_GENERATOR) {
        llm_jinja_append_text(run, out, "<generator object>");
    } else {
        llm_jinja_append_text(run, out, opens[v.flavor]);
        show_items(run, out, v.list);
        if (v.flavor == JINJA_TUPLE && v.list->count == 1)
            llm_jinja_append_text(run, out, ",");
        llm_jinja_append_text(run, out, closes[v.flavor]);
    }
}

static void show_dict(struct jinja_run *run, struct llm_buffer *out, const struct jinja_dict *dict)
{
    llm_jinja_append_text(run, out, "{");
    for (size_t i = 0; i < dict->count && !llm_jinja_failed(run); i++) {
        if (i > 0)
            llm_jinja_append_text(run, out, ", ");
        llm_jinja_show_exact(run, out, dict->entries[i].key);
        llm_jinja_append_text(run, out, ": ");
        llm_jinja_show_exact(run, out, dict->entries[i].value);
    }
    llm_jinja_append_text(run, out, "}");
}

static void show_function(struct jinja_run *run, struct llm_buffer *out,
                          const struct jinja_function *function)
{
    if (!function->macro) {
        llm_jinja_append_text(run, out, "<function ");
        llm_jinja_append_text(run, out, function->builtin->name);
        llm_jinja_append_text(run, out, ">");
        return;
    }
    llm_jinja_append_text(run, out, "<Macro ");
    if (function->macro->name)
        show_quoted(run, out, function->macro->name);
    else
        llm_jinja_append_text(run, out, "anonymous");
    llm_jinja_append_text(run, out, ">");
}

void llm_jinja_show_exact(struct jinja_run *run, struct llm_buffer *out, struct jinja_value v)
{
    if (!llm_jinja_charge(run, 1) || !llm_jinja_enter(run))
        return;
    switch ((enum jinja_kind)v.kind) {
    case JINJA_UNDEFINED:
    case JINJA_ABSENT:
        llm_jinja_append_text(run, out, "Undefined");
        break;
    case JINJA_NONE:
        llm_jinja_append_text(run, out, "None");
        break;
    case JINJA_BOOL:
        llm_jinja_append_text(run, out, v.truth ? "True" : "False");
        break;
    case JINJA_INT:
    case JINJA_FLOAT:
        show_number(run, out, v);
        break;
    case JINJA_BIG_INT:
        llm_jinja_append_string(run, out, v.string);
        break;
    case JINJA_STRING:
        show_quoted(run, out, v.string);
        break;
    case JINJA_LIST:
        show_list(run, out, v);
        break;
    case JINJA_DICT:
        show_dict(run, out, v.dict);
        break;
    case JINJA_NAMESPACE:
        llm_jinja_append_text(run, out, "<Namespace ");
        show_dict(run, out, v.dict);
        llm_jinja_append_text(run, out, ">");
        break;
    case JINJA_FUNCTION:
        show_function(run, out, v.function);
        break;
    case JINJA_LOOP:
        llm_jinja_append_text(run, out, "<LoopContext>");
        break;
    }
    run->depth--;
}

void llm_jinja_show(struct jinja_run *run, struct llm_buffer *out, struct jinja_value v)
{
    if (v.kind == JINJA_STRING)
        llm_jinja_append_string(run, out, v.string);
    else if (v.kind == JINJA_UNDEFINED && v.flavor == JINJA_UNSAFE)
        (void)llm_jinja_fail_undefined(run, v);
    else if (v.kind != JINJA_UNDEFINED)
        llm_jinja_show_exact(run, out, v);
}

struct jinja_value llm_jinja_as_text(struct jinja_run *run, struct jinja_value v)
{
    if (v.kind == JINJA_STRING)
        return v;
    struct llm_buffer text = {0};
    llm_jinja_show(run, &text, v);
    return llm_jinja_finish(run, &text);
}

struct jinja_value llm_jinja_escape(struct jinja_run *run, struct jinja_value v)
{
    static const char signs[] = "&<>\"'";
    static const char *const written[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    v = llm_jinja_as_text(run, v);
    if (!jinja_is_string(v) || v.flavor)
        return v;
    struct llm_buffer text = {0};
    for (size_t i = 0; i < v.string->count && !llm_jinja_failed(run); i++) {
        const char *c = &v.string->bytes[i], *sign = *c ? strchr(signs, *c) : NULL;
        if (sign)
            llm_jinja_append_text(run, &text, written[sign - signs]);
        else
            llm_jinja_append(run, &text, c, 1);
    }
    v = llm_jinja_finish(run, &text);
    v.flavor = jinja_is_string(v);
    return v;
}

/* ---- The % operator ------------------------------------------------------------------------------------------------ */

#define WIDTH_MAX 4096

struct conversion { /* %-08.3f */
    char letter;
    bool left, zeros, sign;
    int width, precision; /* -1: none */
};

/* Reads one behind its "%"; the bytes it took, 0 when it is none. */
static size_t read_conversion(const char *text, size_t bytes, struct conversion *c)
{
    size_t at = 0;
    *c = (struct conversion){.precision = -1};
    for (; at < bytes && text[at] && strchr("-0+ #", text[at]); at++) {
        c->left |= text[at] == '-';
        c->zeros |= text[at] == '0';
        c->sign |= text[at] == '+';
    }
    for (; at < bytes && text[at] >= '0' && text[at] <= '9' && c->width < WIDTH_MAX; at++)
        c->width = c->width * 10 + (text[at] - '0');
    if (at < bytes && text[at] == '.')
        for (at++, c->precision = 0;
             at < bytes && text[at] >= '0' && text[at] <= '9' && c->precision < WIDTH_MAX; at++)
            c->precision = c->precision * 10 + (text[at] - '0');
    if (at == bytes || c->width > WIDTH_MAX || c->precision > 100)
        return 0;
    c->letter = text[at];
    return at + 1;
}

static void append_number(struct jinja_run *run, struct llm_buffer *out, const struct conversion *c,
                          struct jinja_value v)
{
    char text[512];
    bool real = strchr("feg", c->letter) != NULL;
    if (!jinja_is_number(v)) {
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "%%%c format: a real number is required, not %s",
                             c->letter, llm_jinja_type_name(v));
        return;
    }
    if (!real && v.kind == JINJA_FLOAT && !(v.real > -9e18 && v.real < 9e18)) {
        (void)llm_jinja_fail(run, LLM_ERR_LIMIT, "a number is beyond 64 bits");
        return;
    }
    int precision = c->precision < 0 ? 6 : c->precision;
    long long integer = v.kind == JINJA_FLOAT ? (long long)v.real : (long long)jinja_integer_of(v);
    if (c->letter == 'f')
        snprintf(text, sizeof text, "%.*f", precision, jinja_real_of(v));
    else if (c->letter == 'e')
        snprintf(text, sizeof text, "%.*e", precision, jinja_real_of(v));
    else if (c->letter == 'g')
        snprintf(text, sizeof text, "%.*g", precision, jinja_real_of(v));
    else if (c->letter == 'x')
        snprintf(text, sizeof text, "%s%llx", integer < 0 ? "-" : "",
                 integer < 0 ? 0 - (unsigned long long)integer : (unsigned long long)integer);
    else
        snprintf(text, sizeof text, "%lld", integer);
    for (char *at = text; *at; at++) /* the locale's point */
        *at = (char)(*at == ',' ? '.' : *at);
    if (c->sign && *text != '-')
        llm_jinja_append_text(run, out, "+");
    llm_jinja_append_text(run, out, text);
}

static void append_padded(struct jinja_run *run, struct llm_buffer *out, const struct conversion *c,
                          struct jinja_value text)
{
    if (!jinja_is_string(text))
        return;
    const struct jinja_string *s = text.string;
    size_t width = (size_t)c->width, pad = width > s->characters ? width - s->characters : 0;
    bool zeros = c->zeros && !c->left && c->letter != 's' && c->letter != 'r';
    size_t sign = zeros && s->count > 0 && strchr("+-", s->bytes[0]) ? 1 : 0;
    llm_jinja_append(run, out, s->bytes, sign);
    for (size_t i = 0; !c->left && i < pad; i++)
        llm_jinja_append(run, out, zeros ? "0" : " ", 1);
    llm_jinja_append(run, out, s->bytes + sign, s->count - sign);
    for (size_t i = 0; c->left && i < pad; i++)
        llm_jinja_append(run, out, " ", 1);
}

static void append_conversion(struct jinja_run *run, struct llm_buffer *out,
                              const struct conversion *c, struct jinja_value v)
{
    struct llm_buffer piece = {0};
    if (c->letter == 's')
        llm_jinja_show(run, &piece, v);
    else if (c->letter == 'r')
        llm_jinja_show_exact(run, &piece, v);
    else if (c->letter && strchr("diufegx", c->letter))
        append_number(run, &piece, c, v);
    else
        (void)llm_jinja_fail(run, LLM_ERR_UNSUPPORTED, "a %% format that is not known");
    append_padded(run, out, c, llm_jinja_finish(run, &piece));
}

/* "%(key)s": the value, and the place behind the ")"; the place stays when there is no key. */
static struct jinja_value keyed(struct jinja_run *run, const struct jinja_string *format,
                                struct jinja_value arguments, size_t *at)
{
    const char *start = format->bytes + *at + 1;
    const char *end = memchr(start, ')', format->count - *at - 1);
    if (!end || arguments.kind != JINJA_DICT)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "format requires a mapping");
    *at = (size_t)(end - format->bytes) + 1;
    struct jinja_value key = llm_jinja_string(run, start, (size_t)(end - start));
    return llm_jinja_failed(run) ? key : llm_jinja_item(run, arguments, key);
}

struct jinja_value llm_jinja_percent(struct jinja_run *run, const struct jinja_string *format,
                                     struct jinja_value arguments)
{
    bool tuple = arguments.kind == JINJA_LIST && arguments.flavor == JINJA_TUPLE;
    size_t count = tuple ? arguments.list->count : 1, next = 0;
    struct llm_buffer out = {0};
    for (size_t at = 0; at < format->count && !llm_jinja_failed(run);) {
        const char *percent = memchr(format->bytes + at, '%', format->count - at);
        size_t end = percent ? (size_t)(percent - format->bytes) : format->count;
        llm_jinja_append(run, &out, format->bytes + at, end - at);
        at = end + 1;
        if (!percent)
            break;
        if (at < format->count && format->bytes[at] == '%') {
            llm_jinja_append(run, &out, "%", 1);
            at++;
            continue;
        }
        bool key = at < format->count && format->bytes[at] == '(';
        struct jinja_value v = {.kind = JINJA_ABSENT};
        if (key)
            v = keyed(run, format, arguments, &at);
        else if (next < count)
            v = tuple ? arguments.list->items[next] : arguments;
        next += !key;
        struct conversion c;
        size_t used = read_conversion(format->bytes + at, format->count - at, &c);
        if (jinja_is_absent(v) || used == 0)
            (void)llm_jinja_fail(run, LLM_ERR_INVALID,
                                 used == 0 ? "incomplete format"
                                           : "not enough arguments for format string");
        else
            append_conversion(run, &out, &c, v);
        at += used;
    }
    if (tuple && next < count)
        (void)llm_jinja_fail(run, LLM_ERR_INVALID,
                             "not all arguments converted during string formatting");
    return llm_jinja_finish(run, &out);
}
