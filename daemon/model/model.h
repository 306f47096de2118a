/*
 * model.h - one loaded model: from a directory of files to logits.
 *
 * Idea     model_open() reads the configuration, builds the plan (a list of kernel calls), packs the
 *          weights into the backend's panels once, and takes every byte that a step will need.
 *          model_forward() then runs the plan over a batch: rows of tokens that belong to any number of
 *          sequences, each with its block table. Nothing is allocated after model_open().
 * Numbers  A row's logits depend on its sequence's tokens up to that row and on nothing else, bit for bit:
 *          not on the other rows, on how the prompt was cut into chunks, on which blocks hold the keys and
 *          values, or on the number of threads (docs/NUMERICS.md).
 * Owner    The caller owns the weight memory (model_memory.h), the KV pool and the backend; the model owns
 *          its activations and tables.
 * Threads  One thread calls model_forward(); the backend may use helpers inside.
 * Trust    Files are hostile and end in a sentence. A batch comes from our own engine: what it promises
 *          below is CHECKed.
 * See      daemon/model/README.md (life of a forward pass), `llmctl model plan`.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_H
#define LLM_DAEMON_MODEL_MODEL_H

#include "daemon/model/model_config.h"
#include "daemon/model/model_files.h"
#include "daemon/model/model_memory.h"
#include "shm/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct kernel_ops;
struct model;

#define MODEL_FINGERPRINT_BYTES 32

enum model_kv_type {
    MODEL_KV_AUTO, /* f32 for f32 weights, bf16 for all others */
    MODEL_KV_F32,
    MODEL_KV_BF16,
};

struct model_options {
    const struct kernel_ops *ops; /* the backend */
    enum model_kv_type kv_type;   /* MODEL_KV_AUTO unless configured */
    uint32_t batch_rows_max;      /* rows (tokens) of one forward; >= 1 */
    uint32_t batch_sequences_max; /* sequences of one forward; >= 1 */
    uint32_t context_max_tokens;  /* longest sequence; 0: what the model's configuration allows */
};

struct model_facts {
    struct model_config
        config; /* context_max_tokens is the smaller of the file's and the options' */
    unsigned char fingerprint[MODEL_FINGERPRINT_BYTES]; /* configuration and weights; weights.h */
    bool weights_kept;     /* packed weights of an earlier engine were found in place */
    uint32_t block_tokens; /* 16, 32 or 64 positions per KV block */
    size_t block_bytes;    /* one block: all layers, K and V */
    bool kv_is_bf16;       /* else f32 */
    uint64_t parameter_count;
    size_t weight_bytes;     /* in model_memory */
    size_t activation_bytes; /* taken at open */
};

/*
 * Open the model in `files`.
 *
 *   files, memory   used during the call; the memory taken stays in use until model_close()
 *   returns         LLM_OK
 *                   LLM_ERR_NOT_FOUND     a file is not there
 *                   LLM_ERR_INVALID       a file says something impossible; the sentence names the key or tensor
 *                   LLM_ERR_CORRUPT       a file's structure does not hold, or it is shorter than it says
 *                   LLM_ERR_UNSUPPORTED   well-formed, but not for this build or backend
 *                   LLM_ERR_MEMORY        weights or activations do not fit
 */
LLM_MUST_CHECK enum llm_status model_open(struct model **out_model, const struct model_files *files,
                                          const struct model_memory *memory,
                                          const struct model_options *options,
                                          struct llm_error *error);
/* Accepts NULL. Weight memory stays with its owner. */
void model_close(struct model *model);

const struct model_facts *model_facts(const struct model *model);

/* Print the plan, one kernel call per line with its shapes (`llmctl model plan`). */
void model_print_plan(const struct model *model, FILE *out);

/*
 * Tell the model where its KV blocks are; once, before the first forward.
 *
 * Block b's bytes are at base + b / blocks_per_slab * slab_bytes + b % blocks_per_slab * block_bytes: a slab
 * holds whole blocks, and what is left at its end is unused. Their content is the model's own.
 *
 *   base   64-byte aligned; slab_bytes a multiple of 64
 */
struct model_pool {
    void *base;
    size_t slab_bytes;
    uint32_t blocks_per_slab;
    uint32_t block_count; /* ids are 0..block_count - 1 */
};
void model_set_pool(struct model *model, const struct model_pool *pool);

/*
 * Consecutive rows of a batch that continue one sequence. Row i (0-based) of the sequence stands at position
 * first_position + i; positions 0..first_position - 1 are in its blocks already. Position p is row
 * p % block_tokens of block blocks[p / block_tokens].
 */
struct model_sequence {
    uint32_t first_row;      /* rows first_row..first_row + row_count - 1 of the batch */
    uint32_t row_count;      /* >= 1 */
    uint32_t first_position; /* first_position + row_count <= context_max_tokens */
    const uint32_t *blocks;  /* [block_count] covers every position up to the last row's */
    uint32_t block_count;
};

/*
 * One step's work. Sequences cover the rows 0..row_count - 1 in ascending order without gaps. Two sequences may
 * share blocks as long as neither of them writes a row of a shared block.
 */
struct model_batch {
    const int32_t *token_ids; /* [row_count] 0..vocab_size - 1 */
    uint32_t row_count;       /* 1..batch_rows_max */
    const struct model_sequence *sequences;
    uint32_t sequence_count;     /* 1..batch_sequences_max */
    const uint32_t *logits_rows; /* [logits_row_count] rows whose logits are wanted, ascending */
    uint32_t logits_row_count;   /* 0..row_count; 0 only fills the cache */
};

/*
 * Compute a batch: appends each row's keys and values to its sequence's blocks and writes the wanted logits.
 *
 *   out_logits   [logits_row_count, vocab_size] f32; NULL when none are wanted
 *   returns      LLM_OK, or what the backend reports (a lost device); on the CPU always LLM_OK
 */
LLM_MUST_CHECK enum llm_status model_forward(struct model *model, const struct model_batch *batch,
                                             float *out_logits, struct llm_error *error);

#endif
