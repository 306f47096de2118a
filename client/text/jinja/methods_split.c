/* Methods of strings that cut and join, and the methods of dicts and lists. */
#include "client/text/jinja/characters.h"
#include "client/text/jinja/filters.h"

typedef const struct jinja_call *call_t;

static void push_piece(struct jinja_run *run, struct jinja_value list, struct jinja_value self,
                       size_t start, size_t end)
{
    struct jinja_value piece = llm_jinja_string(run, self.string->bytes + start, end - start);
    if (jinja_is_string(piece))
        piece.flavor = self.flavor;
    llm_jinja_push(run, list, piece);
}

static void reverse(struct jinja_list *list)
{
    for (size_t i = 0; i < list->count / 2; i++) {
        struct jinja_value swapped = list->items[i];
        list->items[i] = list->items[list->count - 1 - i];
        list->items[list->count - 1 - i] = swapped;
    }
}

/* The character before `end`. */
static size_t step_back(const struct jinja_string *s, size_t end, uint32_t *out)
{
    size_t at = end - 1;
    unsigned length;
    while (at > 0 && ((unsigned char)s->bytes[at] & 0xc0) == 0x80)
        at--;
    *out = llm_jinja_character(s->bytes, end, at, &length);
    return at;
}

/* At white space, from the front. */
static void split_words(struct jinja_run *run, struct jinja_value self, int64_t splits,
                        struct jinja_value list)
{
    const struct jinja_string *s = self.string;
    size_t at = 0, start;
    unsigned length = 0;
    while (!llm_jinja_failed(run)) {
        while (at < s->count &&
               llm_jinja_is_space(llm_jinja_character(s->bytes, s->count, at, &length)))
            at += length;
        if (at == s->count)
            return;
        start = at;
        if (splits-- == 0) { /* the rest, with the white space behind it */
            push_piece(run, list, self, start, s->count);
            return;
        }
        while (at < s->count &&
               !llm_jinja_is_space(llm_jinja_character(s->bytes, s->count, at, &length)))
            at += length;
        push_piece(run, list, self, start, at);
    }
}

/* At white space, from the back; the pieces come out backwards. */
static void split_words_back(struct jinja_run *run, struct jinja_value self, int64_t splits,
                             struct jinja_value list)
{
    const struct jinja_string *s = self.string;
    size_t end = s->count, at;
    uint32_t c;
    while (!llm_jinja_failed(run)) {
        while (end > 0 && (at = step_back(s, end, &c), llm_jinja_is_space(c)))
            end = at;
        if (end == 0)
            return;
        if (splits-- == 0) {
            push_piece(run, list, self, 0, end);
            return;
        }
        size_t stop = end;
        while (end > 0 && (at = step_back(s, end, &c), !llm_jinja_is_space(c)))
            end = at;
        push_piece(run, list, self, end, stop);
    }
}

static void split_at(struct jinja_run *run, struct jinja_value self, const struct jinja_string *sep,
                     int64_t splits, struct jinja_value list)
{
    const char *start = self.string->bytes, *at = start, *end = start + self.string->count;
    while (!llm_jinja_failed(run)) {
        const char *found =
            splits-- == 0 ? NULL : memmem(at, (size_t)(end - at), sep->bytes, sep->count);
        push_piece(run, list, self, (size_t)(at - start), (size_t)((found ? found : end) - start));
        if (!found)
            return;
        at = found + sep->count;
    }
}

/* From the back; the pieces come out backwards. */
static void split_at_back(struct jinja_run *run, struct jinja_value self,
                          const struct jinja_string *sep, int64_t splits, struct jinja_value list)
{
    const struct jinja_string *s = self.string;
    size_t end = s->count, at = end;
    if (!llm_jinja_charge(run, s->count * (1 + sep->count / 64)))
        return;
    while (splits != 0 && at >= sep->count && !llm_jinja_failed(run)) {
        if (memcmp(s->bytes + at - sep->count, sep->bytes, sep->count) != 0) {
            at--;
            continue;
        }
        push_piece(run, list, self, at, end);
        end = at -= sep->count;
        splits--;
    }
    push_piece(run, list, self, 0, end);
}

static struct jinja_value split(struct jinja_run *run, struct jinja_value self, call_t call,
                                bool back)
{
    const struct jinja_string *sep = llm_jinja_string_argument(run, call->at[0], "sep");
    int64_t splits = llm_jinja_int_argument(run, call->at[1], "maxsplit", -1);
    struct jinja_value list = llm_jinja_list(run, JINJA_PLAIN_LIST, 0);
    splits = splits < 0 ? -1 : splits;
    if (!llm_jinja_charge_bytes(run, self.string->count) || list.kind != JINJA_LIST)
        return jinja_undefined();
    if (sep && sep->count == 0)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "empty separator");
    if (sep && !back)
        split_at(run, self, sep, splits, list);
    else if (sep)
        split_at_back(run, self, sep, splits, list);
    else if (!back)
        split_words(run, self, splits, list);
    else
        split_words_back(run, self, splits, list);
    if (back)
        reverse(list.list);
    return list;
}

