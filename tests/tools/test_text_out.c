/*
 * test_text_out.c - tools/llmctl/text_out: numbers, times and tables as people read them; nothing that steers
 * a terminal gets through.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tools/llmctl/text_out.h"

START_TEST(thousands_are_grouped_by_a_space)
{
    ck_assert_str_eq(text_grouped(0).text, "0");
    ck_assert_str_eq(text_grouped(999).text, "999");
    ck_assert_str_eq(text_grouped(1302).text, "1 302");
    ck_assert_str_eq(text_grouped(UINT64_MAX).text, "18 446 744 073 709 551 615");
}
END_TEST

START_TEST(times_read_like_a_clock)
{
    ck_assert_str_eq(text_clock(0).text, "00:00:00");
    ck_assert_str_eq(text_clock(UINT64_C(7999999999)).text, "00:00:07");
    ck_assert_str_eq(text_clock(UINT64_C(100) * 1000000000).text, "00:01:40");
    ck_assert_str_eq(text_clock(UINT64_C(90061) * 1000000000).text, "1 d 01:01:01");
    ck_assert_str_eq(text_span(1940000).text, "1.9 ms");
    ck_assert_str_eq(text_span(84000000).text, "84 ms");
    ck_assert_str_eq(text_span(UINT64_C(12000000000)).text, "12 s");
}
END_TEST

START_TEST(sizes_have_one_decimal_and_a_unit)
{
    ck_assert_str_eq(text_bytes(999).text, "999 B");
    ck_assert_str_eq(text_bytes(8200000).text, "8.2 MB");
    ck_assert_str_eq(text_bytes(UINT64_MAX).text, "18.4 EB");
}
END_TEST

static const struct {
    const char *given, *shown;
} names[] = {
    {"agent-7", "agent-7"},
    {"\x1b[2Jgone", "?[2Jgone"}, /* C0: would clear the screen */
    {"\xc2\x9b"
     "2J",
     "?2J"}, /* C1: the same in one character */
    {"caf\xc3\xa9", "caf\xc3\xa9"},
    {"\xc3", "?"}, /* cut off */
    {"a\xff"
     "b",
     "a?b"},
    {"line\nbreak\x7f", "line?break?"},
};

START_TEST(names_cannot_steer_the_terminal)
{
    char out[64];
    text_printable(out, sizeof out, names[_i].given);
    ck_assert_str_eq(out, names[_i].shown);
}
END_TEST

START_TEST(a_name_is_cut_between_characters)
{
    char out[4];
    text_printable(out, sizeof out, "ab\xc3\xa9");
    ck_assert_str_eq(out, "ab");
}
END_TEST

START_TEST(columns_are_as_wide_as_their_widest_cell)
{
    char *text;
    size_t bytes;
    FILE *file = open_memstream(&text, &bytes);
    struct text_table table;
    text_table_init(&table, "rl");
    text_table_cell(&table, "ID");
    text_table_cell(&table, "NAME");
    text_table_cell(&table, "%d", 1234);
    text_table_cell(&table, "caf\xc3\xa9");
    text_table_close(&table, file);
    fclose(file);

    ck_assert_str_eq(text, "  ID  NAME\n1234  caf\xc3\xa9\n");
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tools/text_out");
    TCase *tc = tcase_create("all");
    tcase_add_test(tc, thousands_are_grouped_by_a_space);
    tcase_add_test(tc, times_read_like_a_clock);
    tcase_add_test(tc, sizes_have_one_decimal_and_a_unit);
    tcase_add_loop_test(tc, names_cannot_steer_the_terminal, 0, sizeof names / sizeof names[0]);
    tcase_add_test(tc, a_name_is_cut_between_characters);
    tcase_add_test(tc, columns_are_as_wide_as_their_widest_cell);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
