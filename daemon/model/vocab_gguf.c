/*
 * The vocabulary in a GGUF file's metadata as a draft: tokenizer.ggml.model "llama" (scored pieces, vocab_pieces.h) and
 * "gpt2" (byte-level merges, with a name for the steps before them, vocab_pretokenizers.h).
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#ggml
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/byte_alphabet.h"
#include "daemon/model/split_pattern.h"
#include "daemon/model/vocab_pieces.h"
#include "daemon/model/vocab_pretokenizers.h"
#include "shm/check.h"

struct lists { /* the arrays of the metadata, by id */
    struct vocab_name *names;
    float *scores;
    uint8_t *types; /* enum spm_piece_type */
    uint32_t count;
};

static void lists_close(struct lists *lists)
{
    free(lists->names);
    free(lists->scores);
    free(lists->types);
}

/* ---- Arrays ---------------------------------------------------------------------------------------- */

/* An array that may be missing leaves NULL; one that is there has an item for every token. */
static enum llm_status find_array(const struct gguf *gguf, const char *key, enum gguf_items items,
                                  uint64_t count, const struct gguf_value **out_array,
                                  struct llm_error *error)
{
    *out_array = NULL;
    if (!gguf_find(gguf, key))
        return LLM_OK;
    enum llm_status status = gguf_get_array(gguf, key, items, out_array, error);
    if (status == LLM_OK && (*out_array)->count != count)
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s\" has %llu items for %llu tokens",
                        gguf->files[0].name, key, (unsigned long long)(*out_array)->count,
                        (unsigned long long)count);
    return status;
}

/* GGUF's numbers are SentencePiece's. What nobody looks at when text is encoded is an ordinary token. */
static uint8_t type_of(int64_t type)
{
    bool other = type < SPM_PIECE_NORMAL || type > SPM_PIECE_BYTE || type == SPM_PIECE_UNUSED;
    return other ? SPM_PIECE_NORMAL : (uint8_t)type;
}

static enum llm_status fill(struct lists *lists, const struct gguf *gguf,
                            const struct gguf_value *tokens, struct llm_error *error)
{
    const struct gguf_value *types, *scores;
    enum llm_status status = find_array(gguf, "tokenizer.ggml.token_type", GGUF_ITEMS_INTEGERS,
                                        lists->count, &types, error);
    if (status == LLM_OK)
        status = find_array(gguf, "tokenizer.ggml.scores", GGUF_ITEMS_REALS, lists->count, &scores,
                            error);
    if (status != LLM_OK)
        return status;
    struct gguf_texts walk = gguf_texts(tokens);
    struct gguf_text text;
    for (uint32_t id = 0; id < lists->count && gguf_texts_next(&walk, &text); id++) {
        if (text.length > LLM_VOCAB_TOKEN_BYTES_MAX)
            return llm_fail(error, LLM_ERR_LIMIT, "%s: token %u has %zu bytes, at most %u",
                            gguf->files[0].name, id, text.length, LLM_VOCAB_TOKEN_BYTES_MAX);
        lists->names[id] = (struct vocab_name){(const uint8_t *)text.bytes, (uint32_t)text.length};
        lists->types[id] = types ? type_of(gguf_array_integer(types, id)) : SPM_PIECE_NORMAL;
        lists->scores[id] = scores ? (float)gguf_array_real(scores, id) : 0.0f;
        if (!(lists->scores[id] == lists->scores[id]))
            return llm_fail(error, LLM_ERR_INVALID, "%s: the score of token %u is not a number",
                            gguf->files[0].name, id);
    }
    return LLM_OK;
}

