/*
 * test_vocab_builder.c - daemon/model/vocab_builder: tokenizer.json in, image or sentence out.
 * How: a complete small tokenizer.json is changed in one place per row of a table, and the status and the
 * sentence are compared. The hostile files of the test data are run when LLM_TESTDATA is set.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/byte_alphabet.h"
#include "daemon/model/json_file.h"
#include "daemon/model/split_pattern.h"
#include "tests/support/vocab_fixture.h"

/* ---- What good files become ------------------------------------------------------------------------ */

static const struct llm_vocab_header *build_header(json_t *tokenizer, json_t *config)
{
    static void *image;
    size_t bytes;
    free(image);
    image = build_image(tokenizer, config, &bytes);
    struct llm_vocab_view view;
    llm_error error;
    ck_assert_int_eq(llm_vocab_image_check(image, bytes, &view, &error), LLM_OK);
    json_decref(tokenizer);
    json_decref(config);
    return view.header;
}

START_TEST(the_small_vocabularies_have_the_expected_facts)
{
    const struct llm_vocab_header *h = build_header(small_byte_level(), NULL);
    ck_assert_uint_eq(h->kind, LLM_VOCAB_BYTE_LEVEL);
    ck_assert_uint_eq(h->flags, 0);
    ck_assert_uint_eq(h->added_count, 2);
    ck_assert_uint_eq(h->split_count, 1);
    ck_assert_uint_eq(h->bos_id, LLM_TOKEN_NONE);
    ck_assert_uint_eq(h->context_max_tokens, 512);
    ck_assert_str_eq(h->name, "small");
    ck_assert_uint_eq(h->fingerprint[2], 3);
    h = build_header(small_sentencepiece(), NULL);
    ck_assert_uint_eq(h->kind, LLM_VOCAB_SENTENCEPIECE);
    ck_assert_uint_eq(h->flags, LLM_VOCAB_PREFIX_SPACE | LLM_VOCAB_SPACE_MARKS |
                                    LLM_VOCAB_FUSE_UNKNOWN | LLM_VOCAB_DROP_FIRST_SPACE);
    ck_assert_uint_eq(h->unk_id, 0);
    ck_assert_uint_eq(h->prefix_count, 1);
    ck_assert_uint_eq(h->prefix_ids[0], 1);
    ck_assert_uint_eq(h->suffix_count, 0);
}
END_TEST

START_TEST(tokenizer_config_names_the_ends_and_overrules_the_template)
{
    const struct llm_vocab_header *h = build_header(
        small_sentencepiece(), json_pack("{s:s,s:{s:s},s:b}", "bos_token", "<s>", "eos_token",
                                         "content", "</s>", "add_bos_token", 0));
    ck_assert_uint_eq(h->bos_id, 1);
    ck_assert_uint_eq(h->eos_count, 1);
    ck_assert_uint_eq(h->eos_ids[0], 2);
    ck_assert_uint_eq(h->prefix_count, 0);
    h = build_header(small_byte_level(),
                     json_pack("{s:s,s:b}", "bos_token", "<|end|>", "add_bos_token", 1));
    ck_assert_uint_eq(h->prefix_count, 1);
    ck_assert_uint_eq(h->prefix_ids[0], h->bos_id);
}
END_TEST

/* The template in the image that is built from these; "" for none. */
static const char *built_template(const char *file, json_t *config, llm_error *error)
{
    static char text[256];
    json_t *json = small_byte_level();
    struct vocab_source source = {
        .tokenizer = json,
        .tokenizer_config = config,
        .chat_template = file,
        .chat_template_bytes = file ? strlen(file) : 0,
        .facts = {.name = "chat", .bos_id = LLM_TOKEN_NONE, .eos_ids = {7}, .eos_count = 1}};
    void *image;
    size_t bytes;
    struct llm_vocab_view view;
    enum llm_status status = vocab_build(&source, &image, &bytes, error);
    if (status == LLM_OK) {
        ck_assert_int_eq(llm_vocab_image_check(image, bytes, &view, error), LLM_OK);
        snprintf(text, sizeof text, "%.*s|%d|%d", (int)view.template_bytes, view.chat_template,
                 (int)view.header->template_bos_id, (int)view.header->template_eos_id);
        free(image);
    }
    json_decref(json);
    json_decref(config);
    return status == LLM_OK ? text : NULL;
}

