/*
 * attention_body.h - some queries of one key/value head over their keys, for the vector type of the including
 * file.
 *
 * Idea     Keys come in spans of KERNEL_ATTENTION_SPAN_TOKENS absolute positions. For each span: point at its
 *          rows (bf16 ones are widened into the scratch first); scores of all queries; then per query the span's
 *          own softmax (largest, total) and weighted values; then these three are merged into the query's
 *          running ones. A query takes part in exactly the spans it sees, in ascending order.
 * Order    A score is a lane-wise sum over the head's dimensions, then the lane tree of vec_sum. A total is the
 *          lane-wise sum over the 64 places of a span, places not seen holding 0. A value's sum has one
 *          accumulator per dimension, keys ascending. None depends on which queries travel together.
 * Trust    Places outside [first, end) of all queries point at zeros. A place that only some queries see is
 *          masked in the scores of the others and skipped in their sums: 0 * NaN never happens.
 * Source   Milakov & Gimelshein 2018, arXiv:1805.02867 (merging); Dao et al. 2022, arXiv:2205.14135 (tiling).
 */
#ifndef LLM_KERNELS_CPU_ATTENTION_BODY_H
#define LLM_KERNELS_CPU_ATTENTION_BODY_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec_exp.h"

#include <math.h>

#define SPAN KERNEL_ATTENTION_SPAN_TOKENS

/* Keys [begin, end) of one span as places 0..63; first is position 64 * span. */
struct span {
    int32_t begin, end;
};

static struct span span_of_query(const struct attention_query *query, int32_t first)
{
    struct span seen = {query->first > first ? query->first - first : 0,
                        query->end - first < SPAN ? query->end - first : SPAN};
    return seen;
}

/* The rows any query of the part sees in the span. */
static struct span span_of_part(const struct attention_part *part, int32_t first)
{
    struct span all = {SPAN, 0};
    for (int32_t i = 0; i < part->query_count; i++) {
        struct span one = span_of_query(&part->queries[i], first);
        all.begin = one.begin < one.end && one.begin < all.begin ? one.begin : all.begin;
        all.end = one.end > all.end ? one.end : all.end;
    }
    return all;
}

static const float *widen_row(float *to, const unsigned char *from, int32_t D)
{
    int32_t d = 0;
    for (; d + VEC_LANES <= D; d += VEC_LANES)
        vec_store(to + d, vec_load_bf16((const uint16_t *)(const void *)from + d));
    for (; d < D; d++)
        to[d] = kernel_load(from, KERNEL_BF16, (size_t)d);
    return to;
}

/* Places [j, j + count) of a span lie in one block, from these rows on. */
static void point_into_block(const struct kernel_kv *kv, struct attention_scratch *scratch,
                             int32_t j, int32_t count, const unsigned char *key)
{
    size_t row_bytes = kernel_kv_row_bytes(kv);
    const unsigned char *value = key + (size_t)kv->B * row_bytes;
    for (int32_t end = j + count; j < end; j++, key += row_bytes, value += row_bytes) {
        if (kv->dtype == KERNEL_F32) {
            scratch->key_rows[j] = (const float *)(const void *)key;
            scratch->value_rows[j] = (const float *)(const void *)value;
        } else {
            size_t to = (size_t)j * (size_t)kv->D;
            scratch->key_rows[j] = widen_row(scratch->keys + to, key, kv->D);
            scratch->value_rows[j] = widen_row(scratch->values + to, value, kv->D);
        }
    }
}

static void point_at_rows(const struct attention_part *part, struct attention_scratch *scratch,
                          int32_t first, struct span seen)
{
    const struct kernel_kv *kv = part->kv;
    for (int32_t j = 0; j < SPAN; j++)
        if (j < seen.begin || j >= seen.end)
            scratch->key_rows[j] = scratch->value_rows[j] = scratch->zeros;
    for (int32_t j = seen.begin; j < seen.end;) {
        uint32_t block = part->blocks[(first + j) / kv->B];
        int32_t token = (first + j) % kv->B;
        int32_t count = kv->B - token < seen.end - j ? kv->B - token : seen.end - j;
        const unsigned char *keys = kernel_kv_keys(kv, block, part->layer, part->head);
        point_into_block(kv, scratch, j, count, keys + (size_t)token * kernel_kv_row_bytes(kv));
        j += count;
    }
}

/* Floats from one head to the next in the scratch. */
static int32_t head_stride(int32_t D)
{
    return (D + VEC_LANES - 1) / VEC_LANES * VEC_LANES;
}

/* Q queries by 8 / Q keys: eight accumulators, whose lanes are summed together at the end. */
ALWAYS_INLINE void scores_tile(const float *queries, const float *const *keys, int32_t D,
                               float sums[8], int Q)
{
    const int C = 8 / Q;
    const int32_t stride = head_stride(D);
    vec acc[8];
    UNROLL
    for (int i = 0; i < 8; i++)
        acc[i] = vec_set(0);
    int32_t d = 0;
    for (; d + VEC_LANES <= D; d += VEC_LANES) {
        UNROLL
        for (int c = 0; c < C; c++) {
            vec key = vec_load(keys[c] + d);
            UNROLL
            for (int q = 0; q < Q; q++)
                acc[q * C + c] = vec_fma(vec_load(queries + q * stride + d), key, acc[q * C + c]);
        }
    }
    if (d < D)
        for (int c = 0; c < C; c++) {
            vec key = vec_load_part(keys[c] + d, D - d);
            for (int q = 0; q < Q; q++)
                acc[q * C + c] = vec_fma(vec_load(queries + q * stride + d), key, acc[q * C + c]);
        }
    vec_sum8(sums, acc);
}

