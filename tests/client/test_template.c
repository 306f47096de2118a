/*
 * test_template.c - client/text/jinja: the language as the reference has it, sentences with places, limits.
 * How: tests/vectors/templates.jsonl holds what jinja2 made of templates of ours (templates.py beside it); the rest are
 * templates that are wrong or hostile. What a hostile one may cost is counted in steps and bytes, not in seconds.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/jinja/render.h"
#include "tests/support/template_rows.h"

START_TEST(our_templates_render_as_the_reference_does)
{
    struct template_row_counts counts =
        template_rows_check(VECTORS "/templates.jsonl", VECTORS, true);
    ck_assert_uint_ge(counts.rows, 150);
    ck_assert_uint_eq(counts.wrong, 0);
}
END_TEST

static enum llm_status render(const char *text, const char *variables, struct llm_buffer *out,
                              llm_error *error)
{
    llm_template *t = NULL;
    *error = (llm_error){0};
    enum llm_status status = llm_template_open(text, strlen(text), &t, error);
    if (status == LLM_OK)
        status = llm_template_render_json(t, variables, strlen(variables), NULL, out, error);
    llm_template_close(t);
    return status;
}

/* The same with an eighth of the budgets: a hostile template ends in the same way, only sooner. */
static enum llm_status render_poor(const char *text, struct llm_buffer *out, llm_error *error)
{
    llm_template *t = NULL;
    struct jinja_arena arena;
    struct jinja_run run;
    *error = (llm_error){0};
    enum llm_status status = llm_template_open(text, strlen(text), &t, error);
    if (status != LLM_OK)
        return status;
    llm_jinja_run_init(&run, &arena, t, error);
    run.steps_left /= 8;
    arena.limit_bytes /= 8;
    run.variables = llm_jinja_dict(&run);
    status = llm_jinja_render(&run, t, out);
    llm_jinja_arena_close(&arena);
    llm_template_close(t);
    return status;
}

static const struct {
    const char *text;
    const char *sentence;
} wrong_templates[] = {
    {"a\nb {{ x }}\n  {{ 1 + none }}",
     "template line 3, column 8: unsupported operand type(s) for +: 'int' and 'NoneType'"},
    {"\xc3\xa4 {{ missing.x }}", "template line 1, column 13: 'missing' is undefined"},
    {"{% if x %}", "template line 1, column 11: the template's end where else should be"},
    {"{{ x", "template line 1, column 5: the template ends inside a tag"},
    {"{{ 'x", "template line 1, column 4: a string has no end"},
    {"{# x", "template line 1, column 1: a comment has no #}"},
    {"\n{% raw %}x", "template line 2, column 1: a raw block has no {% endraw %}"},
    {"{{ ) }}", "template line 1, column 4: a bracket too many, or brackets in the wrong order"},
    {"{{ x ! }}", "template line 1, column 6: a character that means nothing inside a tag"},
    {"{% include 'x' %}",
     "template line 1, column 4: 'include' where a tag that chat templates have"},
    {"{% set 1 = 2 %}", "template line 1, column 8: only names can be assigned to"},
    {"{{ 99999999999999999999 }}", "an integer is malformed or beyond 64 bits"},
    {"{{ '\\ud800' }}", "a string has a broken \\x, \\u or \\U escape"},
    {"\n\n{{ x }}\xff", "template line 3, column 8: byte 0xff is not UTF-8"},
    {"{{ raise_exception('no') }}", "template line 1, column 19: no"},
    {"{{ d|attr('items') }}{{ d.nothing() }}", "'dict object' has no attribute 'nothing'"},
    {"{{ 9223372036854775807 + 1 }}", "an integer grows beyond 64 bits"},
    {"{{ l.append(1) }}", "access to attribute 'append' of 'list object' is unsafe"},
    {"{{ 'x'|indent(q=1) }}", "indent() does not know one of its keyword arguments"},
    {"{{ 'x'|replace('a') }}", "replace() misses its argument \"new\""},
    {"{% for a in l %}{{ loop(l) }}{% endfor %}", "the loop is not marked as recursive"},
};

