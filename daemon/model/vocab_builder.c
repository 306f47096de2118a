#include "daemon/model/vocab_builder.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/model/chat_template.h"
#include "daemon/model/gguf.h"
#include "daemon/model/model_json.h"
#include "daemon/model/vocab_draft.h"
#include "shm/check.h"

/* ---- Ids that stand around every text -------------------------------------------------------------- */

static enum llm_status add_affix(struct vocab_draft *draft, bool before, const char *name,
                                 const json_t *tokenizer, struct llm_error *error)
{
    uint32_t *ids = before ? draft->prefix_ids : draft->suffix_ids;
    uint32_t *count = before ? &draft->prefix_count : &draft->suffix_count;
    uint32_t id = name ? vocab_tokens_find(draft, tokenizer, name) : LLM_TOKEN_NONE;
    if (id == LLM_TOKEN_NONE)
        return llm_fail(error, LLM_ERR_INVALID,
                        "tokenizer.json: post_processor: token \"%s\" is not in the vocabulary",
                        json_show(name ? name : "").text);
    if (*count == LLM_VOCAB_AFFIXES_MAX)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "tokenizer.json: post_processor adds more than %u ids",
                        LLM_VOCAB_AFFIXES_MAX);
    ids[(*count)++] = id;
    return LLM_OK;
}

/* "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, ...] */
static enum llm_status read_template(struct vocab_draft *draft, const json_t *step,
                                     const json_t *tokenizer, struct llm_error *error)
{
    const json_t *single = json_object_get(step, "single");
    bool before = true;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i);
        const json_t *token = json_object_get(piece, "SpecialToken");
        if (!token) {
            before = false;
            continue;
        }
        enum llm_status status = add_affix(
            draft, before, json_string_value(json_object_get(token, "id")), tokenizer, error);
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

static enum llm_status read_post_step(struct vocab_draft *draft, const json_t *step,
                                      const json_t *tokenizer, struct llm_error *error)
{
    const char *type = json_string_value(json_object_get(step, "type"));
    if (type && strcmp(type, "TemplateProcessing") == 0)
        return read_template(draft, step, tokenizer, error);
    if (type && strcmp(type, "ByteLevel") == 0) /* only moves offsets, which we do not report */
        return LLM_OK;
    return llm_fail(error, LLM_ERR_UNSUPPORTED,
                    "tokenizer.json: post_processor \"%s\" is not supported",
                    json_show(type ? type : "?").text);
}

static enum llm_status read_post_processor(struct vocab_draft *draft, const json_t *tokenizer,
                                           struct llm_error *error)
{
    const json_t *root = json_object_get(tokenizer, "post_processor");
    if (!root || json_is_null(root))
        return LLM_OK;
    const char *type = json_string_value(json_object_get(root, "type"));
    if (!type || strcmp(type, "Sequence") != 0)
        return read_post_step(draft, root, tokenizer, error);
    const json_t *steps = json_object_get(root, "processors");
    enum llm_status status = LLM_OK;
    for (size_t i = 0; i < json_array_size(steps) && status == LLM_OK; i++)
        status = read_post_step(draft, json_array_get(steps, i), tokenizer, error);
    return status;
}

/* ---- bos, eos: what the other files say ------------------------------------------------------------ */

/* tokenizer_config.json names a token as "text" or as {"content": "text", ...}. */
static uint32_t named_token(const struct vocab_draft *draft, const struct vocab_source *source,
                            const char *key)
{
    const json_t *value = json_object_get(source->tokenizer_config, key);
    const json_t *content = json_is_object(value) ? json_object_get(value, "content") : value;
    const char *name = json_string_value(content);
    return name ? vocab_tokens_find(draft, source->tokenizer, name) : LLM_TOKEN_NONE;
}

static void choose_ends(struct vocab_draft *draft, const struct vocab_source *source)
{
    if (draft->bos_id == LLM_TOKEN_NONE)
        draft->bos_id = named_token(draft, source, "bos_token");
    uint32_t eos = draft->eos_count == 0 ? named_token(draft, source, "eos_token") : LLM_TOKEN_NONE;
    if (eos != LLM_TOKEN_NONE)
        draft->eos_ids[draft->eos_count++] = eos;
}

