/*
 * SentencePiece's tokenizer.model as a draft: what its settings mean for the client, and tokens that were added
 * behind its pieces (tokenizer_config.json, added_tokens_decoder). See spm_file.h and vocab_pieces.h.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/model/model_json.h"
#include "daemon/model/vocab_pieces.h"

static enum llm_status unsupported(const struct vocab_draft *draft, const char *what,
                                   struct llm_error *error)
{
    return llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: %s", draft->file, what);
}

/* ---- Settings -------------------------------------------------------------------------------------- */

static enum llm_status read_settings(struct vocab_draft *draft, const struct spm_file *file,
                                     struct llm_error *error)
{
    static const char *const models[] = {"of an unknown type", "UNIGRAM", "BPE", "WORD", "CHAR"};
    if (file->model_type != SPM_MODEL_BPE)
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: the model is %s; only BPE is supported",
                        draft->file, models[file->model_type]);
    if (file->space_as_suffix)
        return unsupported(draft, "treat_whitespace_as_suffix is not supported", error);
    if (!file->escape_whitespaces)
        return unsupported(draft, "escape_whitespaces = false is not supported", error);
    if (file->decode_charsmap.count > 0)
        return unsupported(draft, "a denormalizer_spec with a table is not supported", error);
    draft->kind = LLM_VOCAB_SENTENCEPIECE;
    draft->flags = LLM_VOCAB_SPACE_MARKS | LLM_VOCAB_FUSE_UNKNOWN;
    if (file->add_dummy_prefix)
        draft->flags |= LLM_VOCAB_PREFIX_SPACE;
    if (file->remove_extra_whitespaces)
        draft->flags |= LLM_VOCAB_TRIM_SPACES;
    if (file->add_dummy_prefix || file->remove_extra_whitespaces)
        draft->flags |= LLM_VOCAB_DROP_FIRST_SPACE;
    return LLM_OK;
}

/* The table in the file: bytes of the double array, its units, then the strings. */
static enum llm_status read_charsmap(struct vocab_draft *draft, const struct spm_file *file,
                                     struct llm_error *error)
{
    const uint8_t *blob = file->charsmap.bytes;
    uint32_t count = file->charsmap.count, unit_bytes = 0;
    if (count == 0)
        return LLM_OK;
    if (count > sizeof unit_bytes)
        memcpy(&unit_bytes, blob, sizeof unit_bytes);
    if (unit_bytes == 0 || unit_bytes % 4 != 0 || unit_bytes > count - sizeof unit_bytes)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: precompiled_charsmap of %u bytes says its array has %u", draft->file,
                        count, unit_bytes);
    draft->charsmap = malloc(unit_bytes);
    if (!draft->charsmap)
        return llm_fail(error, LLM_ERR_MEMORY, "%s: no memory for precompiled_charsmap",
                        draft->file);
    memcpy(draft->charsmap, blob + sizeof unit_bytes, unit_bytes);
    draft->charsmap_units = unit_bytes / 4;
    draft->charsmap_text = blob + sizeof unit_bytes + unit_bytes;
    draft->charsmap_text_bytes = count - (uint32_t)sizeof unit_bytes - unit_bytes;
    const char *what;
    uint64_t value;
    if (!llm_charsmap_sane(draft->charsmap, draft->charsmap_units,
                           (const char *)draft->charsmap_text, draft->charsmap_text_bytes, &what,
                           &value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: precompiled_charsmap: %s is %llu", draft->file,
                        what, (unsigned long long)value);
    return LLM_OK;
}

/* ---- Pieces ---------------------------------------------------------------------------------------- */

/* What SentencePiece itself insists on: one unknown piece, and all byte pieces where bytes are the fallback. */
static enum llm_status check_pieces(struct vocab_draft *draft, const struct spm_file *file,
                                    struct llm_error *error)
{
    for (uint32_t id = 0; id < file->piece_count; id++) {
        if (file->types[id] == SPM_PIECE_UNKNOWN && draft->unk_id != LLM_TOKEN_NONE)
            return llm_fail(error, LLM_ERR_INVALID, "%s: pieces %u and %u are both unknown pieces",
                            draft->file, draft->unk_id, id);
        if (file->types[id] == SPM_PIECE_UNKNOWN)
            draft->unk_id = id;
    }
    if (draft->unk_id == LLM_TOKEN_NONE)
        return llm_fail(error, LLM_ERR_INVALID, "%s: there is no unknown piece", draft->file);
    for (uint32_t byte = 0; file->byte_fallback && byte < 256; byte++)
        if (draft->byte_tokens[byte] == LLM_TOKEN_NONE)
            return llm_fail(error, LLM_ERR_INVALID,
                            "%s: byte_fallback is set, and there is no piece <0x%02X>", draft->file,
                            byte);
    return LLM_OK;
}

static uint32_t control_piece(const struct spm_file *file, struct vocab_name name)
{
    for (uint32_t id = 0; id < file->piece_count; id++)
        if (file->types[id] == SPM_PIECE_CONTROL && file->names[id].count == name.count &&
            memcmp(file->names[id].bytes, name.bytes, name.count) == 0)
            return id;
    return LLM_TOKEN_NONE;
}

/* Llama's and Mistral's tokenisers put the begin id before a text; tokenizer_config.json can overrule it. */
static void choose_ends(struct vocab_draft *draft, const struct spm_file *file)
{
    uint32_t bos = control_piece(file, file->bos_piece), eos = control_piece(file, file->eos_piece);
    if (draft->bos_id == LLM_TOKEN_NONE)
        draft->bos_id = bos;
    if (draft->eos_count == 0 && eos != LLM_TOKEN_NONE)
        draft->eos_ids[draft->eos_count++] = eos;
    if (bos != LLM_TOKEN_NONE)
        draft->prefix_ids[draft->prefix_count++] = bos;
}

