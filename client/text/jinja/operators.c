#include <math.h>
#include <string.h>

#include "client/text/jinja/interpret.h"

const char *llm_jinja_type_name(struct jinja_value v)
{
    static const char *const lists[] = {"list",      "tuple",       "range",     "generator",
                                        "dict_keys", "dict_values", "dict_items"};
    static const char *const kinds[] = {[JINJA_UNDEFINED] = "Undefined",
                                        [JINJA_ABSENT] = "Undefined",
                                        [JINJA_NONE] = "NoneType",
                                        [JINJA_BOOL] = "bool",
                                        [JINJA_INT] = "int",
                                        [JINJA_BIG_INT] = "int",
                                        [JINJA_FLOAT] = "float",
                                        [JINJA_STRING] = "str",
                                        [JINJA_DICT] = "dict",
                                        [JINJA_NAMESPACE] = "Namespace",
                                        [JINJA_FUNCTION] = "function",
                                        [JINJA_LOOP] = "LoopContext"};
    return v.kind == JINJA_LIST ? lists[v.flavor] : kinds[v.kind];
}

bool llm_jinja_truth(struct jinja_value v)
{
    switch ((enum jinja_kind)v.kind) {
    case JINJA_UNDEFINED:
    case JINJA_ABSENT:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v.truth;
    case JINJA_INT:
        return v.integer != 0;
    case JINJA_FLOAT:
        return v.real != 0;
    case JINJA_STRING:
        return v.string->count > 0;
    case JINJA_LIST:
        return v.list->count > 0 || v.flavor == JINJA_GENERATOR;
    case JINJA_DICT:
        return v.dict->count > 0;
    case JINJA_BIG_INT:
    case JINJA_NAMESPACE:
    case JINJA_FUNCTION:
    case JINJA_LOOP:
        break;
    }
    return true;
}

/* ---- Equality and order ------------------------------------------------------------------------------------- */

static bool equal_lists(struct jinja_run *run, struct jinja_value a, struct jinja_value b)
{
    if (a.flavor != b.flavor || a.list->count != b.list->count)
        return false;
    if (a.list == b.list)
        return true;
    for (size_t i = 0; i < a.list->count; i++)
        if (!llm_jinja_equal(run, a.list->items[i], b.list->items[i]))
            return false;
    return true;
}

static bool equal_dicts(struct jinja_run *run, const struct jinja_dict *a,
                        const struct jinja_dict *b)
{
    if (a == b || a->count != b->count)
        return a == b;
    for (size_t i = 0; i < a->count; i++) {
        const struct jinja_entry *entry = llm_jinja_find(run, b, a->entries[i].key);
        if (!entry || !llm_jinja_equal(run, a->entries[i].value, entry->value))
            return false;
    }
    return true;
}

static bool equal_numbers(struct jinja_value a, struct jinja_value b)
{
    if (jinja_is_integral(a) && jinja_is_integral(b))
        return jinja_integer_of(a) == jinja_integer_of(b);
    return jinja_real_of(a) == jinja_real_of(b);
}

bool llm_jinja_equal(struct jinja_run *run, struct jinja_value a, struct jinja_value b)
{
    if (!llm_jinja_charge(run, 1))
        return false;
    if (jinja_is_number(a) && jinja_is_number(b))
        return equal_numbers(a, b);
    if (a.kind != b.kind)
        return false;
    if (a.kind == JINJA_STRING || a.kind == JINJA_BIG_INT)
        return llm_jinja_charge_bytes(run, a.string->count) &&
               llm_jinja_same_text(a.string, b.string);
    if (a.kind == JINJA_NAMESPACE)
        return a.dict == b.dict;
    if (a.kind == JINJA_LOOP || a.kind == JINJA_FUNCTION)
        return a.loop == b.loop;
    if (a.kind != JINJA_LIST && a.kind != JINJA_DICT)
        return true; /* none and none, undefined and undefined */
    if (!llm_jinja_enter(run))
        return false;
    bool same = a.kind == JINJA_LIST ? equal_lists(run, a, b) : equal_dicts(run, a.dict, b.dict);
    run->depth--;
    return same;
}

static int order_texts(const struct jinja_string *a, const struct jinja_string *b)
{
    size_t shorter = a->count < b->count ? a->count : b->count;
    int order =
        shorter > 0 ? memcmp(a->bytes, b->bytes, shorter) : 0; /* UTF-8 orders as code points do */
    if (order == 0)
        return (a->count > b->count) - (a->count < b->count);
    return order < 0 ? -1 : 1;
}

