#include "client/text/added.h"
#include "client/text/bpe.h"
#include "client/text/content_marks.h"
#include "client/text/normalize.h"
#include "client/text/split.h"
#include "client/text/utf8.h"

/* One call of llm_encode(): the way of a text through added tokens, normal form, splits and merges. */
struct encoding {
    const llm_vocab *vocab;
    struct llm_token_sink sink;
    struct llm_splitter splitter;
    struct llm_bpe bpe;
    struct llm_buffer normal;   /* llm_normalize()'s */
    struct llm_buffer marked;   /* its text with visible spaces, for patterns that look for them */
    struct llm_buffer unmarked; /* a piece of that, back in plain spaces */
    const size_t *seams; /* [seam_count] ascending places that no added token may reach across */
    size_t seam_count;
};

static bool patterns_see_marks(const llm_vocab *vocab)
{
    return vocab->view.header->flags & LLM_VOCAB_SPACE_MARKS && vocab->view.header->split_count > 0;
}

static enum llm_status take_piece(void *taker, struct llm_slice piece, llm_error *error)
{
    struct encoding *e = taker;
    if (patterns_see_marks(e->vocab)) {
        if (!llm_unmark_spaces(piece, &e->unmarked))
            return llm_fail(error, LLM_ERR_MEMORY, "no memory for a piece of %zu bytes",
                            piece.count);
        piece = (struct llm_slice){e->unmarked.bytes, e->unmarked.count};
    }
    return llm_bpe_encode(&e->bpe, &e->vocab->view, piece.bytes, piece.count, &e->sink, error);
}

static enum llm_status encode_valid(struct encoding *e, struct llm_slice text, bool prefix,
                                    llm_error *error)
{
    enum llm_status status = llm_normalize(e->vocab, text, prefix, &e->normal, &text, error);
    if (status != LLM_OK)
        return status;
    if (patterns_see_marks(e->vocab)) {
        if (!llm_mark_spaces(text, &e->marked))
            return llm_fail(error, LLM_ERR_MEMORY, "no memory for a text of %zu bytes", text.count);
        text = (struct llm_slice){e->marked.bytes, e->marked.count};
    }
    return llm_split(&e->splitter, text, error);
}

/* The end of the run that starts at `at`: of characters, or of bytes that are none. */
static size_t run_end(struct llm_slice text, size_t at, bool valid)
{
    while (at < text.count) {
        unsigned length = llm_utf8_character(text.bytes + at, text.count - at);
        if ((length > 0) != valid)
            break;
        at += valid ? length : 1;
    }
    return at;
}

/* Text between added tokens. Normal forms and patterns are defined on characters, merges on bytes: what is
 * not UTF-8 goes to the merges directly. */
static enum llm_status encode_plain(struct encoding *e, struct llm_slice text, bool first,
                                    llm_error *error)
{
    bool only_first = e->vocab->view.header->flags & LLM_VOCAB_PREFIX_FIRST;
    enum llm_status status = LLM_OK;
    for (size_t at = 0; at < text.count && status == LLM_OK;) {
        bool valid = llm_utf8_character(text.bytes + at, text.count - at) > 0;
        size_t end = run_end(text, at, valid);
        struct llm_slice run = {text.bytes + at, end - at};
        if (valid)
            status = encode_valid(e, run, at == 0 && (first || !only_first), error);
        else
            status =
                llm_bpe_encode(&e->bpe, &e->vocab->view, run.bytes, run.count, &e->sink, error);
        at = end;
    }
    return status;
}

/* The first added token at or after `at` that reaches across no seam. */
static bool find_added(struct encoding *e, struct llm_slice text, size_t at, bool special,
                       struct llm_added_match *out_match)
{
    for (; e->seam_count > 0 && e->seams[0] <= at; e->seam_count--)
        e->seams++;
    for (size_t from = at; e->seam_count > 0; e->seam_count--) {
        if (llm_added_find(e->vocab, (struct llm_slice){text.bytes, *e->seams}, from, special,
                           out_match))
            return true;
        from = *e->seams++;
    }
    size_t from = e->seams && e->seams[-1] > at ? e->seams[-1] : at;
    return llm_added_find(e->vocab, text, from, special, out_match);
}

