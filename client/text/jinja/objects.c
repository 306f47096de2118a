#include "client/text/jinja/characters.h"
#include "client/text/jinja/interpret.h"

/* ---- What is not there -------------------------------------------------------------------------------------- */

static struct jinja_value missing(enum jinja_undefined why, struct jinja_value object,
                                  const struct jinja_string *name)
{
    return (struct jinja_value){
        .kind = JINJA_UNDEFINED, .flavor = (uint8_t)why, .of = object.kind, .string = name};
}

static const char *object_name(unsigned kind)
{
    static const char *const names[] = {[JINJA_UNDEFINED] = "undefined",
                                        [JINJA_ABSENT] = "undefined",
                                        [JINJA_NONE] = "None",
                                        [JINJA_BOOL] = "bool object",
                                        [JINJA_INT] = "int object",
                                        [JINJA_BIG_INT] = "int object",
                                        [JINJA_FLOAT] = "float object",
                                        [JINJA_STRING] = "str object",
                                        [JINJA_LIST] = "list object",
                                        [JINJA_DICT] = "dict object",
                                        [JINJA_NAMESPACE] = "namespace",
                                        [JINJA_FUNCTION] = "function",
                                        [JINJA_LOOP] = "loop"};
    return names[kind <= JINJA_LOOP ? kind : JINJA_UNDEFINED];
}

struct jinja_value llm_jinja_fail_undefined(struct jinja_run *run, struct jinja_value v)
{
    int bytes = v.string && v.string->count < 100 ? (int)v.string->count : 100;
    const char *name = v.string ? v.string->bytes : "";
    if (!v.string)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "a value is undefined");
    switch ((enum jinja_undefined)v.flavor) {
    case JINJA_NO_ATTRIBUTE:
        return llm_jinja_fail(run, LLM_ERR_INVALID, "'%s' has no attribute '%.*s'",
                              object_name(v.of), bytes, name);
    case JINJA_NO_ELEMENT:
        return llm_jinja_fail(run, LLM_ERR_INVALID, "%s has no element %.*s", object_name(v.of),
                              bytes, name);
    case JINJA_UNSAFE:
        return llm_jinja_fail(run, LLM_ERR_INVALID, "access to attribute '%.*s' of '%s' is unsafe",
                              bytes, name, object_name(v.of));
    case JINJA_NO_NAME:
        return llm_jinja_fail(run, LLM_ERR_INVALID, "'%.*s' is undefined", bytes, name);
    case JINJA_NO_SENTENCE:
    case JINJA_SENTENCE:
        break;
    }
    return llm_jinja_fail(run, LLM_ERR_INVALID, "%.*s", bytes, name);
}

/* ---- Attributes ---------------------------------------------------------------------------------------------- */

/* Methods that change their object; templates may not. */
static bool changes_object(struct jinja_value object, const struct jinja_string *name)
{
    static const char *const list_names[] = {"append", "clear",   "extend", "insert", "pop",
                                             "remove", "reverse", "sort",   NULL};
    static const char *const dict_names[] = {"clear",      "pop",    "popitem",
                                             "setdefault", "update", NULL};
    const char *const *at = object.kind == JINJA_DICT ? dict_names : list_names;
    if (object.kind != JINJA_DICT &&
        !(object.kind == JINJA_LIST && object.flavor == JINJA_PLAIN_LIST))
        return false;
    while (*at && !llm_jinja_is_text(name, *at))
        at++;
    return *at != NULL;
}

static const struct jinja_builtin *find_method(struct jinja_value object,
                                               const struct jinja_string *name)
{
    const struct jinja_builtin *row;
    if (object.kind == JINJA_STRING) {
        row = llm_jinja_find_builtin(llm_jinja_string_methods, name);
        return row ? row : llm_jinja_find_builtin(llm_jinja_split_methods, name);
    }
    if (object.kind == JINJA_DICT)
        return llm_jinja_find_builtin(llm_jinja_dict_methods, name);
    if (object.kind == JINJA_LIST && object.flavor <= JINJA_RANGE)
        return llm_jinja_find_builtin(llm_jinja_list_methods, name);
    return NULL;
}

/* A method bound to its object; JINJA_ABSENT when there is none. */
static struct jinja_value method(struct jinja_run *run, struct jinja_value object,
                                 const struct jinja_string *name)
{
    if (object.kind == JINJA_LOOP) {
        struct jinja_value v = llm_jinja_loop_attribute(run, object.loop, name);
        return v.kind == JINJA_UNDEFINED && v.string == name
                   ? (struct jinja_value){.kind = JINJA_ABSENT}
                   : v;
    }
    if (changes_object(object, name))
        return missing(JINJA_UNSAFE, object, name);
    const struct jinja_builtin *row = find_method(object, name);
    struct jinja_function *function = row ? llm_jinja_take(run, sizeof *function) : NULL;
    if (!function)
        return (struct jinja_value){.kind = JINJA_ABSENT};
    *function = (struct jinja_function){.builtin = row, .self = object};
    return (struct jinja_value){.kind = JINJA_FUNCTION, .function = function};
}