static enum llm_status lists_open(struct lists *lists, const struct gguf *gguf,
                                  struct llm_error *error)
{
    const struct gguf_value *tokens;
    *lists = (struct lists){.names = NULL};
    enum llm_status status =
        gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_ITEMS_TEXTS, &tokens, error);
    if (status == LLM_ERR_NOT_FOUND)
        return llm_fail(error, LLM_ERR_INVALID, "%s: there is no \"tokenizer.ggml.tokens\"",
                        gguf->files[0].name);
    if (status != LLM_OK)
        return status;
    if (tokens->count == 0 || tokens->count > LLM_VOCAB_TOKENS_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "%s: a vocabulary of %llu tokens; it can have 1..%u",
                        gguf->files[0].name, (unsigned long long)tokens->count,
                        LLM_VOCAB_TOKENS_MAX);
    lists->count = (uint32_t)tokens->count;
    lists->names = calloc(lists->count, sizeof *lists->names);
    lists->scores = calloc(lists->count, sizeof *lists->scores);
    lists->types = calloc(lists->count, sizeof *lists->types);
    if (!lists->names || !lists->scores || !lists->types)
        return llm_fail(error, LLM_ERR_MEMORY, "%s: no memory for %u tokens", gguf->files[0].name,
                        lists->count);
    return fill(lists, gguf, tokens, error);
}

/* ---- Single keys ----------------------------------------------------------------------------------- */

static enum llm_status read_flag(const struct gguf *gguf, const char *key, bool *flag,
                                 struct llm_error *error)
{
    enum llm_status status = gguf_get_flag(gguf, key, flag, error);
    return status == LLM_ERR_NOT_FOUND ? LLM_OK : status;
}

static enum llm_status read_id(const struct gguf *gguf, const char *key, uint32_t token_count,
                               uint32_t *id, struct llm_error *error)
{
    int64_t value;
    if (!gguf_find(gguf, key))
        return LLM_OK;
    enum llm_status status = gguf_get_integer(gguf, key, 0, UINT32_MAX, &value, error);
    if (status != LLM_OK)
        return status;
    if (value >= token_count) /* written by converters for "none" */
        return LLM_OK;
    *id = (uint32_t)value;
    return LLM_OK;
}

/* Begin and end ids, and which of them stand around a text. */
static enum llm_status read_ends(struct vocab_draft *draft, const struct gguf *gguf, bool add_bos,
                                 struct llm_error *error)
{
    uint32_t bos = draft->bos_id, eos = LLM_TOKEN_NONE;
    bool add_eos = false;
    enum llm_status status =
        read_id(gguf, "tokenizer.ggml.bos_token_id", draft->token_count, &bos, error);
    if (status == LLM_OK)
        status = read_id(gguf, "tokenizer.ggml.eos_token_id", draft->token_count, &eos, error);
    if (status == LLM_OK)
        status = read_flag(gguf, "tokenizer.ggml.add_bos_token", &add_bos, error);
    if (status == LLM_OK)
        status = read_flag(gguf, "tokenizer.ggml.add_eos_token", &add_eos, error);
    if (status != LLM_OK)
        return status;
    if (draft->bos_id == LLM_TOKEN_NONE)
        draft->bos_id = bos;
    if (draft->eos_count == 0 && eos != LLM_TOKEN_NONE)
        draft->eos_ids[draft->eos_count++] = eos;
    if (add_bos && draft->bos_id != LLM_TOKEN_NONE)
        draft->prefix_ids[draft->prefix_count++] = draft->bos_id;
    if (add_eos && eos != LLM_TOKEN_NONE)
        draft->suffix_ids[draft->suffix_count++] = eos;
    return LLM_OK;
}

/* ---- "llama": scored pieces ------------------------------------------------------------------------ */

static enum llm_status read_llama(struct vocab_draft *draft, const struct gguf *gguf,
                                  const struct lists *lists, struct llm_error *error)
{
    struct vocab_pieces pieces = {.names = lists->names,
                                  .scores = lists->scores,
                                  .types = lists->types,
                                  .count = lists->count,
                                  .byte_fallback = true};
    bool prefix = true;
    enum llm_status status = read_flag(gguf, "tokenizer.ggml.add_space_prefix", &prefix, error);
    if (status != LLM_OK)
        return status;
    draft->kind = LLM_VOCAB_SENTENCEPIECE;
    draft->flags = LLM_VOCAB_SPACE_MARKS | LLM_VOCAB_FUSE_UNKNOWN |
                   (prefix ? LLM_VOCAB_PREFIX_SPACE | LLM_VOCAB_DROP_FIRST_SPACE : 0u);
    draft->unk_id = lists->types[0] == SPM_PIECE_UNKNOWN ? 0 : LLM_TOKEN_NONE;
    status =
        read_id(gguf, "tokenizer.ggml.unknown_token_id", draft->token_count, &draft->unk_id, error);
    if (status == LLM_OK)
        status = vocab_pieces_read(draft, &pieces, 0, 0, error);
    return status;
}

