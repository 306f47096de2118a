/*
 * test_vocab_gguf.c - daemon/model/vocab_gguf: a GGUF file's vocabulary in, image or sentence out.
 * How: small files are written key by key (gguf_writer.h) with one thing changed per test. Every name of a
 * pre-tokeniser is built, encodes a text that has everything, and gives its bytes back.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/vocab.h"
#include "daemon/model/byte_alphabet.h"
#include "daemon/model/gguf.h"
#include "daemon/model/vocab_builder.h"
#include "daemon/model/vocab_pretokenizers.h"
#include "tests/daemon/gguf_writer.h"
#include "tests/daemon/memory_files.h"
#include "tests/support/vocab_fixture.h"

#define MARK       "\xe2\x96\x81"
#define TOKENS_MAX 320u
#define I32        5u
#define F32        6u

/* What a file is written from; a test changes it first. */
static struct {
    const char *model, *pre, *name, *chat_template;
    const char *tokens[TOKENS_MAX];
    int32_t types[TOKENS_MAX];
    float scores[TOKENS_MAX];
    uint32_t count, type_count, score_count;
    const char *merges[16];
    uint32_t merge_count;
    int bos, eos, unk;               /* -1: no key */
    int add_bos, add_eos, add_space; /* -1: no key */
} parts;
static char names[256][8]; /* of bytes */

static struct gguf_writer writer;
static struct gguf gguf;
static void *image;
static size_t image_bytes;
static llm_vocab *vocab;
static llm_error error;

static uint32_t add(const char *token, int32_t type, float score)
{
    uint32_t id = parts.count++;
    ck_assert_uint_lt(id, TOKENS_MAX);
    parts.tokens[id] = token;
    parts.types[id] = type;
    parts.scores[id] = score;
    parts.type_count = parts.score_count = parts.count;
    return id;
}

static void begin(const char *model)
{
    memset(&parts, 0, sizeof parts);
    parts.model = model;
    parts.bos = parts.eos = parts.unk = parts.add_bos = parts.add_eos = parts.add_space = -1;
    error = (llm_error){.message = ""};
}

/* Ids 0..255 are the bytes; then "ab", "abc", " a", <|end|> (control), <tool> (user-defined), an unused one. */
static void begin_gpt2(void)
{
    begin("gpt2");
    parts.pre = "gpt-2";
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t c = byte_alphabet_letter((uint8_t)byte);
        if (c < 0x80)
            snprintf(names[byte], sizeof names[byte], "%c", (int)c);
        else
            snprintf(names[byte], sizeof names[byte], "%c%c", (int)(0xc0 | c >> 6),
                     (int)(0x80 | (c & 0x3f)));
        add(names[byte], 1, 0);
    }
    add("ab", 1, 0);
    add("abc", 1, 0);
    add("\xc4\xa0"
        "a",
        1, 0);
    parts.eos = (int)add("<|end|>", 3, 0);
    add("<tool>", 4, 0);
    add("[PAD]", 5, 0);
    parts.merges[0] = "a b";
    parts.merges[1] = "ab c";
    parts.merges[2] = "\xc4\xa0 a";
    parts.merge_count = 3;
}

