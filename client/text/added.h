/*
 * added.h - tokens that are found in a text before anything else is done to it.
 *
 * Idea     Added tokens are whole strings ("<|im_end|>"). They lie in the image in ascending order, so the
 *          candidates at a position are a range that each further character narrows; the longest wins.
 *          A position costs at most the longest added token, so a text is linear.
 * See      AddedToken in https://huggingface.co/docs/tokenizers/api/added-tokens
 */
#ifndef LLM_CLIENT_TEXT_ADDED_H
#define LLM_CLIENT_TEXT_ADDED_H

#include "client/text/normalize.h"
#include "client/text/vocab.h"

struct llm_added_match {
    uint32_t id;
    size_t start; /* with the white space that the token swallows */
    size_t end;
};

/*
 * The longest added token that the text begins with.
 *
 *   start      the vocabulary's added_start
 *   inside     among those that are found behind the normal form (user-defined pieces), else among the others
 *   returns    its index among the added tokens, or LLM_TOKEN_NONE
 */
uint32_t llm_added_longest(const struct llm_vocab_view *view, const uint32_t start[257],
                           struct llm_slice text, bool inside, size_t *out_bytes);

/* The first added token at or after `from`. A special one that is not allowed is plain text, to its end. */
bool llm_added_find(const llm_vocab *vocab, struct llm_slice text, size_t from, bool special,
                    struct llm_added_match *out_match);

#endif