static struct jinja_value text_split(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return split(run, self, call, false);
}

static struct jinja_value text_rsplit(struct jinja_run *run, struct jinja_value self, call_t call)
{
    return split(run, self, call, true);
}

/* ("before", sep, "behind"), or the whole and two empty ones. */
static struct jinja_value partition(struct jinja_run *run, struct jinja_value self, call_t call,
                                    bool last)
{
    const struct jinja_string *sep = llm_jinja_string_argument(run, call->at[0], "sep");
    struct jinja_value list = llm_jinja_list(run, JINJA_PLAIN_LIST, 2);
    struct jinja_value triple = llm_jinja_list(run, JINJA_TUPLE, 3);
    if (!sep || sep->count == 0 || list.kind != JINJA_LIST)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "empty separator");
    if (last)
        split_at_back(run, self, sep, 1, list);
    else
        split_at(run, self, sep, 1, list);
    if (llm_jinja_failed(run))
        return jinja_undefined();
    if (last)
        reverse(list.list);
    bool found = list.list->count == 2;
    struct jinja_value empty = llm_jinja_text(run, "");
    struct jinja_value middle = {.kind = JINJA_STRING, .string = sep};
    llm_jinja_push(run, triple, found || !last ? list.list->items[0] : empty);
    llm_jinja_push(run, triple, found ? middle : empty);
    llm_jinja_push(run, triple, found ? list.list->items[1] : last ? list.list->items[0] : empty);
    return triple;
}

static struct jinja_value text_partition(struct jinja_run *run, struct jinja_value self,
                                         call_t call)
{
    return partition(run, self, call, false);
}

static struct jinja_value text_rpartition(struct jinja_run *run, struct jinja_value self,
                                          call_t call)
{
    return partition(run, self, call, true);
}

struct jinja_value llm_jinja_split_lines(struct jinja_run *run, const struct jinja_string *text,
                                         bool keep_ends)
{
    struct jinja_value list = llm_jinja_list(run, JINJA_PLAIN_LIST, 0);
    struct jinja_value self = {.kind = JINJA_STRING, .string = text};
    size_t start = 0;
    unsigned length;
    for (size_t at = 0; at < text->count && !llm_jinja_failed(run);) {
        uint32_t c = llm_jinja_character(text->bytes, text->count, at, &length);
        size_t end = at;
        at += length;
        if (!llm_jinja_is_line_end(c))
            continue;
        if (c == '\r' && at < text->count && text->bytes[at] == '\n')
            at++;
        push_piece(run, list, self, start, keep_ends ? at : end);
        start = at;
    }
    if (start < text->count)
        push_piece(run, list, self, start, text->count);
    return list;
}

static struct jinja_value text_splitlines(struct jinja_run *run, struct jinja_value self,
                                          call_t call)
{
    return llm_jinja_split_lines(run, self.string, llm_jinja_bool_argument(call->at[0], false));
}

static struct jinja_value text_join(struct jinja_run *run, struct jinja_value self, call_t call)
{
    const struct jinja_list *items = llm_jinja_iterate(run, call->at[0]);
    struct llm_buffer out = {0};
    for (size_t i = 0; items && i < items->count && !llm_jinja_failed(run); i++) {
        if (i > 0)
            llm_jinja_append_string(run, &out, self.string);
        if (jinja_is_string(items->items[i]))
            llm_jinja_append_string(run, &out, items->items[i].string);
        else
            (void)llm_jinja_fail(run, LLM_ERR_INVALID,
                                 "sequence item %zu: expected str instance, %s found", i,
                                 llm_jinja_type_name(items->items[i]));
    }
    return llm_jinja_finish(run, &out);
}

/* ---- "{} and {name}".format(...) -------------------------------------------------------------------------------------- */

/* The argument that a field names: nothing (the next), a number or a keyword. */
static struct jinja_value field_value(struct jinja_run *run, const char *name, size_t bytes,
                                      const struct jinja_arguments *all, size_t *next)
{
    size_t index = 0, digits = 0;
    while (digits < bytes && name[digits] >= '0' && name[digits] <= '9' && index < 100000)
        index = index * 10 + (size_t)(name[digits++] - '0');
    if (digits == bytes) {
        index = bytes == 0 ? (*next)++ : index;
        if (index < all->count)
            return all->values[index];
        return llm_jinja_fail(run, LLM_ERR_INVALID, "format() has no argument %zu", index);
    }
    for (size_t i = 0; i < all->keyword_count; i++)
        if (all->keywords[i].name->count == bytes &&
            memcmp(all->keywords[i].name->bytes, name, bytes) == 0)
            return all->keywords[i].value;
    return llm_jinja_fail(run, LLM_ERR_UNSUPPORTED,
                          "format() has no argument \"%.*s\" (fields with attributes, items, "
                          "conversions and widths are not supported)",
                          (int)(bytes < 40 ? bytes : 40), name);
}

