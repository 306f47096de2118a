/*
 * filters.h - what filters share with each other, with methods and with tojson.
 *
 * See      builtin.h
 */
#ifndef LLM_CLIENT_TEXT_JINJA_FILTERS_H
#define LLM_CLIENT_TEXT_JINJA_FILTERS_H

#include "client/text/jinja/interpret.h"

enum jinja_ends {
    JINJA_LEFT = 1,
    JINJA_RIGHT = 2,
    JINJA_BOTH = 3
};

/* Without white space, or without the characters of `set`, at the ends. */
struct jinja_value llm_jinja_strip(struct jinja_run *run, struct jinja_value text,
                                   const struct jinja_string *set, enum jinja_ends ends);
/* At most `count` replacements; below 0: all. */
struct jinja_value llm_jinja_replace(struct jinja_run *run, const struct jinja_string *text,
                                     const struct jinja_string *old, const struct jinja_string *new,
                                     int64_t count);
/* The lines of a text as Python's splitlines() has them. */
struct jinja_value llm_jinja_split_lines(struct jinja_run *run, const struct jinja_string *text,
                                         bool keep_ends);
/* Padded on the left and right to a width in characters; `fill` is one character. */
struct jinja_value llm_jinja_pad(struct jinja_run *run, struct jinja_value text, int64_t width,
                                 const struct jinja_string *fill, enum jinja_ends ends);
/* The entries in order of their keys; NULL after a failure. */
const struct jinja_dict *llm_jinja_sorted_by_key(struct jinja_run *run,
                                                 const struct jinja_dict *dict);

#endif
