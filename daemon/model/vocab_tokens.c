/*
 * Tokens, merges and added tokens: from names in JSON to ids that are proved.
 *
 * The JSON object model.vocab is itself the table from names to ids (hashed, keys unique, seeded by jansson), so
 * merges are resolved in it and no second table is built.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/byte_alphabet.h"
#include "daemon/model/model_json.h"
#include "daemon/model/vocab_draft.h"
#include "shm/check.h"

#define SPACE_MARK "\xe2\x96\x81"

static enum llm_status no_memory(struct llm_error *error)
{
    return llm_fail(error, LLM_ERR_MEMORY, "no memory to read tokenizer.json");
}

/* ---- Ids ------------------------------------------------------------------------------------------ */

static enum llm_status read_id(const json_t *value, const char *where, const char *name,
                               uint32_t token_count, uint32_t *out_id, struct llm_error *error)
{
    if (!json_is_integer(value))
        return llm_fail(error, LLM_ERR_INVALID, "tokenizer.json: %s: \"%s\" has no integer id",
                        where, json_show(name).text);
    json_int_t id = json_integer_value(value);
    if (id < 0 || id >= token_count)
        return llm_fail(error, LLM_ERR_INVALID,
                        "tokenizer.json: %s: \"%s\" has id %lld, the model has %u tokens", where,
                        json_show(name).text, (long long)id, token_count);
    *out_id = (uint32_t)id;
    return LLM_OK;
}

static const json_t *vocab_of(const json_t *tokenizer)
{
    return json_object_get(json_object_get(tokenizer, "model"), "vocab");
}

/* Iterate over an object that is only read; jansson's iterator takes it without const. */
#define EACH_MEMBER(object, key, value)                                                     \
    for (void *it_ = json_object_iter((json_t *)(uintptr_t)(object));                       \
         it_ && (key = json_object_iter_key(it_)) && (value = json_object_iter_value(it_)); \
         it_ = json_object_iter_next((json_t *)(uintptr_t)(object), it_))

/* How many ids there are when nobody else knows, and how many bytes all names have together. */
static enum llm_status measure(const json_t *tokenizer, uint32_t *token_count, size_t *text_bytes,
                               struct llm_error *error)
{
    const uint32_t limit = *token_count ? *token_count : LLM_VOCAB_TOKENS_MAX;
    const json_t *vocab = vocab_of(tokenizer);
    const json_t *added = json_object_get(tokenizer, "added_tokens");
    const char *name;
    const json_t *value;
    uint32_t id, largest = 0;

    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "tokenizer.json: model.vocab is no table of tokens");
    if (added && !json_is_null(added) && !json_is_array(added))
        return llm_fail(error, LLM_ERR_INVALID, "tokenizer.json: added_tokens is no list");
    *text_bytes = 0;
    EACH_MEMBER(vocab, name, value)
    {
        enum llm_status status = read_id(value, "model.vocab", name, limit, &id, error);
        if (status != LLM_OK)
            return status;
        largest = id > largest ? id : largest;
        *text_bytes += strlen(name);
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        const json_t *content = json_object_get(token, "content");
        name = json_string_value(content);
        if (!name || name[0] == 0 || strlen(name) != json_string_length(content))
            return llm_fail(
                error, LLM_ERR_INVALID,
                "tokenizer.json: added_tokens[%zu] has no content, or a zero byte in it", i);
        enum llm_status status =
            read_id(json_object_get(token, "id"), "added_tokens", name, limit, &id, error);
        if (status != LLM_OK)
            return status;
        largest = id > largest ? id : largest;
        *text_bytes += strlen(name);
    }
    if (*token_count == 0)
        *token_count = largest + 1;
    return LLM_OK;
}

/* ---- Tokens --------------------------------------------------------------------------------------- */

/* <0x00>..<0xFF>: the byte, or -1. */
static int byte_token(const char *name)
{
    unsigned value;
    char end;
    if (strlen(name) != 6 || sscanf(name, "<0x%2X%c", &value, &end) != 2 || end != '>')
        return -1;
    return (int)value;
}

