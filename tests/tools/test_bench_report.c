/*
 * test_bench_report.c - tools/bench/report: the same cells as a table, as JSON and as CSV.
 * How: each test writes into memory; JSON is read back by jansson (not ours).
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench/report.h"

static const struct report_column columns[] = {
    {"name", "name", "", REPORT_TEXT},
    {"time", "time", "us", REPORT_REAL},
    {"quiet", NULL, "1/s", REPORT_REAL}, /* for programs only */
    {"count", "count", "", REPORT_COUNT},
};
static const struct machine machine = {.cpu = "A \"CPU\"", .commit = "abc", .pair = {0, 1}};
static struct report report;
static char *text;
static size_t text_bytes;

static const char *written_as(const struct bench_options *options)
{
    free(text);
    FILE *file = open_memstream(&text, &text_bytes);
    report_write(&report, &machine, options, file);
    fclose(file);
    return text;
}

static void setup(void)
{
    report_init(&report, "ipc", columns, 4);
    report_text(&report, "plain");
    report_real(&report, 12345.678);
    report_real(&report, 0.5);
    report_count(&report, UINT64_C(1234567));
    report_text(&report, "comma, \"quote\"\nand line");
    report_real(&report, (double)NAN);
    report_real(&report, (double)NAN);
    report_count(&report, 0);
    report_set_number(&report, "rounds", 5);
    report_set_text(&report, "daemon", "private");
    report_note(&report, "a note of %d", 1);
}

static void teardown(void)
{
    report_close(&report);
    free(text);
    text = NULL;
}

START_TEST(numbers_for_people_have_three_digits_that_count)
{
    static const struct {
        double value;
        const char *shown;
    } rows[] = {{0, "0"},        {0.03125, "0.0312"}, {0.5, "0.50"},
                {1.234, "1.23"}, {45.67, "45.7"},     {99.96, "100"},
                {789.4, "789"},  {9999.4, "9999"},    {12345.6, "12 346"},
                {-2.5, "-2.50"}, {-12345, "-12 345"}};
    char out[REPORT_CELL_BYTES];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        report_format_real(rows[i].value, out);
        ck_assert_str_eq(out, rows[i].shown);
    }
    report_format_real((double)NAN, out);
    ck_assert_str_eq(out, "-");
}
END_TEST

START_TEST(a_table_has_the_machine_aligned_columns_and_the_notes)
{
    const char *got = written_as(&(struct bench_options){0});
    ck_assert_ptr_nonnull(strstr(got, "A \"CPU\""));
    ck_assert_ptr_nonnull(strstr(got, "commit abc"));
    ck_assert_ptr_nonnull(strstr(got, "llm-bench ipc, rounds 5, daemon private\n"));
    ck_assert_ptr_nonnull(strstr(got, "plain"));
    ck_assert_ptr_nonnull(strstr(got, "12 346"));
    ck_assert_ptr_nonnull(strstr(got, "1 234 567"));
    ck_assert_ptr_nonnull(strstr(got, "a note of 1\n"));
    ck_assert_ptr_null(strstr(got, "quiet"));
}
END_TEST

START_TEST(json_has_every_column_and_null_for_what_was_not_measured)
{
    json_error_t error;
    json_t *root = json_loads(written_as(&(struct bench_options){.json = true}), 0, &error);
    ck_assert_msg(root != NULL, "%s in %s", error.text, text);
    const char *schema, *verb, *cpu, *unit, *name, *daemon;
    double time, quiet, rounds;
    json_int_t count;
    ck_assert_msg(
        json_unpack_ex(root, &error, 0,
                       "{s:s, s:s, s:{s:s}, s:{s:F, s:s}, s:{s:s}, s:[{s:s, s:F, s:F, s:I}, o]}",
                       "schema", &schema, "verb", &verb, "machine", "cpu", &cpu, "settings",
                       "rounds", &rounds, "daemon", &daemon, "units", "time", &unit, "rows", "name",
                       &name, "time", &time, "quiet", &quiet, "count", &count,
                       &(json_t *){NULL}) == 0,
        "%s in %s", error.text, text);
    ck_assert_str_eq(schema, REPORT_SCHEMA);
    ck_assert_str_eq(verb, "ipc");
    ck_assert_str_eq(cpu, "A \"CPU\"");
    ck_assert_str_eq(unit, "us");
    ck_assert_str_eq(daemon, "private");
    ck_assert_double_eq(rounds, 5);
    ck_assert_double_eq_tol(time, 12345.678, 1e-3);
    ck_assert_double_eq(quiet, 0.5);
    ck_assert_int_eq(count, 1234567);
    json_t *second = json_array_get(json_object_get(root, "rows"), 1);
    ck_assert(json_is_null(json_object_get(second, "time")));
    ck_assert_str_eq(json_string_value(json_object_get(second, "name")),
                     "comma, \"quote\"\nand line");
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(root, "notes"), 0)),
                     "a note of 1");
    json_decref(root);
}
END_TEST

START_TEST(csv_quotes_what_has_to_be_quoted)
{
    const char *got = written_as(&(struct bench_options){.csv = true});
    ck_assert_str_eq(got, "name,time,quiet,count\r\n"
                          "plain,12345.678,0.5,1234567\r\n"
                          "\"comma, \"\"quote\"\"\nand line\",,,0\r\n");
}
END_TEST

START_TEST(a_cell_of_the_wrong_kind_stops_the_program)
{
    report_real(&report, 1); /* the next column is a text */
}
END_TEST

START_TEST(a_row_that_is_not_full_is_not_written)
{
    report_text(&report, "half");
    written_as(&(struct bench_options){0});
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools/bench_report");
    TCase *tcase = tcase_create("report");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, numbers_for_people_have_three_digits_that_count);
    tcase_add_test(tcase, a_table_has_the_machine_aligned_columns_and_the_notes);
    tcase_add_test(tcase, json_has_every_column_and_null_for_what_was_not_measured);
    tcase_add_test(tcase, csv_quotes_what_has_to_be_quoted);
    tcase_add_test_raise_signal(tcase, a_cell_of_the_wrong_kind_stops_the_program, SIGABRT);
    tcase_add_test_raise_signal(tcase, a_row_that_is_not_full_is_not_written, SIGABRT);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
