/*
 * lexer.h - a template's text as tokens.
 *
 * Idea     Outside tags there is one token per stretch of text; inside, one per name, number, string or sign. White
 *          space is treated as the set-up of chat templates wants it: a newline behind a block's end goes
 *          (trim_blocks), so does the indentation before a block that stands first on its line (lstrip_blocks);
 *          "-" at a tag's edge strips all white space there, "+" switches the two off.
 * Owner    Strings of tokens live in the run's arena or point into the source.
 * See      https://jinja.palletsprojects.com/en/stable/templates/#whitespace-control
 */
#ifndef LLM_CLIENT_TEXT_JINJA_LEXER_H
#define LLM_CLIENT_TEXT_JINJA_LEXER_H

#include "client/text/jinja/run.h"

enum jinja_token_kind {
    JINJA_TOKEN_END,
    JINJA_TOKEN_DATA, /* value */
    JINJA_TOKEN_BLOCK_BEGIN,
    JINJA_TOKEN_BLOCK_END,
    JINJA_TOKEN_VARIABLE_BEGIN,
    JINJA_TOKEN_VARIABLE_END,
    JINJA_TOKEN_NAME,   /* value: the name as a string */
    JINJA_TOKEN_NUMBER, /* value: an integer or a float */
    JINJA_TOKEN_STRING, /* value */
    JINJA_TOKEN_SIGN,   /* sign: one or two characters, the second in the upper byte */
};

#define JINJA_SIGN(first, second) ((uint16_t)((first) | (second) << 8))

struct jinja_token {
    enum jinja_token_kind kind;
    uint16_t sign;
    uint32_t at;
    struct jinja_value value;
};

struct jinja_lexer {
    struct jinja_run *run;
    size_t next;         /* place in the source */
    bool inside;         /* of a tag */
    bool block;          /* ... of a block, not of a variable */
    bool line_start;     /* what was read last ended a line */
    unsigned open_signs; /* brackets that wait for their ends: the tag cannot end before */
    char opened[128];    /* which */
};

/* The next token; JINJA_TOKEN_END at the end and after a failure. */
struct jinja_token llm_jinja_lex(struct jinja_lexer *lexer);

#endif
