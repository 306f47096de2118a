#include "tests/daemon/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct gguf_buffer *b, const void *bytes, size_t count)
{
    if (b->count + count > b->capacity) {
        b->capacity = 2 * (b->count + count) + 256;
        b->bytes = realloc(b->bytes, b->capacity);
        if (b->bytes == NULL)
            abort();
    }
    if (count > 0)
        memcpy(b->bytes + b->count, bytes, count);
    b->count += count;
}

static void put_u32(struct gguf_buffer *b, uint32_t value)
{
    put(b, &value, sizeof value);
}

static void put_u64(struct gguf_buffer *b, uint64_t value)
{
    put(b, &value, sizeof value);
}

static void put_text(struct gguf_buffer *b, const char *text)
{
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static void put_padding(struct gguf_buffer *b, uint64_t alignment)
{
    static const unsigned char zero;
    while (b->count % alignment != 0)
        put(b, &zero, 1);
}

void gguf_writer_open(struct gguf_writer *w)
{
    *w = (struct gguf_writer){.version = 3, .alignment = 32};
}

void gguf_writer_close(struct gguf_writer *w)
{
    free(w->keys.bytes);
    free(w->entries.bytes);
    free(w->data.bytes);
    free(w->file.bytes);
    *w = (struct gguf_writer){.version = 0};
}

void gguf_writer_value(struct gguf_writer *w, const char *key, uint32_t type, const void *bytes,
                       size_t count)
{
    put_text(&w->keys, key);
    put_u32(&w->keys, type);
    put(&w->keys, bytes, count);
    w->key_count++;
}

void gguf_writer_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    gguf_writer_value(w, key, GGUF_U32, &value, sizeof value);
}

void gguf_writer_f32(struct gguf_writer *w, const char *key, float value)
{
    gguf_writer_value(w, key, GGUF_F32, &value, sizeof value);
}

void gguf_writer_flag(struct gguf_writer *w, const char *key, unsigned char value)
{
    gguf_writer_value(w, key, GGUF_BOOL, &value, 1);
}

void gguf_writer_text(struct gguf_writer *w, const char *key, const char *text)
{
    gguf_writer_value(w, key, GGUF_TEXT, NULL, 0);
    put_text(&w->keys, text);
}

void gguf_writer_numbers(struct gguf_writer *w, const char *key, uint32_t item_type,
                         const void *items, uint64_t count, size_t item_bytes)
{
    gguf_writer_value(w, key, GGUF_ARRAY, &item_type, sizeof item_type);
    put_u64(&w->keys, count);
    put(&w->keys, items, (size_t)count * item_bytes);
}

void gguf_writer_texts(struct gguf_writer *w, const char *key, const char *const *texts,
                       uint64_t count)
{
    gguf_writer_numbers(w, key, GGUF_TEXT, NULL, 0, 0);
    memcpy(w->keys.bytes + w->keys.count - sizeof count, &count, sizeof count);
    for (uint64_t i = 0; i < count; i++)
        put_text(&w->keys, texts[i]);
}

void gguf_writer_entry(struct gguf_writer *w, const char *name, uint32_t type,
                       const uint64_t *shape, uint32_t rank, uint64_t offset)
{
    put_text(&w->entries, name);
    put_u32(&w->entries, rank);
    for (uint32_t i = rank; i-- > 0;)
        put_u64(&w->entries, shape[i]);
    put_u32(&w->entries, type);
    put_u64(&w->entries, offset);
    w->tensor_count++;
}

void gguf_writer_tensor(struct gguf_writer *w, const char *name, uint32_t type,
                        const uint64_t *shape, uint32_t rank, const void *data, size_t bytes)
{
    put_padding(&w->data, w->alignment);
    gguf_writer_entry(w, name, type, shape, rank, w->data.count);
    put(&w->data, data, bytes);
}

void gguf_writer_finish(struct gguf_writer *w)
{
    w->file.count = 0;
    put(&w->file, "GGUF", 4);
    put_u32(&w->file, w->version);
    put_u64(&w->file, w->tensor_count);
    put_u64(&w->file, w->key_count);
    put(&w->file, w->keys.bytes, w->keys.count);
    put(&w->file, w->entries.bytes, w->entries.count);
    put_padding(&w->file, w->alignment);
    put(&w->file, w->data.bytes, w->data.count);
}

void gguf_writer_save(struct gguf_writer *w, const char *path)
{
    gguf_writer_finish(w);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(w->file.bytes, 1, w->file.count, f) != w->file.count ||
        fclose(f) != 0) {
        perror(path);
        abort();
    }
}
