/*
 * test_vocab_image.c - shm/vocab_image: a good image is understood, a bad one is refused or harmless.
 * How: images of small vocabularies are damaged by hand (one field, one sentence) and at random; each damaged
 * image gets a correct check value again, so that the validation behind it is what is tested. Images that
 * still pass are used for everything a client does with one; the sanitizers watch. LLM_TEST_SEED replays.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/vocab_image.h"
#include "tests/support/spm_fixture.h"
#include "tests/support/vocab_fixture.h"

static unsigned char *image;
static size_t image_bytes;
static struct llm_vocab_header *header;

static void use(json_t *tokenizer)
{
    image = build_image(tokenizer, NULL, &image_bytes);
    header = (void *)image;
    json_decref(tokenizer);
}

static void setup(void)
{
    use(small_byte_level());
}

static void teardown(void)
{
    free(image);
}

static enum llm_status check_as(size_t bytes, llm_error *error)
{
    struct llm_vocab_view view;
    return llm_vocab_image_check(image, bytes, &view, error);
}

static void seal(void)
{
    header->check = llm_vocab_image_sum(image, image_bytes);
}

static void *section(enum llm_vocab_section_id id)
{
    return image + header->sections[id].offset;
}

/* ---- Good images ---------------------------------------------------------------------------------- */

START_TEST(a_built_image_passes_and_its_tables_answer)
{
    struct llm_vocab_view view;
    llm_error error;
    ck_assert_int_eq(llm_vocab_image_check(image, image_bytes, &view, &error), LLM_OK);
    uint32_t l = view.byte_tokens['l'], a = view.byte_tokens['a'];
    const struct llm_vocab_merge *merge = llm_vocab_find_merge(&view, l, l);
    ck_assert_ptr_nonnull(merge);
    ck_assert_uint_eq(merge->rank, 0);
    size_t bytes;
    ck_assert_mem_eq(llm_vocab_token(&view, merge->merged, &bytes), "ll", 2);
    ck_assert_uint_eq(bytes, 2);
    ck_assert_ptr_null(llm_vocab_find_merge(&view, a, l));
    ck_assert_uint_eq(llm_vocab_find_token(&view, (const uint8_t *)"ll", 2), merge->merged);
    ck_assert_uint_eq(llm_vocab_find_token(&view, (const uint8_t *)"lll", 3), LLM_TOKEN_NONE);
    ck_assert_uint_eq(llm_vocab_find_token(&view, (const uint8_t *)"<tool>", 6), LLM_TOKEN_NONE);
    ck_assert(llm_vocab_joins(&view, 'l', 'l'));
    ck_assert(llm_vocab_joins(&view, 'e', 'l')); /* he + llo */
    ck_assert(!llm_vocab_joins(&view, 'a', 'l'));
}
END_TEST

START_TEST(every_token_is_found_by_its_bytes)
{
    struct llm_vocab_view view;
    ck_assert_int_eq(llm_vocab_image_check(image, image_bytes, &view, NULL), LLM_OK);
    for (uint32_t id = 0; id < view.header->token_count; id++) {
        size_t bytes;
        const uint8_t *token = llm_vocab_token(&view, id, &bytes);
        bool ordinary = !(view.token_flags[id] & LLM_TOKEN_ADDED);
        ck_assert_uint_eq(llm_vocab_find_token(&view, token, bytes),
                          ordinary ? id : LLM_TOKEN_NONE);
    }
}
END_TEST

START_TEST(a_mapping_may_be_longer_than_the_image)
{
    unsigned char *page = calloc(1, image_bytes + 4096);
    memcpy(page, image, image_bytes);
    struct llm_vocab_view view;
    ck_assert_int_eq(llm_vocab_image_check(page, image_bytes + 4096, &view, NULL), LLM_OK);
    free(page);
}
END_TEST

