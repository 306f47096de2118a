/*
 * fuzz_vocab_gguf.c - daemon/model: any metadata of a GGUF file ends in a vocab image that a client can use, or in a
 * sentence.
 * How: a small good file, "gpt2" or "llama", gets edits (place, byte) that reach keys, types, counts, tokens, scores and
 * merges. What is left is text to encode with the result.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/model/gguf.h"
#include "tests/daemon/gguf_writer.h"
#include "tests/support/vocab_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gguf_writer good[2];

static void make_good(void)
{
    static const char *const letters[] = {"a",
                                          "b",
                                          "ab",
                                          "\xc4\xa0",
                                          ("\xc4\xa0"
                                           "a"),
                                          "<|e|>",
                                          "<t>"};
    static const char *const merges[] = {"a b", "\xc4\xa0 a"};
    static const char *const pieces[] = {"<unk>",
                                         "<s>",
                                         "a",
                                         "b",
                                         "ab",
                                         "\xe2\x96\x81",
                                         ("\xe2\x96\x81"
                                          "a"),
                                         "<0x41>",
                                         "<t>"};
    static const int32_t letter_types[] = {1, 1, 1, 1, 1, 3, 4};
    static const int32_t piece_types[] = {2, 3, 1, 1, 1, 1, 1, 6, 4};
    static const float scores[] = {0, 0, -1, -2, -3, -4, -5, 0, 0};
    gguf_writer_open(&good[0]);
    gguf_writer_text(&good[0], "tokenizer.ggml.model", "gpt2");
    gguf_writer_text(&good[0], "tokenizer.ggml.pre", "falcon");
    gguf_writer_texts(&good[0], "tokenizer.ggml.tokens", letters, 7);
    gguf_writer_numbers(&good[0], "tokenizer.ggml.token_type", GGUF_I32, letter_types, 7, 4);
    gguf_writer_texts(&good[0], "tokenizer.ggml.merges", merges, 2);
    gguf_writer_u32(&good[0], "tokenizer.ggml.eos_token_id", 5);
    gguf_writer_open(&good[1]);
    gguf_writer_text(&good[1], "tokenizer.ggml.model", "llama");
    gguf_writer_texts(&good[1], "tokenizer.ggml.tokens", pieces, 9);
    gguf_writer_numbers(&good[1], "tokenizer.ggml.token_type", GGUF_I32, piece_types, 9, 4);
    gguf_writer_numbers(&good[1], "tokenizer.ggml.scores", GGUF_F32, scores, 9, 4);
    gguf_writer_flag(&good[1], "tokenizer.ggml.add_bos_token", 1);
    gguf_writer_finish(&good[0]);
    gguf_writer_finish(&good[1]);
}

struct bytes {
    const void *bytes;
    size_t count;
};

static enum llm_status open_bytes(void *self, const char *name, int *out_fd, llm_error *error)
{
    const struct bytes *file = self;
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0 || write(fd, file->bytes, file->count) != (ssize_t)file->count)
        return llm_fail(error, LLM_ERR_SYSTEM, "no memory file");
    *out_fd = fd;
    return LLM_OK;
}

static void use(const struct gguf *gguf, const uint8_t *text, size_t text_bytes)
{
    struct vocab_source source = {.gguf = gguf,
                                  .facts = {.name = "fuzz", .bos_id = LLM_TOKEN_NONE}};
    void *image;
    size_t bytes, count = 0, back;
    if (vocab_build(&source, &image, &bytes, NULL) != LLM_OK)
        return;
    llm_vocab *vocab = open_image(image, bytes); /* what we build, we must accept */
    uint32_t tokens[512];
    (void)!llm_encode(vocab, (const char *)text, text_bytes, LLM_ENCODE_SPECIAL, tokens, 512,
                      &count, NULL);
    (void)!llm_decode_whole(vocab, tokens, count < 512 ? count : 512, 0, NULL, 0, &back, NULL);
    llm_vocab_close(vocab);
    free(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (!good[0].file.bytes)
        make_good();
    const struct gguf_buffer *from = &good[data[0] % 2].file;
    unsigned char *bytes = malloc(from->count);
    memcpy(bytes, from->bytes, from->count);
    uint8_t edits = data[1] % 8;
    data += 2;
    size -= 2;
    for (; edits > 0 && size >= 3; edits--, data += 3, size -= 3)
        bytes[((size_t)data[0] << 8 | data[1]) % from->count] = data[2];
    struct bytes file = {bytes, from->count};
    struct model_files access = {.open = open_bytes, .self = &file};
    struct gguf gguf = {.files = NULL};
    if (gguf_open(&gguf, &access, "m.gguf", NULL) == LLM_OK)
        use(&gguf, data, size);
    gguf_close(&gguf);
    free(bytes);
    return 0;
}
