/*
 * kv_pool.h - who uses which block of the KV pool.
 *
 * Idea     The pool is made of slabs; a slab belongs to one model, or to nobody, and holds whole blocks of
 *          that model. Each block of an owned slab is in exactly one state:
 *
 *              free    nobody needs it            --take-->   held
 *              held    references > 0             --drop-->   cached if sealed, else free
 *              cached  sealed, references == 0    --hold-->   held      --evict-->  free
 *
 *          (A fourth, in transit, comes with host and disk tiers.) Blocks form chains: a block names its
 *          parent, the block before it. A held block owns one reference to its parent, so whoever holds
 *          the last block of a chain holds all of it with a single reference: a fork costs one increment.
 *
 *              request A --> [a2] \
 *                                   > [p1] --> [p0]     p1: 2 references (a2, b2), p0: 1 (p1)
 *              request B --> [b2] /
 *
 *          A pin is a reference that outlives requests (core_hold); pins are counted besides, block by block
 *          up the chain, so that it is known what is left for requests while the pins stay.
 * Content  A block remembers whose rows its memory may hold. Taken for anybody else, it is to be zeroed: so says
 *          the value of its effect TAKEN.
 * Eviction A chain is released from its end: a child becomes cached before its parent, and kv_order.h keeps it
 *          before its parent. What was found again after its first use stays longer than what was not.
 * Owner    core.c; kv_cache.c is the only caller. Effects TAKEN and FREED are appended here.
 * Threads  The engine thread.
 * See      README.md (rules 1 to 5), kv_cache.h, tests/daemon/test_kv_pool.c.
 */
#ifndef LLMD_CORE_KV_POOL_H
#define LLMD_CORE_KV_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/arena.h"
#include "daemon/core/effect.h"
#include "daemon/core/kv_order.h"
#include "shm/status.h"

#define KV_MODELS_MAX     8u
#define KV_MODEL_NONE     UINT8_MAX
#define KV_DOMAIN_UNKNOWN UINT64_MAX

enum kv_state {
    KV_FREE = 0,
    KV_HELD = 1,
    KV_CACHED = 2
};

struct kv_block {
    uint64_t domain;     /* for whom it was last taken, or widened to; KV_DOMAIN_UNKNOWN */
    uint32_t references; /* holders outside, plus one for every held child */
    uint32_t pins;       /* of those, pins, plus one for every pinned child */
    block_id parent;     /* BLOCK_NONE: first of its chain; meaningful unless free */
    block_id prev, next; /* in its model's free list or in a list of cached blocks */
    uint8_t state;       /* enum kv_state */
    bool sealed;         /* computed and findable: worth keeping without a holder */
    bool mixed;          /* its memory may hold rows of other domains than `domain` */
    bool
        reused; /* held by a second one since it was taken, or since kv_order.c forgot; then so is its parent */
};

struct kv_slab {
    uint32_t held_blocks;
    uint32_t cached_blocks;
    uint32_t pinned_blocks;
    uint8_t model;      /* KV_MODEL_NONE: owned by nobody, its blocks are in no list */
    uint8_t last_model; /* whose rows its memory may hold */
};

struct kv_model {
    uint32_t slab_blocks; /* whole blocks of this model in one slab; constant after open */
    struct kv_list free;
    uint32_t free_blocks; /* in owned slabs */
    uint32_t held_blocks;
    uint32_t cached_blocks;
    uint32_t slabs;      /* owned */
    uint32_t idle_slabs; /* of those, without a held block: eviction alone can empty them */
    uint32_t pinned_blocks;
    uint32_t pinned_slabs; /* with a pinned block */
};

struct kv_pool {
    struct kv_block *blocks; /* [slab_count * slab_blocks_max], slab by slab */
    struct kv_slab *slabs;   /* [slab_count] */
    uint32_t *unowned;       /* [slab_count] a stack of slabs that belong to nobody */
    uint32_t *marks;         /* [blocks] scratch of kv_pool_sane() */
    struct kv_order cached;  /* all models */
    struct kv_model models[KV_MODELS_MAX];
    struct effect_list *effects;
    uint32_t unowned_count;
    uint32_t slab_count;
    uint32_t slab_blocks_max;
    uint32_t model_count;
    uint64_t evictions;
};

/* What the engine shows: total = free + held + cached, where free counts the slabs nobody owns as well. */
struct kv_counts {
    uint32_t total, free, held, cached;
};