START_TEST(a_wrong_template_gets_a_sentence_with_its_place)
{
    struct llm_buffer out = {0};
    llm_error error;
    ck_assert_int_ne(
        render(wrong_templates[_i].text, "{\"x\": 1, \"l\": [1], \"d\": {}}", &out, &error),
        LLM_OK);
    ck_assert_msg(strstr(error.message, wrong_templates[_i].sentence), "%s", error.message);
    llm_buffer_close(&out);
}
END_TEST

/* What would not end, or not fit, ends with a limit's sentence. */
static const char *const hostile_templates[] = {
    "{% set ns = namespace(a='aaaaaaaaaaaaaaaa') %}{% for i in range(1000) %}{% set ns.a = ns.a ~ "
    "ns.a %}{% endfor %}",
    "{% set ns = namespace(a=[1]) %}{% for i in range(1000) %}{% set ns.a = ns.a + ns.a %}{% "
    "endfor %}",
    "{% set ns = namespace(a=[]) %}{% for i in range(100) %}{% set ns.a = [ns.a, ns.a] %}{% endfor "
    "%}{{ ns.a }}",
    "{% set ns = namespace(a=[]) %}{% for i in range(100) %}{% set ns.a = [ns.a, ns.a] %}{% endfor "
    "%}{{ ns.a == ns.a[:] }}{{ ns.a|tojson }}",
    "{% set ns = namespace(a=1) %}{% for i in range(5000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ "
    "ns.a }}",
    "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
    "{{ 'x' * 1000000000 }}",
    "{{ 'x' * 9223372036854775807 }}",
    "{{ [1, 2] * 1000000000 }}",
    "{{ range(1000000000) }}",
    "{{ range(-9223372036854775807, 9223372036854775807)|list }}",
    "{{ 2 ** 1000 ** 1000 }}",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor "
    "%}{% endfor %}{% endfor %}",
    "{% for a in range(100000) %}{% for b in range(100000) "
    "%}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro m(x) %}{{ m(x ~ x) }}{{ m(x) }}{% endmacro %}{{ m('aaaaaaaaaaaaaaaa') }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{{ 'x'.center(1000000000) }}",
    "{{ 'x'|indent(1000000000) }}",
    "{{ [1]|tojson(indent=1000000000) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 'x'.zfill(1000000000000) }}",
    "{% set a = 'ab' * 30000000 %}{% for i in range(100000) %}{{ a.rfind('b' * 1000) }}{% endfor "
    "%}",
    "{% set a = ('a' * 100000)|list %}{% for i in a %}{{ i in a and a.index('b') }}{% endfor %}",
    "{% set a = ('a' * 100000)|list|sort|unique|list %}{% for i in range(100000) %}{{ "
    "'a'.replace('', 'x' * 100000)|length }}{% endfor %}",
};

START_TEST(a_hostile_template_ends_with_a_sentence)
{
    struct llm_buffer out = {0};
    llm_error error;
    enum llm_status status = _i % 6 == 0 ? render(hostile_templates[_i], "{}", &out, &error)
                                         : render_poor(hostile_templates[_i], &out, &error);
    ck_assert_msg(status == LLM_ERR_LIMIT || status == LLM_ERR_INVALID, "%d: %s", status,
                  error.message);
    ck_assert_ptr_nonnull(strstr(error.message, "template line 1, column "));
    llm_buffer_close(&out);
}
END_TEST

static char *repeated(const char *first, const char *piece, unsigned times, const char *last)
{
    struct llm_buffer text = {0};
    ck_assert(llm_buffer_append(&text, first, strlen(first)));
    for (unsigned i = 0; i < times; i++)
        ck_assert(llm_buffer_append(&text, piece, strlen(piece)));
    ck_assert(llm_buffer_append(&text, last, strlen(last) + 1));
    return (char *)text.bytes;
}

static const struct {
    const char *first, *piece, *last;
} deep[] = {
    {"{{ ", "(", "1"},
    {"{{ ", "[", ""},
    {"{{ ", "{1:", ""},
    {"{{ ", "-", "1 }}"},
    {"{{ ", "not ", "1 }}"},
    {"", "{% if 1 %}", ""},
    {"{{ 1", " + 1", " }}"},
    {"{{ 1", "|abs", " }}"},
    {"{{ x", ".x", " }}"},
    {"{{ x", "[x", ""},
    {"", "{% for i in [1] %}", ""},
    {"{{ 1", " if 1 else 1", " }}"},
    {"{{ x", " and x", " }}"},
    {"{{ ", "f(", ""},
    {"{% set ", "(", "a"},
};

