/*
 * test_encode.c - client/text: text to tokens.
 * How: small vocabularies made in the test, where every id can be worked out by hand; random text against a
 * merge loop that is too simple to be wrong; steps counted on hostile text. The rows of the test data's
 * vectors are in test_vectors.c.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "client/text/bpe.h"
#include "client/text/vocab.h"
#include "tests/support/vocab_fixture.h"

static json_t *json;
static void *image;
static size_t image_bytes;
static llm_vocab *vocab;

static void use(json_t *tokenizer)
{
    json = tokenizer;
    image = build_image(json, NULL, &image_bytes);
    vocab = open_image(image, image_bytes);
}

static void reuse(void) /* after a change of `json` */
{
    llm_vocab_close(vocab);
    free(image);
    use(json);
}

static void setup_byte_level(void)
{
    use(small_byte_level());
}

static void setup_sentencepiece(void)
{
    use(small_sentencepiece());
}

static void teardown(void)
{
    llm_vocab_close(vocab);
    free(image);
    json_decref(json);
}

static uint32_t id_of(const char *name) /* as it is written in model.vocab */
{
    json_t *id = json_object_get(json_object_get(json_object_get(json, "model"), "vocab"), name);
    ck_assert_msg(id != NULL, "no token %s", name);
    return (uint32_t)json_integer_value(id);
}

static void set_in_model(const char *key, json_t *value)
{
    ck_assert_int_eq(json_object_set_new(json_object_get(json, "model"), key, value), 0);
}

/* Encode and compare with names as they are written in model.vocab, or "#id". */
static void expect(const char *text, size_t bytes, uint32_t flags, const char *const *names,
                   size_t name_count)
{
    uint32_t tokens[64];
    size_t count = 0;
    llm_error error = {0};
    ck_assert_int_eq(llm_encode(vocab, text, bytes, flags, tokens, 64, &count, &error), LLM_OK);
    for (size_t i = 0; i < count && i < name_count; i++) {
        uint32_t want = names[i][0] == '#' ? (uint32_t)atoi(names[i] + 1) : id_of(names[i]);
        ck_assert_msg(tokens[i] == want, "\"%s\": token %zu is %u, not %s (%u)", text, i, tokens[i],
                      names[i], want);
    }
    ck_assert_msg(count == name_count, "\"%s\": %zu tokens, not %zu", text, count, name_count);
}

#define EXPECT(text, flags, ...)                                             \
    expect(text, sizeof text - 1, flags, (const char *const[]){__VA_ARGS__}, \
           sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))
#define SPACE "\xc4\xa0" /* how byte-level vocabularies write a space */
#define MARK  "\xe2\x96\x81"

/* ---- Byte level ----------------------------------------------------------------------------------- */

START_TEST(merges_are_applied_lowest_rank_first)
{
    EXPECT("hello world", 0, "hello", SPACE "world");
    EXPECT("Hello", 0, "He", "llo");
    EXPECT("hellllo", 0, "he", "ll", "llo");
    EXPECT("aaaaaaa", 0, "aaaa", "aa", "a");
}
END_TEST

