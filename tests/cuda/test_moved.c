/*
 * test_moved.c - what the kernels move is what their comments say: bytes to and from memory, bank conflicts.
 * How: shapes that are whole 32-byte sectors, so that bytes asked for, sectors moved and the formula must agree.
 * The counters themselves are checked first, by a kernel whose accesses are known.
 */
#include "tests/cuda/bugs.h"
#include "tests/cuda/fixture.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(the_counters_see_scattered_loads_and_bank_conflicts)
{
    static const struct {
        int stride;
        uint64_t sectors,
            waves; /* of the load; of the store and the load in shared memory together */
    } rows[] = {{1, 4, 2}, {2, 8, 4}, {8, 32, 16}, {32, 32, 64}, {33, 32, 2}, {64, 32, 64}};
    struct cuda_stream stream = cuda_begin(0, 41);
    float *in = emu_alloc(32 * 64 * sizeof *in), *out = emu_alloc(PROBE_LANES * sizeof *out);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        emu_stats_begin();
        probe_launch(&stream, out, in, rows[i].stride);
        struct emu_stats s = emu_stats_end();
        ck_assert_uint_eq(s.read_bytes, 32 * 4);
        ck_assert_uint_eq(s.read_sector_bytes, rows[i].sectors * 32);
        ck_assert_uint_eq(s.written_sector_bytes, 32 * 4);
        ck_assert_uint_eq(s.shared_waves, rows[i].waves);
        ck_assert_uint_eq(s.shared_waves_ideal, 2);
    }
    emu_free(in), emu_free(out);
    cuda_end(&stream);
}
END_TEST

/* Everything read and written once, in whole sectors, without a bank conflict. */
static void expect_moved(const char *op, const struct emu_stats *s, size_t read, size_t written)
{
    ck_assert_msg(s->unique_read_bytes == read, "%s reads %zu bytes, not %zu", op,
                  (size_t)s->unique_read_bytes, read);
    ck_assert_msg(s->unique_written_bytes == written && s->written_bytes == written &&
                      s->written_sector_bytes == written,
                  "%s writes %zu bytes in sectors of %zu, not %zu", op, (size_t)s->written_bytes,
                  (size_t)s->written_sector_bytes, written);
    ck_assert_msg(s->shared_waves == s->shared_waves_ideal, "%s: bank conflicts, factor %.2f", op,
                  (double)s->shared_waves / (double)s->shared_waves_ideal);
}

enum {
    T = 4,
    D = 1024,
    COUNT = T * D
};

START_TEST(ops_on_rows_move_each_byte_once)
{
    struct cuda_stream stream = cuda_begin(0, 42);
    float *x = fixture_floats(2 * COUNT, 1), *x_there = cuda_floats(x, 2 * COUNT);
    float *out = cuda_floats(x, COUNT), *gain = cuda_floats(x, D);
    static const int32_t ids[8] = {3, 0, 7, 2, 1, 1, 1, 1};
    int32_t *ids_there = cuda_upload(ids, sizeof ids);
    struct cuda_table table = {x_there, D * 2, CUDA_BF16, 8, D};
    struct cuda_rope rope = {x_there, 8, 128};

    emu_stats_begin();
    add_cuda(&stream, out, x_there, T, D);
    struct emu_stats s = emu_stats_end();
    expect_moved("add", &s, 8 * COUNT, 4 * COUNT);

    emu_stats_begin();
    rmsnorm_cuda(&stream, out, x_there, gain, T, D, 1e-5f);
    s = emu_stats_end();
    expect_moved("rmsnorm", &s, 4 * COUNT + 4 * D, 4 * COUNT);

    emu_stats_begin();
    silu_mul_cuda(&stream, out, x_there, T, D);
    s = emu_stats_end();
    expect_moved("silu_mul", &s, 8 * COUNT, 4 * COUNT);

    emu_stats_begin();
    gather_rows_cuda(&stream, out, x_there, ids_there, T, D);
    s = emu_stats_end();
    expect_moved("gather_rows", &s, 4 * COUNT + 32, 4 * COUNT);

    emu_stats_begin();
    embed_cuda(&stream, out, ids_there, &table, T);
    s = emu_stats_end();
    expect_moved("embed", &s, 2 * COUNT + 32, 4 * COUNT);

    emu_stats_begin();
    rope_cuda(&stream, out, D, ids_there, &rope, T, D / 128, 128);
    s = emu_stats_end();
    expect_moved("rope", &s, 4 * COUNT + T * 128 * 4 + 32, 4 * COUNT);
    free(x), emu_free(x_there), emu_free(out), emu_free(gain), emu_free(ids_there);
    cuda_end(&stream);
}
END_TEST

