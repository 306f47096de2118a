/*
 * test_use_program.c - the program that README.md prints compiles as printed and does what it says.
 * How: the build takes the program out of README.md (tests/e2e/CMakeLists.txt) and compiles it against the
 * headers and shared libraries that users get; here it runs, twice, and its words must be those of the same tokens
 * without any context.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/text.h"
#include "tests/support/command.h"
#include "tests/support/daemon.h"

static struct test_daemon served;
static char out[65536];

static const char *const question = "Mara keeps the copper key. Ivo lent Tam a blue lantern."
                                    "\nQ: Who keeps the copper key?\nA:";

/* Its words are those of the same tokens without any context: the note's and the question's, as it appended them. */
static void expect_answer(llm_connection *llm)
{
    char answer[4096];
    llm_error error = {0};
    const llm_vocab *vocab;
    uint32_t tokens[256];
    size_t note_count, count, bytes = 1, used = 0;
    llm_stream *stream;
    const char *rest = strchr(question, '\n');
    ck_assert_int_eq(llm_connection_vocab(llm, NULL, &vocab, &error), LLM_OK);
    ck_assert_int_eq(llm_encode(vocab, question, (size_t)(rest - question), LLM_ENCODE_AFFIXES,
                                tokens, 256, &note_count, &error),
                     LLM_OK);
    ck_assert_int_eq(llm_encode(vocab, rest, strlen(rest), 0, tokens + note_count, 256 - note_count,
                                &count, &error),
                     LLM_OK);
    ck_assert_int_eq(llm_submit(llm, tokens, (uint32_t)(note_count + count),
                                &(llm_sampling){.max_tokens = 64}, &stream, &error),
                     LLM_OK);
    while (bytes > 0) {
        ck_assert_msg(llm_stream_read_text(stream, answer + used, sizeof answer - used - 1,
                                           LLM_FOREVER, &bytes, &error) == LLM_OK,
                      "%s", error.message);
        used += bytes;
    }
    llm_stream_close(stream);
    answer[used] = 0;
    ck_assert_uint_gt(used, 2);
    ck_assert_str_eq(out, answer);
}

START_TEST(the_program_in_the_readme_prints_the_answer_of_a_shared_note)
{
    llm_connection *llm;
    llm_context *notes;
    llm_context_info first, second;
    llm_error error = {0};
    test_daemon_start(&served, (const char *const[]){"--model", "tinynotes", NULL});
    setenv("LLMD_SOCKET", served.socket, 1);
    ck_assert_int_eq(run_command(out, sizeof out, "readme_program"), 0);

    ck_assert_int_eq(llm_connect(&llm, NULL, &error), LLM_OK);
    expect_answer(llm);
    ck_assert_msg(llm_context_open(llm, "team/notes", &notes, &error) == LLM_OK, "%s",
                  error.message);
    ck_assert_int_eq(llm_context_describe(notes, &first, &error), LLM_OK);
    ck_assert_uint_eq(first.mode, 0640);
    ck_assert(first.pinned);
    ck_assert_uint_gt(first.length, 5);

    ck_assert_int_eq(run_command(out, sizeof out, "readme_program"), 0); /* finds the note */
    expect_answer(llm);
    ck_assert_int_eq(llm_context_describe(notes, &second, &error), LLM_OK);
    ck_assert_uint_eq(second.id, first.id);
    ck_assert_uint_eq(second.length, first.length);
    llm_context_close(notes);
    llm_disconnect(llm);
    test_daemon_stop(&served);
}
END_TEST

START_TEST(without_a_daemon_it_starts_a_private_one)
{
    char folder[] = "/tmp/llmd-test.XXXXXX", socket[64];
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(socket, sizeof socket, "%s/llmd.sock", folder);
    setenv("LLMD_SOCKET", socket, 1);
    ck_assert_int_eq(run_command(out, sizeof out, "readme_program"), 0);
    ck_assert_uint_gt(strlen(out), 2);
    ck_assert_int_eq(run_command(out, sizeof out, "llmctl stop && rm -rf '%s'", folder), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("e2e/use_program");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, the_program_in_the_readme_prints_the_answer_of_a_shared_note);
    tcase_add_test(tc, without_a_daemon_it_starts_a_private_one);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
