/* Filters from text to text. */
#include "client/text/jinja/characters.h"
#include "client/text/jinja/filters.h"

typedef const struct jinja_call *call_t;

static struct jinja_value change(struct jinja_run *run, struct jinja_value self,
                                 enum jinja_case wanted)
{
    struct jinja_value text = llm_jinja_as_text(run, self);
    return jinja_is_string(text) ? llm_jinja_change_case(run, text, wanted) : text;
}

static struct jinja_value filter_upper(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    return change(run, self, JINJA_UPPER);
}

static struct jinja_value filter_lower(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    return change(run, self, JINJA_LOWER);
}

static struct jinja_value filter_capitalize(struct jinja_run *run, struct jinja_value self,
                                            call_t call)
{
    (void)call;
    return change(run, self, JINJA_CAPITALIZE);
}

/* Words begin behind white space and - ( { [ <, unlike those of str.title(). */
static struct jinja_value filter_title(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    struct jinja_value text = llm_jinja_as_text(run, self);
    struct llm_buffer out = {0};
    bool word_start = true;
    if (!jinja_is_string(text))
        return text;
    unsigned length;
    for (size_t at = 0; at < text.string->count && !llm_jinja_failed(run); at += length) {
        uint32_t c = llm_jinja_character(text.string->bytes, text.string->count, at, &length);
        struct jinja_value letter = llm_jinja_string(run, text.string->bytes + at, length);
        if (jinja_is_string(letter))
            letter = llm_jinja_change_case(run, letter, word_start ? JINJA_UPPER : JINJA_LOWER);
        if (jinja_is_string(letter))
            llm_jinja_append_string(run, &out, letter.string);
        word_start = llm_jinja_is_space(c) || (c > 0 && c < 0x80 && strchr("-({[<", (int)c));
    }
    return llm_jinja_finish(run, &out);
}

static struct jinja_value filter_trim(struct jinja_run *run, struct jinja_value self, call_t call)
{
    struct jinja_value text = llm_jinja_as_text(run, self);
    const struct jinja_string *set = llm_jinja_string_argument(run, call->at[0], "chars");
    return jinja_is_string(text) ? llm_jinja_strip(run, text, set, JINJA_BOTH) : text;
}

static struct jinja_value filter_string(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    return llm_jinja_as_text(run, self);
}

static struct jinja_value filter_safe(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    struct jinja_value text = llm_jinja_as_text(run, self);
    text.flavor = jinja_is_string(text) ? 1 : text.flavor;
    return text;
}

static struct jinja_value filter_escape(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    return llm_jinja_escape(run, self);
}

static struct jinja_value filter_replace(struct jinja_run *run, struct jinja_value self,
                                         call_t call)
{
    struct jinja_value text = llm_jinja_as_text(run, self);
    struct jinja_value old = llm_jinja_as_text(run, call->at[0]);
    struct jinja_value new = llm_jinja_as_text(run, call->at[1]);
    int64_t count =
        call->at[2].kind == JINJA_NONE ? -1 : llm_jinja_int_argument(run, call->at[2], "count", -1);
    if (llm_jinja_failed(run))
        return jinja_undefined();
    return llm_jinja_replace(run, text.string, old.string, new.string, count);
}

static void indent_lines(struct jinja_run *run, struct llm_buffer *out,
                         const struct jinja_list *lines, const struct jinja_string *indent,
                         bool first, bool blank)
{
    for (size_t i = 0; i < lines->count && !llm_jinja_failed(run); i++) {
        if (i > 0)
            llm_jinja_append_text(run, out, "\n");
        if (i == 0 ? first : blank || lines->items[i].string->count > 0)
            llm_jinja_append_string(run, out, indent);
        llm_jinja_append_string(run, out, lines->items[i].string);
    }
}

