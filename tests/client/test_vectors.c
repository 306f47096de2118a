/*
 * test_vectors.c - client/text against what other tokenisers made of the same text.
 * How: each row of the test data's vectors is encoded with the model's own vocabulary file and compared id by
 * id, and decoded and compared byte by byte. Needs LLM_TESTDATA.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "client/text/vocab.h"
#include "tests/support/spm_fixture.h"
#include "tests/support/vocab_fixture.h"

static const struct {
    const char *tokenizer; /* a file below tokenizers/ */
    const char *rows;      /* tokenizers/vectors/<rows>.jsonl */
} cases[] = {
    {"hf/gpt2/tokenizer.json", "gpt-2"},
    {"hf/gpt2/tokenizer.json", "hf-tests-gpt-2"},
    {"hf/gpt2/tokenizer.json", "gpt-2.decode"},
    {"hf/qwen3/tokenizer.json", "qwen2"},
    {"hf/qwen3/tokenizer.json", "qwen2.decode"},
    {"hf/llama2/tokenizer.json", "llama-spm"},
    {"hf/llama2/tokenizer.json", "hf-tests-llama-spm"},
    {"hf/phi3/tokenizer.json", "phi-3"},
    {"spm/mistral-v3.model", "mistral-v3"},
    {"gguf-vocab/ggml-vocab-gpt-2.gguf", "gpt-2"},
    {"gguf-vocab/ggml-vocab-gpt-2.gguf", "hf-tests-gpt-2"},
    {"gguf-vocab/ggml-vocab-gpt-2.gguf", "gpt-2.decode"},
    {"gguf-vocab/ggml-vocab-falcon.gguf", "falcon"},
    {"gguf-vocab/ggml-vocab-falcon.gguf", "falcon.decode"},
    {"gguf-vocab/ggml-vocab-deepseek-coder.gguf", "deepseek-coder"},
    {"gguf-vocab/ggml-vocab-mpt.gguf", "mpt"},
    {"gguf-vocab/ggml-vocab-llama-spm.gguf", "llama-spm"},
    {"gguf-vocab/ggml-vocab-llama-spm.gguf", "hf-tests-llama-spm"},
    {"gguf-vocab/ggml-vocab-phi-3.gguf", "phi-3"},
};
#define CASE_COUNT (int)(sizeof cases / sizeof *cases)

static json_t *tokenizer_json; /* or NULL */
static void *image;
static llm_vocab *vocab;
static size_t row_count;

static void open_vocabulary(const char *path)
{
    size_t bytes;
    if (strstr(path, ".model")) {
        struct spm_bytes model = load_spm(testdata(path));
        image = build_spm_image(model, &bytes);
        free(model.bytes);
    } else if (strstr(path, ".gguf")) {
        image = build_gguf_image(testdata(path), &bytes);
    } else {
        tokenizer_json = load_json(testdata(path));
        image = build_image(tokenizer_json, NULL, &bytes);
    }
    vocab = open_image(image, bytes);
}

static void open_case(int index)
{
    char path[256];
    snprintf(path, sizeof path, "tokenizers/%s", cases[index].tokenizer);
    open_vocabulary(path);
}

static void close_case(void)
{
    llm_vocab_close(vocab);
    free(image);
    json_decref(tokenizer_json);
    tokenizer_json = NULL;
}

/* Call `check` for every row of a case; prints how many there were. */
static void each_row(int index, void (*check)(const json_t *row, const char *where))
{
    char path[256];
    snprintf(path, sizeof path, "tokenizers/vectors/%s.jsonl", cases[index].rows);
    FILE *file = fopen(testdata(path), "r");
    ck_assert_msg(file != NULL, "cannot open %s", path);
    char *line = NULL, where[300];
    size_t capacity = 0;
    row_count = 0;
    while (getline(&line, &capacity, file) > 0) {
        json_t *row = json_loads(line, JSON_ALLOW_NUL, NULL);
        ck_assert(row != NULL);
        snprintf(where, sizeof where, "%s row %zu", cases[index].rows, ++row_count);
        check(row, where);
        json_decref(row);
    }
    free(line);
    fclose(file);
    printf("%s with %s: %zu rows\n", cases[index].rows, cases[index].tokenizer, row_count);
}

