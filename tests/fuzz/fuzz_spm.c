/*
 * fuzz_spm.c - daemon/model: any tokenizer.model ends in an image that a client can use, or in a sentence.
 * How: the first byte chooses raw bytes or one of the small complete files; for those the following bytes are edits
 * (place, byte), which reach numbers, lengths, pieces, scores and the table of characters. What is left is text to
 * encode with the result.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/support/spm_fixture.h"
#include "tests/support/vocab_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct spm_bytes choose(const uint8_t **data, size_t *size)
{
    static const char *const letters[] = {"\xe2\x96\x81", "a", "b", "ab", "aba", NULL};
    static const struct spm_options options[] = {
        {.letters = letters, .no_bytes = true},
        {.letters = letters, .no_bytes = true, .keep_spaces = true, .no_charsmap = true},
        {.no_dummy_prefix = true},
    };
    uint8_t kind = (*data)[0] % 4, edits = (*data)[1] % 8;
    *data += 2;
    *size -= 2;
    if (kind == 3) {
        struct spm_bytes raw = {.bytes = malloc(*size + 1), .count = *size};
        memcpy(raw.bytes, *data, *size);
        return raw;
    }
    struct spm_bytes model = small_spm(&options[kind]);
    for (; edits > 0 && *size >= 4; edits--, *data += 4, *size -= 4) {
        size_t at = (size_t)(*data)[0] << 16 | (size_t)(*data)[1] << 8 | (*data)[2];
        model.bytes[at % model.count] = (*data)[3];
    }
    return model;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct spm_bytes model = choose(&data, &size);
    struct vocab_source source = {
        .spm = model.bytes,
        .spm_bytes = model.count,
        .facts = {.name = "fuzz", .token_count = size % 2 ? 1024 : 0, .bos_id = LLM_TOKEN_NONE}};
    void *image;
    size_t bytes, count = 0, text_bytes;
    if (vocab_build(&source, &image, &bytes, NULL) == LLM_OK) {
        llm_vocab *vocab = open_image(image, bytes); /* what we build, we must accept */
        uint32_t tokens[512];
        (void)!llm_encode(vocab, (const char *)data, size, LLM_ENCODE_SPECIAL, tokens, 512, &count,
                          NULL);
        (void)!llm_decode_whole(vocab, tokens, count < 512 ? count : 512, 0, NULL, 0, &text_bytes,
                                NULL);
        llm_vocab_close(vocab);
        free(image);
    }
    free(model.bytes);
    return 0;
}
