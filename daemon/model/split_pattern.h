/*
 * split_pattern.h - a pre-tokeniser's regular expression, rewritten for PCRE2.
 *
 * Idea     tokenizer.json patterns are written for Oniguruma (Ruby syntax). On the constructs they use, PCRE2
 *          with UTF and UCP agrees except for the white-space class (U+180E) and the word class (marks and
 *          connectors), so those four escapes are replaced by explicit sets. An escape that means
 *          something else in the two languages is refused instead of being matched differently. One pattern that
 *          files really have and that takes quadratic time is written so that it takes linear time.
 * Trust    Patterns are hostile: bounded in length, compiled once here so that a bad one is named at load;
 *          what a match may cost is bounded where it is used (client/text/split.c).
 * See      pcre2pattern(3), https://github.com/kkos/oniguruma/blob/master/doc/RE.
 */
#ifndef LLM_DAEMON_MODEL_SPLIT_PATTERN_H
#define LLM_DAEMON_MODEL_SPLIT_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/status.h"

/*
 * Rewrite and compile-check a pattern.
 *
 *   source, bytes  UTF-8, as in the file
 *   literal        every character stands for itself
 *   out_pattern    terminated, free() it; at most LLM_VOCAB_PATTERN_BYTES_MAX bytes
 *   returns        LLM_OK
 *                  LLM_ERR_INVALID      does not compile; the sentence carries PCRE2's reason and offset
 *                  LLM_ERR_UNSUPPORTED  an escape that PCRE2 would read differently, or a zero byte
 *                  LLM_ERR_LIMIT        too long
 *                  LLM_ERR_MEMORY
 */
LLM_MUST_CHECK enum llm_status split_pattern_rewrite(const char *source, size_t bytes, bool literal,
                                                     char **out_pattern, struct llm_error *error);

#endif