START_TEST(weights_pass_by_once_for_up_to_eight_rows)
{
    enum {
        N = 24,
        K = 2048
    };
    static const int32_t row_counts[] = {1, 2, 3, 8, 9};
    struct cuda_stream stream = cuda_begin(0, 43);
    float *x = fixture_floats((size_t)N * K, 1), *x_there = cuda_floats(x, (size_t)N * K);
    float *out = emu_alloc((size_t)N * 16 * sizeof *out);
    struct cuda_matrix w = cuda_matrix_upload(KERNEL_BF16, N, K, x);
    for (size_t i = 0; i < sizeof row_counts / sizeof row_counts[0]; i++) {
        int32_t rows = row_counts[i];
        emu_stats_begin();
        linear_cuda(&stream, out, x_there, &w, NULL, rows, 0);
        struct emu_stats s = emu_stats_end();
        uint64_t weights = (uint64_t)N * K * 2, passes = rows > 8 ? 2 : 1;
        ck_assert_msg(s.stream_sector_bytes == passes * weights, "%d rows read %zu of %zu bytes",
                      rows, (size_t)s.stream_sector_bytes, (size_t)weights);
        ck_assert_uint_eq(s.unique_read_bytes, weights + (uint64_t)rows * K * 4);
        ck_assert_uint_eq(s.written_bytes, (uint64_t)rows * N * 4);
    }
    free(x), emu_free(x_there), emu_free(out), emu_free((void *)(uintptr_t)w.rows);
    cuda_end(&stream);
}
END_TEST

/* Four query heads on each key head: a decode step over 100 and 33 positions reads each key and value row once. */
START_TEST(attention_reads_what_is_seen_once_per_group_without_bank_conflicts)
{
    enum {
        H = 8,
        G = 2,
        DIM = 128,
        B = 16
    };
    struct cuda_stream stream = cuda_begin(0, 44);
    struct kernel_kv kv = fixture_kv(KERNEL_BF16, 1, G, B, DIM, 12);
    uint32_t *blocks = fixture_blocks(12);
    memset(kv.base, 0, cuda_kv_bytes(&kv));
    const struct kernel_sequence sequences[] = {{blocks, 0, 1, 99}, {blocks + 8, 1, 1, 32}};
    struct cuda_batch batch = cuda_batch_upload(sequences, 2, B, 0);
    struct cuda_kv there = cuda_kv_upload(&kv);
    float *q = fixture_floats(2 * H * DIM, 1), *q_there = cuda_floats(q, 2 * H * DIM);
    float *out = emu_alloc(2 * H * DIM * sizeof *out);
    struct cuda_attention call = {0.1f, 0,
                                  emu_alloc(cuda_attention_bytes(batch.span_count, H, DIM))};
    emu_stats_begin();
    attention_cuda(&stream, out, q_there, H * DIM, &there, 0, &batch, H, &call);
    struct emu_stats s = emu_stats_end();
    ck_assert_uint_eq(s.stream_sector_bytes, 2u * (100 + 33) * G * DIM * 2);
    ck_assert_msg(s.shared_waves == s.shared_waves_ideal, "bank conflicts, factor %.3f",
                  (double)s.shared_waves / (double)s.shared_waves_ideal);

    float *rows = fixture_floats(2 * G * DIM * 2, 1),
          *rows_there = cuda_floats(rows, 2 * G * DIM * 2);
    emu_stats_begin();
    kv_append_cuda(&stream, &there, 0, rows_there, rows_there + G * DIM, 2 * G * DIM, &batch);
    s = emu_stats_end();
    ck_assert_uint_eq(s.stream_sector_bytes, 2u * 2 * G * DIM * 4);
    ck_assert_uint_eq(s.written_sector_bytes, 2u * 2 * G * DIM * 2);
    cuda_free_batch(&batch);
    free(kv.base), free(blocks), free(q), free(rows);
    emu_free(there.base), emu_free(q_there), emu_free(out), emu_free(call.partials);
    emu_free(rows_there);
    cuda_end(&stream);
}
END_TEST

START_TEST(blocks_are_copied_and_zeroed_in_whole_sectors)
{
    struct cuda_stream stream = cuda_begin(0, 45);
    struct kernel_kv kv = fixture_kv(KERNEL_BF16, 2, 2, 16, 128, 4);
    struct cuda_kv there = cuda_kv_upload(&kv);
    struct cuda_kv_copy copy = {2, 1, 5}, *copy_there = cuda_upload(&copy, sizeof copy);
    uint32_t block = 3, *block_there = cuda_upload(&block, sizeof block);
    emu_stats_begin();
    kv_copy_cuda(&stream, &there, copy_there, 1);
    struct emu_stats s = emu_stats_end();
    uint64_t bytes = 2u * 2 * 2 * 5 * 128 * 2; /* layers, heads, keys and values, rows */
    ck_assert_uint_eq(s.stream_sector_bytes, bytes);
    ck_assert_uint_eq(s.written_sector_bytes, bytes);
    emu_stats_begin();
    kv_zero_cuda(&stream, &there, block_there, 1);
    s = emu_stats_end();
    ck_assert_uint_eq(s.written_sector_bytes, kernel_kv_block_bytes(&kv));
    free(kv.base), emu_free(there.base), emu_free(copy_there), emu_free(block_there);
    cuda_end(&stream);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda/moved");
    TCase *tc = tcase_create("moved");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, the_counters_see_scattered_loads_and_bank_conflicts);
    tcase_add_test(tc, ops_on_rows_move_each_byte_once);
    tcase_add_test(tc, weights_pass_by_once_for_up_to_eight_rows);
    tcase_add_test(tc, attention_reads_what_is_seen_once_per_group_without_bank_conflicts);
    tcase_add_test(tc, blocks_are_copied_and_zeroed_in_whole_sectors);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
