/*
 * model.h - one loaded model: from its files to logits.
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
 * See      daemon/model/README.md (life of a forward pass), tests/daemon/test_model.c.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_H
#define LLM_DAEMON_MODEL_MODEL_H

#include "daemon/model/model_config.h"
#include "daemon/model/model_files.h"
#include "daemon/model/model_memory.h"
#include "daemon/model/model_notes.h"
#include "kernels/kernels.h"
#include "shm/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct model;

#define MODEL_FINGERPRINT_BYTES 32

enum model_kv_type {
    MODEL_KV_AUTO, /* f32 for f32 weights, bf16 for all others */
    MODEL_KV_F32,
    MODEL_KV_BF16,
};

struct model_options {
    struct kernel_stream *stream; /* the backend; stays the caller's, open until model_close() */
    enum model_kv_type kv_type;   /* MODEL_KV_AUTO unless configured */
    uint32_t batch_rows_max;      /* rows (tokens) of one forward, 1..65536 */
    uint32_t logits_rows_max; /* rows of one forward whose logits are wanted, 1..batch_rows_max */
    uint32_t context_max_tokens; /* longest sequence; 0: what the model's configuration allows */
    const struct model_notes *notes; /* hears of strange keys and conversions; NULL: nobody does */
};

struct model_facts {
    struct model_config
        config; /* context_max_tokens is the smaller of the file's and the options' */
    unsigned char fingerprint[MODEL_FINGERPRINT_BYTES]; /* configuration and weights; weights.h */
    bool weights_kept;   /* packed weights of an earlier engine were found in place */
    struct kernel_kv kv; /* geometry of its blocks (dtype, layers, G, B, D); base and slabs are 0 */
    size_t block_bytes;  /* one block of kv.B tokens: all layers, K and V */
    uint64_t parameter_count;
    size_t weight_bytes;     /* taken from model_memory */
    size_t activation_bytes; /* taken at open, tables included */
};

/*
 * Open the model in `files`.
 *
 *   files, memory, options->notes
 *                   used during the call; the memory taken stays in use until model_close()
 *   returns         LLM_OK
 *                   LLM_ERR_NOT_FOUND     a file is not there
 *                   LLM_ERR_INVALID       a file says something impossible; the sentence names the key or tensor
 *                   LLM_ERR_CORRUPT       a file's structure does not hold, or it is shorter than it says
 *                   LLM_ERR_UNSUPPORTED   well-formed, but not for this build or backend
 *                   LLM_ERR_LIMIT         larger than a limit of this build
 *                   LLM_ERR_MEMORY        weights or activations do not fit
 */
LLM_MUST_CHECK enum llm_status model_open(struct model **out_model, const struct model_files *files,
                                          const struct model_memory *memory,
                                          const struct model_options *options,
                                          struct llm_error *error);
/* Accepts NULL. Weight memory stays with its owner. */
void model_close(struct model *model);

const struct model_facts *model_facts(const struct model *model);

/* Print the plan, one kernel call per line with its shapes. */
void model_print_plan(const struct model *model, FILE *out);

/*
 * One step's work. The sequences cover the rows 0..row_count - 1 in ascending order without gaps: sequence s
 * has rows s.row_first..s.row_first + s.row_count - 1, at the positions from s.position_first on, and its
 * block table covers every position up to its last row's. Positions before position_first are in its blocks
 * already. Two sequences may share blocks as long as neither of them has a row in a shared block.
 */
struct model_batch {
    const int32_t *token_ids; /* [row_count] 0..vocab_size - 1 */
    int32_t row_count;        /* 1..batch_rows_max */
    const struct kernel_sequence *sequences;
    int32_t sequence_count;     /* 1..row_count */
    const int32_t *logits_rows; /* [logits_row_count] rows whose logits are wanted, any order */
    int32_t logits_row_count;   /* 0..logits_rows_max; 0 only fills the cache */
};

/*
 * Compute a batch: append each row's keys and values to its sequence's blocks, write the wanted logits.
 *
 *   kv           facts->kv with base, slabs and block_count filled in: the pool; 64-byte aligned
 *   out_logits   [logits_row_count, vocab_size] f32, row i for logits_rows[i]; NULL when none are wanted
 *   returns      LLM_OK, or what the backend reports (a lost device); on the CPU always LLM_OK
 */
LLM_MUST_CHECK enum llm_status model_forward(struct model *model, const struct kernel_kv *kv,
                                             const struct model_batch *batch, float *out_logits,
                                             struct llm_error *error);

#endif