/* Values are read a stripe at a time, which no hardware sees coming: ask for whole rows while their keys are in hand. */
static inline void values_ask(const float *const *values, int32_t D, int count)
{
    for (int c = 0; c < count; c++)
        for (int32_t d = 0; d < D; d += 16)
            __builtin_prefetch(values[c] + d);
}

/* Unscaled scores of Q queries beginning at `from`, whole tiles of keys around [begin, end). */
ALWAYS_INLINE void scores_queries(const struct attention_part *part,
                                  struct attention_scratch *scratch, int32_t from, struct span seen,
                                  int Q)
{
    const int C = 8 / Q;
    const int32_t D = part->kv->D;
    for (int32_t j = seen.begin / C * C; j < seen.end; j += C) {
        float sums[8];
        if (from == 0)
            values_ask(scratch->value_rows + j, D, C);
        scores_tile(scratch->queries + from * head_stride(D), scratch->key_rows + j, D, sums, Q);
        UNROLL
        for (int q = 0; q < Q; q++)
            memcpy(&scratch->scores[from + q][j], sums + q * C, (size_t)C * sizeof *sums);
    }
}

static void scores_of_span(const struct attention_part *part, struct attention_scratch *scratch,
                           struct span seen)
{
    int32_t i = 0;
    for (; i + 4 <= part->query_count; i += 4)
        scores_queries(part, scratch, i, seen, 4);
    for (; i + 2 <= part->query_count; i += 2)
        scores_queries(part, scratch, i, seen, 2);
    if (i < part->query_count)
        scores_queries(part, scratch, i, seen, 1);
}

/* Turn one query's dot products into weights exp(score - largest); places it does not see become 0. */
static void weights_of_span(float scores[SPAN], struct span seen, float scale, float *largest,
                            float *total)
{
    for (int32_t j = 0; j < seen.begin; j++)
        scores[j] = -INFINITY;
    for (int32_t j = seen.end; j < SPAN; j++)
        scores[j] = -INFINITY;
    vec top = vec_set(-INFINITY), factor = vec_set(scale);
    for (int32_t j = 0; j < SPAN; j += VEC_LANES) {
        vec score = vec_mul(vec_load(scores + j), factor);
        vec_store(scores + j, score);
        top = vec_max(top, score);
    }
    *largest = vec_largest(top);
    vec sum = vec_set(0), shift = vec_set(*largest);
    for (int32_t j = 0; j < SPAN; j += VEC_LANES) {
        vec weight = vec_exp(vec_sub(vec_load(scores + j), shift));
        vec_store(scores + j, weight);
        sum = vec_add(sum, weight);
    }
    *total = vec_sum(sum);
}

/* Weighted values of Q queries that see the same keys, V vectors of dimensions from d on. */
ALWAYS_INLINE void values_tile(struct attention_scratch *scratch, int32_t from, struct span seen,
                               int32_t d, int32_t stride, int Q, int V)
{
    vec acc[4][8]; /* Q * V of them are used, at most 8 */
    UNROLL
    for (int q = 0; q < Q; q++)
        UNROLL
    for (int v = 0; v < V; v++)
        acc[q][v] = vec_set(0);
    for (int32_t j = seen.begin; j < seen.end; j++) {
        vec value[8];
        UNROLL
        for (int v = 0; v < V; v++)
            value[v] = vec_load(scratch->value_rows[j] + d + v * VEC_LANES);
        UNROLL
        for (int q = 0; q < Q; q++) {
            vec weight = vec_set(scratch->scores[from + q][j]);
            UNROLL
            for (int v = 0; v < V; v++)
                acc[q][v] = vec_fma(weight, value[v], acc[q][v]);
        }
    }
    UNROLL
    for (int q = 0; q < Q; q++)
        UNROLL
    for (int v = 0; v < V; v++)
        vec_store(&scratch->span_sum[(from + q) * stride + d + v * VEC_LANES], acc[q][v]);
}

/* The dimensions that do not fill a vector. */
static void values_rest(struct attention_scratch *scratch, int32_t from, struct span seen,
                        int32_t d, int32_t D, int Q)
{
    for (int q = 0; q < Q; q++) {
        vec acc = vec_set(0);
        for (int32_t j = seen.begin; j < seen.end; j++)
            acc = vec_fma(vec_set(scratch->scores[from + q][j]),
                          vec_load_part(scratch->value_rows[j] + d, D - d), acc);
        vec_store(&scratch->span_sum[(from + q) * head_stride(D) + d], acc);
    }
}

