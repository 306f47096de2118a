/*
 * interpret.h - runs a template's tree: statements, expressions, names, calls.
 *
 * Idea     A walk of the tree. Statements write to run->out; expressions give values. Names are looked up from the
 *          innermost scope outwards, then among the variables, then among the globals. Loops' bodies, macros, blocks of
 *          set, filter and call have scopes of their own; an if has none.
 * See      syntax.h; builtin.h for filters, tests, methods and globals.
 */
#ifndef LLM_CLIENT_TEXT_JINJA_INTERPRET_H
#define LLM_CLIENT_TEXT_JINJA_INTERPRET_H

#include "client/text/jinja/builtin.h"
#include "client/text/jinja/syntax.h"

struct jinja_binding {
    struct jinja_binding *before;
    const struct jinja_string *name;
    struct jinja_value value;
};

struct jinja_scope {
    struct jinja_scope *outer;
    struct jinja_binding *last;
};

struct jinja_loop { /* the variable "loop" */
    struct jinja_list *items;
    size_t index; /* of the item at work */
    unsigned depth;
    struct jinja_value changed;         /* the arguments of the last loop.changed() */
    const struct jinja_node *recursive; /* the loop's node, where loop(...) may be called */
    struct jinja_scope *scope;          /* around it */
};

enum jinja_flow {
    JINJA_GO_ON,
    JINJA_BREAK,
    JINJA_GO_TO_NEXT
};

/* ---- Statements (run_statements.c) ------------------------------------------------------------------------- */

enum jinja_flow llm_jinja_run_body(struct jinja_run *run, const struct jinja_node *first);
/* The text of a body, run in a scope of its own inside `outer`. */
struct jinja_value llm_jinja_body_text(struct jinja_run *run, const struct jinja_node *first,
                                       struct jinja_scope *outer);
/* loop(items) inside a recursive loop: the text of another round over other items. */
struct jinja_value llm_jinja_loop_again(struct jinja_run *run, const struct jinja_loop *loop,
                                        struct jinja_value items);
struct jinja_value llm_jinja_loop_attribute(struct jinja_run *run, struct jinja_loop *loop,
                                            const struct jinja_string *name);

/* ---- Scopes (scope.c) ---------------------------------------------------------------------------------------- */

/* A new scope inside `outer`; NULL after a failure. */
struct jinja_scope *llm_jinja_scope(struct jinja_run *run, struct jinja_scope *outer);
void llm_jinja_bind(struct jinja_run *run, const struct jinja_string *name,
                    struct jinja_value value);
struct jinja_value llm_jinja_look_up(struct jinja_run *run, const struct jinja_string *name);
/* Assign to a target: a name, a tuple of targets, a namespace's field. */
void llm_jinja_assign(struct jinja_run *run, const struct jinja_node *target,
                      struct jinja_value value);

/* ---- Expressions (run_expressions.c) and calls (calls.c) ------------------------------------------------------ */

struct jinja_value llm_jinja_evaluate(struct jinja_run *run, const struct jinja_node *node);
/* The arguments of a call; `extra` reserves room for one more keyword. */
void llm_jinja_evaluate_arguments(struct jinja_run *run, const struct jinja_node *first,
                                  struct jinja_arguments *out);
struct jinja_value llm_jinja_macro_value(struct jinja_run *run, const struct jinja_node *macro);

#endif
