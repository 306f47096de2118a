/*
 * gguf_value.h - what the two halves of the GGUF reader share: gguf.c finds what gguf_value.c can read.
 *
 * See      daemon/model/gguf.h, the interface for everybody else.
 */
#ifndef LLM_DAEMON_MODEL_GGUF_VALUE_H
#define LLM_DAEMON_MODEL_GGUF_VALUE_H

#include "daemon/model/gguf.h"

#include <stddef.h>
#include <stdint.h>

#define GGUF_LENGTH_BYTES 8 /* before every text and in every array */

/* `count` <= 8 bytes, little-endian. */
uint64_t gguf_load(const unsigned char *bytes, size_t count);
/* Of a number or flag; 0 for texts, arrays and values that are no type. */
size_t gguf_value_type_bytes(enum gguf_value_type type);
/* NULL for a number that is not known. */
const struct gguf_tensor_type *gguf_tensor_type_find(uint32_t id);
/* Byte by byte, then the shorter one first. */
int gguf_text_compare(struct gguf_text a, struct gguf_text b);
int gguf_value_by_key(const void *a, const void *b); /* for qsort() */

#endif