/* 0 <unk>, 1 <s>, 2 </s>, 3.. bytes, 259.. pieces, <user> (user-defined) last. */
static void begin_llama(void)
{
    begin("llama");
    add("<unk>", 2, 0);
    parts.bos = (int)add("<s>", 3, 0);
    parts.eos = (int)add("</s>", 3, 0);
    for (uint32_t byte = 0; byte < 256; byte++) {
        snprintf(names[byte], sizeof names[byte], "<0x%02X>", byte);
        add(names[byte], 6, 0);
    }
    static const char *const pieces[] = {MARK, "a", "b", "c", "ab", "bc", "abc", MARK "a", "bca"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        add(pieces[i], 1, -(float)i);
    add("<user>", 4, 0);
}

static void write_parts(void)
{
    gguf_writer_open(&writer);
    gguf_writer_text(&writer, "general.architecture", "llama");
    if (parts.name)
        gguf_writer_text(&writer, "general.name", parts.name);
    if (parts.chat_template)
        gguf_writer_text(&writer, "tokenizer.chat_template", parts.chat_template);
    if (parts.model)
        gguf_writer_text(&writer, "tokenizer.ggml.model", parts.model);
    if (parts.pre)
        gguf_writer_text(&writer, "tokenizer.ggml.pre", parts.pre);
    if (parts.count)
        gguf_writer_texts(&writer, "tokenizer.ggml.tokens", parts.tokens, parts.count);
    if (parts.type_count)
        gguf_writer_numbers(&writer, "tokenizer.ggml.token_type", I32, parts.types,
                            parts.type_count, 4);
    if (parts.score_count)
        gguf_writer_numbers(&writer, "tokenizer.ggml.scores", F32, parts.scores, parts.score_count,
                            4);
    if (parts.merge_count)
        gguf_writer_texts(&writer, "tokenizer.ggml.merges", parts.merges, parts.merge_count);
    const struct {
        const char *key;
        int value;
    } ids[] = {{"tokenizer.ggml.bos_token_id", parts.bos},
               {"tokenizer.ggml.eos_token_id", parts.eos},
               {"tokenizer.ggml.unknown_token_id", parts.unk}},
      flags[] = {{"tokenizer.ggml.add_bos_token", parts.add_bos},
                 {"tokenizer.ggml.add_eos_token", parts.add_eos},
                 {"tokenizer.ggml.add_space_prefix", parts.add_space}};
    for (size_t i = 0; i < 3; i++) {
        if (ids[i].value >= 0)
            gguf_writer_u32(&writer, ids[i].key, (uint32_t)ids[i].value);
        if (flags[i].value >= 0)
            gguf_writer_flag(&writer, flags[i].key, (unsigned char)flags[i].value);
    }
    gguf_writer_finish(&writer);
}

static void close_all(void)
{
    llm_vocab_close(vocab);
    free(image);
    gguf_close(&gguf);
    gguf_writer_close(&writer);
    vocab = NULL;
    image = NULL;
}

static enum llm_status try_parts(uint32_t token_count)
{
    close_all();
    write_parts();
    struct memory_files files = {
        .files = {{.name = "m.gguf", .bytes = writer.file.bytes, .byte_count = writer.file.count}}};
    struct model_files access = memory_files_open(&files);
    enum llm_status status = gguf_open(&gguf, &access, "m.gguf", &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    struct vocab_source source = {
        .gguf = &gguf,
        .facts = {.name = "small", .token_count = token_count, .bos_id = LLM_TOKEN_NONE}};
    return vocab_build(&source, &image, &image_bytes, &error);
}

static const struct llm_vocab_header *build(void)
{
    enum llm_status status = try_parts(0);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    vocab = open_image(image, image_bytes);
    return image;
}

static void expect_refused(enum llm_status status, const char *sentence)
{
    ck_assert_msg(try_parts(0) == status, "%s: %s", sentence, error.message);
    ck_assert_msg(strstr(error.message, sentence) != NULL, "\"%s\" does not say \"%s\"",
                  error.message, sentence);
}

/* Encode and compare with the tokens' texts, joined by '|'. */
static void expect(const char *text, uint32_t flags, const char *want)
{
    uint32_t tokens[256];
    size_t count = 0, used = 0;
    char got[1024] = "";
    enum llm_status status =
        llm_encode(vocab, text, strlen(text), flags, tokens, 256, &count, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    for (size_t i = 0; i < count; i++) {
        const char *token;
        size_t bytes;
        ck_assert_int_eq(llm_token_text(vocab, tokens[i], &token, &bytes, &error), LLM_OK);
        used += (size_t)snprintf(got + used, sizeof got - used, "%s%.*s", i ? "|" : "", (int)bytes,
                                 token);
    }
    ck_assert_msg(strcmp(got, want) == 0, "\"%s\": \"%s\", not \"%s\"", text, got, want);
}

/* ---- What good files become ------------------------------------------------------------------------ */

START_TEST(a_gpt2_vocabulary_merges_and_finds_its_tokens)
{
    begin_gpt2();
    const struct llm_vocab_header *h = build();
    ck_assert_uint_eq(h->kind, LLM_VOCAB_BYTE_LEVEL);
    ck_assert_uint_eq(h->prefix_count, 0);
    ck_assert_uint_eq(h->eos_ids[0], (uint32_t)parts.eos);
    ck_assert_uint_eq(h->added_count, 2);
    expect("abc ab a", 0, "abc| |ab| a"); /* "ab" comes before " a" */
    expect("<tool>ab<|end|>", 0, "<tool>|ab|<|||e|n|d|||>");
    expect("ab<|end|>", LLM_ENCODE_SPECIAL | LLM_ENCODE_AFFIXES, "ab|<|end|>");
    expect("[PAD]", 0, "[|P|A|D|]"); /* a row of the model, not a text */
}
END_TEST

START_TEST(a_llama_vocabulary_merges_by_score)
{
    begin_llama();
    const struct llm_vocab_header *h = build();
    ck_assert_uint_eq(h->kind, LLM_VOCAB_SENTENCEPIECE);
    ck_assert_uint_eq(h->bos_id, 1);
    ck_assert_uint_eq(h->unk_id, 0);
    expect("abca", 0, " |abc|a");
    expect("abc", LLM_ENCODE_AFFIXES, "<s>| |abc");
    expect("a<user>a", 0, " a|<user>| a"); /* cut out first, and a space behind it */
    expect("z</s>", 0, " |z|<|/|s|>");
    parts.add_space = 0;
    parts.add_bos = 0;
    parts.add_eos = 1;
    build();
    expect("abc a", LLM_ENCODE_AFFIXES, "abc| a|</s>");
    parts.score_count = 0; /* all scores are equal: leftmost first */
    build();
    expect("abca", 0, "abc|a");
    expect("bca", 0, "bca");
}
END_TEST

START_TEST(the_chat_template_comes_along)
{
    llm_template *t;
    char *text;
    size_t bytes;
    begin_gpt2();
    parts.chat_template = "{{ messages[0] }}{{ eos_token }}";
    build();
    ck_assert_int_eq(llm_template_open_vocab(vocab, &t, &error), LLM_OK);
    ck_assert_int_eq(llm_template_render(t, "[\"ab\"]", NULL, &text, &bytes, &error), LLM_OK);
    ck_assert_str_eq(text, "ab<|end|>");
    llm_text_free(text);
    llm_template_close(t);
}
END_TEST

START_TEST(ids_that_are_none_are_ignored)
{
    begin_llama();
    parts.bos = 4000000;
    parts.unk = 4000000;
    const struct llm_vocab_header *h = build();
    ck_assert_uint_eq(h->bos_id, LLM_TOKEN_NONE);
    ck_assert_uint_eq(h->prefix_count, 0);
    ck_assert_uint_eq(h->unk_id, 0);
}
END_TEST

START_TEST(special_tokens_of_phi3_swallow_the_space_behind_them)
{
    begin_llama();
    add("<|end|>", 3, 0);
    parts.name = "Phi-3 mini";
    build();
    expect("<|end|> \nabc", LLM_ENCODE_SPECIAL, "<|end|>| |abc");
    expect("<s> abc", LLM_ENCODE_SPECIAL, "<s>| | |abc");
    parts.name = "other";
    build();
    expect("<|end|> abc", LLM_ENCODE_SPECIAL, "<|end|>| | |abc");
}
END_TEST

/* ---- Names of pre-tokenisers ----------------------------------------------------------------------- */

START_TEST(every_name_of_a_pre_tokeniser_keeps_every_byte)
{
    static const char text[] = "Hello  world, it's 1234567 don't WE'LL\r\n\r\n  "
                               "x\t\xc3\xa9\xcc\x81 \xe4\xbd\xa0\xe5\xa5\xbd\xe3\x81\x82 "
                               "\xf0\x9f\x99\x82!? a/b \xd0\x9f\xd1\x80 $^`|~ [\xe2\x80\xa6] ";
    uint32_t rows = 0;
    begin_gpt2();
    for (const struct vocab_pretokenizer *pre; (pre = vocab_pretokenizer_at(rows)); rows++) {
        parts.pre = pre->name;
        build();
        uint32_t tokens[256];
        char back[512];
        size_t count, bytes;
        ck_assert_int_eq(llm_encode(vocab, text, sizeof text - 1, 0, tokens, 256, &count, &error),
                         LLM_OK);
        ck_assert_int_eq(llm_decode_whole(vocab, tokens, count, LLM_DECODE_BYTES, back, sizeof back,
                                          &bytes, &error),
                         LLM_OK);
        ck_assert_uint_eq(bytes, sizeof text - 1);
        ck_assert_mem_eq(back, text, bytes);
    }
    ck_assert_uint_gt(rows, 30);
}
END_TEST

/* Floods [0, count), each in a text of about so many bytes, with the vocabulary in use. */
static void encode_floods(size_t count, size_t flood_bytes)
{
    static const struct {
        const char *unit, *end;
    } floods[] = {{" ", "\xf0\x9f\x99\x82"},
                  {"\t", "!"},
                  {"\xe3\x80\x80", "!"},
                  {"a", "1"},
                  {"A", "1"},
                  {"\n", "a"},
                  {" \n", "!"},
                  {"1", "a"},
                  {"!", "a"},
                  {"'", "s"},
                  {"\xcc\x81", "a"},
                  {"\xe4\xbd\xa0", "a"},
                  {"aA", " "},
                  {"\xff", "a"}};
    char *text = malloc(flood_bytes + 8);
    for (size_t i = 0; i < count && i < sizeof floods / sizeof *floods; i++) {
        size_t unit = strlen(floods[i].unit), bytes = flood_bytes / unit * unit, tokens;
        for (size_t at = 0; at < bytes; at++)
            text[at] = floods[i].unit[at % unit];
        memcpy(text + bytes, floods[i].end, strlen(floods[i].end));
        bytes += strlen(floods[i].end);
        enum llm_status status = llm_encode(vocab, text, bytes, 0, NULL, 0, &tokens, &error);
        ck_assert_msg(status == LLM_OK, "%s, flood %zu: %s", parts.pre, i, error.message);
    }
    free(text);
}

START_TEST(every_name_encodes_every_flood)
{
    begin_gpt2();
    for (uint32_t row = 0; vocab_pretokenizer_at(row); row++) {
        parts.pre = vocab_pretokenizer_at(row)->name;
        build();
        encode_floods(SIZE_MAX, 10000);
    }
}
END_TEST

/* As in a process that may not make machine code: there the square of a run's length shows, which PCRE2's own code avoids. */
static void interpret_patterns(void)
{
    for (uint32_t i = 0; i < vocab->view.header->split_count; i++) {
        const struct llm_vocab_split *split = &vocab->view.splits[i];
        int code;
        PCRE2_SIZE offset;
        pcre2_code_free(vocab->splits[i]);
        vocab->splits[i] =
            pcre2_compile((PCRE2_SPTR)vocab->view.patterns + split->pattern_offset,
                          split->pattern_bytes, PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
        ck_assert_ptr_nonnull(vocab->splits[i]);
    }
}

/* White space is what patterns look back over. The square of 400,000 steps does not end in this test's time. */
START_TEST(long_white_space_takes_linear_time)
{
    const char *const *seen = NULL;
    begin_gpt2();
    for (uint32_t row = 0; vocab_pretokenizer_at(row); row++) {
        if (vocab_pretokenizer_at(row)->patterns == seen)
            continue; /* names of the same patterns stand together */
        seen = vocab_pretokenizer_at(row)->patterns;
        parts.pre = vocab_pretokenizer_at(row)->name;
        build();
        interpret_patterns();
        encode_floods(3, 400000);
    }
}
END_TEST

/* One byte token per byte, so that pieces can only be seen where merges would cross them: "ab" and "abc" merge over
 * letters only, " a" over a space. With a merge of digits, cuts in numbers show. */
START_TEST(numbers_are_cut_as_the_name_says)
{
    static const struct {
        const char *pre, *want;
    } rows[] = {{"gpt-2", "1111|1"},
                {"llama-bpe", "11|1|11"},
                {"qwen2", "1|1|1|1|1"},
                {"falcon", "11|1|11"},
                {"starcoder", "1|1|1|1|1"},
                {"deepseek-llm", "1111|1"},
                {"deepseek-coder", "1|1|1|1|1"},
                {"deepseek-v3", "11|1|11"},
                {"tekken", "1|1|1|1|1"},
                {"gpt-4o", "11|1|11"}};
    begin_gpt2();
    add("11", 1, 0);
    add("1111", 1, 0);
    parts.merges[parts.merge_count++] = "1 1";
    parts.merges[parts.merge_count++] = "11 11";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        parts.pre = rows[i].pre;
        build();
        expect("11111", 0, rows[i].want);
    }
    parts.pre = "llama-bpe";
    add("111", 1, 0); /* no merge makes it, but a whole piece is taken as it is */
    build();
    expect("11111", 0, "111|11");
}
END_TEST

START_TEST(llama3_begins_a_text_and_qwen2_composes_it)
{
    begin_gpt2();
    parts.bos = 7;
    parts.pre = "llama-bpe";
    ck_assert_uint_eq(build()->prefix_count, 1);
    parts.add_bos = 0;
    ck_assert_uint_eq(build()->prefix_count, 0);
    parts.pre = "qwen2";
    ck_assert_uint_eq(build()->normal_form, LLM_VOCAB_FORM_NFC);
}
END_TEST

/* ---- What is refused ------------------------------------------------------------------------------- */

START_TEST(what_is_not_known_is_refused_by_name)
{
    begin_gpt2();
    parts.pre = "gpt-5";
    expect_refused(LLM_ERR_UNSUPPORTED, "m.gguf: tokenizer.ggml.pre \"gpt-5\" is not supported");
    parts.pre = NULL;
    expect_refused(LLM_ERR_UNSUPPORTED, "there is no \"tokenizer.ggml.pre\"");
    parts.model = "bert";
    expect_refused(LLM_ERR_UNSUPPORTED, "tokenizer.ggml.model \"bert\" is not supported");
    parts.model = NULL;
    expect_refused(LLM_ERR_UNSUPPORTED, "there is no \"tokenizer.ggml.model\"");
}
END_TEST

START_TEST(wrong_arrays_are_refused_by_name)
{
    begin_gpt2();
    parts.type_count--;
    expect_refused(LLM_ERR_INVALID, "\"tokenizer.ggml.token_type\" has 261 items for 262 tokens");
    begin_llama();
    parts.score_count = 3;
    expect_refused(LLM_ERR_INVALID, "\"tokenizer.ggml.scores\" has 3 items for 269 tokens");
    begin_llama();
    parts.scores[7] = NAN;
    expect_refused(LLM_ERR_INVALID, "the score of token 7 is not a number");
    begin_llama();
    add("ab", 1, 0);
    expect_refused(LLM_ERR_INVALID, "tokens 263 and 269 have the same name");
    begin_llama();
    add("<0x1>", 6, 0);
    expect_refused(LLM_ERR_INVALID, "byte piece 269 is \"<0x1>\"");
    begin_llama();
    add("a\xc3\xbc", 1, 0);
    expect_refused(LLM_ERR_UNSUPPORTED, "has a character that is no piece of its own");
    begin("llama");
    expect_refused(LLM_ERR_INVALID, "there is no \"tokenizer.ggml.tokens\"");
    begin_gpt2();
    parts.merge_count = 0;
    expect_refused(LLM_ERR_INVALID, "there is no \"tokenizer.ggml.merges\"");
    begin_gpt2();
    ck_assert_int_eq(try_parts(200), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "has 262 tokens, the model has 200"));
    ck_assert_int_eq(try_parts(300), LLM_OK);
}
END_TEST

START_TEST(merges_must_be_pairs_of_tokens)
{
    static const struct {
        const char *merge, *sentence;
    } rows[] = {{"ab", "is no pair of tokens"},  {"a b c", "is no pair of tokens"},
                {" ab", "is no pair of tokens"}, {"a ", "is no pair of tokens"},
                {"", "is no pair of tokens"},    {"zz a", "is no token"},
                {"a zz", "is no token"},         {"b a", "is no token"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin_gpt2();
        parts.merges[1] = rows[i].merge;
        expect_refused(LLM_ERR_INVALID, rows[i].sentence);
        ck_assert_ptr_nonnull(strstr(error.message, "tokenizer.ggml.merges[1]"));
    }
}
END_TEST

START_TEST(empty_tokens_are_rows_without_text)
{
    begin_llama();
    add("", 1, 0);
    add("", 1, 0);
    build();
    const char *text;
    size_t bytes;
    ck_assert_int_eq(llm_token_text(vocab, 270, &text, &bytes, &error), LLM_OK);
    ck_assert_uint_eq(bytes, 0);
    begin_gpt2();
    add("", 1, 0);
    build();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/vocab_gguf");
    TCase *good = tcase_create("good files");
    tcase_set_timeout(good, 60);
    tcase_add_checked_fixture(good, NULL, close_all);
    tcase_add_test(good, a_gpt2_vocabulary_merges_and_finds_its_tokens);
    tcase_add_test(good, a_llama_vocabulary_merges_by_score);
    tcase_add_test(good, the_chat_template_comes_along);
    tcase_add_test(good, ids_that_are_none_are_ignored);
    tcase_add_test(good, special_tokens_of_phi3_swallow_the_space_behind_them);
    tcase_add_test(good, every_name_of_a_pre_tokeniser_keeps_every_byte);
    tcase_add_test(good, every_name_encodes_every_flood);
    tcase_add_test(good, long_white_space_takes_linear_time);
    tcase_add_test(good, numbers_are_cut_as_the_name_says);
    tcase_add_test(good, llama3_begins_a_text_and_qwen2_composes_it);
    tcase_add_test(good, empty_tokens_are_rows_without_text);
    suite_add_tcase(suite, good);
    TCase *bad = tcase_create("bad files");
    tcase_add_checked_fixture(bad, NULL, close_all);
    tcase_add_test(bad, what_is_not_known_is_refused_by_name);
    tcase_add_test(bad, wrong_arrays_are_refused_by_name);
    tcase_add_test(bad, merges_must_be_pairs_of_tokens);
    suite_add_tcase(suite, bad);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
