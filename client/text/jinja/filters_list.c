/* Filters on lists and dicts. */
#include "client/text/jinja/filters.h"
#include "client/text/jinja/sort.h"

typedef const struct jinja_call *call_t;

static struct jinja_value sentence(struct jinja_run *run, const char *text)
{
    struct jinja_value v = llm_jinja_text(run, text);
    if (!jinja_is_string(v))
        return v;
    return (struct jinja_value){
        .kind = JINJA_UNDEFINED, .flavor = JINJA_SENTENCE, .string = v.string};
}

static struct jinja_value filter_list(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    struct jinja_value list = llm_jinja_list(run, JINJA_PLAIN_LIST, 0);
    if (items && list.kind == JINJA_LIST) /* shared: lists do not change */
        *list.list = (struct jinja_list){items->items, items->count, items->count};
    return list;
}

static struct jinja_value filter_first(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    return items && items->count > 0 ? items->items[0]
                                     : sentence(run, "No first item, sequence was empty.");
}

static struct jinja_value filter_last(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    return items && items->count > 0 ? items->items[items->count - 1]
                                     : sentence(run, "No last item, sequence was empty.");
}

static struct jinja_value filter_join(struct jinja_run *run, struct jinja_value self, call_t call)
{
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    struct jinja_value between = jinja_is_absent(call->at[0]) ? llm_jinja_text(run, "")
                                                              : llm_jinja_as_text(run, call->at[0]);
    struct llm_buffer out = {0};
    for (size_t i = 0; items && i < items->count && !llm_jinja_failed(run); i++) {
        if (i > 0)
            llm_jinja_append_string(run, &out, between.string);
        llm_jinja_show(run, &out, llm_jinja_path(run, items->items[i], call->at[1]));
    }
    return llm_jinja_finish(run, &out);
}

static struct jinja_value filter_reverse(struct jinja_run *run, struct jinja_value self,
                                         call_t call)
{
    (void)call;
    const struct jinja_value all[3] = {jinja_none(), jinja_none(), jinja_int(-1)};
    if (jinja_is_string(self))
        return llm_jinja_slice(run, self, all);
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    struct jinja_value list = llm_jinja_list(run, JINJA_GENERATOR, items ? items->count : 0);
    for (size_t i = items ? items->count : 0; i > 0; i--)
        llm_jinja_push(run, list, items->items[i - 1]);
    return list;
}

/* ---- Order ------------------------------------------------------------------------------------------------------- */

/* Sorted by path and case; NULL after a failure. */
static struct jinja_sort_item *sorted(struct jinja_run *run, const struct jinja_list *items,
                                      struct jinja_value path, bool case_sensitive, bool reverse)
{
    struct jinja_sort_item *pairs =
        items ? llm_jinja_take(run, items->count * sizeof *pairs) : NULL;
    if (!pairs)
        return NULL;
    for (size_t i = 0; i < items->count; i++) {
        pairs[i].item = items->items[i];
        pairs[i].key = llm_jinja_sort_key(run, items->items[i], path, case_sensitive);
    }
    llm_jinja_sort(run, pairs, items->count, reverse);
    return llm_jinja_failed(run) ? NULL : pairs;
}

static struct jinja_value filter_sort(struct jinja_run *run, struct jinja_value self, call_t call)
{
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    struct jinja_sort_item *pairs =
        sorted(run, items, call->at[2], llm_jinja_bool_argument(call->at[1], false),
               llm_jinja_bool_argument(call->at[0], false));
    struct jinja_value list = llm_jinja_list(run, JINJA_PLAIN_LIST, pairs ? items->count : 0);
    for (size_t i = 0; pairs && i < items->count; i++)
        llm_jinja_push(run, list, pairs[i].item);
    return list;
}

/* A dict's entries as a list of pairs. */
static struct jinja_value entries_of(struct jinja_run *run, const struct jinja_dict *dict,
                                     enum jinja_list_flavor flavor)
{
    struct jinja_value list = llm_jinja_list(run, flavor, dict->count);
    for (size_t i = 0; i < dict->count && !llm_jinja_failed(run); i++)
        llm_jinja_push(run, list,
                       llm_jinja_pair(run, dict->entries[i].key, dict->entries[i].value));
    return list;
}

