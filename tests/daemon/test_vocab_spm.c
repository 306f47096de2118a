/*
 * test_vocab_spm.c - daemon/model/vocab_spm: tokenizer.model in, image or sentence out.
 * How: a complete small file is written field by field (spm_fixture.h), with one thing wrong or added per test, and the
 * status and the sentence are compared. Every cut and every changed byte must end in one of the two.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model/spm_file.h"
#include "daemon/model/vocab_names.h"
#include "tests/support/spm_fixture.h"
#include "tests/support/vocab_fixture.h"

static const struct llm_vocab_header *build_header(struct spm_bytes model, json_t *config,
                                                   uint32_t token_count)
{
    static void *image;
    free(image);
    struct vocab_source source = {
        .spm = model.bytes,
        .spm_bytes = model.count,
        .tokenizer_config = config,
        .facts = {.name = "small", .token_count = token_count, .bos_id = LLM_TOKEN_NONE}};
    size_t bytes;
    llm_error error;
    struct llm_vocab_view view;
    enum llm_status status = vocab_build(&source, &image, &bytes, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    ck_assert_int_eq(llm_vocab_image_check(image, bytes, &view, &error), LLM_OK);
    free(model.bytes);
    json_decref(config);
    return view.header;
}

START_TEST(the_small_file_has_the_expected_facts)
{
    const struct llm_vocab_header *h = build_header(small_spm(NULL), NULL, 0);
    ck_assert_uint_eq(h->kind, LLM_VOCAB_SENTENCEPIECE);
    ck_assert_uint_eq(h->flags, LLM_VOCAB_PREFIX_SPACE | LLM_VOCAB_SPACE_MARKS |
                                    LLM_VOCAB_FUSE_UNKNOWN | LLM_VOCAB_DROP_FIRST_SPACE |
                                    LLM_VOCAB_TRIM_SPACES);
    ck_assert_uint_eq(h->unk_id, 0);
    ck_assert_uint_eq(h->bos_id, 1);
    ck_assert_uint_eq(h->eos_ids[0], 2);
    ck_assert_uint_eq(h->prefix_count, 1);
    ck_assert_uint_eq(h->added_count, 5);
    ck_assert_uint_gt(h->sections[LLM_VOCAB_CHARSMAP].bytes, 0);
    h = build_header(small_spm(&(struct spm_options){
                         .no_dummy_prefix = true, .keep_spaces = true, .no_charsmap = true}),
                     NULL, 0);
    ck_assert_uint_eq(h->flags, LLM_VOCAB_SPACE_MARKS | LLM_VOCAB_FUSE_UNKNOWN);
    ck_assert_uint_eq(h->sections[LLM_VOCAB_CHARSMAP].bytes, 0);
}
END_TEST

START_TEST(tokenizer_config_overrules_and_adds)
{
    const struct llm_vocab_header *h =
        build_header(small_spm(NULL),
                     json_pack("{s:b,s:b,s:s,s:{s:{s:s,s:b},s:{s:s}}}", "add_bos_token", 0,
                               "add_eos_token", 1, "eos_token", "</s>", "added_tokens_decoder",
                               "400", "content", "<|user|>", "special", 1, "1", "content", "<s>"),
                     0);
    ck_assert_uint_eq(h->token_count, 401);
    ck_assert_uint_eq(h->added_count, 6);
    ck_assert_uint_eq(h->prefix_count, 0);
    ck_assert_uint_eq(h->suffix_count, 1);
    ck_assert_uint_eq(h->suffix_ids[0], 2);
}
END_TEST

static void expect(struct spm_bytes model, enum llm_status status, const char *sentence)
{
    llm_error error = {.message = ""};
    ck_assert_msg(try_build_spm(model, 0, &error) == status, "%s: %s", sentence, error.message);
    ck_assert_msg(strstr(error.message, sentence) != NULL, "\"%s\" does not say \"%s\"",
                  error.message, sentence);
    free(model.bytes);
}

/* The small file and one more field of the trainer's (2), the normaliser's (3) or the denormaliser's (5) part. */
static struct spm_bytes with_number(unsigned part, unsigned field, uint64_t value)
{
    struct spm_bytes model = small_spm(NULL), inner = {0};
    spm_number(&inner, field, value);
    spm_message(&model, part, &inner);
    return model;
}

static struct spm_bytes with_bytes(unsigned part, unsigned field, const void *bytes, size_t count)
{
    struct spm_bytes model = small_spm(NULL), inner = {0};
    spm_part(&inner, field, bytes, count);
    spm_message(&model, part, &inner);
    return model;
}

static struct spm_bytes with_piece(const char *name, float score, unsigned type)
{
    struct spm_bytes model = small_spm(NULL);
    spm_piece(&model, name, score, type);
    return model;
}

