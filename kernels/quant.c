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

static int signed_byte(unsigned char byte)
{
    return byte < 128 ? byte : byte - 256;
}

static void dequantise_q8_0(const unsigned char *block, float *out)
{
    float d = load_f16(block);
    for (int i = 0; i < 32; i++)
        out[i] = d * (float)signed_byte(block[2 + i]);
}

static void dequantise_q4_0(const unsigned char *block, float *out)
{
    float d = load_f16(block);
    for (int i = 0; i < 16; i++) {
        out[i] = (float)((block[2 + i] & 15) - 8) * d;
        out[i + 16] = (float)((block[2 + i] >> 4) - 8) * d;
    }
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

static void dequantise_q4_k(const unsigned char *block, float *out)
{
    float d = load_f16(block), dmin = load_f16(block + 2);
    const unsigned char *packed = block + 4, *nibbles = block + 16;
    for (int group = 0; group < 8; group++) {
        int scale, minimum;
        q4_k_group(packed, group, &scale, &minimum);
        float step = d * (float)scale, below = dmin * (float)minimum;
        const unsigned char *bytes = nibbles + 32 * (group / 2);
        for (int l = 0; l < 32; l++) {
            int q = group % 2 == 0 ? bytes[l] & 15 : bytes[l] >> 4;
            out[32 * group + l] = step * (float)q - below;
        }
    }
}

/* Two halves of 128: each has 64 bytes of low nibbles and 32 of upper bits. Row 0..3 of 32 elements takes its nibbles from
 * the first or second 32 bytes (rows 0, 2 and 1, 3), low ones for rows 0 and 1, and bits 2 * row of the upper ones. */
static void dequantise_q6_k(const unsigned char *block, float *out)
{
    float d = load_f16(block + 208);
    for (int half = 0; half < 2; half++) {
        const unsigned char *low = block + 64 * half, *high = block + 128 + 32 * half;
        const unsigned char *scales = block + 192 + 8 * half;
        for (int row = 0; row < 4; row++) {
            for (int l = 0; l < 32; l++) {
                unsigned char byte = low[l + 32 * (row % 2)];
                int nibble = row < 2 ? byte & 15 : byte >> 4;
                int q = (nibble | (high[l] >> 2 * row & 3) << 4) - 32;
                float step = d * (float)signed_byte(scales[2 * row + l / 16]);
                out[128 * half + 32 * row + l] = step * (float)q;
            }
        }
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
