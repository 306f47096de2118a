/*
 * The chain around the BPE model, as flags and patterns.
 *
 * tokenizer.json describes a chain of small steps, each a JSON object with a "type". Only some chains occur in
 * models, and the client knows exactly those; each step below is either translated without loss or refused
 * with its name, because a tokeniser that is almost right gives a model almost the text it was asked about.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/model_json.h"
#include "daemon/model/split_pattern.h"
#include "daemon/model/vocab_draft.h"

#define SPACE_MARK "\xe2\x96\x81" /* U+2581, SentencePiece's visible space */

/* Radford et al. 2019, https://github.com/openai/gpt-2/blob/master/src/encoder.py */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

struct chain { /* what is being read, and what was seen of it */
    struct vocab_draft *draft;
    const char *key; /* "normalizer", ... */
    struct llm_error *error;
    bool byte_level;       /* a ByteLevel pre-tokeniser: nothing may follow it */
    bool space_by_replace; /* the normaliser left no space in the text */
    bool decodes_bytes;    /* the decoder maps tokens back to bytes or spaces */
};

typedef enum llm_status (*step_function)(struct chain *chain, const char *type, const json_t *step);

static enum llm_status unsupported(struct chain *chain, const char *type, const char *what)
{
    return llm_fail(chain->error, LLM_ERR_UNSUPPORTED, "tokenizer.json: %s \"%s\"%s%s", chain->key,
                    json_show(type).text, what[0] ? ": " : " is not supported",
                    json_show(what).text);
}

static enum llm_status invalid(struct chain *chain, const char *type, const char *what)
{
    return llm_fail(chain->error, LLM_ERR_INVALID, "tokenizer.json: %s \"%s\": %s", chain->key,
                    json_show(type).text, json_show(what).text);
}

static const char *string_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool flag_of(const json_t *object, const char *key, bool missing)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : missing;
}

/* Call `step` for the object itself, or for each element of a "Sequence"; null and missing are no steps. */
static enum llm_status each_step(struct chain *chain, const json_t *root, const char *list,
                                 step_function step)
{
    if (!root || json_is_null(root))
        return LLM_OK;
    const char *type = json_string_value(json_object_get(root, "type"));
    if (!type)
        return invalid(chain, "?", "has no \"type\"");
    if (strcmp(type, "Sequence") != 0)
        return step(chain, type, root);

    const json_t *steps = json_object_get(root, list);
    if (!json_is_array(steps))
        return invalid(chain, type, "has no list of steps");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *element = json_array_get(steps, i);
        type = json_string_value(json_object_get(element, "type"));
        if (!type)
            return invalid(chain, "Sequence", "an element has no \"type\"");
        enum llm_status status =
            step(chain, type, element); /* a nested Sequence is refused there */
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

/* ---- Normaliser ----------------------------------------------------------------------------------- */

static bool is_space_to_mark(const json_t *step)
{
    return strcmp(string_of(json_object_get(step, "pattern"), "String"), " ") == 0 &&
           strcmp(string_of(step, "content"), SPACE_MARK) == 0;
}

static enum llm_status normalizer_step(struct chain *chain, const char *type, const json_t *step)
{
    static const struct {
        const char *type;
        uint32_t form;
    } forms[] = {{"NFC", LLM_VOCAB_FORM_NFC},
                 {"NFD", LLM_VOCAB_FORM_NFD},
                 {"NFKC", LLM_VOCAB_FORM_NFKC},
                 {"NFKD", LLM_VOCAB_FORM_NFKD}};
    struct vocab_draft *draft = chain->draft;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(type, forms[i].type) != 0)
            continue;
        if (draft->normal_form != LLM_VOCAB_FORM_NONE)
            return unsupported(chain, type, "a second normal form");
        draft->normal_form = forms[i].form;
        return LLM_OK;
    }
    if (strcmp(type, "Prepend") == 0) {
        if (strcmp(string_of(step, "prepend"), SPACE_MARK) != 0 || chain->space_by_replace)
            return unsupported(chain, type, "only U+2581, and before \"Replace\"");
        draft->flags |= LLM_VOCAB_PREFIX_SPACE | LLM_VOCAB_SPACE_MARKS;
        return LLM_OK;
    }
    if (strcmp(type, "Replace") == 0) {
        if (!is_space_to_mark(step))
            return unsupported(chain, type, "only a space by U+2581");
        draft->flags |= LLM_VOCAB_SPACE_MARKS;
        chain->space_by_replace = true;
        return LLM_OK;
    }
    return unsupported(chain, type, "");
}

/* ---- Pre-tokeniser -------------------------------------------------------------------------------- */

