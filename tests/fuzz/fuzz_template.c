/*
 * fuzz_template.c - client/text/jinja: any bytes are a template or a sentence, and any template renders within its
 * limits or ends with a sentence.
 * How: the first byte decides whether the rest is the template's text as it is, or numbers of words that templates are
 * made of, which gets much deeper; or variables as JSON for a template that shows them.
 */
#include <string.h>

#include "client/text/jinja/render.h"
#include "shm/check.h"
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char variables[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"H\xc3\xb6 <b>'\\\"\\n \"}, {\"role\": "
    "\"assistant\", "
    "\"content\": [{\"type\": \"text\", \"text\": \"x\"}], \"n\": null}], \"d\": {\"a\": 1, \"b\": "
    "{\"c\": [1, 2.5, true]}, \"1\": -3}, \"l\": [3, 1, 2, 1], \"s\": \" a,b  c \", \"n\": 7, "
    "\"x\": "
    "-2.5, \"no\": null, \"big\": 123456789012345678901}";

static const char *const words[] = {"{{ ",
                                    " }}",
                                    "{% ",
                                    " %}",
                                    "{%- ",
                                    " -%}",
                                    "{{- ",
                                    " -}}",
                                    "{# ",
                                    " #}",
                                    "if ",
                                    "elif ",
                                    "else",
                                    "endif",
                                    "for ",
                                    " in ",
                                    "endfor",
                                    "set ",
                                    "endset",
                                    "macro ",
                                    "endmacro",
                                    "call ",
                                    "endcall",
                                    "filter ",
                                    "endfilter",
                                    "with ",
                                    "endwith",
                                    "generation",
                                    "endgeneration",
                                    "raw",
                                    "endraw",
                                    "break",
                                    "continue",
                                    " recursive",
                                    " is ",
                                    " not ",
                                    " and ",
                                    " or ",
                                    " if ",
                                    " else ",
                                    "x",
                                    "n",
                                    "l",
                                    "d",
                                    "s",
                                    "no",
                                    "big",
                                    "messages",
                                    "m",
                                    "loop",
                                    "ns",
                                    "caller",
                                    "varargs",
                                    "kwargs",
                                    "missing",
                                    "true",
                                    "none",
                                    "0",
                                    "1",
                                    "2",
                                    "-1",
                                    "7",
                                    "1.5",
                                    "100000",
                                    "9223372036854775807",
                                    "'a'",
                                    "''",
                                    "'%s%5d'",
                                    "\"\xc3\xbc\xe4\xb8\x96\"",
                                    "'\\n'",
                                    "','",
                                    "(",
                                    ")",
                                    "[",
                                    "]",
                                    "{",
                                    "}",
                                    ":",
                                    ",",
                                    ".",
                                    "|",
                                    "=",
                                    " == ",
                                    " != ",
                                    " < ",
                                    " >= ",
                                    " + ",
                                    " - ",
                                    " * ",
                                    " / ",
                                    " // ",
                                    " % ",
                                    " ** ",
                                    " ~ ",
                                    "*",
                                    "**",
                                    "\n",
                                    " ",
                                    "text",
                                    "m(",
                                    "loop(",
                                    "loop.",
                                    "index",
                                    "previtem",
                                    "cycle(",
                                    "changed(",
                                    "namespace(",
                                    "dict(",
                                    "range(",
                                    "raise_exception(",
                                    "strftime_now(",
                                    "abs",
                                    "attr(",
                                    "batch(",
                                    "capitalize",
                                    "center(",
                                    "default(",
                                    "dictsort",
                                    "escape",
                                    "first",
                                    "float",
                                    "format(",
                                    "indent(",
                                    "int",
                                    "items",
                                    "join(",
                                    "last",
                                    "length",
                                    "list",
                                    "lower",
                                    "map(",
                                    "max",
                                    "min",
                                    "reject(",
                                    "replace(",
                                    "reverse",
                                    "round(",
                                    "safe",
                                    "select(",
                                    "sort",
                                    "string",
                                    "sum",
                                    "title",
                                    "tojson",
                                    "tojson(indent=2)",
                                    "trim",
                                    "truncate(",
                                    "unique",
                                    "upper",
                                    "defined",
                                    "divisibleby(",
                                    "mapping",
                                    "odd",
                                    "sameas ",
                                    "sequence",
                                    "split(",
                                    "rsplit(",
                                    "splitlines()",
                                    "strip(",
                                    "partition(",
                                    "rpartition(",
                                    "startswith(",
                                    "find(",
                                    "rfind(",
                                    "count(",
                                    "index(",
                                    "zfill(",
                                    "ljust(",
                                    "removeprefix(",
                                    "swapcase()",
                                    "isupper()",
                                    "get(",
                                    "keys()",
                                    "values()",
                                    "items()",
                                    "append(",
                                    "attribute=",
                                    "'upper'",
                                    "'c'",
                                    "'b.c.0'",
                                    "[::-1]",
                                    "[1:]",
                                    "[-1]",
                                    "-%}\n  {%-",
                                    "{%+ ",
                                    " +%}",
                                    "set ns.a = ",
                                    "ns.a"};

#define WORD_COUNT (sizeof words / sizeof *words)

/* A template of the words that the bytes number. */
static void write_words(struct input *in, struct llm_buffer *text)
{
    while (in->left > 0) {
        const char *word = words[input_byte(in) % WORD_COUNT];
        CHECK(llm_buffer_append(text, word, strlen(word)));
    }
}

static void render(const char *text, size_t bytes, const char *json, size_t json_bytes)
{
    static const int64_t now_s = 1752148800;
    llm_template *t = NULL;
    llm_error error = {0};
    struct llm_buffer out = {0};
    if (llm_template_open(text, bytes, &t, &error) != LLM_OK) {
        CHECK(error.message[0] && !t);
        return;
    }
    if (llm_template_render_json(t, json, json_bytes, &now_s, &out, &error) != LLM_OK)
        CHECK(error.message[0]);
    CHECK(out.count <= JINJA_OUTPUT_BYTES_MAX);
    llm_buffer_close(&out);
    llm_template_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char shows[] =
        "{{ a }}{{ a|tojson(indent=1) }}{% for b in a %}{{ b }}{% endfor %}";
    struct input in = {data, size};
    uint8_t choice = input_byte(&in) % 8;
    struct llm_buffer text = {0};
    if (choice == 0) {
        render((const char *)in.data, in.left, variables, sizeof variables - 1);
    } else if (choice == 1) {
        render(shows, sizeof shows - 1, (const char *)in.data, in.left);
    } else {
        write_words(&in, &text);
        render((const char *)text.bytes, text.count, variables, sizeof variables - 1);
        llm_buffer_close(&text);
    }
    return 0;
}