static size_t copy_spaces(const char *name, uint8_t *out)
{
    size_t written = 0;
    while (*name) {
        if (strncmp(name, SPACE_MARK, 3) == 0) {
            out[written++] = ' ';
            name += 3;
        } else {
            out[written++] = (uint8_t)*name++;
        }
    }
    return written;
}

/* The bytes that a token of model.vocab gives in text. */
static size_t token_text(struct vocab_draft *draft, uint32_t id, const char *name, uint8_t *out)
{
    struct draft_token *token = &draft->tokens[id];
    if (draft->kind == LLM_VOCAB_BYTE_LEVEL) {
        ptrdiff_t bytes = byte_alphabet_decode(name, strlen(name), out);
        if (bytes >= 0)
            return (size_t)bytes;
        /* Not written in the alphabet: no merge makes it and no text reaches it; it reads as it is. */
        token->flags |= LLM_TOKEN_ADDED;
        memcpy(out, name, strlen(name));
        return strlen(name);
    }
    int byte = byte_token(name);
    if (byte < 0)
        return copy_spaces(name, out);
    token->flags |= LLM_TOKEN_BYTE;
    out[0] = (uint8_t)byte;
    return 1;
}

static enum llm_status set_token(struct vocab_draft *draft, uint32_t id, size_t bytes,
                                 struct llm_error *error)
{
    if (bytes > LLM_VOCAB_TOKEN_BYTES_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "tokenizer.json: token %u has %zu bytes, at most %u",
                        id, bytes, LLM_VOCAB_TOKEN_BYTES_MAX);
    CHECK(bytes <= draft->text_capacity - draft->text_bytes);
    draft->tokens[id].offset = (uint32_t)draft->text_bytes;
    draft->tokens[id].bytes = (uint32_t)bytes;
    draft->tokens[id].flags &= (uint8_t)~LLM_TOKEN_UNUSED;
    draft->text_bytes += bytes;
    return LLM_OK;
}