/* ---- "gpt2": byte-level merges --------------------------------------------------------------------- */

static enum llm_status allocate(struct vocab_draft *draft, const struct lists *lists,
                                struct llm_error *error)
{
    for (uint32_t id = 0; id < lists->count; id++)
        draft->text_capacity += lists->names[id].count; /* which are in memory already */
    draft->text = malloc(draft->text_capacity + 1);
    draft->tokens = calloc(draft->token_count, sizeof *draft->tokens);
    draft->added = calloc(lists->count, sizeof *draft->added);
    if (!draft->text || !draft->tokens || !draft->added)
        return llm_fail(error, LLM_ERR_MEMORY, "%s: no memory for %u tokens", draft->file,
                        lists->count);
    for (uint32_t id = 0; id < draft->token_count; id++)
        draft->tokens[id].flags = LLM_TOKEN_UNUSED;
    return LLM_OK;
}

/* Control and user-defined tokens are found by their text as it stands; the others are written in the alphabet. */
static void read_token(struct vocab_draft *draft, const struct lists *lists, uint32_t id)
{
    struct vocab_name name = lists->names[id];
    struct draft_token *token = &draft->tokens[id];
    uint8_t *out = draft->text + draft->text_bytes;
    if (name.count == 0)
        return;
    uint8_t type = lists->types[id];
    bool special = type == SPM_PIECE_CONTROL || type == SPM_PIECE_UNKNOWN;
    bool found = special || type == SPM_PIECE_USER_DEFINED;
    ptrdiff_t bytes = found ? -1 : byte_alphabet_decode((const char *)name.bytes, name.count, out);
    *token = (struct draft_token){.offset = (uint32_t)draft->text_bytes};
    if (bytes < 0) { /* not in the alphabet: it reads as it is, and no merge makes it */
        token->flags = (uint8_t)(LLM_TOKEN_ADDED | (special ? LLM_TOKEN_SPECIAL : 0));
        memcpy(out, name.bytes, name.count);
        bytes = name.count;
    }
    if (found)
        draft->added[draft->added_count++] =
            (struct llm_vocab_added){.id = id, .flags = special ? LLM_ADDED_SPECIAL : 0u};
    token->bytes = (uint32_t)bytes;
    draft->text_bytes += (size_t)bytes;
}

static void read_byte_tokens(struct vocab_draft *draft, const struct vocab_names *names)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t c = byte_alphabet_letter((uint8_t)byte);
        uint8_t letter[2] = {(uint8_t)(c < 0x80 ? c : 0xc0 | c >> 6), (uint8_t)(0x80 | (c & 0x3f))};
        uint32_t id = vocab_names_find(names, letter, c < 0x80 ? 1 : 2);
        if (id != LLM_TOKEN_NONE && !(draft->tokens[id].flags & LLM_TOKEN_ADDED))
            draft->byte_tokens[byte] = id;
    }
}

