/*
 * builtin.h - filters, tests, methods and global functions: how they are listed, found and called.
 *
 * Idea     Each is a row: a name, its parameters as words in order ("width first blank", a "!" behind those that must
 *          be given, "*" for any), and a C function. The caller of the table sorts a call's positional and keyword
 *          arguments into at[] by those words, so that no function does it again.
 * See      https://jinja.palletsprojects.com/en/stable/templates/#builtin-filters and following;
 *          https://docs.python.org/3/library/stdtypes.html for methods
 */
#ifndef LLM_CLIENT_TEXT_JINJA_BUILTIN_H
#define LLM_CLIENT_TEXT_JINJA_BUILTIN_H

#include "client/text/jinja/run.h"

#define JINJA_PARAMETERS_MAX 6

struct jinja_keyword {
    const struct jinja_string *name;
    struct jinja_value value;
};

struct jinja_arguments { /* as they stand in the call */
    struct jinja_value *values;
    size_t count;
    size_t capacity;
    struct jinja_keyword *keywords;
    size_t keyword_count;
    size_t keyword_capacity;
};

struct jinja_call {
    struct jinja_value
        at[JINJA_PARAMETERS_MAX]; /* by the row's parameters; JINJA_ABSENT where not given */
    const struct jinja_arguments *all;
};

struct jinja_builtin {
    const char *name;
    const char *parameters;
    struct jinja_value (*call)(struct jinja_run *run, struct jinja_value self,
                               const struct jinja_call *call);
};

struct jinja_node;
struct jinja_scope;

struct jinja_function { /* a JINJA_FUNCTION's: a global, a method with its object, or a macro */
    const struct jinja_builtin *builtin;
    struct jinja_value self;
    const struct jinja_node *macro; /* instead of a builtin */
    struct jinja_scope *scope;      /* where the macro was defined */
};

/* ---- Tables; each ends with a row without a name ------------------------------------------------------------- */

extern const struct jinja_builtin llm_jinja_text_filters[];
extern const struct jinja_builtin llm_jinja_list_filters[];
extern const struct jinja_builtin llm_jinja_value_filters[];
extern const struct jinja_builtin llm_jinja_tests[];
extern const struct jinja_builtin llm_jinja_string_methods[];
extern const struct jinja_builtin llm_jinja_split_methods[];
extern const struct jinja_builtin llm_jinja_dict_methods[];
extern const struct jinja_builtin llm_jinja_list_methods[];
extern const struct jinja_builtin llm_jinja_loop_methods[];
extern const struct jinja_builtin llm_jinja_globals[];

/* NULL: no row of this name. */
const struct jinja_builtin *llm_jinja_find_builtin(const struct jinja_builtin *table,
                                                   const struct jinja_string *name);
const struct jinja_builtin *llm_jinja_find_filter(const struct jinja_string *name);

/* ---- Calls (calls.c) -------------------------------------------------------------------------------------------- */

struct jinja_value llm_jinja_call_builtin(struct jinja_run *run, const struct jinja_builtin *row,
                                          struct jinja_value self,
                                          const struct jinja_arguments *arguments);
/* By name, for map('upper') and select('odd'). */
struct jinja_value llm_jinja_apply_filter(struct jinja_run *run, const struct jinja_string *name,
                                          struct jinja_value self,
                                          const struct jinja_arguments *arguments);
bool llm_jinja_apply_test(struct jinja_run *run, const struct jinja_string *name,
                          struct jinja_value self, const struct jinja_arguments *arguments);
struct jinja_value llm_jinja_call_value(struct jinja_run *run, struct jinja_value callee,
                                        const struct jinja_arguments *arguments);
void llm_jinja_add_argument(struct jinja_run *run, struct jinja_arguments *arguments,
                            struct jinja_value value);
void llm_jinja_add_keyword(struct jinja_run *run, struct jinja_arguments *arguments,
                           const struct jinja_string *name, struct jinja_value value);
/* What is left when the first `count` positional ones are taken away. */
struct jinja_arguments llm_jinja_arguments_from(const struct jinja_arguments *arguments,
                                                size_t count);

/* ---- Reading an argument: `fallback` when it was not given; a recorded failure when it has the wrong type ------- */

int64_t llm_jinja_int_argument(struct jinja_run *run, struct jinja_value v, const char *name,
                               int64_t fallback);
bool llm_jinja_bool_argument(struct jinja_value v, bool fallback);
/* NULL: not given or none, or not a string (recorded). */
const struct jinja_string *llm_jinja_string_argument(struct jinja_run *run, struct jinja_value v,
                                                     const char *name);

/* ---- Objects: attributes, items, iteration (objects.c) ------------------------------------------------------------ */

/* object.name and object[key]: either falls back to the other, as the language has it; undefined when neither is there. */
struct jinja_value llm_jinja_attribute(struct jinja_run *run, struct jinja_value object,
                                       const struct jinja_string *name);
struct jinja_value llm_jinja_item(struct jinja_run *run, struct jinja_value object,
                                  struct jinja_value key);
/* object[start:stop:step]; absent bounds are JINJA_NONE. */
struct jinja_value llm_jinja_slice(struct jinja_run *run, struct jinja_value object,
                                   const struct jinja_value bounds[3]);
/* "a.b.0" of filters' attribute= parameters, or an integer. */
struct jinja_value llm_jinja_path(struct jinja_run *run, struct jinja_value object,
                                  struct jinja_value path);
/* The items of anything that can be iterated, as a list: characters of a string, keys of a dict. NULL after a failure. */
struct jinja_list *llm_jinja_iterate(struct jinja_run *run, struct jinja_value v);
/* Use of an undefined value where the language forbids it: the sentence of the reference. */
struct jinja_value llm_jinja_fail_undefined(struct jinja_run *run, struct jinja_value v);

/* ---- Operators (operators.c) -------------------------------------------------------------------------------------- */

struct jinja_value llm_jinja_binary(struct jinja_run *run, unsigned op, struct jinja_value a,
                                    struct jinja_value b);
struct jinja_value llm_jinja_negate(struct jinja_run *run, struct jinja_value v);
bool llm_jinja_compare(struct jinja_run *run, unsigned op, struct jinja_value a,
                       struct jinja_value b);
bool llm_jinja_contains(struct jinja_run *run, struct jinja_value container, struct jinja_value v);

/* ---- Text of values (show.c, json_write.c) ------------------------------------------------------------------------ */

void llm_jinja_show(struct jinja_run *run, struct llm_buffer *out,
                    struct jinja_value v); /* str() */
void llm_jinja_show_exact(struct jinja_run *run, struct llm_buffer *out,
                          struct jinja_value v); /* repr() */
/* A string as it is; anything else as str() has it. */
struct jinja_value llm_jinja_as_text(struct jinja_run *run, struct jinja_value v);
/* "%s is %d" with its arguments: a tuple, a dict or one value. */
struct jinja_value llm_jinja_percent(struct jinja_run *run, const struct jinja_string *format,
                                     struct jinja_value arguments);
/* The string with & < > " ' written as HTML has them. */
struct jinja_value llm_jinja_escape(struct jinja_run *run, struct jinja_value v);
struct jinja_value llm_jinja_to_json(struct jinja_run *run, struct jinja_value v,
                                     const struct jinja_call *call);

#endif