/* The template's own names for the ends are those of tokenizer_config.json, whatever config.json says; without that file
 * they are the model's. */
static void choose_template_ends(struct vocab_draft *draft, const struct vocab_source *source)
{
    bool config = source->tokenizer && source->tokenizer_config;
    draft->template_bos_id = config ? named_token(draft, source, "bos_token") : draft->bos_id;
    if (config)
        draft->template_eos_id = named_token(draft, source, "eos_token");
    else
        draft->template_eos_id = draft->eos_count > 0 ? draft->eos_ids[0] : LLM_TOKEN_NONE;
}

/* chat_template.jinja's text, or the GGUF file's own, or tokenizer_config.json's. */
static enum llm_status choose_template(struct vocab_draft *draft, const struct vocab_source *source,
                                       struct llm_error *error)
{
    static const char key[] = "tokenizer.chat_template";
    struct gguf_text text = {source->chat_template, source->chat_template_bytes};
    enum llm_status status = LLM_OK;
    if (!text.bytes && source->gguf && gguf_find(source->gguf, key))
        status = gguf_get_text(source->gguf, key, &text, error);
    if (status == LLM_OK)
        status = chat_template_choose(text.bytes, text.length, source->tokenizer_config,
                                      &draft->chat_template, &draft->chat_template_bytes, error);
    return status;
}

/* add_bos_token, where it is given, overrules the post-processor's template. */
static void choose_prefix(struct vocab_draft *draft, const struct vocab_source *source)
{
    const json_t *add = json_object_get(source->tokenizer_config, "add_bos_token");
    bool has = draft->prefix_count > 0 && draft->prefix_ids[0] == draft->bos_id;
    if (draft->bos_id == LLM_TOKEN_NONE || !json_is_boolean(add) || json_is_true(add) == has)
        return;
    if (has) {
        draft->prefix_count--;
        memmove(draft->prefix_ids, draft->prefix_ids + 1,
                draft->prefix_count * sizeof *draft->prefix_ids);
    } else if (draft->prefix_count < LLM_VOCAB_AFFIXES_MAX) {
        memmove(draft->prefix_ids + 1, draft->prefix_ids,
                draft->prefix_count * sizeof *draft->prefix_ids);
        draft->prefix_ids[0] = draft->bos_id;
        draft->prefix_count++;
    }
}

/* add_eos_token likewise. */
static void choose_suffix(struct vocab_draft *draft, const struct vocab_source *source)
{
    const json_t *add = json_object_get(source->tokenizer_config, "add_eos_token");
    uint32_t eos = named_token(draft, source, "eos_token"), count = draft->suffix_count;
    bool has = count > 0 && draft->suffix_ids[count - 1] == eos;
    if (eos == LLM_TOKEN_NONE || !json_is_boolean(add) || json_is_true(add) == has)
        return;
    if (has)
        draft->suffix_count--;
    else if (count < LLM_VOCAB_AFFIXES_MAX)
        draft->suffix_ids[draft->suffix_count++] = eos;
}

/* ---- Facts ---------------------------------------------------------------------------------------- */

static enum llm_status check_facts(const struct vocab_facts *facts, uint32_t token_count,
                                   struct llm_error *error)
{
    if (token_count == 0 || token_count > LLM_VOCAB_TOKENS_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "a vocabulary of %u tokens; it can have 1..%u",
                        token_count, LLM_VOCAB_TOKENS_MAX);
    if (facts->bos_id != LLM_TOKEN_NONE && facts->bos_id >= token_count)
        return llm_fail(error, LLM_ERR_INVALID, "bos_token_id is %u, the model has %u tokens",
                        facts->bos_id, token_count);
    for (uint32_t i = 0; i < facts->eos_count; i++)
        if (facts->eos_ids[i] >= token_count)
            return llm_fail(error, LLM_ERR_INVALID, "eos_token_id is %u, the model has %u tokens",
                            facts->eos_ids[i], token_count);
    return LLM_OK;
}

