/*
 * stream_text.h - the text of one answer, taken from its tokens as they arrive.
 *
 * Idea     Tokens go through a decoder into a small buffer; from there the caller gets what is certain: whole
 *          characters, nothing that may still become a stop string, no end-of-text tokens.
 *
 *            llm_stream_read -> tokens[] -> llm_decode -> text[] -> llm_stop_text_shown -> the caller
 *
 * Owner    Made by the first llm_stream_read_text() and hung on the stream (client/attachment.h), which frees it.
 *          Borrows the connection's vocabulary.
 * Threads  As the stream: one thread at a time.
 * See      client/text.h ("Answers as text"), tests/e2e/test_generate_text.c.
 */
#ifndef LLM_CLIENT_TEXT_STREAM_TEXT_H
#define LLM_CLIENT_TEXT_STREAM_TEXT_H

#include "client/attachment.h"
#include "client/llm.h"
#include "client/text.h"
#include "client/text/stop_text.h"

#define LLM_STREAM_TEXT_TOKENS 64
#define LLM_STREAM_TEXT_BYTES  1024

struct llm_stream_text {
    struct llm_attachment attachment; /* first: the stream knows it by this */
    llm_decoder decoder;
    struct llm_stop_text stop;
    uint32_t hidden_ids[LLM_STOP_IDS_MAX]; /* the caller's stop ids */
    uint32_t hidden_count;
    uint32_t free_tokens; /* so many tokens are still to come whose text has no stop strings */

    uint32_t tokens[LLM_STREAM_TEXT_TOKENS]; /* read and not yet decoded: [next, count) */
    uint32_t token_next;
    uint32_t token_count;
    bool tokens_are_free;
    char text[LLM_STREAM_TEXT_BYTES]; /* decoded and not yet given: [0, text_bytes) */
    size_t text_bytes;
    size_t free_bytes; /* the first of them are from such tokens */

    bool stopped;  /* a stop string was found: what follows is dropped */
    bool complete; /* the last token was read; `end` is how it ended */
    llm_error end;
};

#endif
