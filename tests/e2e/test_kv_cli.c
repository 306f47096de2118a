/*
 * test_kv_cli.c - llmctl kv probe and kv why, ctx pin and score, against a real daemon with the built-in model.
 * How: as test_ctx_cli.c. What is cached is what an earlier command computed: a pinned note, or a prompt.
 */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/command.h"
#include "tests/support/daemon.h"

static struct test_daemon served;
static char out[65536];
#define RUN(...) run_command(out, sizeof out, __VA_ARGS__)
#define NOTE                                                                                      \
    "Mara keeps the copper key. Ivo lent Tam a blue lantern. The small boat is behind the mill. " \
    "Tam has seven goats."

static void start(void)
{
    test_daemon_start(&served, (const char *const[]){"--model", "tinynotes", NULL});
    setenv("LLMD_SOCKET", served.socket, 1);
}

static void stop(void)
{
    test_daemon_stop(&served);
}

#define ASSERT_SAYS(text) \
    ck_assert_msg(strstr(out, (text)) != NULL, "no \"%s\" in: %s", (text), out)
#define ASSERT_SAYS_NOT(text) \
    ck_assert_msg(strstr(out, (text)) == NULL, "\"%s\" in: %s", (text), out)

START_TEST(nothing_is_found_where_nothing_was_computed)
{
    ck_assert_int_eq(RUN("llmctl kv why '%s'", NOTE), 0);
    ASSERT_SAYS("miss");
    ASSERT_SAYS("never computed, or evicted");
    ASSERT_SAYS("\n0 of ");
    ck_assert_int_eq(RUN("llmctl ctx create team/notes --text '%s'", NOTE), 0);
    ck_assert_int_eq(RUN("llmctl kv why '%s'", NOTE), 0); /* appended, not computed */
    ASSERT_SAYS("\n0 of ");
}
END_TEST

START_TEST(why_names_the_context_its_domain_and_the_first_difference)
{
    ck_assert_int_eq(RUN("llmctl ctx create team/notes --pin --text '%s'", NOTE), 0);
    ck_assert_int_eq(RUN("llmctl kv why '%s'", "Mara keeps the copper key. Ivo lent Tam a blue "
                                               "lantern. The small boat is behind the mill. "
                                               "Tam has eight goats."),
                     0);
    ASSERT_SAYS("tokens 0..15");
    ASSERT_SAYS("hit      team/notes (private to user ");
    ASSERT_SAYS("first difference at ");
    ASSERT_SAYS("cached \" seven\" here \" eight\"");
    ASSERT_SAYS(" tokens need not be computed\n");
    ASSERT_SAYS_NOT("\n0 of ");
}
END_TEST

START_TEST(what_is_published_for_a_group_with_a_pin_is_shared_with_the_group)
{
    ck_assert_int_eq(RUN("llmctl ctx create team/notes --pin --mode 0640 --text '%s'", NOTE), 0);
    ck_assert_int_eq(RUN("llmctl kv why '%s'", NOTE), 0);
    ASSERT_SAYS("hit      team/notes (readable by group ");
    ck_assert_int_eq(RUN("llmctl ctx create all/notes --pin --mode 0644 --text 'Once %s'", NOTE),
                     0);
    ck_assert_int_eq(RUN("llmctl kv why 'Once %s'", NOTE), 0);
    ASSERT_SAYS("hit      all/notes (readable by all)");
}
END_TEST

START_TEST(probe_is_a_table_or_json_of_spans_without_gaps)
{
    json_error_t error;
    json_t *span;
    size_t i;
    long long end = 0;
    ck_assert_int_eq(RUN("llmctl generate --max-tokens 1 '%s' && llmctl kv probe '%s'", NOTE, NOTE),
                     0);
    ASSERT_SAYS("FROM  TO  TOKENS  WHAT  DOMAIN");
    ASSERT_SAYS("hit   private to user ");
    ck_assert_int_eq(RUN("llmctl kv probe --json '%s and more'", NOTE), 0);
    json_t *read = json_loads(out, 0, &error);
    ck_assert_msg(read != NULL, "%s in %s", error.text, out);
    ck_assert_uint_ge(json_array_size(read), 2);
    json_array_foreach(read, i, span)
    {
        ck_assert_int_eq(json_integer_value(json_object_get(span, "from")), end);
        end = json_integer_value(json_object_get(span, "to"));
    }
    json_decref(read);
    ck_assert_int_eq(RUN("llmctl kv why --json '%s'", NOTE), 0);
    read = json_loads(out, 0, &error);
    ck_assert_msg(read != NULL, "%s in %s", error.text, out);
    json_decref(read);
    ck_assert_int_eq(RUN("llmctl kv probe --ids 1,2,3"), 0);
    ck_assert_int_eq(RUN("llmctl kv probe 2>&1"), 2);
    ck_assert_int_eq(RUN("llmctl kv why x --model nobody 2>&1"), 1);
    ASSERT_SAYS("nobody");
}
END_TEST

START_TEST(a_pin_is_shown_and_given_back)
{
    ck_assert_int_eq(RUN("llmctl ctx create team/notes --text '%s' && llmctl ctx pin team/notes "
                         "&& llmctl ctx show team/notes",
                         NOTE),
                     0);
    ASSERT_SAYS("pinned    ");
    ck_assert_int_eq(RUN("llmctl ctx ls"), 0);
    ASSERT_SAYS("  *  ");
    ck_assert_int_eq(RUN("llmctl ctx unpin team/notes && llmctl ctx show team/notes"), 0);
    ASSERT_SAYS_NOT("pinned    ");
    ck_assert_int_eq(RUN("llmctl ctx pin nobody 2>&1"), 1);
}
END_TEST

START_TEST(likely_words_score_higher_than_unlikely_ones)
{
    double likely, unlikely;
    json_error_t error;
    ck_assert_int_eq(RUN("llmctl ctx create team/notes --text '%s'", NOTE), 0);
    ck_assert_int_eq(RUN("llmctl ctx score team/notes ' Tam' --json"), 0);
    json_t *read = json_loads(out, 0, &error);
    ck_assert_msg(read != NULL, "%s in %s", error.text, out);
    likely = json_real_value(json_object_get(read, "logprob"));
    json_decref(read);
    ck_assert_int_eq(RUN("llmctl ctx score team/notes ' key lantern mill' --json"), 0);
    read = json_loads(out, 0, &error);
    unlikely = json_real_value(json_object_get(read, "logprob"));
    json_decref(read);
    ck_assert(likely < 0 && unlikely < likely);
    ck_assert_int_eq(RUN("llmctl ctx score team/notes ' Tam'"), 0);
    ASSERT_SAYS("log-probability -");
    ASSERT_SAYS("perplexity ");
    ck_assert_int_eq(RUN("llmctl ctx score team/notes 2>&1"), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/kv_cli");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, nothing_is_found_where_nothing_was_computed);
    tcase_add_test(tc, why_names_the_context_its_domain_and_the_first_difference);
    tcase_add_test(tc, what_is_published_for_a_group_with_a_pin_is_shared_with_the_group);
    tcase_add_test(tc, probe_is_a_table_or_json_of_spans_without_gaps);
    tcase_add_test(tc, a_pin_is_shown_and_given_back);
    tcase_add_test(tc, likely_words_score_higher_than_unlikely_ones);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