static uint32_t *ids_of(const json_t *row, size_t *out_count)
{
    const json_t *ids = json_object_get(row, "ids");
    *out_count = json_array_size(ids);
    uint32_t *tokens = malloc((*out_count + 1) * sizeof *tokens);
    for (size_t i = 0; i < *out_count; i++)
        tokens[i] = (uint32_t)json_integer_value(json_array_get(ids, i));
    return tokens;
}

static void check_row_as(const json_t *row, const char *where, uint32_t flags)
{
    const json_t *text = json_object_get(row, "text");
    size_t want_count, got_count = 0;
    uint32_t *want = ids_of(row, &want_count);
    uint32_t got[4096];
    llm_error error = {0};
    enum llm_status status = llm_encode(vocab, json_string_value(text), json_string_length(text),
                                        flags, got, 4096, &got_count, &error);
    ck_assert_msg(status == LLM_OK, "%s: %s", where, error.message);
    for (size_t i = 0; i < got_count && i < want_count; i++)
        ck_assert_msg(got[i] == want[i], "%s: \"%s\": token %zu is %u, not %u", where,
                      json_string_value(text), i, got[i], want[i]);
    ck_assert_msg(got_count == want_count, "%s: %zu tokens, not %zu", where, got_count, want_count);
    free(want);
}

static void check_ids(const json_t *row, const char *where)
{
    bool with_special = json_is_true(json_object_get(row, "with_special"));
    if (json_object_get(row, "text"))
        check_row_as(row, where, with_special ? LLM_ENCODE_AFFIXES | LLM_ENCODE_SPECIAL : 0);
}

static void check_decoded(const json_t *row, const char *where, const char *want, size_t want_bytes,
                          uint32_t flags)
{
    size_t count, bytes = 0;
    uint32_t *tokens = ids_of(row, &count);
    char *text = malloc(65536);
    llm_error error = {0};
    enum llm_status status =
        llm_decode_whole(vocab, tokens, count, flags, text, 65536, &bytes, &error);
    ck_assert_msg(status == LLM_OK, "%s: %s", where, error.message);
    ck_assert_msg(bytes == want_bytes && memcmp(text, want, bytes) == 0,
                  "%s: decodes to \"%.*s\", not \"%.*s\"", where, (int)bytes, text, (int)want_bytes,
                  want);
    free(text);
    free(tokens);
}