START_TEST(the_chat_template_comes_from_its_own_file_or_from_tokenizer_config)
{
    llm_error error;
    uint32_t end = 0;
    const struct llm_vocab_header *h =
        build_header(small_byte_level(), json_pack("{s:s}", "bos_token", "<|end|>"));
    end = h->bos_id;
    char want[64];

    ck_assert_str_eq(built_template(NULL, NULL, &error), "|-1|7");
    ck_assert_str_eq(built_template("{{ a }}", NULL, &error), "{{ a }}|-1|7");
    snprintf(want, sizeof want, "{{ b }}|-1|%u", end);
    ck_assert_str_eq(built_template(NULL,
                                    json_pack("{s:s,s:s,s:n}", "chat_template", "{{ b }}",
                                              "eos_token", "<|end|>", "bos_token"),
                                    &error),
                     want);
    ck_assert_str_eq(
        built_template("{{ a }}", json_pack("{s:s}", "chat_template", "{{ b }}"), &error),
        "{{ a }}|-1|-1");
    ck_assert_str_eq(
        built_template(NULL,
                       json_pack("{s:[{s:s,s:s},{s:s,s:s}]}", "chat_template", "name", "tool_use",
                                 "template", "t", "name", "default", "template", "d"),
                       &error),
        "d|-1|-1");
    ck_assert_ptr_null(built_template(NULL, json_pack("{s:i}", "chat_template", 1), &error));
    ck_assert_ptr_nonnull(strstr(error.message, "\"chat_template\" must be a string"));
    ck_assert_ptr_null(
        built_template(NULL, json_pack("{s:[{s:s}]}", "chat_template", "name", "default"), &error));
}
END_TEST

START_TEST(ids_without_text_are_marked_unused)
{
    json_t *json = small_byte_level();
    struct vocab_source source = {.tokenizer = json,
                                  .facts = {.name = "padded",
                                            .token_count = 1000,
                                            .bos_id = 0,
                                            .eos_ids = {7, 999},
                                            .eos_count = 2}};
    void *image;
    size_t bytes;
    llm_error error;
    ck_assert_int_eq(vocab_build(&source, &image, &bytes, &error), LLM_OK);
    llm_vocab *vocab = open_image(image, bytes);
    const char *text;
    size_t text_bytes;
    ck_assert_int_eq(llm_token_text(vocab, 999, &text, &text_bytes, &error), LLM_OK);
    ck_assert_uint_eq(text_bytes, 0);
    ck_assert(llm_token_is_eos(vocab, 999));
    ck_assert(!llm_token_is_eos(vocab, 998));
    llm_vocab_close(vocab);
    free(image);
    json_decref(json);
}
END_TEST

START_TEST(merges_may_be_strings_or_pairs)
{
    json_t *strings = small_byte_level(), *pairs = small_byte_level();
    json_t *merges = json_object_get(json_object_get(pairs, "model"), "merges");
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const char *merge = json_string_value(json_array_get(merges, i));
        size_t left = strcspn(merge, " ");
        json_t *pair = json_array();
        json_array_append_new(pair, json_stringn(merge, left));
        json_array_append_new(pair, json_string(merge + left + 1));
        json_array_set_new(merges, i, pair);
    }
    size_t a_bytes, b_bytes;
    void *a = build_image(strings, NULL, &a_bytes), *b = build_image(pairs, NULL, &b_bytes);
    ck_assert_uint_eq(a_bytes, b_bytes);
    ck_assert_mem_eq(a, b, a_bytes);
    free(a);
    free(b);
    json_decref(strings);
    json_decref(pairs);
}
END_TEST

