/*
 * kernels.h - the arithmetic of a transformer as one table of functions per backend.
 *
 * Idea     A model is a list of calls through struct kernel_ops; a backend fills the table. Activations are
 *          f32, row-major, one row per token of the step; rows of many sequences stand one after the other
 *          in one array, and struct kernel_sequence says which rows are whose. Nothing here knows requests,
 *          owners or processes.
 * Shapes   T  tokens (rows) of this step            S  sequences of this step      V  vocabulary
 *          D  width of a row, or of a head           H  query heads                G  key/value heads
 *          N  outputs of a matrix                    K  inputs of a matrix         F  feed-forward width
 *          B  tokens of a KV block                   P  positions of a table
 *          [T, D] means T rows of D contiguous elements; a `stride` is the distance of two rows in floats.
 * Numbers  "within e of the reference" is |got - want| <= e * (the sum of the absolute values of the terms that
 *          were added), unless the op says otherwise; docs/NUMERICS.md states orders of accumulation.
 *          Bit-equality: on one backend and instruction set, a row of a result depends on the inputs of that
 *          row alone: not on T, S, its place in the batch, chunking, threads, or block numbers.
 * Owner    The caller owns every buffer; a stream owns threads and scratch. Buffers of one call do not
 *          overlap unless the op says so. f32 buffers are 4-byte aligned; packed panels 64-byte aligned.
 * Threads  One thread calls on one stream at a time. Calls are carried out in order; results may be read after
 *          kernel_stream_wait(). The CPU backends have finished when the call returns.
 * Trust    Arguments come from our own plan: a wrong one is a failed CHECK. Token ids are checked against V.
 *          Keys and values of positions beyond a sequence's rows are never read, whatever they contain.
 * See      docs/NUMERICS.md, kernels/README.md, tests/kernels/test_ops.c.
 */
#ifndef LLM_KERNELS_KERNELS_H
#define LLM_KERNELS_KERNELS_H

#include "kernels/dtype.h"
#include "shm/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERNEL_ATTENTION_SPAN_TOKENS 64  /* keys of one partial softmax, by absolute position */
#define KERNEL_HEAD_DIM_MAX          256 /* widest head the backends take */
#define KERNEL_THREADS_MAX           256
#define KERNEL_PANEL_ALIGN_BYTES     64

struct kernel_ops;
struct kernel_backend;

/* What every backend's stream begins with: a queue of calls and the table that serves it. */
struct kernel_stream {
    const struct kernel_backend *backend;
    const struct kernel_ops *ops;
    char description[96]; /* "cpu: avx2, 2 threads" */
};

struct kernel_stream_options {
    uint32_t threads; /* 0: one per processor this process may run on; at most KERNEL_THREADS_MAX */
    const char *isa; /* instruction set: "auto" or NULL for the widest, "avx512", "avx2", "plain" */
};

/* Weights [N, K] in the layout of one backend and instruction set (ops->matrix_layout names it). */
struct kernel_matrix {
    void *panels; /* ops->matrix_bytes() bytes, aligned to KERNEL_PANEL_ALIGN_BYTES */
    enum kernel_dtype dtype;
    int32_t N, K;
};

/* A plain table [V, D], row-major, as it stands in a file: any alignment. */
struct kernel_table {
    const void *rows;
    enum kernel_dtype dtype;
    int32_t V, D;
};

/* Cosines and sines of the angles position * frequency[i], times what scaled variants ask for: [P, 2, D / 2], a row of cosines, a row of sines. */
struct kernel_rope {
    const float *cos_sin;
    int32_t P,
        D; /* D: dimensions of a head that turn, even; a wider head keeps the rest as it is */
};

/*
 * The pool of key/value blocks. A block holds block_tokens positions of every layer and is contiguous:
 *
 *      [layer][kv head][K|V][token][dim] of dtype
 *
 * Slabs of slab_bytes each hold blocks_per_slab whole blocks from their start; a slab's last bytes may be unused.
 */
struct kernel_kv {
    unsigned char *base;
    uint64_t slab_bytes;
    uint32_t blocks_per_slab;
    uint32_t block_count;
    enum kernel_dtype dtype; /* KERNEL_F32 or KERNEL_BF16 */
    int32_t layers;
    int32_t G, B, D; /* key/value heads, tokens of a block, width of a head */
};

