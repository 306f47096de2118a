#include "client/text/jinja/interpret.h"

#include <stdio.h>

/* ---- Arguments ------------------------------------------------------------------------------------------ */

void llm_jinja_add_argument(struct jinja_run *run, struct jinja_arguments *arguments,
                            struct jinja_value value)
{
    if (arguments->count == arguments->capacity) {
        size_t capacity = arguments->capacity * 2 + 4;
        struct jinja_value *values = llm_jinja_take(run, capacity * sizeof *values);
        if (!values)
            return;
        if (arguments->count > 0)
            memcpy(values, arguments->values, arguments->count * sizeof *values);
        arguments->values = values;
        arguments->capacity = capacity;
    }
    arguments->values[arguments->count++] = value;
}

void llm_jinja_add_keyword(struct jinja_run *run, struct jinja_arguments *arguments,
                           const struct jinja_string *name, struct jinja_value value)
{
    if (arguments->keyword_count == arguments->keyword_capacity) {
        size_t capacity = arguments->keyword_capacity * 2 + 4;
        struct jinja_keyword *keywords = llm_jinja_take(run, capacity * sizeof *keywords);
        if (!keywords)
            return;
        if (arguments->keyword_count > 0)
            memcpy(keywords, arguments->keywords, arguments->keyword_count * sizeof *keywords);
        arguments->keywords = keywords;
        arguments->keyword_capacity = capacity;
    }
    arguments->keywords[arguments->keyword_count++] = (struct jinja_keyword){name, value};
}

struct jinja_arguments llm_jinja_arguments_from(const struct jinja_arguments *arguments,
                                                size_t count)
{
    struct jinja_arguments rest = *arguments;
    count = count < rest.count ? count : rest.count;
    rest.values += count;
    rest.count -= count;
    rest.capacity = rest.count; /* the next addition moves */
    return rest;
}

static void spread(struct jinja_run *run, struct jinja_arguments *out, struct jinja_value v)
{
    const struct jinja_list *items = llm_jinja_iterate(run, v);
    for (size_t i = 0; items && i < items->count && llm_jinja_charge(run, 1); i++)
        llm_jinja_add_argument(run, out, items->items[i]);
}

static void spread_dict(struct jinja_run *run, struct jinja_arguments *out, struct jinja_value v)
{
    if (v.kind != JINJA_DICT) {
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "argument after ** must be a mapping, not %s",
                             llm_jinja_type_name(v));
        return;
    }
    for (size_t i = 0; i < v.dict->count && llm_jinja_charge(run, 1); i++) {
        struct jinja_entry entry = v.dict->entries[i];
        if (!jinja_is_string(entry.key)) {
            (void)llm_jinja_fail(run, LLM_ERR_INVALID, "keywords must be strings");
            return;
        }
        llm_jinja_add_keyword(run, out, entry.key.string, entry.value);
    }
}

void llm_jinja_evaluate_arguments(struct jinja_run *run, const struct jinja_node *first,
                                  struct jinja_arguments *out)
{
    for (const struct jinja_node *a = first; a && !llm_jinja_failed(run); a = a->next) {
        struct jinja_value value = llm_jinja_evaluate(run, a->a);
        if (llm_jinja_failed(run))
            return;
        if (a->op == JINJA_POSITIONAL)
            llm_jinja_add_argument(run, out, value);
        else if (a->op == JINJA_KEYWORD)
            llm_jinja_add_keyword(run, out, a->name, value);
        else if (a->op == JINJA_SPREAD_LIST)
            spread(run, out, value);
        else
            spread_dict(run, out, value);
    }
}

int64_t llm_jinja_int_argument(struct jinja_run *run, struct jinja_value v, const char *name,
                               int64_t fallback)
{
    if (jinja_is_absent(v))
        return fallback;
    if (jinja_is_integral(v))
        return jinja_integer_of(v);
    (void)llm_jinja_fail(run, LLM_ERR_INVALID, "\"%s\" must be an integer, not %s", name,
                         llm_jinja_type_name(v));
    return fallback;
}

bool llm_jinja_bool_argument(struct jinja_value v, bool fallback)
{
    return jinja_is_absent(v) ? fallback : llm_jinja_truth(v);
}

const struct jinja_string *llm_jinja_string_argument(struct jinja_run *run, struct jinja_value v,
                                                     const char *name)
{
    if (jinja_is_string(v))
        return v.string;
    if (!jinja_is_absent(v) && v.kind != JINJA_NONE)
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "\"%s\" must be a string, not %s", name,
                             llm_jinja_type_name(v));
    return NULL;
}

/* ---- Rows of the tables ------------------------------------------------------------------------------------ */

const struct jinja_builtin *llm_jinja_find_builtin(const struct jinja_builtin *table,
                                                   const struct jinja_string *name)
{
    for (; table->name; table++)
        if (llm_jinja_is_text(name, table->name))
            return table;
    return NULL;
}