static struct jinja_value text_format(struct jinja_run *run, struct jinja_value self, call_t call)
{
    const char *at = self.string->bytes, *end = at + self.string->count;
    struct llm_buffer out = {0};
    size_t next = 0;
    while (at < end && !llm_jinja_failed(run)) {
        if ((*at == '{' || *at == '}') && at + 1 < end && at[1] == *at) {
            llm_jinja_append(run, &out, at, 1);
            at += 2;
        } else if (*at == '{') {
            const char *close = memchr(at, '}', (size_t)(end - at));
            if (close)
                llm_jinja_show(
                    run, &out,
                    field_value(run, at + 1, (size_t)(close - at - 1), call->all, &next));
            else
                (void)llm_jinja_fail(run, LLM_ERR_INVALID, "format(): a \"{\" without its \"}\"");
            at = close ? close + 1 : end;
        } else if (*at == '}') {
            (void)llm_jinja_fail(run, LLM_ERR_INVALID, "format(): a \"}\" without its \"{\"");
        } else {
            llm_jinja_append(run, &out, at++, 1);
        }
    }
    return llm_jinja_finish(run, &out);
}

const struct jinja_builtin llm_jinja_split_methods[] = {
    {"format", "*", text_format},
    {"join", "iterable!", text_join},
    {"partition", "sep!", text_partition},
    {"rpartition", "sep!", text_rpartition},
    {"rsplit", "sep maxsplit", text_rsplit},
    {"split", "sep maxsplit", text_split},
    {"splitlines", "keepends", text_splitlines},
    {0},
};

/* ---- Dicts -------------------------------------------------------------------------------------------------------------- */

static struct jinja_value dict_get(struct jinja_run *run, struct jinja_value self, call_t call)
{
    if (!llm_jinja_is_key(call->at[0]))
        return llm_jinja_fail(run, LLM_ERR_INVALID, "unhashable type: '%s'",
                              llm_jinja_type_name(call->at[0]));
    const struct jinja_entry *entry = llm_jinja_find(run, self.dict, call->at[0]);
    if (entry)
        return entry->value;
    return jinja_is_absent(call->at[1]) ? jinja_none() : call->at[1];
}

/* Keys, values or pairs of both. */
static struct jinja_value dict_view(struct jinja_run *run, struct jinja_value self,
                                    enum jinja_list_flavor flavor)
{
    struct jinja_value list = llm_jinja_list(run, flavor, self.dict->count);
    for (size_t i = 0; i < self.dict->count && !llm_jinja_failed(run); i++) {
        const struct jinja_entry *e = &self.dict->entries[i];
        llm_jinja_push(run, list,
                       flavor == JINJA_DICT_KEYS     ? e->key
                       : flavor == JINJA_DICT_VALUES ? e->value
                                                     : llm_jinja_pair(run, e->key, e->value));
    }
    return list;
}

static struct jinja_value dict_items(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    return dict_view(run, self, JINJA_DICT_ITEMS);
}

static struct jinja_value dict_keys(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    return dict_view(run, self, JINJA_DICT_KEYS);
}

static struct jinja_value dict_values(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    return dict_view(run, self, JINJA_DICT_VALUES);
}

static struct jinja_value self_copy(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)run;
    (void)call;
    return self; /* nothing can change either */
}

const struct jinja_builtin llm_jinja_dict_methods[] = {
    {"copy", "", self_copy}, {"get", "key! default", dict_get}, {"items", "", dict_items},
    {"keys", "", dict_keys}, {"values", "", dict_values},       {0},
};

/* ---- Lists -------------------------------------------------------------------------------------------------------------- */

static struct jinja_value list_count(struct jinja_run *run, struct jinja_value self, call_t call)
{
    int64_t count = 0;
    for (size_t i = 0; i < self.list->count && !llm_jinja_failed(run); i++)
        count += llm_jinja_equal(run, self.list->items[i], call->at[0]);
    return jinja_int(count);
}

static struct jinja_value list_index(struct jinja_run *run, struct jinja_value self, call_t call)
{
    for (size_t i = 0; i < self.list->count && !llm_jinja_failed(run); i++)
        if (llm_jinja_equal(run, self.list->items[i], call->at[0]))
            return jinja_int((int64_t)i);
    return llm_jinja_fail(run, LLM_ERR_INVALID, "the value is not in the list");
}

const struct jinja_builtin llm_jinja_list_methods[] = {
    {"copy", "", self_copy},
    {"count", "value!", list_count},
    {"index", "value!", list_index},
    {0},
};
