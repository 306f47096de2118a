/*
 * kv_cache.h - the pool and the prefix index, kept in step.
 *
 * Idea     A block is findable exactly while it is sealed: the two structures change together here and
 *          nowhere else. Taking evicts what is oldest; sealing shares: when two requests computed the same
 *          block at the same time, the second one's copy is given back and the first one's takes its place.
 * Owner    core.c; request.c and scheduler.c call it.
 * Threads  The engine thread.
 * See      kv_pool.h, prefix_index.h, README.md ("Life of a block").
 */
#ifndef LLMD_CORE_KV_CACHE_H
#define LLMD_CORE_KV_CACHE_H

#include "daemon/core/kv_pool.h"
#include "daemon/core/prefix_index.h"

struct kv_cache {
    struct kv_pool pool;
    struct prefix_index index;
    struct effect_list *effects;
};

/* kv_pool_take(), evicting as long as that helps. BLOCK_NONE: the model's share of the pool is all held. */
block_id kv_cache_take(struct kv_cache *cache, uint32_t model, block_id parent);

/* The block holding `ids` [count] after `parent`; the caller's reference to the parent (none for BLOCK_NONE)
 * becomes one to the block found. BLOCK_NONE: no such block, nothing changed. */
block_id kv_cache_match(struct kv_cache *cache, const struct prefix_root *root, block_id parent,
                        const uint32_t *ids, uint32_t count);

/* All rows of `block` are written and hold `ids` [count]. `child` is the caller's next block, BLOCK_NONE if the
 * caller's own reference is to `block`. Returns the block to use from now on: `block`, now findable, or an
 * equal one that was there first; `block` is then free. */
block_id kv_cache_seal(struct kv_cache *cache, const struct prefix_root *root, block_id block,
                       block_id child, const uint32_t *ids, uint32_t count);

/* After a restart: `block` holds `ids` [count] after `parent`, which was adopted before (BLOCK_NONE: a first
 * block). Status as of kv_pool_adopt(); LLM_ERR_BUSY also when an equal block is there already. */
enum llm_status kv_cache_adopt(struct kv_cache *cache, const struct prefix_root *root,
                               block_id block, block_id parent, const uint32_t *ids, uint32_t count)
    LLM_MUST_CHECK;

/* "A block is in the index exactly when it is sealed, and both name the same parent and model." */
enum llm_status kv_cache_sane(const struct kv_cache *cache, struct llm_error *error) LLM_MUST_CHECK;

#endif
