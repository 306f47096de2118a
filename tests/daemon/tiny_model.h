/*
 * tiny_model.h - a model directory that a test writes itself, and a forward pass in f64 to compare with.
 *
 * Idea     Random weights of a given shape are rounded to the file's dtype, written as config.json and
 *          safetensors into a directory of their own, and kept as doubles. tiny_model_logits() computes
 *          the same model from the doubles, straight from the formulas, sharing no line with the runtime.
 */
#ifndef LLM_TESTS_DAEMON_TINY_MODEL_H
#define LLM_TESTS_DAEMON_TINY_MODEL_H

#include "kernels/dtype.h"

#include <stdbool.h>
#include <stdint.h>

struct tiny_shape {
    int hidden, feed_forward, layers, heads, kv_heads, head_dim, vocab;
    bool tied;
    const char *dtype; /* "F32", "BF16" or "F16" */
    bool sharded;      /* two files and an index instead of one */
    bool shuffled;     /* tensors in another order in the file */
    bool mixed;        /* key projections are F32, whatever the others are */
    int positions;     /* its longest sequence; 0: 256 */
};

#define TINY_TENSORS_MAX 96 /* 9 per layer and 3 */

struct tiny_tensor {
    char name[64];
    int rows, columns; /* rows 0: a vector of `columns` */
    enum kernel_dtype dtype;
    double *values; /* as rounded to dtype */
};

struct tiny_model {
    struct tiny_shape shape;
    char directory[64];
    struct tiny_tensor tensors[TINY_TENSORS_MAX];
    int tensor_count;
};

/* Same seed, same weights, whatever dtype rounds them to. Aborts when the directory cannot be written. */
void tiny_model_open(struct tiny_model *tiny, const struct tiny_shape *shape, uint64_t seed);
void tiny_model_close(struct tiny_model *tiny); /* removes the directory */

/* Path of a file in the directory; the text is good until the next call. */
const char *tiny_model_path(const struct tiny_model *tiny, const char *file);

/* Logits after each of `count` tokens: out [count, vocab]. */
void tiny_model_logits(const struct tiny_model *tiny, const int32_t *ids, int count, double *out);

/* The generator behind it, for whoever needs reproducible numbers: splitmix64. */
uint64_t tiny_random(uint64_t *state);

#endif
