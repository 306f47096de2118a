/*
 * emu.h - CUDA kernels on the host: one fiber per CUDA thread, a seeded schedule, every mistake told.
 *
 * Idea     A kernel source is compiled by the host's C++ compiler against device_host.h. Each CUDA thread is a
 *          fiber that runs until it synchronises; which one runs next is drawn from a seed. What a GPU would let
 *          pass now and then stops here at once, with kernel, block, thread, file and line:
 *            - shared memory and fresh device memory hold 0xff bytes, which is NaN in f32, bf16 and f16
 *            - device memory and dynamic shared memory end at a guard page (under ASan: at a red zone)
 *            - every access through kernels/cuda/device.h is checked for range and alignment
 *            - warp operations wait for every lane of their mask; lanes that left, or stand elsewhere, are reported
 *            - barriers that not every thread reaches are a deadlock, and the report lists who waits where
 *            - cp.async writes at its issue, at its wait, or in between, as the schedule draws
 *          Built with -fsanitize=thread, every CUDA thread is a fiber to ThreadSanitizer too, and switching
 *          orders nothing: only __syncthreads, __syncwarp, __threadfence and the ends of launches do, as on the
 *          device. That is a race detector for shared and global memory.
 * Owner    One process-wide state; the buffers of emu_alloc() belong to the caller.
 * Threads  One host thread. emu_launch_body() returns when the grid has finished.
 * Exits    99 misuse of the device, 98 guard page, 97 deadlock; ThreadSanitizer's 66.
 * See      tests/cuda/emu/README.md, docs/GPU.md, tests/cuda/test_bugs.c.
 */
#ifndef LLM_TESTS_CUDA_EMU_EMU_H
#define LLM_TESTS_CUDA_EMU_EMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- For tests: schedules, device memory, what was moved --------------------------------------------------- */

enum emu_policy {
    EMU_FORWARD, /* lowest block, warp and lane first; cp.async as late as its wait */
    EMU_REVERSE, /* highest first; cp.async at once */
    EMU_RANDOM,  /* any ready thread */
    EMU_LEADING, /* random priorities of warps, now and then redrawn: one warp runs far ahead of the others
                  * (probabilistic concurrency testing, Burckhardt et al. 2010) */
    EMU_POLICY_COUNT
};

extern const char *const emu_policy_names[EMU_POLICY_COUNT]; /* "forward", ... */

/* From here on: schedule and seed, and how many blocks are resident at once (1..16). */
void emu_schedule(enum emu_policy policy, uint64_t seed, int resident_blocks);

/* Device memory of exactly `bytes`, aligned to 16 (256 if bytes is a multiple of 256), all 0xff. */
void *emu_alloc(size_t bytes);
void emu_free(void *memory); /* NULL is accepted */

/* What the accesses of all launches since emu_stats_begin() moved. Sectors are the 32-byte units that a warp's
 * requests touch; a wave is one cycle of the 32 shared-memory banks. */
struct emu_stats {
    uint64_t read_bytes, read_sector_bytes; /* asked for; moved, counting what caches would save */
    uint64_t stream_sector_bytes;           /* of those, by loads that are marked as read once */
    uint64_t written_bytes, written_sector_bytes;
    uint64_t unique_read_bytes,
        unique_written_bytes; /* different sectors, in bytes: what memory must move */
    uint64_t shared_waves, shared_waves_ideal; /* equal when no bank conflict happened */
};

void emu_stats_begin(void);
struct emu_stats emu_stats_end(void);

/* Sanitizers of this build. */
bool emu_has_tsan(void);
bool emu_has_asan(void);

/* ---- For device_host.h: what a kernel's code calls --------------------------------------------------------- */

struct emu_index {
    unsigned x, y, z;
};

struct emu_thread { /* what a kernel may look at */
    struct emu_index thread, block, block_threads, grid_blocks;
    int lane, warp;
};

extern struct emu_thread *emu_current; /* the running CUDA thread; NULL on the host */

struct emu_launch {
    const char *kernel;
    struct emu_index grid, threads;
    size_t shared_bytes;
};

/* Run body(argument) once per CUDA thread of the grid. */
void emu_launch_body(const struct emu_launch *launch, void (*body)(const void *argument),
                     const void *argument);

/* A warp operation: runs once, when all lanes of the mask have arrived. */
typedef void (*emu_warp_op)(uint32_t mask, void **arguments); /* arguments[lane] */

struct emu_exchange { /* of shuffles and votes */
    uint64_t value, result;
    int source_lane;
};

void emu_op_shuffle(uint32_t mask, void **arguments);
void emu_op_ballot(uint32_t mask, void **arguments);
void emu_op_nothing(uint32_t mask, void **arguments);

/* `orders` whether memory accesses of the lanes are ordered by it (__syncwarp) or not (shuffles). */
void emu_warp(uint32_t mask, emu_warp_op op, void *argument, bool orders, const char *file,
              int line);
void emu_barrier(const char *file, int line); /* __syncthreads */
void emu_fence(void);                         /* __threadfence */

/* The block's own copy of a static shared variable, found by the address of `key`. */
void *emu_shared_static(const void *key, size_t bytes, size_t align);
void *emu_shared_dynamic(void);

enum emu_access {
    EMU_READ,
    EMU_READ_STREAM,
    EMU_WRITE
};

/* Check and count one thread's access; the access itself is the caller's. */
void emu_global(const void *at, size_t bytes, enum emu_access access, const char *file, int line);
void emu_shared(const void *at, size_t bytes, enum emu_access access, const char *file, int line);

void emu_copy_async(void *shared, const void *global, size_t bytes, const char *file, int line);
void emu_copy_commit(void);
void emu_copy_wait(int groups_left);

#ifdef __cplusplus
}
#endif
#endif
