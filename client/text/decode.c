#include <string.h>

#include "client/text/utf8.h"
#include "client/text/vocab.h"

static const char replacement[3] = "\xef\xbf\xbd"; /* U+FFFD */

void llm_decoder_init(llm_decoder *decoder, const llm_vocab *vocab, uint32_t flags)
{
    *decoder = (llm_decoder){
        .vocab = vocab,
        .flags = flags,
        .drop_space = vocab->view.header->flags & LLM_VOCAB_DROP_FIRST_SPACE &&
                      !(flags & LLM_DECODE_CONTINUE),
    };
}

/* ---- One token ------------------------------------------------------------------------------------ */

struct output {
    char *bytes;
    size_t capacity;
    size_t count;
};

static void put(struct output *out, const void *bytes, size_t count) /* there is room */
{
    memcpy(out->bytes + out->count, bytes, count);
    out->count += count;
}

/*
 * Put one byte to the character that is being held. A character is given when it is complete; a byte that
 * cannot continue it turns what is held into one U+FFFD and is looked at again.
 * At most LLM_DECODE_CAPACITY_MIN bytes are written. Returns whether the byte was used.
 */
static bool put_byte(llm_decoder *d, uint8_t byte, struct output *out)
{
    if (d->held_bytes > 0 && !llm_utf8_continues(d->held[0], d->held_bytes, byte)) {
        put(out, replacement, sizeof replacement);
        d->held_bytes = 0;
        return false;
    }
    if (d->held_bytes == 0 && llm_utf8_length(byte) == 0) {
        put(out, replacement, sizeof replacement);
        return true;
    }
    d->held[d->held_bytes++] = byte;
    if (d->held_bytes == llm_utf8_length(d->held[0])) {
        put(out, d->held, d->held_bytes);
        d->held_bytes = 0;
    }
    return true;
}

/* Give bytes of a token until it is done or the buffer is full; returns whether it is done. */
static bool put_token(llm_decoder *d, const uint8_t *text, size_t bytes, struct output *out)
{
    if (d->drop_space && bytes > 0) {
        d->drop_space = false;
        d->token_offset = text[0] == ' ';
    }
    if (d->flags & LLM_DECODE_BYTES) {
        size_t left = bytes - d->token_offset, room = out->capacity - out->count;
        size_t take = left < room ? left : room;
        put(out, text + d->token_offset, take);
        d->token_offset += (uint32_t)take;
    }
    while (!(d->flags & LLM_DECODE_BYTES) && d->token_offset < bytes &&
           out->capacity - out->count >= LLM_DECODE_CAPACITY_MIN)
        d->token_offset += put_byte(d, text[d->token_offset], out);
    if (d->token_offset < bytes)
        return false;
    d->token_offset = 0;
    return true;
}

static bool is_silent(const llm_decoder *d, uint32_t token)
{
    return llm_token_is_special(d->vocab, token) && !(d->flags & LLM_DECODE_SPECIAL);
}

/* ---- Streams of tokens ---------------------------------------------------------------------------- */

enum llm_status llm_decode(llm_decoder *decoder, const uint32_t *tokens, size_t token_count,
                           char *out_text, size_t capacity_bytes, size_t *out_used,
                           size_t *out_bytes, llm_error *error)
{
    if (capacity_bytes < LLM_DECODE_CAPACITY_MIN)
        return llm_fail(error, LLM_ERR_LIMIT, "a buffer of %zu bytes; text needs at least %d",
                        capacity_bytes, LLM_DECODE_CAPACITY_MIN);
    struct output out = {.bytes = out_text, .capacity = capacity_bytes};
    enum llm_status status = LLM_OK;
    size_t used = 0;
    while (used < token_count && status == LLM_OK) {
        const char *text = NULL;
        size_t bytes = 0;
        status = llm_token_text(decoder->vocab, tokens[used], &text, &bytes, error);
        if (status == LLM_OK && !is_silent(decoder, tokens[used]) &&
            !put_token(decoder, (const uint8_t *)text, bytes, &out))
            break;
        used += status == LLM_OK;
    }
    *out_used = used;
    *out_bytes = out.count;
    return status;
}

size_t llm_decode_end(llm_decoder *decoder, char out_text[LLM_DECODE_CAPACITY_MIN])
{
    size_t bytes = decoder->held_bytes > 0 ? sizeof replacement : 0;
    memcpy(out_text, replacement, bytes);
    llm_decoder_init(decoder, decoder->vocab, decoder->flags);
    return bytes;
}

/* Count `bytes`, and keep them while there is room. */
static void keep(struct output *out, const char *bytes, size_t count)
{
    if (count > 0 && count <= out->capacity && out->count <= out->capacity - count)
        memcpy(out->bytes + out->count, bytes, count);
    out->count += count;
}

enum llm_status llm_decode_whole(const llm_vocab *vocab, const uint32_t *tokens, size_t token_count,
                                 uint32_t flags, char *out_text, size_t capacity_bytes,
                                 size_t *out_bytes, llm_error *error)
{
    llm_decoder decoder;
    llm_decoder_init(&decoder, vocab, flags);
    struct output out = {.bytes = out_text, .capacity = out_text ? capacity_bytes : 0};
    char piece[1024];
    for (size_t done = 0; done < token_count;) {
        size_t used, bytes;
        enum llm_status status = llm_decode(&decoder, tokens + done, token_count - done, piece,
                                            sizeof piece, &used, &bytes, error);
        if (status != LLM_OK)
            return status;
        keep(&out, piece, bytes);
        done += used;
    }
    keep(&out, piece, llm_decode_end(&decoder, piece));
    if (out_text && out.count > capacity_bytes)
        return llm_fail(error, LLM_ERR_LIMIT, "the text has %zu bytes, the buffer holds %zu",
                        out.count, capacity_bytes);
    *out_bytes = out.count;
    return LLM_OK;
}
