/*
 * gguf.h - a GGUF file: typed keys and values, a directory of tensors, and their bytes.
 *
 * Idea     A file is a magic, a version, two counts, the keys with their values, the tensors' entries, and after
 *          padding to `general.alignment` the tensors' bytes. All of the header is checked at open and kept in
 *          memory as it stands: names and texts are slices of it, arrays are read in place. After open every
 *          tensor's range lies in its file, agrees with type and shape, and touches no other.
 * Split    A model may be several files "name-00001-of-00003.gguf", each a GGUF of its own with `split.no`,
 *          `split.count` and `split.tensors.count`. The first one is opened and finds the others by its own name;
 *          keys are the first file's, tensors those of all.
 * Rules    Versions 2 and 3, little-endian. Keys of at most 65535 bytes and none twice; tensor names of at most 64
 *          bytes, none twice; at most 4 sizes; no arrays of arrays. Padding, holes between tensors and bytes after
 *          the last one are ignored, as the format does not forbid them.
 * Shapes   Ours, row-major: shape[0] is the number of rows, the last one the row's length. (The file has them the
 *          other way round.) A row is a whole number of the type's blocks.
 * Owner    The struct owns descriptors and headers until gguf_close(); slices and values point into it.
 * Threads  Read-only after open; any thread may read.
 * Trust    Everything in the files is hostile. Memory grows with the header's bytes that are there, never with a
 *          count in it.
 * See      https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, daemon/model/README.md,
 *          tests/daemon/test_gguf.c, tests/fuzz/fuzz_gguf.c.
 */
#ifndef LLM_DAEMON_MODEL_GGUF_H
#define LLM_DAEMON_MODEL_GGUF_H

#include "daemon/model/model_files.h"
#include "daemon/model/model_json.h"
#include "shm/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_RANK_MAX         4
#define GGUF_NAME_MAX_BYTES   64
#define GGUF_KEY_MAX_BYTES    65535
#define GGUF_HEADER_MAX_BYTES ((uint64_t)256 << 20)
#define GGUF_FILES_MAX        512

/* Bytes inside a header: not terminated, and a text may hold any byte, zero included. */
struct gguf_text {
    const char *bytes;
    size_t length;
};

/* As the file numbers them. */
enum gguf_value_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_TEXT,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_VALUE_TYPE_COUNT
};

/* A key and its value; numbers are read with the functions below, for they lie unaligned. */
struct gguf_value {
    struct gguf_text key;
    enum gguf_value_type type;
    enum gguf_value_type item_type; /* of an array: never GGUF_ARRAY */
    uint64_t count;                 /* of an array's items; 1 otherwise */
    const unsigned char *bytes;     /* [byte_count] of the value; of an array: of its items */
    size_t byte_count;
};

/* How a tensor stores numbers: rows are whole blocks. */
struct gguf_tensor_type {
    uint32_t id;      /* as the file numbers them */
    const char *name; /* "F32", "Q4_K", ... */
    uint32_t block_elements;
    uint32_t block_bytes;
};

struct gguf_tensor {
    char name[GGUF_NAME_MAX_BYTES + 1];
    const struct gguf_tensor_type *type;
    uint32_t rank; /* 0: one element */
    uint64_t shape[GGUF_RANK_MAX];
    uint32_t file_slot;
    uint64_t offset; /* of the first byte, from the start of the file */
    uint64_t bytes;
};

struct gguf_file {
    char *name;
    int fd;
    struct model_file_stat stat;
    unsigned char *header; /* [header_bytes] as in the file */
    size_t header_bytes, header_capacity;
};

struct gguf {
    struct gguf_file *files; /* [file_count] in the order of the split */
    uint32_t file_count;
    struct gguf_value *values; /* [value_count] of the first file, sorted by key */
    size_t value_count, value_capacity;
    struct gguf_tensor *tensors; /* [tensor_count] sorted by name */
    size_t tensor_count, tensor_capacity;
};

