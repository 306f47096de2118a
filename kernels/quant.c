#include "kernels/quant.h"

#include "kernels/dtype.h"

#include <stdint.h>

const struct kernel_quant_format *kernel_quant_format(enum kernel_quant quant)
{
    static const struct kernel_quant_format formats[KERNEL_QUANT_COUNT] = {
        [KERNEL_Q8_0] = {"Q8_0", 32, 34},
        [KERNEL_Q4_0] = {"Q4_0", 32, 18},
        [KERNEL_Q4_K] = {"Q4_K", 256, 144},
        [KERNEL_Q6_K] = {"Q6_K", 256, 210},
    };
    return &formats[quant];
}

static float load_f16(const unsigned char *bytes)
{
    return kernel_load(bytes, KERNEL_F16, 0);
}

/* The loops below are over arrays of one kind and without branches, so that compilers make vectors of them. */

static void dequantise_q8_0(const unsigned char *block, float *restrict out)
{
    const int8_t *q = (const int8_t *)(block + 2);
    float d = load_f16(block);
    for (int i = 0; i < 32; i++)
        out[i] = d * (float)q[i];
}

static void dequantise_q4_0(const unsigned char *block, float *restrict out)
{
    const uint8_t *q = block + 2;
    float d = load_f16(block);
    for (int i = 0; i < 16; i++)
        out[i] = (float)((q[i] & 15) - 8) * d;
    for (int i = 0; i < 16; i++)
        out[i + 16] = (float)((q[i] >> 4) - 8) * d;
}

/* Scale and minimum of group 0..7, 6 bits each, in 12 bytes: groups 0..3 fill the lower 6 bits of bytes 0..3 (scales) and
 * 4..7 (minima); groups 4..7 have their lower 4 bits in bytes 8..11 and their upper 2 above those of groups 0..3. */
static void q4_k_group(const unsigned char *packed, int group, int *out_scale, int *out_minimum)
{
    if (group < 4) {
        *out_scale = packed[group] & 63;
        *out_minimum = packed[group + 4] & 63;
    } else {
        *out_scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4;
        *out_minimum = (packed[group + 4] >> 4) | (packed[group] >> 6) << 4;
    }
}

static void dequantise_q4_k(const unsigned char *block, float *restrict out)
{
    float d = load_f16(block), dmin = load_f16(block + 2);
    for (int group = 0; group < 8; group++) {
        const uint8_t *q = block + 16 + 32 * (group / 2);
        int scale, minimum, shift = group % 2 * 4;
        q4_k_group(block + 4, group, &scale, &minimum);
        float step = d * (float)scale, below = dmin * (float)minimum;
        for (int l = 0; l < 32; l++)
            out[32 * group + l] = step * (float)(q[l] >> shift & 15) - below;
    }
}

/* Two halves of 128: each has 64 bytes of low nibbles and 32 of upper bits. Row 0..3 of 32 elements takes its nibbles from
 * the first or second 32 bytes (rows 0, 2 and 1, 3), low ones for rows 0 and 1, and bits 2 * row of the upper ones. A
 * scale is for 16 elements. */
static void dequantise_q6_k(const unsigned char *block, float *restrict out)
{
    const int8_t *scales = (const int8_t *)(block + 192);
    float d = load_f16(block + 208);
    for (int group = 0; group < 16; group++) {
        int half = group / 8, row = group / 2 % 4, first = group % 2 * 16;
        const uint8_t *low = block + 64 * half + 32 * (row % 2) + first;
        const uint8_t *high = block + 128 + 32 * half + first;
        int nibble = row / 2 * 4, pair = 2 * row;
        float step = d * (float)scales[group];
        for (int l = 0; l < 16; l++)
            out[16 * group + l] =
                step * (float)(((low[l] >> nibble & 15) | (high[l] >> pair & 3) << 4) - 32);
    }
}

void kernel_dequantise(enum kernel_quant quant, const void *blocks, size_t block_count, float *out)
{
    static void (*const functions[KERNEL_QUANT_COUNT])(const unsigned char *, float *) = {
        [KERNEL_Q8_0] = dequantise_q8_0,
        [KERNEL_Q4_0] = dequantise_q4_0,
        [KERNEL_Q4_K] = dequantise_q4_k,
        [KERNEL_Q6_K] = dequantise_q6_k,
    };
    const struct kernel_quant_format *format = kernel_quant_format(quant);
    const unsigned char *block = blocks;
    for (size_t i = 0; i < block_count; i++)
        functions[quant](block + i * format->block_bytes, out + i * format->block_elements);
}

/* kernel_f32_to_f16() without its branches, for magnitudes below 65520: the bits of an f32 without its sign. */
static uint32_t narrow(int32_t magnitude)
{
    uint32_t bits = (uint32_t)magnitude;
    uint32_t small = kernel_f32_bits(kernel_f32_from_bits(bits) + 0.5f) - 0x3f000000;
    uint32_t normal = (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13;
    uint32_t is_small = 0 - (uint32_t)(magnitude < 0x38800000);
    return (small & is_small) | (normal & ~is_small);
}

bool kernel_narrow_to_f16(const float *restrict values, size_t count, uint16_t *restrict out)
{
    uint32_t beyond = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = kernel_f32_bits(values[i]);
        int32_t magnitude = (int32_t)(bits & 0x7fffffff);
        beyond |= (uint32_t)(magnitude >= 0x477ff000); /* 65520, infinity, NaN */
        out[i] = (uint16_t)(narrow(magnitude) | (bits >> 16 & 0x8000));
    }
    return beyond == 0;
}
