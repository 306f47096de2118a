/*
 * state.h - what the emulator's files share: CUDA threads, warps, blocks, the running grid.
 *
 * Owner    schedule.c owns every structure here; the other files read them and change what their name says.
 */
#ifndef LLM_TESTS_CUDA_EMU_STATE_H
#define LLM_TESTS_CUDA_EMU_STATE_H

#include "tests/cuda/emu/emu.h"
#include "tests/cuda/emu/fiber.h"

enum {
    WARP_LANES = 32,
    BLOCK_THREADS_MAX = 1024,
    BLOCK_WARPS_MAX = BLOCK_THREADS_MAX / WARP_LANES,
    RESIDENT_BLOCKS_MAX = 16,
    MEETINGS_MAX = 8,
    STATICS_MAX = 16,
    SHARED_BYTES_MAX = 227 * 1024 /* of a block on compute capability 9.0 */
};

struct site { /* a place in a kernel's source */
    const char *file;
    int line;
};

struct pending { /* one cp.async that has not been waited for */
    void *to;
    const void *from;
    size_t bytes;
    int group;
    bool done; /* the schedule let it happen early */
    struct site site;
};

struct note { /* one access, for the statistics */
    uintptr_t at;
    uint32_t bytes;
    enum emu_access access;
    bool shared;
    struct site site;
};

struct thread {
    struct emu_thread seen; /* first: emu_current points here */
    struct emu_fiber fiber;
    struct warp *warp;
    struct block *block;
    struct site waits_at;
    const char *waits_for;
    bool done;
    struct pending *pending;
    size_t pending_count, pending_capacity;
    int copy_group;
    struct note *notes;
    size_t note_count, note_capacity;
};

struct meeting { /* lanes on their way into one warp operation */
    uint32_t mask, arrived;
    emu_warp_op op;
    struct site site;
    unsigned generation;
    void *arguments[WARP_LANES];
    uint64_t tokens[2]; /* what __syncwarp orders, by generation */
};

struct warp {
    uint32_t all, live, ready; /* lanes that exist, have not returned, could run */
    uint32_t priority;
    int index; /* in the bit set of ready warps */
    struct meeting meetings[MEETINGS_MAX];
    struct thread *lanes[WARP_LANES];
};

struct shared_static {
    const void *key;
    void *memory;
};

struct block {
    int slot, thread_count, live_count, warp_count;
    bool active;
    struct warp warps[BLOCK_WARPS_MAX];
    struct thread *threads[BLOCK_THREADS_MAX];
    struct thread *waiting[BLOCK_THREADS_MAX]; /* at __syncthreads */
    int waiting_count;
    unsigned barrier_generation;
    struct site barrier_site; /* where they wait */
    uint64_t barrier_tokens[2];
    void *dynamic;
    size_t dynamic_bytes;
    struct shared_static statics[STATICS_MAX];
    int static_count;
};

/* schedule.c */
extern enum emu_policy emu_policy_now;
static inline struct thread *emu_self(void)
{
    return (struct thread *)(void *)emu_current;
}
uint32_t emu_random(void);
bool emu_policy_is_random(void);
void emu_make_ready(struct warp *warp, uint32_t lanes);
void emu_wait(const char *what, struct site site); /* until somebody makes this lane ready */
_Noreturn void emu_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void emu_exit(int status);
void emu_say_where(void); /* the running thread, on stderr */

/* warp.c */
void emu_barrier_after_exit(struct block *block);

/* memory.c */
void emu_memory_guard(void); /* a fault on a guard page becomes a sentence */
void emu_shared_open(struct block *block, size_t dynamic_bytes);
void emu_shared_close(struct block *block);
void emu_check_access(const void *at, size_t bytes, const char *what, bool shared,
                      struct site site);
void *emu_grow(void *items, size_t count, size_t *capacity, size_t item_bytes);

/* copy.c */
void emu_copies_at_launch(void);
void emu_copies_at_exit(struct thread *thread);

/* stats.c */
extern bool emu_stats_on;
void emu_note(const void *at, size_t bytes, enum emu_access access, bool shared, struct site site);
void emu_stats_of_block(struct block *block);

#endif