static enum llm_status read_vocab(struct vocab_draft *draft, const json_t *vocab,
                                  struct llm_error *error)
{
    const char *name;
    const json_t *value;
    EACH_MEMBER(vocab, name, value)
    {
        uint32_t id = (uint32_t)json_integer_value(value);
        if (!(draft->tokens[id].flags & LLM_TOKEN_UNUSED))
            return llm_fail(error, LLM_ERR_INVALID,
                            "tokenizer.json: model.vocab: \"%s\" has id %u, which another token "
                            "has already",
                            json_show(name).text, id);
        size_t bytes = token_text(draft, id, name, draft->text + draft->text_bytes);
        enum llm_status status = set_token(draft, id, bytes, error);
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

/* byte -> id: the alphabet's letters, or <0x00>.. where unknown characters fall back to their bytes. */
static void read_byte_tokens(struct vocab_draft *draft, const json_t *tokenizer)
{
    const json_t *model = json_object_get(tokenizer, "model");
    bool letters = draft->kind == LLM_VOCAB_BYTE_LEVEL;
    if (!letters && !json_is_true(json_object_get(model, "byte_fallback")))
        return;
    for (uint32_t byte = 0; byte < 256; byte++) {
        char name[8];
        uint32_t c = byte_alphabet_letter((uint8_t)byte);
        if (!letters)
            snprintf(name, sizeof name, "<0x%02X>", byte);
        else if (c < 0x80)
            snprintf(name, sizeof name, "%c", (int)c);
        else
            snprintf(name, sizeof name, "%c%c", (int)(0xc0 | c >> 6), (int)(0x80 | (c & 0x3f)));
        const json_t *id = json_object_get(json_object_get(model, "vocab"), name);
        if (id)
            draft->byte_tokens[byte] = (uint32_t)json_integer_value(id);
    }
}

static enum llm_status read_unknown(struct vocab_draft *draft, const json_t *tokenizer,
                                    struct llm_error *error)
{
    const json_t *unk = json_object_get(json_object_get(tokenizer, "model"), "unk_token");
    if (!unk || json_is_null(unk))
        return LLM_OK;
    const char *name = json_string_value(unk);
    draft->unk_id = name ? vocab_tokens_find(draft, tokenizer, name) : LLM_TOKEN_NONE;
    if (draft->unk_id == LLM_TOKEN_NONE)
        return llm_fail(error, LLM_ERR_INVALID,
                        "tokenizer.json: model.unk_token is not a token of the vocabulary");
    return LLM_OK;
}

/* ---- Added tokens --------------------------------------------------------------------------------- */

static bool is_set(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static uint32_t added_flags(const json_t *token)
{
    return (is_set(token, "special") ? LLM_ADDED_SPECIAL : 0u) |
           (is_set(token, "single_word") ? LLM_ADDED_SINGLE_WORD : 0u) |
           (is_set(token, "lstrip") ? LLM_ADDED_STRIP_LEFT : 0u) |
           (is_set(token, "rstrip") ? LLM_ADDED_STRIP_RIGHT : 0u);
}

/* An added token is known by its text as it stands, whatever alphabet the vocabulary is written in. */
static enum llm_status read_added_token(struct vocab_draft *draft, const json_t *vocab,
                                        const json_t *token, struct llm_error *error)
{
    const char *name = json_string_value(json_object_get(token, "content"));
    uint32_t id = (uint32_t)json_integer_value(json_object_get(token, "id"));
    const json_t *known = json_object_get(vocab, name);
    uint8_t *flags = &draft->tokens[id].flags;
    if (known ? (uint32_t)json_integer_value(known) != id : !(*flags & LLM_TOKEN_UNUSED))
        return llm_fail(error, LLM_ERR_INVALID,
                        "tokenizer.json: added_tokens: \"%s\" has id %u, model.vocab and the "
                        "tokens before it say otherwise",
                        json_show(name).text, id);
    if (draft->tokens[id].listed)
        return llm_fail(error, LLM_ERR_INVALID,
                        "tokenizer.json: added_tokens: id %u is there twice", id);

    draft->tokens[id].listed = true;
    *flags |= LLM_TOKEN_ADDED;
    if (is_set(token, "special"))
        *flags |= LLM_TOKEN_SPECIAL;
    draft->added[draft->added_count++] =
        (struct llm_vocab_added){.id = id, .flags = added_flags(token)};
    memcpy(draft->text + draft->text_bytes, name, strlen(name));
    return set_token(draft, id, strlen(name), error);
}

static enum llm_status read_added(struct vocab_draft *draft, const json_t *tokenizer,
                                  struct llm_error *error)
{
    const json_t *list = json_object_get(tokenizer, "added_tokens");
    size_t count = json_array_size(list);
    if (count == 0)
        return LLM_OK;
    draft->added = calloc(count, sizeof *draft->added);
    if (!draft->added)
        return no_memory(error);
    for (size_t i = 0; i < count; i++) {
        enum llm_status status =
            read_added_token(draft, vocab_of(tokenizer), json_array_get(list, i), error);
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

uint32_t vocab_tokens_find(const struct vocab_draft *draft, const json_t *tokenizer,
                           const char *content)
{
    const json_t *id = json_object_get(vocab_of(tokenizer), content);
    if (id)
        return (uint32_t)json_integer_value(id);
    for (uint32_t i = 0; i < draft->added_count; i++) {
        const struct draft_token *token = &draft->tokens[draft->added[i].id];
        if (token->bytes == strlen(content) &&
            memcmp(draft->text + token->offset, content, token->bytes) == 0)
            return draft->added[i].id;
    }
    return LLM_TOKEN_NONE;
}

/* ---- Merges --------------------------------------------------------------------------------------- */

/* A merge is "left right" in older files and ["left", "right"] in newer ones. `joined` gets the two parts,
 * terminated, and *out_right the place of the second. */
static bool merge_parts(const json_t *merge, char *joined, size_t capacity, size_t *out_right)
{
    const char *left, *right;
    size_t left_bytes, right_bytes;
    if (json_is_string(merge)) {
        left = json_string_value(merge);
        const char *space = strchr(left, ' ');
        if (!space || strchr(space + 1, ' '))
            return false;
        left_bytes = (size_t)(space - left);
        right = space + 1;
    } else {
        left = json_string_value(json_array_get(merge, 0));
        right = json_string_value(json_array_get(merge, 1));
        if (!left || !right || json_array_size(merge) != 2)
            return false;
        left_bytes = strlen(left);
    }
    right_bytes = strlen(right);
    if (left_bytes == 0 || right_bytes == 0 || left_bytes + right_bytes + 2 > capacity)
        return false;
    memcpy(joined, left, left_bytes);
    joined[left_bytes] = 0;
    memcpy(joined + left_bytes + 1, right, right_bytes + 1);
    *out_right = left_bytes + 1;
    return true;
}

static enum llm_status read_merge(struct vocab_draft *draft, const json_t *vocab,
                                  const json_t *merge, struct llm_error *error)
{
    char joined[2 * LLM_VOCAB_TOKEN_BYTES_MAX];
    size_t right_at;
    uint32_t rank = draft->merge_count;
    if (!merge_parts(merge, joined, sizeof joined, &right_at))
        return llm_fail(error, LLM_ERR_INVALID,
                        "tokenizer.json: model.merges[%u] is no pair of tokens", rank);
    const char *right = joined + right_at;
    const json_t *left_id = json_object_get(vocab, joined);
    const json_t *right_id = json_object_get(vocab, right);
    if (!left_id || !right_id)
        return llm_fail(error, LLM_ERR_INVALID,
                        "tokenizer.json: model.merges[%u]: \"%s\" is not in the vocabulary", rank,
                        json_show(left_id ? right : joined).text);
    memmove(joined + right_at - 1, right, strlen(right) + 1); /* close the gap: left and right */
    const json_t *merged_id = json_object_get(vocab, joined);
    if (!merged_id)
        return llm_fail(
            error, LLM_ERR_INVALID,
            "tokenizer.json: model.merges[%u]: its result \"%s\" is not in the vocabulary", rank,
            json_show(joined).text);
    draft->merges[draft->merge_count++] =
        (struct draft_merge){.left = (uint32_t)json_integer_value(left_id),
                             .right = (uint32_t)json_integer_value(right_id),
                             .merged = (uint32_t)json_integer_value(merged_id),
                             .rank = rank};
    return LLM_OK;
}

static enum llm_status read_merges(struct vocab_draft *draft, const json_t *tokenizer,
                                   struct llm_error *error)
{
    const json_t *list = json_object_get(json_object_get(tokenizer, "model"), "merges");
    if (!json_is_array(list))
        return llm_fail(error, LLM_ERR_INVALID, "tokenizer.json: model.merges is no list");
    size_t count = json_array_size(list);
    if (count > LLM_VOCAB_TOKENS_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "tokenizer.json: %zu merges, at most %u", count,
                        LLM_VOCAB_TOKENS_MAX);
    draft->merges = malloc((count + 1) * sizeof *draft->merges);
    if (!draft->merges)
        return no_memory(error);
    enum llm_status status = LLM_OK;
    for (size_t i = 0; i < count && status == LLM_OK; i++)
        status = read_merge(draft, vocab_of(tokenizer), json_array_get(list, i), error);
    return status;
}

/* ---- All of it ------------------------------------------------------------------------------------ */

static enum llm_status allocate(struct vocab_draft *draft, struct llm_error *error)
{
    draft->tokens = calloc(draft->token_count, sizeof *draft->tokens);
    draft->text = malloc(draft->text_capacity + 1);
    if (!draft->tokens || !draft->text)
        return no_memory(error);
    for (uint32_t i = 0; i < draft->token_count; i++)
        draft->tokens[i].flags = LLM_TOKEN_UNUSED;
    return LLM_OK;
}

enum llm_status vocab_tokens_read(struct vocab_draft *draft, const json_t *tokenizer,
                                  uint32_t token_count, struct llm_error *error)
{
    draft->token_count = token_count;
    enum llm_status status = measure(tokenizer, &draft->token_count, &draft->text_capacity, error);
    if (status == LLM_OK)
        status = allocate(draft, error);
    if (status == LLM_OK)
        status = read_vocab(draft, vocab_of(tokenizer), error);
    if (status == LLM_OK)
        read_byte_tokens(draft, tokenizer);
    if (status == LLM_OK)
        status = read_added(draft, tokenizer, error);
    if (status == LLM_OK)
        status = read_unknown(draft, tokenizer, error);
    if (status == LLM_OK)
        status = read_merges(draft, tokenizer, error);
    return status;
}
