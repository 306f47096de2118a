#include "client/text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "client/text/added.h"
#include "client/text/utf8.h"

#define NONE LLM_TOKEN_NONE

/* ---- Heap of merges, smallest on top --------------------------------------------------------------- */

/* Room is reserved by merge_segment(): a segment of n symbols pushes at most 3n times. */
static void heap_push(struct llm_bpe *bpe, uint64_t item)
{
    size_t at = bpe->heap_count++;
    while (at > 0 && bpe->heap[(at - 1) / 2] > item) {
        bpe->heap[at] = bpe->heap[(at - 1) / 2];
        at = (at - 1) / 2;
        bpe->steps++;
    }
    bpe->heap[at] = item;
}

static uint64_t heap_pop(struct llm_bpe *bpe)
{
    uint64_t top = bpe->heap[0];
    uint64_t item = bpe->heap[--bpe->heap_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < bpe->heap_count) {
        if (child + 1 < bpe->heap_count && bpe->heap[child + 1] < bpe->heap[child])
            child++;
        if (bpe->heap[child] >= item)
            break;
        bpe->heap[at] = bpe->heap[child];
        at = child;
        bpe->steps++;
    }
    bpe->heap[at] = item;
    return top;
}

/* ---- Merging one segment --------------------------------------------------------------------------- */

static bool reserve(void **memory, size_t *capacity, size_t want, size_t item_bytes)
{
    if (want <= *capacity)
        return true;
    size_t grown = want + want / 2 + 64;
    void *moved = realloc(*memory, grown * item_bytes);
    if (!moved)
        return false;
    *memory = moved;
    *capacity = grown;
    return true;
}

/* The rank of a pair and what it becomes, or NONE. */
static inline uint32_t rank_of(const struct llm_vocab_view *vocab, uint32_t left, uint32_t right,
                               uint32_t *out_merged)
{
    const struct llm_vocab_merge *merge = llm_vocab_find_merge(vocab, left, right);
    *out_merged = merge ? merge->merged : NONE;
    return merge ? merge->rank : NONE;
}

/* Look the pair (at, its right neighbour) up, and queue it when it merges. */
static void queue_pair(struct llm_bpe *bpe, const struct llm_vocab_view *vocab, uint32_t at)
{
    struct llm_bpe_symbol *left = &bpe->symbols[at];
    left->rank = NONE;
    if (left->next == NONE)
        return;
    const struct llm_vocab_merge *merge =
        llm_vocab_find_merge(vocab, left->id, bpe->symbols[left->next].id);
    if (!merge)
        return;
    left->rank = merge->rank;
    left->merged = merge->merged;
    if (bpe->parts) /* SentencePiece keeps the last pair that it saw give the piece */
        bpe->parts[merge->merged] = (struct llm_bpe_parts){left->id, bpe->symbols[left->next].id};
    heap_push(bpe, (uint64_t)merge->rank << 32 | at);
}

static void merge_at(struct llm_bpe *bpe, const struct llm_vocab_view *vocab, uint32_t at)
{
    struct llm_bpe_symbol *left = &bpe->symbols[at];
    struct llm_bpe_symbol *right = &bpe->symbols[left->next];
    left->id = left->merged;
    left->next = right->next;
    right->rank = NONE; /* gone: what the heap still says about it is stale */
    if (left->next != NONE)
        bpe->symbols[left->next].prev = at;
    if (left->prev != NONE)
        queue_pair(bpe, vocab, left->prev);
    queue_pair(bpe, vocab, at);
}

static bool has_byte_tokens(const struct llm_vocab_view *vocab, const uint8_t *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (vocab->byte_tokens[text[i]] == NONE)
            return false;
    return true;
}

/* A character whose piece is unused is an unknown one: its bytes, or the unknown token. */
static void give_unknown(struct llm_bpe *bpe, const struct llm_vocab_view *vocab, uint32_t id,
                         struct llm_token_sink *sink)
{
    size_t bytes;
    const uint8_t *text = llm_vocab_token(vocab, id, &bytes);
    if (bytes == 1 && text[0] == ' ') { /* as the file has it */
        text = (const uint8_t *)"\xe2\x96\x81";
        bytes = 3;
    }
    bool spelt = has_byte_tokens(vocab, text, bytes);
    for (size_t i = 0; spelt && i < bytes; i++)
        llm_token_push(sink, vocab->byte_tokens[text[i]]);
    if (!spelt && !bpe->gave_unknown)
        llm_token_push(sink, vocab->header->unk_id == NONE ? id : vocab->header->unk_id);
    bpe->gave_unknown = !spelt && vocab->header->flags & LLM_VOCAB_FUSE_UNKNOWN;
}

