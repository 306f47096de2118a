/*
 * test_quant.c - kernels/quant: blocks of small integers stand for exactly the published numbers.
 * How: one block per format worked out on paper, and hashes over 512 random blocks each that the authors' own
 * package made (tests/vectors/quant_goldens.py).
 */
#include "kernels/quant.h"

#include "kernels/dtype.h"

#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS          512
#define BLOCK_BYTES_MAX 210

static const unsigned char half_one[2] = {0x00, 0x3c}, half_quarter[2] = {0x00, 0x34};

START_TEST(q8_0_is_scale_times_byte)
{
    unsigned char block[34] = {0};
    float out[32];
    memcpy(block, half_quarter, 2);
    block[2] = 127;
    block[3] = 0x80; /* -128 */
    block[33] = 0xff;
    kernel_dequantise(KERNEL_Q8_0, block, 1, out);
    ck_assert(out[0] == 31.75f && out[1] == -32.0f && out[2] == 0.0f && out[31] == -0.25f);
}
END_TEST

START_TEST(q4_0_has_its_second_half_in_the_high_nibbles)
{
    unsigned char block[18];
    float out[32];
    memset(block, 0x88, sizeof block); /* all nibbles 8: zero */
    memcpy(block, half_one, 2);
    block[2] = 0xf0;
    block[17] = 0x19;
    kernel_dequantise(KERNEL_Q4_0, block, 1, out);
    ck_assert(out[0] == -8.0f && out[16] == 7.0f);
    ck_assert(out[15] == 1.0f && out[31] == -7.0f);
    ck_assert(out[1] == 0.0f && out[30] == 0.0f);
}
END_TEST

START_TEST(q4_k_groups_have_a_scale_and_a_minimum_of_six_bits)
{
    unsigned char block[144] = {0};
    float out[256];
    memcpy(block, half_one, 2);
    memcpy(block + 2, half_quarter, 2);
    block[4] = 0xc0 | 5;     /* group 0: scale 5; upper bits 3 of group 4's scale */
    block[4 + 4] = 0x40 | 8; /* group 0: minimum 8; upper bits 1 of group 4's minimum */
    block[4 + 8] = 0x9a;     /* group 4: lower bits of scale (10) and minimum (9) */
    block[16] = 0x03;        /* group 0, element 0: 3 */
    block[16 + 64] = 0x0f;   /* group 4, element 0: 15 */
    kernel_dequantise(KERNEL_Q4_K, block, 1, out);
    ck_assert(out[0] == 5.0f * 3 - 0.25f * 8);
    ck_assert(out[1] == -2.0f);
    ck_assert(out[128] == (float)(48 + 10) * 15 - 0.25f * (16 + 9));
    ck_assert(out[32] == 0.0f);
}
END_TEST

START_TEST(q6_k_takes_two_bits_of_each_number_from_elsewhere)
{
    unsigned char block[210] = {0};
    float out[256];
    memcpy(block + 208, half_quarter, 2);
    memset(block + 192, 1, 16);
    block[192 + 15] = 0xfe; /* the last 16 elements: scale -2 */
    block[0] = 0x5c;        /* elements 0 (12) and 64 (5) */
    block[128] = 0x21;      /* their upper bits: 1 and 2 */
    block[127] = 0xf0;      /* element 255: 15 */
    block[191] = 0xc0;      /* upper bits 3 */
    kernel_dequantise(KERNEL_Q6_K, block, 1, out);
    ck_assert(out[0] == 0.25f * (16 + 12 - 32));
    ck_assert(out[64] == 0.25f * (32 + 5 - 32));
    ck_assert(out[32] == 0.25f * -32);
    ck_assert(out[255] == 0.25f * -2 * (48 + 15 - 32));
}
END_TEST

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t hash_floats(const float *values, size_t count)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < count; i++)
        for (int shift = 0; shift < 32; shift += 8)
            hash = (hash ^ (kernel_f32_bits(values[i]) >> shift & 0xff)) * UINT64_C(0x100000001b3);
    return hash;
}