START_TEST(an_empty_text_has_no_tokens)
{
    size_t count = 7;
    ck_assert_int_eq(llm_encode(vocab, NULL, 0, 0, NULL, 0, &count, NULL), LLM_OK);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(merges_do_not_cross_the_pattern)
{
    EXPECT("  world", 0, SPACE, SPACE "world"); /* \s+(?!\S) leaves the last space to the word */
    EXPECT("   ", 0, SPACE SPACE, SPACE);
    EXPECT("he'llo", 0, "he", "'", "ll", "o"); /* 'll is a piece of its own */
}
END_TEST

START_TEST(bytes_that_are_not_utf8_are_kept)
{
    EXPECT("hello\xff\xfehello", 0, "hello", "\xc3\xbf", "\xc3\xbe", "hello");
    EXPECT("\xc3\xa9\xc3", 0, "\xc3\x83\xc2\xa9", "\xc3\x83"); /* a character, then half of one */
    EXPECT("\0", 0, "\xc4\x80");
}
END_TEST

START_TEST(special_tokens_in_a_text_are_plain_text_unless_allowed)
{
    char end[16];
    snprintf(end, sizeof end, "#%u", llm_token_find(vocab, "<|end|>", 7));
    EXPECT("<|end|>", 0, "<", "|", "e", "n", "d", "|", ">");
    EXPECT("hello<|end|>hello", LLM_ENCODE_SPECIAL, "hello", end, "hello");
}
END_TEST

START_TEST(added_tokens_that_are_not_special_are_always_found)
{
    char tool[16];
    snprintf(tool, sizeof tool, "#%u", llm_token_find(vocab, "<tool>", 6));
    EXPECT("hello<tool><tool", 0, "hello", tool, "<", "t", "o", "o", "l");
}
END_TEST

START_TEST(the_longest_added_token_wins)
{
    json_t *added = json_object_get(json, "added_tokens");
    json_array_append_new(added, json_pack("{s:i,s:s}", "id", 900, "content", "<a"));
    json_array_append_new(added, json_pack("{s:i,s:s}", "id", 901, "content", "<aa>"));
    json_array_append_new(added, json_pack("{s:i,s:s}", "id", 902, "content", "<aaa"));
    reuse();
    EXPECT("<aa>", 0, "#901");
    EXPECT("<aa", 0, "#900", "a");
    EXPECT("<aaaa", 0, "#902", "a");
    EXPECT("<<a", 0, "<", "#900");
    json_object_set_new(json_array_get(added, 4), "special", json_true());
    reuse();
    EXPECT("<aaa<a", 0, "<", "aa", "a", "#900"); /* not "<a" and the rest of a special token */
}
END_TEST

START_TEST(added_tokens_swallow_white_space_and_respect_words_as_told)
{
    json_t *added = json_object_get(json, "added_tokens");
    json_array_append_new(added, json_pack("{s:i,s:s,s:b,s:b}", "id", 900, "content", "[M]",
                                           "lstrip", 1, "rstrip", 1));
    json_array_append_new(
        added, json_pack("{s:i,s:s,s:b}", "id", 901, "content", "all", "single_word", 1));
    reuse();
    EXPECT("a \xe2\x80\x83[M] \n a", 0, "a", "#900", "a");
    EXPECT("[M] [M]", 0, "#900", "#900");
    EXPECT("ball all", 0, "b", "a", "ll", SPACE, "#901");
    EXPECT("all\xc3\xa9", 0, "a", "ll", "\xc3\x83\xc2\xa9");
}
END_TEST

START_TEST(ignore_merges_takes_a_known_piece_whole)
{
    set_in_model("ignore_merges", json_true());
    json_object_set_new(json_object_get(json_object_get(json, "model"), "vocab"), "hellll",
                        json_integer(500));
    reuse();
    EXPECT("hellll", 0, "hellll");
    EXPECT("helllll", 0, "he", "ll", "ll", "l");
}
END_TEST

START_TEST(text_is_normalised_to_nfc_before_it_is_split)
{
    json_object_set_new(json, "normalizer", json_pack("{s:s}", "type", "NFC"));
    reuse();
    EXPECT("e\xcc\x81", 0, "\xc3\x83\xc2\xa9");
    EXPECT("\xc3\xa9", 0, "\xc3\x83\xc2\xa9");
}
END_TEST

/* Byte tokens give back what normalisation made of the text, so it can be compared with utf8proc's. */
START_TEST(nfc_is_that_of_every_character_after_every_kind_of_base)
{
    static const char *const bases[] = {"", "a", "\xea\xb0\x80", "\xd0\xb8", "\xe1\x84\x80"};
    json_object_set_new(json, "normalizer", json_pack("{s:s}", "type", "NFC"));
    reuse();
    for (utf8proc_int32_t c = 0x80; c < 0x20000; c += c < 0x3100 ? 1 : 13) {
        utf8proc_uint8_t text[16], *want = NULL;
        uint32_t tokens[64];
        char got[64];
        size_t count, bytes, base_bytes = strlen(bases[_i]);
        if (!utf8proc_codepoint_valid(c) || c == 0x11a7) /* which utf8proc loses */
            continue;
        memcpy(text, bases[_i], base_bytes);
        size_t text_bytes = base_bytes + (size_t)utf8proc_encode_char(c, text + base_bytes);
        utf8proc_ssize_t want_bytes = utf8proc_map(text, (utf8proc_ssize_t)text_bytes, &want,
                                                   UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        ck_assert_int_eq(llm_encode(vocab, (char *)text, text_bytes, 0, tokens, 64, &count, NULL),
                         LLM_OK);
        ck_assert_int_eq(
            llm_decode_whole(vocab, tokens, count, LLM_DECODE_BYTES, got, sizeof got, &bytes, NULL),
            LLM_OK);
        ck_assert_msg((utf8proc_ssize_t)bytes == want_bytes && memcmp(got, want, bytes) == 0,
                      "U+%04X after \"%s\"", (unsigned)c, bases[_i]);
        free(want);
    }
}
END_TEST

START_TEST(a_hangul_vowel_filler_survives_normalisation)
{
    json_object_set_new(json, "normalizer", json_pack("{s:s}", "type", "NFC"));
    reuse();
    static const char text[] = "\xea\xb0\x80\xe1\x86\xa7"; /* GA, then U+11A7 */
    uint32_t tokens[16];
    size_t count, bytes;
    char back[16];
    ck_assert_int_eq(llm_encode(vocab, text, 6, 0, tokens, 16, &count, NULL), LLM_OK);
    ck_assert_int_eq(llm_decode_whole(vocab, tokens, count, 0, back, sizeof back, &bytes, NULL),
                     LLM_OK);
    ck_assert_mem_eq(back, text, 6);
    ck_assert_uint_eq(bytes, 6);
}
END_TEST

START_TEST(add_prefix_space_adds_one_where_none_stands)
{
    json_object_set_new(json_object_get(json, "pre_tokenizer"), "add_prefix_space", json_true());
    reuse();
    EXPECT("world", 0, SPACE "world");
    EXPECT(" world", 0, SPACE "world");
}
END_TEST

START_TEST(a_removed_split_drops_what_it_matches)
{
    json_object_set_new(json, "pre_tokenizer",
                        json_pack("{s:s,s:[{s:s,s:{s:s},s:s,s:b},{s:s,s:b,s:b}]}", "type",
                                  "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex",
                                  "\\s+", "behavior", "Removed", "invert", 0, "type", "ByteLevel",
                                  "add_prefix_space", 0, "use_regex", 0));
    reuse();
    EXPECT("hello  hello ", 0, "hello", "hello");
}
END_TEST

START_TEST(white_space_is_what_oniguruma_calls_white_space)
{
    json_object_set_new(json, "pre_tokenizer",
                        json_pack("{s:s,s:[{s:s,s:{s:s},s:s,s:b},{s:s,s:b,s:b}]}", "type",
                                  "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex",
                                  "[\\S]+", "behavior", "Removed", "invert", 1, "type", "ByteLevel",
                                  "add_prefix_space", 0, "use_regex", 0));
    reuse();
    size_t count;
    /* U+180E, which PCRE2's own \s includes, is kept; U+3000 and U+0085 are dropped. */
    ck_assert_int_eq(llm_encode(vocab, "\xe1\xa0\x8e", 3, 0, NULL, 0, &count, NULL), LLM_OK);
    ck_assert_uint_eq(count, 3);
    ck_assert_int_eq(llm_encode(vocab, "\xe3\x80\x80\xc2\x85", 5, 0, NULL, 0, &count, NULL),
                     LLM_OK);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(a_pattern_that_explodes_ends_in_a_sentence)
{
    json_object_set_new(json, "pre_tokenizer",
                        json_pack("{s:s,s:[{s:s,s:{s:s},s:s,s:b},{s:s,s:b,s:b}]}", "type",
                                  "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex",
                                  "(a+)+$", "behavior", "Isolated", "invert", 0, "type",
                                  "ByteLevel", "add_prefix_space", 0, "use_regex", 0));
    reuse();
    size_t count = 7;
    llm_error error;
    ck_assert_int_eq(llm_encode(vocab, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 41, 0, NULL, 0,
                                &count, &error),
                     LLM_ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(error.message, "split pattern 0 gives up"));
    ck_assert_uint_eq(count, 7);
}
END_TEST

START_TEST(a_buffer_that_is_too_small_is_refused_with_the_count)
{
    uint32_t tokens[4] = {7, 7, 7, 7};
    size_t count = 9;
    llm_error error;
    ck_assert_int_eq(llm_encode(vocab, "hello world", 11, 0, tokens, 1, &count, &error),
                     LLM_ERR_LIMIT);
    ck_assert_str_eq(error.message, "the text has 2 tokens, the buffer holds 1");
    ck_assert_uint_eq(count, 9);
    ck_assert_uint_eq(tokens[1], 7);
    ck_assert_int_eq(llm_encode(vocab, "hello world", 11, 0, NULL, 0, &count, &error), LLM_OK);
    ck_assert_uint_eq(count, 2);
}
END_TEST

START_TEST(unknown_flags_and_bytes_without_tokens_are_refused)
{
    size_t count;
    llm_error error;
    ck_assert_int_eq(llm_encode(vocab, "a", 1, 1u << 9, NULL, 0, &count, &error), LLM_ERR_INVALID);
    json_object_del(json_object_get(json_object_get(json, "model"), "vocab"), "!");
    reuse();
    ck_assert_int_eq(llm_encode(vocab, "hello!", 6, 0, NULL, 0, &count, &error), LLM_ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(error.message, "0x21"));
}
END_TEST

START_TEST(a_model_without_tokeniser_takes_ids_only)
{
    struct vocab_source source = {.facts = {.name = "bare", .token_count = 100, .bos_id = 3}};
    void *bare;
    size_t bytes, count;
    llm_error error;
    ck_assert_int_eq(vocab_build(&source, &bare, &bytes, &error), LLM_OK);
    llm_vocab *ids = open_image(bare, bytes);
    llm_vocab_info info;
    llm_vocab_describe(ids, &info);
    ck_assert(!info.has_text);
    ck_assert_uint_eq(info.token_count, 100);
    ck_assert_uint_eq(info.bos_id, 3);
    ck_assert_int_eq(llm_encode(ids, "a", 1, 0, NULL, 0, &count, &error), LLM_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(error.message, "\"bare\""));
    llm_vocab_close(ids);
    free(bare);
}
END_TEST

static void *encode_often(void *unused)
{
    static const char text[] = "hello <|end|> world, hello <tool> aaaaaaa  he'llo \xff";
    (void)unused;
    uint32_t first[64], tokens[64];
    size_t first_count = 0, count = 0;
    enum llm_status status =
        llm_encode(vocab, text, sizeof text, LLM_ENCODE_SPECIAL, first, 64, &first_count, NULL);
    for (int i = 0; i < 200 && status == LLM_OK; i++) {
        status = llm_encode(vocab, text, sizeof text, LLM_ENCODE_SPECIAL, tokens, 64, &count, NULL);
        if (count != first_count || memcmp(tokens, first, count * sizeof *tokens) != 0)
            return (void *)(uintptr_t) "different tokens";
    }
    return status == LLM_OK ? NULL : (void *)(uintptr_t) "an error";
}

START_TEST(many_threads_share_one_vocabulary)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, encode_often, NULL), 0);
    for (int i = 0; i < 4; i++) {
        void *failure;
        ck_assert_int_eq(pthread_join(threads[i], &failure), 0);
        ck_assert_msg(failure == NULL, "%s", (const char *)failure);
    }
}
END_TEST

