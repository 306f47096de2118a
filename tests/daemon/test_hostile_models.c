/*
 * test_hostile_models.c - daemon/model: model directories that lie, and those of other architectures.
 * How: each case of the test data's manifest is opened as a whole model; rejected ones must end in a sentence,
 * accepted ones must generate the golden tokens. Needs LLM_TESTDATA; meant to run with the address sanitizer.
 */
#include "tests/daemon/model_fixture.h"

#include "daemon/model/safetensors.h"

#include <check.h>
#include <ctype.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CASES_MAX 256

static const struct fixture_backend backend = {"cpu", NULL, 1};
static const char *data;
static json_t *cases[CASES_MAX];
static int case_count;

static const char *text_of(const json_t *row, const char *key)
{
    return json_string_value(json_object_get(row, key));
}

/* Outside of any test: no assertions here. */
static void load_manifest(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/formats/evil/manifest.jsonl", data);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return;
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, f) > 0 && case_count < CASES_MAX) {
        json_t *row = json_loads(line, 0, NULL);
        if (row != NULL && text_of(row, "case") != NULL && text_of(row, "kind") != NULL)
            cases[case_count++] = row;
        else
            json_decref(row);
    }
    free(line);
    fclose(f);
}

/* Open as the engine does, without the fixture's insistence on success. */
static enum llm_status try_open(const char *directory, struct llm_error *error)
{
    struct kernel_stream *stream;
    struct kernel_stream_options stream_options = {.threads = 1};
    ck_assert_int_eq(kernel_stream_open(backend.name, &stream_options, &stream, error), LLM_OK);
    struct model_directory below = {open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    ck_assert_msg(below.directory_fd >= 0, "cannot open %s", directory);
    struct model_files files = model_files_below(&below);
    struct model_pages pages = {0};
    struct model_memory memory = model_memory_from_pages(&pages);
    struct model_options options = {.stream = stream, .batch_rows_max = 16, .logits_rows_max = 1};
    struct model *model = NULL;
    enum llm_status status = model_open(&model, &files, &memory, &options, error);
    model_close(model);
    model_pages_close(&pages);
    close(below.directory_fd);
    kernel_stream_close(stream);
    return status;
}

static void assert_sentence(const char *name, const struct llm_error *error)
{
    size_t bytes = strlen(error->message);
    ck_assert_msg(bytes > 10, "%s: no sentence", name);
    for (size_t i = 0; i < bytes; i++)
        ck_assert_msg(!iscntrl((unsigned char)error->message[i]), "%s: control character in \"%s\"",
                      name, error->message);
}

static int32_t best_of(const float *logits, uint32_t vocab_size)
{
    uint32_t best = 0;
    for (uint32_t v = 1; v < vocab_size; v++)
        if (logits[v] > logits[best])
            best = v;
    return (int32_t)best;
}

static void assert_golden_tokens(const json_t *row, const char *directory)
{
    const json_t *prompt = json_object_get(row, "prompt_ids");
    const json_t *golden = json_object_get(row, "golden_ids");
    if (prompt == NULL)
        return;
    int32_t ids[64], count = (int32_t)json_array_size(prompt);
    int32_t golden_count = (int32_t)json_array_size(golden);
    ck_assert_int_lt(count + golden_count, 64);
    for (int32_t i = 0; i < count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(prompt, (size_t)i));
    struct model_fixture f;
    struct fixture_sequence s, *one = &s;
    fixture_open(&f, directory, &backend, MODEL_KV_AUTO);
    fixture_start(&f, &s, ids, count + golden_count);
    fixture_step(&f, &one, &count, 1);
    bool exact = strcmp(text_of(row, "expect"), "accept") == 0; /* not after rounding to bf16 */
    for (int32_t i = 0; exact && i < golden_count; i++) {
        uint32_t V = f.facts->config.vocab_size;
        ids[s.done] = best_of(s.logits + (size_t)(s.done - 1) * V, V);
        ck_assert_int_eq(ids[s.done],
                         (int32_t)json_integer_value(json_array_get(golden, (size_t)i)));
        fixture_step(&f, &one, (const int32_t[]){1}, 1);
    }
    fixture_end(&s);
    fixture_close(&f);
}

START_TEST(every_lie_ends_in_a_sentence_and_the_next_model_opens)
{
    const json_t *row = cases[_i];
    const char *name = text_of(row, "case"), *kind = text_of(row, "kind");
    const char *expect = text_of(row, "expect");
    char directory[512];
    struct llm_error error = {0};
    snprintf(directory, sizeof directory, "%s/formats/evil/%s", data, name);
    enum llm_status status = try_open(directory, &error);
    if (status != LLM_OK)
        assert_sentence(name, &error);
    if (strcmp(kind, "gguf") == 0 || strcmp(kind, "st") == 0 || strcmp(kind, "hf") == 0) {
        if (strcmp(expect, "reject") == 0)
            ck_assert_msg(status != LLM_OK, "%s was accepted (%s)", name, text_of(row, "reason"));
        if (strncmp(expect, "accept", 6) == 0) {
            ck_assert_msg(status == LLM_OK, "%s: %s", name, error.message);
            assert_golden_tokens(row, directory);
        }
    }
    snprintf(directory, sizeof directory, "%s/formats/evil/st-ok", data);
    ck_assert_msg(try_open(directory, &error) == LLM_OK, "after %s: %s", name, error.message);
}
END_TEST

static const struct {
    const char *folder, *name;
} others[] = {
    {"gemma2", "Gemma2ForCausalLM"},
    {"mixtral", "MixtralForCausalLM"},
};

START_TEST(other_architectures_are_refused_by_name)
{
    char directory[512];
    struct llm_error error;
    snprintf(directory, sizeof directory, "%s/models/arch/%s/hf", data, others[_i].folder);
    ck_assert_int_eq(try_open(directory, &error), LLM_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error.message, others[_i].name));
}
END_TEST