static int order_numbers(struct jinja_value a, struct jinja_value b)
{
    if (jinja_is_integral(a) && jinja_is_integral(b)) {
        int64_t x = jinja_integer_of(a), y = jinja_integer_of(b);
        return (x > y) - (x < y);
    }
    double x = jinja_real_of(a), y = jinja_real_of(b);
    return (x > y) - (x < y);
}

static int order_lists(struct jinja_run *run, const struct jinja_list *a,
                       const struct jinja_list *b)
{
    int order = 0;
    if (!llm_jinja_enter(run))
        return 0;
    for (size_t i = 0; i < a->count && i < b->count && order == 0 && !llm_jinja_failed(run); i++)
        if (!llm_jinja_equal(run, a->items[i], b->items[i]))
            order = llm_jinja_order(run, a->items[i], b->items[i]);
    run->depth--;
    return order != 0 ? order : (a->count > b->count) - (a->count < b->count);
}

int llm_jinja_order(struct jinja_run *run, struct jinja_value a, struct jinja_value b)
{
    if (!llm_jinja_charge(run, 1))
        return 0;
    if (jinja_is_number(a) && jinja_is_number(b))
        return order_numbers(a, b);
    if (jinja_is_string(a) && jinja_is_string(b))
        return llm_jinja_charge_bytes(run, a.string->count) ? order_texts(a.string, b.string) : 0;
    if (a.kind == JINJA_LIST && b.kind == JINJA_LIST && a.flavor == b.flavor)
        return order_lists(run, a.list, b.list);
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED)
        (void)llm_jinja_fail_undefined(run, a.kind == JINJA_UNDEFINED ? a : b);
    else
        (void)llm_jinja_fail(run, LLM_ERR_INVALID,
                             "'<' not supported between instances of '%s' and '%s'",
                             llm_jinja_type_name(a), llm_jinja_type_name(b));
    return 0;
}

bool llm_jinja_contains(struct jinja_run *run, struct jinja_value container, struct jinja_value v)
{
    if (container.kind == JINJA_STRING) {
        if (!jinja_is_string(v)) {
            (void)llm_jinja_fail(run, LLM_ERR_INVALID,
                                 "'in <string>' requires string as left operand, not %s",
                                 llm_jinja_type_name(v));
            return false;
        }
        return llm_jinja_charge_bytes(run, container.string->count) &&
               memmem(container.string->bytes, container.string->count, v.string->bytes,
                      v.string->count) != NULL;
    }
    if (container.kind == JINJA_DICT) {
        if (!llm_jinja_is_key(v))
            (void)llm_jinja_fail(run, LLM_ERR_INVALID, "unhashable type: '%s'",
                                 llm_jinja_type_name(v));
        return !llm_jinja_failed(run) && llm_jinja_find(run, container.dict, v) != NULL;
    }
    const struct jinja_list *items = llm_jinja_iterate(run, container);
    for (size_t i = 0; items && i < items->count && !llm_jinja_failed(run); i++)
        if (llm_jinja_equal(run, items->items[i], v))
            return true;
    return false;
}

/* Numbers that are no numbers (nan) are neither below nor above anything. */
static bool unordered(struct jinja_value a, struct jinja_value b)
{
    return (a.kind == JINJA_FLOAT && isnan(a.real)) || (b.kind == JINJA_FLOAT && isnan(b.real));
}

bool llm_jinja_compare(struct jinja_run *run, unsigned op, struct jinja_value a,
                       struct jinja_value b)
{
    switch (op) {
    case JINJA_EQUAL:
        return llm_jinja_equal(run, a, b);
    case JINJA_UNEQUAL:
        return !llm_jinja_equal(run, a, b);
    case JINJA_IN:
        return llm_jinja_contains(run, b, a);
    case JINJA_NOT_IN:
        return !llm_jinja_contains(run, b, a);
    case JINJA_LESS:
        return llm_jinja_order(run, a, b) < 0 && !unordered(a, b);
    case JINJA_LESS_EQUAL:
        return llm_jinja_order(run, a, b) <= 0 && !unordered(a, b);
    case JINJA_GREATER:
        return llm_jinja_order(run, a, b) > 0 && !unordered(a, b);
    case JINJA_GREATER_EQUAL:
        return llm_jinja_order(run, a, b) >= 0 && !unordered(a, b);
    default: /* arithmetic is llm_jinja_binary()'s */
        return false;
    }
}