static inline size_t kernel_kv_row_bytes(const struct kernel_kv *kv)
{
    return (size_t)kv->D * kernel_dtype_bytes(kv->dtype);
}

static inline size_t kernel_kv_layer_bytes(const struct kernel_kv *kv)
{
    return 2 * (size_t)kv->G * (size_t)kv->B * kernel_kv_row_bytes(kv);
}

static inline size_t kernel_kv_block_bytes(const struct kernel_kv *kv)
{
    return (size_t)kv->layers * kernel_kv_layer_bytes(kv);
}

static inline unsigned char *kernel_kv_block(const struct kernel_kv *kv, uint32_t block)
{
    return kv->base + (size_t)(block / kv->blocks_per_slab) * kv->slab_bytes +
           (size_t)(block % kv->blocks_per_slab) * kernel_kv_block_bytes(kv);
}

/* First key row [B, D] of one layer and head in a block; the value rows follow at once. */
static inline unsigned char *kernel_kv_keys(const struct kernel_kv *kv, uint32_t block,
                                            int32_t layer, int32_t head)
{
    return kernel_kv_block(kv, block) + (size_t)layer * kernel_kv_layer_bytes(kv) +
           2 * (size_t)head * (size_t)kv->B * kernel_kv_row_bytes(kv);
}

static inline unsigned char *kernel_kv_values(const struct kernel_kv *kv, uint32_t block,
                                              int32_t layer, int32_t head)
{
    return kernel_kv_keys(kv, block, layer, head) + (size_t)kv->B * kernel_kv_row_bytes(kv);
}

/* The rows of one sequence in this step: row row_first + i is the token at position position_first + i. */
struct kernel_sequence {
    const uint32_t *blocks; /* position p is row p % B of block blocks[p / B] */
    int32_t row_first, row_count;
    int32_t position_first;
};

struct kernel_attention {
    float scale;    /* of the scores; 1 / sqrt(D) in most models */
    int32_t window; /* a token sees itself and window - 1 tokens before it; 0: all before it */
};

enum kernel_linear_mode {
    KERNEL_LINEAR_STORE, /* out = x w^T (+ bias) */
    KERNEL_LINEAR_ADD    /* out = out + (x w^T (+ bias)): the residual */
};

/* Every member is present in the backends of this folder; a table with a NULL member lacks that op, and
 * whoever builds a plan names the op and refuses. */
struct kernel_ops {
    /* Names the packed layout ("rows", "panel16", ...): packed bytes are for tables of the same name only. */
    const char *matrix_layout;

    /* Bytes of panels for a matrix [N, K], a multiple of KERNEL_PANEL_ALIGN_BYTES.
     *   dtype  KERNEL_F32, KERNEL_BF16 or KERNEL_F16 */
    size_t (*matrix_bytes)(enum kernel_dtype dtype, int32_t N, int32_t K);

    /* Pack rows [row_first, row_first + row_count) of `matrix` from `source`, so that several tensors make one
     * matrix (Q|K|V, gate|up). Whoever packs the last row also fills what the layout adds beyond it.
     *   source   [row_count, K] of source_dtype, row-major, any alignment
     *   numerics exact when the dtypes are equal or the matrix is f32; else rounded to nearest, ties to even
     *   cost     source and panels once */
    void (*matrix_pack)(struct kernel_stream *stream, struct kernel_matrix *matrix,
                        const void *source, enum kernel_dtype source_dtype, int32_t row_first,
                        int32_t row_count);

    /* out[t, n] = sum over k of x[t, k] * w[n, k], plus bias[n]; added to out[t, n] in mode ADD.
     *   out      [T, N] f32        x  [T, K] f32        bias  [N] f32 or NULL        T >= 0
     *   numerics one f32 accumulator per output, k ascending, bias after the sum, out after the bias; within
     *            (K + 2) * 2^-24 of the reference, which sums in f64
     *   cost     T small: memory bound, the panels once; T large: 2 * T * N * K flop */
    void (*linear)(struct kernel_stream *stream, float *out, const float *x,
                   const struct kernel_matrix *w, const float *bias, int32_t T,
                   enum kernel_linear_mode mode);

