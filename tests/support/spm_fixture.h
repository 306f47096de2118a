/*
 * spm_fixture.h - a small tokenizer.model, written field by field.
 *
 * Idea     spm_open() to spm_finish() build the bytes of SentencePiece's ModelProto, so that a test can leave a
 *          part out, say it twice or make it wrong. small_spm() is a complete one: <unk> <s> </s>, 256 byte pieces,
 *          user-defined "<sep>" and U+2581 U+2581, letters and what merges of them give, and a table of characters.
 * Owner    The bytes belong to the test: free().
 */
#ifndef LLM_TESTS_SUPPORT_SPM_FIXTURE_H
#define LLM_TESTS_SUPPORT_SPM_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "client/text.h"

struct spm_bytes {
    uint8_t *bytes;
    size_t count;
    size_t capacity;
};

/* One field of a message, appended. */
void spm_number(struct spm_bytes *message, unsigned field, uint64_t value);
void spm_float(struct spm_bytes *message, unsigned field, float value);
void spm_part(struct spm_bytes *message, unsigned field, const void *bytes, size_t count);
/* Appends `inner` as a field and frees it. */
void spm_message(struct spm_bytes *message, unsigned field, struct spm_bytes *inner);
void spm_piece(struct spm_bytes *model, const char *name, float score, unsigned type);

/* A precompiled_charsmap from pairs of strings, "from", "to", ...: a double array with a block of 256 units per node. */
struct spm_bytes spm_charsmap(const char *const *pairs, size_t pair_count);

/* What small_spm() is made of; each NULL or zero is the usual. */
struct spm_options {
    const char *const
        *letters; /* terminated by NULL: instead of the usual letters and merges, all score 0 */
    unsigned model_type; /* 2: BPE */
    bool no_bytes;       /* neither byte pieces nor byte_fallback */
    bool no_dummy_prefix, keep_spaces, no_charsmap;
};
/* Ids: 0 <unk>, 1 <s>, 2 </s>, 3 <sep>, 4 U+2581 U+2581, then bytes (unless no_bytes), then letters and merges. */
struct spm_bytes small_spm(const struct spm_options *options);

/* A file's bytes, or stop. */
struct spm_bytes load_spm(const char *path);
/* Build, or stop with the builder's sentence. */
void *build_spm_image(struct spm_bytes model, size_t *out_bytes);
enum llm_status try_build_spm(struct spm_bytes model, uint32_t token_count, llm_error *error);

#endif
