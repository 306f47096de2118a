/*
 * device.h - the one header that says "device": what a kernel may use, for nvcc and for the host.
 *
 * Idea     Kernels are CUDA C++ in the manner of C. Everything that CUDA has and C++ has not stands behind a
 *          wrapper here: launches, shared memory, loads and stores to global memory, cp.async. Under nvcc they
 *          are thin; a host compiler takes the same names from the header that the build calls
 *          DEVICE_HOST_HEADER (tests/cuda/emu/device_host.h), so that one source runs on a device and in a test.
 * Rules    1. Inline PTX stands in this file only, and each piece has a twin in DEVICE_HOST_HEADER.
 *          2. Global memory is read and written through dev_load, dev_load_once, dev_store, dev_copy_async:
 *             the emulator checks range and alignment there, and counts what was moved.
 *          3. No <<<>>>: DEV_LAUNCH. No `__shared__`: DEV_SHARED, DEV_SHARED_DYNAMIC.
 *          4. No fused multiply-add but fmaf(): kernels are compiled with -fmad=false, so that the bits of a
 *             result do not hang on how a loop was unrolled.
 * Source   PTX ISA 8.x: 9.7.9.25.3 (cp.async), 9.7.9.9 (ld.global.nc)
 *          https://docs.nvidia.com/cuda/parallel-thread-execution/
 */
#ifndef LLM_KERNELS_CUDA_DEVICE_H
#define LLM_KERNELS_CUDA_DEVICE_H

#include "kernels/cuda/cuda.h"

#include <stddef.h>
#include <stdint.h>

template <class T>
using dev_identity = T; /* lets DEV_SHARED take an array type: DEV_SHARED(float[8], sums) */

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#define DEV      __device__ __forceinline__
#define DEV_BOTH __host__ __device__ __forceinline__ /* also called where a launch is sized */

#define DEV_SHARED(type, name) __shared__ dev_identity<type> name
#define DEV_SHARED_DYNAMIC(type, name)                            \
    extern __shared__ __align__(128) unsigned char dev_dynamic[]; \
    type *name = reinterpret_cast<type *>(dev_dynamic)

/* The device may give a block more than 48 KiB of dynamic shared memory when the kernel asks for it first. */
template <class... Parameters, class... Arguments>
static int dev_launch(void *stream, const char *, void (*kernel)(Parameters...), dim3 grid,
                      unsigned threads, size_t shared_bytes, Arguments... arguments)
{
    if (shared_bytes > 48 * 1024) {
        const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                       static_cast<int>(shared_bytes));
        if (error != cudaSuccess)
            return static_cast<int>(error);
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = static_cast<cudaStream_t>(stream);
    return static_cast<int>(
        cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

template <class T> DEV T dev_load(const T *at)
{
    return *at;
}

/* Read once: it need not stay in the first-level cache. Only for memory that no kernel writes meanwhile. */
template <class T> DEV T dev_load_once(const T *at)
{
    if constexpr (sizeof(T) == 16) {
        uint4 v;
        asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                     : "l"(at));
        return *reinterpret_cast<T *>(&v);
    } else {
        return __ldg(at);
    }
}

template <class T> DEV void dev_store(T *at, T value)
{
    *at = value;
}

template <class T> DEV T dev_shared_load(const T *at)
{
    return *at;
}

template <class T> DEV void dev_shared_store(T *at, T value)
{
    *at = value;
}

template <int BYTES> DEV void dev_copy_async(void *shared, const void *global)
{
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global), "n"(BYTES)
                     : "memory");
}

DEV void dev_copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int GROUPS_LEFT> DEV void dev_copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS_LEFT) : "memory");
}

DEV float dev_f16_to_f32(uint16_t half)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

#else

#define DEV      static inline
#define DEV_BOTH static inline
#include DEVICE_HOST_HEADER

#endif

/* DEV_LAUNCH(stream, op, kernel, grid, threads, shared bytes, arguments...): the first failure of a stream stays
 * in it, with the op's name; after a failure nothing more is launched. */
#define DEV_LAUNCH(stream, op, kernel, ...)                                          \
    do {                                                                             \
        if ((stream)->error == 0) {                                                  \
            (stream)->error = dev_launch((stream)->handle, op, kernel, __VA_ARGS__); \
            if ((stream)->error != 0)                                                \
                (stream)->error_op = op;                                             \
        }                                                                            \
    } while (0)

/* ---- Numbers ----------------------------------------------------------------------------------------------- */

struct dev_float4 { /* four neighbours of a row, widened */
    float v[4];
};

DEV float dev_bf16_to_f32(uint16_t half)
{
    return __uint_as_float(static_cast<unsigned>(half) << 16);
}

/* Nearest, ties to even; NaN stays NaN: kernel_f32_to_bf16() in kernels/dtype.h. */
DEV uint16_t dev_f32_to_bf16(float value)
{
    const unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <int DTYPE> struct dev_format; /* how a dtype is stored: one element, four elements */

template <> struct dev_format<CUDA_F32> {
    typedef float one;
    typedef float4 four;
    static constexpr int BYTES = 4;
};
template <> struct dev_format<CUDA_BF16> {
    typedef uint16_t one;
    typedef ushort4 four;
    static constexpr int BYTES = 2;
};
template <> struct dev_format<CUDA_F16> {
    typedef uint16_t one;
    typedef ushort4 four;
    static constexpr int BYTES = 2;
};

template <int DTYPE, class Stored> DEV float dev_widen(Stored stored)
{
    if constexpr (DTYPE == CUDA_F32)
        return stored;
    else if constexpr (DTYPE == CUDA_BF16)
        return dev_bf16_to_f32(stored);
    else
        return dev_f16_to_f32(stored);
}

template <int DTYPE, class Stored> DEV dev_float4 dev_widen4(Stored s)
{
    return {{dev_widen<DTYPE>(s.x), dev_widen<DTYPE>(s.y), dev_widen<DTYPE>(s.z),
             dev_widen<DTYPE>(s.w)}};
}

/* ---- Sums over a warp: every lane gets the same bits, in an order fixed by the lanes' numbers ----------------- */

DEV float dev_warp_sum(float value)
{
    for (int lanes = 16; lanes > 0; lanes /= 2)
        value = value + __shfl_xor_sync(0xffffffffu, value, lanes);
    return value;
}

DEV float dev_warp_max(float value)
{
    for (int lanes = 16; lanes > 0; lanes /= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, lanes));
    return value;
}

#endif
