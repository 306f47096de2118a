/*
 * test_ctx_cli.c - llmctl ctx against a real daemon with the built-in model: what it makes, prints and refuses.
 * How: as test_llmctl.c: commands run through the shell, as an operator types them; what a command shall have done is then
 * looked at through another one, or through the library.
 */
#include <check.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/text.h"
#include "tests/support/command.h"
#include "tests/support/daemon.h"

static struct test_daemon served;
static char out[65536];
#define RUN(...) run_command(out, sizeof out, __VA_ARGS__)
#define NOTE     "Mara keeps the copper key. Ivo lent Tam a blue lantern."

static void start(void)
{
    test_daemon_start(&served, (const char *const[]){"--model", "tinynotes", NULL});
    setenv("LLMD_SOCKET", served.socket, 1);
    ck_assert_int_eq(RUN("llmctl ctx create team/notes --mode 0640 --text '%s'", NOTE), 0);
}

static void stop(void)
{
    RUN("rm -f %s/note", served.directory);
    test_daemon_stop(&served);
}

#define ASSERT_SAYS(text) \
    ck_assert_msg(strstr(out, (text)) != NULL, "no \"%s\" in: %s", (text), out)
#define ASSERT_SAYS_NOT(text) \
    ck_assert_msg(strstr(out, (text)) == NULL, "\"%s\" in: %s", (text), out)

static long long number_of(const char *context, const char *name)
{
    json_error_t error;
    ck_assert_msg(RUN("llmctl ctx show '%s' --json", context) == 0, "%s", out);
    json_t *read = json_loads(out, 0, &error);
    ck_assert_msg(read != NULL, "%s in %s", error.text, out);
    json_t *value = json_object_get(read, name);
    ck_assert_msg(value != NULL, "no %s in %s", name, out);
    long long number = json_is_string(value) ? strtoll(json_string_value(value), NULL, 10)
                                             : json_integer_value(value);
    json_decref(read);
    return number;
}

/* ---- Looking ----------------------------------------------------------------------------------------- */

START_TEST(ls_is_a_table_of_what_there_is)
{
    ck_assert_int_eq(RUN("llmctl ctx ls"), 0);
    ASSERT_SAYS("NAME        MODEL      OWNER");
    ASSERT_SAYS("TOKENS  BLOCKS  SHARED  PIN  LAST USED");
    ASSERT_SAYS("team/notes  tinynotes");
    ASSERT_SAYS("  0640  ");
    ck_assert_int_eq(RUN("llmctl ctx show team/notes"), 0);
    ASSERT_SAYS("context   team/notes  #");
    ASSERT_SAYS("published");
    ASSERT_SAYS("mode 0640  you may read and write");
}
END_TEST

START_TEST(cat_prints_the_text_or_the_ids)
{
    ck_assert_int_eq(RUN("llmctl ctx cat team/notes"), 0);
    ck_assert_str_eq(out, NOTE "\n");
    long long tokens = number_of("team/notes", "tokens");
    ck_assert_int_eq(RUN("llmctl ctx cat team/notes --tokens | wc -l"), 0);
    ck_assert_int_eq(atoll(out), tokens);
    ck_assert_int_eq(RUN("llmctl ctx create empty && llmctl ctx cat empty"), 0);
    ck_assert_str_eq(out, "created\n\n");
}
END_TEST

START_TEST(every_list_is_json_when_asked)
{
    static const char *const verbs[] = {"ls",
                                        "tree",
                                        "show team/notes",
                                        "cat team/notes",
                                        "cat team/notes --tokens",
                                        "create other --text x",
                                        "fork team/notes third",
                                        "rename third fourth",
                                        "chmod fourth 0600",
                                        "lease fourth 10m",
                                        "rewind fourth 2",
                                        "append fourth ' and'",
                                        "ask fourth Once --max-tokens 2",
                                        "rm fourth"};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        json_error_t error;
        ck_assert_msg(RUN("llmctl ctx %s --json", verbs[i]) == 0, "ctx %s: %s", verbs[i], out);
        json_t *read = json_loads(out, 0, &error);
        ck_assert_msg(read != NULL, "ctx %s: %s in %s", verbs[i], error.text, out);
        json_decref(read);
    }
}
END_TEST

