/*
 * vocab.h - an opened vocabulary image.
 *
 * Idea     The image is used in place. What an image cannot carry is made here once: the compiled split
 *          patterns (with machine code where the process may have it) and, per first byte, the range of
 *          added tokens that start with it.
 * Owner    llm_vocab_open() to llm_vocab_close(); borrows the image.
 * Threads  Constant after open. Everything that a call changes lives in its struct encoding (encode.c).
 * Trust    The view has passed llm_vocab_image_check(): ids and offsets in it are good. Patterns are only
 *          known to be short; compiling and matching them is bounded (split.c).
 * See      client/text.h, shm/vocab_image.h.
 */
#ifndef LLM_CLIENT_TEXT_VOCAB_H
#define LLM_CLIENT_TEXT_VOCAB_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "client/text.h"
#include "shm/vocab_image.h"

struct llm_vocab {
    struct llm_vocab_view view;
    pcre2_code *splits[LLM_VOCAB_SPLITS_MAX]; /* [view.header->split_count] */
    uint32_t added_start[257]; /* added tokens that start with byte b: [start[b], start[b + 1]) */
    uint32_t inside_count;     /* of them, those found behind the normal form */
};

#endif
