/*
 * test_toml.c - daemon/toml: what the subset takes, what it refuses and where, and random bytes.
 * How: the visitor writes each pair down as "key=value;"; a table of texts says what must come out or which
 * sentence.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/toml.h"
#include "tests/support/test_seed.h"

static char seen[4096];

static void append(const char *text)
{
    strncat(seen, text, sizeof seen - strlen(seen) - 1);
}

static enum llm_status visit(void *self, const char *key, const struct toml_value *value,
                             unsigned line, struct llm_error *error)
{
    (void)self;
    (void)line;
    char text[64] = "";
    if (strcmp(key, "stop.here") == 0)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "stopped");
    append(key);
    append("=");
    if (value->type == TOML_INTEGER)
        snprintf(text, sizeof text, "%lld", (long long)value->integer);
    else if (value->type == TOML_FLOAT)
        snprintf(text, sizeof text, "%g", value->number);
    else if (value->type == TOML_BOOLEAN)
        snprintf(text, sizeof text, "%s", value->boolean ? "yes" : "no");
    append(text);
    for (uint32_t i = 0; i < value->string_count; i++) {
        append("<");
        append(value->strings[i]);
        append(">");
    }
    append(";");
    return LLM_OK;
}

static enum llm_status read_text(const char *text, size_t bytes, struct llm_error *error)
{
    seen[0] = '\0';
    return toml_read(text, bytes, "f.toml", visit, NULL, error);
}

static const struct {
    const char *text, *seen;
} good[] = {
    {"", ""},
    {"# only a comment", ""},
    {"[a]\nb = 1\n", "a.b=1;"},
    {"[a]\r\nb = 1\r\n\r\n", "a.b=1;"},
    {"  [ a . c ]  # here\n\tb\t=\t-1_000 # there", "a.c.b=-1000;"},
    {"[a]\nb = true\nc = false", "a.b=yes;a.c=no;"},
    {"[a]\nb = 0.5\nc = -1e3\nd = +7", "a.b=0.5;a.c=-1000;a.d=7;"},
    {"[a]\nb = \"x\\ty\\\"z\\\\\"\nc = 'C:\\n'", "a.b=<x\ty\"z\\>;a.c=<C:\\n>;"},
    {"[a]\nb = []\nc = [ \"x\", 'y', ]", "a.b=;a.c=<x><y>;"},
    {"[a]\nb = [ # one\n \"x\" # two\n , \n]\n", "a.b=<x>;"},
    {"[a.\"@b.c\"]\nd = 1\n[\"e\"]\nf = 2", "a.@b.c.d=1;e.f=2;"},
    {"[a]\nb-c_9 = 9223372036854775807", "a.b-c_9=9223372036854775807;"},
};

START_TEST(the_subset_is_read)
{
    struct llm_error error;
    ck_assert_msg(read_text(good[_i].text, strlen(good[_i].text), &error) == LLM_OK, "%s",
                  error.message);
    ck_assert_str_eq(seen, good[_i].seen);
}
END_TEST

static const struct {
    const char *text, *sentence;
} bad[] = {
    {"a = 1", "f.toml:1: a key must stand in a table"},
    {"[a]\nb 1", "f.toml:2: key \"a.b\" lacks its '='"},
    {"[a]\nb =", "f.toml:2: value is missing"},
    {"[a]\nb = yes", "f.toml:2: \"yes\" is not a value"},
    {"[a]\nb = 1 2", "f.toml:2: unexpected text after the value"},
    {"[a]\nb = 1\nb = 2", "f.toml:3: key \"a.b\" appears twice"},
    {"[a]\n[b]\n[a]", "f.toml:3: table \"a\" appears twice"},
    {"[a", "lacks its ']'"},
    {"[]", "expected a name"},
    {"[a.\"\"]", "a quoted name is empty"},
    {"[a.\"b", "a quoted name has letters, digits"},
    {"[a.\"b c\"]", "a quoted name has letters, digits"},
    {"[[a]]", "arrays of tables are not supported"},
    {"[a]\n\"b\" = 1", "expected a name"},
    {"[a]\nb.c = 1", "lacks its '='"},
    {"[a]\nb = \"x", "string is not closed"},
    {"[a]\nb = \"x\ny\"", "f.toml:2: string is not closed"},
    {"[a]\nb = \"\\u0041\"", "unknown escape"},
    {"[a]\nb = \"\"\"x\"\"\"", "unexpected text after the value"},
    {"[a]\nb = [1]", "arrays may only hold strings"},
    {"[a]\nb = [\"x\" \"y\"]", "array lacks a ','"},
    {"[a]\nb = [\"x\",,]", "arrays may only hold strings"},
    {"[a]\nb = {c = 1}", "value is missing or of a kind"},
    {"[a]\nb = 012", "is not a value"},
    {"[a]\nb = 1__0", "is not a value"},
    {"[a]\nb = 1.", "is not a value"},
    {"[a]\nb = 0x10", "is not a value"},
    {"[a]\nb = 1979-05-27", "is not a value"},
    {"[a]\nb = 9223372036854775808", "too large"},
    {"[a]\nb = 1e999", "too large"},
    {"[a]\n# \x01", "control character 0x01"},
    {"[stop]\nhere = 1\nthere = 2", "stopped"},
};

START_TEST(everything_else_is_refused_with_its_place)
{
    struct llm_error error;
    ck_assert_int_ne(read_text(bad[_i].text, strlen(bad[_i].text), &error), LLM_OK);
    ck_assert_msg(strstr(error.message, bad[_i].sentence) != NULL, "\"%s\" lacks \"%s\"",
                  error.message, bad[_i].sentence);
}
END_TEST

START_TEST(limits_are_limits)
{
    static char text[TOML_FILE_BYTES_MAX + 2];
    struct llm_error error;
    memset(text, '#', sizeof text);
    ck_assert_int_eq(read_text(text, TOML_FILE_BYTES_MAX + 1, &error), LLM_ERR_LIMIT);
    ck_assert_int_eq(read_text(text, TOML_FILE_BYTES_MAX, &error), LLM_OK);
    size_t used = (size_t)sprintf(text, "[a]\n");
    for (int i = 0; i < TOML_TABLES_KEYS_MAX; i++)
        used += (size_t)sprintf(text + used, "k%d=1\n", i);
    ck_assert_int_eq(read_text(text, used, &error), LLM_ERR_LIMIT);
    memset(text, 'k', 300);
    memcpy(text, "[a]\n", 4);
    ck_assert_int_eq(read_text(text, 300, &error), LLM_ERR_LIMIT);
    memset(text + 4, '"', 1);
    memcpy(text + 4, "b=\"", 3);
    memset(text + 7, 'x', 2000);
    ck_assert_int_eq(read_text(text, 2007, &error), LLM_ERR_LIMIT);
}
END_TEST

/* Any bytes end in a status; the sanitizers look at the rest. */
START_TEST(random_bytes_never_do_harm)
{
    static const char alphabet[] = "[]\n\r\t =\"'\\#.,_-+019aexyt\x01\xff";
    uint64_t seed = test_seed(), random = seed;
    for (int round = 0; round < 20000; round++) {
        char text[64];
        size_t bytes = test_random(&random) % sizeof text;
        for (size_t i = 0; i < bytes; i++)
            text[i] = alphabet[test_random(&random) % (sizeof alphabet - 1)];
        char *exact = malloc(bytes ? bytes : 1); /* so that reading beyond the end is seen */
        memcpy(exact, text, bytes);
        struct llm_error error = {.message = ""};
        enum llm_status status = read_text(exact, bytes, &error);
        ck_assert_msg(status == LLM_OK || error.message[0], "seed %llu", (unsigned long long)seed);
        free(exact);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/toml");
    TCase *tcase = tcase_create("toml");
    tcase_add_loop_test(tcase, the_subset_is_read, 0, sizeof good / sizeof good[0]);
    tcase_add_loop_test(tcase, everything_else_is_refused_with_its_place, 0,
                        sizeof bad / sizeof bad[0]);
    tcase_add_test(tcase, limits_are_limits);
    tcase_add_test(tcase, random_bytes_never_do_harm);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
