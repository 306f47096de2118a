#include "tests/cuda/fixture.h"

#include <check.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    enum emu_policy policy;
    uint64_t seed;
    int resident_blocks;
} schedules[] = {
    {EMU_LEADING, 1, 4}, {EMU_REVERSE, 2, 4}, {EMU_FORWARD, 3, 1},
    {EMU_RANDOM, 4, 16}, {EMU_LEADING, 5, 3},
};

int cuda_schedules(void)
{
    return emu_has_tsan() ? 1 : emu_has_asan() ? 2 : (int)(sizeof schedules / sizeof schedules[0]);
}

struct cuda_stream cuda_begin(int schedule, uint64_t salt)
{
    fixture_reseed(salt);
    /* ThreadSanitizer takes a millisecond for every fiber; two blocks at once are enough to race. */
    emu_schedule(schedules[schedule].policy, schedules[schedule].seed + fixture_seed(),
                 emu_has_tsan() ? 2 : schedules[schedule].resident_blocks);
    struct cuda_stream stream = {.fault = emu_alloc(sizeof *stream.fault)};
    *stream.fault = 0;
    return stream;
}

void cuda_end(struct cuda_stream *stream)
{
    ck_assert_msg(stream->error == 0, "%s: error %d", stream->error_op, stream->error);
    emu_free(stream->fault);
}

void *cuda_upload(const void *host, size_t bytes)
{
    void *device = emu_alloc(bytes);
    memcpy(device, host, bytes);
    return device;
}

float *cuda_floats(const float *host, size_t count)
{
    return cuda_upload(host, count * sizeof *host);
}

float *cuda_download(const float *device, size_t count)
{
    float *host = malloc((count + !count) * sizeof *host);
    ck_assert_ptr_nonnull(host);
    memcpy(host, device, count * sizeof *host);
    return host;
}

struct cuda_batch cuda_batch_upload(const struct kernel_sequence *sequences, int32_t S, int32_t B,
                                    int32_t window)
{
    struct cuda_batch_shape shape = cuda_batch_measure(sequences, S, B, window);
    size_t bytes = cuda_batch_bytes(&shape);
    void *staging = malloc(bytes), *device = emu_alloc(bytes);
    ck_assert_ptr_nonnull(staging);
    struct cuda_batch batch = cuda_batch_fill(&shape, sequences, B, window, staging, device);
    memcpy(device, staging, bytes);
    free(staging);
    return batch;
}

void cuda_free_batch(const struct cuda_batch *batch)
{
    emu_free((void *)(uintptr_t)batch->positions); /* the first array */
}

size_t cuda_kv_bytes(const struct kernel_kv *kv)
{
    uint32_t slabs = (kv->block_count + kv->blocks_per_slab - 1) / kv->blocks_per_slab;
    return slabs * kv->slab_bytes;
}

struct cuda_kv cuda_kv_upload(const struct kernel_kv *kv)
{
    return cuda_kv_of(kv, cuda_upload(kv->base, cuda_kv_bytes(kv)));
}

struct cuda_matrix cuda_matrix_upload(enum kernel_dtype dtype, int32_t N, int32_t K, const float *w)
{
    uint64_t row_bytes = cuda_matrix_row_bytes(dtype, K);
    size_t bytes = (size_t)N * row_bytes;
    void *host = malloc(bytes);
    ck_assert_ptr_nonnull(host);
    cuda_matrix_pack(host, dtype, N, K, w, KERNEL_F32, 0, N);
    struct cuda_matrix matrix = {cuda_upload(host, bytes), row_bytes, (int32_t)dtype, N, K};
    free(host);
    return matrix;
}

void cuda_expect(struct fixture_worst worst, const char *op, const char *shape, const char *why)
{
    ck_assert_msg(worst.ratio <= 1,
                  "%s %s (%s): element %zu is %.9g, reference %.9g: %.3g times the tolerance "
                  "(seed %" PRIu64 ")",
                  op, shape, why, worst.index, worst.got, worst.want, worst.ratio, fixture_seed());
}