static struct jinja_value text_key(const struct jinja_string *name)
{
    return (struct jinja_value){.kind = JINJA_STRING, .string = name};
}

struct jinja_value llm_jinja_attribute(struct jinja_run *run, struct jinja_value object,
                                       const struct jinja_string *name)
{
    if (object.kind == JINJA_UNDEFINED)
        return llm_jinja_fail_undefined(run, object);
    struct jinja_value v = method(run, object, name);
    if (!jinja_is_absent(v))
        return v;
    if (object.kind == JINJA_DICT || object.kind == JINJA_NAMESPACE) {
        const struct jinja_entry *entry = llm_jinja_find(run, object.dict, text_key(name));
        if (entry)
            return entry->value;
    }
    return missing(JINJA_NO_ATTRIBUTE, object, name);
}

/* ---- Items ------------------------------------------------------------------------------------------------------ */

static struct jinja_value no_element(struct jinja_run *run, struct jinja_value object,
                                     struct jinja_value key)
{
    if (jinja_is_string(key))
        return missing(JINJA_NO_ATTRIBUTE, object, key.string);
    if (!jinja_is_integral(key))
        return missing(JINJA_NO_ELEMENT, object, NULL);
    struct jinja_value text = llm_jinja_as_text(run, key);
    return missing(JINJA_NO_ELEMENT, object, jinja_is_string(text) ? text.string : NULL);
}

static struct jinja_value character_at(struct jinja_run *run, struct jinja_value text, size_t index)
{
    const struct jinja_string *s = text.string;
    if (!llm_jinja_charge_bytes(run, s->characters == s->count ? 1 : s->count))
        return jinja_undefined();
    size_t start = llm_jinja_place(s, index);
    unsigned length;
    (void)llm_jinja_character(s->bytes, s->count, start, &length);
    struct jinja_value v = llm_jinja_string(run, s->bytes + start, length);
    v.flavor = text.flavor;
    return v;
}

static bool is_sequence(struct jinja_value v)
{
    return v.kind == JINJA_STRING || (v.kind == JINJA_LIST && v.flavor <= JINJA_RANGE);
}

static int64_t sequence_length(struct jinja_value v)
{
    return (int64_t)(v.kind == JINJA_STRING ? v.string->characters : v.list->count);
}

struct jinja_value llm_jinja_item(struct jinja_run *run, struct jinja_value object,
                                  struct jinja_value key)
{
    if (object.kind == JINJA_UNDEFINED)
        return llm_jinja_fail_undefined(run, object);
    if (object.kind == JINJA_DICT && llm_jinja_is_key(key)) {
        const struct jinja_entry *entry = llm_jinja_find(run, object.dict, key);
        if (entry)
            return entry->value;
    } else if (is_sequence(object) && jinja_is_integral(key)) {
        int64_t index = jinja_integer_of(key), length = sequence_length(object);
        index += index < 0 ? length : 0;
        if (index >= 0 && index < length)
            return object.kind == JINJA_STRING ? character_at(run, object, (size_t)index)
                                               : object.list->items[index];
    }
    if (jinja_is_string(key)) {
        if (object.kind == JINJA_NAMESPACE)
            return llm_jinja_attribute(run, object, key.string);
        struct jinja_value v = method(run, object, key.string);
        if (!jinja_is_absent(v))
            return v;
    }
    return no_element(run, object, key);
}

struct jinja_value llm_jinja_path(struct jinja_run *run, struct jinja_value object,
                                  struct jinja_value path)
{
    if (path.kind == JINJA_NONE || jinja_is_absent(path))
        return object;
    if (!jinja_is_string(path))
        return llm_jinja_item(run, object, path);
    const char *at = path.string->bytes, *end = at + path.string->count;
    while (!llm_jinja_failed(run)) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        size_t bytes = (size_t)((dot ? dot : end) - at), digits = 0;
        struct jinja_value key = llm_jinja_string(run, at, bytes);
        int64_t index = 0;
        while (digits < bytes && at[digits] >= '0' && at[digits] <= '9' && index < INT64_MAX / 20)
            index = index * 10 + (at[digits++] - '0');
        object = llm_jinja_item(run, object, digits == bytes && bytes > 0 ? jinja_int(index) : key);
        if (!dot)
            break;
        at = dot + 1;
    }
    return object;
}

/* ---- Slices ----------------------------------------------------------------------------------------------------- */

/* A bound as Python reads it, within [low, high]; false: not an integer. */
static bool read_bound(struct jinja_value v, int64_t length, int64_t low, int64_t high,
                       int64_t fallback, int64_t *out)
{
    if (v.kind != JINJA_NONE && !jinja_is_integral(v))
        return false;
    int64_t bound = fallback;
    if (v.kind != JINJA_NONE) {
        bound = jinja_integer_of(v);
        bound += bound < 0 ? length : 0;
        bound = bound < low ? low : bound > high ? high : bound;
    }
    *out = bound;
    return true;
}

