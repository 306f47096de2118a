/*
 * input.h - a fuzzer's bytes, taken from the front.
 *
 * Idea     What a target does is chosen by the next byte, then the next. Where the bytes end there are zeros, so every
 *          input means something, and a shorter one means the beginning of the same.
 */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
    const uint8_t *data;
    size_t left;
};

static inline uint64_t input_number(struct input *in, size_t bytes)
{
    uint64_t number = 0;
    for (; bytes > 0 && in->left > 0; bytes--, in->left--)
        number = number << 8 | *in->data++;
    return number;
}

static inline uint8_t input_byte(struct input *in)
{
    return (uint8_t)input_number(in, 1);
}

/* Copies what is there of `bytes`; the rest becomes zero. */
static inline void input_copy(struct input *in, void *out, size_t bytes)
{
    size_t here = bytes < in->left ? bytes : in->left;
    if (here > 0)
        memcpy(out, in->data, here);
    memset((char *)out + here, 0, bytes - here);
    in->data += here;
    in->left -= here;
}

/* A number near those at which code changes its mind, or any. */
static inline uint64_t input_odd_number(struct input *in)
{
    static const uint64_t edges[] = {0,          1,          7,          63,         255,
                                     4095,       4096,       INT32_MAX,  0x80000000, UINT32_MAX,
                                     INT64_MAX,  UINT64_MAX, 0x3f800000, 0x7fc00000, 0x7f800000,
                                     0x80000001, 1u << 16,   65535};
    uint8_t choice = input_byte(in);
    if (choice < 128)
        return edges[choice % (sizeof edges / sizeof edges[0])] - choice / 64;
    return choice < 192 ? input_byte(in) : input_number(in, 8);
}

/* Write 1, 2, 4 or 8 bytes of an odd number somewhere into `target`. */
static inline void input_edit(struct input *in, void *target, size_t bytes)
{
    size_t width = (size_t)1 << input_byte(in) % 4;
    size_t at = (size_t)input_number(in, 2) % bytes;
    uint64_t number = input_odd_number(in);
    if (width <= 8 && at + width <= bytes)
        memcpy((char *)target + at, &number, width);
}

#endif
