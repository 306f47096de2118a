#include "daemon/core/request.h"

#include <string.h>

#include "shm/check.h"

static block_id last_block(const struct request *r)
{
    return r->block_count > 0 ? r->blocks[r->block_count - 1] : BLOCK_NONE;
}

uint32_t request_match(struct request *r, struct kv_cache *cache)
{
    uint32_t before = r->computed;
    while (r->computed == request_room(r) && r->computed + r->block_tokens < r->tokens) {
        block_id block =
            kv_cache_match(cache, &r->root, last_block(r), r->ids + r->computed, r->block_tokens);
        if (block == BLOCK_NONE)
            break;
        r->blocks[r->block_count++] = block;
        r->sealed_count++;
        r->computed += r->block_tokens;
    }
    return r->computed - before;
}

void request_credit(struct request *r, uint32_t tokens)
{
    uint32_t from = r->computed - tokens;
    from = from > r->computed_peak ? from : r->computed_peak;
    uint32_t end = r->computed < r->prompt_tokens ? r->computed : r->prompt_tokens;
    r->cached_tokens += end > from ? end - from : 0;
    r->computed_peak = r->computed > r->computed_peak ? r->computed : r->computed_peak;
}

bool request_grow(struct request *r, struct kv_cache *cache)
{
    block_id block = kv_cache_take(cache, r->root.model, last_block(r));
    if (block == BLOCK_NONE)
        return false;
    r->blocks[r->block_count++] = block;
    return true;
}

void request_advance(struct request *r, struct kv_cache *cache)
{
    r->computed += r->planned_tokens;
    r->planned_tokens = 0;
    r->computed_peak = r->computed > r->computed_peak ? r->computed : r->computed_peak;
    CHECK(r->computed <= request_room(r) && r->computed <= r->tokens);
    for (; r->sealed_count < r->computed / r->block_tokens; r->sealed_count++) {
        uint32_t i = r->sealed_count;
        block_id child = i + 1 < r->block_count ? r->blocks[i + 1] : BLOCK_NONE;
        r->blocks[i] = kv_cache_seal(cache, &r->root, r->blocks[i], child,
                                     r->ids + (size_t)i * r->block_tokens, r->block_tokens);
    }
}

enum core_finish request_append(struct request *r, uint32_t token)
{
    CHECK(r->tokens < r->tokens_end);
    r->ids[r->tokens++] = token;
    return r->tokens < r->tokens_end ? CORE_FINISH_NONE : r->end;
}

void request_release(struct request *r, struct kv_cache *cache)
{
    kv_pool_drop(&cache->pool, last_block(r));
    r->block_count = 0;
    r->sealed_count = 0;
    r->computed = 0;
    r->planned_tokens = 0;
}

/* ---- Lists ------------------------------------------------------------------------------------------ */

static void list_link(struct request_list *list, struct request *requests, uint32_t prev,
                      uint32_t slot, uint32_t next)
{
    requests[slot].prev = prev;
    requests[slot].next = next;
    *(prev == REQUEST_NONE ? &list->head : &requests[prev].next) = slot;
    *(next == REQUEST_NONE ? &list->tail : &requests[next].prev) = slot;
    list->count++;
}

void request_list_append(struct request_list *list, struct request *requests, uint32_t slot)
{
    list_link(list, requests, list->tail, slot, REQUEST_NONE);
}

void request_list_insert(struct request_list *list, struct request *requests, uint32_t slot)
{
    uint32_t prev = list->tail;
    uint32_t next = REQUEST_NONE;
    while (prev != REQUEST_NONE && requests[prev].order > requests[slot].order) {
        next = prev;
        prev = requests[prev].prev;
    }
    list_link(list, requests, prev, slot, next);
}

void request_list_remove(struct request_list *list, struct request *requests, uint32_t slot)
{
    const struct request *r = &requests[slot];
    *(r->prev == REQUEST_NONE ? &list->head : &requests[r->prev].next) = r->next;
    *(r->next == REQUEST_NONE ? &list->tail : &requests[r->next].prev) = r->prev;
    list->count--;
}

/* ---- The invariant, walked -------------------------------------------------------------------------- */

static enum llm_status sane_block(const struct request *r, uint32_t i, const struct kv_cache *cache,
                                  struct llm_error *error)
{
    const struct kv_block *b = &cache->pool.blocks[r->blocks[i]];
    if (b->state != KV_HELD || b->parent != (i > 0 ? r->blocks[i - 1] : BLOCK_NONE))
        return llm_fail(
            error, LLM_ERR_CORRUPT,
            "request %llu: block %u at place %u is not held or not chained to the one before",
            (unsigned long long)r->request_id, r->blocks[i], i);
    if (b->sealed != (i < r->sealed_count))
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "request %llu: block %u at place %u is %s with %u blocks sealed",
                        (unsigned long long)r->request_id, r->blocks[i], i,
                        b->sealed ? "sealed" : "not sealed", r->sealed_count);
    if (!b->sealed)
        return LLM_OK;
    const struct prefix_entry *entry = prefix_index_entry(&cache->index, r->blocks[i]);
    if (entry->domain != r->root.domain || entry->model != r->root.model ||
        memcmp(prefix_index_ids(&cache->index, r->blocks[i]), r->ids + (size_t)i * r->block_tokens,
               r->block_tokens * sizeof *r->ids) != 0)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "request %llu: block %u at place %u holds somebody else's tokens",
                        (unsigned long long)r->request_id, r->blocks[i], i);
    return LLM_OK;
}

enum llm_status request_sane(const struct request *r, const struct kv_cache *cache,
                             struct llm_error *error)
{
    if (r->computed > r->tokens || r->tokens > r->tokens_end || r->computed > request_room(r) ||
        r->planned_tokens > request_wants(r) || r->sealed_count != r->computed / r->block_tokens ||
        r->block_count != request_blocks_for(r, r->computed + r->planned_tokens))
        return llm_fail(
            error, LLM_ERR_CORRUPT,
            "request %llu: %u tokens of at most %u, %u computed, %u planned, %u blocks of "
            "%u rows, %u sealed",
            (unsigned long long)r->request_id, r->tokens, r->tokens_end, r->computed,
            r->planned_tokens, r->block_count, r->block_tokens, r->sealed_count);
    if (r->state != REQUEST_RUNNING && r->block_count > 0)
        return llm_fail(error, LLM_ERR_CORRUPT, "request %llu: waits and holds %u blocks",
                        (unsigned long long)r->request_id, r->block_count);
    enum llm_status status = LLM_OK;
    for (uint32_t i = 0; i < r->block_count && status == LLM_OK; i++)
        status = sane_block(r, i, cache, error);
    return status;
}
