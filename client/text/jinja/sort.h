/*
 * sort.h - stable order by keys.
 *
 * Idea     Keys are computed once; merges keep equal items in their order, in both directions, as Python's sorted()
 *          does. An order that does not exist (a number and a text) ends the run.
 */
#ifndef LLM_CLIENT_TEXT_JINJA_SORT_H
#define LLM_CLIENT_TEXT_JINJA_SORT_H

#include "client/text/jinja/interpret.h"

/* What filters sort and compare by: an attribute's path (or several with commas), strings in lower case unless
 * `case_sensitive`. */
struct jinja_value llm_jinja_sort_key(struct jinja_run *run, struct jinja_value item,
                                      struct jinja_value path, bool case_sensitive);

struct jinja_sort_item {
    struct jinja_value key;
    struct jinja_value item;
};

/* Sorts [count] in place. */
void llm_jinja_sort(struct jinja_run *run, struct jinja_sort_item *items, size_t count,
                    bool reverse);

#endif