static struct jinja_value filter_dictsort(struct jinja_run *run, struct jinja_value self,
                                          call_t call)
{
    const struct jinja_string *by = llm_jinja_string_argument(run, call->at[1], "by");
    bool by_value = by && llm_jinja_is_text(by, "value");
    if (self.kind == JINJA_UNDEFINED)
        return llm_jinja_fail_undefined(run, self);
    if (self.kind != JINJA_DICT || (by && !by_value && !llm_jinja_is_text(by, "key")))
        return llm_jinja_fail(run, LLM_ERR_INVALID,
                              self.kind == JINJA_DICT ? "dictsort() is by \"key\" or \"value\"%s"
                                                      : "dictsort() of %s",
                              self.kind == JINJA_DICT ? "" : llm_jinja_type_name(self));
    struct jinja_value list = entries_of(run, self.dict, JINJA_PLAIN_LIST);
    struct jinja_sort_item *pairs = llm_jinja_failed(run)
                                        ? NULL
                                        : sorted(run, list.list, jinja_int(by_value),
                                                 llm_jinja_bool_argument(call->at[0], false),
                                                 llm_jinja_bool_argument(call->at[2], false));
    for (size_t i = 0; pairs && i < list.list->count; i++)
        list.list->items[i] = pairs[i].item;
    return list;
}

const struct jinja_dict *llm_jinja_sorted_by_key(struct jinja_run *run,
                                                 const struct jinja_dict *dict)
{
    struct jinja_value list = entries_of(run, dict, JINJA_PLAIN_LIST), copy = llm_jinja_dict(run);
    struct jinja_sort_item *pairs =
        llm_jinja_failed(run) ? NULL : sorted(run, list.list, jinja_int(0), true, false);
    for (size_t i = 0; pairs && i < list.list->count; i++) {
        const struct jinja_list *pair = pairs[i].item.list;
        llm_jinja_put(run, copy.dict, pair->items[0], pair->items[1]);
    }
    return pairs ? copy.dict : NULL;
}

static struct jinja_value extreme(struct jinja_run *run, struct jinja_value self, call_t call,
                                  int wanted)
{
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    bool case_sensitive = llm_jinja_bool_argument(call->at[0], false);
    if (!items || items->count == 0)
        return sentence(run, "No aggregated item, sequence was empty.");
    struct jinja_value best = items->items[0];
    struct jinja_value best_key = llm_jinja_sort_key(run, best, call->at[1], case_sensitive);
    for (size_t i = 1; i < items->count && !llm_jinja_failed(run); i++) {
        struct jinja_value key =
            llm_jinja_sort_key(run, items->items[i], call->at[1], case_sensitive);
        if (llm_jinja_order(run, key, best_key) == wanted) {
            best = items->items[i];
            best_key = key;
        }
    }
    return best;
}

static struct jinja_value filter_min(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return extreme(run, self, call, -1);
}

static struct jinja_value filter_max(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return extreme(run, self, call, 1);
}

static struct jinja_value filter_sum(struct jinja_run *run, struct jinja_value self, call_t call)
{
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    struct jinja_value sum = jinja_is_absent(call->at[1]) ? jinja_int(0) : call->at[1];
    for (size_t i = 0; items && i < items->count && !llm_jinja_failed(run); i++)
        sum = llm_jinja_binary(run, JINJA_ADD, sum,
                               llm_jinja_path(run, items->items[i], call->at[0]));
    return sum;
}

static struct jinja_value filter_unique(struct jinja_run *run, struct jinja_value self, call_t call)
{
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    struct jinja_value seen = llm_jinja_dict(run), list = llm_jinja_list(run, JINJA_GENERATOR, 0);
    bool case_sensitive = llm_jinja_bool_argument(call->at[0], false);
    for (size_t i = 0; items && i < items->count && !llm_jinja_failed(run); i++) {
        struct jinja_value key =
            llm_jinja_sort_key(run, items->items[i], call->at[1], case_sensitive);
        if (!llm_jinja_is_key(key))
            return llm_jinja_fail(run, LLM_ERR_INVALID, "unhashable type: '%s'",
                                  llm_jinja_type_name(key));
        if (llm_jinja_failed(run) || llm_jinja_find(run, seen.dict, key))
            continue;
        llm_jinja_put(run, seen.dict, key, jinja_none());
        llm_jinja_push(run, list, items->items[i]);
    }
    return list;
}

/* ---- map, select and their like ----------------------------------------------------------------------------------- */

static struct jinja_value keyword(call_t call, const char *name, struct jinja_value fallback)
{
    for (size_t i = 0; i < call->all->keyword_count; i++)
        if (llm_jinja_is_text(call->all->keywords[i].name, name))
            return call->all->keywords[i].value;
    return fallback;
}

static struct jinja_value map_item(struct jinja_run *run, struct jinja_value item, call_t call,
                                   const struct jinja_arguments *rest)
{
    if (call->all->count > 0)
        return llm_jinja_apply_filter(run, call->all->values[0].string, item, rest);
    struct jinja_value fallback = keyword(call, "default", jinja_none());
    struct jinja_value v = llm_jinja_path(run, item, keyword(call, "attribute", jinja_none()));
    return v.kind == JINJA_UNDEFINED && fallback.kind != JINJA_NONE ? fallback : v;
}