START_TEST(what_cannot_be_done_exactly_is_refused_by_name)
{
    expect(with_number(2, 3, SPM_MODEL_UNIGRAM), LLM_ERR_UNSUPPORTED, "the model is UNIGRAM");
    expect(with_number(2, 3, 77), LLM_ERR_UNSUPPORTED, "unknown type");
    expect(with_number(2, 24, 1), LLM_ERR_UNSUPPORTED, "treat_whitespace_as_suffix");
    expect(with_number(3, 5, 0), LLM_ERR_UNSUPPORTED, "escape_whitespaces");
    expect(with_bytes(5, 2, "abcd", 4), LLM_ERR_UNSUPPORTED, "denormalizer_spec");
    expect(with_piece("he\xc3\xbc", 0, SPM_PIECE_NORMAL), LLM_OK, ""); /* no merge reaches it */
    expect(with_piece("h\xc3\xbc", 0, SPM_PIECE_NORMAL), LLM_ERR_UNSUPPORTED,
           "has a character that is no piece of its own");
    expect(with_piece("[PAD1]", 0, SPM_PIECE_UNUSED), LLM_OK, "");
}
END_TEST

START_TEST(wrong_pieces_are_named)
{
    expect(with_piece("hello\xff", 0, SPM_PIECE_NORMAL), LLM_OK, "");
    expect(with_piece("el", 0, SPM_PIECE_NORMAL), LLM_ERR_INVALID, "have the same name");
    expect(with_piece("<0xZZ>", 0, SPM_PIECE_BYTE), LLM_ERR_INVALID, "is \"<0xZZ>\", not <0x00>");
    expect(with_piece("<0x1>", 0, SPM_PIECE_BYTE), LLM_ERR_INVALID, "not <0x00>");
    expect(with_piece("<unk2>", 0, SPM_PIECE_UNKNOWN), LLM_ERR_INVALID, "both unknown pieces");
    expect(with_piece("x", 0, 7), LLM_ERR_INVALID, "a type that nobody writes");
    expect(with_piece("x", 0, 0), LLM_ERR_INVALID, "a type that nobody writes");
    expect(with_piece("", 0, 1), LLM_ERR_INVALID, "is empty");
    uint32_t nan_bits = 0x7fc00000;
    float nan;
    memcpy(&nan, &nan_bits, sizeof nan);
    expect(with_piece("x", nan, 1), LLM_ERR_INVALID, "a score is not a number");
    char name[LLM_VOCAB_TOKEN_BYTES_MAX + 2];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = 0;
    expect(with_piece(name, 0, 1), LLM_ERR_LIMIT, "has 4097 bytes, at most 4096");
    struct spm_bytes model = {.bytes = malloc(1), .count = 0};
    expect(model, LLM_ERR_INVALID, "there are no pieces");
    model = (struct spm_bytes){0};
    spm_piece(&model, "a", 0, SPM_PIECE_NORMAL);
    struct spm_bytes trainer = {0};
    spm_number(&trainer, 3, SPM_MODEL_BPE);
    spm_message(&model, 2, &trainer);
    expect(model, LLM_ERR_INVALID, "there is no unknown piece");
    struct spm_bytes no_bytes = small_spm(&(struct spm_options){.no_bytes = true});
    spm_number(&trainer, 35, 1);
    spm_message(&no_bytes, 2, &trainer);
    expect(no_bytes, LLM_ERR_INVALID, "there is no piece <0x00>");
}
END_TEST

START_TEST(wrong_tables_are_named)
{
    static const char *const pairs[] = {"a", "b"};
    struct spm_bytes map = spm_charsmap(pairs, 1);
    expect(with_bytes(3, 2, map.bytes, 3), LLM_ERR_INVALID, "3 bytes says its array has 0");
    expect(with_bytes(3, 2, map.bytes, 300), LLM_ERR_INVALID, "300 bytes says its array has");
    expect(with_bytes(3, 2, map.bytes, map.count - 1), LLM_ERR_INVALID, "end of the charsmap's");
    expect(with_bytes(3, 2, map.bytes, map.count), LLM_OK, "");
    memset(map.bytes + 4 + 4 * 300, 0xff, 4);
    expect(with_bytes(3, 2, map.bytes, map.count), LLM_ERR_INVALID,
           "precompiled_charsmap: a charsmap unit is 4294967295");
    free(map.bytes);
}
END_TEST

START_TEST(ids_must_be_rows_of_the_model)
{
    struct spm_bytes model = small_spm(NULL);
    llm_error error;
    ck_assert_int_eq(try_build_spm(model, 1000, &error), LLM_OK);
    ck_assert_int_eq(try_build_spm(model, 200, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "pieces, the model has 200 tokens"));
    free(model.bytes);
}
END_TEST

/* The bytes in a block of their own, so that the sanitizer sees its end. */
static void try_exactly(const uint8_t *bytes, size_t count)
{
    struct spm_bytes cut = {.bytes = malloc(count + (count == 0)), .count = count};
    memcpy(cut.bytes, bytes, count);
    llm_error error = {.message = ""};
    if (try_build_spm(cut, 0, &error) != LLM_OK)
        ck_assert_uint_gt(strlen(error.message), 0);
    free(cut.bytes);
}

