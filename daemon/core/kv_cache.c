#include "daemon/core/kv_cache.h"

#include "shm/check.h"

block_id kv_cache_take(struct kv_cache *cache, uint32_t model, block_id parent)
{
    if (kv_pool_available(&cache->pool, model) == 0)
        return BLOCK_NONE; /* evicting would empty the cache and gain nothing */
    for (;;) {
        block_id block = kv_pool_take(&cache->pool, model, parent);
        if (block != BLOCK_NONE)
            return block;
        block_id victim = kv_pool_oldest(&cache->pool);
        prefix_index_remove(&cache->index, victim);
        kv_pool_evict(&cache->pool, victim);
    }
}

block_id kv_cache_match(struct kv_cache *cache, const struct prefix_root *root, block_id parent,
                        const uint32_t *ids, uint32_t count)
{
    block_id block = prefix_index_find(&cache->index, root, parent, ids, count);
    if (block == BLOCK_NONE)
        return BLOCK_NONE;
    kv_pool_hold(&cache->pool, block);
    kv_pool_drop(&cache->pool, parent); /* now held through its child */
    return block;
}

block_id kv_cache_seal(struct kv_cache *cache, const struct prefix_root *root, block_id block,
                       block_id child, const uint32_t *ids, uint32_t count)
{
    block_id parent = cache->pool.blocks[block].parent;
    block_id first = prefix_index_find(&cache->index, root, parent, ids, count);
    if (first != BLOCK_NONE) {
        kv_pool_swap(&cache->pool, block, first, child);
        return first;
    }
    kv_pool_seal(&cache->pool, block);
    prefix_index_insert(&cache->index, root, block, parent, ids, count);
    effect_block(cache->effects, CORE_BLOCK_SEALED, block);
    return block;
}

enum llm_status kv_cache_adopt(struct kv_cache *cache, const struct prefix_root *root,
                               block_id block, block_id parent, const uint32_t *ids, uint32_t count)
{
    if (prefix_index_find(&cache->index, root, parent, ids, count) != BLOCK_NONE)
        return LLM_ERR_BUSY;
    enum llm_status status = kv_pool_adopt(&cache->pool, root->model, block, parent);
    if (status == LLM_OK)
        prefix_index_insert(&cache->index, root, block, parent, ids, count);
    return status;
}

enum llm_status kv_cache_sane(const struct kv_cache *cache, struct llm_error *error)
{
    enum llm_status status = kv_pool_sane(&cache->pool, error);
    if (status == LLM_OK)
        status = prefix_index_sane(&cache->index, error);
    if (status != LLM_OK)
        return status;
    for (block_id block = 0; block < kv_pool_blocks(&cache->pool); block++) {
        const struct kv_block *b = &cache->pool.blocks[block];
        if (b->sealed != prefix_index_has(&cache->index, block))
            return llm_fail(
                error, LLM_ERR_CORRUPT, "kv cache: block %u is %s but %s in the prefix index",
                block, b->sealed ? "sealed" : "not sealed", b->sealed ? "not" : "nevertheless");
        if (b->sealed && (prefix_index_entry(&cache->index, block)->parent != b->parent ||
                          prefix_index_entry(&cache->index, block)->model !=
                              kv_pool_model_of(&cache->pool, block)))
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "kv cache: pool and prefix index disagree about the parent or model of "
                            "block %u",
                            block);
    }
    return LLM_OK;
}
