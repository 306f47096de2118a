/*
 * test_stop_text.c - client/text/stop_text: nothing of a stop string is ever shown, and nothing else is kept.
 * How: a table of texts, then every text of up to eight letters of {a, b} given letter by letter against a model
 * that knows the whole text in advance.
 */
#include <check.h>
#include <string.h>

#include "client/text/stop_text.h"

static const struct {
    const char *stops[3];
    uint32_t stop_count;
    const char *text;
    size_t shown;
    bool found;
} rows[] = {
    {{"\n"}, 1, " Mara keeps it.", 15, false}, {{"\n"}, 1, " Mara keeps it.\nQ:", 15, true},
    {{"</s>"}, 1, "one </", 4, false},  /* may become one */
    {{"</s>"}, 1, "one </b", 7, false}, /* did not */
    {{"</s>", "one"}, 2, "one </s>", 0, true}, /* the first in the text counts, not the first in the list */
    {{"abab"}, 1, "aabab", 1, true},           {{"abab"}, 1, "abaab", 3, false},
    {{"abcd", "bc"}, 2, "abc", 1, true}, /* the shorter one is whole, the longer one only begun */
    {{NULL}, 0, "anything", 8, false},         {{"x"}, 1, "", 0, false},
};

START_TEST(text_is_shown_up_to_what_may_be_a_stop_string)
{
    struct llm_stop_text stop;
    bool found;
    llm_stop_text_init(&stop, rows[_i].stops, rows[_i].stop_count);
    size_t shown = llm_stop_text_shown(&stop, rows[_i].text, strlen(rows[_i].text), &found);
    ck_assert_msg(shown == rows[_i].shown && found == rows[_i].found, "row %d: shown %zu, found %d",
                  _i, shown, found);
}
END_TEST

START_TEST(letter_by_letter_gives_the_text_before_the_first_stop_string)
{
    static const char *const stops[] = {"abba", "bab", "aaaa"};
    struct llm_stop_text stop;
    llm_stop_text_init(&stop, stops, 3);
    for (unsigned bits = 0; bits < 256; bits++) {
        char text[9] = {0}, given[9] = {0};
        size_t given_bytes = 0;
        bool found = false;
        for (int i = 0; i < 8; i++)
            text[i] = bits >> i & 1 ? 'b' : 'a';
        for (size_t length = 1; length <= 8 && !found; length++) {
            size_t shown = given_bytes + llm_stop_text_shown(&stop, text + given_bytes,
                                                             length - given_bytes, &found);
            memcpy(given + given_bytes, text + given_bytes, shown - given_bytes);
            given_bytes = shown;
        }
        /* The model: the letter that completes a stop string ends the text before that string's start. */
        size_t end = 8;
        bool expected = false;
        for (size_t length = 1; length <= 8 && !expected; length++)
            for (size_t start = 0; start < length && !expected; start++)
                for (int s = 0; s < 3; s++)
                    if (start + strlen(stops[s]) == length &&
                        memcmp(text + start, stops[s], strlen(stops[s])) == 0) {
                        expected = true;
                        end = start;
                    }
        ck_assert_msg(found == expected, "%s: found %d", text, found);
        if (found)
            ck_assert_msg(given_bytes == end, "%s: gave \"%s\"", text, given);
        else
            ck_assert_msg(strncmp(text, given, given_bytes) == 0 && given_bytes >= 8 - 3,
                          "%s: gave \"%s\"", text, given);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/stop_text");
    TCase *tc = tcase_create("all");
    tcase_add_loop_test(tc, text_is_shown_up_to_what_may_be_a_stop_string, 0,
                        sizeof rows / sizeof rows[0]);
    tcase_add_test(tc, letter_by_letter_gives_the_text_before_the_first_stop_string);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