/* ---- SentencePiece -------------------------------------------------------------------------------- */

START_TEST(sentencepiece_text_starts_with_a_space)
{
    EXPECT("hello world", 0, MARK "hello", MARK "world");
    EXPECT(" hello", 0, MARK, MARK "hello");
    EXPECT("", LLM_ENCODE_AFFIXES, "#1");
    EXPECT("hello", LLM_ENCODE_AFFIXES, "#1", MARK "hello");
}
END_TEST

START_TEST(unknown_characters_fall_back_to_bytes)
{
    EXPECT("h\xe2\x82\xac", 0, MARK "h", "<0xE2>", "<0x82>", "<0xAC>");
    EXPECT("h\n\xff", 0, MARK "h", "<0x0A>", "<0xFF>");
    EXPECT("\xc3\xa9", 0, MARK, "\xc3\xa9");
}
END_TEST

START_TEST(unknown_characters_fuse_where_there_are_no_bytes)
{
    set_in_model("byte_fallback", json_false());
    reuse();
    EXPECT("h\xe2\x82\xac\xe2\x82\xacz!h", 0, MARK "h", "<unk>", "h");
    set_in_model("fuse_unk", json_false());
    reuse();
    EXPECT("zz", 0, MARK, "<unk>", "<unk>");
}
END_TEST