/* One file of the wild under the name that the reader asks for. */
static enum llm_status open_real(void *self, const char *name, int *out_fd, struct llm_error *error)
{
    char path[512];
    if (strcmp(name, "model.safetensors") != 0)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "the model has no file \"%s\"", name);
    snprintf(path, sizeof path, "%s/formats/real/%s", data, (const char *)self);
    *out_fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(*out_fd >= 0, "cannot open %s", path);
    return LLM_OK;
}

START_TEST(files_of_the_wild_are_read_or_refused)
{
    static char good[2][40] = {"candle-mel_filters.safetensors",
                               "candle-jfk-codes-i64.safetensors"};
    static char bad[] = "weight-inspect-tiny-trailing5.safetensors";
    struct safetensors st;
    struct llm_error error = {0};
    for (int i = 0; i < 2; i++) {
        struct model_files files = {.open = open_real, .self = good[i]};
        ck_assert_msg(safetensors_open(&st, &files, &error) == LLM_OK, "%s: %s", good[i],
                      error.message);
        ck_assert_uint_ge(st.tensor_count, 1);
        safetensors_close(&st);
    }
    struct model_files files = {.open = open_real, .self = bad};
    ck_assert_int_eq(safetensors_open(&st, &files, &error), LLM_ERR_CORRUPT);
    ck_assert_str_eq(error.message, "model.safetensors has 5 bytes after its last tensor");
}
END_TEST

int main(void)
{
    data = getenv("LLM_TESTDATA");
    if (data == NULL) {
        printf("skipped: LLM_TESTDATA does not name the test data\n");
        return 77;
    }
    load_manifest();
    printf("%d cases\n", case_count);
    if (case_count == 0) {
        fprintf(stderr, "no cases in %s/formats/evil/manifest.jsonl\n", data);
        return EXIT_FAILURE;
    }
    Suite *suite = suite_create("daemon/hostile_models");
    TCase *tc = tcase_create("hostile");
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, every_lie_ends_in_a_sentence_and_the_next_model_opens, 0, case_count);
    tcase_add_loop_test(tc, other_architectures_are_refused_by_name, 0,
                        (int)(sizeof others / sizeof others[0]));
    tcase_add_test(tc, files_of_the_wild_are_read_or_refused);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    for (int i = 0; i < case_count; i++)
        json_decref(cases[i]);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
