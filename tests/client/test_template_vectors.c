/*
 * test_template_vectors.c - client/text/jinja against what jinja2 made of the same templates.
 * How: each row of the test data's chat folder is rendered and compared byte by byte; where the reference raised, the
 * sentence must be there. Says how many cases ran. Needs LLM_TESTDATA.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/template_rows.h"
#include "tests/support/vocab_fixture.h"

static const struct {
    const char *file;
    unsigned rows; /* at least */
} files[] = {{"goldens", 714}, {"jinja-engine", 265}, {"hf-e2e", 35}, {"llamacpp-templates", 19}};

START_TEST(every_row_renders_as_the_reference_does)
{
    char folder[400], path[512];
    snprintf(folder, sizeof folder, "%s", testdata("chat"));
    snprintf(path, sizeof path, "%s/%s.jsonl", folder, files[_i].file);
    struct template_row_counts counts = template_rows_check(path, folder, false);
    ck_assert_uint_ge(counts.rows, files[_i].rows);
    ck_assert_uint_eq(counts.wrong, 0);
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
