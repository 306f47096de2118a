/*
 * vocab_fixture.h - vocabularies for tests: two small ones made here, and those of the test data.
 *
 * Idea     small_byte_level() and small_sentencepiece() return the JSON of a complete tokenizer.json that a
 *          test may change before it is built, so that every test proves something without any file.
 * Owner    Returned JSON and images belong to the test.
 */
#ifndef LLM_TESTS_SUPPORT_VOCAB_FIXTURE_H
#define LLM_TESTS_SUPPORT_VOCAB_FIXTURE_H

#include <jansson.h>

#include "client/text.h"
#include "daemon/model/vocab_builder.h"

/* Byte-level BPE, GPT-2's splits: 256 bytes, merges up to "hello", " world", "ll", "He", and U+00E9; added:
 * <|end|> (special) and <tool> (not). Ids of bytes are their place in the alphabet's order of bytes. */
json_t *small_byte_level(void);
/* SentencePiece-style BPE with byte fallback, <unk> <s> </s> first, then the bytes, then pieces. */
json_t *small_sentencepiece(void);

/* Build, or stop with the builder's sentence. */
void *build_image(const json_t *tokenizer, const json_t *tokenizer_config, size_t *out_bytes);
enum llm_status try_build(const json_t *tokenizer, uint32_t token_count, llm_error *error);
/* The same from the metadata of a GGUF file. */
void *build_gguf_image(const char *path, size_t *out_bytes);
enum llm_status try_build_gguf(const char *path, llm_error *error);
llm_vocab *open_image(const void *image, size_t bytes);

/* $LLM_TESTDATA/<path>; exits with 77 and a sentence when LLM_TESTDATA is not set. */
const char *testdata(const char *path);
/* A JSON file by its path, or stop. */
json_t *load_json(const char *path);

/* The seed of this run: LLM_TEST_SEED, or one from the clock. */
uint64_t test_seed(void);
/* xorshift64*, Vigna 2016, arXiv:1402.6246 */
uint64_t test_random(uint64_t *state);

#endif
