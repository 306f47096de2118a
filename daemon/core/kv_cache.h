/*
 * kv_cache.h - the pool and the prefix index, kept in step.
 *
 * Idea     A block is findable exactly while it is sealed: the two structures change together here and
 *          nowhere else. Taking evicts what is oldest; sealing shares: when two requests computed the same
 *          block at the same time, the second one's copy is given back and the first one's takes its place.
 * Tails    The last block of a chain may be sealed partly filled. Nothing is ever appended to it: whoever goes on
 *          from it copies its leading rows into a block of its own. A tail that a sibling of its domain repeats
 *          is not kept besides.
 * Domains  A `root` says whose blocks may be used and in which domain new ones are sealed. What stands in a chain
 *          is readable by everybody in that domain; the reader's own private blocks are widened to it, from the
 *          first on, when they are found (README rules 12 to 14).
 * Owner    core.c; request.c, scheduler.c and hold.c call it.
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
    /* [retired_max] given up for an equal one, but named by the plan that is out: held until that is done */
    block_id *retired;
    uint32_t retired_count, retired_max;
};

/* kv_pool_take() for root->sealed_in, evicting as long as that helps. BLOCK_NONE: the model's share of the pool is all
 * held. */
block_id kv_cache_take(struct kv_cache *cache, const struct prefix_root *root, block_id parent);

/* The full block holding `ids` [count] after `parent`; the caller's reference to the parent (none for BLOCK_NONE)
 * becomes one to the block found, which is widened if need be. BLOCK_NONE: no such block, nothing changed. */
block_id kv_cache_match(struct kv_cache *cache, const struct prefix_root *root, block_id parent,
                        const uint32_t *ids, uint32_t count);

/* kv_cache_take(), with the rows of that child of `parent` copied into it whose ids have most in common with `ids`
 * [count]. out_rows: how many of them count, 1..count. BLOCK_NONE: no such child, or no block; nothing changed. */
block_id kv_cache_copy(struct kv_cache *cache, const struct prefix_root *root, block_id parent,
                       const uint32_t *ids, uint32_t count, uint32_t *out_rows);

/* All rows of `block` are written and hold `ids` [count]. `child` is the caller's next block, BLOCK_NONE if the
 * caller's own reference is to `block`. Returns the block to use from now on: `block`, now findable, or an
 * equal one that was there first; `block` is then free, or, where a plan that is out names it (`named`), retired. */
block_id kv_cache_seal(struct kv_cache *cache, const struct prefix_root *root, block_id block,
                       block_id child, const uint32_t *ids, uint32_t count, bool named);
/* No plan that is out names a retired block any more. */
void kv_cache_free_retired(struct kv_cache *cache);

/* The same for a block of which only the first `count` rows are written. The caller's reference to it ends: it is
 * cached, or free where a sibling holds the same. */
void kv_cache_seal_tail(struct kv_cache *cache, const struct prefix_root *root, block_id block,
                        const uint32_t *ids, uint32_t count);

/* What is cached of `ids` [count], in full blocks of block_tokens that may stand in the root's chain and then a last one
 * that `tail` allows. Returns how many ids, `out_last` the block that holds the last of them; BLOCK_NONE with 0. Changes
 * nothing. */
uint32_t kv_cache_longest(const struct kv_cache *cache, const struct prefix_root *root,
                          const uint32_t *ids, uint32_t count, uint32_t block_tokens,
                          enum prefix_use tail, block_id *out_last);

/* After a restart: `block` holds `ids` [count] after `parent`, which was adopted before (BLOCK_NONE: a first
 * block). Status as of kv_pool_adopt(); LLM_ERR_BUSY also when an equal block of its domain is there already. */
enum llm_status kv_cache_adopt(struct kv_cache *cache, const struct prefix_root *root,
                               block_id block, block_id parent, const uint32_t *ids, uint32_t count)
    LLM_MUST_CHECK;

/* "A block is in the index exactly when it is sealed, and both name the same parent, model and domain." */
enum llm_status kv_cache_sane(const struct kv_cache *cache, struct llm_error *error) LLM_MUST_CHECK;

#endif
