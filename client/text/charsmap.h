/*
 * charsmap.h - SentencePiece's own normal form: its table of characters, and its rules for spaces.
 *
 * Idea     The vocabulary brings a table from short strings to what they become ("nmt_nfkc" and its like, compiled
 *          by SentencePiece into a double array). From left to right the longest known string is replaced, any
 *          other character stays. User-defined pieces pass as they are. Where the vocabulary says so, spaces at
 *          the ends go and several in a row become one, as they come out of the table.
 * Trust    The table has passed llm_charsmap_sane(): a walk cannot leave it. Entries of more than
 *          LLM_CHARSMAP_KEY_MAX bytes are not looked for, which bounds the work per character.
 * See      shm/vocab_image.h (the table), https://github.com/google/sentencepiece (normalizer.cc).
 */
#ifndef LLM_CLIENT_TEXT_CHARSMAP_H
#define LLM_CLIENT_TEXT_CHARSMAP_H

#include "client/text/normalize.h"

#define LLM_CHARSMAP_KEY_MAX 256u

/* Whether the vocabulary has such a normal form. */
bool llm_charsmap_wanted(const llm_vocab *vocab);

/* Put the normal form of well-formed UTF-8 into `buffer`, every U+2581 as the space it stands for, a space before it
 * when `prefix`. False when there is no memory. */
bool llm_charsmap_normalize(const llm_vocab *vocab, struct llm_slice text, bool prefix,
                            struct llm_buffer *buffer);

#endif
