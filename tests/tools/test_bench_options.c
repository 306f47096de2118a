/*
 * test_bench_options.c - tools/bench/options: what is understood, and the sentence for what is not.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench/bench.h"
#include "tools/bench/options.h"

static struct bench_options got;
static struct llm_error error;

bool bench_interrupted(void)
{
    return false;
}

void bench_child_begins(void)
{
}

static enum llm_status parse(const char *const *argv, int argc)
{
    got = (struct bench_options){.rounds = 5};
    return options_parse(&got, argc, argv, throughput_options, &error);
}

START_TEST(options_take_their_value_either_way)
{
    const char *argv[] = {"--rounds",  "7", "--seconds=0.25", "--fifo", "--reader=spin,look",
                          "--clients", "64"};
    ck_assert_int_eq(parse(argv, 7), LLM_OK);
    ck_assert_uint_eq(got.rounds, 7);
    ck_assert_double_eq(got.seconds, 0.25);
    ck_assert(got.fifo && !got.quick && !got.json);
    ck_assert_str_eq(got.reader, "spin,look");
    ck_assert_uint_eq(got.clients, 64);
}
END_TEST

static const struct {
    const char *first, *second, *sentence;
} refused[] = {
    {"--speed", NULL, "unknown option --speed"},
    {"fast", NULL, "\"fast\" is not an option"},
    {"--rounds", NULL, "--rounds needs a value: N"},
    {"--rounds", "0", "--rounds 0 is out of range 1..1000"},
    {"--rounds", "1.5", "--rounds 1.5 is not a whole number"},
    {"--rounds", "-1", "--rounds -1 is not a whole number"},
    {"--seconds", "soon", "--seconds soon is not a number"},
    {"--seconds", "nan", "--seconds nan is out of range 0.001..3600"},
    {"--fifo=yes", NULL, "--fifo takes no value"},
    {"--json", "--csv", "--json and --csv exclude each other"},
    {"--op", "linear", "unknown option --op"}, /* another verb's */
};

START_TEST(a_wrong_option_is_refused_with_its_name_and_value)
{
    const char *argv[] = {refused[_i].first, refused[_i].second};
    ck_assert_int_eq(parse(argv, argv[1] ? 2 : 1), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, refused[_i].sentence);
}
END_TEST

START_TEST(a_pair_of_processors_is_two_different_numbers)
{
    static const char *const wrong[] = {"",      "0",   "0,",   ",1",     "0,0",
                                        "0,1,2", "a,b", "-1,0", "0,99999"};
    int pair[2] = {-1, -1};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_msg(options_cpu_pair(wrong[i], pair, &error) == LLM_ERR_INVALID, "%s", wrong[i]);
        ck_assert_int_eq(pair[0], -1);
    }
    ck_assert_int_eq(options_cpu_pair("3,1", pair, &error), LLM_OK);
    ck_assert_int_eq(pair[0], 3);
    ck_assert_int_eq(pair[1], 1);
}
END_TEST

/* Each verb's defaults must lie in the ranges that its options state. */
START_TEST(every_verb_can_run_without_options)
{
    for (const struct bench_verb *verb = bench_verbs; verb->name; verb++) {
        ck_assert_msg(verb->initial.rounds > 0 && verb->initial.seconds > 0, "%s", verb->name);
        for (const struct option_row *row = verb->options; row->name; row++)
            ck_assert_msg(row->sentence && (row->kind == OPTION_FLAG) == (row->value == NULL) &&
                              row->least <= row->most,
                          "%s --%s", verb->name, row->name);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools/bench_options");
    TCase *tcase = tcase_create("options");
    tcase_add_test(tcase, options_take_their_value_either_way);
    tcase_add_loop_test(tcase, a_wrong_option_is_refused_with_its_name_and_value, 0,
                        sizeof refused / sizeof refused[0]);
    tcase_add_test(tcase, a_pair_of_processors_is_two_different_numbers);
    tcase_add_test(tcase, every_verb_can_run_without_options);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