START_TEST(the_alphabet_is_a_bijection_of_the_bytes)
{
    for (uint32_t byte = 0; byte < 256; byte++)
        ck_assert_int_eq(byte_alphabet_byte(byte_alphabet_letter((uint8_t)byte)), (int)byte);
    unsigned letters = 0;
    for (uint32_t c = 0; c < 0x400; c++)
        letters += byte_alphabet_byte(c) >= 0;
    ck_assert_uint_eq(letters, 256);
    ck_assert_uint_eq(byte_alphabet_letter(' '), 0x120);
    ck_assert_uint_eq(byte_alphabet_letter('\n'), 0x10a);
    uint8_t out[8];
    ck_assert_int_eq(byte_alphabet_decode("\xc4\xa0w\xc5\x83", 5, out), 3);
    ck_assert_mem_eq(out, " w\xad", 3);
    ck_assert_int_eq(byte_alphabet_decode("a b", 3, out), -1);
    ck_assert_int_eq(byte_alphabet_decode("\xc4", 1, out), -1);
    ck_assert_int_eq(byte_alphabet_decode("\xef\xbd\x9c", 3, out), -1);
}
END_TEST

START_TEST(the_built_in_model_has_text)
{
    static const char text[] = "Mara keeps the copper key.\n\nQ: Who keeps it?";
    json_t *json = load_json(LLM_SOURCE_DIR "/models/tinynotes/tokenizer.json");
    json_t *config = load_json(LLM_SOURCE_DIR "/models/tinynotes/tokenizer_config.json");
    size_t bytes, count, text_bytes;
    void *image = build_image(json, config, &bytes);
    llm_vocab *vocab = open_image(image, bytes);
    uint32_t tokens[64];
    char back[64];
    ck_assert_int_eq(
        llm_encode(vocab, text, strlen(text), LLM_ENCODE_AFFIXES, tokens, 64, &count, NULL),
        LLM_OK);
    ck_assert_uint_eq(tokens[0], llm_token_find(vocab, "<s>", 3));
    ck_assert_uint_lt(count, 32);
    ck_assert_int_eq(
        llm_decode_whole(vocab, tokens, count, 0, back, sizeof back, &text_bytes, NULL), LLM_OK);
    ck_assert_uint_eq(text_bytes, strlen(text));
    ck_assert_mem_eq(back, text, text_bytes);
    ck_assert(llm_token_is_eos(vocab, llm_token_find(vocab, "</s>", 4)));
    llm_vocab_close(vocab);
    free(image);
    json_decref(json);
    json_decref(config);
}
END_TEST

/* ---- What is refused ------------------------------------------------------------------------------- */