/* "left right", each without a space in it. */
static enum llm_status read_merge(struct vocab_draft *draft, const struct vocab_names *names,
                                  struct gguf_text merge, struct llm_error *error)
{
    uint32_t rank = draft->merge_count;
    const char *space = merge.length > 0 ? memchr(merge.bytes, ' ', merge.length) : NULL;
    size_t left_bytes = space ? (size_t)(space - merge.bytes) : 0;
    size_t right_bytes = space ? merge.length - left_bytes - 1 : 0;
    uint8_t joined[2 * LLM_VOCAB_TOKEN_BYTES_MAX];
    if (left_bytes == 0 || right_bytes == 0 || memchr(space + 1, ' ', right_bytes) ||
        left_bytes + right_bytes > sizeof joined)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: tokenizer.ggml.merges[%u] \"%s\" is no pair of tokens", draft->file,
                        rank, gguf_text_show(merge).text);
    memcpy(joined, merge.bytes, left_bytes);
    memcpy(joined + left_bytes, space + 1, right_bytes);
    struct draft_merge found = {
        .left = vocab_names_find(names, merge.bytes, left_bytes),
        .right = vocab_names_find(names, space + 1, right_bytes),
        .merged = vocab_names_find(names, joined, left_bytes + right_bytes),
        .rank = rank,
    };
    if (found.left == LLM_TOKEN_NONE || found.right == LLM_TOKEN_NONE ||
        found.merged == LLM_TOKEN_NONE)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: tokenizer.ggml.merges[%u] \"%s\": a part or the result is no token",
                        draft->file, rank, gguf_text_show(merge).text);
    draft->merges[draft->merge_count++] = found;
    return LLM_OK;
}

static enum llm_status read_merges(struct vocab_draft *draft, const struct gguf *gguf,
                                   const struct vocab_names *names, struct llm_error *error)
{
    const struct gguf_value *merges;
    enum llm_status status =
        gguf_get_array(gguf, "tokenizer.ggml.merges", GGUF_ITEMS_TEXTS, &merges, error);
    if (status == LLM_ERR_NOT_FOUND)
        return llm_fail(error, LLM_ERR_INVALID, "%s: there is no \"tokenizer.ggml.merges\"",
                        draft->file);
    if (status != LLM_OK)
        return status;
    if (merges->count > LLM_VOCAB_TOKENS_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "%s: %llu merges, at most %u", draft->file,
                        (unsigned long long)merges->count, LLM_VOCAB_TOKENS_MAX);
    draft->merges = malloc(((size_t)merges->count + 1) * sizeof *draft->merges);
    if (!draft->merges)
        return llm_fail(error, LLM_ERR_MEMORY, "%s: no memory for the merges", draft->file);
    struct gguf_texts walk = gguf_texts(merges);
    struct gguf_text merge;
    while (status == LLM_OK && gguf_texts_next(&walk, &merge))
        status = read_merge(draft, names, merge, error);
    return status;
}

static enum llm_status read_patterns(struct vocab_draft *draft,
                                     const struct vocab_pretokenizer *pre, struct llm_error *error)
{
    for (uint32_t i = 0; pre->patterns[i]; i++) {
        struct llm_error why;
        char *pattern;
        CHECK(i < LLM_VOCAB_SPLITS_MAX);
        enum llm_status status = split_pattern_rewrite(pre->patterns[i], strlen(pre->patterns[i]),
                                                       false, &pattern, &why);
        if (status != LLM_OK)
            return llm_fail(error, status, "%s: tokenizer.ggml.pre \"%s\": pattern %u %s",
                            draft->file, pre->name, i, why.message);
        draft->splits[draft->split_count++] = (struct draft_split){
            .pattern = pattern, .keep = LLM_SPLIT_KEEP_MATCHES | LLM_SPLIT_KEEP_GAPS};
    }
    return LLM_OK;
}

static enum llm_status find_pre(const struct vocab_draft *draft, const struct gguf *gguf,
                                const struct vocab_pretokenizer **out_pre, struct llm_error *error)
{
    struct gguf_text name;
    enum llm_status status = gguf_get_text(gguf, "tokenizer.ggml.pre", &name, error);
    if (status == LLM_ERR_NOT_FOUND)
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "%s: there is no \"tokenizer.ggml.pre\": how text is cut before the merges "
                        "is not known",
                        draft->file);
    if (status != LLM_OK)
        return status;
    *out_pre = vocab_pretokenizer_find(name);
    if (!*out_pre)
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "%s: tokenizer.ggml.pre \"%s\" is not supported", draft->file,
                        gguf_text_show(name).text);
    return LLM_OK;
}