START_TEST(every_cut_ends_in_a_sentence_or_an_image)
{
    struct spm_bytes model = small_spm(&(struct spm_options){.no_bytes = true});
    for (size_t count = 0; count < model.count; count += count < 600 ? 1 : 211)
        try_exactly(model.bytes, count);
    free(model.bytes);
}
END_TEST

START_TEST(random_damage_ends_in_a_sentence_or_an_image)
{
    uint64_t state = test_seed();
    struct spm_bytes model = small_spm(&(struct spm_options){.no_bytes = true});
    printf("LLM_TEST_SEED=%llu\n", (unsigned long long)state);
    uint8_t *damaged = malloc(model.count);
    for (int round = 0; round < 2000; round++) {
        memcpy(damaged, model.bytes, model.count);
        for (int hit = 0; hit < 3; hit++) {
            size_t range = test_random(&state) % 2 ? 500 : model.count;
            damaged[test_random(&state) % range] = (uint8_t)test_random(&state);
        }
        try_exactly(damaged, model.count);
    }
    free(damaged);
    free(model.bytes);
}
END_TEST

START_TEST(numbers_and_parts_that_do_not_end_are_refused)
{
    static const struct {
        const char *bytes;
        size_t count;
        const char *sentence;
    } rows[] = {{"\x0a", 1, "a number is cut off"},
                {"\x0a\x05"
                 "ab",
                 4, "a part is longer than what is left"},
                {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, "more than ten bytes"},
                {"\x0a\xff\xff\xff\xff\x7f", 6, "a part is longer than what is left"},
                {"\x0b", 1, "a wire type that nobody writes"},
                {"\x01", 1, "out of range"},
                {"\x09"
                 "1234567",
                 8, "a number is cut off"},
                {"\x0d"
                 "123",
                 4, "a number is cut off"},
                {"\x08\x01", 2, "the wrong wire type"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct spm_bytes model = {.bytes = malloc(16), .count = rows[i].count};
        memcpy(model.bytes, rows[i].bytes, rows[i].count);
        expect(model, LLM_ERR_INVALID, rows[i].sentence);
    }
}
END_TEST

/* ---- Names ----------------------------------------------------------------------------------------- */

START_TEST(names_are_found_whole_and_in_parts)
{
    static const char *const texts[] = {"a", "ab", "abc", "bc", "c", "", "aaaa"};
    struct vocab_name names[7];
    struct vocab_names table;
    struct vocab_name_parts *parts = malloc(sizeof *parts);
    for (size_t i = 0; i < 7; i++)
        names[i] = (struct vocab_name){(const uint8_t *)texts[i], (uint32_t)strlen(texts[i])};
    ck_assert_int_eq(vocab_names_open(&table, names, 7, "x", NULL), LLM_OK);
    for (uint32_t i = 0; i < 7; i++)
        ck_assert_uint_eq(vocab_names_find(&table, texts[i], strlen(texts[i])),
                          i == 5 ? LLM_TOKEN_NONE : i);
    ck_assert_uint_eq(vocab_names_find(&table, "ba", 2), LLM_TOKEN_NONE);
    vocab_name_parts_init(parts, names[2]);
    ck_assert_uint_eq(vocab_names_find_part(&table, parts, 0, 1), 0);
    ck_assert_uint_eq(vocab_names_find_part(&table, parts, 0, 2), 1);
    ck_assert_uint_eq(vocab_names_find_part(&table, parts, 0, 3), 2);
    ck_assert_uint_eq(vocab_names_find_part(&table, parts, 1, 3), 3);
    ck_assert_uint_eq(vocab_names_find_part(&table, parts, 2, 3), 4);
    ck_assert_uint_eq(vocab_names_find_part(&table, parts, 1, 2), LLM_TOKEN_NONE);
    vocab_names_close(&table);
    ck_assert_uint_eq(vocab_names_find(&table, "a", 1), LLM_TOKEN_NONE);
    free(parts);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon/vocab_spm");
    TCase *files = tcase_create("files");
    tcase_set_timeout(files, 60);
    tcase_add_test(files, the_small_file_has_the_expected_facts);
    tcase_add_test(files, tokenizer_config_overrules_and_adds);
    tcase_add_test(files, what_cannot_be_done_exactly_is_refused_by_name);
    tcase_add_test(files, wrong_pieces_are_named);
    tcase_add_test(files, wrong_tables_are_named);
    tcase_add_test(files, ids_must_be_rows_of_the_model);
    tcase_add_test(files, every_cut_ends_in_a_sentence_or_an_image);
    tcase_add_test(files, random_damage_ends_in_a_sentence_or_an_image);
    tcase_add_test(files, numbers_and_parts_that_do_not_end_are_refused);
    tcase_add_test(files, names_are_found_whole_and_in_parts);
    suite_add_tcase(suite, files);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
