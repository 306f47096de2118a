#include "daemon/core/kv_cache.h"

#include <string.h>

#include "shm/check.h"

block_id kv_cache_take(struct kv_cache *cache, const struct prefix_root *root, block_id parent)
{
    if (kv_pool_available(&cache->pool, root->model) == 0)
        return BLOCK_NONE; /* evicting would empty the cache and gain nothing */
    for (;;) {
        block_id block = kv_pool_take(&cache->pool, root->model, parent, root->sealed_in);
        if (block != BLOCK_NONE)
            return block;
        block_id victim = kv_pool_oldest(&cache->pool);
        prefix_index_remove(&cache->index, victim);
        kv_pool_evict(&cache->pool, victim);
    }
}

/* The block is about to stand in a chain that is sealed in root->sealed_in; its parent does already. */
static void widen(struct kv_cache *cache, const struct prefix_root *root, block_id block,
                  bool whole)
{
    if (prefix_use_of(root, prefix_index_entry(&cache->index, block)->domain) != PREFIX_WIDEN)
        return;
    prefix_index_widen(&cache->index, block, root->sealed_in);
    kv_pool_widen(&cache->pool, block, root->sealed_in, whole);
    effect_domain(cache->effects, CORE_BLOCK_WIDENED, block, root->sealed_in);
}

block_id kv_cache_match(struct kv_cache *cache, const struct prefix_root *root, block_id parent,
                        const uint32_t *ids, uint32_t count)
{
    block_id block = prefix_index_find(&cache->index, root, parent, ids, count, PREFIX_WIDEN);
    if (block == BLOCK_NONE)
        return BLOCK_NONE;
    widen(cache, root, block, true);
    kv_pool_hold(&cache->pool, block);
    kv_pool_drop(&cache->pool, parent); /* now held through its child */
    return block;
}

block_id kv_cache_copy(struct kv_cache *cache, const struct prefix_root *root, block_id parent,
                       const uint32_t *ids, uint32_t count, uint32_t *out_rows)
{
    uint32_t rows = 0;
    block_id source =
        prefix_index_closest(&cache->index, root, parent, ids, count, PREFIX_READ, &rows);
    if (source == BLOCK_NONE)
        return BLOCK_NONE;
    kv_pool_hold(&cache->pool, source); /* not the one to be evicted for its own copy */
    block_id block = kv_cache_take(cache, root, parent);
    if (block != BLOCK_NONE) {
        if (prefix_index_entry(&cache->index, source)->domain != root->sealed_in ||
            cache->pool.blocks[source].mixed ||
            cache->pool.blocks[source].domain == KV_DOMAIN_UNKNOWN)
            kv_pool_mix(&cache->pool,
                        block); /* all rows are copied, also those that do not count */
        effect_block(cache->effects, CORE_BLOCK_COPIED, block, source);
        *out_rows = rows;
    }
    kv_pool_drop(&cache->pool, source);
    return block;
}

/* ---- Sealing ------------------------------------------------------------------------------------------- */

static bool begins_with(const struct kv_cache *cache, block_id block, const uint32_t *ids,
                        uint32_t count)
{
    return prefix_index_entry(&cache->index, block)->tokens >= count &&
           memcmp(prefix_index_ids(&cache->index, block), ids, count * sizeof *ids) == 0;
}

/* Tails that nobody holds and that `block`, just sealed, repeats: they would never be the closest again. */
static void discard_repeated(struct kv_cache *cache, const struct prefix_root *root, block_id block)
{
    const struct prefix_entry *entry = prefix_index_entry(&cache->index, block);
    block_id tail = entry->older; /* it is the newest itself */
    for (uint32_t looks = 0; tail != BLOCK_NONE && looks < PREFIX_LOOKS; looks++) {
        const struct prefix_entry *other = prefix_index_entry(&cache->index, tail);
        block_id older = other->older;
        if (other->tokens < entry->tokens && other->domain == root->sealed_in &&
            cache->pool.blocks[tail].state == KV_CACHED &&
            begins_with(cache, block, prefix_index_ids(&cache->index, tail), other->tokens)) {
            prefix_index_remove(&cache->index, tail);
            kv_pool_discard(&cache->pool, tail);
        }
        tail = older;
    }
}

