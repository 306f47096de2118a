#include "client/text/jinja/sort.h"

#include "client/text/jinja/characters.h"

static struct jinja_value single_key(struct jinja_run *run, struct jinja_value item,
                                     struct jinja_value path, bool case_sensitive)
{
    struct jinja_value key = llm_jinja_path(run, item, path);
    if (jinja_is_string(key) && !case_sensitive)
        key = llm_jinja_change_case(run, key, JINJA_LOWER);
    return key;
}

struct jinja_value llm_jinja_sort_key(struct jinja_run *run, struct jinja_value item,
                                      struct jinja_value path, bool case_sensitive)
{
    if (!jinja_is_string(path) || path.string->count == 0 ||
        !memchr(path.string->bytes, ',', path.string->count))
        return single_key(run, item, path, case_sensitive);
    struct jinja_value keys = llm_jinja_list(run, JINJA_PLAIN_LIST, 2);
    const char *at = path.string->bytes, *end = at + path.string->count;
    while (at && !llm_jinja_failed(run)) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct jinja_value part = llm_jinja_string(run, at, (size_t)((comma ? comma : end) - at));
        llm_jinja_push(run, keys, single_key(run, item, part, case_sensitive));
        at = comma ? comma + 1 : NULL;
    }
    return keys;
}

/* Merge the sorted [0, middle) and [middle, count) into `out`. */
static void merge(struct jinja_run *run, const struct jinja_sort_item *items, size_t middle,
                  size_t count, bool reverse, struct jinja_sort_item *out)
{
    size_t left = 0, right = middle;
    for (size_t i = 0; i < count; i++) {
        bool take_right = left == middle;
        if (left < middle && right < count) {
            int order = llm_jinja_order(run, items[left].key, items[right].key);
            take_right = reverse ? order < 0 : order > 0;
        }
        out[i] = items[take_right ? right++ : left++];
    }
}

void llm_jinja_sort(struct jinja_run *run, struct jinja_sort_item *items, size_t count,
                    bool reverse)
{
    struct jinja_sort_item *from = items, *to = llm_jinja_take(run, count * sizeof *items);
    if (!to)
        return;
    for (size_t width = 1; width < count && !llm_jinja_failed(run); width *= 2) {
        for (size_t at = 0; at < count; at += 2 * width) {
            size_t left = count - at < 2 * width ? count - at : 2 * width;
            merge(run, from + at, left < width ? left : width, left, reverse, to + at);
        }
        struct jinja_sort_item *swapped = from;
        from = to;
        to = swapped;
    }
    if (from != items && count > 0)
        memcpy(items, from, count * sizeof *items);
}
