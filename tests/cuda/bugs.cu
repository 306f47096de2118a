/*
 * bugs.cu - the wrong kernels of bugs.h. Each is correct but for the mistake it is named after.
 */
#include "kernels/cuda/device.h"
#include "tests/cuda/bugs.h"

template <int BUG> __global__ void bug_kernel(float *out, const float *in, unsigned *counter)
{
    DEV_SHARED(float[BUG_THREADS], row);
    DEV_SHARED_DYNAMIC(float, tile); /* [32] */
    const int me = static_cast<int>(threadIdx.x), lane = me % 32, last = BUG_THREADS - 1;
    const int at = static_cast<int>(blockIdx.x) * BUG_THREADS + me;
    float v = dev_load(in + at);

    if constexpr (BUG == BUG_NONE || BUG == BUG_NO_BARRIER || BUG == BUG_SHARED_UNSET) {
        if (BUG != BUG_SHARED_UNSET || me < BUG_THREADS / 2)
            dev_shared_store(row + me, v);
        if (BUG != BUG_NO_BARRIER)
            __syncthreads();
        v = dev_shared_load(row + last - me);
    }
    if constexpr (BUG == BUG_WRITE_AFTER_READ) {
        dev_shared_store(row + me, v);
        __syncthreads();
        v = dev_shared_load(row + last - me);
        dev_shared_store(row + me, v);
        __syncthreads();
        v = dev_shared_load(row + last - me);
    }
    if constexpr (BUG == BUG_NO_SYNCWARP || BUG == BUG_NONE_SYNCWARP) {
        dev_shared_store(row + me, v);
        if (BUG == BUG_NONE_SYNCWARP)
            __syncwarp();
        v = dev_shared_load(row + (me ^ 1));
    }
    if constexpr (BUG == BUG_COPY_NOT_WAITED || BUG == BUG_COPY_LEFT || BUG == BUG_NONE_COPY) {
        if (me < 8)
            dev_copy_async<16>(tile + 4 * me, in + 4 * me);
        dev_copy_commit();
        if (BUG == BUG_NONE_COPY)
            dev_copy_wait<0>();
        __syncthreads();
        v = BUG == BUG_COPY_LEFT ? v : dev_shared_load(tile + lane);
        if (BUG != BUG_COPY_LEFT)
            dev_copy_wait<0>();
    }
    if constexpr (BUG == BUG_LOAD_BEYOND)
        v = dev_load(in + at + 1);
    if constexpr (BUG == BUG_STORE_BEYOND)
        dev_store(out + at + 1, v);
    if constexpr (BUG == BUG_SHARED_BEYOND)
        tile[lane + 1] = v; /* no wrapper looks at this one: the guard page does */
    if constexpr (BUG == BUG_MISALIGNED)
        v = dev_load(reinterpret_cast<const float4 *>(in + 1)).x;
    if constexpr (BUG == BUG_HALF_SHUFFLE)
        if (lane < 16)
            v = __shfl_xor_sync(0xffffffffu, v, 1);
    if constexpr (BUG == BUG_SHUFFLE_RETURNED) {
        if (lane >= 16)
            return;
        v = __shfl_xor_sync(0xffffffffu, v, 1);
    }
    if constexpr (BUG == BUG_BARRIER_IN_BRANCH) {
        if (me & 1)
            __syncthreads();
        else
            __syncthreads();
    }
    if constexpr (BUG == BUG_TWO_STORES) {
        dev_store(out + at / 2, v);
        return;
    }
    if constexpr (BUG == BUG_TWO_BLOCKS) {
        dev_store(out + me, v);
        return;
    }
    if constexpr (BUG == BUG_LAST_BLOCK || BUG == BUG_NONE_LAST_BLOCK) {
        DEV_SHARED(unsigned, arrived);
        if (me == 0) {
            dev_store(out + blockIdx.x, v);
            if (BUG == BUG_NONE_LAST_BLOCK)
                __threadfence();
            arrived = atomicAdd(counter, 1u);
            if (arrived == gridDim.x - 1) {
                if (BUG == BUG_NONE_LAST_BLOCK)
                    __threadfence();
                float sum = 0;
                for (unsigned i = 0; i < gridDim.x; i++)
                    sum = sum + dev_load(out + i);
                dev_store(out + gridDim.x, sum);
            }
        }
        return;
    }
    dev_store(out + at, v);
}

template <int BUG>
static void launch(cuda_stream *stream, int bug, float *out, const float *in, unsigned *counter)
{
    if (bug == BUG)
        DEV_LAUNCH(stream, "bug", bug_kernel<BUG>, dim3(BUG_BLOCKS), BUG_THREADS,
                   32 * sizeof(float), out, in, counter);
    else if constexpr (BUG + 1 < BUG_COUNT)
        launch<BUG + 1>(stream, bug, out, in, counter);
}

extern "C" void bug_launch(cuda_stream *stream, enum bug bug, float *out, const float *in,
                           unsigned *counter)
{
    launch<0>(stream, bug, out, in, counter);
}

__global__ void probe_kernel(float *out, const float *in, int stride)
{
    DEV_SHARED_DYNAMIC(float, row);
    const int lane = static_cast<int>(threadIdx.x);
    dev_shared_store(row + lane * stride, dev_load(in + lane * stride));
    dev_store(out + lane, dev_shared_load(row + lane * stride));
}

extern "C" void probe_launch(cuda_stream *stream, float *out, const float *in, int stride)
{
    const size_t bytes = static_cast<size_t>(PROBE_LANES * stride) * sizeof(float);
    DEV_LAUNCH(stream, "probe", probe_kernel, dim3(1), PROBE_LANES, bytes, out, in, stride);
}
