/*
 * vocab_pretokenizers.h - what the names in tokenizer.ggml.pre mean.
 *
 * Idea     A GGUF file does not carry the steps before the merges, only a name for them. Each name stands for the
 *          patterns of one published tokenizer.json; a name that is not in the table is refused, because a
 *          pattern that is nearly right gives a model nearly the text it was asked about.
 * Exact    The patterns are those of the models' own files. A GGUF cannot say that such a file also asks for a normal
 *          form: Qwen2's NFC is here, other models' text is taken as it is, as llama.cpp takes it.
 * See      https://github.com/ggml-org/llama.cpp (src/llama-vocab.cpp has the names),
 *          https://github.com/openai/tiktoken (tiktoken_ext/openai_public.py has cl100k's and o200k's).
 */
#ifndef LLM_DAEMON_MODEL_VOCAB_PRETOKENIZERS_H
#define LLM_DAEMON_MODEL_VOCAB_PRETOKENIZERS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/model/gguf.h"
#include "shm/vocab_image.h"

struct vocab_pretokenizer {
    const char *name;
    const char *const *patterns; /* terminated by NULL; each cuts what the one before it left */
    uint32_t flags;              /* enum llm_vocab_flags */
    uint32_t normal_form;        /* enum llm_vocab_normal_form */
    bool add_bos;                /* unless the file says otherwise */
};

/* NULL for a name that is not known. */
const struct vocab_pretokenizer *vocab_pretokenizer_find(struct gguf_text name);
/* Row by row, NULL behind the last. */
const struct vocab_pretokenizer *vocab_pretokenizer_at(uint32_t index);

#endif