static void seal(struct kv_cache *cache, const struct prefix_root *root, block_id block,
                 const uint32_t *ids, uint32_t count)
{
    kv_pool_seal(&cache->pool, block);
    prefix_index_insert(&cache->index, root, block, cache->pool.blocks[block].parent, ids, count);
    effect_domain(cache->effects, CORE_BLOCK_SEALED, block, root->sealed_in);
    discard_repeated(cache, root, block);
}

/* The plan that is out reads, or has been told to read, this one: it stays as it is until that is done. */
static void retire(struct kv_cache *cache, block_id block, block_id first, block_id child)
{
    CHECK(cache->retired_count < cache->retired_max);
    kv_pool_stand_in(&cache->pool, block, first, child);
    cache->retired[cache->retired_count++] = block;
}

void kv_cache_free_retired(struct kv_cache *cache)
{
    while (cache->retired_count > 0)
        kv_pool_drop(&cache->pool, cache->retired[--cache->retired_count]);
}

block_id kv_cache_seal(struct kv_cache *cache, const struct prefix_root *root, block_id block,
                       block_id child, const uint32_t *ids, uint32_t count, bool named)
{
    block_id parent = cache->pool.blocks[block].parent;
    block_id first = prefix_index_find(&cache->index, root, parent, ids, count, PREFIX_WIDEN);
    if (first != BLOCK_NONE) {
        widen(cache, root, first, true);
        if (named)
            retire(cache, block, first, child);
        else
            kv_pool_swap(&cache->pool, block, first, child);
        return first;
    }
    seal(cache, root, block, ids, count);
    kv_pool_widen(&cache->pool, block, root->sealed_in, true); /* every row was written */
    return block;
}

void kv_cache_seal_tail(struct kv_cache *cache, const struct prefix_root *root, block_id block,
                        const uint32_t *ids, uint32_t count)
{
    block_id parent = cache->pool.blocks[block].parent;
    uint32_t common = 0;
    block_id equal = prefix_index_find(&cache->index, root, parent, ids, count, PREFIX_WIDEN);
    if (equal != BLOCK_NONE) {
        widen(cache, root, equal, false);
    } else {
        equal =
            prefix_index_closest(&cache->index, root, parent, ids, count, PREFIX_AS_IS, &common);
        if (common < count)
            equal = BLOCK_NONE;
    }
    if (equal == BLOCK_NONE) {
        seal(cache, root, block, ids, count);
        kv_pool_widen(&cache->pool, block, root->sealed_in, false); /* begun before core_narrow() */
    } else {
        kv_pool_swap(&cache->pool, block, equal, BLOCK_NONE);
    }
    kv_pool_drop(&cache->pool, equal == BLOCK_NONE ? block : equal);
}

/* ---- Looking ------------------------------------------------------------------------------------------- */

uint32_t kv_cache_longest(const struct kv_cache *cache, const struct prefix_root *root,
                          const uint32_t *ids, uint32_t count, uint32_t block_tokens,
                          enum prefix_use tail, block_id *out_last)
{
    uint32_t found = 0, common = 0;
    *out_last = BLOCK_NONE;
    for (; found + block_tokens <= count; found += block_tokens) {
        block_id block = prefix_index_find(&cache->index, root, *out_last, ids + found,
                                           block_tokens, PREFIX_WIDEN);
        if (block == BLOCK_NONE)
            break;
        *out_last = block;
    }
    uint32_t rest = count - found < block_tokens ? count - found : block_tokens;
    block_id block =
        prefix_index_closest(&cache->index, root, *out_last, ids + found, rest, tail, &common);
    if (block != BLOCK_NONE)
        *out_last = block;
    return found + common;
}

enum llm_status kv_cache_adopt(struct kv_cache *cache, const struct prefix_root *root,
                               block_id block, block_id parent, const uint32_t *ids, uint32_t count)
{
    if (prefix_index_find(&cache->index, root, parent, ids, count, PREFIX_AS_IS) != BLOCK_NONE)
        return LLM_ERR_BUSY;
    enum llm_status status = kv_pool_adopt(&cache->pool, root->model, block, parent);
    if (status == LLM_OK)
        prefix_index_insert(&cache->index, root, block, parent, ids, count);
    return status;
}

/* ---- The invariant, walked ----------------------------------------------------------------------------- */

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
        if (b->sealed && b->domain != KV_DOMAIN_UNKNOWN &&
            b->domain != prefix_index_entry(&cache->index, block)->domain)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "kv cache: pool and prefix index disagree about the domain of block %u",
                            block);
    }
    return LLM_OK;
}
