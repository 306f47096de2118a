/*
 * numbers.h - numbers from text and to text, as Python reads and writes them, whatever the locale.
 *
 * See      https://docs.python.org/3/reference/lexical_analysis.html#numeric-literals; float.__repr__: the shortest
 *          digits that read back as the same number
 */
#ifndef LLM_CLIENT_TEXT_JINJA_NUMBERS_H
#define LLM_CLIENT_TEXT_JINJA_NUMBERS_H

#include "client/text/jinja/run.h"

#define JINJA_NUMBER_BYTES 40 /* of any number as text */

/* The literal at `text`, which starts with a digit; `*out_used` is its bytes. */
struct jinja_value llm_jinja_read_literal(struct jinja_run *run, const char *text, size_t bytes,
                                          bool fraction_allowed, size_t *out_used);
bool llm_jinja_read_hex(const char *text, size_t bytes, unsigned digits, uint32_t *out);

/* Decimal digits with an optional sign, in `base` (2..36; 0: by prefix), as int(text, base); false: not one, or
 * beyond 64 bits. */
bool llm_jinja_parse_int(const char *text, size_t bytes, unsigned base, int64_t *out);
/* As float(text): decimal, "inf", "nan". */
bool llm_jinja_parse_float(const char *text, size_t bytes, double *out);

/* repr() of a float; returns the bytes written, at most JINJA_NUMBER_BYTES - 1, terminated. */
size_t llm_jinja_format_float(double real, char out[JINJA_NUMBER_BYTES]);

#endif