static enum llm_status encode_text(struct encoding *e, struct llm_slice text, bool special,
                                   llm_error *error)
{
    size_t at = 0;
    struct llm_added_match added;
    enum llm_status status = LLM_OK;
    while (status == LLM_OK && find_added(e, text, at, special, &added)) {
        status =
            encode_plain(e, (struct llm_slice){text.bytes + at, added.start - at}, at == 0, error);
        llm_token_push(&e->sink, added.id);
        at = added.end;
    }
    if (status == LLM_OK)
        status =
            encode_plain(e, (struct llm_slice){text.bytes + at, text.count - at}, at == 0, error);
    return status;
}

static void push_all(struct llm_token_sink *sink, const uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        llm_token_push(sink, ids[i]);
}

static void encoding_close(struct encoding *e)
{
    llm_splitter_close(&e->splitter);
    llm_bpe_close(&e->bpe);
    llm_buffer_close(&e->normal);
    llm_buffer_close(&e->marked);
    llm_buffer_close(&e->unmarked);
}

static enum llm_status check_request(const llm_vocab *vocab, size_t text_bytes, uint32_t flags,
                                     llm_error *error)
{
    if (vocab->view.header->kind == LLM_VOCAB_TOKENS_ONLY)
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "model \"%s\" has no tokeniser; it is served by token ids",
                        vocab->view.header->name);
    if (text_bytes > LLM_ENCODE_BYTES_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "a text of %zu bytes; at most %zu can be encoded",
                        text_bytes, LLM_ENCODE_BYTES_MAX);
    if (flags & ~(uint32_t)(LLM_ENCODE_AFFIXES | LLM_ENCODE_SPECIAL))
        return llm_fail(error, LLM_ERR_INVALID, "unknown encode flags 0x%x", flags);
    return LLM_OK;
}

enum llm_status llm_encode(const llm_vocab *vocab, const char *text, size_t text_bytes,
                           uint32_t flags, uint32_t *out_tokens, size_t capacity_tokens,
                           size_t *out_count, llm_error *error)
{
    return llm_encode_seamed(vocab, text, text_bytes, flags, NULL, 0, out_tokens, capacity_tokens,
                             out_count, error);
}

enum llm_status llm_encode_seamed(const llm_vocab *vocab, const char *text, size_t text_bytes,
                                  uint32_t flags, const size_t *seams, size_t seam_count,
                                  uint32_t *out_tokens, size_t capacity_tokens, size_t *out_count,
                                  llm_error *error)
{
    const struct llm_vocab_header *h = vocab->view.header;
    enum llm_status status = check_request(vocab, text_bytes, flags, error);
    if (status != LLM_OK)
        return status;
    struct encoding e = {
        .vocab = vocab,
        .seams = seams,
        .seam_count = seam_count,
        .bpe = {.inside = vocab->inside_count > 0 ? vocab->added_start : NULL},
        .sink = {.tokens = out_tokens, .capacity = out_tokens ? capacity_tokens : 0}};
    status = llm_splitter_init(&e.splitter, vocab, take_piece, &e, error);
    if (status != LLM_OK)
        return status;

    struct llm_slice all = {(const uint8_t *)text, text_bytes};
    if (flags & LLM_ENCODE_AFFIXES)
        push_all(&e.sink, h->prefix_ids, h->prefix_count);
    status = encode_text(&e, all, flags & LLM_ENCODE_SPECIAL, error);
    if (flags & LLM_ENCODE_AFFIXES)
        push_all(&e.sink, h->suffix_ids, h->suffix_count);
    if (status == LLM_OK && out_tokens && e.sink.count > capacity_tokens)
        status = llm_fail(error, LLM_ERR_LIMIT, "the text has %zu tokens, the buffer holds %zu",
                          e.sink.count, capacity_tokens);
    if (status == LLM_OK)
        *out_count = e.sink.count;
    encoding_close(&e);
    return status;
}
