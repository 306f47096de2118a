/*
 * value.h - what a template computes with: Python's values, as far as templates can see them.
 *
 * Idea     A value is 16 bytes: a kind, two small facts about it and a number or a pointer. Strings, lists and
 *          dicts never change once they are reachable from a template (the sandbox that the reference uses
 *          forbids append(), pop() and their like), so slices and copies share memory. Only a namespace changes.
 * Owner    Everything lives in the run's arena and goes with it; nothing is freed by itself.
 * Trust    Templates and variables are hostile. Each constructor may fail for want of memory: it then records the
 *          failure in the run and returns undefined, and whoever holds the value stops at the next check.
 * See      client/text/jinja/run.h, https://docs.python.org/3/reference/datamodel.html
 */
#ifndef LLM_CLIENT_TEXT_JINJA_VALUE_H
#define LLM_CLIENT_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jinja_run;

enum jinja_kind {
    JINJA_UNDEFINED = 0, /* flavor: why; string: the name or the sentence */
    JINJA_ABSENT,        /* an argument that was not given; never seen by a template */
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_BIG_INT, /* an integer of the variables beyond 64 bits: its digits; only shown */
    JINJA_FLOAT,
    JINJA_STRING, /* flavor 1: marked safe, which escapes what is added to it */
    JINJA_LIST,
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_FUNCTION,
    JINJA_LOOP,
};

enum jinja_undefined { /* flavor of JINJA_UNDEFINED */
    JINJA_NO_SENTENCE = 0,
    JINJA_NO_NAME,      /* 'name' is undefined */
    JINJA_NO_ATTRIBUTE, /* 'list object' has no attribute 'name'; `of` is the object's kind */
    JINJA_NO_ELEMENT,   /* list object has no element name */
    JINJA_UNSAFE,       /* access to attribute 'name' of 'list' object is unsafe. */
    JINJA_SENTENCE,     /* string is the sentence */
};

enum jinja_list_flavor { /* flavor of JINJA_LIST */
    JINJA_PLAIN_LIST = 0,
    JINJA_TUPLE,
    JINJA_RANGE,
    JINJA_GENERATOR, /* what map, select and others give: no length, no index, read once */
    JINJA_DICT_KEYS,
    JINJA_DICT_VALUES,
    JINJA_DICT_ITEMS,
};

struct jinja_string { /* well-formed UTF-8, not terminated */
    const char *bytes;
    size_t count;
    size_t characters; /* code points; equal to count: ASCII */
};

struct jinja_value {
    uint8_t kind;   /* enum jinja_kind */
    uint8_t flavor; /* see the kinds */
    uint8_t of;     /* JINJA_UNDEFINED: the kind of what it was looked for in */
    union {
        bool truth;
        int64_t integer;
        double real;
        const struct jinja_string *string;
        struct jinja_list *list;
        struct jinja_dict *dict; /* also of a namespace */
        const struct jinja_function *function;
        struct jinja_loop *loop;
    };
};

struct jinja_list {
    struct jinja_value *items; /* [count] */
    size_t count;
    size_t capacity;
};

struct jinja_entry {
    struct jinja_value key;
    struct jinja_value value;
};

struct
    jinja_dict { /* in order of insertion; looked up through `slots` once it is larger than a few entries */
    struct jinja_entry *entries; /* [count] */
    size_t count;
    size_t capacity;
    uint32_t *slots; /* [slot_count]: entry + 1, or 0; NULL while the dict is small */
    size_t slot_count;
};

static inline struct jinja_value jinja_undefined(void)
{
    return (struct jinja_value){.kind = JINJA_UNDEFINED};
}
static inline struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.kind = JINJA_NONE};
}
static inline struct jinja_value jinja_bool(bool truth)
{
    return (struct jinja_value){.kind = JINJA_BOOL, .truth = truth};
}
static inline struct jinja_value jinja_int(int64_t integer)
{
    return (struct jinja_value){.kind = JINJA_INT, .integer = integer};
}
static inline struct jinja_value jinja_float(double real)
{
    return (struct jinja_value){.kind = JINJA_FLOAT, .real = real};
}
static inline bool jinja_is_string(struct jinja_value v)
{
    return v.kind == JINJA_STRING;
}
static inline bool jinja_is_absent(struct jinja_value v)
{
    return v.kind == JINJA_ABSENT;
}
/* A bool counts as an integer, as in Python. */
static inline bool jinja_is_integral(struct jinja_value v)
{
    return v.kind == JINJA_INT || v.kind == JINJA_BOOL;
}
static inline bool jinja_is_number(struct jinja_value v)
{
    return jinja_is_integral(v) || v.kind == JINJA_FLOAT;
}
static inline int64_t jinja_integer_of(struct jinja_value v) /* of an integral value */
{
    return v.kind == JINJA_BOOL ? v.truth : v.integer;
}
static inline double jinja_real_of(struct jinja_value v) /* of a number */
{
    return v.kind == JINJA_FLOAT ? v.real : (double)jinja_integer_of(v);
}

/* ---- Strings: `bytes` must stay; llm_jinja_copy() takes a copy ------------------------------------------- */

struct jinja_value llm_jinja_string(struct jinja_run *run, const char *bytes, size_t count);
struct jinja_value llm_jinja_copy(struct jinja_run *run, const char *bytes, size_t count);
/* A terminated text of ours. */
struct jinja_value llm_jinja_text(struct jinja_run *run, const char *text);
bool llm_jinja_same_text(const struct jinja_string *a, const struct jinja_string *b);
bool llm_jinja_is_text(const struct jinja_string *a, const char *text);

/* ---- Lists and dicts -------------------------------------------------------------------------------------- */

/* An empty list with room for `capacity`; undefined when there is no memory. */
struct jinja_value llm_jinja_list(struct jinja_run *run, enum jinja_list_flavor flavor,
                                  size_t capacity);
/* Only while nobody else has seen the list. Does nothing to a value that is no list. */
void llm_jinja_push(struct jinja_run *run, struct jinja_value list, struct jinja_value item);
/* A tuple of two. */
struct jinja_value llm_jinja_pair(struct jinja_run *run, struct jinja_value first,
                                  struct jinja_value second);

struct jinja_value llm_jinja_dict(struct jinja_run *run);
/* Whether a value can be a key: a list or a dict cannot. */
bool llm_jinja_is_key(struct jinja_value key);
/* Add or replace; a replaced key keeps its place. `key` must be one. */
void llm_jinja_put(struct jinja_run *run, struct jinja_dict *dict, struct jinja_value key,
                   struct jinja_value value);
/* NULL: no such key. */
struct jinja_entry *llm_jinja_find(struct jinja_run *run, const struct jinja_dict *dict,
                                   struct jinja_value key);
struct jinja_entry *llm_jinja_find_text(struct jinja_run *run, const struct jinja_dict *dict,
                                        const char *key);

/* ---- Comparison and truth (operators.c) ------------------------------------------------------------------- */

bool llm_jinja_truth(struct jinja_value v);
bool llm_jinja_equal(struct jinja_run *run, struct jinja_value a, struct jinja_value b);
/* -1, 0, 1; records the failure of values that have no order. */
int llm_jinja_order(struct jinja_run *run, struct jinja_value a, struct jinja_value b);

/* "str", "list", "NoneType": Python's name of the type. */
const char *llm_jinja_type_name(struct jinja_value v);

#endif