static enum llm_status add_split(struct chain *chain, const char *type, const char *source,
                                 size_t bytes, bool literal, uint32_t keep)
{
    struct vocab_draft *draft = chain->draft;
    if (draft->split_count == LLM_VOCAB_SPLITS_MAX)
        return llm_fail(chain->error, LLM_ERR_LIMIT, "tokenizer.json: %s has more than %u splits",
                        chain->key, LLM_VOCAB_SPLITS_MAX);
    struct llm_error why;
    char *pattern;
    enum llm_status status = split_pattern_rewrite(source, bytes, literal, &pattern, &why);
    if (status != LLM_OK)
        return llm_fail(chain->error, status, "tokenizer.json: %s \"%s\": pattern %s", chain->key,
                        type, why.message);
    draft->splits[draft->split_count++] = (struct draft_split){.pattern = pattern, .keep = keep};
    return LLM_OK;
}

static enum llm_status split_step(struct chain *chain, const char *type, const json_t *step)
{
    const json_t *pattern = json_object_get(step, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *text = regex ? regex : json_object_get(pattern, "String");
    if (!json_is_string(text))
        return invalid(chain, type, "has no pattern");
    /* Gemma splits at spaces after its normaliser has replaced every one of them. */
    if (!regex && chain->space_by_replace && strcmp(json_string_value(text), " ") == 0)
        return LLM_OK;

    bool invert = flag_of(step, "invert", false);
    const char *behavior = string_of(step, "behavior");
    uint32_t keep = LLM_SPLIT_KEEP_MATCHES | LLM_SPLIT_KEEP_GAPS;
    if (strcmp(behavior, "Removed") == 0)
        keep = invert ? LLM_SPLIT_KEEP_MATCHES : LLM_SPLIT_KEEP_GAPS;
    else if (strcmp(behavior, "Isolated") != 0)
        return unsupported(chain, type, behavior[0] ? behavior : "no behavior");
    return add_split(chain, type, json_string_value(text), json_string_length(text), !regex, keep);
}

static enum llm_status byte_level_step(struct chain *chain, const char *type, const json_t *step)
{
    if (flag_of(step, "add_prefix_space", true)) {
        if (chain->draft->split_count > 0)
            return unsupported(chain, type, "add_prefix_space after a split");
        chain->draft->flags |= LLM_VOCAB_PREFIX_SPACE | LLM_VOCAB_PREFIX_UNLESS;
    }
    chain->byte_level = true;
    if (!flag_of(step, "use_regex", true))
        return LLM_OK;
    return add_split(chain, type, gpt2_pattern, strlen(gpt2_pattern), false,
                     LLM_SPLIT_KEEP_MATCHES | LLM_SPLIT_KEEP_GAPS);
}

static enum llm_status metaspace_step(struct chain *chain, const char *type, const json_t *step)
{
    static const char pattern[] = SPACE_MARK "[^" SPACE_MARK "]*|[^" SPACE_MARK "]+";
    const char *replacement = string_of(step, "replacement");
    if (strcmp(replacement, SPACE_MARK) != 0)
        return unsupported(chain, type, "only U+2581 as replacement");
    if (chain->draft->split_count > 0)
        return unsupported(chain, type, "after a split");
    const char *scheme = string_of(step, "prepend_scheme");
    if (scheme[0] == 0) /* older files say it with a boolean */
        scheme = flag_of(step, "add_prefix_space", true) ? "always" : "never";
    chain->draft->flags |= LLM_VOCAB_SPACE_MARKS;
    if (strcmp(scheme, "first") == 0)
        chain->draft->flags |= LLM_VOCAB_PREFIX_FIRST;
    else if (strcmp(scheme, "always") != 0 && strcmp(scheme, "never") != 0)
        return unsupported(chain, type, "unknown prepend_scheme");
    if (strcmp(scheme, "never") != 0)
        chain->draft->flags |= LLM_VOCAB_PREFIX_SPACE | LLM_VOCAB_PREFIX_UNLESS;
    if (!flag_of(step, "split", true))
        return LLM_OK;
    return add_split(chain, type, pattern, strlen(pattern), false, LLM_SPLIT_KEEP_MATCHES);
}

static enum llm_status pre_tokenizer_step(struct chain *chain, const char *type, const json_t *step)
{
    const uint32_t keep_all = LLM_SPLIT_KEEP_MATCHES | LLM_SPLIT_KEEP_GAPS;
    if (chain->byte_level) /* later steps would see GPT-2's stand-in letters instead of the text */
        return unsupported(chain, type, "a step after \"ByteLevel\"");
    if (strcmp(type, "Split") == 0)
        return split_step(chain, type, step);
    if (strcmp(type, "ByteLevel") == 0)
        return byte_level_step(chain, type, step);
    if (strcmp(type, "Metaspace") == 0)
        return metaspace_step(chain, type, step);
    if (strcmp(type, "Digits") == 0) {
        const char *pattern = flag_of(step, "individual_digits", false) ? "\\p{N}" : "\\p{N}+";
        return add_split(chain, type, pattern, strlen(pattern), false, keep_all);
    }
    return unsupported(chain, type, "");
}

/* ---- Decoder -------------------------------------------------------------------------------------- */

static enum llm_status decoder_step(struct chain *chain, const char *type, const json_t *step)
{
    uint32_t kind = chain->draft->kind;
    if (strcmp(type, "Fuse") == 0)
        return LLM_OK;
    if (strcmp(type, "ByteLevel") == 0 && kind == LLM_VOCAB_BYTE_LEVEL) {
        chain->decodes_bytes = true;
        return LLM_OK;
    }
    if (kind != LLM_VOCAB_SENTENCEPIECE)
        return unsupported(chain, type, "");
    if (strcmp(type, "ByteFallback") == 0)
        return LLM_OK;
    if (strcmp(type, "Replace") == 0 &&
        strcmp(string_of(json_object_get(step, "pattern"), "String"), SPACE_MARK) == 0 &&
        strcmp(string_of(step, "content"), " ") == 0) {
        chain->decodes_bytes = true;
        return LLM_OK;
    }
    if (strcmp(type, "Metaspace") == 0 && strcmp(string_of(step, "replacement"), SPACE_MARK) == 0) {
        chain->decodes_bytes = true;
        const char *scheme = string_of(step, "prepend_scheme");
        if (strcmp(scheme, "never") != 0 &&
            (scheme[0] != 0 || flag_of(step, "add_prefix_space", true)))
            chain->draft->flags |= LLM_VOCAB_DROP_FIRST_SPACE;
        return LLM_OK;
    }
    if (strcmp(type, "Strip") == 0 && strcmp(string_of(step, "content"), " ") == 0 &&
        json_integer_value(json_object_get(step, "start")) == 1 &&
        json_integer_value(json_object_get(step, "stop")) == 0) {
        chain->draft->flags |= LLM_VOCAB_DROP_FIRST_SPACE;
        return LLM_OK;
    }
    return unsupported(chain, type, "");
}

/* ---- The chain ------------------------------------------------------------------------------------ */

static enum llm_status model_flags(struct chain *chain, const json_t *model)
{
    struct vocab_draft *draft = chain->draft;
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!json_is_object(model))
        return llm_fail(chain->error, LLM_ERR_INVALID, "tokenizer.json: \"model\" is missing");
    if (type && strcmp(type, "BPE") != 0) /* files of before 2020 have no type and are BPE */
        return unsupported(chain, type, "");
    if (string_of(model, "continuing_subword_prefix")[0] ||
        string_of(model, "end_of_word_suffix")[0])
        return unsupported(chain, "BPE", "subword prefixes and suffixes");
    if (json_number_value(json_object_get(model, "dropout")) > 0)
        return unsupported(chain, "BPE", "dropout");
    if (flag_of(model, "ignore_merges", false))
        draft->flags |= LLM_VOCAB_IGNORE_MERGES;
    if (flag_of(model, "fuse_unk", false))
        draft->flags |= LLM_VOCAB_FUSE_UNKNOWN;
    return LLM_OK;
}

