/*
 * vocab_pieces.h - a list of scored pieces (SentencePiece's, and GGUF's "llama") as tokens and merges.
 *
 * Idea     SentencePiece has no list of merges: of all neighbours whose concatenation is a piece it joins those
 *          with the highest score, leftmost first, until none is left. Each way to cut a piece into two pieces
 *          is therefore a merge, and its rank the place of the piece's score among all scores. Equal scores
 *          have equal ranks, and among equal ranks the client's merges take the leftmost: the same order.
 * Exact    A character without a piece of its own has no id that could be merged, where SentencePiece compares
 *          strings. A vocabulary in which that matters is refused by the piece's name.
 * Trust    Types and scores are proved by the reader; names may be any bytes. What no text can reach (a name that
 *          is not UTF-8, or has a plain space) still reads as what it is.
 * See      Kudo, Richardson 2018, arXiv:1808.06226; https://github.com/google/sentencepiece (bpe_model.cc).
 */
#ifndef LLM_DAEMON_MODEL_VOCAB_PIECES_H
#define LLM_DAEMON_MODEL_VOCAB_PIECES_H

#include "daemon/model/spm_file.h"
#include "daemon/model/vocab_draft.h"

struct vocab_pieces {
    const struct vocab_name *names; /* [count]; a piece without a name is no token */
    const float *scores;            /* [count], no NaN */
    const uint8_t *types;           /* [count], enum spm_piece_type */
    uint32_t count;
    bool byte_fallback; /* byte pieces spell characters that no other piece has */
    bool
        user_inside; /* user-defined pieces are found behind the normal form, else cut out before it */
};

/*
 * Fill the draft's tokens, byte tokens, added tokens and merges. draft->token_count is at least pieces->count; ids
 * behind the pieces stay without text.
 *
 *   extra_bytes  room to leave in the draft's text for tokens that the caller adds
 *   extra_added  and in the list of added tokens
 *   returns      LLM_OK
 *                LLM_ERR_INVALID      a byte piece that names no byte, two pieces with one name
 *                LLM_ERR_UNSUPPORTED  a vocabulary that merges by id cannot follow; the sentence names the piece
 *                LLM_ERR_LIMIT, LLM_ERR_MEMORY
 */
LLM_MUST_CHECK enum llm_status vocab_pieces_read(struct vocab_draft *draft,
                                                 const struct vocab_pieces *pieces,
                                                 size_t extra_bytes, uint32_t extra_added,
                                                 struct llm_error *error);

/* A name made fit for a sentence. */
struct json_shown vocab_name_show(struct vocab_name name);
/* The byte that "<0x00>".."<0xFF>" stands for, or -1. */
int vocab_name_byte(struct vocab_name name);

#endif
