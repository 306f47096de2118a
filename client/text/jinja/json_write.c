/* The filter tojson, as transformers defines it: json.dumps(value, ensure_ascii=False, ...), without HTML escapes. */
#include <stdio.h>

#include "client/text/jinja/characters.h"
#include "client/text/jinja/filters.h"
#include "client/text/jinja/numbers.h"

struct json_style {
    const struct jinja_string *indent; /* NULL: all on one line */
    const struct jinja_string *comma;
    const struct jinja_string *colon;
    bool ascii;
    bool sorted;
};

static void write_value(struct jinja_run *run, struct llm_buffer *out, struct jinja_value v,
                        const struct json_style *style, unsigned depth);

static void write_code(struct jinja_run *run, struct llm_buffer *out, uint32_t c)
{
    char text[16];
    if (c >= 0x10000) /* UTF-16's pairs, RFC 8259 section 7 */
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
    else
        snprintf(text, sizeof text, "\\u%04x", c);
    llm_jinja_append_text(run, out, text);
}

static void write_string(struct jinja_run *run, struct llm_buffer *out,
                         const struct jinja_string *s, bool ascii)
{
    static const char plain[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
    unsigned length;
    llm_jinja_append_text(run, out, "\"");
    for (size_t at = 0; at < s->count && !llm_jinja_failed(run); at += length) {
        uint32_t c = llm_jinja_character(s->bytes, s->count, at, &length);
        const char *known = c > 0 && c < 0x80 ? strchr(plain, (int)c) : NULL;
        if (known)
            llm_jinja_append(run, out, (char[]){'\\', letters[known - plain]}, 2);
        else if (c < 0x20 || (ascii && c > 0x7e))
            write_code(run, out, c);
        else
            llm_jinja_append(run, out, s->bytes + at, length);
    }
    llm_jinja_append_text(run, out, "\"");
}

static void write_float(struct jinja_run *run, struct llm_buffer *out, double real)
{
    char text[JINJA_NUMBER_BYTES];
    if (real != real)
        (void)snprintf(text, sizeof text, "NaN");
    else if (real - real != 0)
        (void)snprintf(text, sizeof text, real > 0 ? "Infinity" : "-Infinity");
    else
        (void)llm_jinja_format_float(real, text);
    llm_jinja_append_text(run, out, text);
}

static void write_line(struct jinja_run *run, struct llm_buffer *out,
                       const struct json_style *style, unsigned depth)
{
    if (!style->indent)
        return;
    llm_jinja_append_text(run, out, "\n");
    for (unsigned i = 0; i < depth; i++)
        llm_jinja_append_string(run, out, style->indent);
}

static void write_list(struct jinja_run *run, struct llm_buffer *out, const struct jinja_list *list,
                       const struct json_style *style, unsigned depth)
{
    llm_jinja_append_text(run, out, "[");
    for (size_t i = 0; i < list->count && !llm_jinja_failed(run); i++) {
        if (i > 0)
            llm_jinja_append_string(run, out, style->comma);
        write_line(run, out, style, depth + 1);
        write_value(run, out, list->items[i], style, depth + 1);
    }
    if (list->count > 0)
        write_line(run, out, style, depth);
    llm_jinja_append_text(run, out, "]");
}

/* Keys are strings in JSON: numbers, truth values and none become the text that they have as values. */
static void write_key(struct jinja_run *run, struct llm_buffer *out, struct jinja_value key,
                      const struct json_style *style)
{
    if (jinja_is_string(key)) {
        write_string(run, out, key.string, style->ascii);
    } else if (jinja_is_number(key) || key.kind == JINJA_NONE) {
        llm_jinja_append_text(run, out, "\"");
        write_value(run, out, key, style, 0);
        llm_jinja_append_text(run, out, "\"");
    } else {
        (void)llm_jinja_fail(run, LLM_ERR_INVALID,
                             "keys must be str, int, float, bool or None, not %s",
                             llm_jinja_type_name(key));
    }
}

static void write_dict(struct jinja_run *run, struct llm_buffer *out, const struct jinja_dict *dict,
                       const struct json_style *style, unsigned depth)
{
    const struct jinja_dict *shown = style->sorted ? llm_jinja_sorted_by_key(run, dict) : dict;
    llm_jinja_append_text(run, out, "{");
    for (size_t i = 0; shown && i < shown->count && !llm_jinja_failed(run); i++) {
        if (i > 0)
            llm_jinja_append_string(run, out, style->comma);
        write_line(run, out, style, depth + 1);
        write_key(run, out, shown->entries[i].key, style);
        llm_jinja_append_string(run, out, style->colon);
        write_value(run, out, shown->entries[i].value, style, depth + 1);
    }
    if (dict->count > 0)
        write_line(run, out, style, depth);
    llm_jinja_append_text(run, out, "}");
}

static void write_value(struct jinja_run *run, struct llm_buffer *out, struct jinja_value v,
                        const struct json_style *style, unsigned depth)
{
    if (!llm_jinja_charge(run, 1) || !llm_jinja_enter(run))
        return;
    if (jinja_is_string(v))
        write_string(run, out, v.string, style->ascii);
    else if (v.kind == JINJA_NONE)
        llm_jinja_append_text(run, out, "null");
    else if (v.kind == JINJA_BOOL)
        llm_jinja_append_text(run, out, v.truth ? "true" : "false");
    else if (v.kind == JINJA_FLOAT)
        write_float(run, out, v.real);
    else if (v.kind == JINJA_INT || v.kind == JINJA_BIG_INT)
        llm_jinja_show_exact(run, out, v);
    else if (v.kind == JINJA_DICT)
        write_dict(run, out, v.dict, style, depth);
    else if (v.kind == JINJA_LIST && v.flavor <= JINJA_TUPLE)
        write_list(run, out, v.list, style, depth);
    else
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "Object of type %s is not JSON serializable",
                             llm_jinja_type_name(v));
    run->depth--;
}

