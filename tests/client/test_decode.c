/*
 * test_decode.c - client/text: tokens to text.
 * How: byte tokens spell out any broken UTF-8; every chunking and every buffer size must give what decoding the
 * whole at once gives. Random texts go there and back. LLM_TEST_SEED replays.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/utf8.h"
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

/* One byte token per byte of `bytes`: text that stops and breaks anywhere. */
static size_t spell(const char *bytes, size_t count, uint32_t *out_tokens)
{
    for (size_t i = 0; i < count; i++)
        out_tokens[i] = vocab->view.byte_tokens[(uint8_t)bytes[i]];
    return count;
}

static size_t whole(const uint32_t *tokens, size_t count, uint32_t flags, char *out,
                    size_t capacity)
{
    size_t bytes = 0;
    llm_error error = {0};
    enum llm_status status =
        llm_decode_whole(vocab, tokens, count, flags, out, capacity, &bytes, &error);
    ck_assert_msg(status == LLM_OK, "%s", error.message);
    return bytes;
}

#define EXPECT_SPELT(in, out)                                                                   \
    do {                                                                                        \
        uint32_t tokens[64];                                                                    \
        char text[256];                                                                         \
        size_t count = spell(in, sizeof in - 1, tokens);                                        \
        size_t bytes = whole(tokens, count, 0, text, sizeof text);                              \
        ck_assert_msg(bytes == sizeof out - 1 && memcmp(text, out, bytes) == 0, "got \"%.*s\"", \
                      (int)bytes, text);                                                        \
    } while (0)
#define BAD "\xef\xbf\xbd"

START_TEST(whole_characters_come_out_as_they_are)
{
    EXPECT_SPELT("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x80z",
                 "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x9a\x80z");
    EXPECT_SPELT("\0\x7f", "\0\x7f");
    EXPECT_SPELT("\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80",
                 "\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80");
}
END_TEST

/* The examples of The Unicode Standard 15.0, section 3.9, tables 3-8 to 3-11. */
START_TEST(each_maximal_broken_sequence_becomes_one_replacement)
{
    EXPECT_SPELT("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", BAD BAD BAD BAD BAD BAD BAD BAD "A");
    EXPECT_SPELT("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", BAD BAD BAD BAD BAD BAD BAD BAD "A");
    EXPECT_SPELT("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", BAD BAD BAD BAD BAD "A" BAD BAD "B");
    EXPECT_SPELT("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", BAD BAD BAD BAD "A");
    EXPECT_SPELT("a\xf0\x9f\x9a", "a" BAD); /* the text ends inside a character */
}
END_TEST

START_TEST(a_character_is_held_back_until_it_is_whole)
{
    uint32_t tokens[4];
    size_t used, bytes;
    char text[16];
    llm_decoder decoder;
    spell("\xf0\x9f\x9a\x80", 4, tokens);
    llm_decoder_init(&decoder, vocab, 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(
            llm_decode(&decoder, &tokens[i], 1, text, sizeof text, &used, &bytes, NULL), LLM_OK);
        ck_assert_uint_eq(used, 1);
        ck_assert_uint_eq(bytes, 0);
    }
    ck_assert_int_eq(llm_decode(&decoder, &tokens[3], 1, text, sizeof text, &used, &bytes, NULL),
                     LLM_OK);
    ck_assert_uint_eq(bytes, 4);
    ck_assert_mem_eq(text, "\xf0\x9f\x9a\x80", 4);
    ck_assert_uint_eq(llm_decode_end(&decoder, text), 0);
}
END_TEST

START_TEST(ending_makes_an_unfinished_character_visible_and_starts_anew)
{
    uint32_t tokens[2];
    size_t used, bytes;
    char text[16];
    llm_decoder decoder;
    spell("\xe2\x82", 2, tokens);
    llm_decoder_init(&decoder, vocab, 0);
    ck_assert_int_eq(llm_decode(&decoder, tokens, 2, text, sizeof text, &used, &bytes, NULL),
                     LLM_OK);
    ck_assert_uint_eq(llm_decode_end(&decoder, text), 3);
    ck_assert_mem_eq(text, BAD, 3);
    ck_assert_uint_eq(llm_decode_end(&decoder, text), 0);
}
END_TEST

START_TEST(exact_bytes_come_out_on_demand)
{
    uint32_t tokens[3];
    char text[8];
    spell("\xe2\x82\xff", 3, tokens);
    ck_assert_uint_eq(whole(tokens, 3, LLM_DECODE_BYTES, text, sizeof text), 3);
    ck_assert_mem_eq(text, "\xe2\x82\xff", 3);
}
END_TEST

