/*
 * parse.h - from a template's text to its tree.
 *
 * Idea     Recursive descent over one token and a look at the next, in the order of precedence that the reference's
 *          parser has; each function is one line of that grammar. Tags that need files (include, import, extends,
 *          block) are refused by name.
 * See      lexer.h, syntax.h; the language's own parser is the specification of its grammar:
 *          https://github.com/pallets/jinja/blob/3.1.6/src/jinja2/parser.py
 */
#ifndef LLM_CLIENT_TEXT_JINJA_PARSE_H
#define LLM_CLIENT_TEXT_JINJA_PARSE_H

#include "client/text/jinja/lexer.h"
#include "client/text/jinja/syntax.h"

/* The tree of run->source (well-formed UTF-8, newlines as \n), in the run's arena; NULL after a failure, which the run
 * then carries. */
struct jinja_node *llm_jinja_parse(struct jinja_run *run);

/* ---- Between the two halves of the parser ---------------------------------------------------------------- */

struct jinja_parser {
    struct jinja_run *run;
    struct jinja_lexer lexer;
    struct jinja_token token; /* the current one */
    struct jinja_token ahead; /* the one behind it */
    uint8_t macro_uses;       /* enum jinja_macro_use, of the macro that is being parsed */
    unsigned loops;           /* around the current statement, within its macro */
};

/* A list of nodes under construction. */
struct jinja_chain {
    struct jinja_node *first;
    struct jinja_node **end;
};

struct jinja_node *llm_jinja_node(struct jinja_parser *p, enum jinja_node_kind kind, uint32_t at);
void llm_jinja_link(struct jinja_chain *chain, struct jinja_node *node);
void llm_jinja_advance(struct jinja_parser *p);
bool llm_jinja_at_sign(const struct jinja_parser *p, uint16_t sign);
bool llm_jinja_at_name(const struct jinja_parser *p, const char *name);
/* Step over it if it is there. */
bool llm_jinja_skip_sign(struct jinja_parser *p, uint16_t sign);
bool llm_jinja_skip_name(struct jinja_parser *p, const char *name);
/* Step over it or fail with a sentence that says what stands there instead. */
void llm_jinja_expect_sign(struct jinja_parser *p, char sign);
const struct jinja_string *llm_jinja_expect_name(struct jinja_parser *p, const char *what);
void llm_jinja_unexpected(struct jinja_parser *p, const char *wanted);

enum jinja_tuple_rules {
    JINJA_WITHOUT_IF = 1u << 0, /* "a if b" is not part of it */
    JINJA_ONLY_TARGETS = 1u << 1,
    JINJA_NAMESPACE_TARGETS = 1u << 2,
    JINJA_MAY_BE_EMPTY = 1u << 3,
    JINJA_ENDS_AT_WORD = 1u << 4, /* in a for tag: "in" and "recursive" end it */
};

struct jinja_node *llm_jinja_parse_expression(struct jinja_parser *p);
/* One expression, or several with commas as a tuple. */
struct jinja_node *llm_jinja_parse_tuple(struct jinja_parser *p, unsigned rules);
struct jinja_node *llm_jinja_parse_call(struct jinja_parser *p, struct jinja_node *callee);
/* The filters behind `node`; at the start of a filter block the first needs no "|". */
struct jinja_node *llm_jinja_parse_filters(struct jinja_parser *p, struct jinja_node *node,
                                           bool start_inline);

#endif