/* `path` is keys joined by '/'; `value` replaces what is there ("" deletes it). */
static void change(json_t *root, const char *path, const char *value)
{
    char key[64];
    const char *slash;
    while ((slash = strchr(path, '/')) != NULL) {
        snprintf(key, sizeof key, "%.*s", (int)(slash - path), path);
        root = json_is_array(root) ? json_array_get(root, (size_t)atoi(key))
                                   : json_object_get(root, key);
        path = slash + 1;
    }
    json_t *new = value[0] ? json_loads(value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    ck_assert(value[0] == 0 || new != NULL);
    if (json_is_array(root))
        ck_assert_int_eq(json_array_set_new(root, (size_t)atoi(path), new), 0);
    else if (new)
        ck_assert_int_eq(json_object_set_new(root, path, new), 0);
    else
        ck_assert_int_eq(json_object_del(root, path), 0);
}

#define SPLIT(regex, behavior)                                                              \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":" \
    "\"" regex "\"},\"behavior\":\"" behavior                                               \
    "\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"                               \
    "\"use_regex\":false}]}"

static const struct refusal {
    const char *path, *value;
    enum llm_status status;
    const char *sentence;
} refusals[] = {
    {"model", "", LLM_ERR_INVALID, "\"model\" is missing"},
    {"model", "[]", LLM_ERR_INVALID, "\"model\" is missing"},
    {"model/type", "\"Unigram\"", LLM_ERR_UNSUPPORTED, "model \"Unigram\" is not supported"},
    {"model/dropout", "0.1", LLM_ERR_UNSUPPORTED, "dropout"},
    {"model/end_of_word_suffix", "\"</w>\"", LLM_ERR_UNSUPPORTED, "suffixes"},
    {"model/vocab", "", LLM_ERR_INVALID, "model.vocab is no table"},
    {"model/vocab", "{}", LLM_ERR_INVALID, "model.vocab is no table"},
    {"model/vocab/a", "-1", LLM_ERR_INVALID, "\"a\" has id -1"},
    {"model/vocab/a", "1073741824", LLM_ERR_INVALID, "\"a\" has id 1073741824"},
    {"model/vocab/a", "9223372036854775807", LLM_ERR_INVALID, "\"a\" has id 9223372036854775807"},
    {"model/vocab/a", "1.5", LLM_ERR_INVALID, "\"a\" has no integer id"},
    {"model/vocab/a", "\"7\"", LLM_ERR_INVALID, "\"a\" has no integer id"},
    {"model/vocab/a", "98", LLM_ERR_INVALID, "id 98, which another token has already"},
    {"model/unk_token", "\"<nope>\"", LLM_ERR_INVALID, "model.unk_token"},
    {"model/unk_token", "7", LLM_ERR_INVALID, "model.unk_token"},
    {"model/merges", "", LLM_ERR_INVALID, "model.merges is no list"},
    {"model/merges/3", "\"hello\"", LLM_ERR_INVALID, "model.merges[3] is no pair"},
    {"model/merges/3", "\"a b c\"", LLM_ERR_INVALID, "model.merges[3] is no pair"},
    {"model/merges/3", "\" b\"", LLM_ERR_INVALID, "model.merges[3] is no pair"},
    {"model/merges/3", "[\"a\"]", LLM_ERR_INVALID, "model.merges[3] is no pair"},
    {"model/merges/3", "[\"a\",\"b\",\"c\"]", LLM_ERR_INVALID, "model.merges[3] is no pair"},
    {"model/merges/3", "[\"a\",7]", LLM_ERR_INVALID, "model.merges[3] is no pair"},
    {"model/merges/3", "null", LLM_ERR_INVALID, "model.merges[3] is no pair"},
    {"model/merges/3", "\"zz a\"", LLM_ERR_INVALID,
     "model.merges[3]: \"zz\" is not in the vocabulary"},
    {"model/merges/3", "\"a zz\"", LLM_ERR_INVALID,
     "model.merges[3]: \"zz\" is not in the vocabulary"},
    {"model/merges/3", "\"a b\"", LLM_ERR_INVALID, "its result \"ab\" is not in the vocabulary"},
    {"added_tokens", "{}", LLM_ERR_INVALID, "added_tokens is no list"},
    {"added_tokens/0/content", "\"\"", LLM_ERR_INVALID, "added_tokens[0] has no content"},
    {"added_tokens/0/content", "\"a\\u0000b\"", LLM_ERR_INVALID, "added_tokens[0] has no content"},
    {"added_tokens/0/id", "-5", LLM_ERR_INVALID, "\"<|end|>\" has id -5"},
    {"added_tokens/0/id", "null", LLM_ERR_INVALID, "\"<|end|>\" has no integer id"},
    {"added_tokens/0/id", "7", LLM_ERR_INVALID, "\"<|end|>\" has id 7"},
    {"added_tokens/1/content", "\"a\"", LLM_ERR_INVALID,
     "model.vocab and the tokens before it say otherwise"},
    {"normalizer", "{\"type\":\"Lowercase\"}", LLM_ERR_UNSUPPORTED,
     "normalizer \"Lowercase\" is not supported"},
    {"normalizer", "{}", LLM_ERR_INVALID, "normalizer"},
    {"normalizer", "{\"type\":\"Sequence\"}", LLM_ERR_INVALID, "has no list of steps"},
    {"normalizer", "{\"type\":\"Sequence\",\"normalizers\":[7]}", LLM_ERR_INVALID,
     "has no \"type\""},
    {"normalizer",
     "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"NFKC\"}]}",
     LLM_ERR_UNSUPPORTED, "a second normal form"},
    {"normalizer", "{\"type\":\"Prepend\",\"prepend\":\"x\"}", LLM_ERR_UNSUPPORTED, "only U+2581"},
    {"normalizer", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"b\"}",
     LLM_ERR_UNSUPPORTED, "only a space"},
    {"pre_tokenizer", "{\"type\":\"BertPreTokenizer\"}", LLM_ERR_UNSUPPORTED,
     "\"BertPreTokenizer\""},
    {"pre_tokenizer", "null", LLM_ERR_UNSUPPORTED, "neither a ByteLevel"},
    {"pre_tokenizer", SPLIT("((((", "Isolated"), LLM_ERR_INVALID, "does not compile: missing"},
    {"pre_tokenizer", SPLIT("", "Isolated"), LLM_ERR_INVALID, "is empty"},
    {"pre_tokenizer", SPLIT("a\\u0000b", "Isolated"), LLM_ERR_UNSUPPORTED, "zero byte"},
    {"pre_tokenizer", SPLIT("\\\\h+", "Isolated"), LLM_ERR_UNSUPPORTED, "uses \\h"},
    {"pre_tokenizer", SPLIT("[a-z&&[^q]]", "Isolated"), LLM_ERR_UNSUPPORTED, "intersects"},
    {"pre_tokenizer", SPLIT("a\\\\Cb", "Isolated"), LLM_ERR_INVALID, "does not compile"},
    {"pre_tokenizer", SPLIT("a", "MergedWithNext"), LLM_ERR_UNSUPPORTED, "MergedWithNext"},
    {"pre_tokenizer", "{\"type\":\"Split\",\"behavior\":\"Isolated\"}", LLM_ERR_INVALID,
     "has no pattern"},
    {"pre_tokenizer",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}",
     LLM_ERR_UNSUPPORTED, "a step after \"ByteLevel\""},
    {"decoder", "null", LLM_ERR_UNSUPPORTED, "the decoder does not undo"},
    {"decoder", "{\"type\":\"WordPiece\"}", LLM_ERR_UNSUPPORTED, "decoder \"WordPiece\""},
    {"post_processor", "{\"type\":\"BertProcessing\"}", LLM_ERR_UNSUPPORTED, "\"BertProcessing\""},
    {"post_processor",
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<nope>\"}}]}",
     LLM_ERR_INVALID, "\"<nope>\" is not in the vocabulary"},
};
#define REFUSAL_COUNT (int)(sizeof refusals / sizeof *refusals)

