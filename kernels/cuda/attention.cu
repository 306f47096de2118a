/*
 * attention.cu - kernels.h attention over paged keys and values: one span at a time, then the merge.
 *
 * A span is CUDA_SPAN_TOKENS positions beginning at a multiple of it; its (largest score, sum, weighted values) come
 * from its own keys alone, and a row's spans are merged in ascending order. Who computes a span is therefore free:
 * here a block of threads takes spans off a list, so that one long sequence fills a device as well as many short ones.
 */
#include "kernels/cuda/kv.h"

static const int SPAN = CUDA_SPAN_TOKENS;
static const int SPAN_THREADS = 128;
static const int SPAN_WARPS = SPAN_THREADS / 32;
static const int SPAN_BLOCKS_MAX = 1024; /* of a launch; each takes items until none is left */
static const int HEADS = 4;              /* query heads that share one read of a key or value */
static const int MERGE_THREADS = 128;

struct span_call { /* what every item of a launch has in common */
    float *partials;
    const float *q;
    cuda_kv kv;
    cuda_batch batch;
    int32_t layer, stride, H, window;
    float scale;
    uint32_t tile_row_bytes; /* distance of two rows of a tile in shared memory */
};

struct span_item {            /* one row's look at one span through one key/value head */
    int row, head, span;      /* head: of keys and values; span: place in the batch's list */
    int position, first, end; /* first position of the span; keys seen: [first, end) within it */
};

/* A block's shared memory, laid out in this order. */
struct span_shared {
    unsigned char *keys, *values; /* [SPAN] rows of tile_row_bytes */
    float *q;                     /* [heads of the group, D rounded up to 4] */
    float *weights;               /* [heads of the group, SPAN]: scores, then weights */
};

DEV_BOTH int rounded(int D)
{
    return (D + 3) / 4 * 4;
}

DEV_BOTH size_t partial_floats(int D)
{
    return static_cast<size_t>(rounded(D)) + CUDA_PARTIAL_EXTRA_FLOATS;
}

DEV span_shared span_layout(unsigned char *memory, const span_call &call)
{
    const int group = call.H / call.kv.G;
    span_shared s;
    s.keys = memory;
    s.values = s.keys + SPAN * call.tile_row_bytes;
    s.q = reinterpret_cast<float *>(s.values + SPAN * call.tile_row_bytes);
    s.weights = s.q + group * rounded(call.kv.D);
    return s;
}

DEV span_item item_at(const span_call &call, int number)
{
    span_item item;
    item.span = number / call.kv.G;
    item.head = number % call.kv.G;
    item.row = dev_load(call.batch.row_of_span + item.span);
    const int p = dev_load(call.batch.positions + item.row);
    const int seen_first = call.window && p >= call.window ? p - call.window + 1 : 0;
    const int nth = item.span - dev_load(call.batch.span_first + item.row);
    item.position = (seen_first / SPAN + nth) * SPAN;
    item.first = seen_first > item.position ? seen_first - item.position : 0;
    item.end = p - item.position < SPAN ? p - item.position + 1 : SPAN;
    return item;
}

/* Ask for the rows that are seen; the others are neither read nor used. */
template <int BYTES>
DEV void tile_copy(const span_call &call, const span_item &item, unsigned char *tile,
                   uint64_t offset)
{
    const cuda_kv &kv = call.kv;
    const int words = static_cast<int>(kv.row_bytes) / BYTES;
    for (int i = static_cast<int>(threadIdx.x); i < (item.end - item.first) * words;
         i += SPAN_THREADS) {
        const int j = item.first + i / words, word = i % words, p = item.position + j;
        const uint32_t block = kv_block_of(call.batch, item.row, p, kv.B);
        const unsigned char *row =
            kv_keys(kv, block, call.layer, item.head) + offset + (p % kv.B) * kv.row_bytes;
        dev_copy_async<BYTES>(tile + j * call.tile_row_bytes + word * BYTES, row + word * BYTES);
    }
    dev_copy_commit();
}

