/*
 * stop_strings.h - has the answer's text come to contain one of these?
 *
 * Idea     The engine knows tokens, a stop string is bytes, and it may begin in one token and end three
 *          later. So the last LLM_STOP_STRING_BYTES_MAX - 1 bytes of the text are kept, and each new token's bytes
 *          are searched together with them: an occurrence found there ends in the new token, because an
 *          earlier one would have ended the answer already.
 * Owner    Part of a request. After an engine's death the tail is made again from the published tokens.
 * Trust    Lengths were checked at admission; token bytes come from a checked vocab image.
 * See      shm/vocab_image.h; the client trims the text.
 */
#ifndef LLMD_ENGINE_STOP_STRINGS_H
#define LLMD_ENGINE_STOP_STRINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/tables.h"

#define STOP_TAIL_BYTES (LLM_STOP_STRING_BYTES_MAX - 1)

struct stop_strings {
    uint32_t count;
    const uint8_t *lengths;                              /* [count] */
    const uint8_t (*strings)[LLM_STOP_STRING_BYTES_MAX]; /* [count] */
    uint8_t tail[STOP_TAIL_BYTES];                       /* the text's last bytes */
    uint32_t tail_bytes;
};

/* The strings stay in `record`, which must outlive them. */
void stop_strings_init(struct stop_strings *stops, const struct llm_reqtab_record *record);
/* Append a token's text; true when a stop string ends in it. */
bool stop_strings_feed(struct stop_strings *stops, const uint8_t *text, size_t bytes);

#endif
