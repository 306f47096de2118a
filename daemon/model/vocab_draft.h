/*
 * vocab_draft.h - a vocabulary on its way from a file to an image.
 *
 * Idea     Plain arrays, each filled by one step and proved there, so that the writer only lays out:
 *          tokens by id, merges by rank, added tokens in file order, splits in order of application.
 * Owner    vocab_build() owns the draft; vocab_draft_close() accepts every half-filled state.
 * Trust    Inside the draft every id is below token_count and every slice lies within its buffer.
 */
#ifndef LLM_DAEMON_MODEL_VOCAB_DRAFT_H
#define LLM_DAEMON_MODEL_VOCAB_DRAFT_H

#include <stdbool.h>

#include "daemon/model/vocab_builder.h"

struct draft_token {
    uint32_t offset; /* into `text` */
    uint32_t bytes;
    uint8_t flags; /* enum llm_vocab_token_flags */
    bool listed;   /* in added_tokens */
};

struct draft_merge {
    uint32_t left;
    uint32_t right;
    uint32_t merged;
    uint32_t rank; /* below merge_count; equal ranks are one */
};

struct draft_split {
    char *pattern; /* rewritten for PCRE2, terminated */
    uint32_t keep;
};

struct vocab_draft {
    const char *file;     /* where it comes from, for sentences: "tokenizer.json" */
    uint32_t kind;        /* enum llm_vocab_kind */
    uint32_t flags;       /* enum llm_vocab_flags */
    uint32_t normal_form; /* enum llm_vocab_normal_form */

    struct draft_token *tokens; /* [token_count] */
    uint32_t token_count;
    uint8_t *text; /* the tokens' bytes */
    size_t text_bytes;
    size_t text_capacity;
    uint32_t byte_tokens[256];
    uint32_t unk_id;

    struct draft_merge *merges; /* [merge_count] */
    uint32_t merge_count;
    struct llm_vocab_added *added; /* [added_count] */
    uint32_t added_count;

    struct draft_split splits[LLM_VOCAB_SPLITS_MAX];
    uint32_t split_count;
    uint32_t prefix_ids[LLM_VOCAB_AFFIXES_MAX];
    uint32_t prefix_count;
    uint32_t suffix_ids[LLM_VOCAB_AFFIXES_MAX];
    uint32_t suffix_count;
    uint32_t bos_id;
    uint32_t eos_ids[LLM_VOCAB_EOS_MAX];
    uint32_t eos_count;
    uint32_t template_bos_id, template_eos_id;
    const char *chat_template; /* [chat_template_bytes], in the source */
    size_t chat_template_bytes;

    uint32_t
        *charsmap; /* [charsmap_units], proved by llm_charsmap_sane(); NULL when there is none */
    uint32_t charsmap_units;
    const uint8_t *charsmap_text; /* [charsmap_text_bytes], in the source */
    uint32_t charsmap_text_bytes;
};

/* What the chain of steps needs and gives: kind, flags, normal form, splits (vocab_pipeline.c). */
LLM_MUST_CHECK enum llm_status
vocab_pipeline_read(struct vocab_draft *draft, const json_t *tokenizer, struct llm_error *error);
/* Tokens, byte tokens, unk, merges, added tokens; the kind is known (vocab_tokens.c). */
LLM_MUST_CHECK enum llm_status vocab_tokens_read(struct vocab_draft *draft, const json_t *tokenizer,
                                                 uint32_t token_count, struct llm_error *error);
/* The id of the token or added token with this text, or LLM_TOKEN_NONE. */
uint32_t vocab_tokens_find(const struct vocab_draft *draft, const json_t *tokenizer,
                           const char *content);
/* All of it from SentencePiece's tokenizer.model (vocab_spm.c). */
LLM_MUST_CHECK enum llm_status vocab_spm_read(struct vocab_draft *draft,
                                              const struct vocab_source *source,
                                              struct llm_error *error);
/* All of it from a GGUF file's metadata (vocab_gguf.c). */
LLM_MUST_CHECK enum llm_status vocab_gguf_read(struct vocab_draft *draft,
                                               const struct vocab_source *source,
                                               struct llm_error *error);
/* Lay the draft out (vocab_write.c). */
LLM_MUST_CHECK enum llm_status vocab_write(struct vocab_draft *draft,
                                           const struct vocab_facts *facts, void **out_image,
                                           size_t *out_bytes, struct llm_error *error);
void vocab_draft_close(struct vocab_draft *draft);

#endif
