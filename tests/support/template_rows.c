#include "tests/support/template_rows.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/text/jinja/json_read.h"
#include "client/text/jinja/render.h"

typedef struct jinja_value row_t;

static struct jinja_run reading;
static const char *rows_folder;
static struct template_row_counts counts;

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

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
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
    char path[512];
    snprintf(path, sizeof path, "%s/%s", rows_folder, file ? file : "");
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
    const char *id = text_of(row, "id", &bytes);
    counts.wrong++;
    printf("FAILED %s: %s\n", id ? id : text_of(row, "template", &bytes), sentence);
}

static void check_row(row_t row, bool strict)
{
    struct llm_buffer out = {0};
    llm_error error = {0};
    char sentence[700];
    enum llm_status status = render(row, &out, &error);
    size_t want_bytes;
    const char *want = text_of(row, "expected", &want_bytes);
    const char *raises = want ? NULL : text_of(row, "raises", &want_bytes);
    counts.rows++;
    if (want) {
        counts.texts++;
        size_t at = first_difference((char *)out.bytes, out.count, want, want_bytes);
        snprintf(sentence, sizeof sentence, "%s; got ...%.*s..., want ...%.*s...", error.message,
                 (int)(out.count - at < 120 ? out.count - at : 120), (char *)out.bytes + at,
                 (int)(want_bytes - at < 120 ? want_bytes - at : 120), want + at);
        if (status != LLM_OK || out.count != want_bytes ||
            (want_bytes > 0 && memcmp(out.bytes, want, want_bytes) != 0))
            fail_row(row, sentence);
    } else if (raises) {
        counts.sentences++;
        snprintf(sentence, sizeof sentence, "\"%s\" does not say \"%s\"", error.message, raises);
        if (status != LLM_ERR_INVALID || !strstr(error.message, raises))
            fail_row(row, sentence);
    } else {
        ck_assert(member(row, "error") != NULL);
        counts.failures++;
        if (status != LLM_OK && !error.message[0])
            fail_row(row, "a failure without a sentence");
        if (status == LLM_OK && strict)
            fail_row(row, "renders, though the reference fails");
    }
    llm_buffer_close(&out);
}

struct template_row_counts template_rows_check(const char *path, const char *folder, bool strict)
{
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "cannot open %s", path);
    rows_folder = folder;
    counts = (struct template_row_counts){0};
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) > 0) {
        struct jinja_arena arena = {.limit_bytes = 64 << 20};
        llm_error error = {0};
        reading = (struct jinja_run){.arena = &arena, .steps_left = 10000000, .error = &error};
        row_t row = llm_jinja_read_json(&reading, line, strlen(line), "row");
        ck_assert_msg(row.kind == JINJA_DICT, "%s row %u: %s", path, counts.rows + 1,
                      error.message);
        if (!member(row, "made_with"))
            check_row(row, strict);
        llm_jinja_arena_close(&arena);
    }
    free(line);
    fclose(file);
    printf("%s: %u rows: %u texts, %u raised sentences, %u other failures; %u wrong\n", path,
           counts.rows, counts.texts, counts.sentences, counts.failures, counts.wrong);
    fflush(stdout); /* a failing test's process ends without it */
    return counts;
}
