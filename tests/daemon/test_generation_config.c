/*
 * test_generation_config.c - daemon/model/generation_config: what a checkpoint's authors may recommend.
 * How: a table of files as people publish them, each with the values that must come out or the sentence.
 */
#include "daemon/model/generation_config.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
    struct llm_in_force want; /* without a sentence */
    const char *sentence;     /* NULL: accepted */
} files[] = {
    {"{}", {0, 0, 1, 0, 1, 1, {0}}, NULL},
    {"{\"do_sample\": false, \"temperature\": 0.6, \"top_p\": 0.9}",
     {0, 0, 0.9F, 0, 1, 1, {0}},
     NULL},
    {"{\"temperature\": 0.9, \"top_p\": 0.6}", {0, 0, 0.6F, 0, 1, 1, {0}}, NULL},
    {"{\"do_sample\": true}", {1, 0, 1, 0, 1, 1, {0}}, NULL},
    {"{\"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.9, \"eos_token_id\": [1, 2]}",
     {0.6F, 0, 0.9F, 0, 1, 1, {0}},
     NULL},
    {"{\"do_sample\": true, \"temperature\": 0.7, \"top_p\": 0.8, \"top_k\": 20, "
     "\"repetition_penalty\": 1.05, \"min_p\": 0.02, \"typical_p\": 0.95}",
     {0.7F, 20, 0.8F, 0.02F, 0.95F, 1.05F, {0}},
     NULL},
    {"{\"do_sample\": true, \"temperature\": null, \"top_k\": null, \"top_p\": null}",
     {1, 0, 1, 0, 1, 1, {0}},
     NULL},
    {"{\"do_sample\": true, \"top_k\": -1, \"temperature\": 0}", {0, 0, 1, 0, 1, 1, {0}}, NULL},
    {"{\"do_sample\": 1}", {.top_k = 0}, "f: \"do_sample\" is neither true nor false"},
    {"{\"temperature\": \"hot\"}", {.top_k = 0}, "f: \"temperature\" is not a number"},
    {"{\"temperature\": -1}", {.top_k = 0}, "f: \"temperature\" is -1; it must be 0..100"},
    {"{\"temperature\": 1e300}", {.top_k = 0}, "f: \"temperature\" is 1e+300; it must be 0..100"},
    {"{\"top_p\": 0}", {.top_k = 0}, "f: \"top_p\" is 0; it must be 1e-06..1"},
    {"{\"top_p\": 1.5}", {.top_k = 0}, "f: \"top_p\" is 1.5; it must be 1e-06..1"},
    {"{\"min_p\": -0.1}", {.top_k = 0}, "f: \"min_p\" is -0.1; it must be 0..1"},
    {"{\"typical_p\": 2}", {.top_k = 0}, "f: \"typical_p\" is 2; it must be 1e-06..1"},
    {"{\"repetition_penalty\": 0}",
     {.top_k = 0},
     "f: \"repetition_penalty\" is 0; it must be 0.01..100"},
    {"{\"top_k\": 2.5}", {.top_k = 0}, "f: \"top_k\" is not an integer"},
    {"{\"top_k\": -2}", {.top_k = 0}, "f: \"top_k\" is -2; it must be -1..2147483647"},
    {"{\"top_k\": 4294967296}",
     {.top_k = 0},
     "f: \"top_k\" is 4294967296; it must be -1..2147483647"},
};

START_TEST(each_file_says_what_it_says)
{
    json_t *root = json_loads(files[_i].text, 0, NULL);
    struct llm_in_force got = {.temperature = 42};
    struct llm_error error = {.message = ""};
    ck_assert_ptr_nonnull(root);
    enum llm_status status = generation_defaults_read(root, "f", &got, &error);
    json_decref(root);
    ck_assert_str_eq(error.message, files[_i].sentence ? files[_i].sentence : "");
    ck_assert_int_eq(status, files[_i].sentence ? LLM_ERR_INVALID : LLM_OK);
    if (files[_i].sentence)
        ck_assert(fabsf(got.temperature - 42) <= 0); /* out-parameters survive a failure */
    else
        ck_assert_mem_eq(&got, &files[_i].want, sizeof got);
}
END_TEST

START_TEST(nothing_said_is_greedy)
{
    const struct llm_in_force want = {0, 0, 1, 0, 1, 1, {0}}, got = generation_defaults_none();
    ck_assert_mem_eq(&got, &want, sizeof got);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/generation_config");
    TCase *tcase = tcase_create("files");
    tcase_add_loop_test(tcase, each_file_says_what_it_says, 0,
                        (int)(sizeof files / sizeof files[0]));
    tcase_add_test(tcase, nothing_said_is_greedy);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