START_TEST(a_visible_space_in_a_text_is_a_space)
{
    EXPECT("hello" MARK "world", 0, MARK "hello", MARK "world");
}
END_TEST

START_TEST(each_piece_between_special_tokens_gets_its_space)
{
    EXPECT("<s>hello</s>hello", LLM_ENCODE_SPECIAL, "#1", MARK "hello", "#2", MARK "hello");
    EXPECT("<s>", 0, MARK, "<0x3C>", "<0x73>", "<0x3E>");
}
END_TEST

START_TEST(metaspace_can_prefix_the_first_piece_only)
{
    json_object_set_new(json, "normalizer", json_null());
    json_object_set_new(json, "pre_tokenizer",
                        json_pack("{s:s,s:s,s:s,s:b}", "type", "Metaspace", "replacement", MARK,
                                  "prepend_scheme", "first", "split", 1));
    reuse();
    EXPECT("hello world</s>hello", LLM_ENCODE_SPECIAL, MARK "hello", MARK "world", "#2", "h",
           "ello");
    EXPECT(" hello", 0, MARK "hello");
}
END_TEST

/* ---- Against the obvious algorithm ----------------------------------------------------------------- */

/* Join the leftmost lowest-ranked pair until none is left: quadratic, and clearly what BPE means. */
static size_t obvious(const char *piece, size_t bytes, uint32_t *symbols)
{
    const struct llm_vocab_view *view = &vocab->view;
    size_t count = bytes;
    for (size_t i = 0; i < bytes; i++)
        symbols[i] = view->byte_tokens[(uint8_t)piece[i]];
    for (;;) {
        const struct llm_vocab_merge *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            const struct llm_vocab_merge *m =
                llm_vocab_find_merge(view, symbols[i], symbols[i + 1]);
            if (m && (!best || m->rank < best->rank)) {
                best = m;
                at = i;
            }
        }
        if (!best)
            return count;
        symbols[at] = best->merged;
        memmove(symbols + at + 1, symbols + at + 2, (count - at - 2) * sizeof *symbols);
        count--;
    }
}

