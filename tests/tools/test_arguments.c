/*
 * test_arguments.c - tools/llmctl/arguments: what is understood, and the sentence for what is not.
 */
#include <check.h>
#include <string.h>

#include "tools/llmctl/arguments.h"

static const struct option options[] = {
    {"max-tokens", "N", OPTION_COUNT, offsetof(struct arguments, max_tokens), ""},
    {"temperature", "T", OPTION_REAL, offsetof(struct arguments, temperature), ""},
    {"seed", "N", OPTION_SEED, offsetof(struct arguments, seed), ""},
    {"stop", "TEXT", OPTION_STOP, offsetof(struct arguments, stop_strings), ""},
    {"ids", "IDS", OPTION_IDS, offsetof(struct arguments, prompt_ids), ""},
    {"stats", NULL, OPTION_FLAG, offsetof(struct arguments, stats), ""},
    {0},
};

static struct arguments got;
static struct llm_error error;

#define PARSE(...)                       \
    parse((const char *[]){__VA_ARGS__}, \
          (int)(sizeof(const char *[]){__VA_ARGS__} / sizeof(char *)))

static enum llm_status parse(const char *const *argv, int argc)
{
    got = (struct arguments){0};
    error = (struct llm_error){0};
    return arguments_parse(&got, argc, argv, options, &error);
}

START_TEST(options_stand_anywhere_and_take_their_value_either_way)
{
    ck_assert_int_eq(
        PARSE("--socket=/tmp/s", "Who?", "--max-tokens", "7", "--json", "--temperature=0.5"),
        LLM_OK);
    ck_assert_str_eq(got.socket, "/tmp/s");
    ck_assert_uint_eq(got.max_tokens, 7);
    ck_assert(got.temperature == 0.5f);
    ck_assert(got.json);
    ck_assert(!got.stats);
    ck_assert_int_eq(got.positional_count, 1);
    ck_assert_str_eq(got.positional[0], "Who?");
}
END_TEST

START_TEST(two_dashes_end_the_options)
{
    ck_assert_int_eq(PARSE("--stats", "--", "--json"), LLM_OK);
    ck_assert(got.stats);
    ck_assert(!got.json);
    ck_assert_str_eq(got.positional[0], "--json");
}
END_TEST

START_TEST(seed_zero_is_a_seed)
{
    ck_assert_int_eq(PARSE("--seed", "0"), LLM_OK);
    ck_assert(got.has_seed);
    ck_assert_int_eq(PARSE("--seed", "18446744073709551615"), LLM_OK);
    ck_assert_uint_eq(got.seed, UINT64_MAX);
    ck_assert_int_eq(PARSE("--stats"), LLM_OK);
    ck_assert(!got.has_seed);
}
END_TEST

START_TEST(ids_are_numbers_between_commas)
{
    ck_assert_int_eq(PARSE("--ids", "1,403,4294967295"), LLM_OK);
    ck_assert_uint_eq(got.prompt_id_count, 3);
    ck_assert_uint_eq(got.prompt_ids[1], 403);
    ck_assert_uint_eq(got.prompt_ids[2], UINT32_MAX);
    arguments_close(&got);
    ck_assert_int_eq(PARSE("--ids", "1", "--ids", "2"), LLM_OK); /* the last one counts */
    ck_assert_uint_eq(got.prompt_ids[0], 2);
    arguments_close(&got);
}
END_TEST

START_TEST(modes_are_octal_and_only_for_reading_and_writing)
{
    uint32_t mode = 1;
    struct llm_error why;
    ck_assert_int_eq(arguments_mode("--mode", "0640", &mode, &why), LLM_OK);
    ck_assert_uint_eq(mode, 0640);
    ck_assert_int_eq(arguments_mode("--mode", "666", &mode, &why), LLM_OK);
    static const char *const bad[] = {"", "0", "755", "0999", "0640x", "-1", " 640", "01640", "rw"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        mode = 1;
        ck_assert_int_eq(arguments_mode("--mode", bad[i], &mode, &why), LLM_ERR_INVALID);
        ck_assert_uint_eq(mode, 1);
        ck_assert_ptr_nonnull(strstr(why.message, "like 0640"));
    }
}
END_TEST