    /* out[t, :] = table[ids[t], :]
     *   out      [T, D] f32        ids  [T] in 0..V-1
     *   numerics exact (widening only)        cost  T * D * (4 + dtype) bytes */
    void (*embed)(struct kernel_stream *stream, float *out, const int32_t *ids,
                  const struct kernel_table *table, int32_t T);

    /* out[t, :] = w[ids[t], :] from a packed matrix, so that tied embeddings are kept once.
     *   out      [T, K] f32        ids  [T] in 0..N-1
     *   numerics exact        cost  one cache line per element: for embeddings, not for weights */
    void (*embed_matrix)(struct kernel_stream *stream, float *out, const int32_t *ids,
                         const struct kernel_matrix *w, int32_t T);

    /* out[t, d] = x[t, d] * gain[d] / sqrt(mean over d of x[t, d]^2 + eps)
     *   out      [T, D] f32, may be x itself        x  [T, D] f32        gain  [D] f32
     *   numerics sum of squares in f32, order fixed by D; each element within 4e-6 relative of the reference
     *   cost     memory bound: 8 * T * D + 4 * D bytes        source  Zhang & Sennrich 2019, arXiv:1910.07467 */
    void (*rmsnorm)(struct kernel_stream *stream, float *out, const float *x, const float *gain,
                    int32_t T, int32_t D, float eps);

    /* Normalise every head by itself, in place: rmsnorm() of each x[t, h, :] with one gain for all heads
     *   x        [T, H, D] f32 in rows of `stride` floats        gain  [D] f32
     *   numerics to the bit what rmsnorm() makes of T * H rows of D
     *   cost     memory bound: 8 * T * H * D bytes
     *   source   Dehghani et al. 2023, arXiv:2302.05442 (norms of queries and keys); Qwen3, arXiv:2505.09388 */
    void (*rmsnorm_heads)(struct kernel_stream *stream, float *x, int32_t stride, const float *gain,
                          int32_t T, int32_t H, int32_t D, float eps);

    /* Turn pairs (i, i + R / 2) of every head by the angle of the row's position; R = rope->D:
     *   x'[i] = x[i] cos - x[i + R/2] sin        x'[i + R/2] = x[i + R/2] cos + x[i] sin
     *   x          [T, H, D] f32 in rows of `stride` floats, in place; R <= D
     *   positions  [T] in 0..P-1
     *   numerics   two products and one sum in f32, within 2^-22 of the reference
     *   cost       memory bound: 8 * T * H * D bytes
     *   source     Su et al. 2021, arXiv:2104.09864, in the half-split order of Llama checkpoints */
    void (*rope)(struct kernel_stream *stream, float *x, int32_t stride, const int32_t *positions,
                 const struct kernel_rope *rope, int32_t T, int32_t H, int32_t D);

    /* Write the keys and values of the step's rows to their places in the blocks.
     *   k, v     [T, G, D] f32 in rows of `stride` floats, keys already turned
     *   numerics f32: exact; bf16: to nearest, ties to even
     *   cost     memory bound: T * G * D * 2 * (4 + dtype) bytes */
    void (*kv_append)(struct kernel_stream *stream, const struct kernel_kv *kv, int32_t layer,
                      const float *k, const float *v, int32_t stride,
                      const struct kernel_sequence *sequences, int32_t S);

    /* Copy the first token_count rows of every layer and head from one block to another: the tail of a fork.
     *   numerics exact        cost  4 * layers * G * D * token_count * dtype bytes */
    void (*kv_copy)(struct kernel_stream *stream, const struct kernel_kv *kv, uint32_t to_block,
                    uint32_t from_block, int32_t token_count);