static struct jinja_value filter_map(struct jinja_run *run, struct jinja_value self, call_t call)
{
    struct jinja_arguments rest = llm_jinja_arguments_from(call->all, 1);
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    struct jinja_value list = llm_jinja_list(run, JINJA_GENERATOR, items ? items->count : 0);
    bool named = call->all->count > 0 && jinja_is_string(call->all->values[0]);
    if (!named &&
        (call->all->count > 0 ||
         jinja_is_absent(keyword(call, "attribute", (struct jinja_value){.kind = JINJA_ABSENT}))))
        return llm_jinja_fail(run, LLM_ERR_INVALID, "map requires a filter argument");
    for (size_t i = 0; items && i < items->count && !llm_jinja_failed(run); i++)
        llm_jinja_push(run, list, map_item(run, items->items[i], call, &rest));
    return list;
}

/* Those items that pass (or, where `wanted` is false, fail) a test: of themselves, or of an attribute. */
static struct jinja_value select_items(struct jinja_run *run, struct jinja_value self, call_t call,
                                       bool wanted, size_t attribute)
{
    const struct jinja_arguments *all = call->all;
    struct jinja_arguments rest = llm_jinja_arguments_from(all, attribute + 1);
    struct jinja_value list = llm_jinja_list(run, JINJA_GENERATOR, 0);
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    if (attribute > all->count)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "Missing parameter for attribute name");
    if (all->count > attribute && !jinja_is_string(all->values[attribute]))
        return llm_jinja_fail(run, LLM_ERR_INVALID, "a test's name must be a string");
    for (size_t i = 0; items && i < items->count && !llm_jinja_failed(run); i++) {
        struct jinja_value v = items->items[i];
        if (attribute)
            v = llm_jinja_path(run, v, all->values[0]);
        bool passes = all->count > attribute
                          ? llm_jinja_apply_test(run, all->values[attribute].string, v, &rest)
                          : llm_jinja_truth(v);
        if (passes == wanted)
            llm_jinja_push(run, list, items->items[i]);
    }
    return list;
}

static struct jinja_value filter_select(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return select_items(run, self, call, true, 0);
}

static struct jinja_value filter_reject(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return select_items(run, self, call, false, 0);
}

static struct jinja_value filter_selectattr(struct jinja_run *run, struct jinja_value self,
                                            call_t call)
{
    return select_items(run, self, call, true, 1);
}

static struct jinja_value filter_rejectattr(struct jinja_run *run, struct jinja_value self,
                                            call_t call)
{
    return select_items(run, self, call, false, 1);
}

static struct jinja_value filter_items(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    if (self.kind == JINJA_UNDEFINED)
        return llm_jinja_list(run, JINJA_GENERATOR, 0);
    if (self.kind != JINJA_DICT)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "Can only get item pairs from a mapping.");
    return entries_of(run, self.dict, JINJA_GENERATOR);
}

static struct jinja_value filter_batch(struct jinja_run *run, struct jinja_value self, call_t call)
{
    int64_t size = llm_jinja_int_argument(run, call->at[0], "linecount", 0);
    const struct jinja_list *items = llm_jinja_iterate(run, self);
    struct jinja_value list = llm_jinja_list(run, JINJA_GENERATOR, 0), row = list;
    if (size < 1 || size > JINJA_RANGE_MAX)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "batch() of %lld", (long long)size);
    for (size_t i = 0; items && i < items->count && !llm_jinja_failed(run); i++) {
        if (i % (size_t)size == 0) {
            row = llm_jinja_list(run, JINJA_PLAIN_LIST, 0);
            llm_jinja_push(run, list, row);
        }
        llm_jinja_push(run, row, items->items[i]);
    }
    bool fill = !jinja_is_absent(call->at[1]) && call->at[1].kind != JINJA_NONE;
    while (fill && items && items->count > 0 && row.kind == JINJA_LIST &&
           row.list->count < (size_t)size && !llm_jinja_failed(run))
        llm_jinja_push(run, row, call->at[1]);
    return list;
}

const struct jinja_builtin llm_jinja_list_filters[] = {
    {"batch", "linecount! fill_with", filter_batch},
    {"dictsort", "case_sensitive by reverse", filter_dictsort},
    {"first", "", filter_first},
    {"items", "", filter_items},
    {"join", "d attribute", filter_join},
    {"last", "", filter_last},
    {"list", "", filter_list},
    {"map", "*", filter_map},
    {"max", "case_sensitive attribute", filter_max},
    {"min", "case_sensitive attribute", filter_min},
    {"reject", "*", filter_reject},
    {"rejectattr", "*", filter_rejectattr},
    {"reverse", "", filter_reverse},
    {"select", "*", filter_select},
    {"selectattr", "*", filter_selectattr},
    {"sort", "reverse case_sensitive attribute", filter_sort},
    {"sum", "attribute start", filter_sum},
    {"unique", "case_sensitive attribute", filter_unique},
    {0},
};