START_TEST(special_tokens_are_silent_unless_asked_for)
{
    uint32_t end = llm_token_find(vocab, "<|end|>", 7), tool = llm_token_find(vocab, "<tool>", 6);
    uint32_t tokens[] = {end, tool};
    char text[32];
    ck_assert(llm_token_is_special(vocab, end));
    ck_assert(!llm_token_is_special(vocab, tool));
    ck_assert_uint_eq(whole(tokens, 2, 0, text, sizeof text), 6);
    ck_assert_mem_eq(text, "<tool>", 6);
    ck_assert_uint_eq(whole(tokens, 2, LLM_DECODE_SPECIAL, text, sizeof text), 13);
    ck_assert_mem_eq(text, "<|end|><tool>", 13);
}
END_TEST

START_TEST(a_token_outside_the_vocabulary_is_refused_after_the_text_before_it)
{
    uint32_t count = vocab->view.header->token_count;
    uint32_t tokens[] = {vocab->view.byte_tokens['a'], count, vocab->view.byte_tokens['b']};
    llm_decoder decoder;
    llm_error error;
    char text[8];
    size_t used, bytes;
    llm_decoder_init(&decoder, vocab, 0);
    ck_assert_int_eq(llm_decode(&decoder, tokens, 3, text, sizeof text, &used, &bytes, &error),
                     LLM_ERR_INVALID);
    ck_assert_uint_eq(used, 1);
    ck_assert_uint_eq(bytes, 1);
    ck_assert_ptr_nonnull(strstr(error.message, "outside the vocabulary"));
    tokens[1] = UINT32_MAX;
    ck_assert_int_eq(llm_decode_whole(vocab, tokens, 3, 0, NULL, 0, &bytes, &error),
                     LLM_ERR_INVALID);
    ck_assert(!llm_token_is_special(vocab, UINT32_MAX));
}
END_TEST

START_TEST(buffers_that_are_too_small_are_refused_with_a_sentence)
{
    uint32_t tokens[] = {vocab->view.byte_tokens['a'], vocab->view.byte_tokens['b']};
    llm_decoder decoder;
    llm_error error;
    char text[8] = "zzzzzzz";
    size_t used = 9, bytes = 9;
    llm_decoder_init(&decoder, vocab, 0);
    ck_assert_int_eq(llm_decode(&decoder, tokens, 2, text, 3, &used, &bytes, &error),
                     LLM_ERR_LIMIT);
    ck_assert_uint_eq(used, 9);
    ck_assert_int_eq(llm_decode_whole(vocab, tokens, 2, 0, text, 1, &bytes, &error), LLM_ERR_LIMIT);
    ck_assert_str_eq(error.message, "the text has 2 bytes, the buffer holds 1");
    ck_assert_uint_eq(bytes, 9);
    ck_assert_int_eq(llm_decode_whole(vocab, tokens, 2, 0, NULL, 0, &bytes, &error), LLM_OK);
    ck_assert_uint_eq(bytes, 2);
}
END_TEST

START_TEST(token_text_is_the_bytes_of_one_token)
{
    const char *text;
    size_t bytes;
    llm_error error;
    uint32_t token;
    size_t count;
    ck_assert_int_eq(llm_encode(vocab, " world", 6, 0, &token, 1, &count, &error), LLM_OK);
    ck_assert_int_eq(llm_token_text(vocab, token, &text, &bytes, &error), LLM_OK);
    ck_assert_uint_eq(bytes, 6);
    ck_assert_mem_eq(text, " world", 6);
    ck_assert_int_eq(llm_token_text(vocab, 1u << 30, &text, &bytes, &error), LLM_ERR_INVALID);
}
END_TEST

/* Decode in random chunks through random small buffers. */
static size_t in_pieces(const uint32_t *tokens, size_t count, uint32_t flags, char *out,
                        uint64_t *state)
{
    llm_decoder decoder;
    llm_decoder_init(&decoder, vocab, flags);
    size_t done = 0, total = 0;
    while (done < count) {
        char piece[24];
        size_t used, bytes, chunk = 1 + test_random(state) % (count - done);
        size_t capacity = 4 + test_random(state) % 20;
        ck_assert_int_eq(
            llm_decode(&decoder, tokens + done, chunk, piece, capacity, &used, &bytes, NULL),
            LLM_OK);
        ck_assert(bytes <= capacity);
        ck_assert(used > 0 || bytes > 0); /* every call gets further */
        if (!(flags & LLM_DECODE_BYTES))
            for (size_t i = 0; i < bytes; i += llm_utf8_length((uint8_t)piece[i]))
                ck_assert(llm_utf8_character((uint8_t *)piece + i, bytes - i) > 0);
        memcpy(out + total, piece, bytes);
        total += bytes;
        done += used;
    }
    return total + llm_decode_end(&decoder, out + total);
}

