/*
 * linear.cu - kernels.h linear for few rows: the weights pass by once, the sums are in f32.
 *
 * One order of accumulation whatever the number of rows: it is the path of strict mode for any T, and the fast one
 * while a step is bound by the weights' bandwidth.
 */
#include "kernels/cuda/device.h"

static const int LINEAR_WARPS = 8;
static const int LINEAR_THREADS = 32 * LINEAR_WARPS;
static const int LINEAR_OUTPUTS = 2; /* of a warp: one read of x serves both */

/* 16-byte loads of each weight row on their way before the first is used: 32 KB a block, 16 where eight rows of sums
 * need the registers. */
DEV_BOTH constexpr int linear_ahead(int rows)
{
    return rows < 8 ? 4 : 2;
}

template <int DTYPE> DEV_BOTH constexpr int piece_count(void) /* weights in 16 bytes */
{
    return 16 / dev_format<DTYPE>::BYTES;
}

/* The i-th weight of a piece; i is known when the loop around it is unrolled. */
template <int DTYPE> DEV float weight_at(const uint4 &piece, int i)
{
    const unsigned words[4] = {piece.x, piece.y, piece.z, piece.w};
    if constexpr (DTYPE == CUDA_F32)
        return __uint_as_float(words[i]);
    else
        return dev_widen<DTYPE>(static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2))));
}

/* sums[r] += x of row r times the weights, elements ascending; `left` elements of x remain from here. */
template <int DTYPE, bool WHOLE, int ROWS>
DEV void add_products(float (&sums)[ROWS], const uint4 &w, const float *const (&x)[ROWS], int first,
                      int left)
{
    constexpr int COUNT = piece_count<DTYPE>();
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if constexpr (WHOLE) {
#pragma unroll
            for (int i = 0; i < COUNT; i += 4) {
                const float4 v = dev_load(reinterpret_cast<const float4 *>(x[r] + first + i));
                sums[r] = fmaf(v.x, weight_at<DTYPE>(w, i), sums[r]);
                sums[r] = fmaf(v.y, weight_at<DTYPE>(w, i + 1), sums[r]);
                sums[r] = fmaf(v.z, weight_at<DTYPE>(w, i + 2), sums[r]);
                sums[r] = fmaf(v.w, weight_at<DTYPE>(w, i + 3), sums[r]);
            }
        } else {
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                if (i < left)
                    sums[r] = fmaf(dev_load(x[r] + first + i), weight_at<DTYPE>(w, i), sums[r]);
        }
    }
}

/* out[t, n] = sum over k of x[t, k] * w[n, k] (+ bias[n]) (+ out[t, n])
 * grid     (ceil(N / 16), ceil(T / ROWS))  a warp computes two outputs of ROWS rows of x
 * block    (256)  lane l takes pieces l, l + 32, ... of 16 bytes of its weight rows, AHEAD of each in flight;
 *                 x comes from the first-level cache, which the block's eight warps share
 * numerics lane: one accumulator per output, its k ascending, by fmaf; then lanes by halves (16, 8, 4, 2, 1); then
 *          bias; then out. Fixed by K and the dtype alone: neither T, ROWS nor N matters
 * moved    N * row_bytes of weights per ROWS rows, T * (4 * K + 4 * N) bytes of x and out */
