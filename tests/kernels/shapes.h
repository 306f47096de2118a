/*
 * shapes.h - the tables of shapes that every backend is tested with, each row with the reason it is there.
 */
#ifndef LLM_TESTS_KERNELS_SHAPES_H
#define LLM_TESTS_KERNELS_SHAPES_H

#include "kernels/kernels.h"

struct linear_shape {
    int32_t T, N, K;
    const char *why;
};

static const struct linear_shape linear_shapes[] = {
    {1, 1, 1, "the smallest"},
    {1, 64, 64, "a model of 260 thousand parameters, one row"},
    {1, 65, 33, "one output beyond whole panels, odd inputs"},
    {2, 130, 40, "two rows"},
    {3, 97, 17, "three rows, panels left over"},
    {4, 33, 129, "four rows"},
    {5, 7, 300, "less than any panel"},
    {6, 96, 256, "one full tile"},
    {7, 31, 257, "two heights of tiles, one input beyond a stretch"},
    {13, 200, 600, "stretches, the last one short"},
    {96, 48, 128, "exactly one block of rows"},
    {97, 40, 140, "one row beyond a block"},
    {200, 24, 1030, "blocks of rows by stretches"},
    {3, 2000, 48, "a vocabulary"},
};

struct row_shape {
    int32_t T, D;
    const char *why;
};

static const struct row_shape row_shapes[] = {
    {1, 1, "the smallest"},
    {1, 64, "a small model, one row"},
    {3, 5, "less than a vector"},
    {2, 100, "vectors left over"},
    {1, 288, "a model's width"},
    {5, 127, "one element short of whole vectors"},
    {4, 4096, "a large model"},
    {1, 8192, "the longest sums"},
    {70, 513, "many rows, all threads"},
};

struct rope_shape {
    int32_t T, H, D, R, P;
    const char *why;
};

static const struct rope_shape rope_shapes[] = {
    {1, 1, 2, 2, 3, "one pair"},
    {5, 12, 8, 8, 512, "less than a vector in each half"},
    {3, 4, 44, 44, 4096, "halves that end inside a vector"},
    {9, 40, 128, 128, 8192, "a large model"},
    {2, 3, 80, 32, 100, "the rest of a head stays"},
};

struct attention_shape {
    int32_t H, G, D, B, window;
    enum kernel_dtype dtype;
    struct {
        int32_t before, rows; /* positions already there, rows of this step */
    } sequences[4];           /* ends at rows == 0 */
    const char *why;
};

static const struct attention_shape attention_shapes[] = {
    {1, 1, 2, 1, 0, KERNEL_F32, {{0, 1}}, "the smallest: one key, weight one"},
    {8, 4, 8, 16, 0, KERNEL_F32, {{0, 9}}, "stories260K, a prompt"},
    {8,
     4,
     8,
     16,
     0,
     KERNEL_F32,
     {{200, 1}, {63, 1}, {64, 1}, {65, 1}},
     "decode around a span's end"},
    {6, 6, 20, 16, 0, KERNEL_F32, {{0, 130}}, "no groups, a head that ends inside a vector"},
    {9, 3, 64, 32, 0, KERNEL_BF16, {{70, 45}, {0, 3}}, "groups of three, chunks of a prompt"},
    {4, 1, 128, 64, 0, KERNEL_BF16, {{500, 1}, {0, 70}}, "all heads on one key head"},
    {2, 2, 256, 16, 0, KERNEL_F32, {{0, 66}}, "the widest head"},
    {4, 2, 34, 24, 0, KERNEL_BF16, {{100, 20}}, "blocks that do not divide a span"},
    {4, 2, 16, 16, 50, KERNEL_F32, {{0, 140}, {300, 1}}, "a window inside a span and across"},
    {4, 4, 16, 16, 64, KERNEL_BF16, {{127, 3}, {128, 40}}, "a window of one span"},
    {2, 1, 16, 16, 1, KERNEL_F32, {{64, 2}}, "a window of one: the value itself"},
};

enum {
    LINEAR_SHAPES = sizeof linear_shapes / sizeof linear_shapes[0],
    ROW_SHAPES = sizeof row_shapes / sizeof row_shapes[0],
    ROPE_SHAPES = sizeof rope_shapes / sizeof rope_shapes[0],
    ATTENTION_SHAPES = sizeof attention_shapes / sizeof attention_shapes[0]
};

#endif
