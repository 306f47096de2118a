#include "client/text/stream_text.h"

#include <stdlib.h>
#include <string.h>

#include "shm/clock.h"

/* ---- Beginning ------------------------------------------------------------------------------------- */

static void close_text(struct llm_attachment *attachment)
{
    free(attachment); /* it is the first member of the struct llm_stream_text that was allocated */
}

/* From a length byte and bytes to terminated strings. */
static void init_stop(struct llm_stop_text *stop, const struct llm_stream_asked *asked)
{
    char copies[LLM_STOP_STRINGS_MAX][LLM_STOP_STRING_BYTES_MAX + 1] = {{0}};
    const char *strings[LLM_STOP_STRINGS_MAX];
    const uint8_t *from = asked->stop_strings;
    for (uint32_t i = 0; i < asked->stop_string_count; i++) {
        memcpy(copies[i], from + 1, from[0]);
        strings[i] = copies[i];
        from += 1 + from[0];
    }
    llm_stop_text_init(stop, strings, asked->stop_string_count);
}

static enum llm_status begin(llm_stream *stream, struct llm_stream_text **out_text,
                             llm_error *error)
{
    const struct llm_stream_asked *asked = llm_stream_asked(stream);
    const llm_vocab *vocab;
    enum llm_status status =
        llm_connection_vocab(llm_stream_connection(stream), asked->model, &vocab, error);
    if (status != LLM_OK)
        return status;
    struct llm_stream_text *text = calloc(1, sizeof *text);
    if (!text)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the answer's text");
    text->attachment.close = close_text;
    llm_decoder_init(&text->decoder, vocab, LLM_DECODE_CONTINUE); /* it continues the prompt */
    init_stop(&text->stop, asked);
    text->hidden_count = asked->stop_id_count;
    text->free_tokens = asked->min_tokens;
    memcpy(text->hidden_ids, asked->stop_ids, sizeof text->hidden_ids);
    llm_stream_attach(stream, &text->attachment);
    *out_text = text;
    return LLM_OK;
}

static bool is_hidden(const struct llm_stream_text *text, uint32_t token)
{
    for (uint32_t i = 0; i < text->hidden_count; i++)
        if (text->hidden_ids[i] == token)
            return true;
    return llm_token_is_eos(text->decoder.vocab, token);
}

/* ---- Tokens in ------------------------------------------------------------------------------------- */

/* The answer is over: an unfinished character becomes U+FFFD, and the end is remembered for the last read. */
static void complete(struct llm_stream_text *text, enum llm_status status, const llm_error *error)
{
    if (!text->stopped)
        text->text_bytes += llm_decode_end(&text->decoder, text->text + text->text_bytes);
    text->complete = true;
    text->end.status = text->stopped ? LLM_OK : status;
    if (text->end.status != LLM_OK)
        text->end = *error;
}

/* Read more tokens, without those that are not text. LLM_ERR_TIMEOUT passes through; every other end of the
 * stream is kept until the text before it was given. */
static enum llm_status read_tokens(llm_stream *stream, struct llm_stream_text *text,
                                   uint64_t timeout_ns, llm_error *error)
{
    uint32_t count = 0;
    llm_error why = {.status = LLM_OK};
    uint32_t most = LLM_STREAM_TEXT_TOKENS; /* not beyond the last token that is free of stops */
    if (text->free_tokens > 0 && text->free_tokens < most)
        most = text->free_tokens;
    text->tokens_are_free = text->free_tokens > 0;
    enum llm_status status =
        llm_stream_read(stream, text->tokens, NULL, most, timeout_ns, &count, &why);
    if (status == LLM_ERR_TIMEOUT)
        return llm_fail(error, status, "%s", why.message);
    if (status != LLM_OK || count == 0) {
        complete(text, status, &why);
        return LLM_OK;
    }
    text->free_tokens -= text->tokens_are_free ? count : 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!text->stopped && !is_hidden(text, text->tokens[i]))
            text->tokens[kept++] = text->tokens[i];
    text->token_next = 0;
    text->token_count = kept;
    return LLM_OK;
}

static enum llm_status decode_tokens(struct llm_stream_text *text, llm_error *error)
{
    size_t used = 0, bytes = 0;
    enum llm_status status =
        llm_decode(&text->decoder, text->tokens + text->token_next,
                   text->token_count - text->token_next, text->text + text->text_bytes,
                   sizeof text->text - text->text_bytes - LLM_DECODE_CAPACITY_MIN, &used, &bytes,
                   error); /* the spared bytes are for llm_decode_end() */
    text->token_next += (uint32_t)used;
    text->text_bytes += bytes;
    if (text->tokens_are_free)
        text->free_bytes = text->text_bytes;
    return status;
}

/* ---- Text out -------------------------------------------------------------------------------------- */

/* The largest whole number of characters within `bytes`. */
static size_t whole_characters(const char *text, size_t bytes, size_t text_bytes)
{
    while (bytes > 0 && bytes < text_bytes && ((unsigned char)text[bytes] & 0xc0) == 0x80)
        bytes--;
    return bytes;
}

/* Hand out what is certain; returns the bytes, 0 when more tokens are needed. */
static size_t give(llm_stream *stream, struct llm_stream_text *text, char *out, size_t capacity)
{
    bool found = false;
    size_t free_bytes = text->free_bytes;
    size_t shown = text->stopped
                       ? text->text_bytes
                       : free_bytes + llm_stop_text_shown(&text->stop, text->text + free_bytes,
                                                          text->text_bytes - free_bytes, &found);
    if (found) {
        llm_stream_cancel(stream); /* the engine has stopped by itself; this costs nothing */
        text->stopped = true;
        text->text_bytes = whole_characters(text->text, shown, text->text_bytes);
        text->token_count = text->token_next = 0;
        shown = text->text_bytes;
    } else if (text->complete) {
        shown = text->text_bytes; /* nothing can follow that would make it a stop string */
    }
    size_t bytes = shown < capacity ? shown : capacity;
    bytes = whole_characters(text->text, bytes, text->text_bytes);
    memcpy(out, text->text, bytes);
    text->text_bytes -= bytes;
    text->free_bytes -= bytes < text->free_bytes ? bytes : text->free_bytes;
    memmove(text->text, text->text + bytes, text->text_bytes);
    return bytes;
}

enum llm_status llm_stream_read_text(llm_stream *stream, char *out_text, size_t capacity_bytes,
                                     uint64_t timeout_ns, size_t *out_bytes, llm_error *error)
{
    struct llm_stream_text *text = (struct llm_stream_text *)llm_stream_attachment(stream);
    enum llm_status status = LLM_OK;
    if (capacity_bytes < LLM_DECODE_CAPACITY_MIN)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "llm_stream_read_text: a buffer of %zu bytes may not hold one character",
                        capacity_bytes);
    uint64_t deadline_ns = llm_deadline_ns(timeout_ns);
    if (!text)
        status = begin(stream, &text, error);
    while (status == LLM_OK) {
        size_t given = give(stream, text, out_text, capacity_bytes);
        if (given > 0 || (text->complete && text->end.status == LLM_OK)) {
            *out_bytes = given;
            return LLM_OK;
        }
        if (text->complete)
            return llm_fail(error, text->end.status, "%s", text->end.message);
        if (text->token_next < text->token_count)
            status = decode_tokens(text, error);
        else
            status = read_tokens(stream, text, llm_remaining_ns(deadline_ns), error);
    }
    return status;
}
