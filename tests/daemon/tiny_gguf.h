/*
 * tiny_gguf.h - a tiny model as a GGUF file, written as converters write one.
 *
 * Idea     Keys of architecture "llama" for the model's shape, and its tensors under GGUF's names; rows of Q and K are
 *          put in the order of that architecture (the two halves of a rotation become neighbours), by formulas of
 *          the converters and not by those of the reader.
 */
#ifndef LLM_TESTS_DAEMON_TINY_GGUF_H
#define LLM_TESTS_DAEMON_TINY_GGUF_H

#include "tests/daemon/gguf_writer.h"
#include "tests/daemon/tiny_model.h"

/* The keys of `family` ("llama", "qwen2", ...) for a shape: a vocabulary of nameless tokens, BOS 1, EOS 2. */
void tiny_gguf_keys(struct gguf_writer *w, const char *family, const struct tiny_shape *shape);
/* All tensors of the model in their own dtypes, Q and K in the order of "llama". */
void tiny_gguf_tensors(struct gguf_writer *w, const struct tiny_model *tiny);

#endif