START_TEST(random_pieces_merge_as_the_obvious_algorithm_does)
{
    static const char letters[] = "heloHwrda \xc3\xa9";
    uint64_t seed = test_seed(), state = seed;
    struct llm_bpe bpe = {0};
    for (int round = 0; round < 3000; round++) {
        char piece[80];
        uint32_t want[80], got[80];
        size_t bytes = 1 + test_random(&state) % 80;
        for (size_t i = 0; i < bytes; i++)
            piece[i] = letters[test_random(&state) % (sizeof letters - 1)];
        struct llm_token_sink sink = {.tokens = got, .capacity = 80};
        size_t want_count = obvious(piece, bytes, want);
        ck_assert_int_eq(
            llm_bpe_encode(&bpe, &vocab->view, (const uint8_t *)piece, bytes, &sink, NULL), LLM_OK);
        ck_assert_msg(sink.count == want_count && memcmp(want, got, want_count * sizeof *want) == 0,
                      "LLM_TEST_SEED=%llu round %d: \"%.*s\"", (unsigned long long)seed, round,
                      (int)bytes, piece);
    }
    llm_bpe_close(&bpe);
}
END_TEST

static uint64_t steps_of(const char *unit, size_t bytes)
{
    char *piece = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        piece[i] = unit[i % strlen(unit)];
    struct llm_bpe bpe = {0};
    struct llm_token_sink sink = {0};
    ck_assert_int_eq(llm_bpe_encode(&bpe, &vocab->view, (const uint8_t *)piece, bytes, &sink, NULL),
                     LLM_OK);
    uint64_t steps = bpe.steps;
    llm_bpe_close(&bpe);
    free(piece);
    return steps;
}