START_TEST(a_file_with_one_wrong_thing_is_refused_by_its_name)
{
    const struct refusal *row = &refusals[_i];
    json_t *json = small_byte_level();
    change(json, row->path, row->value);
    llm_error error = {0};
    ck_assert_msg(try_build(json, 0, &error) == row->status, "%s = %s: %s", row->path, row->value,
                  error.message);
    ck_assert_msg(strstr(error.message, row->sentence) != NULL,
                  "%s = %s: \"%s\" does not say \"%s\"", row->path, row->value, error.message,
                  row->sentence);
    json_decref(json);
}
END_TEST

START_TEST(ids_must_be_rows_of_the_model)
{
    json_t *json = small_byte_level();
    size_t tokens = json_object_size(json_object_get(json_object_get(json, "model"), "vocab")) + 2;
    llm_error error;
    ck_assert_int_eq(try_build(json, (uint32_t)tokens, &error), LLM_OK);
    ck_assert_int_eq(try_build(json, (uint32_t)tokens - 1, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "\"<tool>\" has id"));
    ck_assert_int_eq(try_build(json, UINT32_MAX, &error), LLM_ERR_LIMIT);
    ck_assert_int_eq(try_build(NULL, 0, &error), LLM_ERR_LIMIT);
    json_decref(json);
}
END_TEST

