/*
 * buffer.h - bytes that grow.
 *
 * Owner    Whoever holds the struct; llm_buffer_close() frees. The zero value is an empty buffer.
 */
#ifndef LLM_CLIENT_TEXT_BUFFER_H
#define LLM_CLIENT_TEXT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct llm_buffer {
    uint8_t *bytes;
    size_t count;
    size_t capacity;
};

/* False when there is no memory; the buffer is then as before. */
static inline bool llm_buffer_append(struct llm_buffer *buffer, const void *bytes, size_t count)
{
    if (count == 0)
        return true;
    if (count > buffer->capacity - buffer->count) {
        size_t capacity = buffer->count + count + buffer->capacity / 2 + 64;
        uint8_t *moved = realloc(buffer->bytes, capacity);
        if (!moved)
            return false;
        buffer->bytes = moved;
        buffer->capacity = capacity;
    }
    memcpy(buffer->bytes + buffer->count, bytes, count);
    buffer->count += count;
    return true;
}

static inline void llm_buffer_close(struct llm_buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct llm_buffer){0};
}

#endif
