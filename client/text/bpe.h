/*
 * bpe.h - byte-pair encoding of one piece of text.
 *
 * Idea     The piece starts as one symbol per byte (or character) in a linked list. A heap holds the pairs
 *          that merge, lowest (rank, position) on top; each step takes one, joins two symbols and looks at
 *          the two new neighbours. So a piece of n symbols costs O(n log n), whatever it says.
 *          Before that, the piece is cut wherever no merge of this vocabulary can reach across
 *          (llm_vocab_joins()), which leaves words rather than whole documents in the heap and changes
 *          nothing in the result.
 * Owner    struct llm_bpe is scratch memory that grows to the longest piece seen; llm_bpe_close() frees it.
 * Threads  One thread per struct llm_bpe.
 * See      Sennrich, Haddow, Birch 2016, arXiv:1508.07909; tests/client/test_encode.c counts `steps`.
 */
#ifndef LLM_CLIENT_TEXT_BPE_H
#define LLM_CLIENT_TEXT_BPE_H

#include "shm/vocab_image.h"

/* Where tokens go: counted always, stored while there is room. */
struct llm_token_sink {
    uint32_t *tokens; /* [capacity] */
    size_t capacity;
    size_t count;
};

static inline void llm_token_push(struct llm_token_sink *sink, uint32_t token)
{
    if (sink->count < sink->capacity)
        sink->tokens[sink->count] = token;
    sink->count++;
}

struct llm_bpe_symbol {
    uint32_t id;
    uint32_t prev; /* neighbours in the list, or LLM_TOKEN_NONE */
    uint32_t next;
    uint32_t rank;   /* of the merge with `next`; LLM_TOKEN_NONE: none, or this symbol is gone */
    uint32_t merged; /* its result */
};

struct llm_bpe_parts {
    uint32_t left;
    uint32_t right;
};

struct llm_bpe {
    struct llm_bpe_parts
        *parts;        /* [token_count] by token: its last pair; only where tokens are split */
    bool gave_unknown; /* the last token given is an unknown one that the next joins; likewise */
    struct llm_bpe_symbol *symbols; /* [symbol_capacity] */
    size_t symbol_count;
    size_t symbol_capacity;
    uint64_t *heap; /* rank << 32 | position of the left symbol */
    size_t heap_count;
    size_t heap_capacity;
    const uint32_t *
        inside; /* [257] the vocabulary's added_start where it has user-defined pieces, else NULL */
    uint64_t steps; /* symbols made and heap levels walked, since creation */
};

/*
 * Encode a piece.
 *
 *   piece    [bytes], any bytes
 *   returns  LLM_OK
 *            LLM_ERR_INVALID  a byte for which the vocabulary has neither token nor unknown token
 *            LLM_ERR_MEMORY
 */
LLM_MUST_CHECK enum llm_status llm_bpe_encode(struct llm_bpe *bpe,
                                              const struct llm_vocab_view *vocab,
                                              const uint8_t *piece, size_t bytes,
                                              struct llm_token_sink *sink, struct llm_error *error);
void llm_bpe_close(struct llm_bpe *bpe);

#endif
