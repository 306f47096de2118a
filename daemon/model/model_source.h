/*
 * model_source.h - a model as its files have it: configuration and tensors, whichever the format.
 *
 * Idea     model_source_open() finds out what it has been given, a directory in Hugging Face's layout or a GGUF
 *          file, and from then on both answer alike: tensors go by the plan's names, their rows come in the plan's
 *          order and as numbers that the kernels store (f32, bf16, f16).
 * GGUF     Rows of Q and K: files of architecture "llama" have the two halves of a rotation as neighbours, rows
 *          2i and 2i+1 of a head, where the plan turns rows i and i + D/2. They are put back in order as they are
 *          read, so that the same weights are the same numbers from either format. Other architectures keep the order.
 *          Blocks of small integers (Q8_0, Q4_0, Q4_K, Q6_K) become f16: 11 bits of significand are 8 times nearer than
 *          bf16's to products of an f16 scale and a small integer, at the same size; what f16 cannot
 *          hold (beyond 65504, infinite, not a number) is refused.
 * Owner    The struct owns descriptors and tables until model_source_close().
 * Threads  One thread.
 * Trust    Files are hostile; a tensor's shape is still to be compared with the configuration's (weights.c).
 * See      daemon/model/tensor_names.h, kernels/quant.h, tests/daemon/test_model_source.c.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_SOURCE_H
#define LLM_DAEMON_MODEL_MODEL_SOURCE_H

#include "daemon/model/gguf.h"
#include "daemon/model/model_config.h"
#include "daemon/model/model_files.h"
#include "daemon/model/model_notes.h"
#include "daemon/model/safetensors.h"
#include "kernels/dtype.h"
#include "shm/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOURCE_RANK_MAX SAFETENSORS_RANK_MAX

struct model_source {
    struct model_config config;
    /* one of the two is open, the other zeroed */
    struct safetensors safetensors;
    struct gguf gguf;
    bool pairs_are_neighbours; /* rows of Q and K, as above */
    unsigned char *scratch;    /* encoded rows on their way */
    size_t scratch_bytes;
};

/* One tensor, good until model_source_close(). */
struct source_tensor {
    const char *name;        /* as the file has it */
    const char *type;        /* likewise: "BF16", "Q4_K" */
    bool known;              /* this build reads the type: */
    bool quantised;          /* it stands in blocks of small integers, */
    enum kernel_dtype dtype; /* its rows are read as this */
    uint32_t rank;
    uint64_t shape[SOURCE_RANK_MAX];
    uint64_t rows, columns; /* of the matrix; a vector is one row */
    bool swapped;           /* rows (of a vector: elements) are put back in order */
    /* one of the two */
    const struct safetensors_tensor *in_safetensors;
    const struct gguf_tensor *in_gguf;
};

/*
 * Open the model in `files` (model_files.h says how a format is recognised).
 *
 *   notes     may be NULL; hears of keys that nobody knows
 *   returns   LLM_OK, or what model_config_read(), model_config_from_gguf(), safetensors_open() and gguf_open() return
 */
LLM_MUST_CHECK enum llm_status model_source_open(struct model_source *source,
                                                 const struct model_files *files,
                                                 const struct model_notes *notes,
                                                 struct llm_error *error);
/* Accepts a zeroed, a half-open and an already closed struct. */
void model_source_close(struct model_source *source);

/* The tensor that a plan knows as `name`.
 * LLM_ERR_INVALID when it is missing; the sentence has the name that the file should have it by. */
LLM_MUST_CHECK enum llm_status model_source_find(const struct model_source *source,
                                                 const char *name, struct source_tensor *out_tensor,
                                                 struct llm_error *error);

/*
 * Read rows [first, first + count) of a tensor whose type is known.
 *
 *   out       [count, columns] of tensor->dtype, aligned for its numbers
 *   returns   LLM_OK
 *             LLM_ERR_CORRUPT       the file has been cut short since it was opened
 *             LLM_ERR_UNSUPPORTED   a number in blocks is one that f16 cannot hold
 *             LLM_ERR_MEMORY        no memory for an encoded row
 */
LLM_MUST_CHECK enum llm_status model_source_read(struct model_source *source,
                                                 const struct source_tensor *tensor, uint64_t first,
                                                 uint64_t count, void *out,
                                                 struct llm_error *error);

/* The files that hold tensors, in order. */
uint32_t model_source_file_count(const struct model_source *source);
const struct model_file_stat *model_source_file(const struct model_source *source, uint32_t slot,
                                                const char **out_name);

#endif
