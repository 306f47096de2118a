#include <stdlib.h>
#include <string.h>

#include "client/attachment.h"
#include "client/text.h"
#include "client/text/stream_text.h"

/* A whole prompt as ids, in memory that the caller frees. Counted first: some normalisations make a text
 * longer, so its bytes bound nothing. */
static enum llm_status encode_prompt(const llm_vocab *vocab, const char *prompt, uint32_t flags,
                                     uint32_t **out_tokens, uint32_t *out_count, llm_error *error)
{
    size_t bytes = strlen(prompt), count = 0;
    enum llm_status status = llm_encode(vocab, prompt, bytes, flags, NULL, 0, &count, error);
    if (status != LLM_OK)
        return status;
    if (count > UINT32_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "a prompt of %zu tokens is too long", count);
    uint32_t *tokens = malloc((count + 1) * sizeof *tokens); /* + 1: an empty text is no NULL */
    if (!tokens)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the prompt's %zu tokens", count);
    status = llm_encode(vocab, prompt, bytes, flags, tokens, count, &count, error);
    if (status == LLM_OK) {
        *out_tokens = tokens;
        *out_count = (uint32_t)count;
    } else {
        free(tokens);
    }
    return status;
}

enum llm_status llm_generate_text(llm_connection *connection, const char *prompt,
                                  const llm_sampling *sampling, llm_stream **out_stream,
                                  llm_error *error)
{
    const llm_vocab *vocab;
    uint32_t *tokens, count;
    enum llm_status status =
        llm_connection_vocab(connection, sampling ? sampling->model : NULL, &vocab, error);
    if (status == LLM_OK)
        status = encode_prompt(vocab, prompt, LLM_ENCODE_AFFIXES, &tokens, &count, error);
    if (status != LLM_OK)
        return status;
    status = llm_submit(connection, tokens, count, sampling, out_stream, error);
    free(tokens);
    return status;
}

/* ---- On a context ---------------------------------------------------------------------------------- */

/* The ids that `text` adds to `context`, in memory that the caller frees. */
static enum llm_status encode_addition(llm_context *context, const char *text,
                                       uint32_t **out_tokens, uint32_t *out_count, llm_error *error)
{
    const llm_vocab *vocab;
    llm_context_info info;
    enum llm_status status = llm_connection_vocab(llm_context_connection(context),
                                                  llm_context_model(context), &vocab, error);
    if (status == LLM_OK)
        status = llm_context_describe(context, &info, error);
    if (status == LLM_OK)
        status = encode_prompt(vocab, text, info.length == 0 ? LLM_ENCODE_AFFIXES : 0, out_tokens,
                               out_count, error);
    return status;
}

enum llm_status llm_context_append_text(llm_context *context, const char *text, llm_error *error)
{
    uint32_t *tokens, count;
    if (!*text)
        return LLM_OK;
    enum llm_status status = encode_addition(context, text, &tokens, &count, error);
    if (status != LLM_OK)
        return status;
    if (count > 0)
        status = llm_context_append(context, tokens, count, error);
    free(tokens);
    return status;
}

enum llm_status llm_context_ask_text(llm_context *context, const char *text,
                                     const llm_sampling *sampling, llm_stream **out_stream,
                                     llm_error *error)
{
    uint32_t *tokens, count;
    if (!text || !*text)
        return llm_generate(context, sampling, out_stream, error);
    enum llm_status status = encode_addition(context, text, &tokens, &count, error);
    if (status != LLM_OK)
        return status;
    status = llm_generate_after(context, tokens, count, sampling, out_stream, error);
    free(tokens);
    return status;
}

/* ---- In one call ----------------------------------------------------------------------------------- */

/* Append the next piece to out_text; `*used` moves. */
static enum llm_status read_piece(llm_stream *stream, char *out_text, size_t capacity_bytes,
                                  size_t *used, size_t *out_bytes, llm_error *error)
{
    char piece[LLM_STREAM_TEXT_BYTES];
    enum llm_status status =
        llm_stream_read_text(stream, piece, sizeof piece, LLM_FOREVER, out_bytes, error);
    if (status != LLM_OK)
        return status;
    if (*out_bytes > capacity_bytes - *used - 1)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "llm_complete: the answer is longer than the buffer of %zu bytes",
                        capacity_bytes);
    memcpy(out_text + *used, piece, *out_bytes);
    *used += *out_bytes;
    out_text[*used] = 0;
    return LLM_OK;
}

enum llm_status llm_complete(llm_connection *connection, const char *prompt,
                             const llm_sampling *sampling, char *out_text, size_t capacity_bytes,
                             llm_error *error)
{
    if (capacity_bytes == 0)
        return llm_fail(error, LLM_ERR_LIMIT, "llm_complete: a buffer of 0 bytes holds no text");
    llm_stream *stream;
    enum llm_status status = llm_generate_text(connection, prompt, sampling, &stream, error);
    if (status != LLM_OK)
        return status;
    size_t used = 0, bytes = 1;
    out_text[0] = 0;
    while (status == LLM_OK && bytes > 0)
        status = read_piece(stream, out_text, capacity_bytes, &used, &bytes, error);
    llm_stream_close(stream);
    return status;
}
