/*
 * isa.h - the inner loops of the cpu backend, once per instruction set.
 *
 * Idea     The loops are written once, over a small vector type: linear_body.h, rows_body.h, attention_body.h.
 *          isa_plain.c, isa_avx2.c and isa_avx512.c each include a vec_*.h that defines the type and then the
 *          bodies, compiled with that instruction set's flags, and fill one struct cpu_isa. cpu.c picks the
 *          widest the processor has; linear.c, rows.c and attention.c share the work out and call the loops.
 * Order    What decides a result's bits (order of sums, polynomial of exp, spans of attention) is in the bodies
 *          and never depends on how rows, outputs or heads were shared out. Lane counts differ between sets, so
 *          their results may differ in the last bits.
 * See      docs/NUMERICS.md, kernels/README.md ("To add an instruction set").
 */
#ifndef LLM_KERNELS_CPU_ISA_H
#define LLM_KERNELS_CPU_ISA_H

#include "kernels/kernels.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Full unrolling keeps acc[][] in registers; both compilers read their own spelling. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* A rectangle of a linear op: rows [row_first, row_end) by panels [panel_first, panel_end). */
struct linear_part {
    float *out;
    const float *x;
    const struct kernel_matrix *w;
    const float *bias;
    enum kernel_linear_mode mode;
    int32_t row_first, row_end;
    int32_t panel_first, panel_end;
};

/* Up to this many queries of one key/value head are carried through the keys together. */
#define ATTENTION_QUERIES_MAX 32

/* One query row of one head. Its keys are positions [first, end). */
struct attention_query {
    const float *q;
    float *out;
    int32_t first, end;
};

struct attention_part {
    const struct kernel_kv *kv;
    const uint32_t *blocks;
    int32_t layer, head; /* key/value head */
    float scale;
    int32_t query_count;
    struct attention_query queries[ATTENTION_QUERIES_MAX];
};

/* One thread's workspace. Arrays of heads are packed, D rounded up to whole vectors apart: rows a power of two
 * apart would fall on the same few sets of the cache. */
struct attention_scratch {
    _Alignas(64) float queries[ATTENTION_QUERIES_MAX * KERNEL_HEAD_DIM_MAX];  /* zeros beyond D */
    _Alignas(64) float span_sum[ATTENTION_QUERIES_MAX * KERNEL_HEAD_DIM_MAX]; /* of this span */
    _Alignas(64) float sum[ATTENTION_QUERIES_MAX * KERNEL_HEAD_DIM_MAX];      /* of all so far */
    _Alignas(64) float scores[ATTENTION_QUERIES_MAX][KERNEL_ATTENTION_SPAN_TOKENS];
    float largest[ATTENTION_QUERIES_MAX], total[ATTENTION_QUERIES_MAX];
    _Alignas(64) float keys[KERNEL_ATTENTION_SPAN_TOKENS * KERNEL_HEAD_DIM_MAX]; /* widened */
    _Alignas(64) float values[KERNEL_ATTENTION_SPAN_TOKENS * KERNEL_HEAD_DIM_MAX];
    float zeros[KERNEL_HEAD_DIM_MAX]; /* stands in for rows that must not be read */
    const float *key_rows[KERNEL_ATTENTION_SPAN_TOKENS];
    const float *value_rows[KERNEL_ATTENTION_SPAN_TOKENS];
};

struct cpu_isa {
    const char *name;   /* "avx2" */
    const char *layout; /* of packed matrices: "panel16" */
    int32_t lanes;      /* f32 in a vector; a panel is two vectors of outputs wide */

    size_t (*matrix_bytes)(enum kernel_dtype dtype, int32_t N, int32_t K);
    void (*linear)(const struct linear_part *part);
    /* one row */
    void (*rmsnorm)(float *out, const float *x, const float *gain, int32_t D, float eps);
    void (*rope)(float *x, const float *cosines, const float *sines, int32_t half);
    void (*silu_mul)(float *out, const float *gate, const float *up, int32_t count);
    void (*add)(float *out, const float *x, int32_t count);
    void (*attention)(const struct attention_part *part, struct attention_scratch *scratch);
};

extern const struct cpu_isa cpu_isa_plain;
#if defined(__x86_64__)
extern const struct cpu_isa cpu_isa_avx2;
extern const struct cpu_isa cpu_isa_avx512;
#endif

/*
 * Packed layout. Panel i holds outputs [i * W, (i + 1) * W), W = 2 * lanes, k-major: [K][W] elements, zeros
 * for outputs beyond N. In bf16 outputs i and i + lanes are the low and high half of one 32-bit word, so that a
 * shift and a mask widen a whole panel row; the other formats keep their order.
 */
static inline int32_t panel_count(int32_t N, int32_t lanes)
{
    return (N + 2 * lanes - 1) / (2 * lanes);
}

static inline size_t panel_bytes(enum kernel_dtype dtype, int32_t K, int32_t lanes)
{
    return 2 * (size_t)lanes * (size_t)K * kernel_dtype_bytes(dtype);
}

/* Where output `column` of a panel stands in its row of W elements. */
static inline int32_t panel_slot(enum kernel_dtype dtype, int32_t lanes, int32_t column)
{
    if (dtype != KERNEL_BF16)
        return column;
    return column < lanes ? 2 * column : 2 * (column - lanes) + 1;
}

#endif
