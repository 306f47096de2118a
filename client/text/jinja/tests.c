/* What may stand behind "is". */
#include "client/text/jinja/characters.h"
#include "client/text/jinja/filters.h"

typedef const struct jinja_call *call_t;

/* A test without arguments is a question about its subject. */
#define QUESTION(name, answer)                                                               \
    static struct jinja_value name(struct jinja_run *run, struct jinja_value v, call_t call) \
    {                                                                                        \
        (void)run;                                                                           \
        (void)call;                                                                          \
        return jinja_bool(answer);                                                           \
    }

QUESTION(test_defined, v.kind != JINJA_UNDEFINED)
QUESTION(test_undefined, v.kind == JINJA_UNDEFINED)
QUESTION(test_none, v.kind == JINJA_NONE)
QUESTION(test_boolean, v.kind == JINJA_BOOL)
QUESTION(test_true, v.kind == JINJA_BOOL && v.truth)
QUESTION(test_false, v.kind == JINJA_BOOL && !v.truth)
QUESTION(test_integer, v.kind == JINJA_INT || v.kind == JINJA_BIG_INT)
QUESTION(test_float, v.kind == JINJA_FLOAT)
QUESTION(test_number, jinja_is_number(v) || v.kind == JINJA_BIG_INT)
QUESTION(test_string, jinja_is_string(v))
QUESTION(test_mapping, v.kind == JINJA_DICT)
QUESTION(test_callable, v.kind == JINJA_FUNCTION || v.kind == JINJA_LOOP)
QUESTION(test_escaped, jinja_is_string(v) && v.flavor)
QUESTION(test_iterable, v.kind == JINJA_STRING || v.kind == JINJA_LIST || v.kind == JINJA_DICT ||
                            v.kind == JINJA_LOOP || v.kind == JINJA_UNDEFINED)
QUESTION(test_sequence, v.kind == JINJA_STRING || v.kind == JINJA_DICT ||
                            v.kind == JINJA_UNDEFINED ||
                            (v.kind == JINJA_LIST && v.flavor <= JINJA_RANGE))

static struct jinja_value remainder_is(struct jinja_run *run, struct jinja_value v,
                                       struct jinja_value divisor, int64_t rest)
{
    struct jinja_value r = llm_jinja_binary(run, JINJA_MODULO, v, divisor);
    return jinja_bool(!llm_jinja_failed(run) && llm_jinja_equal(run, r, jinja_int(rest)));
}

static struct jinja_value test_odd(struct jinja_run *run, struct jinja_value v, call_t call)
{
    (void)call;
    return remainder_is(run, v, jinja_int(2), 1);
}

static struct jinja_value test_even(struct jinja_run *run, struct jinja_value v, call_t call)
{
    (void)call;
    return remainder_is(run, v, jinja_int(2), 0);
}

static struct jinja_value test_divisible(struct jinja_run *run, struct jinja_value v, call_t call)
{
    return remainder_is(run, v, call->at[0], 0);
}

#define COMPARISON(name, op)                                                                 \
    static struct jinja_value name(struct jinja_run *run, struct jinja_value v, call_t call) \
    {                                                                                        \
        return jinja_bool(llm_jinja_compare(run, op, v, call->at[0]));                       \
    }

COMPARISON(test_eq, JINJA_EQUAL)
COMPARISON(test_ne, JINJA_UNEQUAL)
COMPARISON(test_lt, JINJA_LESS)
COMPARISON(test_le, JINJA_LESS_EQUAL)
COMPARISON(test_gt, JINJA_GREATER)
COMPARISON(test_ge, JINJA_GREATER_EQUAL)
COMPARISON(test_in, JINJA_IN)

/* Identity: scalars by kind and value, everything else by where it is. */
static struct jinja_value test_same(struct jinja_run *run, struct jinja_value v, call_t call)
{
    struct jinja_value other = call->at[0];
    if (v.kind != other.kind)
        return jinja_bool(false);
    if (v.kind == JINJA_LIST || v.kind == JINJA_DICT || v.kind >= JINJA_NAMESPACE)
        return jinja_bool(v.list == other.list);
    return jinja_bool(llm_jinja_equal(run, v, other));
}

/* Letters with cases exist, and all are of the wanted one. */
static struct jinja_value all_in_case(struct jinja_run *run, struct jinja_value v, bool upper)
{
    struct jinja_value text = llm_jinja_as_text(run, v);
    bool any = false;
    unsigned length;
    for (size_t at = 0; jinja_is_string(text) && at < text.string->count; at += length) {
        uint32_t c = llm_jinja_character(text.string->bytes, text.string->count, at, &length);
        if (upper ? llm_jinja_is_lower(c) : llm_jinja_is_upper(c))
            return jinja_bool(false);
        any |= llm_jinja_is_lower(c) || llm_jinja_is_upper(c);
    }
    return jinja_bool(any);
}

static struct jinja_value test_upper(struct jinja_run *run, struct jinja_value v, call_t call)
{
    (void)call;
    return all_in_case(run, v, true);
}

static struct jinja_value test_lower(struct jinja_run *run, struct jinja_value v, call_t call)
{
    (void)call;
    return all_in_case(run, v, false);
}

static struct jinja_value test_filter(struct jinja_run *run, struct jinja_value v, call_t call)
{
    (void)run;
    (void)call;
    return jinja_bool(jinja_is_string(v) && llm_jinja_find_filter(v.string));
}

static struct jinja_value test_test(struct jinja_run *run, struct jinja_value v, call_t call)
{
    (void)run;
    (void)call;
    return jinja_bool(jinja_is_string(v) && llm_jinja_find_builtin(llm_jinja_tests, v.string));
}

const struct jinja_builtin llm_jinja_tests[] = {
    {"defined", "", test_defined},   {"undefined", "", test_undefined},
    {"none", "", test_none},         {"boolean", "", test_boolean},
    {"true", "", test_true},         {"false", "", test_false},
    {"integer", "", test_integer},   {"float", "", test_float},
    {"number", "", test_number},     {"string", "", test_string},
    {"mapping", "", test_mapping},   {"callable", "", test_callable},
    {"escaped", "", test_escaped},   {"iterable", "", test_iterable},
    {"sequence", "", test_sequence}, {"odd", "", test_odd},
    {"even", "", test_even},         {"divisibleby", "num!", test_divisible},
    {"sameas", "other!", test_same}, {"upper", "", test_upper},
    {"lower", "", test_lower},       {"filter", "", test_filter},
    {"test", "", test_test},         {"in", "seq!", test_in},
    {"eq", "other!", test_eq},       {"equalto", "other!", test_eq},
    {"==", "other!", test_eq},       {"ne", "other!", test_ne},
    {"!=", "other!", test_ne},       {"lt", "other!", test_lt},
    {"lessthan", "other!", test_lt}, {"<", "other!", test_lt},
    {"le", "other!", test_le},       {"<=", "other!", test_le},
    {"gt", "other!", test_gt},       {"greaterthan", "other!", test_gt},
    {">", "other!", test_gt},        {"ge", "other!", test_ge},
    {">=", "other!", test_ge},       {0},
};
