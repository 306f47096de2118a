/*
 * fuzz_vocab_image.c - client/text: no image, however damaged, takes a client out of its bounds.
 * How: the input is a list of edits (place, four bytes) to a good image, which then gets a correct check value;
 * what is left of the input is text to encode and ids to decode.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/support/spm_fixture.h"
#include "tests/support/vocab_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned char *good[3];
static size_t good_bytes[3];

static void make_good(void)
{
    for (int i = 0; i < 2 && !good[i]; i++) {
        json_t *json = i ? small_sentencepiece() : small_byte_level();
        good[i] = build_image(json, NULL, &good_bytes[i]);
        json_decref(json);
    }
    if (good[2])
        return;
    struct spm_bytes model = small_spm(NULL);
    good[2] = build_spm_image(model, &good_bytes[2]);
    free(model.bytes);
}

static void use(const llm_vocab *vocab, const uint8_t *data, size_t size)
{
    uint32_t tokens[256];
    size_t count = 0, bytes;
    char text[64];
    for (uint32_t flags = 0; flags < 4; flags++)
        (void)!llm_encode(vocab, (const char *)data, size, flags, tokens, 256, &count, NULL);
    for (size_t i = 0; i + 4 <= size && i < 256; i += 4)
        memcpy(&tokens[i / 4], data + i, 4);
    for (uint32_t flags = 0; flags < 8; flags++)
        (void)!llm_decode_whole(vocab, tokens, size / 4 < 64 ? size / 4 : 64, flags, text,
                                sizeof text, &bytes, NULL);
    (void)llm_token_find(vocab, (const char *)data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    make_good();
    int which = data[0] % 3;
    size_t bytes = good_bytes[which], edits = data[1] % 8;
    unsigned char *image = malloc(bytes);
    memcpy(image, good[which], bytes);
    data += 2;
    size -= 2;
    for (; edits > 0 && size >= 7; edits--, data += 7, size -= 7) {
        size_t at = (size_t)data[0] << 16 | (size_t)data[1] << 8 | data[2];
        memcpy(image + at % (bytes - 3), data + 3, 4);
    }
    uint64_t sum = llm_vocab_image_sum(image, bytes);
    memcpy(image + offsetof(struct llm_vocab_header, check), &sum, sizeof sum);
    llm_vocab *vocab;
    if (llm_vocab_open(image, bytes, &vocab, NULL) == LLM_OK) {
        use(vocab, data, size);
        llm_vocab_close(vocab);
    }
    free(image);
    return 0;
}
