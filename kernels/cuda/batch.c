/*
 * batch.c - counting and writing the arrays of struct cuda_batch; pool and weights for the device.
 */
#include "kernels/cuda/batch.h"

#include "shm/check.h"

#include <assert.h>
#include <string.h>

static_assert((int)CUDA_F32 == (int)KERNEL_F32 && (int)CUDA_BF16 == (int)KERNEL_BF16 &&
                  (int)CUDA_F16 == (int)KERNEL_F16,
              "dtypes keep their numbers");
static_assert((int)CUDA_SPAN_TOKENS == KERNEL_ATTENTION_SPAN_TOKENS, "one width of spans");
static_assert((int)CUDA_HEAD_DIM_MAX == KERNEL_HEAD_DIM_MAX, "one widest head");

/* How many spans the row at position p sees. */
static int32_t span_count_at(int32_t p, int32_t window)
{
    int32_t first = window && p >= window ? p - window + 1 : 0;
    return p / CUDA_SPAN_TOKENS - first / CUDA_SPAN_TOKENS + 1;
}

static int32_t block_count_of(const struct kernel_sequence *s, int32_t B)
{
    return (s->position_first + s->row_count + B - 1) / B;
}

struct cuda_batch_shape cuda_batch_measure(const struct kernel_sequence *sequences, int32_t S,
                                           int32_t B, int32_t window)
{
    struct cuda_batch_shape shape = {.S = S};
    int64_t spans = 0;
    for (const struct kernel_sequence *s = sequences; s < sequences + S; s++) {
        CHECK(s->row_first == shape.T && s->row_count >= 0 && s->position_first >= 0);
        shape.T += s->row_count;
        int32_t blocks = block_count_of(s, B);
        shape.table_stride = blocks > shape.table_stride ? blocks : shape.table_stride;
        for (int32_t i = 0; i < s->row_count; i++)
            spans += span_count_at(s->position_first + i, window);
    }
    CHECK(spans <= INT32_MAX);
    shape.span_count = (int32_t)spans;
    return shape;
}

/* The arrays, in the order in which they lie in the staging buffer; entries are 4 bytes each. */
struct places {
    size_t positions, table_of_row, tables, span_first, row_of_span, end;
};

static struct places places_of(const struct cuda_batch_shape *shape)
{
    struct places at = {0};
    at.table_of_row = at.positions + (size_t)shape->T;
    at.tables = at.table_of_row + (size_t)shape->T;
    at.span_first = at.tables + (size_t)shape->S * (size_t)shape->table_stride;
    at.row_of_span = at.span_first + (size_t)shape->T + 1;
    at.end = at.row_of_span + (size_t)shape->span_count;
    return at;
}

size_t cuda_batch_bytes(const struct cuda_batch_shape *shape)
{
    return places_of(shape).end * sizeof(int32_t);
}

struct cuda_batch cuda_batch_fill(const struct cuda_batch_shape *shape,
                                  const struct kernel_sequence *sequences, int32_t B,
                                  int32_t window, void *staging, const void *device)
{
    struct places at = places_of(shape);
    int32_t *host = staging, spans = 0;
    uint32_t *tables = (uint32_t *)staging + at.tables;
    memset(tables, 0, (size_t)shape->S * (size_t)shape->table_stride * sizeof *tables);
    for (int32_t index = 0; index < shape->S; index++) {
        const struct kernel_sequence *s = &sequences[index];
        memcpy(tables + (size_t)index * (size_t)shape->table_stride, s->blocks,
               (size_t)block_count_of(s, B) * sizeof *tables);
        for (int32_t i = 0; i < s->row_count; i++) {
            size_t row = (size_t)(s->row_first + i);
            int32_t p = s->position_first + i, count = span_count_at(p, window);
            host[at.positions + row] = p;
            host[at.table_of_row + row] = index;
            host[at.span_first + row] = spans;
            for (int32_t n = 0; n < count; n++)
                host[at.row_of_span + (size_t)spans++] = (int32_t)row;
        }
    }
    host[at.span_first + (size_t)shape->T] = spans;
    CHECK(spans == shape->span_count);
    const int32_t *there = device;
    return (struct cuda_batch){.positions = there + at.positions,
                               .table_of_row = there + at.table_of_row,
                               .tables = (const uint32_t *)there + at.tables,
                               .span_first = there + at.span_first,
                               .row_of_span = there + at.row_of_span,
                               .table_stride = shape->table_stride,
                               .T = shape->T,
                               .span_count = spans};
}

struct cuda_kv cuda_kv_of(const struct kernel_kv *kv, void *device_base)
{
    size_t row = kernel_kv_row_bytes(kv);
    return (struct cuda_kv){.base = device_base,
                            .slab_bytes = kv->slab_bytes,
                            .block_bytes = kernel_kv_block_bytes(kv),
                            .layer_bytes = kernel_kv_layer_bytes(kv),
                            .head_bytes = 2 * (size_t)kv->B * row,
                            .row_bytes = row,
                            .blocks_per_slab = kv->blocks_per_slab,
                            .block_count = kv->block_count,
                            .dtype = (int32_t)kv->dtype,
                            .layers = kv->layers,
                            .G = kv->G,
                            .B = kv->B,
                            .D = kv->D};
}

uint64_t cuda_matrix_row_bytes(enum kernel_dtype dtype, int32_t K)
{
    uint64_t bytes = (uint64_t)K * kernel_dtype_bytes(dtype);
    return (bytes + CUDA_MATRIX_ALIGN_BYTES - 1) / CUDA_MATRIX_ALIGN_BYTES *
           CUDA_MATRIX_ALIGN_BYTES;
}

void cuda_matrix_pack(void *host_rows, enum kernel_dtype dtype, int32_t N, int32_t K,
                      const void *source, enum kernel_dtype source_dtype, int32_t row_first,
                      int32_t row_count)
{
    CHECK(row_first >= 0 && row_count >= 0 && row_count <= N - row_first);
    size_t row_bytes = cuda_matrix_row_bytes(dtype, K),
           used = (size_t)K * kernel_dtype_bytes(dtype);
    for (int32_t i = 0; i < row_count; i++) {
        unsigned char *row = (unsigned char *)host_rows + (size_t)(row_first + i) * row_bytes;
        for (size_t k = 0; k < (size_t)K; k++)
            kernel_store(row, dtype, k,
                         kernel_load(source, source_dtype, (size_t)i * (size_t)K + k));
        memset(row + used, 0, row_bytes - used);
    }
}
