/*
 * test_trace.c - daemon/sim/trace: files in, ids out, and what is added to a trace.
 * How: small files in a temporary directory; traces made by hand.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/sim_replay.h"

static struct trace trace;
static struct llm_error error;

static enum llm_status open_text(const char *ending, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/llmd-test-trace-%d%s", (int)getpid(), ending);
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    enum llm_status status = trace_open(&trace, path, TRACE_REQUESTS_MAX, &error);
    unlink(path);
    return status;
}

START_TEST(parts_are_read_and_equal_parts_have_equal_ids)
{
    must(open_text(".jsonl", "{\"timestamp\": 0, \"input_length\": 513, \"output_length\": 5, "
                             "\"hash_ids\": [7, 8]}\n"
                             "{\"timestamp\": 27, \"input_length\": 1024, \"output_length\": 0, "
                             "\"hash_ids\": [7, 9]}\n"),
         &error);
    ck_assert_uint_eq(trace.count, 2);
    ck_assert_uint_eq(trace.requests[1].arrival_ns, 27000000);
    ck_assert_uint_eq(trace.requests[0].answer_tokens, 5);
    ck_assert_uint_eq(trace.requests[1].answer_tokens, 1);
    uint32_t first[513], second[513];
    trace_ids(&trace, &trace.requests[0], 0, 513, first);
    trace_ids(&trace, &trace.requests[1], 0, 513, second);
    ck_assert_mem_eq(first, second, 512 * sizeof *first);
    ck_assert_uint_ne(first[512], second[512]);
    ck_assert_uint_ne(first[0], first[1]);
    uint32_t middle[3];
    trace_ids(&trace, &trace.requests[0], 510, 3, middle);
    ck_assert_mem_eq(middle, first + 510, sizeof middle);
}
END_TEST

START_TEST(prompt_ids_are_taken_as_they_are)
{
    must(open_text(".jsonl", "{\"t_ms\": 3, \"prompt_ids\": [1, 491, 433], \"max_tokens\": 31}\n"),
         &error);
    uint32_t ids[3];
    trace_ids(&trace, &trace.requests[0], 0, 3, ids);
    ck_assert_mem_eq(ids, ((const uint32_t[]){1, 491, 433}), sizeof ids);
    ck_assert_uint_eq(trace.requests[0].answer_tokens, 31);
}
END_TEST

START_TEST(a_csv_has_times_and_lengths_and_nothing_in_common)
{
    must(open_text(".csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                           "2023-11-16 23:59:59.5000000,374,44\n"
                           "2023-11-17 00:00:01.25,374,1\n"),
         &error);
    ck_assert_uint_eq(trace.count, 2);
    ck_assert_uint_eq(trace.requests[0].arrival_ns, 0);
    ck_assert_uint_eq(trace.requests[1].arrival_ns, 1750000000);
    uint32_t first, second;
    trace_ids(&trace, &trace.requests[0], 0, 1, &first);
    trace_ids(&trace, &trace.requests[1], 0, 1, &second);
    ck_assert_uint_ne(first, second);
}
END_TEST

static const struct {
    const char *ending, *text, *sentence;
} refused[] = {
    {".jsonl", "", "has no requests"},
    {".jsonl", "{\"timestamp\": 0}\n", "line 1: timestamp, input_length"},
    {".jsonl",
     "{\"timestamp\": 0, \"input_length\": 513, \"output_length\": 5, \"hash_ids\": [7]}\n",
     "line 1: input_length and the number of hash_ids disagree"},
    {".jsonl",
     "{\"timestamp\": 5, \"input_length\": 1, \"output_length\": 5, \"hash_ids\": [7]}\n"
     "{\"timestamp\": 4, \"input_length\": 1, \"output_length\": 5, \"hash_ids\": [7]}\n",
     "line 2: a request arrives before the one before it"},
    {".jsonl",
     "{\"timestamp\": 0, \"input_length\": -1, \"output_length\": 5, \"hash_ids\": [7]}\n",
     "line 1"},
    {".jsonl",
     "{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 99999999999, \"hash_ids\": [7]}\n",
     "line 1"},
    {".jsonl", "{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [7\n",
     "line 1"},
    {".jsonl", "{\"t_ms\": 0, \"prompt_ids\": [], \"max_tokens\": 1}\n", "line 1: t_ms"},
    {".csv", "T,C,G\n2023-11-16 18:15,374,44\n", "line 2: TIMESTAMP"},
    {".csv", "T,C,G\n2023-11-16 18:15:46.1,0,44\n", "line 2: TIMESTAMP"},
};

START_TEST(a_bad_line_is_one_sentence_with_its_number)
{
    ck_assert_int_eq(open_text(refused[_i].ending, refused[_i].text), LLM_ERR_INVALID);
    ck_assert_msg(strstr(error.message, refused[_i].sentence) != NULL, "%s", error.message);
}
END_TEST

START_TEST(a_file_that_is_not_there_is_named)
{
    ck_assert_int_eq(trace_open(&trace, "/nowhere/t.jsonl", 1, &error), LLM_ERR_SYSTEM);
    ck_assert_ptr_nonnull(strstr(error.message, "/nowhere/t.jsonl"));
}
END_TEST

START_TEST(a_scan_adds_its_share_of_prompts_that_nobody_else_has)
{
    make_sessions(&trace, 50, 10, 1000, 8);
    must(trace_scan(&trace, 0.3, 4000, 1, &error), &error);
    uint32_t added = 0;
    for (uint32_t i = 0; i < trace.count; i++) {
        const struct trace_request *request = &trace.requests[i];
        if (request->kind != TRACE_SCAN)
            continue;
        added++;
        ck_assert_uint_ge(request->prompt_tokens, 2000);
        ck_assert_uint_le(request->prompt_tokens, 6001);
        ck_assert_uint_eq(request->answer_tokens, 1);
    }
    ck_assert_uint_eq(trace.count, 500 + added);
    ck_assert_uint_gt(added, 110);
    ck_assert_uint_lt(added, 190);
    struct ideal ideal;
    must(ideal_compute(&trace, 512, 0, &ideal, &error), &error);
    ck_assert_uint_eq(ideal.hit_tokens,
                      499 * 512 + 50 * (3 + 4 + 5 + 6 + 7 + 8 + 9 + 10 + 11 - 9) * 512);
}
END_TEST

START_TEST(sessions_belong_to_one_user_each_and_users_get_as_many)
{
    make_sessions(&trace, 60, 5, 1000, 8);
    must(trace_users(&trace, 7, &error), &error);
    uint32_t requests[7] = {0};
    for (uint32_t i = 0; i < trace.count; i++) {
        ck_assert_uint_eq(trace.requests[i].user, i % 60 % 7);
        requests[trace.requests[i].user]++;
    }
    for (uint32_t user = 0; user < 7; user++)
        ck_assert_uint_ge(requests[user], 40);
}
END_TEST

START_TEST(a_flood_sends_so_many_times_what_the_others_send)
{
    make_sessions(&trace, 60, 5, 1000, 8);
    must(trace_users(&trace, 6, &error), &error);
    must(trace_flood(&trace, 50, 1, &error), &error);
    uint32_t flood = 0;
    for (uint32_t i = 0; i < trace.count; i++) {
        flood += trace.requests[i].kind == TRACE_FLOOD;
        ck_assert_int_eq(trace.requests[i].kind == TRACE_FLOOD, trace.requests[i].user == 6);
        ck_assert(i == 0 || trace.requests[i].arrival_ns >= trace.requests[i - 1].arrival_ns);
    }
    ck_assert_uint_eq(trace.user_count, 7);
    ck_assert_uint_eq(flood, 300 / 6 * 50);
}
END_TEST

START_TEST(a_hurried_trace_takes_less_time)
{
    make_sessions(&trace, 2, 2, 1000, 8);
    trace_hurry(&trace, 4);
    ck_assert_uint_eq(trace.requests[3].arrival_ns, 750);
}
END_TEST

static void close_trace(void)
{
    trace_close(&trace);
}

static void no_trace(void)
{
    trace_init(&trace, TRACE_PART_TOKENS);
}

int main(void)
{
    Suite *suite = suite_create("sim/trace");
    TCase *tc = tcase_create("trace");
    tcase_add_checked_fixture(tc, no_trace, close_trace);
    tcase_add_test(tc, parts_are_read_and_equal_parts_have_equal_ids);
    tcase_add_test(tc, prompt_ids_are_taken_as_they_are);
    tcase_add_test(tc, a_csv_has_times_and_lengths_and_nothing_in_common);
    tcase_add_loop_test(tc, a_bad_line_is_one_sentence_with_its_number, 0,
                        sizeof refused / sizeof refused[0]);
    tcase_add_test(tc, a_file_that_is_not_there_is_named);
    tcase_add_test(tc, a_scan_adds_its_share_of_prompts_that_nobody_else_has);
    tcase_add_test(tc, sessions_belong_to_one_user_each_and_users_get_as_many);
    tcase_add_test(tc, a_flood_sends_so_many_times_what_the_others_send);
    tcase_add_test(tc, a_hurried_trace_takes_less_time);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
