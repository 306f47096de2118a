/*
 * syntax.h - a template as a tree.
 *
 * Idea     One struct for all nodes; which members a kind uses stands beside it. Lists of nodes are chains through
 *          `next`. The tree and all its strings lie in the template's arena and never change after parsing.
 * See      https://jinja.palletsprojects.com/en/stable/templates/, parse.c, run_statements.c, run_expressions.c
 */
#ifndef LLM_CLIENT_TEXT_JINJA_SYNTAX_H
#define LLM_CLIENT_TEXT_JINJA_SYNTAX_H

#include "client/text/jinja/run.h"

enum jinja_node_kind {
    /* expressions */
    JINJA_NODE_CONSTANT,   /* value */
    JINJA_NODE_NAME,       /* name */
    JINJA_NODE_LIST,       /* list */
    JINJA_NODE_TUPLE,      /* list */
    JINJA_NODE_DICT,       /* list: key, value, key, value... */
    JINJA_NODE_NEGATE,     /* a */
    JINJA_NODE_PLUS,       /* a */
    JINJA_NODE_NOT,        /* a */
    JINJA_NODE_AND,        /* a, b */
    JINJA_NODE_OR,         /* a, b */
    JINJA_NODE_BINARY,     /* op, a, b */
    JINJA_NODE_CONCAT,     /* list */
    JINJA_NODE_COMPARE,    /* a, list of OPERAND */
    JINJA_NODE_OPERAND,    /* op, a */
    JINJA_NODE_IF_ELSE,    /* a: condition, b: then, c: else or NULL */
    JINJA_NODE_ATTRIBUTE,  /* a, name */
    JINJA_NODE_ITEM,       /* a, b */
    JINJA_NODE_SLICE,      /* a: start, b: stop, c: step; each may be NULL */
    JINJA_NODE_CALL,       /* a, list of ARGUMENT */
    JINJA_NODE_FILTER,     /* a, name, list of ARGUMENT */
    JINJA_NODE_TEST,       /* a, name, list of ARGUMENT */
    JINJA_NODE_ARGUMENT,   /* op: enum jinja_argument, a; name of a keyword */
    JINJA_NODE_BLOCK_TEXT, /* what a filter block's filters are applied to */
    JINJA_NODE_FIELD,      /* as a target: name.op_name of a namespace: a: NAME, name */
    /* statements */
    JINJA_NODE_DATA,   /* value: text as it stands */
    JINJA_NODE_OUTPUT, /* a */
    JINJA_NODE_IF,     /* a, list: body, b: IF of an elif, or a BODY, or NULL */
    JINJA_NODE_BODY,   /* list; a scope of its own where op is 1 (generation) */
    JINJA_NODE_FOR, /* a: target, b: iterable, c: filter or NULL, list: body, d: BODY of else; op 1: recursive */
    JINJA_NODE_SET,          /* a: target, b */
    JINJA_NODE_SET_BLOCK,    /* a: target, b: filters around BLOCK_TEXT, list: body */
    JINJA_NODE_MACRO,        /* name, a: chain of PARAMETER, list: body; op: enum jinja_macro_use */
    JINJA_NODE_PARAMETER,    /* name, a: default or NULL */
    JINJA_NODE_CALL_BLOCK,   /* a: CALL, b: MACRO without a name */
    JINJA_NODE_FILTER_BLOCK, /* b: filters around BLOCK_TEXT, list: body */
    JINJA_NODE_WITH,         /* a: chain of SET, list: body */
    JINJA_NODE_BREAK,
    JINJA_NODE_CONTINUE,
};

enum jinja_operator {
    JINJA_ADD,
    JINJA_SUBTRACT,
    JINJA_MULTIPLY,
    JINJA_DIVIDE,
    JINJA_FLOOR_DIVIDE,
    JINJA_MODULO,
    JINJA_POWER,
    JINJA_EQUAL,
    JINJA_UNEQUAL,
    JINJA_LESS,
    JINJA_LESS_EQUAL,
    JINJA_GREATER,
    JINJA_GREATER_EQUAL,
    JINJA_IN,
    JINJA_NOT_IN,
};

enum jinja_argument {
    JINJA_POSITIONAL,
    JINJA_KEYWORD,
    JINJA_SPREAD_LIST,
    JINJA_SPREAD_DICT
};

enum jinja_macro_use { /* special names in a macro's body */
    JINJA_USES_CALLER = 1u << 0,
    JINJA_USES_VARARGS = 1u << 1,
    JINJA_USES_KWARGS = 1u << 2,
};

struct jinja_node {
    uint8_t kind; /* enum jinja_node_kind */
    uint8_t op;
    uint32_t at; /* place in the source, for errors */
    const struct jinja_string *name;
    struct jinja_value value;
    struct jinja_node *a, *b, *c, *d;
    struct jinja_node *list;
    struct jinja_node *next; /* in the list that this node is in */
};

#endif