/* ---- Arithmetic -------------------------------------------------------------------------------------------------- */

static struct jinja_value unsupported(struct jinja_run *run, unsigned op, struct jinja_value a,
                                      struct jinja_value b)
{
    static const char *const signs[] = {"+", "-", "*", "/", "//", "%", "**"};
    if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED)
        return llm_jinja_fail_undefined(run, a.kind == JINJA_UNDEFINED ? a : b);
    if (op == JINJA_ADD && (a.kind == JINJA_STRING || a.kind == JINJA_LIST))
        return llm_jinja_fail(run, LLM_ERR_INVALID, "can only concatenate %s (not \"%s\") to %s",
                              llm_jinja_type_name(a), llm_jinja_type_name(b),
                              llm_jinja_type_name(a));
    return llm_jinja_fail(run, LLM_ERR_INVALID, "unsupported operand type(s) for %s: '%s' and '%s'",
                          signs[op], llm_jinja_type_name(a), llm_jinja_type_name(b));
}

static struct jinja_value too_large(struct jinja_run *run)
{
    return llm_jinja_fail(run, LLM_ERR_LIMIT, "an integer grows beyond 64 bits");
}

static struct jinja_value power_of_ints(struct jinja_run *run, int64_t base, int64_t exponent)
{
    int64_t product = 1;
    if (exponent < 0)
        return jinja_float(pow((double)base, (double)exponent));
    if (base == 0 || base == 1 || base == -1) /* the only ones that stay small */
        return jinja_int(exponent == 0 ? 1 : base == -1 && exponent % 2 == 0 ? 1 : base);
    for (; exponent > 0; exponent--)
        if (__builtin_mul_overflow(product, base, &product))
            return too_large(run);
    return jinja_int(product);
}

static struct jinja_value divide_ints(struct jinja_run *run, unsigned op, int64_t a, int64_t b)
{
    if (a == INT64_MIN && b == -1)
        return op == JINJA_FLOOR_DIVIDE ? too_large(run) : jinja_int(0);
    int64_t quotient = a / b, rest = a % b;
    if (rest != 0 && (rest < 0) != (b < 0)) { /* Python rounds down, C towards zero */
        quotient--;
        rest += b;
    }
    return jinja_int(op == JINJA_FLOOR_DIVIDE ? quotient : rest);
}

static struct jinja_value of_ints(struct jinja_run *run, unsigned op, int64_t a, int64_t b)
{
    int64_t result;
    switch (op) {
    case JINJA_ADD:
        return __builtin_add_overflow(a, b, &result) ? too_large(run) : jinja_int(result);
    case JINJA_SUBTRACT:
        return __builtin_sub_overflow(a, b, &result) ? too_large(run) : jinja_int(result);
    case JINJA_MULTIPLY:
        return __builtin_mul_overflow(a, b, &result) ? too_large(run) : jinja_int(result);
    case JINJA_DIVIDE:
        return jinja_float((double)a / (double)b);
    case JINJA_POWER:
        return power_of_ints(run, a, b);
    default:
        return divide_ints(run, op, a, b);
    }
}

