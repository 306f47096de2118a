/*
 * weights.h - a plan's weights, read from files once and packed for the backend.
 *
 * Idea     All weights stand in one piece of memory that outlives the engine:
 *
 *              header (one page)  commit word, identity, fingerprint
 *              weight 0, 1, ...   each from a multiple of 64 bytes on: panels, table rows, or f32
 *
 *          The identity is a hash of everything that decides the bytes after it: the packed layout's name,
 *          the plan's weights and where they stand, and for each file its size, inode and time of change.
 *          The commit word is stored last. A restarted engine that finds the commit word and its own
 *          identity uses the weights as they are; it reads the files' directories, never their contents.
 * Prints   The fingerprint is BLAKE2b-256 (RFC 7693, libsodium) over the configuration's numbers and, in the
 *          plan's order, each tensor's name in the plan, dtype, shape and contents as the kernels get them. So it names
 *          what the model computes: not how it is cut into shards, in which format or where it lies. About 1 GB/s, once, while the bytes pass by.
 * Owner    The memory is model_memory's; the struct owns only the table of pointers into it.
 * Threads  Opened by one thread; constant after. The pages are made read-only then, so a stray store stops the
 *          engine instead of changing answers.
 * Trust    The files are hostile; every tensor's shape is compared with the plan before a byte is read.
 * See      daemon/model/README.md, tests/daemon/test_model.c.
 */
#ifndef LLM_DAEMON_MODEL_WEIGHTS_H
#define LLM_DAEMON_MODEL_WEIGHTS_H

#include "daemon/model/model_config.h"
#include "daemon/model/model_memory.h"
#include "daemon/model/model_notes.h"
#include "daemon/model/model_source.h"
#include "daemon/model/plan.h"
#include "shm/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEIGHTS_HASH_BYTES 32

struct weights {
    struct plan_weight_memory *places; /* [plan->weight_count] */
    size_t bytes;                      /* of the whole piece, header included */
    uint64_t parameter_count;
    enum kernel_dtype dtype; /* as the embedding is stored: the model's own */
    bool kept;               /* found packed, left as they are */
    unsigned char fingerprint[WEIGHTS_HASH_BYTES];
};

/* What weights_open() works from; all of it is only used during the call. */
struct weights_source {
    const struct plan *plan;
    const struct model_config *config;
    struct model_source *files;
    const struct model_notes *notes; /* may be NULL */
    struct kernel_stream *stream;
    const struct model_memory *memory;
};

/*
 * Find or make the packed weights.
 *
 *   returns   LLM_OK
 *             LLM_ERR_INVALID       a tensor is missing or its shape is not the configuration's
 *             LLM_ERR_UNSUPPORTED   a tensor's type is none that model_source.h reads
 *             LLM_ERR_CORRUPT       a file became shorter
 *             LLM_ERR_MEMORY        no memory for the weights
 */
LLM_MUST_CHECK enum llm_status
weights_open(struct weights *weights, const struct weights_source *source, struct llm_error *error);
/* Accepts a zeroed and a closed struct. */
void weights_close(struct weights *weights);

#endif
