/*
 * json_read.h - a template's variables from JSON text.
 *
 * Idea     One pass straight into the run's values: keys keep their order, a number without point and exponent is an
 *          integer (kept as digits beyond 64 bits), text is UTF-8. As strict as RFC 8259, and as Python's json, which
 *          the reference uses: a later member of the same name replaces the earlier one in its place.
 * Trust    The text is hostile: depth, memory and steps are bounded by the run's budgets, and a failure names the byte.
 * See      RFC 8259
 */
#ifndef LLM_CLIENT_TEXT_JINJA_JSON_READ_H
#define LLM_CLIENT_TEXT_JINJA_JSON_READ_H

#include "client/text/jinja/run.h"

/* The value of [text, bytes); `what` ("variables") names it in sentences. The text must stay while the value is used. */
struct jinja_value llm_jinja_read_json(struct jinja_run *run, const char *text, size_t bytes,
                                       const char *what);

#endif
