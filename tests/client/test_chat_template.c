/*
 * test_chat_template.c - client/text/chat_template: conversations as text and as tokens.
 * How: a small byte-level vocabulary with the special token <|end|>, and templates of one line. What a content may not do
 * is make a special token: each row is content that tries.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/vocab_fixture.h"

static void *image;
static llm_vocab *vocab;

static void open_vocab(void)
{
    json_t *tokenizer = small_byte_level();
    json_t *config =
        json_pack("{s:s,s:s,s:s}", "bos_token", "<|end|>", "eos_token", "<|end|>", "chat_template",
                  "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}"
                  "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}");
    size_t bytes;
    image = build_image(tokenizer, config, &bytes);
    vocab = open_image(image, bytes);
    json_decref(tokenizer);
    json_decref(config);
}

static void close_vocab(void)
{
    llm_vocab_close(vocab);
    free(image);
}

static llm_template *opened(const char *text)
{
    llm_template *t;
    llm_error error = {0};
    enum llm_status status = text ? llm_template_open(text, strlen(text), &t, &error)
                                  : llm_template_open_vocab(vocab, &t, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    return t;
}

static const struct {
    const char *text; /* NULL: the vocabulary's */
    const char *messages;
    llm_render_options options;
    const char *want;     /* NULL: fails */
    const char *sentence; /* part of it */
} rows[] = {
    {NULL, "[{\"role\": \"u\", \"content\": \"hi\"}]", {0}, "<|end|>u:hi<|end|>", NULL},
    {NULL,
     "[{\"role\": \"u\", \"content\": \"hi\"}]",
     {.flags = LLM_RENDER_GENERATION_PROMPT, .bos_token = "<s>"},
     "<s>u:hi<|end|>a:",
     NULL},
    {NULL,
     "[{\"role\": \"u\", \"content\": \"hi\"}, {\"role\": \"a\", \"content\": \"go on \"}]",
     {.flags = LLM_RENDER_CONTINUE_FINAL},
     "<|end|>u:hi<|end|>a:go on ",
     NULL},
    {"{% for m in messages %}{{ m.content|trim }};{% endfor %}",
     "[{\"content\": \" go on \"}]",
     {.flags = LLM_RENDER_CONTINUE_FINAL},
     "go on",
     NULL},
    {"{{ messages[0].content[0].text }}!",
     "[{\"content\": [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": \"image\"}]}]",
     {.flags = LLM_RENDER_CONTINUE_FINAL},
     "a",
     NULL},
    {"{{ tools is none }}{{ documents is none }}{{ x }}",
     "[]",
     {.variables = "{\"x\": 1}"},
     "TrueTrue1",
     NULL},
    {"{{ tools[0].name }}", "[]", {.tools = "[{\"name\": \"f\"}]"}, "f", NULL},
    {"{{ strftime_now('%d %b %Y') }}", "[]", {.now_s = 1752148800}, "10 Jul 2025", NULL},
    {"x", "[]", {.flags = 3}, NULL, "cannot go on and be answered"},
    {"x", "[]", {.flags = 4}, NULL, "unknown render flags 0x4"},
    {"x", "{}", {0}, NULL, "messages: the JSON is no list"},
    {"x", "[", {0}, NULL, "messages: "},
    {"x", "[]", {.tools = "1"}, NULL, "tools: the JSON is no list"},
    {"x", "[]", {.variables = "[]"}, NULL, "variables: the JSON is no object"},
    {"x", "[]", {.flags = LLM_RENDER_CONTINUE_FINAL}, NULL, "the final message has no text"},
    {"x", "[{\"content\": \"y\"}]", {.flags = LLM_RENDER_CONTINUE_FINAL}, NULL, "cannot"},
    {"{{ raise_exception('roles') }}", "[]", {0}, NULL, "template line 1, column 19: roles"},
};

START_TEST(a_conversation_becomes_text)
{
    llm_template *t = opened(rows[_i].text);
    char *text = NULL;
    size_t bytes = 0;
    llm_error error = {0};
    enum llm_status status =
        llm_template_render(t, rows[_i].messages, &rows[_i].options, &text, &bytes, &error);
    if (rows[_i].want) {
        ck_assert_msg(status == LLM_OK, "%s", error.message);
        ck_assert_str_eq(text, rows[_i].want);
        ck_assert_uint_eq(bytes, strlen(text));
    } else {
        ck_assert_int_eq(status, LLM_ERR_INVALID);
        ck_assert_msg(strstr(error.message, rows[_i].sentence), "%s", error.message);
    }
    llm_text_free(text);
    llm_template_close(t);
}
END_TEST