const struct jinja_builtin *llm_jinja_find_filter(const struct jinja_string *name)
{
    const struct jinja_builtin *const tables[] = {llm_jinja_text_filters, llm_jinja_list_filters,
                                                  llm_jinja_value_filters};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const struct jinja_builtin *row = llm_jinja_find_builtin(tables[i], name);
        if (row)
            return row;
    }
    return NULL;
}

/* The next parameter of a row's words: its name's bytes; `*words` moves behind it. */
static size_t next_parameter(const char **words, bool *out_required)
{
    size_t count = strcspn(*words, " !");
    *out_required = (*words)[count] == '!';
    const char *behind = *words + count + *out_required;
    *words = *behind == ' ' ? behind + 1 : behind;
    return count;
}

/* Take the keyword of this name out of `left`; false: not given. */
static bool take_keyword(const struct jinja_arguments *all, const char *name, size_t bytes,
                         bool *taken, struct jinja_value *out)
{
    for (size_t i = 0; i < all->keyword_count; i++) {
        const struct jinja_string *keyword = all->keywords[i].name;
        if (keyword->count == bytes && memcmp(keyword->bytes, name, bytes) == 0) {
            *out = all->keywords[i].value;
            *taken = true;
            return true;
        }
    }
    return false;
}

/* Sort the arguments into call->at by the row's parameters. */
static bool sort_arguments(struct jinja_run *run, const struct jinja_builtin *row,
                           const struct jinja_arguments *all, struct jinja_call *call)
{
    const char *words = row->parameters;
    size_t index = 0, keywords_taken = 0;
    for (; *words; index++) {
        const char *name = words;
        bool required, taken = false;
        size_t bytes = next_parameter(&words, &required);
        call->at[index] = (struct jinja_value){.kind = JINJA_ABSENT};
        if (index < all->count)
            call->at[index] = all->values[index];
        else if (!take_keyword(all, name, bytes, &taken, &call->at[index]) && required)
            (void)llm_jinja_fail(run, LLM_ERR_INVALID, "%s() misses its argument \"%.*s\"",
                                 row->name, (int)bytes, name);
        keywords_taken += taken;
    }
    for (size_t i = index; i < JINJA_PARAMETERS_MAX; i++)
        call->at[i] = (struct jinja_value){.kind = JINJA_ABSENT};
    if (all->count > index)
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "%s() takes at most %zu arguments, not %zu",
                             row->name, index, all->count);
    else if (all->keyword_count > keywords_taken)
        (void)llm_jinja_fail(run, LLM_ERR_INVALID,
                             "%s() does not know one of its keyword arguments, or has it twice",
                             row->name);
    return !llm_jinja_failed(run);
}

struct jinja_value llm_jinja_call_builtin(struct jinja_run *run, const struct jinja_builtin *row,
                                          struct jinja_value self,
                                          const struct jinja_arguments *arguments)
{
    struct jinja_call call = {.all = arguments};
    if (!llm_jinja_charge(run, 1))
        return jinja_undefined();
    if (*row->parameters != '*' && !sort_arguments(run, row, arguments, &call))
        return jinja_undefined();
    struct jinja_value value = row->call(run, self, &call);
    return llm_jinja_failed(run) ? jinja_undefined() : value;
}

struct jinja_value llm_jinja_apply_filter(struct jinja_run *run, const struct jinja_string *name,
                                          struct jinja_value self,
                                          const struct jinja_arguments *arguments)
{
    const struct jinja_builtin *row = llm_jinja_find_filter(name);
    if (!row)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "no filter named '%.*s'",
                              (int)(name->count < 60 ? name->count : 60), name->bytes);
    return llm_jinja_call_builtin(run, row, self, arguments);
}

bool llm_jinja_apply_test(struct jinja_run *run, const struct jinja_string *name,
                          struct jinja_value self, const struct jinja_arguments *arguments)
{
    const struct jinja_builtin *row = llm_jinja_find_builtin(llm_jinja_tests, name);
    if (!row) {
        (void)llm_jinja_fail(run, LLM_ERR_INVALID, "no test named '%.*s'",
                             (int)(name->count < 60 ? name->count : 60), name->bytes);
        return false;
    }
    struct jinja_value v = llm_jinja_call_builtin(run, row, self, arguments);
    return v.kind == JINJA_BOOL && v.truth;
}

/* ---- Macros -------------------------------------------------------------------------------------------------- */

struct jinja_value llm_jinja_macro_value(struct jinja_run *run, const struct jinja_node *macro)
{
    struct jinja_function *function = llm_jinja_take(run, sizeof *function);
    if (!function)
        return jinja_undefined();
    *function = (struct jinja_function){.macro = macro, .scope = run->scope};
    return (struct jinja_value){.kind = JINJA_FUNCTION, .function = function};
}

/* The keyword of this name; its place in `used` is marked. */
static struct jinja_value keyword_of(const struct jinja_arguments *all,
                                     const struct jinja_string *name, size_t *used)
{
    for (size_t i = 0; i < all->keyword_count; i++)
        if (llm_jinja_same_text(all->keywords[i].name, name)) {
            ++*used;
            return all->keywords[i].value;
        }
    return (struct jinja_value){.kind = JINJA_ABSENT};
}

