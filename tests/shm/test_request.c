/*
 * test_request.c - shm/request: what the engine says to bodies that no libllm would write.
 */
#include "shm/request.h"

#include <check.h>
#include <string.h>

static struct llm_request_body body;
static struct llm_error error;

static void setup(void)
{
    body = (struct llm_request_body){
        .prompt_tokens = 3, .max_tokens = 1, .top_p = 1, .stop_id_count = 2};
}

START_TEST(the_parts_follow_each_other)
{
    body.stop_string_count = 1;
    body.stop_string_bytes = 5;
    struct llm_request_map map = llm_request_map(&body, NULL);
    ck_assert_uint_eq(map.prompt_offset, 128);
    ck_assert_uint_eq(map.stop_id_offset, 140);
    ck_assert_uint_eq(map.stop_string_offset, 148);
    ck_assert_uint_eq(map.bytes, 153);
    ck_assert_int_eq(llm_request_check(&body, 153, &error), LLM_OK);
}
END_TEST

START_TEST(a_body_that_is_not_the_sum_of_its_parts_is_refused)
{
    const uint32_t sizes[] = {0, 127, 147, 149, UINT32_MAX};
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(llm_request_check(&body, sizes[i], &error), LLM_ERR_INVALID);
    body.prompt_tokens = UINT32_C(0x40000003); /* in 32 bits its bytes would wrap to 148 */
    ck_assert_int_eq(llm_request_check(&body, 148, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "the request has 148 bytes, its parts have 4294967444");
}
END_TEST

START_TEST(unknown_bits_and_unended_names_are_refused)
{
    body.flags = 512;
    ck_assert_int_eq(llm_request_check(&body, 148, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "request flags 0x200: 0x1ff are known");
    setup();
    body.defaults = 64;
    ck_assert_int_eq(llm_request_check(&body, 148, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "request defaults 0x40: 0x3f are known");
    setup();
    memset(body.model, 'm', sizeof body.model);
    ck_assert_int_eq(llm_request_check(&body, 148, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "the model's name has no end within 64 bytes");
}
END_TEST

enum { /* short names for the table below */
    CONTEXT = LLM_REQUEST_ON_CONTEXT,
    BRANCH = LLM_REQUEST_BRANCH,
    SCORE = LLM_REQUEST_SCORE | LLM_REQUEST_LOGPROBS,
    COMPUTE = LLM_REQUEST_COMPUTE,
    PIN = LLM_REQUEST_PIN,
};

static const struct {
    uint32_t flags, prompt_tokens, max_tokens, score_from, priority, stop_ids;
    const char *sentence; /* NULL: well-formed */
} kinds[] = {
    {0, 1, 1, 0, 2, 0, NULL},
    {CONTEXT, 0, 1, 0, 0, 1, NULL},
    {CONTEXT | BRANCH, 3, 7, 0, 1, 0, NULL},
    {SCORE, 5, 4, 1, 0, 0, NULL},
    {SCORE, 5, 1, 4, 0, 0, NULL},
    {SCORE | CONTEXT, 5, 5, 0, 0, 0, NULL},
    {COMPUTE, 1, 1, 0, 0, 0, NULL},
    {COMPUTE | CONTEXT | PIN, 0, 1, 0, 0, 0, NULL},
    {0, 0, 1, 0, 0, 0, "the prompt is empty: it needs at least 1 token"},
    {0, 1, 1, 0, 3, 0, "priority 3 is not known"},
    {0, 1, 1, 1, 0, 0, "score_from is 1, but nothing is to be scored"},
    {BRANCH, 1, 1, 0, 0, 0, "request flags 0x10: a branch needs a context to branch from"},
    {SCORE, 5, 5, 0, 0, 0, "score_from is 0: of 5 tokens, 1 to 4 can be scored"},
    {SCORE, 5, 1, 5, 0, 0, "score_from is 5: of 5 tokens, 1 to 4 can be scored"},
    {SCORE, 1, 1, 1, 0, 0, "score_from is 1: of 1 tokens, 1 to 0 can be scored"},
    {SCORE | CONTEXT, 0, 1, 0, 0, 0, "score_from is 0: of 0 tokens, 0 to -1 can be scored"},
    {SCORE, 5, 3, 1, 0, 0, "max_tokens is 3, 4 tokens are scored"},
    {SCORE, 5, 4, 1, 0, 1, "nothing is generated, so nothing can stop it"},
    {LLM_REQUEST_SCORE, 5, 4, 1, 0, 0,
     "request flags 0x20: a score is log-probabilities: ask for them"},
    {SCORE | CONTEXT | BRANCH, 5, 4, 1, 0, 0,
     "request flags 0x3a: a score changes no context, so it has no branch"},
    {SCORE | COMPUTE, 2, 1, 1, 0, 0, "request flags 0x62: one request either scores or computes"},
    {COMPUTE | CONTEXT | BRANCH, 2, 1, 0, 0, 0,
     "request flags 0x58: what is computed for a context needs no branch"},
    {COMPUTE | LLM_REQUEST_LOGPROBS, 2, 1, 0, 0, 0,
     "request flags 0x42: computing answers no tokens, so it has no log-probabilities"},
    {COMPUTE, 2, 2, 0, 0, 0, "max_tokens is 2: computing rows needs 1"},
    {COMPUTE, 2, 1, 0, 0, 1, "nothing is generated, so nothing can stop it"},
    {COMPUTE | PIN, 2, 1, 0, 0, 0,
     "request flags 0xc0: a pin computes the rows of a context: both flags are needed"},
    {CONTEXT | PIN, 2, 1, 0, 0, 0,
     "request flags 0x88: a pin computes the rows of a context: both flags are needed"},
};

START_TEST(flags_and_fields_fit_together)
{
    body = (struct llm_request_body){.flags = kinds[_i].flags,
                                     .prompt_tokens = kinds[_i].prompt_tokens,
                                     .max_tokens = kinds[_i].max_tokens,
                                     .score_from = kinds[_i].score_from,
                                     .priority = kinds[_i].priority,
                                     .stop_id_count = kinds[_i].stop_ids,
                                     .top_p = 1};
    uint32_t bytes = (uint32_t)llm_request_map(&body, NULL).bytes;
    error.message[0] = '\0';
    enum llm_status status = llm_request_check(&body, bytes, &error);
    ck_assert_str_eq(error.message, kinds[_i].sentence ? kinds[_i].sentence : "");
    ck_assert_int_eq(status, kinds[_i].sentence ? LLM_ERR_INVALID : LLM_OK);
}
END_TEST

START_TEST(a_request_on_a_context_names_no_model)
{
    body.flags = LLM_REQUEST_ON_CONTEXT;
    ck_assert_int_eq(llm_request_check(&body, 148, &error), LLM_OK);
    body.model[0] = 'e';
    ck_assert_int_eq(llm_request_check(&body, 148, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "a request on a context names no model: the context has one");
}
END_TEST

START_TEST(counts_beyond_their_limits_are_refused)
{
    body.stop_id_count = UINT32_MAX;
    ck_assert_int_eq(llm_request_check(&body, 148, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "4294967295 stop ids: at most 16");
    setup();
    body.stop_string_count = UINT32_MAX;
    ck_assert_int_eq(llm_request_check(&body, 148, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "4294967295 stop strings: at most 8");
    setup();
    body.stop_string_count = 1;
    body.stop_string_bytes = 66;
    ck_assert_int_eq(llm_request_check(&body, 148 + 66, &error), LLM_ERR_INVALID);
    ck_assert_str_eq(error.message, "66 bytes of stop strings: 1 have at most 65");
}
END_TEST

START_TEST(stop_strings_fill_their_bytes_exactly)
{
    static const struct {
        const char *bytes;
        uint32_t size, count;
        const char *sentence; /* NULL: well-formed */
    } rows[] = {
        {"", 0, 0, NULL},
        {"\2ab\1c", 5, 2, NULL},
        {"\2ab", 3, 2, "stop string 2 of 2 is missing"},
        {"\0", 1, 1, "stop string 1 has 0 bytes: 1 to 64"},
        {"\xff", 1, 1, "stop string 1 has 255 bytes: 1 to 64"},
        {"\5ab", 3, 1, "1 stop strings have 6 bytes, not 3"},
        {"\1ab", 3, 1, "1 stop strings have 2 bytes, not 3"},
        {"a", 1, 0, "0 stop strings have 0 bytes, not 1"},
    };
    const uint8_t *bytes = (const uint8_t *)rows[_i].bytes;
    enum llm_status status = llm_stop_strings_check(bytes, rows[_i].size, rows[_i].count, &error);
    ck_assert_int_eq(status, rows[_i].sentence ? LLM_ERR_INVALID : LLM_OK);
    if (rows[_i].sentence)
        ck_assert_str_eq(error.message, rows[_i].sentence);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/request");
    TCase *tc = tcase_create("request");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, the_parts_follow_each_other);
    tcase_add_test(tc, a_body_that_is_not_the_sum_of_its_parts_is_refused);
    tcase_add_test(tc, unknown_bits_and_unended_names_are_refused);
    tcase_add_loop_test(tc, flags_and_fields_fit_together, 0, sizeof kinds / sizeof kinds[0]);
    tcase_add_test(tc, a_request_on_a_context_names_no_model);
    tcase_add_test(tc, counts_beyond_their_limits_are_refused);
    tcase_add_loop_test(tc, stop_strings_fill_their_bytes_exactly, 0, 8);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