static const struct {
    enum kernel_quant quant;
    uint64_t seed, hash;
} goldens[] = {
    {KERNEL_Q8_0, 8, UINT64_C(0x5ae5bf348f21a0a2)},
    {KERNEL_Q4_0, 2, UINT64_C(0x0c948966b462d33a)},
    {KERNEL_Q4_K, 12, UINT64_C(0xc266e5a05fb2322c)},
    {KERNEL_Q6_K, 14, UINT64_C(0xd11278f85a784fc1)},
};

START_TEST(random_blocks_are_the_published_numbers_bit_for_bit)
{
    static unsigned char blocks[BLOCKS * BLOCK_BYTES_MAX];
    static float out[BLOCKS * 256];
    enum kernel_quant quant = goldens[_i].quant;
    const struct kernel_quant_format *format = kernel_quant_format(quant);
    uint64_t state = goldens[_i].seed;
    for (size_t i = 0; i < BLOCKS * format->block_bytes; i++)
        blocks[i] = (unsigned char)splitmix64(&state);
    for (size_t i = 0; i < BLOCKS; i++) { /* scales below 2, as the generator keeps them */
        unsigned char *block = blocks + i * format->block_bytes;
        block[quant == KERNEL_Q6_K ? 209 : 1] &= 0xbf;
        if (quant == KERNEL_Q4_K)
            block[3] &= 0xbf;
    }
    kernel_dequantise(quant, blocks, BLOCKS, out);
    uint64_t hash = hash_floats(out, BLOCKS * format->block_elements);
    ck_assert_msg(hash == goldens[_i].hash, "%s: %016llx", format->name, (unsigned long long)hash);
}
END_TEST

/* Every f16, what lies half-way to the next, and its neighbours; kernel_f32_to_f16() has tests of its own. */
START_TEST(narrowing_many_is_narrowing_each)
{
    static float values[6 * 0x7bff];
    static uint16_t out[6 * 0x7bff];
    size_t count = 0;
    for (uint32_t bits = 0; bits < 0x7bff; bits++) {
        float low = kernel_f16_to_f32((uint16_t)bits);
        float middle = (low + kernel_f16_to_f32((uint16_t)(bits + 1))) / 2;
        const float all[] = {low, middle, nextafterf(middle, 0), nextafterf(middle, INFINITY)};
        for (int i = 0; i < 4; i++)
            values[count++] = i % 2 == 0 ? all[i] : -all[i];
        values[count++] = -low;
        values[count++] = middle;
    }
    ck_assert(kernel_narrow_to_f16(values, count, out));
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(out[i] == kernel_f32_to_f16(values[i]), "%g", (double)values[i]);
}
END_TEST

START_TEST(what_f16_cannot_hold_is_noticed)
{
    static const float bad[] = {65520.0f, -65520.0f, INFINITY, -INFINITY, NAN, 1e30f};
    uint16_t out[40];
    for (int at = 0; at < 40; at += 13) {
        float values[40] = {0};
        values[at] = nextafterf(65520.0f, 0);
        ck_assert(kernel_narrow_to_f16(values, 40, out));
        ck_assert_uint_eq(out[at], 0x7bff);
        values[at] = bad[_i];
        ck_assert(!kernel_narrow_to_f16(values, 40, out));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels/quant");
    TCase *tc = tcase_create("quant");
    tcase_add_test(tc, q8_0_is_scale_times_byte);
    tcase_add_test(tc, q4_0_has_its_second_half_in_the_high_nibbles);
    tcase_add_test(tc, q4_k_groups_have_a_scale_and_a_minimum_of_six_bits);
    tcase_add_test(tc, q6_k_takes_two_bits_of_each_number_from_elsewhere);
    tcase_add_loop_test(tc, random_blocks_are_the_published_numbers_bit_for_bit, 0,
                        sizeof goldens / sizeof goldens[0]);
    tcase_add_test(tc, narrowing_many_is_narrowing_each);
    tcase_add_loop_test(tc, what_f16_cannot_hold_is_noticed, 0, 6);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