/* indent=4 or indent="\t". */
static const struct jinja_string *read_indent(struct jinja_run *run, struct jinja_value v)
{
    if (jinja_is_absent(v) || v.kind == JINJA_NONE)
        return NULL;
    if (jinja_is_string(v))
        return v.string;
    struct jinja_value spaces =
        llm_jinja_binary(run, JINJA_MULTIPLY, llm_jinja_text(run, " "),
                         jinja_int(llm_jinja_int_argument(run, v, "indent", 0)));
    return jinja_is_string(spaces) ? spaces.string : NULL;
}

static void read_separators(struct jinja_run *run, struct jinja_value v, struct json_style *style)
{
    if (jinja_is_absent(v) || v.kind == JINJA_NONE)
        return;
    const struct jinja_list *pair = llm_jinja_iterate(run, v);
    if (!pair)
        return;
    if (pair->count != 2 || !jinja_is_string(pair->items[0]) || !jinja_is_string(pair->items[1])) {
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "\"separators\" must be two strings");
        return;
    }
    style->comma = pair->items[0].string;
    style->colon = pair->items[1].string;
}

struct jinja_value llm_jinja_to_json(struct jinja_run *run, struct jinja_value v,
                                     const struct jinja_call *call)
{
    static const struct jinja_string wide = {", ", 2, 2}, narrow = {",", 1, 1},
                                     colon = {": ", 2, 2};
    struct json_style style = {.indent = read_indent(run, call->at[1]),
                               .colon = &colon,
                               .ascii = llm_jinja_bool_argument(call->at[0], false),
                               .sorted = llm_jinja_bool_argument(call->at[3], false)};
    style.comma = style.indent ? &narrow : &wide;
    read_separators(run, call->at[2], &style);
    struct llm_buffer out = {0};
    write_value(run, &out, v, &style, 0);
    return llm_jinja_finish(run, &out);
}
