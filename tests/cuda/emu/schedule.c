/*
 * schedule.c - which CUDA thread runs next, from the start of a grid to its last thread's end.
 *
 * Threads are taken from a pool per resident slot, so that a fiber (a megabyte of ThreadSanitizer state) is made
 * once. A block's slot is filled again as soon as its last thread has returned.
 */
#include "tests/cuda/emu/sanitize.h"
#include "tests/cuda/emu/state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *const emu_policy_names[EMU_POLICY_COUNT] = {"forward", "reverse", "random", "leading"};

struct emu_thread *emu_current;
enum emu_policy emu_policy_now = EMU_LEADING;

static int resident_wanted = 4;
static uint64_t random_state = 0x9e3779b97f4a7c15;

static struct grid {
    const struct emu_launch *launch;
    void (*body)(const void *argument);
    const void *argument;
    uint32_t *order; /* blocks, as they will start */
    size_t block_count, started, finished;
    uint64_t begin_token, end_token;
} grid;

static struct emu_fiber host;
static struct block *slots[RESIDENT_BLOCKS_MAX];
static struct thread *pool[RESIDENT_BLOCKS_MAX][BLOCK_THREADS_MAX];
static uint64_t ready_warps[RESIDENT_BLOCKS_MAX * BLOCK_WARPS_MAX / 64];

/* Marsaglia 2003, xorshift64. */
uint32_t emu_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

bool emu_policy_is_random(void)
{
    return emu_policy_now >= EMU_RANDOM;
}

void emu_schedule(enum emu_policy policy, uint64_t seed, int resident_blocks)
{
    emu_policy_now = policy;
    random_state = (0x9e3779b97f4a7c15 * (seed + 1)) | 1;
    for (int i = 0; i < 8; i++)
        emu_random();
    resident_wanted = resident_blocks < 1                     ? 1
                      : resident_blocks > RESIDENT_BLOCKS_MAX ? RESIDENT_BLOCKS_MAX
                                                              : resident_blocks;
}

/* ---- Sentences --------------------------------------------------------------------------------------------- */

/* At once, past the sanitizers' own last words, which would change the status. */
void emu_exit(int status)
{
    fflush(stderr);
    syscall(SYS_exit_group, status);
    abort();
}

void emu_say_where(void)
{
    const struct emu_thread *t = emu_current;
    if (t)
        fprintf(stderr, "  in %s, block (%u,%u,%u), thread %u (warp %d, lane %d), schedule %s\n",
                grid.launch->kernel, t->block.x, t->block.y, t->block.z, t->thread.x, t->warp,
                t->lane, emu_policy_names[emu_policy_now]);
}

void emu_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fputs("emulator: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    emu_say_where();
    emu_exit(99);
}

static _Noreturn void deadlock(void)
{
    int told = 0;
    fflush(stdout);
    fprintf(stderr, "emulator: deadlock in %s: no thread can run\n", grid.launch->kernel);
    for (int s = 0; s < RESIDENT_BLOCKS_MAX; s++) {
        for (int i = 0; slots[s] && slots[s]->active && i < slots[s]->thread_count; i++) {
            const struct thread *t = slots[s]->threads[i];
            if (!t->done && told++ < 12)
                fprintf(stderr, "  block (%u,%u,%u) thread %d waits in %s at %s:%d\n",
                        t->seen.block.x, t->seen.block.y, t->seen.block.z, i, t->waits_for,
                        t->waits_at.file, t->waits_at.line);
        }
    }
    if (told > 12)
        fprintf(stderr, "  and %d more\n", told - 12);
    emu_exit(97);
}

/* ---- Who is next ------------------------------------------------------------------------------------------- */

static struct warp *warp_at(int index)
{
    return &slots[index / BLOCK_WARPS_MAX]->warps[index % BLOCK_WARPS_MAX];
}

void emu_make_ready(struct warp *warp, uint32_t lanes)
{
    warp->ready |= lanes;
    ready_warps[warp->index / 64] |= (uint64_t)1 << (warp->index % 64);
}

enum {
    READY_WORDS = sizeof ready_warps / sizeof ready_warps[0]
};

static int first_ready(void)
{
    for (int i = 0; i < READY_WORDS; i++)
        if (ready_warps[i])
            return 64 * i + __builtin_ctzll(ready_warps[i]);
    return -1;
}

static int last_ready(void)
{
    for (int i = READY_WORDS - 1; i >= 0; i--)
        if (ready_warps[i])
            return 64 * i + 63 - __builtin_clzll(ready_warps[i]);
    return -1;
}