static struct jinja_value filter_indent(struct jinja_run *run, struct jinja_value self, call_t call)
{
    struct jinja_value text = llm_jinja_binary(run, JINJA_ADD, self, llm_jinja_text(run, "\n"));
    struct jinja_value indent = call->at[0];
    if (!jinja_is_string(indent))
        indent = llm_jinja_binary(run, JINJA_MULTIPLY, llm_jinja_text(run, " "),
                                  jinja_int(llm_jinja_int_argument(run, indent, "width", 4)));
    if (!jinja_is_string(text) || !jinja_is_string(indent))
        return jinja_undefined();
    struct jinja_value lines = llm_jinja_split_lines(run, text.string, false);
    struct llm_buffer out = {0};
    if (lines.kind == JINJA_LIST && !llm_jinja_failed(run))
        indent_lines(run, &out, lines.list, indent.string,
                     llm_jinja_bool_argument(call->at[1], false),
                     llm_jinja_bool_argument(call->at[2], false));
    struct jinja_value v = llm_jinja_finish(run, &out);
    v.flavor = jinja_is_string(v) ? text.flavor : v.flavor;
    return v;
}

static struct jinja_value filter_center(struct jinja_run *run, struct jinja_value self, call_t call)
{
    static const struct jinja_string space = {" ", 1, 1};
    struct jinja_value text = llm_jinja_as_text(run, self);
    int64_t width = llm_jinja_int_argument(run, call->at[0], "width", 80);
    return jinja_is_string(text) ? llm_jinja_pad(run, text, width, &space, JINJA_BOTH) : text;
}

/* 'a %s' | format(b): the % operator. */
static struct jinja_value filter_format(struct jinja_run *run, struct jinja_value self, call_t call)
{
    struct jinja_value text = llm_jinja_as_text(run, self), values;
    if (call->all->keyword_count > 0) {
        values = llm_jinja_dict(run);
        for (size_t i = 0; i < call->all->keyword_count && !llm_jinja_failed(run); i++)
            llm_jinja_put(
                run, values.dict,
                (struct jinja_value){.kind = JINJA_STRING, .string = call->all->keywords[i].name},
                call->all->keywords[i].value);
    } else {
        values = llm_jinja_list(run, JINJA_TUPLE, call->all->count);
        for (size_t i = 0; i < call->all->count; i++)
            llm_jinja_push(run, values, call->all->values[i]);
    }
    return llm_jinja_failed(run) ? jinja_undefined() : llm_jinja_percent(run, text.string, values);
}

static size_t cut_at(const struct jinja_string *s, size_t characters, bool kill_words)
{
    size_t end = llm_jinja_place(s, characters), space = end;
    while (!kill_words && space > 0 && s->bytes[space - 1] != ' ')
        space--;
    return !kill_words && space > 0 ? space - 1 : end;
}

static struct jinja_value filter_truncate(struct jinja_run *run, struct jinja_value self,
                                          call_t call)
{
    static const struct jinja_string dots = {"...", 3, 3};
    struct jinja_value text = llm_jinja_as_text(run, self);
    const struct jinja_string *end = llm_jinja_string_argument(run, call->at[2], "end");
    int64_t length = llm_jinja_int_argument(run, call->at[0], "length", 255);
    int64_t leeway = llm_jinja_int_argument(run, call->at[3], "leeway", 5);
    end = end ? end : &dots;
    if (llm_jinja_failed(run) || !jinja_is_string(text))
        return jinja_undefined();
    if (length < (int64_t)end->characters || leeway < 0 || length > INT32_MAX || leeway > INT32_MAX)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "truncate() with a length of %lld",
                              (long long)length);
    if ((int64_t)text.string->characters <= length + leeway)
        return text;
    struct llm_buffer out = {0};
    llm_jinja_append(run, &out, text.string->bytes,
                     cut_at(text.string, (size_t)length - end->characters,
                            llm_jinja_bool_argument(call->at[1], false)));
    llm_jinja_append_string(run, &out, end);
    return llm_jinja_finish(run, &out);
}

const struct jinja_builtin llm_jinja_text_filters[] = {
    {"capitalize", "", filter_capitalize},
    {"center", "width", filter_center},
    {"e", "", filter_escape},
    {"escape", "", filter_escape},
    {"format", "*", filter_format},
    {"indent", "width first blank", filter_indent},
    {"lower", "", filter_lower},
    {"replace", "old! new! count", filter_replace},
    {"safe", "", filter_safe},
    {"string", "", filter_string},
    {"title", "", filter_title},
    {"trim", "chars", filter_trim},
    {"truncate", "length killwords end leeway", filter_truncate},
    {"upper", "", filter_upper},
    {0},
};
