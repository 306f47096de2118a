#include "client/text/vocab.h"

#include <stdlib.h>
#include <string.h>

static_assert(LLM_VOCAB_EOS_IDS_MAX == LLM_VOCAB_EOS_MAX, "public and wire limits agree");

static enum llm_status compile_splits(llm_vocab *vocab, llm_error *error)
{
    for (uint32_t i = 0; i < vocab->view.header->split_count; i++) {
        const struct llm_vocab_split *split = &vocab->view.splits[i];
        int code;
        PCRE2_SIZE offset;
        vocab->splits[i] = pcre2_compile(
            (PCRE2_SPTR)vocab->view.patterns + split->pattern_offset, split->pattern_bytes,
            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset, NULL);
        if (!vocab->splits[i])
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "vocab image: split %u does not compile (PCRE2 error %d at byte %zu)",
                            i, code, (size_t)offset);
        /* Where the process may not make code (MemoryDenyWriteExecute), matching interprets. */
        (void)pcre2_jit_compile(vocab->splits[i], PCRE2_JIT_COMPLETE);
    }
    return LLM_OK;
}

static void index_added(llm_vocab *vocab)
{
    uint32_t i = 0;
    for (uint32_t byte = 0; byte < 256; byte++) {
        vocab->added_start[byte] = i;
        size_t bytes;
        while (i < vocab->view.header->added_count &&
               *llm_vocab_token(&vocab->view, vocab->view.added[i].id, &bytes) == byte)
            i++;
    }
    vocab->added_start[256] = i;
    for (i = 0; i < vocab->view.header->added_count; i++)
        vocab->inside_count += (vocab->view.added[i].flags & LLM_ADDED_INSIDE) != 0;
}

enum llm_status llm_vocab_open(const void *image, size_t image_bytes, llm_vocab **out_vocab,
                               llm_error *error)
{
    struct llm_vocab_view view;
    enum llm_status status = llm_vocab_image_check(image, image_bytes, &view, error);
    if (status != LLM_OK)
        return status;
    llm_vocab *vocab = calloc(1, sizeof *vocab);
    if (!vocab)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory to open vocabulary \"%s\"",
                        view.header->name);
    vocab->view = view;
    index_added(vocab);
    status = compile_splits(vocab, error);
    if (status != LLM_OK) {
        llm_vocab_close(vocab);
        return status;
    }
    *out_vocab = vocab;
    return LLM_OK;
}

void llm_vocab_close(llm_vocab *vocab)
{
    if (!vocab)
        return;
    for (uint32_t i = 0; i < LLM_VOCAB_SPLITS_MAX; i++)
        pcre2_code_free(vocab->splits[i]);
    free(vocab);
}

void llm_vocab_describe(const llm_vocab *vocab, llm_vocab_info *out_info)
{
    const struct llm_vocab_header *h = vocab->view.header;
    *out_info = (llm_vocab_info){
        .name = h->name,
        .fingerprint = h->fingerprint,
        .token_count = h->token_count,
        .context_max_tokens = h->context_max_tokens,
        .bos_id = h->bos_id,
        .eos_count = h->eos_count,
        .token_bytes_max = h->token_bytes_max,
        .has_text = h->kind != LLM_VOCAB_TOKENS_ONLY,
    };
    memcpy(out_info->eos_ids, h->eos_ids, sizeof h->eos_ids);
}

enum llm_status llm_token_text(const llm_vocab *vocab, uint32_t token, const char **out_text,
                               size_t *out_bytes, llm_error *error)
{
    if (token >= vocab->view.header->token_count)
        return llm_fail(error, LLM_ERR_INVALID, "token %u is outside the vocabulary of %u", token,
                        vocab->view.header->token_count);
    *out_text = (const char *)llm_vocab_token(&vocab->view, token, out_bytes);
    return LLM_OK;
}

uint32_t llm_token_find(const llm_vocab *vocab, const char *text, size_t text_bytes)
{
    uint8_t first = text_bytes > 0 ? (uint8_t)text[0] : 0;
    for (uint32_t i = vocab->added_start[first]; i < vocab->added_start[first + 1]; i++) {
        size_t bytes;
        const uint8_t *token = llm_vocab_token(&vocab->view, vocab->view.added[i].id, &bytes);
        if (bytes == text_bytes && memcmp(token, text, bytes) == 0)
            return vocab->view.added[i].id;
    }
    return LLM_TOKEN_NONE;
}

bool llm_token_is_special(const llm_vocab *vocab, uint32_t token)
{
    return token < vocab->view.header->token_count &&
           vocab->view.token_flags[token] & LLM_TOKEN_SPECIAL;
}

bool llm_token_is_eos(const llm_vocab *vocab, uint32_t token)
{
    const struct llm_vocab_header *h = vocab->view.header;
    for (uint32_t i = 0; i < h->eos_count; i++)
        if (h->eos_ids[i] == token)
            return true;
    return false;
}