static int any_ready(void)
{
    uint32_t start = emu_random() % (64 * READY_WORDS);
    for (uint32_t k = 0; k <= READY_WORDS; k++) {
        uint32_t i = (start / 64 + k) % READY_WORDS;
        uint64_t set = ready_warps[i] & (k == 0 ? ~(uint64_t)0 << (start % 64) : ~(uint64_t)0);
        if (set)
            return (int)(64 * i) + __builtin_ctzll(set);
    }
    return -1;
}

static int leading_ready(void)
{
    int best = -1;
    for (int i = 0; i < READY_WORDS; i++)
        for (uint64_t set = ready_warps[i]; set; set &= set - 1) {
            int index = 64 * i + __builtin_ctzll(set);
            if (best < 0 || warp_at(index)->priority > warp_at(best)->priority)
                best = index;
        }
    if (best >= 0 && emu_random() % 64 == 0)
        warp_at(best)->priority = emu_random();
    return best;
}

static int pick_lane(uint32_t ready)
{
    if (emu_policy_now == EMU_FORWARD)
        return __builtin_ctz(ready);
    if (emu_policy_now == EMU_REVERSE)
        return 31 - __builtin_clz(ready);
    uint32_t above = ready & (~(uint32_t)0 << (emu_random() % WARP_LANES));
    return __builtin_ctz(above ? above : ready);
}

static struct thread *pick(void)
{
    int index = emu_policy_now == EMU_FORWARD   ? first_ready()
                : emu_policy_now == EMU_REVERSE ? last_ready()
                : emu_policy_now == EMU_RANDOM  ? any_ready()
                                                : leading_ready();
    if (index < 0)
        return NULL;
    struct warp *warp = warp_at(index);
    int lane = pick_lane(warp->ready);
    warp->ready &= ~((uint32_t)1 << lane);
    if (!warp->ready)
        ready_warps[index / 64] &= ~((uint64_t)1 << (index % 64));
    return warp->lanes[lane];
}

/* The running thread, or the host, gives way; with nobody left to run, to the host. */
static void give_way(void)
{
    struct thread *me = emu_self(), *next = pick();
    if (me == next)
        return;
    emu_current = next ? &next->seen : NULL;
    emu_fiber_switch(me ? &me->fiber : &host, next ? &next->fiber : &host);
    emu_current = me ? &me->seen : NULL;
}

void emu_wait(const char *what, struct site site)
{
    struct thread *me = emu_self();
    me->waits_for = what;
    me->waits_at = site;
    give_way();
}

/* ---- Blocks ------------------------------------------------------------------------------------------------ */

static void block_start(int slot);

static void thread_end(struct thread *t)
{
    emu_quiet_begin();
    struct block *block = t->block;
    uint32_t bit = (uint32_t)1 << t->seen.lane;
    emu_copies_at_exit(t);
    emu_release(&grid.end_token);
    t->done = true;
    t->warp->live &= ~bit;
    block->live_count--;
    for (int i = 0; i < MEETINGS_MAX; i++) {
        const struct meeting *m = &t->warp->meetings[i];
        if (m->arrived && (m->mask & bit))
            emu_die("a lane returns while lanes %08x wait for it at %s:%d", m->arrived,
                    m->site.file, m->site.line);
    }
    emu_barrier_after_exit(block);
    if (block->live_count == 0) {
        if (emu_stats_on)
            emu_stats_of_block(block);
        emu_shared_close(block);
        block->active = false;
        grid.finished++;
        if (grid.started < grid.block_count)
            block_start(block->slot);
    }
    emu_quiet_end();
}

static void thread_main(void)
{
    emu_fiber_entered();
    for (;;) {
        struct thread *me = emu_self();
        emu_acquire(&grid.begin_token);
        grid.body(grid.argument);
        thread_end(me);
        give_way();
    }
}

static struct thread *thread_new(void)
{
    struct thread *t = calloc(1, sizeof *t);
    if (!t)
        emu_die("no memory for CUDA threads");
    emu_fiber_open(&t->fiber, thread_main);
    return t;
}

static struct emu_index unflatten(uint32_t i, struct emu_index size)
{
    return (struct emu_index){i % size.x, i / size.x % size.y, i / (size.x * size.y)};
}

