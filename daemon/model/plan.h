/*
 * plan.h - a model as a list of kernel calls.
 *
 * Idea     An architecture file writes the calls down as the paper has them: one step per operation, one
 *          weight per tensor. Passes then rewrite the list into what the kernels like best (neighbouring
 *          matrices over one input become one matrix, neighbouring rotations one rotation). Running a plan
 *          is a loop over the list; nothing is decided there.
 *
 *              slot   an activation: a matrix of f32 with one row per token, [rows, width]
 *              view   columns [column, column + width) of a slot
 *              step   one call of struct kernel_ops: reads views, writes a view, may use a weight
 *              weight tensors that one step uses: parts stacked on top of each other, [N, K]
 *
 * Rows     Until the GATHER steps a step has a row per token of the batch (T). After them it has a row per
 *          token whose logits are wanted (L): most of a prompt's rows end where their keys and values do.
 * Owner    The plan owns its lists; slot and weight memory is given to plan_run() by the model.
 * Threads  Constant once built.
 * See      daemon/model/decoder.h (what families are put together from), llama.c, model_print_plan(), daemon/model/README.md.
 */
#ifndef LLM_DAEMON_MODEL_PLAN_H
#define LLM_DAEMON_MODEL_PLAN_H

#include "kernels/kernels.h"
#include "shm/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum plan_op {
    PLAN_EMBED,         /* out = table[ids] */
    PLAN_EMBED_MATRIX,  /* out = matrix[ids], the tied output projection */
    PLAN_RMSNORM,       /* out = rmsnorm(in) * gain */
    PLAN_LINEAR,        /* out = in * matrix^T (+ bias) */
    PLAN_LINEAR_ADD,    /* out += in * matrix^T (+ bias) */
    PLAN_RMSNORM_HEADS, /* normalise the heads of `out` in place, one gain for all */
    PLAN_ROPE,          /* turn the heads of `out` in place */
    PLAN_KV_APPEND,     /* in: keys, in2: values -> the layer's blocks */
    PLAN_ATTENTION,     /* out = attention(in: queries) over the layer's blocks */
    PLAN_SILU_MUL,      /* out = silu(gate) * up; in: gate|up */
    PLAN_GATHER,        /* out = the rows of `in` whose logits are wanted */
    PLAN_OP_COUNT
};

enum plan_rows {
    PLAN_ROWS_BATCH, /* T: one row per token of the batch */
    PLAN_ROWS_WANTED /* L: one row per token whose logits are wanted */
};

#define PLAN_SLOTS_MAX         16
#define PLAN_SLOT_LOGITS       0 /* every plan's last output; its memory is the caller's out_logits */
#define PLAN_PARTS_MAX         4
#define PLAN_TENSOR_NAME_BYTES 64
#define PLAN_NO_WEIGHT         (-1)
#define PLAN_NO_LAYER          (-1)

struct plan_slot {
    const char *name;
    int32_t width; /* floats per row */
    enum plan_rows rows;
};

struct plan_view {
    int32_t slot; /* index into plan->slots; -1: none */
    int32_t column, width;
};

enum plan_weight_kind {
    PLAN_WEIGHT_MATRIX, /* packed by the backend, N outputs of K inputs */
    PLAN_WEIGHT_TABLE,  /* kept as in the file, row by row */
    PLAN_WEIGHT_VECTOR  /* N * K numbers as f32: a gain has N = 1, a bias K = 1 */
};

struct plan_weight {
    enum plan_weight_kind kind;
    int32_t N, K; /* all parts together */
    int32_t part_count;
    struct plan_part {
        char tensor[PLAN_TENSOR_NAME_BYTES];
        int32_t rows; /* of N */
    } parts[PLAN_PARTS_MAX];
};

struct plan_step {
    enum plan_op op;
    enum plan_rows rows;
    int32_t layer;  /* PLAN_NO_LAYER before and after the layers */
    int32_t weight; /* index into plan->weights, PLAN_NO_WEIGHT for none */
    int32_t bias;   /* LINEAR, LINEAR_ADD: as `weight`, a vector with a number per output */
    int32_t window; /* ATTENTION: tokens a token sees, itself included; 0: all before it */
    struct plan_view out, in, in2;
};

struct plan {
    const char *architecture;
    int32_t layer_count, head_dim;
    float eps;
    float attention_scale; /* of the scores */
    struct plan_slot slots[PLAN_SLOTS_MAX];
    int32_t slot_count;
    struct plan_step *steps; /* [step_count] in the order of execution */
    int32_t step_count, step_capacity;
    struct plan_weight *weights;
    int32_t weight_count, weight_capacity;
};

/* Start an empty plan with room for that many steps and weights. */
LLM_MUST_CHECK enum llm_status plan_open(struct plan *plan, int32_t step_capacity,
                                         int32_t weight_capacity, struct llm_error *error);
void plan_close(struct plan *plan); /* accepts a zeroed and a closed plan */

/* ---- writing a plan down (architecture files) ---- */

int32_t plan_add_slot(struct plan *plan, const char *name, int32_t width, enum plan_rows rows);
struct plan_view plan_whole(const struct plan *plan, int32_t slot);
struct plan_view plan_columns(int32_t slot, int32_t column, int32_t width);
/* A weight of one tensor, named by printf. */
int32_t plan_add_weight(struct plan *plan, enum plan_weight_kind kind, int32_t N, int32_t K,
                        const char *format, ...) LLM_PRINTF(5, 6);
/* The returned step has the given fields and none of the others; the caller fills what its op needs. */
struct plan_step *plan_add_step(struct plan *plan, enum plan_op op, enum plan_rows rows,
                                int32_t layer);

/* ---- passes; each leaves a plan that computes the same numbers ---- */

/* LINEAR steps that follow each other, read the same view and write neighbouring columns of one slot become one
 * step with one matrix, and one bias where all have one: Q|K|V, gate|up. An output's sum is its own row's, so no
 * number changes. */
void plan_merge_linears(struct plan *plan);
/* ROPE steps that follow each other over neighbouring columns become one: Q|K. */
void plan_merge_ropes(struct plan *plan);

/* What must be true of a plan before it runs: views lie in their slots, a matrix fills its slot's row (kernels
 * write whole rows), shapes of step and weight agree, and the backend has every op.
 * LLM_ERR_UNSUPPORTED names a missing op; a malformed plan is our own fault and a failed CHECK. */
LLM_MUST_CHECK enum llm_status plan_check(const struct plan *plan, const struct kernel_ops *ops,
                                          struct llm_error *error);

/* ---- running ---- */

/* Where a plan weight's numbers are; which member counts is the weight's kind. */
struct plan_weight_memory {
    struct kernel_matrix matrix;
    struct kernel_table table;
    const float *vector;
};

/* Everything a run needs besides the plan. */
struct plan_run {
    struct kernel_stream *stream;
    float *slots[PLAN_SLOTS_MAX];
    const struct plan_weight_memory *weights; /* [weight_count] */
    struct kernel_rope rope;
    const struct kernel_kv *kv;
    const struct kernel_sequence *sequences; /* [S] */
    const int32_t *token_ids, *positions;    /* [T] */
    const int32_t *logits_rows;              /* [L] */
    int32_t T, S, L;
};

void plan_run(const struct plan *plan, const struct plan_run *run);

/* One line per step: layer, op, out, in, weight and shapes. */
void plan_print(const struct plan *plan, FILE *out);

#endif