START_TEST(the_tree_shows_who_was_forked_from_whom)
{
    ck_assert_int_eq(RUN("llmctl ctx fork team/notes a && llmctl ctx fork team/notes b && "
                         "llmctl ctx fork a a/1 && llmctl ctx fork a/1 a/2 && "
                         "llmctl ctx create other"),
                     0);
    ck_assert_int_eq(RUN("llmctl ctx tree | sed 's/  [0-9].*//'"), 0);
    ck_assert_str_eq(out, "other\n"
                          "team/notes\n"
                          "|- a\n"
                          "|  `- a/1\n"
                          "|     `- a/2\n"
                          "`- b\n");
    ck_assert_int_eq(RUN("llmctl ctx rm a/1 && llmctl ctx tree | sed 's/  [0-9].*//'"), 0);
    ASSERT_SAYS("\na/2\n"); /* its parent is gone: a root of its own */
}
END_TEST

/* ---- Making and changing ----------------------------------------------------------------------------- */

START_TEST(text_comes_from_an_argument_an_option_a_file_or_stdin)
{
    ck_assert_int_eq(RUN("printf ' Tam has seven goats.' >%s/note", served.directory), 0);
    ck_assert_int_eq(RUN("llmctl ctx create f --file %s/note", served.directory), 0);
    ck_assert_int_eq(RUN("llmctl ctx append f ' The mill opens at noon.'"), 0);
    ck_assert_int_eq(RUN("printf ' Ivo is the baker.' | llmctl ctx append f --file -"), 0);
    ck_assert_int_eq(RUN("llmctl ctx cat f"), 0);
    ASSERT_SAYS("Tam has seven goats. The mill opens at noon. Ivo is the baker.\n");
    ck_assert_int_eq(RUN("llmctl ctx create ids --ids 5,6,7 && llmctl ctx cat ids --tokens"), 0);
    ck_assert_str_eq(out, "created\n5\n6\n7\n");
    ck_assert_int_eq(RUN("llmctl ctx append f x --text y 2>&1"), 2);
    ASSERT_SAYS("say in one way what is meant");
    ck_assert_int_eq(RUN("llmctl ctx append f 2>&1"), 2);
    ck_assert_int_eq(RUN("llmctl ctx create g --file /nonexistent/note 2>&1"), 1);
    ASSERT_SAYS("cannot open /nonexistent/note");
    ck_assert_int_eq(RUN("llmctl ctx show g 2>&1"), 1); /* nothing half made is left */
}
END_TEST

START_TEST(rewind_drops_the_end)
{
    ck_assert_int_eq(RUN("llmctl ctx create ids --ids 5,6,7 && llmctl ctx rewind ids 2 && "
                         "llmctl ctx cat ids --tokens"),
                     0);
    ck_assert_str_eq(out, "created\nrewound\n5\n6\n");
    ck_assert_int_eq(RUN("llmctl ctx rewind ids 3 2>&1"), 1);
    ck_assert_int_eq(RUN("llmctl ctx rewind ids some 2>&1"), 2);
    ASSERT_SAYS("rewind takes a number of tokens, not \"some\"");
}
END_TEST

START_TEST(names_modes_and_groups_are_changed)
{
    long long id = number_of("team/notes", "id");
    ck_assert_int_eq(RUN("llmctl ctx rename team/notes team/memo"), 0);
    ck_assert_int_eq(number_of("team/memo", "id"), id);
    ck_assert_int_eq(RUN("llmctl ctx show team/notes 2>&1"), 1);
    ck_assert_int_eq(RUN("llmctl ctx show team/memo"), 0);
    ASSERT_SAYS("mode 0640"); /* a new name changes no rights */
    ck_assert_int_eq(RUN("llmctl ctx chmod team/memo 0664 && llmctl ctx show '#%lld'", id), 0);
    ASSERT_SAYS("mode 0664");
    ck_assert_int_eq(RUN("llmctl ctx publish team/memo x --mode 0600 --group %d", (int)getgid()),
                     0);
    ck_assert_int_eq(RUN("llmctl ctx show x"), 0);
    ASSERT_SAYS("mode 0600");
    ck_assert_int_eq(RUN("llmctl ctx fork x y && llmctl ctx rename y x 2>&1"), 1);
    ck_assert_int_eq(RUN("llmctl ctx rename x 'no name!' 2>&1"), 1);
    ck_assert_int_eq(RUN("llmctl ctx chmod x 0777 2>&1"), 2);
    ASSERT_SAYS("not \"0777\"");
    ck_assert_int_eq(RUN("llmctl ctx publish x y --group nosuchgroup 2>&1"), 1);
    ASSERT_SAYS("there is no group \"nosuchgroup\"");
}
END_TEST