static void warp_start(struct block *block, int w, uint32_t block_number)
{
    struct warp *warp = &block->warps[w];
    int lanes = block->thread_count - WARP_LANES * w;
    memset(warp, 0, sizeof *warp);
    warp->all = lanes >= WARP_LANES ? ~(uint32_t)0 : ((uint32_t)1 << lanes) - 1;
    warp->live = warp->all;
    warp->index = block->slot * BLOCK_WARPS_MAX + w;
    warp->priority = emu_random();
    for (int i = 0; i < WARP_LANES && i < lanes; i++) {
        uint32_t number = (uint32_t)(WARP_LANES * w + i);
        struct thread *t = pool[block->slot][number];
        t->seen = (struct emu_thread){.thread = unflatten(number, grid.launch->threads),
                                      .block = unflatten(block_number, grid.launch->grid),
                                      .block_threads = grid.launch->threads,
                                      .grid_blocks = grid.launch->grid,
                                      .lane = i,
                                      .warp = w};
        t->warp = warp;
        t->block = block;
        t->done = false;
        t->copy_group = 0;
        t->waits_for = "its start";
        warp->lanes[i] = block->threads[number] = t;
    }
    emu_make_ready(warp, warp->live);
}

static void block_start(int slot)
{
    uint32_t number = grid.order[grid.started++];
    struct block *block = slots[slot];
    if (!block)
        block = slots[slot] = calloc(1, sizeof *block);
    if (!block)
        emu_die("no memory for a block");
    const struct emu_index *threads = &grid.launch->threads;
    block->slot = slot;
    block->thread_count = (int)(threads->x * threads->y * threads->z);
    block->live_count = block->thread_count;
    block->warp_count = (block->thread_count + WARP_LANES - 1) / WARP_LANES;
    block->waiting_count = 0;
    block->active = true;
    for (int i = 0; i < block->thread_count; i++)
        if (!pool[slot][i])
            pool[slot][i] = thread_new();
    /* ThreadSanitizer knows fibers, not CUDA threads: deal them out anew, or what thread i of one block wrote
     * would look ordered before what thread i of the next block reads. */
    for (int i = block->thread_count - 1; emu_has_tsan() && i > 0; i--) {
        uint32_t j = emu_random() % (uint32_t)(i + 1);
        struct thread *swap = pool[slot][i];
        pool[slot][i] = pool[slot][j];
        pool[slot][j] = swap;
    }
    emu_shared_open(block, grid.launch->shared_bytes);
    for (int w = 0; w < block->warp_count; w++)
        warp_start(block, w, number);
}

/* ---- Grids ------------------------------------------------------------------------------------------------- */

static void check_launch(const struct emu_launch *launch)
{
    const struct emu_index *g = &launch->grid, *t = &launch->threads;
    if (!g->x || !g->y || !g->z || g->x > INT32_MAX || g->y > 65535 || g->z > 65535)
        emu_die("%s: a grid of (%u,%u,%u) blocks", launch->kernel, g->x, g->y, g->z);
    if (!t->x || !t->y || !t->z || t->x > 1024 || t->y > 1024 || t->z > 64 ||
        t->x * t->y * t->z > BLOCK_THREADS_MAX)
        emu_die("%s: a block of (%u,%u,%u) threads", launch->kernel, t->x, t->y, t->z);
    if (launch->shared_bytes > SHARED_BYTES_MAX)
        emu_die("%s: %zu bytes of dynamic shared memory, %d are the limit", launch->kernel,
                launch->shared_bytes, SHARED_BYTES_MAX);
}

static void order_blocks(void)
{
    uint32_t count = (uint32_t)grid.block_count;
    grid.order = malloc(count * sizeof *grid.order);
    if (!grid.order)
        emu_die("no memory for the order of %u blocks", count);
    for (uint32_t i = 0; i < count; i++)
        grid.order[i] = emu_policy_now == EMU_REVERSE ? count - 1 - i : i;
    for (uint32_t i = count; emu_policy_is_random() && i > 1; i--) {
        uint32_t j = emu_random() % i, swap = grid.order[i - 1];
        grid.order[i - 1] = grid.order[j];
        grid.order[j] = swap;
    }
}

void emu_launch_body(const struct emu_launch *launch, void (*body)(const void *argument),
                     const void *argument)
{
    check_launch(launch);
    emu_memory_guard();
    emu_quiet_begin();
    memset(&grid, 0, sizeof grid);
    grid.launch = launch;
    grid.body = body;
    grid.argument = argument;
    grid.block_count = (size_t)launch->grid.x * launch->grid.y * launch->grid.z;
    order_blocks();
    emu_copies_at_launch();
    emu_fiber_adopt(&host);
    emu_release(&grid.begin_token);
    for (int s = 0; s < resident_wanted && grid.started < grid.block_count; s++)
        block_start(s);
    emu_quiet_end();
    give_way();
    if (grid.finished != grid.block_count)
        deadlock();
    emu_acquire(&grid.end_token);
    free(grid.order);
}
