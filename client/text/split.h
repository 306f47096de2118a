/*
 * split.h - pre-tokenisation: text into the pieces that merges cannot cross.
 *
 * Idea     Each of the vocabulary's patterns cuts the pieces of the one before it further; what comes out
 *          behind the last goes to the caller, in order.
 * Owner    struct llm_splitter is scratch of one call; llm_splitter_close() frees it.
 * Trust    A pattern may come from a hostile model file. Backtracking and memory per match are bounded, and a
 *          match that makes no sense is an error.
 * See      pcre2api(3), "The match context".
 */
#ifndef LLM_CLIENT_TEXT_SPLIT_H
#define LLM_CLIENT_TEXT_SPLIT_H

#include "client/text/normalize.h"
#include "client/text/vocab.h"

struct llm_splitter {
    const llm_vocab *vocab;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    enum llm_status (*take)(void *taker, struct llm_slice piece, llm_error *error);
    void *taker;
};

/* LLM_OK or LLM_ERR_MEMORY; `take` gets every piece, and its failure ends the split. */
LLM_MUST_CHECK enum llm_status
llm_splitter_init(struct llm_splitter *splitter, const llm_vocab *vocab,
                  enum llm_status (*take)(void *taker, struct llm_slice piece, llm_error *error),
                  void *taker, llm_error *error);
void llm_splitter_close(struct llm_splitter *splitter);

/*
 *   text     well-formed UTF-8
 *   returns  LLM_OK
 *            LLM_ERR_LIMIT    a pattern needs too many steps or too much memory on this text
 *            LLM_ERR_CORRUPT  a pattern matches in an impossible place
 *            what `take` returned
 */
LLM_MUST_CHECK enum llm_status llm_split(struct llm_splitter *splitter, struct llm_slice text,
                                         llm_error *error);

#endif