/* slab_blocks [model_count]: whole blocks in a slab, each at least 1; model_count 1..KV_MODELS_MAX. slab_blocks_max: how
 * blocks are numbered, block = slab * slab_blocks_max + index; the largest of slab_blocks where that is more. */
void kv_pool_init(struct kv_pool *pool, struct arena *arena, struct effect_list *effects,
                  uint32_t slab_count, const uint32_t *slab_blocks, uint32_t model_count,
                  uint32_t slab_blocks_max);

/* Take a free block as the child of `parent` (BLOCK_NONE: the first of a chain), for `domain`. The caller's
 * reference to the parent becomes the new block's; the caller has one to the new block instead. BLOCK_NONE when
 * the model has no free block and nobody's slab is left: evict and ask again. */
block_id kv_pool_take(struct kv_pool *pool, uint32_t model, block_id parent, uint64_t domain);
/* One more reference to a held or cached block; its ancestors become held with it. */
void kv_pool_hold(struct kv_pool *pool, block_id block);
/* Give one reference back. The last one decides: sealed blocks become cached, others free, and the
 * reference to the parent goes with it. BLOCK_NONE is accepted. */
void kv_pool_drop(struct kv_pool *pool, block_id block);
/* Free the caller's unsealed blocks from `last` up the chain, as far as `to`, which is the caller's last from then on. */
void kv_pool_trim(struct kv_pool *pool, block_id last, block_id to);
/* The block is computed and findable from now on; its parent must be sealed already. */
void kv_pool_seal(struct kv_pool *pool, block_id block);
/* Rows of another domain were copied into it. */
void kv_pool_mix(struct kv_pool *pool, block_id block);
/* All its rows are `domain`'s from now on; with `!whole`, only the leading ones are known to be. */
void kv_pool_widen(struct kv_pool *pool, block_id block, uint64_t domain, bool whole);
/* `child` (or, with BLOCK_NONE, the caller's own reference) moves from `from` to `to`, a block with the same
 * content; `from` is dropped. */
void kv_pool_swap(struct kv_pool *pool, block_id from, block_id to, block_id child);
/* The same, but the reference to `from` stays, and is the caller's to drop. */
void kv_pool_stand_in(struct kv_pool *pool, block_id from, block_id to, block_id child);
/* The cached block to evict next, as kv_order.h says; it has no child. BLOCK_NONE: none is cached. */
block_id kv_pool_oldest(const struct kv_pool *pool);
/* Cached to free. The caller has taken the block out of the prefix index; it must be kv_pool_oldest(). */
void kv_pool_evict(struct kv_pool *pool, block_id block);
/* Cached to free, out of turn. The caller has taken the block, which has no child, out of the prefix index. */
void kv_pool_discard(struct kv_pool *pool, block_id block);
/* A reference to a sealed block that is counted as a pin, and giving it back. */
void kv_pool_pin(struct kv_pool *pool, block_id block);
void kv_pool_unpin(struct kv_pool *pool, block_id block);
/* After a restart: an untouched block becomes cached, as the oldest. Its parent was adopted before.
 * LLM_ERR_INVALID: no such block of that model, or its slab belongs to another; LLM_ERR_BUSY: it is in use. */
enum llm_status kv_pool_adopt(struct kv_pool *pool, uint32_t model, block_id block, block_id parent)
    LLM_MUST_CHECK;

/* How many blocks the model could take if everything that is cached were evicted. */
uint32_t kv_pool_available(const struct kv_pool *pool, uint32_t model);
/* How many it could ever have. */
uint32_t kv_pool_capacity(const struct kv_pool *pool, uint32_t model);
/* How many of those it could have besides the pinned ones, while the pins stay. */
uint32_t kv_pool_unpinned(const struct kv_pool *pool, uint32_t model);
struct kv_counts kv_pool_counts(const struct kv_pool *pool, uint32_t model);
uint32_t kv_pool_blocks(const struct kv_pool *pool);
uint32_t kv_pool_model_of(const struct kv_pool *pool, block_id block); /* KV_MODEL_NONE: unowned */

/* "Every block of an owned slab is free, held or cached, and in exactly one of them; a held block's parent
 * is held, a pinned block's pinned, a reused block's reused; a cached block is evicted before its parent; the counts are
 * those of a walk." */
enum llm_status kv_pool_sane(const struct kv_pool *pool, struct llm_error *error) LLM_MUST_CHECK;

#endif
