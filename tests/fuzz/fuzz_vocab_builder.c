/*
 * fuzz_vocab_builder.c - daemon/model: any tokenizer.json ends in an image that a client can use, or in a
 * sentence.
 * How: the first byte chooses raw JSON or one of the small complete vocabularies; for those the following
 * bytes are edits: a walk down the tree by child numbers, then what is put there. What is left is encoded
 * with the result.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/model/json_file.h"
#include "shm/check.h"
#include "tests/support/vocab_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t left;
};

static uint8_t next(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->data++;
}

static json_t *odd_value(struct input *in)
{
    static const char *const values[] = {
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
    uint8_t choice = next(in);
    if (choice < 200)
        return json_loads(values[choice % (sizeof values / sizeof *values)], JSON_DECODE_ANY, NULL);
    char text[32];
    size_t bytes = next(in) % sizeof text;
    for (size_t i = 0; i < bytes; i++)
        text[i] = (char)next(in);
    return json_stringn(text, bytes); /* NULL when it is not UTF-8 */
}

static void edit(json_t *root, struct input *in)
{
    for (int depth = 0; depth < 6; depth++) {
        bool stop = next(in) % 4 == 0;
        size_t child = (size_t)next(in) << 8 | next(in);
        json_t *at = NULL;
        if (json_is_array(root) && json_array_size(root) > 0) {
            child %= json_array_size(root);
            at = json_array_get(root, child);
            if (stop || !(json_is_array(at) || json_is_object(at))) {
                json_array_set_new(root, child, odd_value(in));
                return;
            }
        } else if (json_is_object(root) && json_object_size(root) > 0) {
            void *it = json_object_iter(root);
            for (child %= json_object_size(root); child > 0; child--)
                it = json_object_iter_next(root, it);
            at = json_object_iter_value(it);
            if (stop || !(json_is_array(at) || json_is_object(at))) {
                json_object_iter_set_new(root, it, odd_value(in));
                return;
            }
        }
        if (!at)
            return;
        root = at;
    }
}

static json_t *read_json(struct input *in)
{
    uint8_t kind = next(in);
    json_t *root = NULL;
    if (kind % 4 == 0) {
        if (json_bytes_read((const char *)in->data, in->left, "tokenizer.json", &root, NULL) !=
            LLM_OK)
            root = NULL;
        return root;
    }
    root = kind % 2 ? small_byte_level() : small_sentencepiece();
    for (uint8_t edits = next(in) % 4; edits > 0; edits--)
        edit(root, in);
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
