/* Filters on numbers and single values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/text/jinja/filters.h"
#include "client/text/jinja/numbers.h"

typedef const struct jinja_call *call_t;

static struct jinja_value filter_default(struct jinja_run *run, struct jinja_value self,
                                         call_t call)
{
    if (self.kind == JINJA_UNDEFINED ||
        (llm_jinja_bool_argument(call->at[1], false) && !llm_jinja_truth(self)))
        return jinja_is_absent(call->at[0]) ? llm_jinja_text(run, "") : call->at[0];
    return self;
}

/* Truncated towards zero; false: beyond 64 bits, infinite or no number. */
static bool whole_of(double real, int64_t *out)
{
    if (!(real > -9.2233720368547748e18 && real < 9.2233720368547748e18))
        return false;
    *out = (int64_t)real;
    return true;
}

static struct jinja_value filter_int(struct jinja_run *run, struct jinja_value self, call_t call)
{
    int64_t base = llm_jinja_int_argument(run, call->at[1], "base", 10), whole;
    double real;
    if (self.kind == JINJA_UNDEFINED)
        return llm_jinja_fail_undefined(run, self);
    if (base != 0 && (base < 2 || base > 36))
        return llm_jinja_fail(run, LLM_ERR_INVALID, "int() with base %lld", (long long)base);
    if (jinja_is_integral(self))
        return jinja_int(jinja_integer_of(self));
    if (self.kind == JINJA_BIG_INT)
        return self;
    if (self.kind == JINJA_FLOAT && whole_of(self.real, &whole))
        return jinja_int(whole);
    if (jinja_is_string(self) &&
        (llm_jinja_parse_int(self.string->bytes, self.string->count, (unsigned)base, &whole) ||
         (llm_jinja_parse_float(self.string->bytes, self.string->count, &real) &&
          whole_of(real, &whole))))
        return jinja_int(whole);
    return jinja_is_absent(call->at[0]) ? jinja_int(0) : call->at[0];
}

static struct jinja_value filter_float(struct jinja_run *run, struct jinja_value self, call_t call)
{
    double real;
    if (self.kind == JINJA_UNDEFINED)
        return llm_jinja_fail_undefined(run, self);
    if (jinja_is_number(self))
        return jinja_float(jinja_real_of(self));
    if ((jinja_is_string(self) || self.kind == JINJA_BIG_INT) &&
        llm_jinja_parse_float(self.string->bytes, self.string->count, &real))
        return jinja_float(real);
    return jinja_is_absent(call->at[0]) ? jinja_float(0) : call->at[0];
}

static struct jinja_value filter_abs(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    if (self.kind == JINJA_FLOAT)
        return jinja_float(fabs(self.real));
    if (!jinja_is_integral(self))
        return llm_jinja_negate(run, self); /* says what is wrong */
    return jinja_integer_of(self) < 0 ? llm_jinja_negate(run, self)
                                      : jinja_int(jinja_integer_of(self));
}

/* To the nearest number of `precision` decimals, the exact value's ties to even: as printed and read back. */
static double round_common(double real, int precision)
{
    char text[400];
    if (precision < 0) {
        double unit = pow(10, -precision);
        return rint(real / unit) * unit;
    }
    snprintf(text, sizeof text, "%.*f", precision, real);
    return strtod(text, NULL);
}

static struct jinja_value filter_round(struct jinja_run *run, struct jinja_value self, call_t call)
{
    int64_t precision = llm_jinja_int_argument(run, call->at[0], "precision", 0);
    const struct jinja_string *method = llm_jinja_string_argument(run, call->at[1], "method");
    if (self.kind == JINJA_UNDEFINED)
        return llm_jinja_fail_undefined(run, self);
    if (!jinja_is_number(self) || precision < -30 || precision > 60)
        return llm_jinja_fail(run, LLM_ERR_INVALID, "round() of %s to %lld places",
                              llm_jinja_type_name(self), (long long)precision);
    double real = jinja_real_of(self), unit = pow(10, (double)precision);
    if (!method || llm_jinja_is_text(method, "common")) {
        if (jinja_is_integral(self) && precision >= 0)
            return jinja_int(jinja_integer_of(self));
        double rounded = isfinite(real) ? round_common(real, (int)precision) : real;
        int64_t whole;
        return jinja_is_integral(self) && whole_of(rounded, &whole) ? jinja_int(whole)
                                                                    : jinja_float(rounded);
    }
    if (llm_jinja_is_text(method, "ceil"))
        return jinja_float(ceil(real * unit) / unit);
    if (llm_jinja_is_text(method, "floor"))
        return jinja_float(floor(real * unit) / unit);
    return llm_jinja_fail(run, LLM_ERR_INVALID, "method must be common, ceil or floor");
}

static struct jinja_value filter_length(struct jinja_run *run, struct jinja_value self, call_t call)
{
    (void)call;
    if (jinja_is_string(self))
        return jinja_int((int64_t)self.string->characters);
    if (self.kind == JINJA_LIST && self.flavor != JINJA_GENERATOR)
        return jinja_int((int64_t)self.list->count);
    if (self.kind == JINJA_DICT)
        return jinja_int((int64_t)self.dict->count);
    if (self.kind == JINJA_LOOP)
        return jinja_int((int64_t)self.loop->items->count);
    if (self.kind == JINJA_UNDEFINED)
        return jinja_int(0);
    return llm_jinja_fail(run, LLM_ERR_INVALID, "object of type '%s' has no len()",
                          llm_jinja_type_name(self));
}

static struct jinja_value filter_attr(struct jinja_run *run, struct jinja_value self, call_t call)
{
    const struct jinja_string *name = llm_jinja_string_argument(run, call->at[0], "name");
    if (!name)
        return jinja_undefined();
    if (self.kind == JINJA_DICT) /* attributes only, no items */
        return (struct jinja_value){.kind = JINJA_UNDEFINED,
                                    .flavor = JINJA_NO_ATTRIBUTE,
                                    .of = JINJA_DICT,
                                    .string = name};
    return llm_jinja_attribute(run, self, name);
}

const struct jinja_builtin llm_jinja_value_filters[] = {
    {"abs", "", filter_abs},
    {"attr", "name!", filter_attr},
    {"count", "", filter_length},
    {"d", "default_value boolean", filter_default},
    {"default", "default_value boolean", filter_default},
    {"float", "default", filter_float},
    {"int", "default base", filter_int},
    {"length", "", filter_length},
    {"round", "precision method", filter_round},
    {"tojson", "ensure_ascii indent separators sort_keys", llm_jinja_to_json},
    {0},
};
