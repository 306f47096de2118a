/*
 * test_kv.c - keys and values into, between and out of blocks, on the emulator, against the reference.
 * How: the pool is NaN where nothing was written and stays so; whole pools are compared byte by byte.
 */
#include "tests/cuda/fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct kernel_stream *reference;

static void open_reference(void)
{
    reference = fixture_reference();
}

static const struct kv_shape {
    enum kernel_dtype dtype;
    int32_t layers, G, B, D;
    const char *why;
} shapes[] = {
    {KERNEL_F32, 1, 1, 1, 2, "the smallest"},
    {KERNEL_BF16, 2, 1, 3, 2, "rows of four bytes"},
    {KERNEL_F32, 2, 4, 16, 8, "a small model"},
    {KERNEL_BF16, 2, 3, 24, 34, "rows that are no multiple of 16 bytes"},
    {KERNEL_BF16, 1, 8, 16, 128, "a layer of a large model"},
    {KERNEL_F32, 1, 2, 5, 256, "the widest head"},
};

enum {
    SHAPES = sizeof shapes / sizeof shapes[0],
    BLOCKS = 7
};

static void append_case(struct cuda_stream *stream, const struct kv_shape *s)
{
    struct kernel_kv kv = fixture_kv(s->dtype, s->layers, s->G, s->B, s->D, BLOCKS);
    struct cuda_kv there = cuda_kv_upload(&kv);
    uint32_t *blocks = fixture_blocks(BLOCKS);
    /* One sequence fills its first blocks, another goes on inside its second one. */
    struct kernel_sequence sequences[] = {{blocks, 0, 2 * s->B, 0},
                                          {blocks + 3, 2 * s->B, s->B, s->B + s->B / 2}};
    int32_t T = 3 * s->B, stride = 2 * s->G * s->D + (s->D % 4 ? 3 : 4), layer = s->layers - 1;
    size_t count = (size_t)T * (size_t)stride;
    float *rows = fixture_floats(count, 2), *rows_there = cuda_floats(rows, count);
    struct cuda_batch batch = cuda_batch_upload(sequences, 2, s->B, 0);
    kv_append_cuda(stream, &there, layer, rows_there, rows_there + s->G * s->D, stride, &batch);
    reference->ops->kv_append(reference, &kv, layer, rows, rows + s->G * s->D, stride, sequences,
                              2);
    ck_assert_msg(memcmp(there.base, kv.base, cuda_kv_bytes(&kv)) == 0, "kv_append: %s", s->why);
    cuda_free_batch(&batch);
    free(kv.base), free(blocks), free(rows), emu_free(there.base), emu_free(rows_there);
}

START_TEST(kv_append_writes_the_bytes_that_the_reference_writes)
{
    struct cuda_stream stream = cuda_begin(_i, 11);
    for (int i = 0; i < SHAPES; i++)
        append_case(&stream, &shapes[i]);
    cuda_end(&stream);
}
END_TEST

static void fill(struct kernel_kv *kv)
{
    for (size_t i = 0; i < cuda_kv_bytes(kv); i++)
        kv->base[i] = (unsigned char)fixture_random(256);
}

START_TEST(kv_copy_copies_the_first_rows_of_every_head_and_nothing_else)
{
    struct cuda_stream stream = cuda_begin(_i, 12);
    for (int i = 0; i < SHAPES; i++) {
        const struct kv_shape *s = &shapes[i];
        struct kernel_kv kv = fixture_kv(s->dtype, s->layers, s->G, s->B, s->D, BLOCKS);
        fill(&kv);
        struct cuda_kv there = cuda_kv_upload(&kv);
        struct cuda_kv_copy copies[] = {{5, 0, s->B}, {1, 6, (s->B + 1) / 2}, {2, 3, 0}};
        struct cuda_kv_copy *copies_there = cuda_upload(copies, sizeof copies);
        kv_copy_cuda(&stream, &there, copies_there, 3);
        for (int c = 0; c < 3; c++)
            reference->ops->kv_copy(reference, &kv, copies[c].to_block, copies[c].from_block,
                                    copies[c].token_count);
        ck_assert_msg(memcmp(there.base, kv.base, cuda_kv_bytes(&kv)) == 0, "kv_copy: %s", s->why);
        free(kv.base), emu_free(there.base), emu_free(copies_there);
    }
    cuda_end(&stream);
}
END_TEST