/*
 * Read the header of file `name`, and those of the files that belong to it.
 *
 *   returns   LLM_OK
 *             LLM_ERR_NOT_FOUND    the file, or one that belongs to it, is not there
 *             LLM_ERR_INVALID      a key, value or tensor entry is impossible; the sentence names it
 *             LLM_ERR_CORRUPT      not GGUF, cut short, tensors overlap or lie beyond the end
 *             LLM_ERR_UNSUPPORTED  another version or byte order, arrays of arrays, an unknown tensor type
 *             LLM_ERR_LIMIT        a longer header or more files than the limits above
 *             LLM_ERR_MEMORY       no memory for the header
 */
LLM_MUST_CHECK enum llm_status gguf_open(struct gguf *gguf, const struct model_files *files,
                                         const char *name, struct llm_error *error);
/* Accepts a zeroed and an already closed struct. */
void gguf_close(struct gguf *gguf);

/* ---- keys and values ---- */

/* The value of that key, or NULL. */
const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key);

/* One value of the wanted kind. Integers of every width are one kind, and so are F32 and F64.
 *
 *   returns   LLM_OK
 *             LLM_ERR_NOT_FOUND   there is no such key
 *             LLM_ERR_INVALID     the value is of another kind or outside min..max; the sentence names the key */
LLM_MUST_CHECK enum llm_status gguf_get_integer(const struct gguf *gguf, const char *key,
                                                int64_t min, int64_t max, int64_t *out_integer,
                                                struct llm_error *error);
LLM_MUST_CHECK enum llm_status gguf_get_real(const struct gguf *gguf, const char *key, double min,
                                             double max, double *out_real, struct llm_error *error);
LLM_MUST_CHECK enum llm_status gguf_get_flag(const struct gguf *gguf, const char *key,
                                             bool *out_flag, struct llm_error *error);
LLM_MUST_CHECK enum llm_status gguf_get_text(const struct gguf *gguf, const char *key,
                                             struct gguf_text *out_text, struct llm_error *error);

enum gguf_items {
    GGUF_ITEMS_TEXTS,
    GGUF_ITEMS_INTEGERS,
    GGUF_ITEMS_REALS,
    GGUF_ITEMS_FLAGS
};
/* An array whose items are of the wanted kind; returns as the functions above. */
LLM_MUST_CHECK enum llm_status gguf_get_array(const struct gguf *gguf, const char *key,
                                              enum gguf_items items,
                                              const struct gguf_value **out_array,
                                              struct llm_error *error);

/* Item `index` < array->count of an array of integers (U64 values from 2^63 on read as INT64_MAX), reals or flags. */
int64_t gguf_array_integer(const struct gguf_value *array, uint64_t index);
double gguf_array_real(const struct gguf_value *array, uint64_t index);
bool gguf_array_flag(const struct gguf_value *array, uint64_t index);

/* Walk an array of texts: for (struct gguf_texts t = gguf_texts(array); gguf_texts_next(&t, &text);). */
struct gguf_texts {
    const unsigned char *cursor;
    uint64_t left;
};
struct gguf_texts gguf_texts(const struct gguf_value *array);
bool gguf_texts_next(struct gguf_texts *texts, struct gguf_text *out_text);

bool gguf_text_is(struct gguf_text text, const char *wanted);
/* Fit for a sentence, as json_show(). */
struct json_shown gguf_text_show(struct gguf_text text);

/* ---- tensors ---- */

/* The tensor of that name, or NULL. */
const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name);

/* Read bytes [first, first + bytes) of a tensor; the range must lie inside it. LLM_ERR_CORRUPT when the file
 * has been cut short since it was opened. */
LLM_MUST_CHECK enum llm_status gguf_read(const struct gguf *gguf, const struct gguf_tensor *tensor,
                                         uint64_t first, void *out, size_t bytes,
                                         struct llm_error *error);

#endif
