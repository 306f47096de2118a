/*
 * fuzz_vocab_builder.c - daemon/model: any tokenizer.json ends in an image that a client can use, or in a
 * sentence.
 * How: the first byte chooses raw JSON or one of the small complete vocabularies; for those the following
 * bytes are edits (json_edit.h). What is left is encoded with the result.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/model/json_file.h"
#include "tests/fuzz/json_edit.h"
#include "tests/support/vocab_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const odd_values[] = {
    "null",
    "true",
    "-1",
    "0",
    "3",
    "255",
    "300",
    "4194304",
    "9223372036854775807",
    "1.5",
    "\"\"",
    "\"a\"",
    "\"\\u0120\"",
    "\"\\u2581\"",
    "\"a b\"",
    "\"l l\"",
    "[]",
    "{}",
    "[\"l\",\"l\"]",
    "\"Sequence\"",
    "\"Split\"",
    "\"ByteLevel\"",
    "\"Metaspace\"",
    "\"Digits\"",
    "\"NFC\"",
    "\"NFKD\"",
    "\"Prepend\"",
    "\"Replace\"",
    "\"Removed\"",
    "\"Isolated\"",
    "\"first\"",
    "\"BPE\"",
    "{\"type\":\"NFKC\"}",
    "{\"type\":\"Digits\"}",
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s+|[^\\\\S]\"},\"behavior\":"
    "\"Isolated\"}",
    "{\"type\":\"Split\",\"pattern\":{\"String\":\"l\"},\"behavior\":\"Removed\",\"invert\":"
    "true}",
    "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"first\"}"};

static json_t *read_json(struct input *in)
{
    uint8_t kind = input_byte(in);
    json_t *root = NULL;
    if (kind % 4 == 0) {
        if (json_bytes_read((const char *)in->data, in->left, "tokenizer.json", &root, NULL) !=
            LLM_OK)
            root = NULL;
        return root;
    }
    root = kind % 2 ? small_byte_level() : small_sentencepiece();
    for (uint8_t edits = input_byte(in) % 4; edits > 0; edits--)
        json_edit(root, in, odd_values, sizeof odd_values / sizeof odd_values[0]);
    return root;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    json_t *root = read_json(&in);
    if (!root)
        return 0;
    struct vocab_source source = {
        .tokenizer = root,
        .facts = {.name = "fuzz", .token_count = size % 2 ? 1024 : 0, .bos_id = LLM_TOKEN_NONE}};
    void *image;
    size_t bytes, count = 0, text_bytes;
    if (vocab_build(&source, &image, &bytes, NULL) == LLM_OK) {
        llm_vocab *vocab = open_image(image, bytes); /* what we build, we must accept */
        uint32_t tokens[512];
        (void)!llm_encode(vocab, (const char *)in.data, in.left, LLM_ENCODE_SPECIAL, tokens, 512,
                          &count, NULL);
        (void)!llm_decode_whole(vocab, tokens, count, 0, NULL, 0, &text_bytes, NULL);
        llm_vocab_close(vocab);
        free(image);
    }
    json_decref(root);
    return 0;
}