/* Give a symbol where tokens are split: one of those as its parts, which are shorter (llm_vocab_image_check()). */
static void give_parts(struct llm_bpe *bpe, const struct llm_vocab_view *vocab, uint32_t id,
                       struct llm_token_sink *sink)
{
    while (vocab->token_flags[id] & LLM_TOKEN_SPLIT && bpe->parts[id].left != NONE) {
        give_parts(bpe, vocab, bpe->parts[id].left, sink);
        id = bpe->parts[id].right;
    }
    if (vocab->token_flags[id] & LLM_TOKEN_SPLIT) {
        give_unknown(bpe, vocab, id, sink);
    } else if (id != vocab->header->unk_id || !bpe->gave_unknown) {
        llm_token_push(sink, id);
        bpe->gave_unknown =
            id == vocab->header->unk_id && vocab->header->flags & LLM_VOCAB_FUSE_UNKNOWN;
    }
}

static void give(struct llm_bpe *bpe, const struct llm_vocab_view *vocab, uint32_t id,
                 struct llm_token_sink *sink)
{
    if (bpe->parts)
        give_parts(bpe, vocab, id, sink);
    else
        llm_token_push(sink, id);
}

/* Words are short: of few symbols the lowest rank is found faster by looking at all than by keeping a heap. */
#define FEW 24u

static void merge_few(struct llm_bpe *bpe, const struct llm_vocab_view *vocab,
                      struct llm_token_sink *sink)
{
    uint32_t count = (uint32_t)bpe->symbol_count, ids[FEW], ranks[FEW], merged[FEW];
    for (uint32_t i = 0; i < count; i++)
        ids[i] = bpe->symbols[i].id;
    for (uint32_t i = 0; i + 1 < count; i++)
        ranks[i] = rank_of(vocab, ids[i], ids[i + 1], &merged[i]);
    while (count > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < count; i++)
            best = ranks[i] < ranks[best] ? i : best;
        bpe->steps += count;
        if (ranks[best] == NONE)
            break;
        ids[best] = merged[best];
        count--;
        for (uint32_t i = best + 1; i < count; i++) {
            ids[i] = ids[i + 1];
            ranks[i - 1] = ranks[i];
            merged[i - 1] = merged[i];
        }
        if (best + 1 < count)
            ranks[best] = rank_of(vocab, ids[best], ids[best + 1], &merged[best]);
        if (best > 0)
            ranks[best - 1] = rank_of(vocab, ids[best - 1], ids[best], &merged[best - 1]);
    }
    for (uint32_t i = 0; i < count; i++)
        llm_token_push(sink, ids[i]);
    bpe->symbol_count = 0;
}

static enum llm_status merge_segment(struct llm_bpe *bpe, const struct llm_vocab_view *vocab,
                                     struct llm_token_sink *sink, struct llm_error *error)
{
    uint32_t count = (uint32_t)bpe->symbol_count;
    if (count <= FEW && !bpe->parts) {
        merge_few(bpe, vocab, sink);
        return LLM_OK;
    }
    void *heap = bpe->heap;
    bool room = reserve(&heap, &bpe->heap_capacity, 3 * bpe->symbol_count, sizeof *bpe->heap);
    bpe->heap = heap;
    if (!room)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to encode a piece of %u symbols", count);

    for (uint32_t i = 0; i < count; i++) {
        bpe->symbols[i].prev = i > 0 ? i - 1 : NONE;
        bpe->symbols[i].next = i + 1 < count ? i + 1 : NONE;
        queue_pair(bpe, vocab, i);
    }
    while (bpe->heap_count > 0) {
        uint64_t item = heap_pop(bpe);
        uint32_t at = (uint32_t)item;
        if (bpe->symbols[at].rank == (uint32_t)(item >> 32))
            merge_at(bpe, vocab, at);
    }
    for (uint32_t i = 0; count > 0 && i != NONE; i = bpe->symbols[i].next)
        give(bpe, vocab, bpe->symbols[i].id, sink);
    bpe->symbol_count = 0;
    return LLM_OK;
}

/* ---- Symbols of a piece ---------------------------------------------------------------------------- */

static enum llm_status add_symbol(struct llm_bpe *bpe, uint32_t id, struct llm_error *error)
{
    void *symbols = bpe->symbols;
    bool room =
        reserve(&symbols, &bpe->symbol_capacity, bpe->symbol_count + 1, sizeof *bpe->symbols);
    bpe->symbols = symbols;
    if (!room)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to encode a piece of %zu symbols",
                        bpe->symbol_count);
    bpe->symbols[bpe->symbol_count++] = (struct llm_bpe_symbol){.id = id};
    bpe->steps++;
    return LLM_OK;
}