START_TEST(the_check_value_sees_every_single_bit)
{
    llm_error error;
    for (size_t bit = 0; bit < image_bytes * 8; bit += 1 + bit % 97) {
        image[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ck_assert_msg(check_as(image_bytes, &error) != LLM_OK, "bit %zu", bit);
        image[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    ck_assert_int_eq(check_as(image_bytes, &error), LLM_OK);
}
END_TEST

/* ---- One damaged field ----------------------------------------------------------------------------- */

#define FIELD(name) offsetof(struct llm_vocab_header, name), sizeof(header->name)
#define SECTION(id, part) \
    offsetof(struct llm_vocab_header, sections[LLM_VOCAB_##id].part), sizeof(uint64_t)

static const struct {
    size_t offset, bytes;
    uint64_t value;
    enum llm_status status;
    const char *sentence;
} damages[] = {
    {FIELD(magic), 7, LLM_ERR_CORRUPT, "magic"},
    {FIELD(version), LLM_VOCAB_VERSION + 1, LLM_ERR_VERSION, "version is 3"},
    {FIELD(header_bytes), 511, LLM_ERR_CORRUPT, "header size"},
    {FIELD(image_bytes), 8, LLM_ERR_CORRUPT, "image size"},
    {FIELD(image_bytes), UINT64_MAX, LLM_ERR_CORRUPT, "image size"},
    {FIELD(kind), 3, LLM_ERR_CORRUPT, "kind"},
    {FIELD(flags), 1u << 31, LLM_ERR_CORRUPT, "flags"},
    {FIELD(normal_form), 5, LLM_ERR_CORRUPT, "normal form"},
    {FIELD(token_count), 0, LLM_ERR_CORRUPT, "token count"},
    {FIELD(token_count), UINT32_MAX, LLM_ERR_CORRUPT, "token count"},
    {FIELD(token_count), 200, LLM_ERR_CORRUPT, "token offsets"},
    {FIELD(bos_id), 100000, LLM_ERR_CORRUPT, "bos id"},
    {FIELD(template_bos_id), 100000, LLM_ERR_CORRUPT, "the template's bos id"},
    {FIELD(template_eos_id), 100000, LLM_ERR_CORRUPT, "the template's eos id"},
    {FIELD(unk_id), 100000, LLM_ERR_CORRUPT, "unk id"},
    {FIELD(eos_count), 17, LLM_ERR_CORRUPT, "17 eos ids"},
    {FIELD(prefix_count), 9, LLM_ERR_CORRUPT, "9 prefix ids"},
    {FIELD(suffix_count), UINT32_MAX, LLM_ERR_CORRUPT, "suffix ids"},
    {FIELD(added_count), UINT32_MAX, LLM_ERR_CORRUPT, "added tokens"},
    {FIELD(split_count), 9, LLM_ERR_CORRUPT, "splits"},
    {FIELD(token_bytes_max), 1, LLM_ERR_CORRUPT, "longest token"},
    {SECTION(TOKEN_OFFSETS, offset), 4, LLM_ERR_CORRUPT, "token offsets"},
    {SECTION(TOKEN_OFFSETS, bytes), UINT64_MAX, LLM_ERR_CORRUPT, "token offsets"},
    {SECTION(TOKEN_BYTES, offset), UINT64_MAX - 7, LLM_ERR_CORRUPT, "token bytes"},
    {SECTION(TOKEN_BYTES, bytes), 3, LLM_ERR_CORRUPT, "the last token's end"},
    {SECTION(TOKEN_FLAGS, bytes), 0, LLM_ERR_CORRUPT, "token flags"},
    {SECTION(BYTE_TOKENS, bytes), 0, LLM_ERR_CORRUPT, "byte tokens"},
    {SECTION(MERGES, bytes), 48, LLM_ERR_CORRUPT, "merges"},
    {SECTION(MERGES, bytes), UINT64_C(1) << 62, LLM_ERR_CORRUPT, "merges"},
    {SECTION(LOOKUP, bytes), 12, LLM_ERR_CORRUPT, "lookup"},
    {SECTION(JUNCTIONS, bytes), 8, LLM_ERR_CORRUPT, "junctions"},
    {SECTION(ADDED, bytes), 8, LLM_ERR_CORRUPT, "added tokens"},
    {SECTION(SPLITS, offset), 0, LLM_ERR_CORRUPT, "splits"},
    {SECTION(PATTERNS, bytes), 3, LLM_ERR_CORRUPT, "split 0"},
    {SECTION(TEMPLATE, bytes), UINT64_C(1) << 40, LLM_ERR_CORRUPT, "chat template"},
    {SECTION(CHARSMAP, bytes), 7, LLM_ERR_CORRUPT, "charsmap"},
    {SECTION(CHARSMAP, offset), 4, LLM_ERR_CORRUPT, "charsmap"},
};
#define DAMAGE_COUNT (int)(sizeof damages / sizeof *damages)

START_TEST(a_damaged_header_field_is_named)
{
    llm_error error = {0};
    memcpy(image + damages[_i].offset, &damages[_i].value, damages[_i].bytes);
    seal();
    ck_assert_int_eq(check_as(image_bytes, &error), (int)damages[_i].status);
    ck_assert_msg(strstr(error.message, damages[_i].sentence) != NULL, "\"%s\" does not say \"%s\"",
                  error.message, damages[_i].sentence);
}
END_TEST

static void expect_corrupt(const char *sentence)
{
    llm_error error = {0};
    seal();
    ck_assert_int_eq(check_as(image_bytes, &error), LLM_ERR_CORRUPT);
    ck_assert_msg(strstr(error.message, sentence) != NULL, "\"%s\"", error.message);
}

START_TEST(a_damaged_token_is_named)
{
    uint32_t *offsets = section(LLM_VOCAB_TOKEN_OFFSETS);
    offsets[5] = UINT32_MAX;
    expect_corrupt("token 5 ends before it starts");
    offsets[5] = 5;
    offsets[0] = 1;
    expect_corrupt("first token's offset");
    offsets[0] = 0;
    ((uint8_t *)section(LLM_VOCAB_TOKEN_FLAGS))[9] = 0x80;
    expect_corrupt("token 9 has flags 0x80");
}
END_TEST

START_TEST(ids_in_tables_must_be_tokens)
{
    uint32_t *bytes = section(LLM_VOCAB_BYTE_TOKENS);
    uint32_t *lookup = section(LLM_VOCAB_LOOKUP);
    struct llm_vocab_merge *merges = section(LLM_VOCAB_MERGES);
    struct llm_vocab_added *added = section(LLM_VOCAB_ADDED);
    uint32_t old = bytes[7];
    bytes[7] = 1u << 20;
    expect_corrupt("byte 0x07");
    bytes[7] = old;
    old = lookup[0];
    lookup[0] = 1u << 20;
    expect_corrupt("lookup slot 0");
    lookup[0] = old;
    struct llm_vocab_merge was = merges[0];
    merges[0] = (struct llm_vocab_merge){1, 2, 0, 1u << 20};
    expect_corrupt("merge slot 0");
    merges[0] = (struct llm_vocab_merge){1, 2, LLM_TOKEN_NONE, 3};
    expect_corrupt("merge slot 0"); /* a rank like "none" would revive symbols that are gone */
    merges[0] = was;
    uint32_t id = added[0].id;
    added[0].id = 1u << 20;
    expect_corrupt("added token 0");
    added[0].id = added[1].id;
    expect_corrupt("out of order");
    added[0].id = id;
    added[0].flags = 1u << 7;
    expect_corrupt("added token 0");
}
END_TEST

static void use_spm(void)
{
    struct spm_bytes model = small_spm(NULL);
    free(image);
    image = build_spm_image(model, &image_bytes);
    header = (void *)image;
    free(model.bytes);
}

START_TEST(a_charsmap_that_leads_out_of_its_array_is_refused)
{
    use_spm();
    struct llm_vocab_charsmap *map = section(LLM_VOCAB_CHARSMAP);
    uint32_t *units = (uint32_t *)(map + 1), count = map->unit_count, was;
    char *text = (char *)(units + count);
    llm_error error;
    ck_assert_int_eq(check_as(image_bytes, &error), LLM_OK);
    map->unit_count = count - 256;
    expect_corrupt("the charsmap's size");
    map->unit_count = UINT32_MAX;
    expect_corrupt("the charsmap's size");
    map->unit_count = 0;
    map->text_bytes += count * 4;
    expect_corrupt("the charsmap's number of units is 0");
    map->unit_count = count;
    map->text_bytes -= count * 4;
    const uint32_t bad[] = {
        0x1fffffu << 10,           /* children beyond the end */
        count << 10,               /* just beyond */
        UINT32_MAX,                /* a string beyond the end */
        1u << 31 | map->text_bytes /* just beyond */
    };
    for (size_t i = 0; i < 4; i++) {
        was = units[300];
        units[300] = bad[i];
        expect_corrupt("a charsmap unit is");
        units[300] = was;
    }
    was = units[0];
    units[0] = 1u << 31; /* a root that is a value */
    expect_corrupt("a charsmap unit is");
    units[0] = 1u << 8; /* a value that is none: the unit at its place is a transition */
    expect_corrupt("a charsmap unit is");
    units[0] = was;
    text[map->text_bytes - 1] = 'x';
    expect_corrupt("the end of the charsmap's text");
    text[map->text_bytes - 1] = 0;
    seal();
    ck_assert_int_eq(check_as(image_bytes, &error), LLM_OK);
}
END_TEST

START_TEST(a_split_token_must_be_longer_than_its_parts)
{
    struct llm_vocab_merge *merge = section(LLM_VOCAB_MERGES);
    uint8_t *flags = section(LLM_VOCAB_TOKEN_FLAGS);
    llm_error error;
    while (merge->left == LLM_TOKEN_NONE)
        merge++;
    flags[merge->merged] |= LLM_TOKEN_SPLIT;
    seal();
    ck_assert_int_eq(check_as(image_bytes, &error), LLM_OK);
    flags[merge->left] |= LLM_TOKEN_SPLIT;
    merge->merged = merge->left; /* giving it would never end */
    expect_corrupt("merge slot");
}
END_TEST

START_TEST(a_name_without_an_end_is_refused)
{
    memset(header->name, 'x', sizeof header->name);
    expect_corrupt("name has no end");
}
END_TEST

START_TEST(a_pattern_that_does_not_compile_is_refused_at_open)
{
    ((char *)section(LLM_VOCAB_PATTERNS))[0] = '(';
    ((char *)section(LLM_VOCAB_PATTERNS))[1] = '(';
    seal();
    llm_vocab *vocab;
    llm_error error;
    ck_assert_int_eq(llm_vocab_open(image, image_bytes, &vocab, &error), LLM_ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(error.message, "split 0 does not compile"));
}
END_TEST

START_TEST(truncated_empty_and_misplaced_images_are_refused)
{
    llm_error error;
    struct llm_vocab_view view;
    for (size_t bytes = 0; bytes < image_bytes; bytes += 1 + bytes % 61) {
        void *cut = malloc(bytes + 1); /* a block of its own, so that the sanitizer sees its end */
        memcpy(cut, image, bytes);
        ck_assert_int_eq(llm_vocab_image_check(cut, bytes, &view, &error), LLM_ERR_CORRUPT);
        free(cut);
    }
    ck_assert_int_eq(llm_vocab_image_check(NULL, 4096, &view, &error), LLM_ERR_INVALID);
    ck_assert_int_eq(llm_vocab_image_check(image + 4, image_bytes - 4, &view, &error),
                     LLM_ERR_INVALID);
}
END_TEST

/* ---- Damage at random ------------------------------------------------------------------------------ */

/* Everything a client does with a vocabulary; the results do not matter. */
static void use_everything(const llm_vocab *vocab, uint64_t *state)
{
    static const char text[] =
        "hello <|end|> world\xff\xc3\xa9 aaaa \xe2\x96\x81 <tool>  \n e\xcc\x81";
    llm_vocab_info info;
    llm_vocab_describe(vocab, &info);
    uint32_t tokens[256];
    char out[64];
    size_t count = 0, bytes;
    (void)!llm_encode(vocab, text, sizeof text, (uint32_t)(test_random(state) & 3), tokens, 256,
                      &count, NULL);
    for (size_t i = count; i < 256; i++)
        tokens[i] = (uint32_t)(test_random(state) % info.token_count);
    (void)!llm_decode_whole(vocab, tokens, 256, (uint32_t)(test_random(state) & 7), out, sizeof out,
                            &bytes, NULL);
    (void)llm_token_find(vocab, "<tool>", 6);
    (void)llm_token_is_eos(vocab, tokens[0]);
}

START_TEST(random_damage_is_refused_or_harmless)
{
    uint64_t seed = test_seed(), state = seed;
    size_t passed = 0;
    if (_i == 1) {
        teardown();
        use(small_sentencepiece());
    } else if (_i == 2) {
        use_spm();
    }
    unsigned char *good = malloc(image_bytes);
    memcpy(good, image, image_bytes);
    for (int round = 0; round < 4000; round++) {
        memcpy(image, good, image_bytes);
        for (uint64_t hits = 1 + test_random(&state) % 3; hits > 0; hits--) {
            size_t range = test_random(&state) % 2 ? image_bytes : sizeof *header;
            size_t at = test_random(&state) % (range / 4) * 4;
            static const uint32_t edges[] = {0, 1, UINT32_MAX, UINT32_MAX - 1, 1u << 31, 512, 8};
            uint32_t value = test_random(&state) % 2 ? edges[test_random(&state) % 7]
                                                     : (uint32_t)test_random(&state) % 300;
            memcpy(image + at, &value, sizeof value);
        }
        seal();
        llm_vocab *vocab;
        if (llm_vocab_open(image, image_bytes, &vocab, NULL) != LLM_OK)
            continue;
        use_everything(vocab, &state);
        llm_vocab_close(vocab);
        passed++;
    }
    free(good);
    ck_assert_msg(passed > 100,
                  "LLM_TEST_SEED=%llu: only %zu images passed; the test tests nothing",
                  (unsigned long long)seed, passed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shm/vocab_image");
    TCase *images = tcase_create("images");
    tcase_set_timeout(images, 60);
    tcase_add_checked_fixture(images, setup, teardown);
    tcase_add_test(images, a_built_image_passes_and_its_tables_answer);
    tcase_add_test(images, every_token_is_found_by_its_bytes);
    tcase_add_test(images, a_mapping_may_be_longer_than_the_image);
    tcase_add_test(images, the_check_value_sees_every_single_bit);
    tcase_add_loop_test(images, a_damaged_header_field_is_named, 0, DAMAGE_COUNT);
    tcase_add_test(images, a_damaged_token_is_named);
    tcase_add_test(images, ids_in_tables_must_be_tokens);
    tcase_add_test(images, a_charsmap_that_leads_out_of_its_array_is_refused);
    tcase_add_test(images, a_split_token_must_be_longer_than_its_parts);
    tcase_add_test(images, a_name_without_an_end_is_refused);
    tcase_add_test(images, a_pattern_that_does_not_compile_is_refused_at_open);
    tcase_add_test(images, truncated_empty_and_misplaced_images_are_refused);
    tcase_add_loop_test(images, random_damage_is_refused_or_harmless, 0, 3);
    suite_add_tcase(suite, images);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
