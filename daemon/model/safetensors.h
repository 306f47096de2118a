/*
 * safetensors.h - the tensors of a model directory, from one file or from shards.
 *
 * Idea     A file is 8 bytes of header length, a JSON header that gives each tensor's dtype, shape and byte
 *          range, and the bytes. All of the directory is checked at open: after that every tensor's range
 *          lies in its file, agrees with dtype and shape, and touches no other, and reading is pread()s.
 *          Larger models are several files plus model.safetensors.index.json, whose weight map says
 *          which tensor is where; it is checked against the files themselves.
 * Rules    As the format's reference implementation: header of at most 100 MB that begins with '{', no
 *          duplicate names, no holes and no overlaps between tensors, and nothing after the last one.
 *          Refused besides: negative or fractional sizes, products beyond 2^63, unknown dtypes.
 * Owner    The struct owns descriptors and names until safetensors_close().
 * Threads  Read-only after open; any thread may read.
 * Trust    Everything in the files is hostile, names included.
 * See      https://github.com/huggingface/safetensors (README, "Format"), daemon/model/README.md,
 *          tests/daemon/test_safetensors.c.
 */
#ifndef LLM_DAEMON_MODEL_SAFETENSORS_H
#define LLM_DAEMON_MODEL_SAFETENSORS_H

#include "daemon/model/model_files.h"
#include "shm/status.h"

#include <stddef.h>
#include <stdint.h>

#define SAFETENSORS_RANK_MAX         8
#define SAFETENSORS_HEADER_MAX_BYTES 100000000u
#define SAFETENSORS_SHARDS_MAX       512

struct safetensors_dtype {
    const char *name;       /* as files spell it: "F32", "BF16", ... */
    uint32_t element_bytes; /* 1, 2, 4 or 8 */
};

struct safetensors_tensor {
    char *name;
    const struct safetensors_dtype *dtype;
    uint32_t rank; /* 0: one element */
    uint64_t shape[SAFETENSORS_RANK_MAX];
    uint32_t file_slot;
    uint64_t offset; /* of the first byte, from the start of the file */
    uint64_t bytes;
};

struct safetensors_file {
    char *name;
    int fd;
    struct model_file_stat stat;
};

struct safetensors {
    struct safetensors_file *files; /* [file_count] in the order of their names' first appearance */
    uint32_t file_count;
    struct safetensors_tensor *tensors; /* [tensor_count] sorted by name */
    size_t tensor_count;
    size_t tensor_capacity;
};

/*
 * Read the directory of model.safetensors, or where there is none of the shards that
 * model.safetensors.index.json names.
 *
 *   returns   LLM_OK
 *             LLM_ERR_NOT_FOUND   neither file, or a shard, is there
 *             LLM_ERR_INVALID     a tensor's entry is impossible; the sentence names file and tensor
 *             LLM_ERR_CORRUPT     a file's frame does not hold (too short, not JSON, holes, overlaps)
 *             LLM_ERR_LIMIT       more shards or a longer header than the limits above
 */
LLM_MUST_CHECK enum llm_status
safetensors_open(struct safetensors *st, const struct model_files *files, struct llm_error *error);
/* Accepts a zeroed, a half-open and an already closed struct. */
void safetensors_close(struct safetensors *st);

/* The tensor of that name, or NULL. */
const struct safetensors_tensor *safetensors_find(const struct safetensors *st, const char *name);

/* Read bytes [first, first + bytes) of a tensor; the range must lie inside it. LLM_ERR_CORRUPT when the file
 * has been cut short since it was opened. */
LLM_MUST_CHECK enum llm_status safetensors_read(const struct safetensors *st,
                                                const struct safetensors_tensor *tensor,
                                                uint64_t first, void *out, size_t bytes,
                                                struct llm_error *error);

#endif
