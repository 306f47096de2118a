/*
 * test_template_vectors.c - client/text/jinja against what jinja2 made of the same templates.
 * How: each row of the test data's chat folder is rendered and compared byte by byte; where the reference raised, the
 * sentence must be there. Says how many cases ran. Needs LLM_TESTDATA.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/text/jinja/json_read.h"
#include "client/text/jinja/render.h"
#include "tests/support/vocab_fixture.h"

/* Rows are read by the reader that renderings use: some have zero bytes in their keys, which others refuse. */
typedef struct jinja_value row_t;

static struct jinja_run reading;

static const struct jinja_value *member(row_t row, const char *name)
{
    const struct jinja_entry *entry = llm_jinja_find_text(&reading, row.dict, name);
    return entry ? &entry->value : NULL;
}

/* Terminated, for as long as the row's arena; NULL: no such member, or no string (two rows have templates of null). */
static const char *text_of(row_t row, const char *name, size_t *out_bytes)
{
    const struct jinja_value *v = member(row, name);
    if (!v || v->kind != JINJA_STRING)
        return NULL;
    char *text = llm_jinja_take(&reading, v->string->count + 1);
    memcpy(text, v->string->bytes, v->string->count);
    text[v->string->count] = 0;
    *out_bytes = v->string->count;
    return text;
}

static unsigned row_count, equal_count, raised_count, free_count, failed_count;

static char *read_file(const char *path)
{
    FILE *file = fopen(testdata(path), "rb");
    ck_assert_msg(file != NULL, "cannot open %s", path);
    char *text = malloc(1 << 20);
    size_t bytes = fread(text, 1, (1 << 20) - 1, file);
    text[bytes] = 0;
    fclose(file);
    return text;
}

/* "2025-07-10T12:00:00" as seconds since 1970. */
static int64_t seconds_of(const char *text)
{
    struct tm tm = {0};
    ck_assert_int_eq(sscanf(text, "%d-%d-%dT%d:%d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
                            &tm.tm_hour, &tm.tm_min, &tm.tm_sec),
                     6);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return (int64_t)timegm(&tm);
}

static enum llm_status render(row_t row, struct llm_buffer *out, llm_error *error)
{
    size_t bytes;
    const char *file = text_of(row, "template_file", &bytes), *now = text_of(row, "now", &bytes);
    const struct jinja_value *variables = member(row, "variables");
    char path[256];
    snprintf(path, sizeof path, "chat/%s", file ? file : "");
    char *from_file = file ? read_file(path) : NULL;
    const char *text = file ? from_file : text_of(row, "template", &bytes);

    if (!text)
        return llm_fail(error, LLM_ERR_INVALID, "the row has no template");
    llm_template *t = NULL;
    enum llm_status status = llm_template_open(text, file ? strlen(text) : bytes, &t, error);
    if (status == LLM_OK) {
        struct jinja_arena arena;
        struct jinja_run run;
        llm_jinja_run_init(&run, &arena, t, error);
        run.variables = variables ? *variables : *member(row, "context");
        run.now_given = now != NULL;
        run.now_s = now ? seconds_of(now) : 0;
        status = llm_jinja_render(&run, t, out);
        llm_jinja_arena_close(&arena);
    }
    llm_template_close(t);
    free(from_file);
    return status;
}

static size_t first_difference(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t i = 0;
    while (i < a_bytes && i < b_bytes && a[i] == b[i])
        i++;
    return i > 40 ? i - 40 : 0;
}

static void fail_row(row_t row, const char *sentence)
{
    size_t bytes;
    failed_count++;
    printf("FAILED %s: %s\n", text_of(row, "id", &bytes), sentence);
}

static void check_row(row_t row)
{
    struct llm_buffer out = {0};
    llm_error error = {0};
    char sentence[700];
    enum llm_status status = render(row, &out, &error);
    size_t want_bytes;
    const char *want = text_of(row, "expected", &want_bytes);
    const char *raises = want ? NULL : text_of(row, "raises", &want_bytes);
    row_count++;
    if (want) {
        equal_count++;
        size_t at = first_difference((char *)out.bytes, out.count, want, want_bytes);
        snprintf(sentence, sizeof sentence, "%s; got ...%.*s..., want ...%.*s...", error.message,
                 (int)(out.count - at < 120 ? out.count - at : 120), (char *)out.bytes + at,
                 (int)(want_bytes - at < 120 ? want_bytes - at : 120), want + at);
        if (status != LLM_OK || out.count != want_bytes ||
            (want_bytes > 0 && memcmp(out.bytes, want, want_bytes) != 0))
            fail_row(row, sentence);
    } else if (raises) {
        raised_count++;
        snprintf(sentence, sizeof sentence, "\"%s\" does not say \"%s\"", error.message, raises);
        if (status != LLM_ERR_INVALID || !strstr(error.message, raises))
            fail_row(row, sentence);
    } else {
        ck_assert(member(row, "error") != NULL);
        free_count++;
        if (status != LLM_OK && !error.message[0])
            fail_row(row, "a failure without a sentence");
    }
    llm_buffer_close(&out);
}

static const struct {
    const char *file;
    unsigned rows; /* at least */
} files[] = {{"chat/goldens.jsonl", 714},
             {"chat/jinja-engine.jsonl", 265},
             {"chat/hf-e2e.jsonl", 35},
             {"chat/llamacpp-templates.jsonl", 19}};

START_TEST(every_row_renders_as_the_reference_does)
{
    FILE *file = fopen(testdata(files[_i].file), "r");
    ck_assert_msg(file != NULL, "cannot open %s", files[_i].file);
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) > 0) {
        struct jinja_arena arena = {.limit_bytes = 64 << 20};
        llm_error error = {0};
        reading = (struct jinja_run){.arena = &arena, .steps_left = 10000000, .error = &error};
        row_t row = llm_jinja_read_json(&reading, line, strlen(line), "row");
        ck_assert_msg(row.kind == JINJA_DICT, "%s row %u: %s", files[_i].file, row_count + 1,
                      error.message);
        check_row(row);
        llm_jinja_arena_close(&arena);
    }
    free(line);
    fclose(file);
    printf("%s: %u rows: %u texts, %u raised sentences, %u free failures; %u failed\n",
           files[_i].file, row_count, equal_count, raised_count, free_count, failed_count);
    fflush(stdout); /* the test's process ends without it when it fails */
    ck_assert_uint_ge(row_count, files[_i].rows);
    ck_assert_uint_eq(failed_count, 0);
}
END_TEST

int main(void)
{
    (void)testdata(""); /* or skip, before anything is forked */
    Suite *suite = suite_create("client/template_vectors");
    TCase *rows = tcase_create("rows");
    tcase_set_timeout(rows, 60);
    tcase_add_loop_test(rows, every_row_renders_as_the_reference_does, 0,
                        (int)(sizeof files / sizeof *files));
    suite_add_tcase(suite, rows);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