START_TEST(facts_from_the_other_files_are_checked)
{
    void *image;
    size_t bytes;
    llm_error error;
    struct vocab_source source = {.facts = {.name = "x", .token_count = 10, .bos_id = 10}};
    ck_assert_int_eq(vocab_build(&source, &image, &bytes, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "bos_token_id is 10, the model has 10 tokens");
    source.facts.bos_id = LLM_TOKEN_NONE;
    source.facts.eos_ids[0] = 77;
    source.facts.eos_count = 1;
    ck_assert_int_eq(vocab_build(&source, &image, &bytes, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "eos_token_id is 77, the model has 10 tokens");
    source.facts.eos_count = 0;
    source.facts.name = "0123456789012345678901234567890123456789012345678901234567890123";
    ck_assert_int_eq(vocab_build(&source, &image, &bytes, &error), LLM_ERR_LIMIT);
}
END_TEST

START_TEST(duplicate_added_tokens_are_refused)
{
    json_t *json = small_byte_level(), *added = json_object_get(json, "added_tokens");
    llm_error error;
    json_array_append(added, json_array_get(added, 0));
    ck_assert_int_eq(try_build(json, 0, &error), LLM_ERR_INVALID);
    json_t *copy = json_deep_copy(json_array_get(added, 0));
    json_object_set_new(copy, "id", json_integer(999));
    json_array_set_new(added, 2, copy);
    ck_assert_int_eq(try_build(json, 0, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "have the same text"));
    json_decref(json);
}
END_TEST

START_TEST(a_token_longer_than_the_limit_is_refused)
{
    json_t *json = small_byte_level();
    char name[LLM_VOCAB_TOKEN_BYTES_MAX + 2];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    json_object_set_new(json_object_get(json_object_get(json, "model"), "vocab"), name,
                        json_integer(500));
    llm_error error;
    ck_assert_int_eq(try_build(json, 0, &error), LLM_ERR_LIMIT);
    ck_assert_str_eq(error.message, "tokenizer.json: token 500 has 4097 bytes, at most 4096");
    json_decref(json);
}
END_TEST

/* ---- Patterns -------------------------------------------------------------------------------------- */

START_TEST(patterns_are_rewritten_only_where_the_languages_differ)
{
    static const struct {
        const char *from, *to;
        bool literal;
    } rows[] = {
        {"a|\\p{L}+\\.", "a|\\p{L}+\\.", false},
        {"\\w", "[\\p{L}\\p{M}\\p{N}\\p{Pc}]", false},
        {"[\\w-]", "[\\p{L}\\p{M}\\p{N}\\p{Pc}-]", false},
        {"\\W", "[^\\p{L}\\p{M}\\p{N}\\p{Pc}]", false},
        {"\\\\s", "\\\\s", false}, /* an escaped backslash, then an s */
        {"[[:alpha:]]", "[[:alpha:]]", false},
        {"\\w+$", "[\\p{L}\\p{M}\\p{N}\\p{Pc}]+$", false},
        {"\\s+$",
         "(?<![\\t-\\r "
         "\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}])"
         "[\\t-\\r "
         "\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}]+"
         "$",
         false},
        {"a.b", "a\\.b", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *pattern = NULL;
        llm_error error;
        ck_assert_int_eq(split_pattern_rewrite(rows[i].from, strlen(rows[i].from), rows[i].literal,
                                               &pattern, &error),
                         LLM_OK);
        ck_assert_str_eq(pattern, rows[i].to);
        free(pattern);
    }
}
END_TEST

START_TEST(a_pattern_longer_than_the_limit_is_refused)
{
    char *long_pattern = malloc(LLM_VOCAB_PATTERN_BYTES_MAX + 1), *pattern;
    memset(long_pattern, 'a', LLM_VOCAB_PATTERN_BYTES_MAX + 1);
    llm_error error;
    ck_assert_int_eq(split_pattern_rewrite(long_pattern, LLM_VOCAB_PATTERN_BYTES_MAX + 1, false,
                                           &pattern, &error),
                     LLM_ERR_LIMIT);
    free(long_pattern);
}
END_TEST

/* ---- Hostile files of the test data ---------------------------------------------------------------- */

START_TEST(hostile_files_end_as_their_manifest_says)
{
    static const struct {
        const char *name;
        int expect; /* 0 reject, 1 either */
    } files[] = {{"tok-id-huge", 1},       {"tok-id-negative", 0},   {"tok-merge-malformed", 0},
                 {"tok-merge-unknown", 1}, {"tok-regex-invalid", 0}, {"tok-regex-redos", 1},
                 {"tok-not-json", 0}};
    if (!getenv("LLM_TESTDATA"))
        return; /* main() says so */
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];
        snprintf(path, sizeof path, "formats/evil/%s/tokenizer.json", files[i].name);
        FILE *file = fopen(testdata(path), "r");
        ck_assert_msg(file != NULL, "no %s", path);
        json_t *json = NULL;
        llm_error error = {0};
        enum llm_status status =
            json_file_read(fileno(file), path, VOCAB_JSON_BYTES_MAX, &json, &error);
        void *image = NULL;
        size_t bytes, count;
        struct vocab_source source = {.tokenizer = json,
                                      .facts = {.name = "evil", .bos_id = LLM_TOKEN_NONE}};
        if (status == LLM_OK)
            status = vocab_build(&source, &image, &bytes, &error);
        printf("%s: %s\n", files[i].name, status == LLM_OK ? "accepted" : error.message);
        ck_assert_msg(status != LLM_OK || files[i].expect == 1, "%s was accepted", files[i].name);
        if (status == LLM_OK) { /* an explosive pattern must give up, not hang */
            llm_vocab *vocab = open_image(image, bytes);
            char text[4097];
            memset(text, 'a', sizeof text);
            text[sizeof text - 1] = 'b';
            (void)!llm_encode(vocab, text, sizeof text, 0, NULL, 0, &count, &error);
            llm_vocab_close(vocab);
        }
        free(image);
        json_decref(json);
        fclose(file);
    }
}
END_TEST

int main(void)
{
    if (!getenv("LLM_TESTDATA"))
        printf(
            "LLM_TESTDATA is not set: hostile_files_end_as_their_manifest_says checks nothing\n");
    Suite *suite = suite_create("daemon/vocab_builder");
    TCase *good = tcase_create("good files");
    tcase_add_test(good, the_small_vocabularies_have_the_expected_facts);
    tcase_add_test(good, tokenizer_config_names_the_ends_and_overrules_the_template);
    tcase_add_test(good, the_chat_template_comes_from_its_own_file_or_from_tokenizer_config);
    tcase_add_test(good, ids_without_text_are_marked_unused);
    tcase_add_test(good, merges_may_be_strings_or_pairs);
    tcase_add_test(good, the_built_in_model_has_text);
    tcase_add_test(good, the_alphabet_is_a_bijection_of_the_bytes);
    suite_add_tcase(suite, good);
    TCase *bad = tcase_create("bad files");
    tcase_set_timeout(bad, 60);
    tcase_add_loop_test(bad, a_file_with_one_wrong_thing_is_refused_by_its_name, 0, REFUSAL_COUNT);
    tcase_add_test(bad, ids_must_be_rows_of_the_model);
    tcase_add_test(bad, facts_from_the_other_files_are_checked);
    tcase_add_test(bad, duplicate_added_tokens_are_refused);
    tcase_add_test(bad, a_token_longer_than_the_limit_is_refused);
    tcase_add_test(bad, patterns_are_rewritten_only_where_the_languages_differ);
    tcase_add_test(bad, a_pattern_longer_than_the_limit_is_refused);
    tcase_add_test(bad, hostile_files_end_as_their_manifest_says);
    suite_add_tcase(suite, bad);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