static struct jinja_value not_provided(struct jinja_run *run, const struct jinja_string *name)
{
    char sentence[128];
    int bytes = snprintf(sentence, sizeof sentence, "parameter '%.*s' was not provided",
                         (int)(name->count < 80 ? name->count : 80), name->bytes);
    struct jinja_value v = llm_jinja_copy(run, sentence, (size_t)bytes);
    if (!jinja_is_string(v))
        return jinja_undefined();
    return (struct jinja_value){
        .kind = JINJA_UNDEFINED, .flavor = JINJA_SENTENCE, .string = v.string};
}

static bool is_parameter(const struct jinja_node *macro, const struct jinja_string *name)
{
    for (const struct jinja_node *p = macro->a; p; p = p->next)
        if (llm_jinja_same_text(p->name, name))
            return true;
    return false;
}

/* Bind the parameters in run->scope, the macro's own; returns how many keywords they took. */
static size_t bind_parameters(struct jinja_run *run, const struct jinja_node *macro,
                              const struct jinja_arguments *all)
{
    size_t index = 0, used = 0;
    for (const struct jinja_node *p = macro->a; p && !llm_jinja_failed(run); p = p->next, index++) {
        struct jinja_value v =
            index < all->count ? all->values[index] : keyword_of(all, p->name, &used);
        if (jinja_is_absent(v))
            v = p->a ? llm_jinja_evaluate(run, p->a) : not_provided(run, p->name);
        llm_jinja_bind(run, p->name, v);
    }
    if (index < all->count && !(macro->op & JINJA_USES_VARARGS))
        (void)llm_jinja_fail(run, LLM_ERR_INVALID,
                             "macro '%.*s' takes not more than %zu argument(s)",
                             macro->name ? (int)macro->name->count : 0,
                             macro->name ? macro->name->bytes : "", index);
    return used;
}

/* caller, varargs and kwargs, where the body speaks of them. */
static void bind_special(struct jinja_run *run, const struct jinja_node *macro,
                         const struct jinja_arguments *all, size_t used)
{
    static const struct jinja_string caller = {"caller", 6, 6}, varargs = {"varargs", 7, 7},
                                     kwargs = {"kwargs", 6, 6};
    if (macro->op & JINJA_USES_CALLER && !is_parameter(macro, &caller)) {
        struct jinja_value v = keyword_of(all, &caller, &used);
        if (!jinja_is_absent(v))
            llm_jinja_bind(run, &caller, v);
    }
    if (macro->op & JINJA_USES_VARARGS) {
        struct jinja_value list = llm_jinja_list(run, JINJA_TUPLE, 0);
        size_t index = 0;
        for (const struct jinja_node *p = macro->a; p; p = p->next)
            index++;
        for (; index < all->count; index++)
            llm_jinja_push(run, list, all->values[index]);
        llm_jinja_bind(run, &varargs, list);
    }
    if (!(macro->op & JINJA_USES_KWARGS)) {
        if (used < all->keyword_count)
            (void)llm_jinja_fail(run, LLM_ERR_INVALID,
                                 "a macro is called with a keyword argument that it does not take");
        return;
    }
    struct jinja_value dict = llm_jinja_dict(run);
    for (size_t i = 0; i < all->keyword_count && !llm_jinja_failed(run); i++)
        if (!is_parameter(macro, all->keywords[i].name) &&
            !(macro->op & JINJA_USES_CALLER && llm_jinja_same_text(all->keywords[i].name, &caller)))
            llm_jinja_put(
                run, dict.dict,
                (struct jinja_value){.kind = JINJA_STRING, .string = all->keywords[i].name},
                all->keywords[i].value);
    llm_jinja_bind(run, &kwargs, dict);
}

static struct jinja_value call_macro(struct jinja_run *run, const struct jinja_function *function,
                                     const struct jinja_arguments *all)
{
    struct jinja_scope *around = run->scope, *scope = llm_jinja_scope(run, function->scope);
    if (!scope)
        return jinja_undefined();
    run->scope = scope;
    size_t used = bind_parameters(run, function->macro, all);
    bind_special(run, function->macro, all, used);
    struct jinja_value text = llm_jinja_body_text(run, function->macro->list, scope);
    run->scope = around;
    return text;
}

/* ---- Anything that can be called ---------------------------------------------------------------------------------- */

struct jinja_value llm_jinja_call_value(struct jinja_run *run, struct jinja_value callee,
                                        const struct jinja_arguments *arguments)
{
    if (llm_jinja_failed(run))
        return jinja_undefined();
    if (callee.kind == JINJA_UNDEFINED)
        return llm_jinja_fail_undefined(run, callee);
    if (callee.kind == JINJA_LOOP && arguments->count == 1 && arguments->keyword_count == 0)
        return llm_jinja_loop_again(run, callee.loop, arguments->values[0]);
    if (callee.kind != JINJA_FUNCTION)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "'%s' object is not callable",
                              llm_jinja_type_name(callee));
    if (callee.function->macro)
        return call_macro(run, callee.function, arguments);
    return llm_jinja_call_builtin(run, callee.function->builtin, callee.function->self, arguments);
}