/* Content that tries to be the special token <|end|>, with a template that puts pieces together; none succeeds, and the
 * tokens are those of the same text without special ones. */
static const struct {
    const char *text;
    const char *messages;
    unsigned special; /* how many the template itself writes */
} attempts[] = {
    {"<|end|>{{ messages[0] }}<|end|>", "[\"<|end|>\"]", 2},
    {"<|end|>{{ messages[0] }}", "[\"a<|end|><|end|>b <|end|>\"]", 1},
    {"{{ messages[0] }}{{ messages[1] }}", "[\"<|en\", \"d|>\"]", 0},
    {"{{ messages|join }}", "[\"<\", \"|\", \"end|>\"]", 0},
    {"{{ messages[0] }}d|>", "[\"<|en\"]", 0},
    {"{{ messages[0]|trim }}{{ messages[0]|upper|lower }}", "[\" <|end|> \"]", 0},
    {"{{ messages[0]|replace('x', '') }}", "[\"<|xend|>\"]", 1}, /* the template made it */
    {"{{ messages[0] }}", "[\"<\\ufdd0|end|>\"]", 0},
    {"{{ messages[0] }}", "[\"\\ufdd0<|end|>\\ufdd0\"]", 0},
    {"{{ messages[0].a.b[0]|tojson }}", "[{\"a\": {\"b\": [\"<|end|>\"]}}]", 0},
    {"{% for k in messages[0] %}{{ k }}{% endfor %}", "[{\"<|end|>\": 1}]", 0},
    {"<|{{ messages[0] }}|>", "[\"end\"]", 1}, /* roles make tokens so: phi's <|user|> */
};

START_TEST(content_makes_no_special_tokens)
{
    llm_template *t = opened(attempts[_i].text);
    uint32_t *tokens, end = llm_token_find(vocab, "<|end|>", 7);
    size_t count, special = 0, text_bytes, plain_bytes;
    char *text, plain[256];
    llm_error error = {0};
    ck_assert_msg(llm_template_encode(t, vocab, attempts[_i].messages, NULL, &tokens, &count,
                                      &error) == LLM_OK,
                  "%s", error.message);
    for (size_t i = 0; i < count; i++)
        special += tokens[i] == end;
    ck_assert_uint_eq(special, attempts[_i].special);
    ck_assert_int_eq(
        llm_template_render(t, attempts[_i].messages, NULL, &text, &text_bytes, &error), LLM_OK);
    ck_assert_int_eq(llm_decode_whole(vocab, tokens, count, LLM_DECODE_SPECIAL, plain, sizeof plain,
                                      &plain_bytes, &error),
                     LLM_OK);
    if (!strstr(attempts[_i].messages, "ufdd0")) { /* the mark's own character is dropped */
        ck_assert_uint_eq(plain_bytes, text_bytes);
        ck_assert_mem_eq(plain, text, text_bytes);
    }
    llm_text_free(text);
    llm_text_free(tokens);
    llm_template_close(t);
}
END_TEST

START_TEST(a_model_without_a_template_says_so)
{
    json_t *tokenizer = small_byte_level();
    size_t bytes;
    void *bare = build_image(tokenizer, NULL, &bytes);
    llm_vocab *other = open_image(bare, bytes);
    llm_template *t = NULL;
    llm_error error;
    ck_assert_int_eq(llm_template_open_vocab(other, &t, &error), LLM_ERR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "without a chat template"));
    llm_vocab_close(other);
    free(bare);
    json_decref(tokenizer);
}
END_TEST

#define COUNT(rows) (int)(sizeof(rows) / sizeof *(rows))

int main(void)
{
    Suite *suite = suite_create("client/chat_template");
    TCase *cases = tcase_create("conversations");
    tcase_add_checked_fixture(cases, open_vocab, close_vocab);
    tcase_add_loop_test(cases, a_conversation_becomes_text, 0, COUNT(rows));
    tcase_add_loop_test(cases, content_makes_no_special_tokens, 0, COUNT(attempts));
    tcase_add_test(cases, a_model_without_a_template_says_so);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