static void check_text(const json_t *row, const char *where)
{
    const json_t *hex = json_object_get(row, "bytes_hex");
    const json_t *decoded = json_object_get(row, "decoded");
    const json_t *text = json_object_get(row, "text");
    if (hex) {
        char bytes[4096];
        size_t count = json_string_length(hex) / 2;
        for (size_t i = 0; i < count; i++)
            bytes[i] = (char)strtoul(
                (char[]){json_string_value(hex)[2 * i], json_string_value(hex)[2 * i + 1], 0}, NULL,
                16);
        check_decoded(row, where, bytes, count, LLM_DECODE_BYTES);
    } else if (!decoded) { /* the text itself, as far as normalisation leaves it */
        const char *want = json_string_value(text);
        size_t bytes = json_string_length(text);
        utf8proc_uint8_t *normal = NULL;
        if (vocab->view.header->normal_form == LLM_VOCAB_FORM_NFC) {
            bytes = (size_t)utf8proc_map((const utf8proc_uint8_t *)want, (utf8proc_ssize_t)bytes,
                                         &normal, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
            want = (const char *)normal;
        }
        check_decoded(row, where, want, bytes, 0);
        free(normal);
    } else if (!strstr(json_string_value(json_object_get(row, "source")), "distilgpt2")) {
        /* distilgpt2's rows were decoded with a clean-up of spaces before punctuation, which is not part of
         * the tokeniser. */
        check_decoded(row, where, json_string_value(decoded), json_string_length(decoded), 0);
    }
}

/* The same tokens one by one, through a buffer that holds one character: what a stream of them shows. */
static void check_streamed(const json_t *row, const char *where)
{
    size_t count, want_bytes = 0, got_bytes = 0;
    uint32_t *tokens = ids_of(row, &count);
    char *want = malloc(65536), *got = malloc(65536);
    ck_assert_int_eq(llm_decode_whole(vocab, tokens, count, 0, want, 65536, &want_bytes, NULL),
                     LLM_OK);
    llm_decoder decoder;
    llm_decoder_init(&decoder, vocab, 0);
    for (size_t done = 0; done < count;) {
        size_t used, bytes;
        ck_assert_int_eq(llm_decode(&decoder, tokens + done, 1, got + got_bytes,
                                    LLM_DECODE_CAPACITY_MIN, &used, &bytes, NULL),
                         LLM_OK);
        done += used;
        got_bytes += bytes;
    }
    got_bytes += llm_decode_end(&decoder, got + got_bytes);
    ck_assert_msg(got_bytes == want_bytes && memcmp(got, want, got_bytes) == 0,
                  "%s: streamed, it is another text", where);
    free(tokens);
    free(want);
    free(got);
}

static void check_row(const json_t *row, const char *where)
{
    check_streamed(row, where);
    check_ids(row, where);
    check_text(row, where);
}

START_TEST(the_forms_of_one_vocabulary_agree)
{
    static const char *const forms[] = {"hf-f32/tokenizer.json", "hf-f32/tokenizer.model",
                                        "stories260K-f32.gguf"};
    json_t *golden = load_json(testdata("models/stories260K/golden-f32.json"));
    const json_t *rows = json_object_get(golden, "nll");
    for (size_t form = 0; form < sizeof forms / sizeof *forms; form++) {
        char path[256];
        snprintf(path, sizeof path, "models/stories260K/%s", forms[form]);
        open_vocabulary(path);
        ck_assert_uint_gt(json_array_size(rows), 0);
        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i);
            check_row_as(row, forms[form], LLM_ENCODE_AFFIXES);
            check_streamed(row, forms[form]);
        }
        printf("stories260K texts with %s: %zu rows\n", forms[form], json_array_size(rows));
        close_case();
    }
    json_decref(golden);
}
END_TEST

/* What the test data has rows for, and this build refuses or has no vocabulary for. */
START_TEST(a_wordpiece_vocabulary_is_refused_by_name)
{
    llm_error error = {.message = ""};
    ck_assert_int_eq(
        try_build_gguf(testdata("tokenizers/gguf-vocab/ggml-vocab-bert-bge.gguf"), &error),
        LLM_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error.message, "tokenizer.ggml.model \"bert\" is not supported"));
    printf("bert-bge: refused, 47 rows not run: %s\n", error.message);
    printf("llama-bpe, llama-bpe.decode: no vocabulary in the test data, 127 rows not run\n");
}
END_TEST

START_TEST(every_row_gives_the_published_ids_and_text)
{
    open_case(_i);
    each_row(_i, check_row);
    ck_assert_uint_gt(row_count, 0);
    close_case();
}
END_TEST

int main(void)
{
    (void)testdata(""); /* or skip, before anything is forked */
    Suite *suite = suite_create("client/vectors");
    TCase *rows = tcase_create("rows");
    tcase_set_timeout(rows, 60);
    tcase_add_loop_test(rows, every_row_gives_the_published_ids_and_text, 0, CASE_COUNT);
    tcase_add_test(rows, the_forms_of_one_vocabulary_agree);
    tcase_add_test(rows, a_wordpiece_vocabulary_is_refused_by_name);
    suite_add_tcase(suite, rows);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