/* start + i * step for i in [0, count) are the places; false: not a slice that can be. */
static bool read_slice(struct jinja_run *run, const struct jinja_value bounds[3], int64_t length,
                       int64_t *out_start, int64_t *out_step, int64_t *out_count)
{
    int64_t start, stop, step = 1;
    if (bounds[2].kind != JINJA_NONE && !jinja_is_integral(bounds[2]))
        return false;
    if (bounds[2].kind != JINJA_NONE)
        step = jinja_integer_of(bounds[2]);
    if (step == 0) {
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "slice step cannot be zero");
        return false;
    }
    step = step > length + 1 ? length + 1 : step < -length - 1 ? -length - 1 : step;
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? length : length - 1;
    if (!read_bound(bounds[0], length, low, high, step > 0 ? low : high, &start) ||
        !read_bound(bounds[1], length, low, high, step > 0 ? high : low, &stop))
        return false;
    *out_count = step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
    *out_count = *out_count < 0 ? 0 : *out_count;
    *out_start = start;
    *out_step = step;
    return true;
}

static struct jinja_value slice_text(struct jinja_run *run, struct jinja_value text, int64_t start,
                                     int64_t step, int64_t count)
{
    const struct jinja_string *s = text.string;
    struct jinja_value v;
    if (!llm_jinja_charge_bytes(run, s->count))
        return jinja_undefined();
    if (step == 1) {
        size_t from = llm_jinja_place(s, (size_t)start);
        size_t to = llm_jinja_place(s, (size_t)(start + count));
        v = llm_jinja_string(run, s->bytes + (count > 0 ? from : 0), count > 0 ? to - from : 0);
    } else {
        struct llm_buffer out = {0};
        const struct jinja_list *all = llm_jinja_iterate(run, text);
        for (int64_t i = 0; all && i < count && !llm_jinja_failed(run); i++)
            llm_jinja_append_string(run, &out, all->items[start + i * step].string);
        v = llm_jinja_finish(run, &out);
    }
    v.flavor = jinja_is_string(v) ? text.flavor : v.flavor;
    return v;
}

static struct jinja_value slice_list(struct jinja_run *run, struct jinja_value list, int64_t start,
                                     int64_t step, int64_t count)
{
    struct jinja_value v =
        llm_jinja_list(run, (enum jinja_list_flavor)list.flavor, step == 1 ? 0 : (size_t)count);
    if (v.kind != JINJA_LIST)
        return v;
    if (step == 1) {
        *v.list = (struct jinja_list){list.list->items + (count > 0 ? start : 0), (size_t)count,
                                      (size_t)count};
        return v;
    }
    for (int64_t i = 0; i < count; i++)
        llm_jinja_push(run, v, list.list->items[start + i * step]);
    return v;
}

struct jinja_value llm_jinja_slice(struct jinja_run *run, struct jinja_value object,
                                   const struct jinja_value bounds[3])
{
    if (object.kind == JINJA_UNDEFINED)
        return llm_jinja_fail_undefined(run, object);
    int64_t start, step, count;
    if (!is_sequence(object) ||
        !read_slice(run, bounds, sequence_length(object), &start, &step, &count))
        return missing(JINJA_NO_ELEMENT, object, NULL);
    return object.kind == JINJA_STRING ? slice_text(run, object, start, step, count)
                                       : slice_list(run, object, start, step, count);
}

/* ---- Iteration ---------------------------------------------------------------------------------------------------- */

static struct jinja_list *list_of(struct jinja_value v)
{
    return v.kind == JINJA_LIST ? v.list : NULL;
}

static struct jinja_list *characters_of(struct jinja_run *run, struct jinja_value text)
{
    const struct jinja_string *s = text.string;
    struct jinja_value list = llm_jinja_list(run, JINJA_PLAIN_LIST, s->characters);
    unsigned length;
    for (size_t at = 0; at < s->count && !llm_jinja_failed(run); at += length) {
        (void)llm_jinja_character(s->bytes, s->count, at, &length);
        struct jinja_value v = llm_jinja_string(run, s->bytes + at, length);
        v.flavor = text.flavor;
        llm_jinja_push(run, list, v);
    }
    return list_of(list);
}

struct jinja_list *llm_jinja_iterate(struct jinja_run *run, struct jinja_value v)
{
    if (llm_jinja_failed(run))
        return NULL;
    if (v.kind == JINJA_STRING)
        return characters_of(run, v);
    if (v.kind == JINJA_LIST && v.flavor != JINJA_GENERATOR)
        return v.list;
    struct jinja_value list = llm_jinja_list(run, JINJA_PLAIN_LIST, 0);
    if (list.kind != JINJA_LIST)
        return NULL;
    if (v.kind == JINJA_LIST) { /* a generator gives its items once */
        *list.list = *v.list;
        v.list->count = 0;
    } else if (v.kind == JINJA_DICT) {
        for (size_t i = 0; i < v.dict->count; i++)
            llm_jinja_push(run, list, v.dict->entries[i].key);
    } else if (v.kind == JINJA_UNDEFINED && v.flavor == JINJA_UNSAFE) {
        (void)llm_jinja_fail_undefined(run, v);
    } else if (v.kind != JINJA_UNDEFINED) {
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "'%s' object is not iterable",
                             llm_jinja_type_name(v));
    }
    return llm_jinja_failed(run) ? NULL : list.list;
}