template <int DTYPE, bool WHOLE, int ROWS>
__global__ void __launch_bounds__(LINEAR_THREADS, 2)
    linear_kernel(float *out, const float *x, const cuda_matrix w, const float *bias, int32_t T,
                  int add)
{
    constexpr int COUNT = piece_count<DTYPE>(), AHEAD = linear_ahead(ROWS);
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int n0 = (static_cast<int>(blockIdx.x) * LINEAR_WARPS + warp) * LINEAR_OUTPUTS;
    const int t0 = static_cast<int>(blockIdx.y) * ROWS, pieces = (w.K + COUNT - 1) / COUNT;
    if (n0 >= w.N)
        return; /* a whole warp */
    const uint4 *rows[LINEAR_OUTPUTS];
    const float *xs[ROWS];
#pragma unroll
    for (int o = 0; o < LINEAR_OUTPUTS;
         o++) /* the last warp may compute an output twice, and stores it once */
        rows[o] = reinterpret_cast<const uint4 *>(static_cast<const unsigned char *>(w.rows) +
                                                  (n0 + o < w.N ? n0 + o : n0) * w.row_bytes);
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        xs[r] = x + static_cast<size_t>(t0 + r < T ? t0 + r : T - 1) * w.K;

    float sums[LINEAR_OUTPUTS][ROWS] = {};
    for (int first = lane; first < pieces; first += 32 * AHEAD) {
        uint4 ahead[AHEAD][LINEAR_OUTPUTS];
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
#pragma unroll
            for (int o = 0; o < LINEAR_OUTPUTS; o++)
                if (first + 32 * a < pieces)
                    ahead[a][o] = dev_load_once(rows[o] + first + 32 * a);
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            const int k = (first + 32 * a) * COUNT;
            if (k < w.K)
#pragma unroll
                for (int o = 0; o < LINEAR_OUTPUTS; o++)
                    add_products<DTYPE, WHOLE, ROWS>(sums[o], ahead[a][o], xs, k, w.K - k);
        }
    }
#pragma unroll
    for (int o = 0; o < LINEAR_OUTPUTS; o++) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            float sum = dev_warp_sum(sums[o][r]);
            if (lane != 0 || n0 + o >= w.N || t0 + r >= T)
                continue;
            float *to = out + static_cast<size_t>(t0 + r) * w.N + n0 + o;
            if (bias)
                sum = sum + dev_load(bias + n0 + o);
            if (add)
                sum = dev_load(to) + sum;
            dev_store(to, sum);
        }
    }
}

template <int DTYPE, bool WHOLE, int ROWS>
static void launch(cuda_stream *stream, float *out, const float *x, const cuda_matrix *w,
                   const float *bias, int32_t T, int add)
{
    const int outputs = LINEAR_WARPS * LINEAR_OUTPUTS;
    const dim3 grid(static_cast<unsigned>((w->N + outputs - 1) / outputs),
                    static_cast<unsigned>((T + ROWS - 1) / ROWS));
    DEV_LAUNCH(stream, "linear", (linear_kernel<DTYPE, WHOLE, ROWS>), grid, LINEAR_THREADS, 0, out,
               x, *w, bias, T, add);
}

template <int DTYPE>
static void by_rows(cuda_stream *stream, float *out, const float *x, const cuda_matrix *w,
                    const float *bias, int32_t T, int add)
{
    if (T == 1)
        launch<DTYPE, true, 1>(stream, out, x, w, bias, T, add);
    else if (T == 2)
        launch<DTYPE, true, 2>(stream, out, x, w, bias, T, add);
    else if (T <= 4)
        launch<DTYPE, true, 4>(stream, out, x, w, bias, T, add);
    else
        launch<DTYPE, true, 8>(stream, out, x, w, bias, T, add);
}

/* A width that is no multiple of 16 bytes is for tests and oddities: one size of kernel will do. */
template <int DTYPE>
static void by_width(cuda_stream *stream, float *out, const float *x, const cuda_matrix *w,
                     const float *bias, int32_t T, int add)
{
    if (w->K % piece_count<DTYPE>() == 0)
        by_rows<DTYPE>(stream, out, x, w, bias, T, add);
    else
        launch<DTYPE, false, 4>(stream, out, x, w, bias, T, add);
}

extern "C" void linear_cuda(cuda_stream *stream, float *out, const float *x, const cuda_matrix *w,
                            const float *bias, int32_t T, int add)
{
    if (T == 0)
        return;
    if (w->dtype == CUDA_F32)
        by_width<CUDA_F32>(stream, out, x, w, bias, T, add);
    else if (w->dtype == CUDA_BF16)
        by_width<CUDA_BF16>(stream, out, x, w, bias, T, add);
    else
        by_width<CUDA_F16>(stream, out, x, w, bias, T, add);
}
