#include <stdlib.h>
#include <string.h>

#include "client/text/stream_text.h"

/* A whole prompt as ids, in memory that the caller frees. Counted first: some normalisations make a text
 * longer, so its bytes bound nothing. */
static enum llm_status encode_prompt(const llm_vocab *vocab, const char *prompt,
                                     uint32_t **out_tokens, size_t *out_count, llm_error *error)
{
    size_t bytes = strlen(prompt), count = 0;
    enum llm_status status =
        llm_encode(vocab, prompt, bytes, LLM_ENCODE_AFFIXES, NULL, 0, &count, error);
    if (status != LLM_OK)
        return status;
    uint32_t *tokens = malloc((count + 1) * sizeof *tokens); /* + 1: an empty text is no NULL */
    if (!tokens)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the prompt's %zu tokens", count);
    status = llm_encode(vocab, prompt, bytes, LLM_ENCODE_AFFIXES, tokens, count, &count, error);
    if (status == LLM_OK) {
        *out_tokens = tokens;
        *out_count = count;
    } else {
        free(tokens);
    }
    return status;
}

static enum llm_status submit_prompt(llm_connection *connection, const llm_vocab *vocab,
                                     const char *prompt, const llm_sampling *sampling,
                                     llm_stream **out_stream, llm_error *error)
{
    uint32_t *tokens = NULL;
    size_t count = 0;
    enum llm_status status = encode_prompt(vocab, prompt, &tokens, &count, error);
    if (status != LLM_OK)
        return status;
    if (count > UINT32_MAX)
        status = llm_fail(error, LLM_ERR_LIMIT, "a prompt of %zu tokens is too long", count);
    else
        status = llm_submit(connection, tokens, (uint32_t)count, sampling, out_stream, error);
    free(tokens);
    return status;
}

static void close_text(struct llm_attachment *attachment)
{
    free(attachment); /* it is the first member of the struct llm_stream_text that was allocated */
}

enum llm_status llm_generate_text(llm_connection *connection, const char *prompt,
                                  const llm_sampling *sampling, llm_stream **out_stream,
                                  llm_error *error)
{
    const llm_vocab *vocab;
    enum llm_status status =
        llm_connection_vocab(connection, sampling ? sampling->model : NULL, &vocab, error);
    if (status != LLM_OK)
        return status;
    struct llm_stream_text *text = malloc(sizeof *text);
    if (!text)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the answer's text");
    llm_stream_text_init(text, vocab, sampling);
    text->attachment.close = close_text;
    llm_stream *stream;
    status = submit_prompt(connection, vocab, prompt, sampling, &stream, error);
    if (status != LLM_OK) {
        free(text);
        return status;
    }
    llm_stream_attach(stream, &text->attachment);
    *out_stream = stream;
    return LLM_OK;
}

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
