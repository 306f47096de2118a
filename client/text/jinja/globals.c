/* Global functions of templates, and the methods of "loop". */
#include <locale.h>
#include <time.h>

#include "client/text/jinja/filters.h"

typedef const struct jinja_call *call_t;

/* ---- range, dict, namespace ------------------------------------------------------------------------------------------- */

static struct jinja_value global_range(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)self;
    bool one = jinja_is_absent(call->at[1]);
    int64_t start = one ? 0 : llm_jinja_int_argument(run, call->at[0], "start", 0);
    int64_t stop = llm_jinja_int_argument(run, call->at[!one], "stop", 0);
    int64_t step = llm_jinja_int_argument(run, call->at[2], "step", 1), span;
    if (llm_jinja_failed(run))
        return jinja_undefined();
    if (step == 0 || step == INT64_MIN)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "range() with a step of %lld", (long long)step);
    bool wide = step > 0 ? __builtin_sub_overflow(stop, start, &span)
                         : __builtin_sub_overflow(start, stop, &span);
    int64_t size = step > 0 ? step : -step, count = span <= 0 ? 0 : (span - 1) / size + 1;
    if ((wide && (step > 0 ? stop > start : start > stop)) || count > JINJA_RANGE_MAX)
        return llm_jinja_fail(run, LLM_ERR_LIMIT, "range() of more than %d numbers",
                              JINJA_RANGE_MAX);
    struct jinja_value list = llm_jinja_list(run, JINJA_RANGE, wide ? 0 : (size_t)count);
    for (int64_t i = 0; i < count && !wide && !llm_jinja_failed(run); i++)
        llm_jinja_push(run, list, jinja_int(start + i * step));
    return list;
}

/* Entries of a dict or of a list of pairs. */
static void put_all(struct jinja_run *run, struct jinja_dict *dict, struct jinja_value from)
{
    if (from.kind == JINJA_DICT) {
        for (size_t i = 0; i < from.dict->count && !llm_jinja_failed(run); i++)
            llm_jinja_put(run, dict, from.dict->entries[i].key, from.dict->entries[i].value);
        return;
    }
    const struct jinja_list *items = llm_jinja_iterate(run, from);
    for (size_t i = 0; items && i < items->count && !llm_jinja_failed(run); i++) {
        const struct jinja_list *pair = llm_jinja_iterate(run, items->items[i]);
        if (pair && pair->count == 2 && llm_jinja_is_key(pair->items[0]))
            llm_jinja_put(run, dict, pair->items[0], pair->items[1]);
        else
            (void)llm_jinja_fail(run, LLM_ERR_INVALID, "item %zu is no pair of key and value", i);
    }
}

static struct jinja_value global_dict(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)self;
    struct jinja_value dict = llm_jinja_dict(run);
    if (call->all->count > 1)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "dict() takes one positional argument");
    if (call->all->count == 1 && dict.kind == JINJA_DICT)
        put_all(run, dict.dict, call->all->values[0]);
    for (size_t i = 0; i < call->all->keyword_count && !llm_jinja_failed(run); i++)
        llm_jinja_put(
            run, dict.dict,
            (struct jinja_value){.kind = JINJA_STRING, .string = call->all->keywords[i].name},
            call->all->keywords[i].value);
    return dict;
}

static struct jinja_value global_namespace(struct jinja_run *run, struct jinja_value self,
                                           call_t call)
{
    struct jinja_value v = global_dict(run, self, call);
    v.kind = v.kind == JINJA_DICT ? JINJA_NAMESPACE : v.kind;
    return v;
}

/* ---- What transformers adds ------------------------------------------------------------------------------------------- */

static struct jinja_value global_raise(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)self;
    struct jinja_value text = llm_jinja_as_text(run, call->at[0]);
    if (!jinja_is_string(text))
        return text;
    return llm_jinja_fail(run, LLM_ERR_INVALID, "%.*s",
                          (int)(text.string->count < LLM_ERROR_MESSAGE_BYTES
                                    ? text.string->count
                                    : LLM_ERROR_MESSAGE_BYTES),
                          text.string->bytes);
}

/* Only conversions without widths: "%1000000d" is nobody's date. */
static bool format_is_plain(const struct jinja_string *format)
{
    for (size_t i = 0; i < format->count; i++) {
        if (format->bytes[i] != '%')
            continue;
        i++;
        while (i < format->count && format->bytes[i] && strchr("-_^#", format->bytes[i]))
            i++;
        char c = i < format->count ? format->bytes[i] : 0;
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '%'))
            return false;
    }
    return !memchr(format->bytes, 0, format->count);
}

static bool read_time(const struct jinja_run *run, struct tm *out)
{
    time_t now = run->now_given ? (time_t)run->now_s : time(NULL);
    return (run->now_given ? gmtime_r(&now, out) : localtime_r(&now, out)) != NULL;
}

static struct jinja_value global_strftime(struct jinja_run *run, struct jinja_value self,
                                          call_t call)
{
    (void)self;
    const struct jinja_string *format = llm_jinja_string_argument(run, call->at[0], "format");
    char pattern[256], text[1024];
    struct tm now;
    if (!format || format->count == 0)
        return format ? llm_jinja_text(run, "") : jinja_undefined();
    if (format->count >= sizeof pattern || !format_is_plain(format))
        return llm_jinja_fail(run, LLM_ERR_INVALID,
                              "strftime_now() with a format that is too long "
                              "or has widths");
    memcpy(pattern, format->bytes, format->count);
    pattern[format->count] = 0;
    locale_t english = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* as Python has it */
    if (!read_time(run, &now) || !english) {
        if (english)
            freelocale(english);
        return llm_jinja_fail(run, LLM_ERR_INVALID, "the time is out of range");
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the template's own format, checked above */
    size_t bytes = strftime_l(text, sizeof text, pattern, &now, english);
#pragma GCC diagnostic pop
    freelocale(english);
    return llm_jinja_copy(run, text, bytes);
}

const struct jinja_builtin llm_jinja_globals[] = {
    {"dict", "*", global_dict},
    {"namespace", "*", global_namespace},
    {"raise_exception", "message!", global_raise},
    {"range", "start! stop step", global_range},
    {"strftime_now", "format!", global_strftime},
    {0},
};

/* ---- loop.cycle(), loop.changed() -------------------------------------------------------------------------------------- */

static struct jinja_value loop_cycle(struct jinja_run *run, struct jinja_value self, call_t call)
{
    if (call->all->count == 0)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "no items for cycling given");
    return call->all->values[self.loop->index % call->all->count];
}

static struct jinja_value loop_changed(struct jinja_run *run, struct jinja_value self, call_t call)
{
    struct jinja_value now = llm_jinja_list(run, JINJA_TUPLE, call->all->count);
    for (size_t i = 0; i < call->all->count; i++)
        llm_jinja_push(run, now, call->all->values[i]);
    bool same = !jinja_is_absent(self.loop->changed) && !llm_jinja_failed(run) &&
                llm_jinja_equal(run, now, self.loop->changed);
    self.loop->changed = now;
    return jinja_bool(!same);
}

const struct jinja_builtin llm_jinja_loop_methods[] = {
    {"cycle", "*", loop_cycle},
    {"changed", "*", loop_changed},
    {0},
};
