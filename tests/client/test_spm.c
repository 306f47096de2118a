/*
 * test_spm.c - text and tokens of a SentencePiece model: its order of merges, its normal form, its pieces.
 * How: a tokenizer.model is written field by field (spm_fixture.h), built and used, with ids that can be worked out
 * by hand. Random text is compared with SentencePiece's algorithm written down on strings, as the library has it,
 * with scores that tie everywhere. LLM_TEST_SEED replays.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/bpe.h"
#include "client/text/vocab.h"
#include "tests/support/spm_fixture.h"
#include "tests/support/vocab_fixture.h"

static struct spm_bytes model;
static void *image;
static size_t image_bytes;
static llm_vocab *vocab;

static void use(const struct spm_options *options)
{
    llm_vocab_close(vocab);
    free(image);
    free(model.bytes);
    model = small_spm(options);
    image = build_spm_image(model, &image_bytes);
    vocab = open_image(image, image_bytes);
}

static void setup(void)
{
    use(NULL);
}

static void teardown(void)
{
    llm_vocab_close(vocab);
    free(image);
    free(model.bytes);
    vocab = NULL;
    image = NULL;
    model = (struct spm_bytes){0};
}

/* Encode and compare with the tokens' texts, joined by '|' (a space where the model writes U+2581). */
static void expect(const char *text, size_t bytes, uint32_t flags, const char *want)
{
    uint32_t tokens[256];
    size_t count = 0, used = 0;
    char got[1024] = "";
    llm_error error = {0};
    enum llm_status status = llm_encode(vocab, text, bytes, flags, tokens, 256, &count, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    for (size_t i = 0; i < count; i++) {
        const char *token;
        size_t token_bytes;
        ck_assert_int_eq(llm_token_text(vocab, tokens[i], &token, &token_bytes, &error), LLM_OK);
        used += (size_t)snprintf(got + used, sizeof got - used, "%s%.*s", i ? "|" : "",
                                 (int)token_bytes, token);
    }
    ck_assert_msg(strcmp(got, want) == 0, "\"%s\": \"%s\", not \"%s\"", text, got, want);
}
#define EXPECT(text, want) expect(text, sizeof text - 1, 0, want)
#define MARK               "\xe2\x96\x81"

START_TEST(pieces_are_merged_by_score)
{
    EXPECT("hello world", " hello| world");
    EXPECT("ello", " |ello");
    EXPECT("helo", " h|el|o"); /* "el" scores more than "lo" */
    EXPECT("aaaa", " |aa|aa"); /* leftmost first; "aaa" scores less than "aa" */
    expect("hello", 5, LLM_ENCODE_AFFIXES, "<s>| hello");
}
END_TEST

START_TEST(equal_scores_merge_from_the_left)
{
    static const char *const letters[] = {MARK, "a", "b", "ab", "ba", "aba", "bab", NULL};
    use(&(struct spm_options){.letters = letters});
    EXPECT("ababa", " |aba|ba"); /* ab, ab, then aba: each the leftmost of all that score 0 */
    EXPECT("baab", " |ba|ab");
}
END_TEST

START_TEST(characters_become_what_the_table_says)
{
    EXPECT("hello\xc2\xa0world", " hello| world");
    EXPECT("\xe2\x91\xa0\xef\xac\x80", " |1|f|f");
    EXPECT("e\xcc\x81"
           "e",
           " |\xc3\xa9|e"); /* the longest entry, then a character without one */
    EXPECT("h\x01"
           "ello",
           " hello");
    EXPECT("a\xe2\x80\x87"
           "a",
           " |a| |a| |a");
}
END_TEST

START_TEST(spaces_are_trimmed_and_joined)
{
    EXPECT("  hello   world  ", " hello| world");
    EXPECT(" \t\xe3\x80\x80 ", "");
    EXPECT("", "");
    EXPECT("\x01 ", "");
    EXPECT("hello\x01 \x01 world", " hello| world");
    use(&(struct spm_options){.keep_spaces = true});
    EXPECT("  a ",
           "  | |a| "); /* two of them and the dummy prefix: U+2581 U+2581 is user-defined */
    EXPECT(" ", "  ");
    use(&(struct spm_options){.no_dummy_prefix = true, .no_charsmap = true});
    EXPECT("hello", "h|ello");
    EXPECT("hello  ", "h|ello");
}
END_TEST

START_TEST(user_defined_pieces_are_whole_and_merge_with_nothing)
{
    EXPECT("hello<sep>world", " hello|<sep>|w|or|ld"); /* no prefix behind one */
    EXPECT("<sep>", " |<sep>");
    EXPECT("<se", " |<|s|e");
    use(&(struct spm_options){.keep_spaces = true, .no_charsmap = true});
    EXPECT("a   hello", " |a|  | hello");
    EXPECT("a" MARK MARK "a", " |a|  |a");
}
END_TEST

START_TEST(user_defined_pieces_pass_the_table_and_the_trimming)
{
    /* SentencePiece's normaliser knows the piece as it is written, with U+2581: two spaces are not that piece. */
    EXPECT("a" MARK MARK "a", " |a|  |a");
    EXPECT("a  a", " |a| |a");
}
END_TEST

START_TEST(unused_pieces_are_given_as_their_parts)
{
    spm_piece(&model, "hel", -0.5f, 5); /* h + el */
    free(image);
    llm_vocab_close(vocab);
    image = build_spm_image(model, &image_bytes);
    vocab = open_image(image, image_bytes);
    EXPECT("a<sep>hel", " |a|<sep>|h|el");
    EXPECT("a<sep>helhel", " |a|<sep>|h|el|h|el");
}
END_TEST

START_TEST(control_pieces_in_a_text_are_plain_text)
{
    EXPECT("</s>", " |<|/|s|>");
    expect("hello</s>hello", 14, LLM_ENCODE_SPECIAL, " hello|</s>| hello");
    ck_assert_uint_eq(llm_token_find(vocab, "</s>", 4), 2);
    ck_assert(llm_token_is_special(vocab, 2));
    ck_assert(llm_token_is_eos(vocab, 2));
    ck_assert(!llm_token_is_special(vocab, 3));
}
END_TEST

START_TEST(unknown_characters_are_bytes_or_one_unknown_piece)
{
    uint32_t tokens[16];
    size_t count;
    EXPECT("z", " |z");
    use(&(struct spm_options){.no_bytes = true});
    ck_assert_int_eq(llm_encode(vocab, "hzzh", 4, 0, tokens, 16, &count, NULL), LLM_OK);
    ck_assert_uint_eq(count, 3);
    ck_assert_uint_eq(tokens[1], 0);
}
END_TEST

START_TEST(decoding_gives_the_text_back)
{
    static const char *const texts[] = {"hello world", "hello<sep>world", "z\n\xe2\x82\xac", "a a"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        uint32_t tokens[64];
        size_t count, bytes;
        char back[64];
        ck_assert_int_eq(llm_encode(vocab, texts[i], strlen(texts[i]), LLM_ENCODE_AFFIXES, tokens,
                                    64, &count, NULL),
                         LLM_OK);
        ck_assert_int_eq(llm_decode_whole(vocab, tokens, count, 0, back, sizeof back, &bytes, NULL),
                         LLM_OK);
        ck_assert_msg(bytes == strlen(texts[i]) && memcmp(back, texts[i], bytes) == 0, "\"%.*s\"",
                      (int)bytes, back);
    }
}
END_TEST

/* ---- Against SentencePiece's algorithm on strings --------------------------------------------------- */

static const char *const tied[] = {MARK,  "a",   "b",      "c",    "ab",  "bc",  "ca",  "aa",
                                   "abc", "bca", "aab",    "cab",  "aaa", "bb",  "abb", "aabb",
                                   "ccc", "cc",  MARK "a", "abab", "ba",  "bab", NULL};

static int piece_of(const char *text, size_t bytes)
{
    for (int i = 0; tied[i]; i++)
        if (strlen(tied[i]) == bytes && memcmp(tied[i], text, bytes) == 0)
            return i;
    return -1;
}

/* All scores are equal, so the leftmost pair that is a piece is joined, until there is none. `ends` [count] of the
 * symbols; returns their number. */
static size_t obvious(const char *text, size_t *ends, size_t count)
{
    for (bool joined = true; joined;) {
        joined = false;
        for (size_t i = 0; i + 1 < count && !joined; i++) {
            size_t from = i ? ends[i - 1] : 0;
            if (piece_of(text + from, ends[i + 1] - from) < 0)
                continue;
            memmove(ends + i, ends + i + 1, (count - i - 1) * sizeof *ends);
            count--;
            joined = true;
        }
    }
    return count;
}

START_TEST(random_text_merges_as_sentencepiece_does)
{
    uint64_t seed = test_seed(), state = seed;
    use(&(struct spm_options){.letters = tied});
    for (int round = 0; round < 5000; round++) {
        char text[64] = MARK;
        uint32_t tokens[64];
        size_t ends[64] = {3}, letters = 1 + test_random(&state) % 40, count;
        for (size_t i = 0; i < letters; i++) {
            text[3 + i] = "aaabbc"[test_random(&state) % 6];
            ends[1 + i] = 4 + i;
        }
        size_t want = obvious(text, ends, letters + 1);
        ck_assert_int_eq(llm_encode(vocab, text + 3, letters, 0, tokens, 64, &count, NULL), LLM_OK);
        ck_assert_msg(count == want, "LLM_TEST_SEED=%llu: \"%s\": %zu tokens, not %zu",
                      (unsigned long long)seed, text + 3, count, want);
        for (size_t i = 0; i < want; i++) {
            size_t from = i ? ends[i - 1] : 0;
            int id = 5 + 256 + piece_of(text + from, ends[i] - from);
            ck_assert_msg(tokens[i] == (uint32_t)id, "LLM_TEST_SEED=%llu: \"%s\": token %zu",
                          (unsigned long long)seed, text + 3, i);
        }
    }
}
END_TEST

/* ---- Any boundary, any text ------------------------------------------------------------------------- */

START_TEST(any_chunks_and_buffers_give_the_same_text)
{
    static const uint32_t modes[] = {0, LLM_DECODE_BYTES, LLM_DECODE_SPECIAL, LLM_DECODE_CONTINUE};
    uint64_t seed = test_seed(), state = seed;
    for (int round = 0; round < 3000; round++) {
        uint32_t tokens[40], flags = modes[test_random(&state) % 4];
        size_t count = 1 + test_random(&state) % 40, done = 0, got_bytes = 0, want_bytes;
        char want[1024], got[1024];
        for (size_t i = 0; i < count;
             i++) /* half of them bytes: broken characters at every place */
            tokens[i] = (uint32_t)(test_random(&state) % vocab->view.header->token_count);
        ck_assert_int_eq(
            llm_decode_whole(vocab, tokens, count, flags, want, sizeof want, &want_bytes, NULL),
            LLM_OK);
        llm_decoder decoder;
        llm_decoder_init(&decoder, vocab, flags);
        while (done < count) {
            size_t used, bytes, chunk = 1 + test_random(&state) % (count - done);
            size_t capacity = LLM_DECODE_CAPACITY_MIN + test_random(&state) % 8;
            ck_assert_int_eq(llm_decode(&decoder, tokens + done, chunk, got + got_bytes, capacity,
                                        &used, &bytes, NULL),
                             LLM_OK);
            done += used;
            got_bytes += bytes;
        }
        got_bytes += llm_decode_end(&decoder, got + got_bytes);
        ck_assert_msg(got_bytes == want_bytes && memcmp(got, want, want_bytes) == 0,
                      "LLM_TEST_SEED=%llu round %d", (unsigned long long)seed, round);
    }
}
END_TEST

static uint64_t steps_of(const char *unit, size_t bytes)
{
    char *piece = malloc(bytes);
    uint64_t state = 7;
    for (size_t i = 0; i < bytes; i++)
        piece[i] = unit[0] ? unit[i % strlen(unit)] : (char)test_random(&state);
    struct llm_bpe bpe = {.inside = vocab->added_start};
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
    static const char *const units[] = {"a", "b", "c", "ab", "abc", " ", "<sep", "<sep>", ""};
    use(&(struct spm_options){.letters = tied});
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        uint64_t small = steps_of(units[i], 1 << 13), large = steps_of(units[i], 1 << 17);
        ck_assert_msg(large <= 24 * small, "\"%s\": %llu steps, then %llu", units[i],
                      (unsigned long long)small, (unsigned long long)large);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/spm");
    TCase *pieces = tcase_create("pieces");
    tcase_add_checked_fixture(pieces, setup, teardown);
    tcase_add_test(pieces, pieces_are_merged_by_score);
    tcase_add_test(pieces, equal_scores_merge_from_the_left);
    tcase_add_test(pieces, characters_become_what_the_table_says);
    tcase_add_test(pieces, spaces_are_trimmed_and_joined);
    tcase_add_test(pieces, user_defined_pieces_are_whole_and_merge_with_nothing);
    tcase_add_test(pieces, user_defined_pieces_pass_the_table_and_the_trimming);
    tcase_add_test(pieces, unused_pieces_are_given_as_their_parts);
    tcase_add_test(pieces, control_pieces_in_a_text_are_plain_text);
    tcase_add_test(pieces, unknown_characters_are_bytes_or_one_unknown_piece);
    tcase_add_test(pieces, decoding_gives_the_text_back);
    tcase_add_test(pieces, random_text_merges_as_sentencepiece_does);
    tcase_add_test(pieces, any_chunks_and_buffers_give_the_same_text);
    tcase_add_test(pieces, sixteen_times_the_text_takes_at_most_twenty_four_times_the_steps);
    suite_add_tcase(suite, pieces);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