START_TEST(kv_zero_zeroes_whole_blocks_and_nothing_else)
{
    struct cuda_stream stream = cuda_begin(_i, 13);
    for (int i = 0; i < SHAPES; i++) {
        const struct kv_shape *s = &shapes[i];
        struct kernel_kv kv = fixture_kv(s->dtype, s->layers, s->G, s->B, s->D, BLOCKS);
        fill(&kv);
        struct cuda_kv there = cuda_kv_upload(&kv);
        static const uint32_t blocks[] = {6, 0, 3};
        uint32_t *blocks_there = cuda_upload(blocks, sizeof blocks);
        kv_zero_cuda(&stream, &there, blocks_there, 3);
        for (int b = 0; b < 3; b++)
            memset(kernel_kv_block(&kv, blocks[b]), 0, kernel_kv_block_bytes(&kv));
        ck_assert_msg(memcmp(there.base, kv.base, cuda_kv_bytes(&kv)) == 0, "kv_zero: %s", s->why);
        free(kv.base), emu_free(there.base), emu_free(blocks_there);
    }
    cuda_end(&stream);
}
END_TEST

START_TEST(a_batch_says_of_every_row_where_it_is_and_which_spans_it_sees)
{
    static const uint32_t first[] = {9, 8, 7, 6}, second[] = {3};
    /* Positions 62, 63, 64 and 2: with a window of 63, rows 0 to 2 see spans 0, 0 and 0 to 1. */
    const struct kernel_sequence sequences[] = {{first, 0, 3, 62}, {second, 3, 1, 2}};
    struct cuda_batch_shape shape = cuda_batch_measure(sequences, 2, 32, 63);
    ck_assert_int_eq(shape.T, 4);
    ck_assert_int_eq(shape.table_stride, 3);
    ck_assert_int_eq(shape.span_count, 5);
    unsigned char *staging = malloc(cuda_batch_bytes(&shape));
    struct cuda_batch batch = cuda_batch_fill(&shape, sequences, 32, 63, staging, staging);
    static const int32_t positions[] = {62, 63, 64, 2}, tables[] = {0, 0, 0, 1};
    static const int32_t span_first[] = {0, 1, 2, 4, 5}, row_of_span[] = {0, 1, 2, 2, 3};
    static const uint32_t blocks[] = {9, 8, 7, 3, 0, 0};
    ck_assert_mem_eq(batch.positions, positions, sizeof positions);
    ck_assert_mem_eq(batch.table_of_row, tables, sizeof tables);
    ck_assert_mem_eq(batch.tables, blocks, sizeof blocks);
    ck_assert_mem_eq(batch.span_first, span_first, sizeof span_first);
    ck_assert_mem_eq(batch.row_of_span, row_of_span, sizeof row_of_span);
    ck_assert_ptr_eq(batch.row_of_span + 5,
                     (int32_t *)(void *)(staging + cuda_batch_bytes(&shape)));
    free(staging);

    /* A window of one: position 64 no longer sees span 0. */
    shape = cuda_batch_measure(sequences, 2, 32, 1);
    ck_assert_int_eq(shape.span_count, 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda/kv");
    TCase *tc = tcase_create("kv");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, open_reference, NULL);
    int schedules = cuda_schedules();
    tcase_add_loop_test(tc, kv_append_writes_the_bytes_that_the_reference_writes, 0, schedules);
    tcase_add_loop_test(tc, kv_copy_copies_the_first_rows_of_every_head_and_nothing_else, 0,
                        schedules);
    tcase_add_loop_test(tc, kv_zero_zeroes_whole_blocks_and_nothing_else, 0, schedules);
    tcase_add_test(tc, a_batch_says_of_every_row_where_it_is_and_which_spans_it_sees);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
