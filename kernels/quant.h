/*
 * quant.h - weights in blocks of small integers, as GGUF files store them, and what numbers they stand for.
 *
 * Idea     A row of a matrix is cut into blocks of 32 or 256 elements. A block has small integers and one or a few
 *          scales; an element is scale * integer, in two formats less a minimum. The sums and products below
 *          are made in f32 in the order written, which decides every bit of the result.
 * Formats  d, dmin: f16; all else little-endian integers; l and j count elements.
 *          Q8_0   32 elements, 34 bytes:   d, int8 q[32]                           x = d * q
 *          Q4_0   32 elements, 18 bytes:   d, nibbles q[32]                        x = (q - 8) * d
 *                 low nibbles of the 16 bytes are elements 0..15, high ones 16..31
 *          Q4_K   256 elements, 144 bytes: d, dmin, 12 bytes of scales, nibbles    x = (d * s) * q - (dmin * m)
 *                 8 groups of 32 with 6-bit scale s and minimum m; 32 bytes hold two groups, low nibbles first
 *          Q6_K   256 elements, 210 bytes: 128 bytes of low nibbles, 64 of upper pairs of bits, int8 s[16], d
 *                 16 groups of 16                                                  x = (d * s) * (q - 32)
 * Source   The definitions that ggml publishes with its reference code: https://github.com/ggml-org/ggml,
 *          src/ggml-common.h (block_q8_0, ...) and src/ggml-quants.c (dequantize_row_q8_0, ...).
 * Threads  Pure functions.
 * See      docs/NUMERICS.md ("Formats"), tests/kernels/test_quant.c.
 */
#ifndef LLM_KERNELS_QUANT_H
#define LLM_KERNELS_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kernel_quant {
    KERNEL_Q8_0,
    KERNEL_Q4_0,
    KERNEL_Q4_K,
    KERNEL_Q6_K,
    KERNEL_QUANT_COUNT
};

struct kernel_quant_format {
    const char *name; /* "Q8_0" */
    size_t block_elements, block_bytes;
};

/* `quant` < KERNEL_QUANT_COUNT. */
const struct kernel_quant_format *kernel_quant_format(enum kernel_quant quant);

/*
 * The numbers that blocks stand for, bit for bit.
 *
 *   blocks   [block_count] blocks at any address
 *   out      [block_count * block_elements] f32; scales that are infinite or not a number come through as such
 */
void kernel_dequantise(enum kernel_quant quant, const void *blocks, size_t block_count, float *out);

/* Round to the nearest f16, ties to even, as kernel_f32_to_f16(). False when a value is 65520 or more in size, infinite or
 * not a number: then that item of `out` means nothing. */
bool kernel_narrow_to_f16(const float *values, size_t count, uint16_t *out);

#endif