DEV void q_copy(const span_call &call, const span_item &item, float *to)
{
    const int group = call.H / call.kv.G, D = call.kv.D;
    const float *from = call.q + static_cast<size_t>(item.row) * call.stride +
                        static_cast<size_t>(item.head) * group * D;
    for (int i = static_cast<int>(threadIdx.x); i < group * D; i += SPAN_THREADS)
        dev_shared_store(to + i / D * rounded(D) + i % D, dev_load(from + i));
}

/* Scores of one key for HEADS query heads; four sums per head (dimension d in sum d mod 4). */
template <int DTYPE, bool WHOLE>
DEV void score_heads(const span_call &call, const span_shared &s, int j, int h0, int heads)
{
    constexpr int COUNT = 16 / dev_format<DTYPE>::BYTES;
    const int D = call.kv.D;
    const unsigned char *key = s.keys + j * call.tile_row_bytes;
    float sums[HEADS][4] = {};
    for (int d = 0; d < D; d += COUNT) {
        const uint4 raw = dev_shared_load(reinterpret_cast<const uint4 *>(key + d * (16 / COUNT)));
        const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (int i = 0; i < COUNT; i += 4) {
            float k[4];
#pragma unroll
            for (int e = 0; e < 4; e++)
                k[e] = DTYPE == CUDA_F32 ? __uint_as_float(words[(i + e) % 4])
                                         : dev_bf16_to_f32(static_cast<uint16_t>(
                                               words[(i + e) / 2 % 4] >> (16 * ((i + e) % 2))));
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                if (h >= heads)
                    continue;
                const float *q = s.q + (h0 + h) * rounded(D) + d + i;
                if constexpr (WHOLE) {
                    const float4 v = dev_shared_load(reinterpret_cast<const float4 *>(q));
                    sums[h][0] = fmaf(v.x, k[0], sums[h][0]);
                    sums[h][1] = fmaf(v.y, k[1], sums[h][1]);
                    sums[h][2] = fmaf(v.z, k[2], sums[h][2]);
                    sums[h][3] = fmaf(v.w, k[3], sums[h][3]);
                } else {
#pragma unroll
                    for (int e = 0; e < 4; e++)
                        if (d + i + e < D)
                            sums[h][e] = fmaf(dev_shared_load(q + e), k[e], sums[h][e]);
                }
            }
        }
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++)
        if (h < heads)
            dev_shared_store(s.weights + (h0 + h) * SPAN + j,
                             ((sums[h][0] + sums[h][1]) + (sums[h][2] + sums[h][3])) * call.scale);
}

/* Two threads per key: one takes query heads 0-3, 8-11, ..., the other 4-7, 12-15, ... */
template <int DTYPE, bool WHOLE>
DEV void span_scores(const span_call &call, const span_item &item, const span_shared &s)
{
    const int j = static_cast<int>(threadIdx.x) % SPAN, group = call.H / call.kv.G;
    for (int h = HEADS * (static_cast<int>(threadIdx.x) / SPAN); h < group;
         h += HEADS * (SPAN_THREADS / SPAN))
        if (j >= item.first && j < item.end)
            score_heads<DTYPE, WHOLE>(call, s, j, h, group - h < HEADS ? group - h : HEADS);
}

DEV float *partial_of(const span_call &call, const span_item &item, int h)
{
    const int group = call.H / call.kv.G;
    return call.partials + (static_cast<size_t>(item.span) * call.H + item.head * group + h) *
                               partial_floats(call.kv.D);
}

