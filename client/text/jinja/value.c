#include "client/text/jinja/value.h"

#include <math.h>
#include <string.h>

#include "client/text/jinja/run.h"

#define SMALL_DICT 8 /* entries that are looked through one by one */

/* ---- Strings ---------------------------------------------------------------------------------------- */

static size_t count_characters(const char *bytes, size_t count)
{
    size_t characters = 0;
    for (size_t i = 0; i < count; i++)
        characters += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    return characters;
}

struct jinja_value llm_jinja_string(struct jinja_run *run, const char *bytes, size_t count)
{
    struct jinja_string *string = llm_jinja_take(run, sizeof *string);
    if (!string || !llm_jinja_charge_bytes(run, count))
        return jinja_undefined();
    *string = (struct jinja_string){bytes, count, count_characters(bytes, count)};
    return (struct jinja_value){.kind = JINJA_STRING, .string = string};
}

struct jinja_value llm_jinja_copy(struct jinja_run *run, const char *bytes, size_t count)
{
    char *copy = llm_jinja_take(run, count);
    if (!copy)
        return jinja_undefined();
    if (count > 0)
        memcpy(copy, bytes, count);
    return llm_jinja_string(run, copy, count);
}

struct jinja_value llm_jinja_text(struct jinja_run *run, const char *text)
{
    return llm_jinja_string(run, text, strlen(text));
}

bool llm_jinja_same_text(const struct jinja_string *a, const struct jinja_string *b)
{
    return a->count == b->count && (a->count == 0 || memcmp(a->bytes, b->bytes, a->count) == 0);
}

bool llm_jinja_is_text(const struct jinja_string *a, const char *text)
{
    return a->count == strlen(text) && memcmp(a->bytes, text, a->count) == 0;
}

/* ---- Lists ------------------------------------------------------------------------------------------ */

struct jinja_value llm_jinja_list(struct jinja_run *run, enum jinja_list_flavor flavor,
                                  size_t capacity)
{
    struct jinja_list *list = llm_jinja_take(run, sizeof *list);
    if (!list || capacity > JINJA_RUN_BYTES_MAX / sizeof *list->items)
        return list ? llm_jinja_fail(run, LLM_ERR_LIMIT, "a list of %zu items", capacity)
                    : jinja_undefined();
    struct jinja_value *items = llm_jinja_take(run, capacity * sizeof *items);
    if (!items)
        return jinja_undefined();
    *list = (struct jinja_list){items, 0, capacity};
    return (struct jinja_value){.kind = JINJA_LIST, .flavor = (uint8_t)flavor, .list = list};
}

void llm_jinja_push(struct jinja_run *run, struct jinja_value value, struct jinja_value item)
{
    if (value.kind != JINJA_LIST || !llm_jinja_charge(run, 1))
        return;
    struct jinja_list *list = value.list;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity * 2 + 4;
        struct jinja_value *items = llm_jinja_take(run, capacity * sizeof *items);
        if (!items)
            return;
        if (list->count > 0)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
}

struct jinja_value llm_jinja_pair(struct jinja_run *run, struct jinja_value first,
                                  struct jinja_value second)
{
    struct jinja_value pair = llm_jinja_list(run, JINJA_TUPLE, 2);
    llm_jinja_push(run, pair, first);
    llm_jinja_push(run, pair, second);
    return pair;
}

/* ---- Dicts ------------------------------------------------------------------------------------------ */

