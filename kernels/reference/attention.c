/*
 * attention.c - keys and values in paged blocks, and softmax over them in two plain passes.
 */
#include "kernels/reference/reference.h"

#include "shm/check.h"

#include <math.h>
#include <string.h>

static void row_store(const struct kernel_kv *kv, unsigned char *rows, int32_t token,
                      const float *from)
{
    for (size_t d = 0; d < (size_t)kv->D; d++)
        kernel_store(rows, kv->dtype, (size_t)token * (size_t)kv->D + d, from[d]);
}

void kv_append_reference(struct kernel_stream *stream, const struct kernel_kv *kv, int32_t layer,
                         const float *k, const float *v, int32_t stride,
                         const struct kernel_sequence *sequences, int32_t S)
{
    (void)stream;
    for (const struct kernel_sequence *s = sequences; s < sequences + S; s++) {
        for (int32_t i = 0; i < s->row_count; i++) {
            int32_t p = s->position_first + i;
            uint32_t block = s->blocks[p / kv->B];
            CHECK(block < kv->block_count);
            size_t row = (size_t)(s->row_first + i) * (size_t)stride;
            for (int32_t g = 0; g < kv->G; g++) {
                size_t at = row + (size_t)g * (size_t)kv->D;
                row_store(kv, kernel_kv_keys(kv, block, layer, g), p % kv->B, k + at);
                row_store(kv, kernel_kv_values(kv, block, layer, g), p % kv->B, v + at);
            }
        }
    }
}

void kv_copy_reference(struct kernel_stream *stream, const struct kernel_kv *kv, uint32_t to_block,
                       uint32_t from_block, int32_t token_count)
{
    (void)stream;
    CHECK(to_block < kv->block_count && from_block < kv->block_count && to_block != from_block);
    CHECK(token_count >= 0 && token_count <= kv->B);
    size_t bytes = (size_t)token_count * kernel_kv_row_bytes(kv);
    for (int32_t layer = 0; layer < kv->layers; layer++) {
        for (int32_t g = 0; g < kv->G; g++) {
            memcpy(kernel_kv_keys(kv, to_block, layer, g), kernel_kv_keys(kv, from_block, layer, g),
                   bytes);
            memcpy(kernel_kv_values(kv, to_block, layer, g),
                   kernel_kv_values(kv, from_block, layer, g), bytes);
        }
    }
}

/* One query row of one head: where its keys are and which of them it sees. */
struct view {
    const struct kernel_kv *kv;
    const uint32_t *blocks;
    int32_t layer, head;
    int32_t first, end; /* positions */
};

static double score(const struct view *view, const float *q, int32_t p)
{
    const struct kernel_kv *kv = view->kv;
    const unsigned char *keys =
        kernel_kv_keys(kv, view->blocks[p / kv->B], view->layer, view->head);
    size_t row = (size_t)(p % kv->B) * (size_t)kv->D;
    double sum = 0;
    for (size_t d = 0; d < (size_t)kv->D; d++)
        sum += (double)q[d] * (double)kernel_load(keys, kv->dtype, row + d);
    return sum;
}

static void value_add(const struct view *view, double *sum, double weight, int32_t p)
{
    const struct kernel_kv *kv = view->kv;
    const unsigned char *values =
        kernel_kv_values(kv, view->blocks[p / kv->B], view->layer, view->head);
    size_t row = (size_t)(p % kv->B) * (size_t)kv->D;
    for (size_t d = 0; d < (size_t)kv->D; d++)
        sum[d] += weight * (double)kernel_load(values, kv->dtype, row + d);
}

static void attend(const struct view *view, float *out, const float *q, double scale)
{
    double largest = -HUGE_VAL, total = 0, sum[KERNEL_HEAD_DIM_MAX] = {0};
    for (int32_t p = view->first; p < view->end; p++)
        largest = fmax(largest, scale * score(view, q, p));
    for (int32_t p = view->first; p < view->end; p++) {
        double weight = exp(scale * score(view, q, p) - largest);
        total += weight;
        value_add(view, sum, weight, p);
    }
    for (int32_t d = 0; d < view->kv->D; d++)
        out[d] = (float)(sum[d] / total);
}

void attention_reference(struct kernel_stream *stream, float *out, const float *q, int32_t stride,
                         const struct kernel_kv *kv, int32_t layer,
                         const struct kernel_sequence *sequences, int32_t S, int32_t H,
                         const struct kernel_attention *attention)
{
    (void)stream;
    CHECK(kv->D <= KERNEL_HEAD_DIM_MAX && H % kv->G == 0);
    for (const struct kernel_sequence *s = sequences; s < sequences + S; s++) {
        for (int32_t i = 0; i < s->row_count; i++) {
            int32_t p = s->position_first + i;
            int32_t first =
                attention->window && p >= attention->window ? p - attention->window + 1 : 0;
            for (int32_t h = 0; h < H; h++) {
                struct view view = {kv, s->blocks, layer, h / (H / kv->G), first, p + 1};
                size_t row = (size_t)s->row_first + (size_t)i;
                attend(&view, out + (row * (size_t)H + (size_t)h) * (size_t)kv->D,
                       q + row * (size_t)stride + (size_t)h * (size_t)kv->D,
                       (double)attention->scale);
            }
        }
    }
}
