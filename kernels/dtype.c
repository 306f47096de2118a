#include "kernels/dtype.h"

size_t kernel_dtype_bytes(enum kernel_dtype dtype)
{
    static const size_t bytes[KERNEL_DTYPE_COUNT] = {4, 2, 2};
    return (unsigned)dtype < KERNEL_DTYPE_COUNT ? bytes[dtype] : 0;
}

const char *kernel_dtype_name(enum kernel_dtype dtype)
{
    static const char *const names[KERNEL_DTYPE_COUNT] = {"f32", "bf16", "f16"};
    return (unsigned)dtype < KERNEL_DTYPE_COUNT ? names[dtype] : "unknown";
}

/* The 15 bits below the sign, moved to the place of an f32, are the number times 2^-112 (the two exponent
 * biases are 127 and 15), subnormals included; one exact multiplication puts the exponent right. */
float kernel_f16_to_f32(uint16_t value)
{
    uint32_t sign = (uint32_t)(value & 0x8000) << 16;
    uint32_t magnitude = (uint32_t)(value & 0x7fff) << 13;
    if ((value & 0x7c00) == 0x7c00) /* infinity or NaN */
        return kernel_f32_from_bits(sign | magnitude | 0x7f800000);
    float scaled = kernel_f32_from_bits(magnitude) * 0x1p112f;
    return kernel_f32_from_bits(sign | kernel_f32_bits(scaled));
}

uint16_t kernel_f32_to_f16(float value)
{
    uint32_t bits = kernel_f32_bits(value);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) /* 65520, half-way to the first number that does not fit */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* below 2^-14: adding 0.5 rounds to a multiple of 2^-24 */
        float rounded = kernel_f32_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (kernel_f32_bits(rounded) - 0x3f000000));
    }
    uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return (uint16_t)(sign | ((rounded - 0x38000000) >> 13));
}