START_TEST(durations_have_units)
{
    static const struct {
        const char *text;
        double seconds;
    } good[] = {{"0", 0}, {"90", 90}, {"1.5s", 1.5}, {"10m", 600}, {"2h", 7200}, {"1d", 86400}};
    static const char *const bad[] = {"", "-1", "m", "10 m", "1w", "nan", "inf", "1e99", "soon"};
    uint64_t ns;
    struct llm_error why;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        ck_assert_int_eq(arguments_duration(good[i].text, &ns, &why), LLM_OK);
        ck_assert(ns == (uint64_t)(good[i].seconds * 1e9));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(arguments_duration(bad[i], &ns, &why) == LLM_ERR_INVALID, "%s", bad[i]);
}
END_TEST

START_TEST(a_dash_alone_is_an_argument)
{
    ck_assert_int_eq(PARSE("-"), LLM_OK);
    ck_assert_str_eq(got.positional[0], "-");
}
END_TEST

static const struct {
    const char *first, *second; /* second may be NULL */
    const char *sentence;
} refused[] = {
    {"--max-token", "7", "unknown option --max-token"},
    {"-x", NULL, "unknown option -x"},
    {"--max-tokens", NULL, "--max-tokens needs a value: --max-tokens N"},
    {"--max-tokens", "-1", "--max-tokens takes a whole number up to 4294967295, not \"-1\""},
    {"--max-tokens", "4294967296",
     "--max-tokens takes a whole number up to 4294967295, not \"4294967296\""},
    {"--max-tokens", "7x", "--max-tokens takes a whole number up to 4294967295, not \"7x\""},
    {"--max-tokens", "", "--max-tokens takes a whole number up to 4294967295, not \"\""},
    {"--temperature", "warm", "--temperature takes a number, not \"warm\""},
    {"--timeout", "nan", "--timeout takes seconds, 0 to 1e9, not \"nan\""},
    {"--timeout", "-1", "--timeout takes seconds, 0 to 1e9, not \"-1\""},
    {"--json=yes", NULL, "--json takes no value, but \"yes\" was given"},
    {"--ids", "1,,2", "--ids takes ids like 1,2,3, not \"1,,2\""},
    {"--ids", "1,2,", "--ids takes ids like 1,2,3, not \"1,2,\""},
    {"--ids", "", "--ids takes ids like 1,2,3, not \"\""},
    {"--ids", "4294967296", "--ids takes ids like 1,2,3, not \"4294967296\""},
};

START_TEST(a_wrong_option_is_refused_with_its_name_and_value)
{
    const char *argv[] = {refused[_i].first, refused[_i].second};
    ck_assert_int_eq(parse(argv, refused[_i].second ? 2 : 1), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, refused[_i].sentence);
}
END_TEST

START_TEST(the_ninth_stop_string_is_refused)
{
    const char *argv[2 * (ARGUMENTS_TEXTS_MAX + 1)];
    for (int i = 0; i < 2 * (ARGUMENTS_TEXTS_MAX + 1); i++)
        argv[i] = i % 2 ? "\n" : "--stop";
    ck_assert_int_eq(parse(argv, 2 * ARGUMENTS_TEXTS_MAX), LLM_OK);
    ck_assert_uint_eq(got.stop_string_count, ARGUMENTS_TEXTS_MAX);
    ck_assert_int_eq(parse(argv, 2 * (ARGUMENTS_TEXTS_MAX + 1)), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "--stop can be given at most 8 times");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools/arguments");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, options_stand_anywhere_and_take_their_value_either_way);
    tcase_add_test(tc, two_dashes_end_the_options);
    tcase_add_test(tc, seed_zero_is_a_seed);
    tcase_add_test(tc, ids_are_numbers_between_commas);
    tcase_add_test(tc, modes_are_octal_and_only_for_reading_and_writing);
    tcase_add_test(tc, durations_have_units);
    tcase_add_test(tc, a_dash_alone_is_an_argument);
    tcase_add_loop_test(tc, a_wrong_option_is_refused_with_its_name_and_value, 0,
                        sizeof refused / sizeof refused[0]);
    tcase_add_test(tc, the_ninth_stop_string_is_refused);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