START_TEST(a_lease_ends_what_it_was_given_to)
{
    ck_assert_int_eq(RUN("llmctl ctx lease team/notes 90m && llmctl ctx show team/notes"), 0);
    ASSERT_SAYS("lease     ends in 01:");
    ck_assert_int_eq(RUN("llmctl ctx lease team/notes 0 && llmctl ctx show team/notes"), 0);
    ASSERT_SAYS_NOT("lease     ends");
    ck_assert_int_eq(RUN("llmctl ctx lease team/notes soon 2>&1"), 2);
    ASSERT_SAYS("a time is like 90s, 10m, 2h or 1d, not \"soon\"");
    ck_assert_int_eq(RUN("llmctl ctx lease team/notes 0.05"), 0);
    while (RUN("llmctl ctx show team/notes 2>/dev/null") == 0)
        test_sleep_ms(10);
    ck_assert_int_eq(RUN("llmctl ctx show team/notes 2>&1"), 1);
}
END_TEST

START_TEST(rm_ends_all_it_is_told_to)
{
    ck_assert_int_eq(RUN("llmctl ctx create a && llmctl ctx create b"), 0);
    ck_assert_int_eq(RUN("llmctl ctx rm a nobody b 2>&1"), 1);
    ASSERT_SAYS("\"nobody\"");
    ck_assert_int_eq(RUN("llmctl ctx ls"), 0);
    ASSERT_SAYS_NOT("\na ");
    ASSERT_SAYS_NOT("\nb ");
    ck_assert_int_eq(RUN("llmctl ctx rm '#no' 2>&1"), 2);
    ASSERT_SAYS("a context is a name or '#ID', not \"#no\"");
    ck_assert_int_eq(RUN("llmctl ctx rm '#999999999' 2>&1"), 1);
}
END_TEST

/* ---- Generating -------------------------------------------------------------------------------------- */

#define QUESTION "\\nQ: Who keeps the copper key?\\nA:"

START_TEST(ask_leaves_the_context_as_it_was)
{
    char first[4096];
    long long tokens = number_of("team/notes", "tokens");
    ck_assert_int_eq(RUN("llmctl ctx ask team/notes \"$(printf '" QUESTION "')\" --stop '\n'"), 0);
    ck_assert_uint_gt(strlen(out), 2);
    snprintf(first, sizeof first, "%.4000s", out);
    ck_assert_int_eq(number_of("team/notes", "tokens"), tokens);
    ck_assert_int_eq(RUN("printf '" QUESTION "' | llmctl ctx ask team/notes --stop '\n'"), 0);
    ck_assert_str_eq(out, first);
    ck_assert_int_eq(RUN("llmctl ctx ls | wc -l"), 0);
    ck_assert_int_eq(atoi(out), 2); /* no fork is left */
}
END_TEST

START_TEST(ask_with_keep_goes_on_in_the_context)
{
    long long tokens = number_of("team/notes", "tokens");
    ck_assert_int_eq(RUN("llmctl ctx ask team/notes --keep \"$(printf '" QUESTION "')\" "
                         "--max-tokens 5 --tokens | wc -l"),
                     0);
    long long answer = atoll(out);
    ck_assert_int_gt(number_of("team/notes", "tokens"), tokens + answer);
    ck_assert_int_eq(RUN("llmctl ctx cat team/notes"), 0);
    ASSERT_SAYS(NOTE "\nQ: Who keeps the copper key?\nA:");
}
END_TEST

START_TEST(follow_reads_along_from_the_answers_first_token)
{
    llm_error error = {0};
    llm_context *context;
    llm_stream *stream;
    char whole[8192];
    size_t used = 0, bytes = 1;
    llm_connection *llm = test_daemon_connect(&served);
    ck_assert_int_eq(RUN("llmctl ctx follow team/notes 2>&1"), 1);
    ASSERT_SAYS("nothing is being generated");
    ck_assert_int_eq(llm_context_open(llm, "team/notes", &context, &error), LLM_OK);
    const llm_sampling sampling = {.max_tokens = 400, .ignore_eos = true};
    ck_assert_int_eq(llm_generate(context, &sampling, &stream, &error), LLM_OK);
    ck_assert_int_eq(RUN("llmctl ctx follow team/notes"), 0);
    while (bytes > 0) {
        ck_assert_int_eq(llm_stream_read_text(stream, whole + used, sizeof whole - used - 2,
                                              LLM_FOREVER, &bytes, &error),
                         LLM_OK);
        used += bytes;
    }
    memcpy(whole + used, "\n", 2);
    ck_assert_str_eq(out, whole);
    llm_stream_close(stream);
    llm_context_close(context);
    llm_disconnect(llm);
}
END_TEST

/* ---- Branches ---------------------------------------------------------------------------------------- */

#define BRANCHES 8

/* What `llmctl ctx ls` counts, without its head. */
static int contexts_now(void)
{
    ck_assert_int_eq(RUN("llmctl ctx ls | tail -n +2 | wc -l"), 0);
    return atoi(out);
}