ALWAYS_INLINE void values_queries(struct attention_scratch *scratch, int32_t from, struct span seen,
                                  int32_t D, int Q)
{
    int32_t d = 0, stride = head_stride(D);
    if (Q == 1) {
        for (; d + 8 * VEC_LANES <= D; d += 8 * VEC_LANES)
            values_tile(scratch, from, seen, d, stride, Q, 8);
        for (; d + 4 * VEC_LANES <= D; d += 4 * VEC_LANES)
            values_tile(scratch, from, seen, d, stride, Q, 4);
    }
    for (; d + 2 * VEC_LANES <= D; d += 2 * VEC_LANES)
        values_tile(scratch, from, seen, d, stride, Q, 2);
    for (; d + VEC_LANES <= D; d += VEC_LANES)
        values_tile(scratch, from, seen, d, stride, Q, 1);
    if (d < D)
        values_rest(scratch, from, seen, d, D, Q);
}

static bool span_equal(struct span a, struct span b)
{
    return a.begin == b.begin && a.end == b.end;
}

/* Four queries go together where they see the same keys; their order of sums is the same as alone. */
static void values_of_span(const struct attention_part *part, struct attention_scratch *scratch,
                           int32_t first)
{
    const struct attention_query *queries = part->queries;
    for (int32_t i = 0; i < part->query_count;) {
        struct span seen = span_of_query(&queries[i], first);
        bool four = i + 4 <= part->query_count;
        for (int32_t q = 1; four && q < 4; q++)
            four = span_equal(seen, span_of_query(&queries[i + q], first));
        if (four)
            values_queries(scratch, i, seen, part->kv->D, 4);
        else
            values_queries(scratch, i, seen, part->kv->D, 1);
        i += four ? 4 : 1;
    }
}

/* Rescale both sides to the larger maximum and add. */
static void merge_span(struct attention_scratch *scratch, int32_t i, int32_t D, float largest,
                       float total)
{
    float both[VEC_LANES] = {scratch->largest[i], largest}, factor[VEC_LANES];
    float top = both[0] > largest ? both[0] : largest;
    vec_store(factor, vec_exp(vec_sub(vec_load(both), vec_set(top))));
    scratch->largest[i] = top;
    scratch->total[i] = scratch->total[i] * factor[0] + total * factor[1];
    vec old = vec_set(factor[0]), new = vec_set(factor[1]);
    int32_t stride = head_stride(D);
    for (int32_t d = i * stride; d < (i + 1) * stride; d += VEC_LANES) {
        vec sum = vec_mul(vec_load(scratch->sum + d), old);
        vec_store(scratch->sum + d, vec_fma(vec_load(scratch->span_sum + d), new, sum));
    }
}

static void span_run(const struct attention_part *part, struct attention_scratch *scratch,
                     int32_t first)
{
    struct span all = span_of_part(part, first);
    if (all.begin >= all.end)
        return;
    point_at_rows(part, scratch, first, all);
    scores_of_span(part, scratch, all);
    float largest[ATTENTION_QUERIES_MAX], total[ATTENTION_QUERIES_MAX];
    for (int32_t i = 0; i < part->query_count; i++) {
        struct span seen = span_of_query(&part->queries[i], first);
        if (seen.begin < seen.end)
            weights_of_span(scratch->scores[i], seen, part->scale, &largest[i], &total[i]);
    }
    values_of_span(part, scratch, first);
    for (int32_t i = 0; i < part->query_count; i++) {
        struct span seen = span_of_query(&part->queries[i], first);
        if (seen.begin < seen.end)
            merge_span(scratch, i, part->kv->D, largest[i], total[i]);
    }
}

/* Queries into the scratch, their running sums at nothing. */
static void queries_begin(const struct attention_part *part, struct attention_scratch *scratch)
{
    int32_t D = part->kv->D, stride = head_stride(D);
    memset(scratch->sum, 0, (size_t)(part->query_count * stride) * sizeof *scratch->sum);
    for (int32_t i = 0; i < part->query_count; i++) {
        float *to = scratch->queries + i * stride;
        memset(to + stride - VEC_LANES, 0, VEC_LANES * sizeof *to);
        memcpy(to, part->queries[i].q, (size_t)D * sizeof *to);
        scratch->largest[i] = -INFINITY;
        scratch->total[i] = 0;
    }
}

static void queries_end(const struct attention_part *part, const struct attention_scratch *scratch)
{
    int32_t D = part->kv->D, stride = head_stride(D);
    for (int32_t i = 0; i < part->query_count; i++)
        for (int32_t d = 0; d < D; d++)
            part->queries[i].out[d] = scratch->sum[i * stride + d] / scratch->total[i];
}

static void attention_loops(const struct attention_part *part, struct attention_scratch *scratch)
{
    int32_t begin = INT32_MAX, end = 0;
    for (int32_t i = 0; i < part->query_count; i++) {
        const struct attention_query *query = &part->queries[i];
        begin = query->first < begin ? query->first : begin;
        end = query->end > end ? query->end : end;
    }
    queries_begin(part, scratch);
    for (int32_t first = begin / SPAN * SPAN; first < end; first += SPAN)
        span_run(part, scratch, first);
    queries_end(part, scratch);
}

#endif
