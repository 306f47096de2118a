/*
 * batch.h - a step's sequences, row by row, as the kernels want to know them.
 *
 * Idea     struct kernel_sequence says which rows are whose; a device looks at one row at a time. The arrays of
 *          struct cuda_batch are written one after the other into a staging buffer, so that one transfer takes
 *          them to the device. Also here: the KV pool and weights as the kernels know them.
 * Owner    The caller owns staging buffer and device memory, both of cuda_batch_bytes().
 * Threads  Pure functions on the host.
 * See      kernels/cuda/cuda.h, tests/cuda/test_batch.c.
 */
#ifndef LLM_KERNELS_CUDA_BATCH_H
#define LLM_KERNELS_CUDA_BATCH_H

#include "kernels/cuda/cuda.h"
#include "kernels/kernels.h"

struct cuda_batch_shape {
    int32_t T, S;
    int32_t table_stride; /* entries of the longest block table */
    int32_t span_count;   /* of all rows */
};

/* Count what a step has. Sequences are in the order of their rows, without gaps.
 *   B       tokens of a KV block
 *   window  as in struct kernel_attention */
struct cuda_batch_shape cuda_batch_measure(const struct kernel_sequence *sequences, int32_t S,
                                           int32_t B, int32_t window);

size_t cuda_batch_bytes(const struct cuda_batch_shape *shape);

/* Write the arrays to `staging` and return the batch whose pointers are those of a copy at `device`.
 *   sequences, S, B, window  as they were measured
 *   staging                  [cuda_batch_bytes()], 4-byte aligned, host
 *   device                   where it will be copied to; only addresses are made of it */
struct cuda_batch cuda_batch_fill(const struct cuda_batch_shape *shape,
                                  const struct kernel_sequence *sequences, int32_t B,
                                  int32_t window, void *staging, const void *device);

/* The pool of `kv` where its bytes lie at `device_base` on the device. */
struct cuda_kv cuda_kv_of(const struct kernel_kv *kv, void *device_base);

/* Bytes of a row of weights: K elements, padded to CUDA_MATRIX_ALIGN_BYTES. */
uint64_t cuda_matrix_row_bytes(enum kernel_dtype dtype, int32_t K);

/* kernels.h matrix_pack, into host memory of N * cuda_matrix_row_bytes(): rows [row_first, row_first + row_count)
 * from `source` [row_count, K] of source_dtype; what pads a row is zero. */
void cuda_matrix_pack(void *host_rows, enum kernel_dtype dtype, int32_t N, int32_t K,
                      const void *source, enum kernel_dtype source_dtype, int32_t row_first,
                      int32_t row_count);

#endif
