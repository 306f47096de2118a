/*
 * attachment.h - what a library above libllm keeps with a connection or a stream.
 *
 * Idea     The other library puts a struct llm_attachment first in its own struct and hangs it on the handle;
 *          libllm calls close() when the handle is closed and otherwise never looks at it. libllm-text
 *          keeps vocabularies and half-decoded text there, so that libllm itself needs libc only.
 * Threads  A connection's attachment is set once, by whichever thread comes first; a stream's by the thread
 *          that has the stream.
 * See      client/text/connection_vocab.c, client/text/stream_text.c. Not installed.
 */
#ifndef LLM_CLIENT_ATTACHMENT_H
#define LLM_CLIENT_ATTACHMENT_H

#include "client/llm.h"
#include "shm/layout.h"

struct llm_attachment {
    void (*close)(struct llm_attachment *attachment);
};

/* False: there is one already, and the new one stays the caller's. */
LLM_API LLM_MUST_CHECK bool llm_connection_attach(llm_connection *connection,
                                                  struct llm_attachment *attachment);
LLM_API struct llm_attachment *llm_connection_attachment(llm_connection *connection); /* or NULL */

/* The stream must not have one yet. */
LLM_API void llm_stream_attach(llm_stream *stream, struct llm_attachment *attachment);
LLM_API struct llm_attachment *llm_stream_attachment(llm_stream *stream); /* or NULL */

/* ---- What such a library asks of handles ------------------------------------------------------------- */

/* What was asked, for who reads the answer as text. */
struct llm_stream_asked {
    char model[LLM_NAME_BYTES]; /* empty: the default model */
    uint32_t stop_ids[LLM_STOP_IDS_MAX];
    uint32_t stop_id_count;
    uint32_t stop_string_count;
    uint8_t stop_strings[LLM_STOP_STRINGS_MAX *
                         (1 + LLM_STOP_STRING_BYTES_MAX)]; /* each a length byte and the bytes */
    uint32_t min_tokens; /* the text of so many tokens has no stop strings */
};
LLM_API const struct llm_stream_asked *llm_stream_asked(const llm_stream *stream);
LLM_API llm_connection *llm_stream_connection(const llm_stream *stream);
LLM_API llm_connection *llm_context_connection(const llm_context *context);
LLM_API const char *llm_context_model(const llm_context *context); /* valid until it is closed */

/* Close and forget; NULL inside is accepted. For libllm itself. */
void llm_attachment_drop(struct llm_attachment *attachment);

#endif