static enum llm_status read_json(struct vocab_draft *draft, const struct vocab_source *source,
                                 struct llm_error *error)
{
    enum llm_status status = vocab_pipeline_read(draft, source->tokenizer, error);
    if (status == LLM_OK)
        status = vocab_tokens_read(draft, source->tokenizer, source->facts.token_count, error);
    if (status == LLM_OK)
        status = read_post_processor(draft, source->tokenizer, error);
    return status;
}

static enum llm_status read_tokenizer(struct vocab_draft *draft, const struct vocab_source *source,
                                      struct llm_error *error)
{
    enum llm_status status;
    draft->file = source->tokenizer ? "tokenizer.json"
                  : source->spm     ? "tokenizer.model"
                                    : source->gguf->files[0].name;
    if (source->tokenizer)
        status = read_json(draft, source, error);
    else if (source->spm)
        status = vocab_spm_read(draft, source, error);
    else
        status = vocab_gguf_read(draft, source, error);
    if (status == LLM_OK) {
        choose_ends(draft, source);
        choose_prefix(draft, source);
        choose_suffix(draft, source);
    }
    return status;
}

/* A model without a tokeniser: every id is there, none has text. */
static enum llm_status no_tokenizer(struct vocab_draft *draft, const struct vocab_source *source,
                                    struct llm_error *error)
{
    draft->kind = LLM_VOCAB_TOKENS_ONLY;
    draft->token_count = source->facts.token_count;
    draft->tokens = calloc(draft->token_count, sizeof *draft->tokens);
    if (!draft->tokens)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u tokens", draft->token_count);
    for (uint32_t i = 0; i < draft->token_count; i++)
        draft->tokens[i].flags = LLM_TOKEN_UNUSED;
    return LLM_OK;
}

void vocab_draft_close(struct vocab_draft *draft)
{
    free(draft->tokens);
    free(draft->text);
    free(draft->merges);
    free(draft->added);
    free(draft->charsmap);
    for (uint32_t i = 0; i < draft->split_count; i++)
        free(draft->splits[i].pattern);
    *draft = (struct vocab_draft){.kind = LLM_VOCAB_TOKENS_ONLY};
}

enum llm_status vocab_build(const struct vocab_source *source, void **out_image, size_t *out_bytes,
                            struct llm_error *error)
{
    const struct vocab_facts *facts = &source->facts;
    CHECK(facts->eos_count <= LLM_VOCAB_EOS_MAX);
    if (!facts->name || facts->name[0] == 0 || strlen(facts->name) >= LLM_VOCAB_NAME_BYTES)
        return llm_fail(error, LLM_ERR_LIMIT, "a model's name has 1..%u bytes",
                        LLM_VOCAB_NAME_BYTES - 1);

    struct vocab_draft draft = {
        .unk_id = LLM_TOKEN_NONE, .bos_id = facts->bos_id, .eos_count = facts->eos_count};
    memcpy(draft.eos_ids, facts->eos_ids, sizeof draft.eos_ids);
    memset(draft.byte_tokens, 0xff, sizeof draft.byte_tokens); /* LLM_TOKEN_NONE */
    enum llm_status status = LLM_OK;
    bool has_tokenizer = source->tokenizer || source->spm || source->gguf;
    if (facts->token_count || !has_tokenizer)
        status = check_facts(facts, facts->token_count, error);
    if (status == LLM_OK)
        status = has_tokenizer ? read_tokenizer(&draft, source, error)
                               : no_tokenizer(&draft, source, error);
    if (status == LLM_OK)
        status = check_facts(facts, draft.token_count, error);
    if (status == LLM_OK)
        status = choose_template(&draft, source, error);
    if (status == LLM_OK) {
        choose_template_ends(&draft, source);
        status = vocab_write(&draft, facts, out_image, out_bytes, error);
    }
    vocab_draft_close(&draft);
    return status;
}
