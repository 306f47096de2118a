/*
 * reference.h - the readable backend: every op as its formula, the yardstick of the fast ones.
 *
 * Idea     Sums and functions in f64, rounded to f32 where the op's result is; loops in the order of the
 *          formula; compiled without fused multiply-add. Matrices stay row-major (layout "rows").
 * Threads  One; the stream carries nothing.
 * See      kernels/kernels.h for each op's contract, docs/NUMERICS.md.
 */
#ifndef LLM_KERNELS_REFERENCE_REFERENCE_H
#define LLM_KERNELS_REFERENCE_REFERENCE_H

#include "kernels/kernels.h"

extern const struct kernel_backend kernel_backend_reference;

/* matrix.c */
size_t matrix_bytes_reference(enum kernel_dtype dtype, int32_t N, int32_t K);
void matrix_pack_reference(struct kernel_stream *stream, struct kernel_matrix *matrix,
                           const void *source, enum kernel_dtype source_dtype, int32_t row_first,
                           int32_t row_count);
void linear_reference(struct kernel_stream *stream, float *out, const float *x,
                      const struct kernel_matrix *w, const float *bias, int32_t T,
                      enum kernel_linear_mode mode);
void embed_reference(struct kernel_stream *stream, float *out, const int32_t *ids,
                     const struct kernel_table *table, int32_t T);
void embed_matrix_reference(struct kernel_stream *stream, float *out, const int32_t *ids,
                            const struct kernel_matrix *w, int32_t T);

/* rows.c */
void rmsnorm_reference(struct kernel_stream *stream, float *out, const float *x, const float *gain,
                       int32_t T, int32_t D, float eps);
void rmsnorm_heads_reference(struct kernel_stream *stream, float *x, int32_t stride,
                             const float *gain, int32_t T, int32_t H, int32_t D, float eps);
void rope_reference(struct kernel_stream *stream, float *x, int32_t stride,
                    const int32_t *positions, const struct kernel_rope *rope, int32_t T, int32_t H,
                    int32_t D);
void silu_mul_reference(struct kernel_stream *stream, float *out, const float *x, int32_t T,
                        int32_t F);
void add_reference(struct kernel_stream *stream, float *out, const float *x, int32_t T, int32_t D);
void gather_rows_reference(struct kernel_stream *stream, float *out, const float *x,
                           const int32_t *rows, int32_t count, int32_t D);

/* attention.c */
void kv_append_reference(struct kernel_stream *stream, const struct kernel_kv *kv, int32_t layer,
                         const float *k, const float *v, int32_t stride,
                         const struct kernel_sequence *sequences, int32_t S);
void kv_copy_reference(struct kernel_stream *stream, const struct kernel_kv *kv, uint32_t to_block,
                       uint32_t from_block, int32_t token_count);
void attention_reference(struct kernel_stream *stream, float *out, const float *q, int32_t stride,
                         const struct kernel_kv *kv, int32_t layer,
                         const struct kernel_sequence *sequences, int32_t S, int32_t H,
                         const struct kernel_attention *attention);

#endif