/* Scores to weights exp(score - largest), one warp per head; places that are not seen hold no weight at all. */
DEV void span_softmax(const span_call &call, const span_item &item, const span_shared &s)
{
    const int lane = static_cast<int>(threadIdx.x) % 32, group = call.H / call.kv.G;
    const bool low = lane >= item.first && lane < item.end;
    const bool high = lane + 32 >= item.first && lane + 32 < item.end;
    for (int h = static_cast<int>(threadIdx.x) / 32; h < group; h += SPAN_WARPS) {
        float *weights = s.weights + h * SPAN;
        const float a = low ? dev_shared_load(weights + lane) : -INFINITY;
        const float b = high ? dev_shared_load(weights + lane + 32) : -INFINITY;
        const float largest = dev_warp_max(fmaxf(a, b));
        const float wa = low ? expf(a - largest) : 0.0f, wb = high ? expf(b - largest) : 0.0f;
        const float sum = dev_warp_sum(wa + wb);
        if (low)
            dev_shared_store(weights + lane, wa);
        if (high)
            dev_shared_store(weights + lane + 32, wb);
        if (lane == 0) {
            float *end = partial_of(call, item, h) + rounded(call.kv.D);
            dev_store(end, largest);
            dev_store(end + 1, sum);
        }
    }
}

/* A thread owns four bytes of the value rows (one f32, two bf16) for HEADS query heads; keys ascending. */
template <int DTYPE>
DEV void span_values(const span_call &call, const span_item &item, const span_shared &s)
{
    constexpr int DIMS = 4 / dev_format<DTYPE>::BYTES;
    const int group = call.H / call.kv.G, columns = call.kv.D / DIMS;
    const int turns = columns * ((group + HEADS - 1) / HEADS);
    for (int i = static_cast<int>(threadIdx.x); i < turns; i += SPAN_THREADS) {
        const int column = i % columns, h0 = i / columns * HEADS;
        float sums[HEADS][DIMS] = {};
        for (int j = item.first; j < item.end; j++) {
            const unsigned raw = dev_shared_load(
                reinterpret_cast<const unsigned *>(s.values + j * call.tile_row_bytes) + column);
            float v[DIMS];
#pragma unroll
            for (int e = 0; e < DIMS; e++)
                v[e] = DIMS == 1 ? __uint_as_float(raw)
                                 : dev_bf16_to_f32(static_cast<uint16_t>(raw >> (16 * e)));
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                if (h0 + h >= group)
                    continue;
                const float weight = dev_shared_load(s.weights + (h0 + h) * SPAN + j);
#pragma unroll
                for (int e = 0; e < DIMS; e++)
                    sums[h][e] = fmaf(weight, v[e], sums[h][e]);
            }
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++)
#pragma unroll
            for (int e = 0; e < DIMS; e++)
                if (h0 + h < group)
                    dev_store(partial_of(call, item, h0 + h) + column * DIMS + e, sums[h][e]);
    }
}

/* (largest score, sum, weighted values) of every span of every row
 * grid     (min(spans * G, 1024))  items are (span, key/value head); a block takes every grid-th
 * block    (128)  loads keys, then values, by cp.async; scores while the values are on their way
 * smem     two tiles of 64 rows, each row an odd number of 16-byte pieces apart: eight lanes that read the same
 *          piece of eight rows meet no bank twice; q and the weights of the group
 * numerics score: dimension d in sum d mod 4, ((0+1)+(2+3)), times scale; largest and sum: places j and j + 32
 *          first, then lanes by halves; values: one accumulator per dimension, keys ascending
 * moved    2 * seen * G * D * dtype bytes per row: once for all heads of a group */
template <int DTYPE, bool WHOLE>
__global__ void __launch_bounds__(SPAN_THREADS) attention_spans_kernel(const span_call call)
{
    DEV_SHARED_DYNAMIC(unsigned char, memory);
    constexpr int BYTES = WHOLE ? 16 : 4;
    const span_shared s = span_layout(memory, call);
    const int items = dev_load(call.batch.span_first + call.batch.T) * call.kv.G;
    for (int i = static_cast<int>(blockIdx.x); i < items; i += static_cast<int>(gridDim.x)) {
        const span_item item = item_at(call, i);
        tile_copy<BYTES>(call, item, s.keys, 0);
        tile_copy<BYTES>(call, item, s.values, call.kv.head_bytes / 2);
        q_copy(call, item, s.q);
        dev_copy_wait<1>();
        __syncthreads(); /* keys and q are there */
        span_scores<DTYPE, WHOLE>(call, item, s);
        __syncthreads(); /* scores are there */
        span_softmax(call, item, s);
        dev_copy_wait<0>();
        __syncthreads(); /* weights and values are there */
        span_values<DTYPE>(call, item, s);
        __syncthreads(); /* nobody reads what the next item overwrites */
    }
}