struct jinja_value llm_jinja_dict(struct jinja_run *run)
{
    struct jinja_dict *dict = llm_jinja_take(run, sizeof *dict);
    if (!dict)
        return jinja_undefined();
    *dict = (struct jinja_dict){0};
    return (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
}

bool llm_jinja_is_key(struct jinja_value key)
{
    if (key.kind == JINJA_DICT || (key.kind == JINJA_LIST && key.flavor != JINJA_TUPLE))
        return false;
    for (size_t i = 0; key.kind == JINJA_LIST && i < key.list->count; i++)
        if (key.list->items[i].kind == JINJA_LIST || key.list->items[i].kind == JINJA_DICT)
            return false; /* tuples of tuples as keys: nobody's template, so refused rather than walked */
    return true;
}

static uint64_t mix(uint64_t h, uint64_t word)
{
    return (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t hash_number(double real)
{
    uint64_t bits;
    real += 0.0; /* -0.0 is 0.0 */
    memcpy(&bits, &real, sizeof bits);
    return mix(UINT64_C(0x1234567), bits);
}

/* Equal keys have equal hashes: 1, 1.0 and true are one key. */
static uint64_t hash_key(struct jinja_value key)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a, draft-eastlake-fnv */
    if (jinja_is_number(key)) {
        h = hash_number(jinja_real_of(key));
    } else if (key.kind == JINJA_STRING) {
        for (size_t i = 0; i < key.string->count; i++)
            h = (h ^ (unsigned char)key.string->bytes[i]) * UINT64_C(0x100000001b3);
    } else if (key.kind == JINJA_LIST) {
        for (size_t i = 0; i < key.list->count; i++)
            h = mix(h, hash_key(key.list->items[i]));
    }
    return h ^ h >> 32;
}

static size_t find_slot(struct jinja_run *run, const struct jinja_dict *dict,
                        struct jinja_value key)
{
    size_t slot = hash_key(key) & (dict->slot_count - 1);
    while (dict->slots[slot] != 0 && llm_jinja_charge(run, 1) &&
           !llm_jinja_equal(run, dict->entries[dict->slots[slot] - 1].key, key))
        slot = (slot + 1) & (dict->slot_count - 1);
    return slot;
}

struct jinja_entry *llm_jinja_find(struct jinja_run *run, const struct jinja_dict *dict,
                                   struct jinja_value key)
{
    if (dict->slots) {
        uint32_t entry = dict->slots[find_slot(run, dict, key)];
        return entry == 0 ? NULL : &dict->entries[entry - 1];
    }
    for (size_t i = 0; i < dict->count; i++)
        if (llm_jinja_equal(run, dict->entries[i].key, key))
            return &dict->entries[i];
    return NULL;
}

struct jinja_entry *llm_jinja_find_text(struct jinja_run *run, const struct jinja_dict *dict,
                                        const char *key)
{
    const struct jinja_string string = {key, strlen(key), strlen(key)};
    return llm_jinja_find(run, dict, (struct jinja_value){.kind = JINJA_STRING, .string = &string});
}

/* Room for one more entry; slots for at least twice as many. */
static bool grow(struct jinja_run *run, struct jinja_dict *dict)
{
    if (dict->count < dict->capacity)
        return true;
    size_t capacity = dict->capacity * 2 + 4;
    struct jinja_entry *entries = llm_jinja_take(run, capacity * sizeof *entries);
    if (!entries)
        return false;
    if (dict->count > 0)
        memcpy(entries, dict->entries, dict->count * sizeof *entries);
    dict->entries = entries;
    dict->capacity = capacity;
    if (capacity <= SMALL_DICT)
        return true;
    size_t slot_count = 4 * SMALL_DICT;
    while (slot_count < 2 * capacity)
        slot_count *= 2;
    dict->slots = llm_jinja_take(run, slot_count * sizeof *dict->slots);
    if (!dict->slots)
        return false;
    memset(dict->slots, 0, slot_count * sizeof *dict->slots);
    dict->slot_count = slot_count;
    for (size_t i = 0; i < dict->count; i++)
        dict->slots[find_slot(run, dict, dict->entries[i].key)] = (uint32_t)i + 1;
    return true;
}

void llm_jinja_put(struct jinja_run *run, struct jinja_dict *dict, struct jinja_value key,
                   struct jinja_value value)
{
    struct jinja_entry *entry = llm_jinja_find(run, dict, key);
    if (llm_jinja_failed(run))
        return;
    if (entry) {
        entry->value = value;
        return;
    }
    if (!grow(run, dict))
        return;
    dict->entries[dict->count++] = (struct jinja_entry){key, value};
    if (dict->slots)
        dict->slots[find_slot(run, dict, key)] = (uint32_t)dict->count;
}