START_TEST(sixteen_times_the_text_takes_at_most_twenty_four_times_the_steps)
{
    static const char *const units[] = {"a", " ", "hel", "l", "hello world", "\xc3\xa9", "lllhe"};
    uint64_t small = steps_of(units[_i], 1 << 14), large = steps_of(units[_i], 1 << 18);
    ck_assert_msg(large <= 24 * small, "\"%s\": %llu steps, then %llu", units[_i],
                  (unsigned long long)small, (unsigned long long)large);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/encode");
    TCase *bytes = tcase_create("byte level");
    tcase_add_checked_fixture(bytes, setup_byte_level, teardown);
    tcase_add_test(bytes, merges_are_applied_lowest_rank_first);
    tcase_add_test(bytes, an_empty_text_has_no_tokens);
    tcase_add_test(bytes, merges_do_not_cross_the_pattern);
    tcase_add_test(bytes, bytes_that_are_not_utf8_are_kept);
    tcase_add_test(bytes, special_tokens_in_a_text_are_plain_text_unless_allowed);
    tcase_add_test(bytes, added_tokens_that_are_not_special_are_always_found);
    tcase_add_test(bytes, the_longest_added_token_wins);
    tcase_add_test(bytes, added_tokens_swallow_white_space_and_respect_words_as_told);
    tcase_add_test(bytes, ignore_merges_takes_a_known_piece_whole);
    tcase_add_test(bytes, text_is_normalised_to_nfc_before_it_is_split);
    tcase_add_loop_test(bytes, nfc_is_that_of_every_character_after_every_kind_of_base, 0, 5);
    tcase_add_test(bytes, a_hangul_vowel_filler_survives_normalisation);
    tcase_add_test(bytes, add_prefix_space_adds_one_where_none_stands);
    tcase_add_test(bytes, a_removed_split_drops_what_it_matches);
    tcase_add_test(bytes, white_space_is_what_oniguruma_calls_white_space);
    tcase_add_test(bytes, a_pattern_that_explodes_ends_in_a_sentence);
    tcase_add_test(bytes, a_buffer_that_is_too_small_is_refused_with_the_count);
    tcase_add_test(bytes, unknown_flags_and_bytes_without_tokens_are_refused);
    tcase_add_test(bytes, a_model_without_tokeniser_takes_ids_only);
    tcase_add_test(bytes, many_threads_share_one_vocabulary);
    tcase_add_test(bytes, random_pieces_merge_as_the_obvious_algorithm_does);
    tcase_add_loop_test(bytes, sixteen_times_the_text_takes_at_most_twenty_four_times_the_steps, 0,
                        7);
    suite_add_tcase(suite, bytes);
    TCase *pieces = tcase_create("sentencepiece");
    tcase_add_checked_fixture(pieces, setup_sentencepiece, teardown);
    tcase_add_test(pieces, sentencepiece_text_starts_with_a_space);
    tcase_add_test(pieces, unknown_characters_fall_back_to_bytes);
    tcase_add_test(pieces, unknown_characters_fuse_where_there_are_no_bytes);
    tcase_add_test(pieces, a_visible_space_in_a_text_is_a_space);
    tcase_add_test(pieces, each_piece_between_special_tokens_gets_its_space);
    tcase_add_test(pieces, metaspace_can_prefix_the_first_piece_only);
    suite_add_tcase(suite, pieces);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
