/*
 * warp.c - operations of a warp's lanes together, and the barrier of a block.
 *
 * Lanes meet: the first to arrive opens a meeting for its mask, the last one carries the operation out and makes
 * the others ready. Lanes of one warp in disjoint masks may hold several meetings at once.
 */
#include "tests/cuda/emu/sanitize.h"
#include "tests/cuda/emu/state.h"

#include <string.h>

static struct meeting *meeting_find(struct warp *warp, uint32_t mask, emu_warp_op op,
                                    struct site site)
{
    struct meeting *empty = NULL;
    for (struct meeting *m = warp->meetings; m < warp->meetings + MEETINGS_MAX; m++) {
        if (!m->arrived) {
            empty = empty ? empty : m;
        } else if (m->mask & mask) {
            if (m->mask != mask)
                emu_die("%s:%d: mask %08x overlaps mask %08x, which waits at %s:%d", site.file,
                        site.line, mask, m->mask, m->site.file, m->site.line);
            if (m->op != op)
                emu_die("lanes of one warp at different operations: %s:%d and %s:%d", site.file,
                        site.line, m->site.file, m->site.line);
            return m;
        }
    }
    if (!empty)
        emu_die("%s:%d: more than %d partial warp operations at once", site.file, site.line,
                MEETINGS_MAX);
    empty->mask = mask;
    empty->op = op;
    empty->site = site;
    return empty;
}

void emu_warp(uint32_t mask, emu_warp_op op, void *argument, bool orders, const char *file,
              int line)
{
    emu_quiet_begin();
    struct thread *me = emu_self();
    struct warp *warp = me->warp;
    struct site site = {file, line};
    uint32_t bit = (uint32_t)1 << me->seen.lane;
    if (!(mask & bit))
        emu_die("%s:%d: mask %08x lacks the calling lane", file, line, mask);
    mask &= warp->all; /* a last warp may be short */
    if (mask & ~warp->live)
        emu_die("%s:%d: mask %08x names lanes that have returned (live: %08x)", file, line, mask,
                warp->live);
    struct meeting *m = meeting_find(warp, mask, op, site);
    m->arguments[me->seen.lane] = argument;
    m->arrived |= bit;
    uint64_t *token = &m->tokens[m->generation & 1];
    if (orders)
        emu_release(token);
    if (m->arrived == mask) {
        op(mask, m->arguments);
        m->arrived = 0;
        m->generation++;
        emu_make_ready(warp, mask & ~bit);
        if (emu_policy_is_random() && emu_random() % 4 == 0) { /* the last one need not go first */
            emu_make_ready(warp, bit);
            emu_wait("a warp operation", site);
        }
    } else {
        emu_wait("a warp operation", site);
    }
    if (orders)
        emu_acquire(token);
    emu_quiet_end();
}

void emu_op_nothing(uint32_t mask, void **arguments)
{
    (void)mask;
    (void)arguments;
}

void emu_op_shuffle(uint32_t mask, void **arguments)
{
    for (uint32_t lanes = mask; lanes; lanes &= lanes - 1) {
        struct emu_exchange *mine = arguments[__builtin_ctz(lanes)];
        int from = mine->source_lane;
        /* A lane outside the mask gives an undefined value: all ones is NaN in every format. */
        mine->result =
            mask >> from & 1 ? ((struct emu_exchange *)arguments[from])->value : ~(uint64_t)0;
    }
}

void emu_op_ballot(uint32_t mask, void **arguments)
{
    uint32_t votes = 0;
    for (uint32_t lanes = mask; lanes; lanes &= lanes - 1)
        if (((struct emu_exchange *)arguments[__builtin_ctz(lanes)])->value)
            votes |= lanes & -lanes;
    for (uint32_t lanes = mask; lanes; lanes &= lanes - 1)
        ((struct emu_exchange *)arguments[__builtin_ctz(lanes)])->result = votes;
}

/* ---- __syncthreads ----------------------------------------------------------------------------------------- */

static void barrier_open(struct block *block)
{
    for (int i = 0; i < block->waiting_count; i++)
        emu_make_ready(block->waiting[i]->warp, (uint32_t)1 << block->waiting[i]->seen.lane);
    block->waiting_count = 0;
    block->barrier_generation++;
}

/* Threads that returned no longer count. */
void emu_barrier_after_exit(struct block *block)
{
    if (block->waiting_count && block->waiting_count == block->live_count)
        barrier_open(block);
}

/* __syncthreads in a branch is defined only where all threads of the block take it: one call site at a time. */
void emu_barrier(const char *file, int line)
{
    emu_quiet_begin();
    struct thread *me = emu_self();
    struct block *block = me->block;
    struct site site = {file, line};
    if (block->waiting_count == 0)
        block->barrier_site = site;
    else if (block->barrier_site.line != line || strcmp(block->barrier_site.file, file) != 0)
        emu_die("threads of one block at different __syncthreads: %s:%d and %s:%d", file, line,
                block->barrier_site.file, block->barrier_site.line);
    uint64_t *token = &block->barrier_tokens[block->barrier_generation & 1];
    emu_release(token);
    block->waiting[block->waiting_count++] = me;
    if (block->waiting_count == block->live_count)
        barrier_open(block);
    emu_wait("__syncthreads", site);
    emu_acquire(token);
    emu_quiet_end();
}

void emu_fence(void)
{
    static uint64_t order; /* one global order of fences: may hide a race, never invents one */
    emu_release(&order);
    emu_acquire(&order);
}
