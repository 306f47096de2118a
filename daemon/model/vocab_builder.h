/*
 * vocab_builder.h - from a model's tokeniser file to a vocab image.
 *
 * Idea     A source is read into a draft in which every id and every merge is proved, and vocab_write.c lays the
 *          draft out as the image of shm/vocab_image.h. For tokenizer.json vocab_tokens.c reads tokens and
 *          merges, and vocab_pipeline.c turns the chain of normalisers, pre-tokenisers, post-processors and
 *          decoders into the few flags and patterns that the client knows; vocab_spm.c reads SentencePiece's
 *          tokenizer.model, vocab_gguf.c a GGUF file's metadata. What cannot be expressed exactly is refused
 *          by name.
 * Owner    The image is one malloc()ed block that belongs to the caller (free() it, or copy it into a memfd
 *          and then free() it). The JSON values belong to the caller and are only read.
 * Threads  Any; no shared state.
 * Trust    The files are hostile: a wrong type, id, merge or pattern ends in a sentence that names it.
 *          Memory grows with the file, never with a number in it.
 * See      shm/vocab_image.h, client/text/README.md, tests/daemon/test_vocab_builder.c;
 *          the first format: https://github.com/huggingface/tokenizers (tokenizers/src/models/bpe).
 */
#ifndef LLM_DAEMON_MODEL_VOCAB_BUILDER_H
#define LLM_DAEMON_MODEL_VOCAB_BUILDER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"
#include "shm/vocab_image.h"

struct gguf;

#define VOCAB_JSON_BYTES_MAX ((size_t)256 << 20) /* for json_file_read(); real ones are 2..35 MB */

/* What the model's other files say; what is not known stays 0 or LLM_TOKEN_NONE. */
struct vocab_facts {
    const char *name; /* 1..63 bytes */
    uint8_t fingerprint[LLM_VOCAB_FINGERPRINT_BYTES];
    uint32_t token_count; /* rows of the embedding; 0: one more than the largest id */
    uint32_t context_max_tokens;
    uint32_t bos_id; /* config.json; LLM_TOKEN_NONE: by name from tokenizer_config.json */
    uint32_t eos_ids[LLM_VOCAB_EOS_MAX]; /* generation_config.json, else config.json */
    uint32_t eos_count;
};

/* The first that is there is the tokeniser; none: build tokens-only. */
struct vocab_source {
    const json_t *tokenizer; /* tokenizer.json's root, or NULL */
    const void
        *spm; /* [spm_bytes] tokenizer.model (SentencePiece), or NULL; stays during vocab_build() */
    size_t spm_bytes;
    const struct gguf *gguf; /* an open GGUF file, or NULL; stays open during vocab_build() */
    const json_t *tokenizer_config; /* tokenizer_config.json's root, or NULL */
    const char
        *chat_template; /* [chat_template_bytes] of chat_template.jinja; NULL: there is none */
    size_t chat_template_bytes;
    struct vocab_facts facts;
};

/*
 * Build the image.
 *
 *   out_image  *out_bytes long; free() it
 *   returns    LLM_OK
 *              LLM_ERR_INVALID      a key is missing or wrong; the sentence names it
 *              LLM_ERR_UNSUPPORTED  a step that this build cannot do exactly; the sentence names its type.
 *                                   The model can still be served by ids: set the tokenisers to NULL
 *              LLM_ERR_LIMIT        larger than shm/vocab_image.h allows
 *              LLM_ERR_MEMORY       no memory for the draft or the image
 */
LLM_MUST_CHECK enum llm_status vocab_build(const struct vocab_source *source, void **out_image,
                                           size_t *out_bytes, struct llm_error *error);

#endif
