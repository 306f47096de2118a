/*
 * cuda.h - the ops of kernels.h as CUDA kernels: what is launched, on which memory.
 *
 * Idea     One entry per op, named <op>_cuda, that launches on a stream and returns at once. Formulas, shapes and
 *          tolerances are those of struct kernel_ops; here stands what differs: where the data lies, what may
 *          fail. Sequences of a step are told row by row (struct cuda_batch), because a device looks at rows.
 * Owner    The caller owns every buffer. Pointers inside the structs and to numbers are device memory; the
 *          structs themselves are read on the host, during the call.
 * Layout   f32 buffers begin at multiples of 16 bytes. Four neighbours are moved at once where D (and a stride)
 *          is a multiple of 4, one by one elsewhere: any D works, and gives the same bits.
 * Threads  One thread calls on one stream at a time; kernels of a stream run in order.
 * Trust    Sizes come from our own plan. What a device computed itself is not trusted: a token id outside the
 *          vocabulary sets the stream's fault word and gives a row of zeros.
 * Errors   A launch that fails is kept in the stream (error, error_op): no entry returns anything.
 * Numbers  As docs/NUMERICS.md says of kernels/cuda: the bits of a row depend on that row's inputs alone.
 * See      kernels/cuda/README.md, docs/GPU.md, tests/cuda/.
 */
#ifndef LLM_KERNELS_CUDA_CUDA_H
#define LLM_KERNELS_CUDA_CUDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { /* enum kernel_dtype, for sources that are C++; plan.c asserts that they agree */
    CUDA_F32 = 0,
    CUDA_BF16 = 1,
    CUDA_F16 = 2
};

enum {
    CUDA_FAULT_TOKEN_ID =
        1 /* bit of the fault word: an embedding was asked for an id outside 0..V-1 */
};

enum {
    CUDA_SPAN_TOKENS = 64, /* KERNEL_ATTENTION_SPAN_TOKENS */
    CUDA_MATRIX_ALIGN_BYTES = 16,
    CUDA_HEAD_DIM_MAX = 256
};

struct cuda_stream {
    void *handle;    /* cudaStream_t */
    uint32_t *fault; /* one word, zero at first; CUDA_FAULT_... bits are or'ed in */
    int error;       /* first cudaError_t of a launch; 0 */
    const char *error_op;
};

/* Rows [V, D], each beginning at a multiple of row_bytes from the first, in one of the three formats. */
struct cuda_table {
    const void *rows;
    uint64_t row_bytes;
    int32_t dtype, V, D;
};

/* Weights [N, K], row-major; a row is padded with zeros to a multiple of CUDA_MATRIX_ALIGN_BYTES. */
struct cuda_matrix {
    const void *rows; /* 16-byte aligned */
    uint64_t row_bytes;
    int32_t dtype, N, K;
};

struct cuda_rope {
    const float *cos_sin; /* [P, 2, D / 2] as in struct kernel_rope */
    int32_t P, D;
};

/* struct kernel_kv with its products worked out. */
struct cuda_kv {
    unsigned char *base; /* 16-byte aligned */
    uint64_t slab_bytes, block_bytes, layer_bytes, head_bytes,
        row_bytes; /* head: keys, then values */
    uint32_t blocks_per_slab, block_count;
    int32_t dtype, layers, G, B, D;
};

/* Which token each row of a step is: made by cuda_batch_fill() from struct kernel_sequence. */
struct cuda_batch {
    const int32_t *positions;    /* [T] */
    const int32_t *table_of_row; /* [T] index of its sequence's block table */
    const uint32_t *tables; /* [S, table_stride] entry i: the block of positions [i B, i B + B) */
    const int32_t *span_first; /* [T + 1] how many spans the rows before row t see */
    const int32_t *
        row_of_span; /* [span_count] the row that sees it; a row's spans are neighbours, ascending */
    int32_t table_stride, T, span_count;
};

struct cuda_kv_copy {
    uint32_t to_block, from_block;
    int32_t token_count;
};

/* kernels.h: embed, embed_matrix (a matrix is a table). */
void embed_cuda(struct cuda_stream *stream, float *out, const int32_t *ids,
                const struct cuda_table *table, int32_t T);

void rmsnorm_cuda(struct cuda_stream *stream, float *out, const float *x, const float *gain,
                  int32_t T, int32_t D, float eps);

void rmsnorm_heads_cuda(struct cuda_stream *stream, float *x, int32_t stride, const float *gain,
                        int32_t T, int32_t H, int32_t D, float eps);

void rope_cuda(struct cuda_stream *stream, float *x, int32_t stride, const int32_t *positions,
               const struct cuda_rope *rope, int32_t T, int32_t H, int32_t D);

void add_cuda(struct cuda_stream *stream, float *out, const float *x, int32_t T, int32_t D);

void silu_mul_cuda(struct cuda_stream *stream, float *out, const float *x, int32_t T, int32_t F);

void gather_rows_cuda(struct cuda_stream *stream, float *out, const float *x, const int32_t *rows,
                      int32_t count, int32_t D);

void kv_append_cuda(struct cuda_stream *stream, const struct cuda_kv *kv, int32_t layer,
                    const float *k, const float *v, int32_t stride, const struct cuda_batch *batch);

/* Copies that do not touch each other's blocks. */
void kv_copy_cuda(struct cuda_stream *stream, const struct cuda_kv *kv,
                  const struct cuda_kv_copy *copies, int32_t count);

/* Fill whole blocks with zeros: a block's last owner leaves nothing behind. */
void kv_zero_cuda(struct cuda_stream *stream, const struct cuda_kv *kv, const uint32_t *blocks,
                  int32_t count);

/* kernels.h: linear; `add` for KERNEL_LINEAR_ADD. */
void linear_cuda(struct cuda_stream *stream, float *out, const float *x,
                 const struct cuda_matrix *w, const float *bias, int32_t T, int add);

/* kernels.h: attention, in two kernels: spans one by one, then their merge. The batch counted spans for the same
 * window. `partials` is scratch of cuda_attention_bytes(), 16-byte aligned. */
struct cuda_attention {
    float scale;
    int32_t window; /* 0: all keys before the row */
    float *partials;
};
void attention_cuda(struct cuda_stream *stream, float *out, const float *q, int32_t stride,
                    const struct cuda_kv *kv, int32_t layer, const struct cuda_batch *batch,
                    int32_t H, const struct cuda_attention *attention);

/* A span of a head takes in `partials`: weighted values [D rounded up to 4], largest score, sum, 2 unused. */
enum {
    CUDA_PARTIAL_EXTRA_FLOATS = 4
};

static inline size_t cuda_attention_bytes(int32_t span_count, int32_t H, int32_t D)
{
    size_t floats = ((size_t)D + 3) / 4 * 4 + CUDA_PARTIAL_EXTRA_FLOATS;
    return (size_t)span_count * (size_t)H * floats * sizeof(float);
}

#ifdef __cplusplus
}
#endif
#endif