/* ---- Tokens behind the pieces ---------------------------------------------------------------------- */

static const json_t *added_tokens(const struct vocab_source *source)
{
    return json_object_get(source->tokenizer_config, "added_tokens_decoder");
}

static bool is_set(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

/* "32000": {"content": "<|im_start|>", "special": true, ...}. Those within the pieces are known from there. */
static enum llm_status read_added_token(struct vocab_draft *draft, const char *key,
                                        const json_t *token, uint32_t piece_count,
                                        struct llm_error *error)
{
    char *end;
    unsigned long id = strtoul(key, &end, 10);
    const char *content = json_string_value(json_object_get(token, "content"));
    if (*end != 0 || end == key || !content || content[0] == 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "tokenizer_config.json: added_tokens_decoder: \"%s\" is no id with content",
                        json_show(key).text);
    if (id < piece_count)
        return LLM_OK;
    size_t bytes = strlen(content);
    if (id >= draft->token_count || draft->tokens[id].listed || bytes > LLM_VOCAB_TOKEN_BYTES_MAX)
        return llm_fail(
            error, LLM_ERR_INVALID,
            "tokenizer_config.json: added_tokens_decoder: id %lu is there twice, beyond "
            "the model's %u tokens, or too long",
            id, draft->token_count);
    bool special = is_set(token, "special");
    memcpy(draft->text + draft->text_bytes, content, bytes);
    draft->tokens[id] = (struct draft_token){
        .offset = (uint32_t)draft->text_bytes,
        .bytes = (uint32_t)bytes,
        .flags = (uint8_t)(LLM_TOKEN_ADDED | (special ? LLM_TOKEN_SPECIAL : 0)),
        .listed = true};
    draft->text_bytes += bytes;
    draft->added[draft->added_count++] = (struct llm_vocab_added){
        .id = (uint32_t)id,
        .flags = (special ? LLM_ADDED_SPECIAL : 0u) |
                 (is_set(token, "single_word") ? LLM_ADDED_SINGLE_WORD : 0u) |
                 (is_set(token, "lstrip") ? LLM_ADDED_STRIP_LEFT : 0u) |
                 (is_set(token, "rstrip") ? LLM_ADDED_STRIP_RIGHT : 0u)};
    return LLM_OK;
}

static void measure_added(const struct vocab_source *source, size_t *out_bytes, uint32_t *out_count,
                          unsigned long *out_ids_end)
{
    json_t *tokens =
        (json_t *)(uintptr_t)added_tokens(source); /* jansson's iterator is not const */
    const char *key;
    json_t *token;
    json_object_foreach(tokens, key, token)
    {
        const char *content = json_string_value(json_object_get(token, "content"));
        unsigned long id = strtoul(key, NULL, 10);
        *out_bytes += content ? strlen(content) : 0;
        *out_count += 1;
        if (id >= *out_ids_end && id < LLM_VOCAB_TOKENS_MAX)
            *out_ids_end = id + 1;
    }
}

static enum llm_status read_added(struct vocab_draft *draft, const struct vocab_source *source,
                                  uint32_t piece_count, struct llm_error *error)
{
    json_t *tokens = (json_t *)(uintptr_t)added_tokens(source);
    const char *key;
    json_t *token;
    json_object_foreach(tokens, key, token)
    {
        enum llm_status status = read_added_token(draft, key, token, piece_count, error);
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

/* ---- All of it ------------------------------------------------------------------------------------- */

static enum llm_status read_file(struct vocab_draft *draft, const struct spm_file *file,
                                 const struct vocab_source *source, struct llm_error *error)
{
    size_t extra_bytes = 0;
    uint32_t extra_count = 0;
    unsigned long ids_end = file->piece_count;
    measure_added(source, &extra_bytes, &extra_count, &ids_end);
    draft->token_count = source->facts.token_count ? source->facts.token_count : (uint32_t)ids_end;
    if (file->piece_count > draft->token_count)
        return llm_fail(error, LLM_ERR_INVALID, "%s: %u pieces, the model has %u tokens",
                        draft->file, file->piece_count, draft->token_count);
    struct vocab_pieces pieces = {.names = file->names,
                                  .scores = file->scores,
                                  .types = file->types,
                                  .count = file->piece_count,
                                  .byte_fallback = file->byte_fallback,
                                  .user_inside = true};
    enum llm_status status = read_settings(draft, file, error);
    if (status == LLM_OK)
        status = read_charsmap(draft, file, error);
    if (status == LLM_OK)
        status = vocab_pieces_read(draft, &pieces, extra_bytes, extra_count, error);
    if (status == LLM_OK)
        status = check_pieces(draft, file, error);
    if (status == LLM_OK)
        status = read_added(draft, source, file->piece_count, error);
    if (status == LLM_OK)
        choose_ends(draft, file);
    return status;
}

enum llm_status vocab_spm_read(struct vocab_draft *draft, const struct vocab_source *source,
                               struct llm_error *error)
{
    struct spm_file file;
    enum llm_status status =
        spm_file_open(&file, source->spm, source->spm_bytes, draft->file, error);
    if (status != LLM_OK)
        return status;
    status = read_file(draft, &file, source, error);
    spm_file_close(&file);
    return status;
}