/* The character (or byte, or user-defined piece) at `text` and its id, or NONE when it has none of its own. */
static size_t next_character(const struct llm_bpe *bpe, const struct llm_vocab_view *vocab,
                             const uint8_t *text, size_t bytes, uint32_t *out_id)
{
    size_t piece_bytes = 0;
    uint32_t piece = bpe->inside
                         ? llm_added_longest(vocab, bpe->inside, (struct llm_slice){text, bytes},
                                             true, &piece_bytes)
                         : NONE;
    if (piece != NONE) { /* user-defined: a symbol that no merge knows */
        *out_id = vocab->added[piece].id;
        return piece_bytes;
    }
    if (vocab->header->kind == LLM_VOCAB_BYTE_LEVEL) {
        *out_id = vocab->byte_tokens[text[0]];
        return 1;
    }
    unsigned length = llm_utf8_character(text, bytes);
    *out_id = length ? llm_vocab_find_token(vocab, text, length) : NONE;
    return length ? length : 1;
}

/* A character without an id: its bytes, or else the unknown token, one for neighbours that fuse. */
static enum llm_status add_unknown(struct llm_bpe *bpe, const struct llm_vocab_view *vocab,
                                   const uint8_t *text, size_t length, bool *fused,
                                   struct llm_error *error)
{
    const struct llm_vocab_header *h = vocab->header;
    enum llm_status status = LLM_OK;
    if (has_byte_tokens(vocab, text, length)) {
        for (size_t i = 0; i < length && status == LLM_OK; i++)
            status = add_symbol(bpe, vocab->byte_tokens[text[i]], error);
        *fused = false;
        return status;
    }
    if (h->unk_id == NONE)
        return llm_fail(error, LLM_ERR_INVALID,
                        "the vocabulary has no token for byte 0x%02x of the text", text[0]);
    if (!*fused)
        status = add_symbol(bpe, h->unk_id, error);
    *fused = h->flags & LLM_VOCAB_FUSE_UNKNOWN;
    return status;
}

static bool forget_parts(struct llm_bpe *bpe, const struct llm_vocab_view *vocab)
{
    size_t bytes = (size_t)vocab->header->token_count * sizeof *bpe->parts;
    if (!bpe->parts)
        bpe->parts = malloc(bytes);
    if (bpe->parts)
        memset(bpe->parts, 0xff, bytes); /* NONE */
    bpe->gave_unknown = false;
    return bpe->parts != NULL;
}

static enum llm_status encode_characters(struct llm_bpe *bpe, const struct llm_vocab_view *vocab,
                                         const uint8_t *piece, size_t bytes,
                                         struct llm_token_sink *sink, struct llm_error *error)
{
    if (vocab->header->flags & LLM_VOCAB_SPLIT_TOKENS && !forget_parts(bpe, vocab))
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to encode with %u tokens",
                        vocab->header->token_count);
    bool fused = false; /* the last symbol is an unknown one that the next unknown one joins */
    bpe->symbol_count = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t id;
        size_t length = next_character(bpe, vocab, piece + at, bytes - at, &id);
        enum llm_status status = LLM_OK;
        if (bpe->symbol_count > 0 && !llm_vocab_joins(vocab, piece[at - 1], piece[at]))
            status = merge_segment(bpe, vocab, sink, error);
        if (status == LLM_OK && id == NONE)
            status = add_unknown(bpe, vocab, piece + at, length, &fused, error);
        else if (status == LLM_OK) {
            status = add_symbol(bpe, id, error);
            fused = false;
        }
        if (status != LLM_OK)
            return status;
        at += length;
    }
    return merge_segment(bpe, vocab, sink, error);
}

enum llm_status llm_bpe_encode(struct llm_bpe *bpe, const struct llm_vocab_view *vocab,
                               const uint8_t *piece, size_t bytes, struct llm_token_sink *sink,
                               struct llm_error *error)
{
    if (vocab->header->flags & LLM_VOCAB_IGNORE_MERGES) {
        uint32_t whole = llm_vocab_find_token(vocab, piece, bytes);
        if (whole != NONE) {
            llm_token_push(sink, whole);
            return LLM_OK;
        }
    }
    return encode_characters(bpe, vocab, piece, bytes, sink, error);
}

void llm_bpe_close(struct llm_bpe *bpe)
{
    free(bpe->symbols);
    free(bpe->heap);
    free(bpe->parts);
    *bpe = (struct llm_bpe){0};
}