    /* Softmax attention of every row over the keys of its own sequence at positions max(0, p - window + 1)..p:
     *   out[t, h, :] = sum over j of softmax_j(scale * q[t, h, :] . key[j, g, :]) * value[j, g, :],  g = h / (H / G)
     *   out      [T, H, D] f32, contiguous        q  [T, H, D] f32 in rows of `stride` floats, turned
     *   H        a multiple of kv->G;  kv->D <= KERNEL_HEAD_DIM_MAX, even
     *   rows     the step's own keys and values have been appended before
     *   numerics a span is KERNEL_ATTENTION_SPAN_TOKENS positions beginning at a multiple of it; each span gives
     *            (max, sum, weighted values) from its own keys alone, and spans are merged in ascending order;
     *            within 2e-5 * max |value| of the reference, which is plain softmax in f64
     *   cost     decode: memory bound, positions * G * D * 2 * dtype bytes per sequence
     *   source   Milakov & Gimelshein 2018, arXiv:1805.02867; Kwon et al. 2023, arXiv:2309.06180 */
    void (*attention)(struct kernel_stream *stream, float *out, const float *q, int32_t stride,
                      const struct kernel_kv *kv, int32_t layer,
                      const struct kernel_sequence *sequences, int32_t S, int32_t H,
                      const struct kernel_attention *attention);

    /* out[t, f] = silu(x[t, f]) * x[t, F + f],  silu(a) = a / (1 + exp(-a))
     *   out      [T, F] f32        x  [T, 2 F] f32: gate, then up
     *   numerics each element within 1e-6 relative of the reference, plus 1e-36 * |up|
     *   cost     memory bound: 12 * T * F bytes        source  Shazeer 2020, arXiv:2002.05202 */
    void (*silu_mul)(struct kernel_stream *stream, float *out, const float *x, int32_t T,
                     int32_t F);

    /* out[t, d] = out[t, d] + x[t, d]
     *   out, x   [T, D] f32        numerics  one f32 sum: exact to the bit        cost  12 * T * D bytes */
    void (*add)(struct kernel_stream *stream, float *out, const float *x, int32_t T, int32_t D);

    /* out[i, :] = x[rows[i], :], the rows whose logits are wanted
     *   out      [count, D] f32        x  [T, D] f32        rows  [count] in 0..T-1
     *   numerics exact        cost  8 * count * D bytes */
    void (*gather_rows)(struct kernel_stream *stream, float *out, const float *x,
                        const int32_t *rows, int32_t count, int32_t D);
};

struct kernel_backend {
    const char *name;    /* "cpu", "reference" */
    const char *summary; /* one line for people */

    /* Make a stream; *out_stream is untouched on failure.
     *   returns  LLM_OK
     *            LLM_ERR_INVALID      threads or isa is not a known value; the sentence lists what is
     *            LLM_ERR_UNSUPPORTED  this processor lacks the instruction set that was asked for
     *            LLM_ERR_MEMORY, LLM_ERR_SYSTEM  no memory, or no thread could be started */
    enum llm_status (*stream_open)(const struct kernel_stream_options *options,
                                   struct kernel_stream **out_stream, struct llm_error *error);
    void (*stream_close)(struct kernel_stream *stream); /* NULL is accepted */
    /* Block until every call so far is done; the first failure of the stream stays until it is closed. */
    enum llm_status (*stream_wait)(struct kernel_stream *stream, struct llm_error *error);
};

/* The backend of that name, or NULL; kernel_backend_at(0), (1), ... lists them until NULL. */
const struct kernel_backend *kernel_backend_find(const char *name);
const struct kernel_backend *kernel_backend_at(size_t index);

/*
 * Open a stream of the named backend ("cpu" when name is NULL): the usual way in.
 *
 *   returns  as stream_open(); LLM_ERR_NOT_FOUND when there is no such backend, the sentence lists them
 */
LLM_MUST_CHECK enum llm_status kernel_stream_open(const char *name,
                                                  const struct kernel_stream_options *options,
                                                  struct kernel_stream **out_stream,
                                                  struct llm_error *error);
void kernel_stream_close(struct kernel_stream *stream); /* NULL is accepted */
LLM_MUST_CHECK enum llm_status kernel_stream_wait(struct kernel_stream *stream,
                                                  struct llm_error *error);

/* frequencies[i] = theta^(-2 i / D), i in 0..D/2-1; scaled variants change them before the table is made. */
void kernel_rope_frequencies(double *frequencies, int32_t D, double theta);

/* cos_sin [P, 2, D / 2] from the frequencies: angles, sines and cosines in f64, times `scale` (1 in most
 * models), rounded once to f32. */
void kernel_rope_fill(float *cos_sin, const double *frequencies, double scale, int32_t P,
                      int32_t D);

#endif