START_TEST(branches_end_with_their_streams_running_or_not)
{
    llm_error error = {0};
    llm_context *context;
    llm_stream *streams[BRANCHES];
    llm_branch branches[BRANCHES];
    uint32_t token, count;
    llm_connection *llm = test_daemon_connect(&served);
    ck_assert_int_eq(llm_context_open(llm, "team/notes", &context, &error), LLM_OK);
    for (int i = 0; i < BRANCHES; i++) /* the even ones are complete soon */
        branches[i] = (llm_branch){
            .sampling = {.max_tokens = i % 2 ? 400 : 1, .ignore_eos = true, .temperature = 1}};
    ck_assert_msg(llm_context_branch(context, branches, BRANCHES, streams, &error) == LLM_OK, "%s",
                  error.message);
    ck_assert_int_eq(llm_stream_read(streams[0], &token, NULL, 1, LLM_FOREVER, &count, &error),
                     LLM_OK);
    ck_assert_int_eq(llm_stream_read(streams[0], &token, NULL, 1, LLM_FOREVER, &count, &error),
                     LLM_OK);
    ck_assert_int_eq(contexts_now(), 1 + BRANCHES);
    ck_assert_msg(llm_context_keep(context, streams[0], &error) == LLM_OK, "%s", error.message);
    for (int i = 0; i < BRANCHES; i++)
        llm_stream_close(streams[i]);
    while (contexts_now() != 1) { /* and not only when the connection ends */
        llm_context_info info;
        ck_assert_int_eq(llm_context_describe(context, &info, &error), LLM_OK);
    }
    llm_context_close(context);
    llm_disconnect(llm);
}
END_TEST

/* ---- When something is wrong ------------------------------------------------------------------------- */

START_TEST(exit_codes_say_what_went_wrong)
{
    ck_assert_int_eq(RUN("llmctl ctx show nobody 2>&1"), 1);
    ASSERT_SAYS("\"nobody\"");
    ck_assert_int_eq(RUN("llmctl ctx 2>&1"), 2);
    ck_assert_int_eq(RUN("llmctl ctx show 2>&1"), 2);
    ck_assert_int_eq(RUN("llmctl ctx create x --mode 0999 2>&1"), 2);
    ck_assert_int_eq(RUN("llmctl --socket /nonexistent/s ctx ls 2>&1"), 3);
    ck_assert_int_eq(RUN("llmctl ctx create x --text y && llmctl ctx create x --text y 2>&1"), 1);
}
END_TEST

START_TEST(a_hung_engine_is_a_time_out)
{
    pid_t engine = (pid_t)status_number("engine", "pid");
    kill(engine, SIGSTOP);
    int code = RUN("llmctl ctx ls --timeout 0.2 2>&1");
    kill(engine, SIGCONT);
    ck_assert_int_eq(code, 5);
    ASSERT_SAYS("has not answered within 0.2 s");
}
END_TEST

START_TEST(published_contexts_outlive_an_engine)
{
    long long tokens = number_of("team/notes", "tokens");
    ck_assert_int_eq(RUN("llmctl engine restart"), 0);
    ck_assert_int_eq(number_of("team/notes", "tokens"), tokens);
    ck_assert_int_eq(RUN("llmctl ctx cat team/notes"), 0);
    ck_assert_str_eq(out, NOTE "\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/ctx_cli");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, ls_is_a_table_of_what_there_is);
    tcase_add_test(tc, cat_prints_the_text_or_the_ids);
    tcase_add_test(tc, every_list_is_json_when_asked);
    tcase_add_test(tc, the_tree_shows_who_was_forked_from_whom);
    tcase_add_test(tc, text_comes_from_an_argument_an_option_a_file_or_stdin);
    tcase_add_test(tc, rewind_drops_the_end);
    tcase_add_test(tc, names_modes_and_groups_are_changed);
    tcase_add_test(tc, a_lease_ends_what_it_was_given_to);
    tcase_add_test(tc, rm_ends_all_it_is_told_to);
    tcase_add_test(tc, ask_leaves_the_context_as_it_was);
    tcase_add_test(tc, ask_with_keep_goes_on_in_the_context);
    tcase_add_test(tc, follow_reads_along_from_the_answers_first_token);
    tcase_add_test(tc, branches_end_with_their_streams_running_or_not);
    tcase_add_test(tc, exit_codes_say_what_went_wrong);
    tcase_add_test(tc, a_hung_engine_is_a_time_out);
    tcase_add_test(tc, published_contexts_outlive_an_engine);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
