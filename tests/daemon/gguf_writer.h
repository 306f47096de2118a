/*
 * gguf_writer.h - GGUF files that a test writes itself, in memory.
 *
 * Idea     Keys, tensor entries and data grow in three buffers; gguf_writer_finish() puts them behind each other. Every
 *          number goes in as it is given, so a test can also lie. Little-endian machines only.
 * Source   https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
 */
#ifndef LLM_TESTS_DAEMON_GGUF_WRITER_H
#define LLM_TESTS_DAEMON_GGUF_WRITER_H

#include "daemon/model/gguf.h"

#include <stddef.h>
#include <stdint.h>

struct gguf_buffer {
    unsigned char *bytes;
    size_t count, capacity;
};

struct gguf_writer {
    struct gguf_buffer keys, entries, data, file;
    uint64_t key_count, tensor_count;
    uint32_t version;
    uint64_t alignment; /* of tensors; a key must say so where it is not 32 */
};

void gguf_writer_open(struct gguf_writer *w); /* version 3, alignment 32 */
void gguf_writer_close(struct gguf_writer *w);

/* ---- keys ---- */

/* A value as it stands, its type's number before it. */
void gguf_writer_value(struct gguf_writer *w, const char *key, uint32_t type, const void *bytes,
                       size_t count);
void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value);
void gguf_writer_f32(struct gguf_writer *w, const char *key, float value);
void gguf_writer_flag(struct gguf_writer *w, const char *key, unsigned char value);
void gguf_writer_text(struct gguf_writer *w, const char *key, const char *text);
/* `items` are `count` numbers of `item_bytes`. */
void gguf_writer_numbers(struct gguf_writer *w, const char *key, uint32_t item_type,
                         const void *items, uint64_t count, size_t item_bytes);
void gguf_writer_texts(struct gguf_writer *w, const char *key, const char *const *texts,
                       uint64_t count);

/* ---- tensors ---- */

/* `shape` is ours, row-major; the data goes to the next aligned place. */
void gguf_writer_tensor(struct gguf_writer *w, const char *name, uint32_t type,
                        const uint64_t *shape, uint32_t rank, const void *data, size_t bytes);
/* Only the entry. */
void gguf_writer_entry(struct gguf_writer *w, const char *name, uint32_t type,
                       const uint64_t *shape, uint32_t rank, uint64_t offset);

/* ---- the file ---- */

/* w->file is the file from then on. */
void gguf_writer_finish(struct gguf_writer *w);
/* Finish and write it; aborts when that is impossible. */
void gguf_writer_save(struct gguf_writer *w, const char *path);

#endif