static enum llm_status read_gpt2(struct vocab_draft *draft, const struct gguf *gguf,
                                 const struct lists *lists, bool *out_add_bos,
                                 struct llm_error *error)
{
    const struct vocab_pretokenizer *pre = NULL;
    struct vocab_names names = VOCAB_NAMES_CLOSED;
    enum llm_status status = find_pre(draft, gguf, &pre, error);
    if (status != LLM_OK)
        return status;
    CHECK(pre != NULL);
    draft->kind = LLM_VOCAB_BYTE_LEVEL;
    draft->flags = pre->flags;
    draft->normal_form = pre->normal_form;
    *out_add_bos = pre->add_bos;
    status = read_patterns(draft, pre, error);
    if (status == LLM_OK)
        status = allocate(draft, lists, error);
    if (status == LLM_OK)
        status = vocab_names_open(&names, lists->names, lists->count, draft->file, error);
    for (uint32_t id = 0; id < lists->count && status == LLM_OK; id++)
        read_token(draft, lists, id);
    if (status == LLM_OK) {
        read_byte_tokens(draft, &names);
        status = read_merges(draft, gguf, &names, error);
    }
    vocab_names_close(&names);
    return status;
}

/* ---- All of it ------------------------------------------------------------------------------------- */

/* Phi-3's special tokens swallow the white space behind them, all but three; the file can only say it by its name. */
static void strip_phi3(struct vocab_draft *draft, const struct gguf *gguf)
{
    static const char *const others[] = {"<unk>", "<s>", "<|endoftext|>"};
    struct gguf_text name;
    char lower[64] = "";
    if (gguf_get_text(gguf, "general.name", &name, NULL) != LLM_OK)
        return;
    for (size_t i = 0; i < name.length && i < sizeof lower - 1; i++)
        lower[i] = (char)(name.bytes[i] | (name.bytes[i] >= 'A' && name.bytes[i] <= 'Z' ? 32 : 0));
    if (!strstr(lower, "phi-3") && !strstr(lower, "phi3"))
        return;
    for (uint32_t i = 0; i < draft->added_count; i++) {
        const struct draft_token *token = &draft->tokens[draft->added[i].id];
        const char *text = (const char *)draft->text + token->offset;
        bool other = false;
        for (size_t k = 0; k < sizeof others / sizeof *others; k++)
            other = other || (strlen(others[k]) == token->bytes &&
                              memcmp(others[k], text, token->bytes) == 0);
        draft->added[i].flags |= other ? 0u : LLM_ADDED_STRIP_RIGHT;
    }
}

static enum llm_status read_model(struct vocab_draft *draft, const struct gguf *gguf,
                                  const struct lists *lists, struct gguf_text model,
                                  struct llm_error *error)
{
    bool llama = gguf_text_is(model, "llama"), add_bos = llama;
    enum llm_status status = llama ? read_llama(draft, gguf, lists, error)
                                   : read_gpt2(draft, gguf, lists, &add_bos, error);
    if (status == LLM_OK)
        status = read_ends(draft, gguf, add_bos, error);
    if (status == LLM_OK)
        strip_phi3(draft, gguf);
    return status;
}

enum llm_status vocab_gguf_read(struct vocab_draft *draft, const struct vocab_source *source,
                                struct llm_error *error)
{
    const struct gguf *gguf = source->gguf;
    struct gguf_text model;
    enum llm_status status = gguf_get_text(gguf, "tokenizer.ggml.model", &model, error);
    if (status == LLM_ERR_NOT_FOUND)
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: there is no \"tokenizer.ggml.model\"",
                        draft->file);
    if (status != LLM_OK)
        return status;
    if (!gguf_text_is(model, "llama") && !gguf_text_is(model, "gpt2"))
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "%s: tokenizer.ggml.model \"%s\" is not supported", draft->file,
                        gguf_text_show(model).text);
    struct lists lists;
    status = lists_open(&lists, gguf, error);
    draft->token_count = source->facts.token_count ? source->facts.token_count : lists.count;
    if (status == LLM_OK && lists.count > draft->token_count)
        status = llm_fail(error, LLM_ERR_INVALID,
                          "%s: \"tokenizer.ggml.tokens\" has %u tokens, the model has %u",
                          draft->file, lists.count, draft->token_count);
    if (status == LLM_OK)
        status = read_model(draft, gguf, &lists, model, error);
    lists_close(&lists);
    return status;
}