static struct jinja_value of_reals(unsigned op, double a, double b)
{
    double rest;
    switch (op) {
    case JINJA_ADD:
        return jinja_float(a + b);
    case JINJA_SUBTRACT:
        return jinja_float(a - b);
    case JINJA_MULTIPLY:
        return jinja_float(a * b);
    case JINJA_DIVIDE:
        return jinja_float(a / b);
    case JINJA_FLOOR_DIVIDE:
        return jinja_float(floor(a / b));
    case JINJA_POWER:
        return jinja_float(pow(a, b));
    default:
        rest = fmod(a, b);
        return jinja_float(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
    }
}

static struct jinja_value of_numbers(struct jinja_run *run, unsigned op, struct jinja_value a,
                                     struct jinja_value b)
{
    bool divides = op == JINJA_DIVIDE || op == JINJA_FLOOR_DIVIDE || op == JINJA_MODULO;
    if ((divides && jinja_real_of(b) == 0) ||
        (op == JINJA_POWER && jinja_real_of(a) == 0 && jinja_real_of(b) < 0))
        return llm_jinja_fail(run, LLM_ERR_INVALID, "division by zero");
    if (jinja_is_integral(a) && jinja_is_integral(b))
        return of_ints(run, op, jinja_integer_of(a), jinja_integer_of(b));
    return of_reals(op, jinja_real_of(a), jinja_real_of(b));
}

/* ---- Texts and lists ------------------------------------------------------------------------------------------------ */

/* What is marked safe escapes what it meets, as the reference's Markup does. */
static struct jinja_value join_texts(struct jinja_run *run, struct jinja_value a,
                                     struct jinja_value b)
{
    bool safe = a.flavor || b.flavor;
    if (safe && !a.flavor)
        a = llm_jinja_escape(run, a);
    if (safe && !b.flavor)
        b = llm_jinja_escape(run, b);
    struct llm_buffer text = {0};
    if (llm_jinja_failed(run))
        return jinja_undefined();
    llm_jinja_append_string(run, &text, a.string);
    llm_jinja_append_string(run, &text, b.string);
    struct jinja_value v = llm_jinja_finish(run, &text);
    v.flavor = jinja_is_string(v) && safe;
    return v;
}

static struct jinja_value join_lists(struct jinja_run *run, struct jinja_value a,
                                     struct jinja_value b)
{
    struct jinja_value v =
        llm_jinja_list(run, (enum jinja_list_flavor)a.flavor, a.list->count + b.list->count);
    for (size_t i = 0; i < a.list->count && !llm_jinja_failed(run); i++)
        llm_jinja_push(run, v, a.list->items[i]);
    for (size_t i = 0; i < b.list->count && !llm_jinja_failed(run); i++)
        llm_jinja_push(run, v, b.list->items[i]);
    return v;
}

static struct jinja_value repeat_text(struct jinja_run *run, struct jinja_value text, int64_t times)
{
    struct llm_buffer out = {0};
    for (int64_t i = 0; i < times && text.string->count > 0 && !llm_jinja_failed(run); i++)
        llm_jinja_append_string(run, &out, text.string);
    struct jinja_value v = llm_jinja_finish(run, &out);
    v.flavor = jinja_is_string(v) ? text.flavor : 0;
    return v;
}

static struct jinja_value repeat_list(struct jinja_run *run, struct jinja_value list, int64_t times)
{
    struct jinja_value v = llm_jinja_list(run, (enum jinja_list_flavor)list.flavor, 0);
    for (int64_t i = 0; i < times && list.list->count > 0 && !llm_jinja_failed(run); i++)
        for (size_t k = 0; k < list.list->count && !llm_jinja_failed(run); k++)
            llm_jinja_push(run, v, list.list->items[k]);
    return v;
}

static bool is_joinable_list(struct jinja_value v)
{
    return v.kind == JINJA_LIST && v.flavor <= JINJA_TUPLE;
}

struct jinja_value llm_jinja_binary(struct jinja_run *run, unsigned op, struct jinja_value a,
                                    struct jinja_value b)
{
    if (jinja_is_number(a) && jinja_is_number(b))
        return of_numbers(run, op, a, b);
    if (op == JINJA_ADD && jinja_is_string(a) && jinja_is_string(b))
        return join_texts(run, a, b);
    if (op == JINJA_ADD && is_joinable_list(a) && is_joinable_list(b) && a.flavor == b.flavor)
        return join_lists(run, a, b);
    if (op == JINJA_MULTIPLY && jinja_is_integral(a)) {
        struct jinja_value swapped = a;
        a = b;
        b = swapped;
    }
    if (op == JINJA_MULTIPLY && jinja_is_integral(b) && jinja_is_string(a))
        return repeat_text(run, a, jinja_integer_of(b));
    if (op == JINJA_MULTIPLY && jinja_is_integral(b) && is_joinable_list(a))
        return repeat_list(run, a, jinja_integer_of(b));
    if (op == JINJA_MODULO && jinja_is_string(a))
        return llm_jinja_percent(run, a.string, b);
    return unsupported(run, op, a, b);
}

struct jinja_value llm_jinja_negate(struct jinja_run *run, struct jinja_value v)
{
    if (v.kind == JINJA_FLOAT)
        return jinja_float(-v.real);
    if (jinja_is_integral(v))
        return of_ints(run, JINJA_SUBTRACT, 0, jinja_integer_of(v));
    if (v.kind == JINJA_UNDEFINED)
        return llm_jinja_fail_undefined(run, v);
    return llm_jinja_fail(run, LLM_ERR_INVALID, "bad operand type for unary -: '%s'",
                          llm_jinja_type_name(v));
}
