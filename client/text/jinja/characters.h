/*
 * characters.h - what Python knows about characters: white space, letters, cases, what repr() may show.
 *
 * Idea     One code point at a time, by utf8proc's tables. Two special cases of Unicode's SpecialCasing are known
 *          (sharp s, dotted I); Python's context rule for a final sigma is not.
 * See      https://docs.python.org/3/library/stdtypes.html#string-methods
 */
#ifndef LLM_CLIENT_TEXT_JINJA_CHARACTERS_H
#define LLM_CLIENT_TEXT_JINJA_CHARACTERS_H

#include "client/text/jinja/run.h"

enum jinja_case {
    JINJA_UPPER,
    JINJA_LOWER,
    JINJA_TITLE,
    JINJA_CAPITALIZE,
    JINJA_SWAP
};

/* The character at `at` (below count) of well-formed UTF-8; `*length` is its bytes. */
uint32_t llm_jinja_character(const char *bytes, size_t count, size_t at, unsigned *length);
/* The place of character number `index` (0..characters) of a string, in bytes. */
size_t llm_jinja_place(const struct jinja_string *string, size_t index);

bool llm_jinja_is_space(uint32_t c);
bool llm_jinja_is_letter(uint32_t c);
bool llm_jinja_is_digit(uint32_t c);
bool llm_jinja_is_upper(uint32_t c);
bool llm_jinja_is_lower(uint32_t c);
bool llm_jinja_is_printable(uint32_t c);
/* A character that may stand in a name, first or later. */
bool llm_jinja_is_name(uint32_t c, bool first);
/* Whether a line ends with `c`, for splitlines(). */
bool llm_jinja_is_line_end(uint32_t c);

/* The string in another case; marks are kept. */
struct jinja_value llm_jinja_change_case(struct jinja_run *run, struct jinja_value string,
                                         enum jinja_case wanted);

#endif