START_TEST(a_deep_template_ends_with_a_sentence)
{
    char *text = repeated(deep[_i].first, deep[_i].piece, 20000, deep[_i].last);
    struct llm_buffer out = {0};
    llm_error error;
    ck_assert_int_ne(render(text, "{\"x\": 1}", &out, &error), LLM_OK);
    ck_assert_ptr_nonnull(strstr(error.message, "template line 1, column "));
    llm_buffer_close(&out);
    free(text);
}
END_TEST

static const struct {
    const char *json;
    const char *sentence; /* NULL: good */
} variables[] = {
    {"{\"a\": [1, 2.50, -0, 1e2, true, null, \"\\u00e9\\ud83d\\ude00\\n\"]}", NULL},
    {" {} ", NULL},
    {"[1]", "variables: the JSON is no object"},
    {"", "nothing where a value should be at byte 0"},
    {"{\"a\": 01}", "malformed number"},
    {"{\"a\": 1.}", "malformed number"},
    {"{\"a\": +1}", "malformed number"},
    {"{\"a\": .5}", "malformed number"},
    {"{\"a\": NaN}", "malformed number"},
    {"{\"a\": 1} x", "more text behind the value at byte 9"},
    {"{\"a\" 1}", "without \":\""},
    {"{a: 1}", "a member without its name"},
    {"{\"a\": [1,]}", "malformed number"},
    {"{\"a\": [1", "a list without its"},
    {"{\"a\": \"x", "no end"},
    {"{\"a\": \"\x01\"}", "bare control character"},
    {"{\"a\": \"\xff\"}", "broken UTF-8"},
    {"{\"a\": \"\\ud800\"}", "half of a surrogate pair"},
    {"{\"a\": \"\\udc00\"}", "half of a surrogate pair"},
    {"{\"a\": \"\\x\"}", "an escape that JSON does not have"},
    {"{\"a\": \"\\", "an escape that JSON does not have"},
    {"{\"a\": tru}", "malformed number"},
};

START_TEST(variables_are_json_or_a_sentence_with_the_byte)
{
    struct llm_buffer out = {0};
    llm_error error;
    enum llm_status status = render("{{ a }}", variables[_i].json, &out, &error);
    ck_assert_msg((status == LLM_OK) == (variables[_i].sentence == NULL), "%s", error.message);
    if (variables[_i].sentence)
        ck_assert_msg(strstr(error.message, variables[_i].sentence), "%s", error.message);
    llm_buffer_close(&out);
}
END_TEST

START_TEST(numbers_and_the_order_of_keys_survive)
{
    struct llm_buffer out = {0};
    llm_error error;
    const char *json = "{\"v\": {\"b\": 1, \"a\": 1.0, \"c\": 1e2, \"big\": 18446744073709551616, "
                       "\"b\": 2}}";
    ck_assert_int_eq(render("{{ v }} {{ v|tojson }}", json, &out, &error), LLM_OK);
    const char *want = "{'b': 2, 'a': 1.0, 'c': 100.0, 'big': 18446744073709551616} "
                       "{\"b\": 2, \"a\": 1.0, \"c\": 100.0, \"big\": 18446744073709551616}";
    ck_assert_msg(out.count == strlen(want) && memcmp(out.bytes, want, out.count) == 0, "%.*s",
                  (int)out.count, (char *)out.bytes);
    llm_buffer_close(&out);
}
END_TEST

#define COUNT(rows) (int)(sizeof(rows) / sizeof *(rows))

int main(void)
{
    Suite *suite = suite_create("client/template");
    TCase *cases = tcase_create("language");
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, our_templates_render_as_the_reference_does);
    tcase_add_loop_test(cases, a_wrong_template_gets_a_sentence_with_its_place, 0,
                        COUNT(wrong_templates));
    tcase_add_loop_test(cases, a_hostile_template_ends_with_a_sentence, 0,
                        COUNT(hostile_templates));
    tcase_add_loop_test(cases, a_deep_template_ends_with_a_sentence, 0, COUNT(deep));
    tcase_add_loop_test(cases, variables_are_json_or_a_sentence_with_the_byte, 0, COUNT(variables));
    tcase_add_test(cases, numbers_and_the_order_of_keys_survive);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