/* out[t, h, :] from the spans of row t, merged in ascending order (docs/NUMERICS.md, "Attention", 4)
 * grid   (T, H)
 * block  (128)  a thread owns dimensions i, i + 128; all compute the same factors
 * moved  spans * H * (D + 4) * 4 bytes, mostly from the second-level cache */
__global__ void __launch_bounds__(MERGE_THREADS)
    attention_merge_kernel(float *out, const float *partials, const cuda_batch batch, int32_t D)
{
    const int t = static_cast<int>(blockIdx.x), h = static_cast<int>(blockIdx.y);
    const int H = static_cast<int>(gridDim.y);
    const int first = dev_load(batch.span_first + t), end = dev_load(batch.span_first + t + 1);
    for (int d = static_cast<int>(threadIdx.x); d < D; d += MERGE_THREADS) {
        float largest = -INFINITY, sum = 0, value = 0;
        for (int span = first; span < end; span++) {
            const float *partial =
                partials + (static_cast<size_t>(span) * H + h) * partial_floats(D);
            const float m = dev_load(partial + rounded(D)), l = dev_load(partial + rounded(D) + 1);
            const float merged = fmaxf(largest, m);
            const float old_part = expf(largest - merged), new_part = expf(m - merged);
            sum = fmaf(sum, old_part, l * new_part);
            value = fmaf(value, old_part, dev_load(partial + d) * new_part);
            largest = merged;
        }
        dev_store(out + (static_cast<size_t>(t) * H + h) * D + d, value / sum);
    }
}

template <int DTYPE, bool WHOLE> static void launch(cuda_stream *stream, const span_call &call)
{
    const int items = call.batch.span_count * call.kv.G;
    const dim3 grid(static_cast<unsigned>(items < SPAN_BLOCKS_MAX ? items : SPAN_BLOCKS_MAX));
    const size_t group = static_cast<size_t>(call.H / call.kv.G);
    const size_t shared = 2 * SPAN * static_cast<size_t>(call.tile_row_bytes) +
                          group * static_cast<size_t>(rounded(call.kv.D) + SPAN) * sizeof(float);
    DEV_LAUNCH(stream, "attention", (attention_spans_kernel<DTYPE, WHOLE>), grid, SPAN_THREADS,
               shared, call);
}

extern "C" void attention_cuda(cuda_stream *stream, float *out, const float *q, int32_t stride,
                               const cuda_kv *kv, int32_t layer, const cuda_batch *batch, int32_t H,
                               const cuda_attention *attention)
{
    if (batch->T == 0)
        return;
    const uint32_t pieces = static_cast<uint32_t>((kv->row_bytes + 15) / 16) | 1;
    const span_call call = {
        attention->partials, q,          *kv, *batch, layer, stride, H, attention->window,
        attention->scale,    16 * pieces};
    const bool whole = kv->row_bytes % 16 == 0 && kv->slab_bytes % 16 == 0;
    if (kv->dtype == CUDA_F32 && whole)
        launch<CUDA_F32, true>(stream, call);
    else if (kv->dtype == CUDA_F32)
        launch<CUDA_F32, false>(stream, call);
    else if (whole)
        launch<CUDA_BF16, true>(stream, call);
    else
        launch<CUDA_BF16, false>(stream, call);
    const dim3 grid(static_cast<unsigned>(batch->T), static_cast<unsigned>(H));
    DEV_LAUNCH(stream, "attention merge", attention_merge_kernel, grid, MERGE_THREADS, 0, out,
               attention->partials, *batch, kv->D);
}
