/*
 * stop_text.h - where an answer's text ends: before the first stop string.
 *
 * Idea     The engine ends an answer with the token whose text completes a stop string; the text then contains
 *          it, and perhaps more. A reader must never show a part of it, so the end of a text that may still
 *          become a stop string is held back until the next bytes decide.
 * Owner    A plain struct with copies of the strings.
 * See      stream_text.h (who asks), tests/client/test_stop_text.c.
 */
#ifndef LLM_CLIENT_TEXT_STOP_TEXT_H
#define LLM_CLIENT_TEXT_STOP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/layout.h"

struct llm_stop_text {
    uint32_t count;
    size_t bytes[LLM_STOP_STRINGS_MAX];
    char strings[LLM_STOP_STRINGS_MAX][LLM_STOP_STRING_BYTES_MAX];
};

/* Copy `strings` [count], both as checked by llm_submit(); what is longer than the limits is left out. */
void llm_stop_text_init(struct llm_stop_text *stop, const char *const *strings, uint32_t count);

/* How many bytes of `text` [bytes] may be shown: those before the first stop string (*out_found is then true), or
 * all but an end that may be the beginning of one. */
size_t llm_stop_text_shown(const struct llm_stop_text *stop, const char *text, size_t bytes,
                           bool *out_found);

#endif
