/*
 * test_json_out.c - tools/llmctl/json_out: whatever is written, the result is the JSON that was meant.
 * How: each test writes into memory and compares the text, or has jansson (not ours) read it back.
 */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tools/llmctl/json_out.h"

static struct json_out json;
static char *text;
static size_t text_bytes;

static void open_memory(void)
{
    json_out_init(&json, open_memstream(&text, &text_bytes));
}

static void close_memory(void)
{
    fclose(json.file);
    free(text);
}

static const char *written(void)
{
    fflush(json.file);
    return text;
}

START_TEST(commas_stand_between_values_and_nowhere_else)
{
    json_out_object(&json, NULL);
    json_out_count(&json, "a", 1);
    json_out_array(&json, "b");
    json_out_end(&json);
    json_out_array(&json, "c");
    json_out_bool(&json, NULL, true);
    json_out_object(&json, NULL);
    json_out_end(&json);
    json_out_end(&json);
    json_out_end(&json);

    ck_assert_str_eq(written(), "{\"a\": 1, \"b\": [], \"c\": [true, {}]}\n");
}
END_TEST

START_TEST(numbers_that_json_lacks_become_null)
{
    json_out_array(&json, NULL);
    json_out_real(&json, NULL, (double)NAN);
    json_out_real(&json, NULL, (double)-INFINITY);
    json_out_real(&json, NULL, 0.25);
    json_out_count(&json, NULL, UINT64_MAX);
    json_out_thousandths(&json, NULL, UINT64_MAX);
    json_out_thousandths(&json, NULL, 1005);
    json_out_end(&json);

    ck_assert_str_eq(written(),
                     "[null, null, 0.25, 18446744073709551615, 18446744073709551.615, 1.005]\n");
}
END_TEST

static const struct {
    const char *bytes;
    size_t count;
    const char *read_back;
} texts[] = {
    {"plain", 5, "plain"},
    {"\"\\\n\t\x01\x7f", 6, "\"\\\n\t\x01\x7f"},
    {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\xa6\x8a", 15,
     "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\xa6\x8a"},
    {"\xff-\xc3", 3, "\xef\xbf\xbd-\xef\xbf\xbd"},               /* never a byte; cut off */
    {"\xc0\xaf", 2, "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong "/" */
    {"\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
    {"", 0, ""},
};

START_TEST(any_bytes_become_a_string_that_a_strict_reader_takes)
{
    json_out_array(&json, NULL);
    json_out_bytes(&json, NULL, texts[_i].bytes, texts[_i].count);
    json_out_end(&json);

    json_error_t error;
    json_t *read = json_loads(written(), 0, &error);
    ck_assert_msg(read != NULL, "row %d: %s in %s", _i, error.text, text);
    ck_assert_str_eq(json_string_value(json_array_get(read, 0)), texts[_i].read_back);
    json_decref(read);
}
END_TEST

START_TEST(a_key_in_an_array_is_our_own_mistake)
{
    json_out_array(&json, NULL);
    json_out_count(&json, "key", 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools/json_out");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, open_memory, close_memory);
    tcase_add_test(tc, commas_stand_between_values_and_nowhere_else);
    tcase_add_test(tc, numbers_that_json_lacks_become_null);
    tcase_add_loop_test(tc, any_bytes_become_a_string_that_a_strict_reader_takes, 0,
                        sizeof texts / sizeof texts[0]);
    tcase_add_test_raise_signal(tc, a_key_in_an_array_is_our_own_mistake, SIGABRT);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