static enum llm_status choose_kind(struct chain *chain, const json_t *model)
{
    struct vocab_draft *draft = chain->draft;
    if (chain->byte_level && draft->flags & LLM_VOCAB_SPACE_MARKS)
        return unsupported(chain, "ByteLevel", "together with U+2581 for spaces");
    if (chain->byte_level)
        draft->kind = LLM_VOCAB_BYTE_LEVEL;
    else if (draft->flags & LLM_VOCAB_SPACE_MARKS || flag_of(model, "byte_fallback", false))
        draft->kind = LLM_VOCAB_SENTENCEPIECE;
    else
        return llm_fail(chain->error, LLM_ERR_UNSUPPORTED,
                        "tokenizer.json: neither a ByteLevel pre-tokeniser nor byte_fallback: text "
                        "outside the vocabulary would be lost");
    return LLM_OK;
}

enum llm_status vocab_pipeline_read(struct vocab_draft *draft, const json_t *tokenizer,
                                    struct llm_error *error)
{
    struct chain chain = {.draft = draft, .key = "model", .error = error};
    const json_t *model = json_object_get(tokenizer, "model");
    enum llm_status status = model_flags(&chain, model);
    if (status == LLM_OK) {
        chain.key = "normalizer";
        status = each_step(&chain, json_object_get(tokenizer, "normalizer"), "normalizers",
                           normalizer_step);
    }
    if (status == LLM_OK) {
        chain.key = "pre_tokenizer";
        status = each_step(&chain, json_object_get(tokenizer, "pre_tokenizer"), "pretokenizers",
                           pre_tokenizer_step);
    }
    if (status == LLM_OK)
        status = choose_kind(&chain, model);
    if (status == LLM_OK) {
        chain.key = "decoder";
        status = each_step(&chain, json_object_get(tokenizer, "decoder"), "decoders", decoder_step);
    }
    if (status == LLM_OK && !chain.decodes_bytes)
        status =
            llm_fail(error, LLM_ERR_UNSUPPORTED, "tokenizer.json: the decoder does not undo the %s",
                     draft->kind == LLM_VOCAB_BYTE_LEVEL ? "ByteLevel step" : "space marks");
    return status;
}