START_TEST(any_chunks_and_buffers_give_the_same_text)
{
    static const uint32_t modes[] = {0, LLM_DECODE_BYTES, LLM_DECODE_SPECIAL,
                                     LLM_DECODE_CONTINUE | LLM_DECODE_BYTES};
    uint64_t seed = test_seed(), state = seed;
    for (int round = 0; round < 2000; round++) {
        uint32_t tokens[60];
        char want[4096], got[4096];
        size_t count = 1 + test_random(&state) % 60;
        for (size_t i = 0; i < count; i++)
            tokens[i] = (uint32_t)(test_random(&state) % vocab->view.header->token_count);
        uint32_t flags = modes[test_random(&state) % 4];
        size_t want_bytes = whole(tokens, count, flags, want, sizeof want);
        size_t got_bytes = in_pieces(tokens, count, flags, got, &state);
        ck_assert_msg(got_bytes == want_bytes && memcmp(got, want, got_bytes) == 0,
                      "LLM_TEST_SEED=%llu round %d", (unsigned long long)seed, round);
    }
}
END_TEST

START_TEST(any_bytes_survive_encoding_and_decoding)
{
    uint64_t seed = test_seed(), state = seed;
    for (int round = 0; round < 3000; round++) {
        char text[100], back[400];
        uint32_t tokens[400];
        size_t count, bytes = test_random(&state) % 100;
        for (size_t i = 0; i < bytes; i++) /* letters, or half of the time any byte */
            text[i] =
                round % 2 ? (char)test_random(&state) : " helorwdHA"[test_random(&state) % 10];
        ck_assert_int_eq(llm_encode(vocab, text, bytes, 0, tokens, 400, &count, NULL), LLM_OK);
        size_t back_bytes = whole(tokens, count, LLM_DECODE_BYTES, back, sizeof back);
        ck_assert_msg(back_bytes == bytes && memcmp(back, text, bytes) == 0,
                      "LLM_TEST_SEED=%llu round %d", (unsigned long long)seed, round);
    }
}
END_TEST

START_TEST(sentencepiece_drops_the_space_it_put_before_the_text)
{
    uint32_t tokens[8];
    size_t count;
    char text[64];
    ck_assert_int_eq(
        llm_encode(vocab, "hello world", 11, LLM_ENCODE_AFFIXES, tokens, 8, &count, NULL), LLM_OK);
    ck_assert_uint_eq(whole(tokens, count, 0, text, sizeof text), 11);
    ck_assert_mem_eq(text, "hello world", 11);
    ck_assert_uint_eq(whole(tokens, count, LLM_DECODE_CONTINUE, text, sizeof text), 12);
    ck_assert_mem_eq(text, " hello world", 12);
    ck_assert_uint_eq(whole(tokens, count, LLM_DECODE_SPECIAL, text, sizeof text), 15);
    ck_assert_mem_eq(text, "<s> hello world", 15);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/decode");
    TCase *bytes = tcase_create("byte level");
    tcase_add_checked_fixture(bytes, setup_byte_level, teardown);
    tcase_add_test(bytes, whole_characters_come_out_as_they_are);
    tcase_add_test(bytes, each_maximal_broken_sequence_becomes_one_replacement);
    tcase_add_test(bytes, a_character_is_held_back_until_it_is_whole);
    tcase_add_test(bytes, ending_makes_an_unfinished_character_visible_and_starts_anew);
    tcase_add_test(bytes, exact_bytes_come_out_on_demand);
    tcase_add_test(bytes, special_tokens_are_silent_unless_asked_for);
    tcase_add_test(bytes, a_token_outside_the_vocabulary_is_refused_after_the_text_before_it);
    tcase_add_test(bytes, buffers_that_are_too_small_are_refused_with_a_sentence);
    tcase_add_test(bytes, token_text_is_the_bytes_of_one_token);
    tcase_add_test(bytes, any_chunks_and_buffers_give_the_same_text);
    tcase_add_test(bytes, any_bytes_survive_encoding_and_decoding);
    suite_add_tcase(suite, bytes);
    TCase *pieces = tcase_create("sentencepiece");
    tcase_add_checked_fixture(pieces, setup_sentencepiece, teardown);
    tcase_add_test(pieces, sentencepiece_drops_the_space_it_put_before_the_text);
    tcase_add_test(pieces, any_chunks_and_buffers_give_the_same_text);
    suite_add_tcase(suite, pieces);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
