/*
 * normalize.h - text in the form that the vocabulary was trained on.
 *
 * Idea     Three changes, each only where the model asks for it: a Unicode normal form, U+2581 read as the
 *          space it stands for, and a space before the text. Text that needs none of them passes untouched.
 * Owner    The result is the input or lies in the caller's buffer.
 * Trust    `text` must be well-formed UTF-8 (encode.c splits it so).
 * See      Unicode Standard Annex 15; utf8proc (its Unicode version decides about new characters).
 */
#ifndef LLM_CLIENT_TEXT_NORMALIZE_H
#define LLM_CLIENT_TEXT_NORMALIZE_H

#include "client/text/buffer.h"
#include "client/text/vocab.h"

struct llm_slice {
    const uint8_t *bytes;
    size_t count;
};

/*
 *   text     well-formed UTF-8, not empty
 *   prefix   this text may get the vocabulary's prefix space
 *   buffer   reused from call to call
 *   returns  LLM_OK or LLM_ERR_MEMORY
 */
LLM_MUST_CHECK enum llm_status llm_normalize(const llm_vocab *vocab, struct llm_slice text,
                                             bool prefix, struct llm_buffer *buffer,
                                             struct llm_slice *out_text, llm_error *error);

/* Replace every space by U+2581 in `buffer`, or the other way round. False when there is no memory. */
bool llm_mark_spaces(struct llm_slice text, struct llm_buffer *buffer);
bool llm_unmark_spaces(struct llm_slice text, struct llm_buffer *buffer);

#endif
