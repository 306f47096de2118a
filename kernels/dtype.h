/*
 * dtype.h - the number formats in which weights and keys/values are stored.
 *
 * Idea     Arithmetic is done in f32 (the reference: f64); a dtype is only a way to store a number. bf16 is the
 *          upper half of an f32, so widening is a shift and exact; narrowing rounds to nearest, ties to even.
 *          f16 is IEEE 754 binary16; it is read from files, and packed matrices store it as it is.
 * Threads  Pure functions.
 * See      docs/NUMERICS.md ("Formats"), tests/kernels/test_dtype.c.
 */
#ifndef LLM_KERNELS_DTYPE_H
#define LLM_KERNELS_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum kernel_dtype {
    KERNEL_F32 = 0,
    KERNEL_BF16 = 1,
    KERNEL_F16 = 2,
    KERNEL_DTYPE_COUNT
};

/* Bytes of one element: 4, 2, 2; 0 for a value that is no dtype. */
size_t kernel_dtype_bytes(enum kernel_dtype dtype);

/* "f32", "bf16", "f16"; "unknown" for a value that is no dtype, never NULL. */
const char *kernel_dtype_name(enum kernel_dtype dtype);

static inline uint32_t kernel_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float kernel_f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float kernel_bf16_to_f32(uint16_t value)
{
    return kernel_f32_from_bits((uint32_t)value << 16);
}

/* Nearest, ties to even; a NaN stays a (quiet) NaN, too large a number becomes infinity. */
static inline uint16_t kernel_f32_to_bf16(float value)
{
    uint32_t bits = kernel_f32_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float kernel_f16_to_f32(uint16_t value);
uint16_t kernel_f32_to_f16(float value); /* nearest, ties to even; NaN stays NaN */

/* Element `index` of an array of `dtype`, which may lie at any address (files align as they like). */
static inline float kernel_load(const void *array, enum kernel_dtype dtype, size_t index)
{
    const unsigned char *bytes = array;
    if (dtype == KERNEL_F32) {
        float value;
        memcpy(&value, bytes + 4 * index, sizeof value);
        return value;
    }
    uint16_t half;
    memcpy(&half, bytes + 2 * index, sizeof half);
    return dtype == KERNEL_BF16 ? kernel_bf16_to_f32(half) : kernel_f16_to_f32(half);
}

/* Round `value` to `dtype` and store it as element `index`; any address. */
static inline void kernel_store(void *array, enum kernel_dtype dtype, size_t index, float value)
{
    unsigned char *bytes = array;
    if (dtype == KERNEL_F32) {
        memcpy(bytes + 4 * index, &value, sizeof value);
        return;
    }
    uint16_t half = dtype == KERNEL_BF16 ? kernel_f32_to_bf16(value) : kernel_f32_to_f16(value);
    memcpy(bytes + 2 * index, &half, sizeof half);
}

#endif
