/*
 * cpu.h - the served CPU backend: a thread pool, packed panels, and the widest instruction set there is.
 *
 * Idea     An op cuts its work into one fixed share per thread, and each share runs the loops of the stream's
 *          instruction set (isa.h). Calls have finished when they return; small ones never leave the caller.
 * Owner    The stream owns the threads and one scratch per thread, all taken when it is opened.
 * See      kernels/README.md, isa.h, pool.h.
 */
#ifndef LLM_KERNELS_CPU_CPU_H
#define LLM_KERNELS_CPU_CPU_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/pool.h"
#include "kernels/kernels.h"

struct cpu_stream {
    struct kernel_stream stream; /* first: a kernel_stream of this backend is a cpu_stream */
    struct kernel_ops ops;
    const struct cpu_isa *isa;
    struct attention_scratch *scratch; /* [pool.thread_count] */
    struct cpu_pool pool;
};

extern const struct kernel_backend kernel_backend_cpu;

static inline struct cpu_stream *cpu_stream_of(struct kernel_stream *stream)
{
    return (struct cpu_stream *)stream;
}

/* Run a job on all threads, or on the caller alone when `work` (additions, or elements moved) is so small that
 * telling the others would take longer. */
void cpu_stream_run(struct cpu_stream *stream, cpu_pool_job job, void *argument, double work);

/* Share `index` of `count` equal shares of 0..total, cut at multiples of `step`. */
struct cpu_share {
    int32_t first, end;
};
struct cpu_share cpu_share_of(int32_t total, int32_t step, uint32_t index, uint32_t count);

/* matrix.c */
void matrix_pack_cpu(struct kernel_stream *stream, struct kernel_matrix *matrix, const void *source,
                     enum kernel_dtype source_dtype, int32_t row_first, int32_t row_count);
void linear_cpu(struct kernel_stream *stream, float *out, const float *x,
                const struct kernel_matrix *w, const float *bias, int32_t T,
                enum kernel_linear_mode mode);
void embed_matrix_cpu(struct kernel_stream *stream, float *out, const int32_t *ids,
                      const struct kernel_matrix *w, int32_t T);

/* rows.c */
void rmsnorm_cpu(struct kernel_stream *stream, float *out, const float *x, const float *gain,
                 int32_t T, int32_t D, float eps);
void rmsnorm_heads_cpu(struct kernel_stream *stream, float *x, int32_t stride, const float *gain,
                       int32_t T, int32_t H, int32_t D, float eps);
void rope_cpu(struct kernel_stream *stream, float *x, int32_t stride, const int32_t *positions,
              const struct kernel_rope *rope, int32_t T, int32_t H, int32_t D);
void silu_mul_cpu(struct kernel_stream *stream, float *out, const float *x, int32_t T, int32_t F);
void add_cpu(struct kernel_stream *stream, float *out, const float *x, int32_t T, int32_t D);

/* attention.c */
void attention_cpu(struct kernel_stream *stream, float *out, const float *q, int32_t stride,
                   const struct kernel_kv *kv, int32_t layer,
                   const struct kernel_sequence *sequences, int32_t S, int32_t H,
                   const struct kernel_attention *attention);

#endif
