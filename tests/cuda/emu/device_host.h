/*
 * device_host.h - CUDA's names on the host, and the host twin of every wrapper in kernels/cuda/device.h.
 *
 * Idea     kernels/cuda/device.h includes this file where nvcc is not the compiler (DEVICE_HOST_HEADER). C++17;
 *          __builtin_FILE and __builtin_LINE as default arguments carry the caller's place into the emulator.
 * Limits   What the kernels of this project use, no more. Threads see x, y, z of threadIdx, blockIdx, blockDim
 *          and gridDim; `volatile`, cooperative groups and `<<<>>>` have no twin.
 */
#ifndef LLM_TESTS_CUDA_EMU_DEVICE_HOST_H
#define LLM_TESTS_CUDA_EMU_DEVICE_HOST_H

#include "tests/cuda/emu/emu.h"

#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>

#define __global__
#define __launch_bounds__(...)
#define __restrict__ __restrict

#define EMU_SITE const char *emu_file = __builtin_FILE(), int emu_line = __builtin_LINE()
#define EMU_PASS emu_file, emu_line

#define threadIdx (emu_current->thread)
#define blockIdx  (emu_current->block)
#define blockDim  (emu_current->block_threads)
#define gridDim   (emu_current->grid_blocks)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) ushort4 {
    unsigned short x, y, z, w;
};

#define DEV_SHARED(type, name)                       \
    static char name##_key;                          \
    using name##_type = dev_identity<type>;          \
    name##_type &name = *static_cast<name##_type *>( \
        emu_shared_static(&name##_key, sizeof(name##_type), alignof(name##_type)))
#define DEV_SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(emu_shared_dynamic())

/* ---- Launching --------------------------------------------------------------------------------------------- */

template <class... Parameters> struct emu_call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments; /* by value, as CUDA takes them */
    static void run(const void *self)
    {
        const emu_call *call = static_cast<const emu_call *>(self);
        std::apply(call->kernel, call->arguments);
    }
};

template <class... Parameters, class... Arguments>
static int dev_launch(void *, const char *name, void (*kernel)(Parameters...), dim3 grid,
                      unsigned threads, size_t shared_bytes, Arguments... arguments)
{
    const emu_call<Parameters...> call = {kernel, {static_cast<Parameters>(arguments)...}};
    const emu_launch launch = {name, {grid.x, grid.y, grid.z}, {threads, 1, 1}, shared_bytes};
    emu_launch_body(&launch, emu_call<Parameters...>::run, &call);
    return 0;
}

/* ---- Memory ------------------------------------------------------------------------------------------------ */

template <class T> static inline T dev_load(const T *at, EMU_SITE)
{
    emu_global(at, sizeof(T), EMU_READ, EMU_PASS);
    return *at;
}

template <class T> static inline T dev_load_once(const T *at, EMU_SITE)
{
    emu_global(at, sizeof(T), EMU_READ_STREAM, EMU_PASS);
    return *at;
}

template <class T> static inline void dev_store(T *at, T value, EMU_SITE)
{
    emu_global(at, sizeof(T), EMU_WRITE, EMU_PASS);
    *at = value;
}

template <class T> static inline T dev_shared_load(const T *at, EMU_SITE)
{
    emu_shared(at, sizeof(T), EMU_READ, EMU_PASS);
    return *at;
}

template <class T> static inline void dev_shared_store(T *at, T value, EMU_SITE)
{
    emu_shared(at, sizeof(T), EMU_WRITE, EMU_PASS);
    *at = value;
}

template <int BYTES> static inline void dev_copy_async(void *shared, const void *global, EMU_SITE)
{
    emu_copy_async(shared, global, BYTES, EMU_PASS);
}

static inline void dev_copy_commit(void)
{
    emu_copy_commit();
}

template <int GROUPS_LEFT> static inline void dev_copy_wait(void)
{
    emu_copy_wait(GROUPS_LEFT);
}

/* ---- Synchronisation, warps, atomics ----------------------------------------------------------------------- */

static inline void __syncthreads(EMU_SITE)
{
    emu_barrier(EMU_PASS);
}

static inline void __syncwarp(uint32_t mask = ~0u, EMU_SITE)
{
    emu_warp(mask, emu_op_nothing, nullptr, true, EMU_PASS);
}

static inline void __threadfence(void)
{
    emu_fence();
}

template <class T> static inline T __shfl_xor_sync(uint32_t mask, T value, int lanes, EMU_SITE)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "4 or 8 bytes");
    emu_exchange exchange = {0, 0, emu_current->lane ^ lanes};
    memcpy(&exchange.value, &value, sizeof value);
    emu_warp(mask, emu_op_shuffle, &exchange, false, EMU_PASS);
    memcpy(&value, &exchange.result, sizeof value);
    return value;
}

static inline uint32_t __ballot_sync(uint32_t mask, int vote, EMU_SITE)
{
    emu_exchange exchange = {vote != 0, 0, 0};
    emu_warp(mask, emu_op_ballot, &exchange, false, EMU_PASS);
    return static_cast<uint32_t>(exchange.result);
}

/* Relaxed, as on the device: they order nothing else. */
static inline unsigned atomicAdd(unsigned *at, unsigned value)
{
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

static inline unsigned atomicOr(unsigned *at, unsigned value)
{
    return __atomic_fetch_or(at, value, __ATOMIC_RELAXED);
}

/* ---- Numbers ----------------------------------------------------------------------------------------------- */

static inline float __uint_as_float(unsigned bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline unsigned __float_as_uint(float value)
{
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* cvt.f32.f16: exact. Subnormals are mantissa * 2^-24. */
static inline float dev_f16_to_f32(uint16_t half)
{
    const unsigned sign = static_cast<unsigned>(half & 0x8000) << 16;
    const unsigned exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    if (exponent == 31)
        return __uint_as_float(sign | 0x7f800000 | mantissa << 13);
    if (exponent == 0) {
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

#endif
