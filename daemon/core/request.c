#include "daemon/core/request.h"

#include <string.h>

#include "shm/check.h"

static block_id last_block(const struct request *r)
{
    return r->block_count > 0 ? r->blocks[r->block_count - 1] : BLOCK_NONE;
}

/* ---- Rows ------------------------------------------------------------------------------------------- */

/* The first row whose logits are scored next; none of a request that scores nothing. */
static uint32_t first_scored_row(const struct request *r)
{
    return r->kind == CORE_SCORE ? r->scored - 1 : UINT32_MAX;
}

uint32_t request_scored_rows(const struct request *r, uint32_t rows)
{
    uint32_t from = first_scored_row(r);
    uint32_t next = request_next_row(r);
    uint32_t end = next + rows;
    if (end <= from)
        return 0;
    return end - (from > next ? from : next);
}

uint32_t request_rows_scoring(const struct request *r, uint32_t rows, uint32_t scored_max)
{
    uint32_t scored = request_scored_rows(r, rows);
    return scored > scored_max ? rows - (scored - scored_max) : rows;
}

/* ---- What others computed --------------------------------------------------------------------------- */

/* Rows below it need not be computed if they are found. */
static uint32_t found_end(const struct request *r)
{
    return r->kind == CORE_SCORE ? r->scored - 1 : r->tokens - 1;
}

struct prefix_root request_root_at(const struct request *r, uint32_t position)
{
    struct prefix_root root = r->root;
    for (uint32_t i = 0; i < PREFIX_SHARES_MAX; i++)
        if (position + r->block_tokens <= r->shares[i].tokens) {
            root.sealed_in = r->shares[i].domain;
            break;
        }
    return root;
}

static bool at_a_boundary(const struct request *r)
{
    return r->computed == request_room(r);
}

uint32_t request_match(struct request *r, struct kv_cache *cache)
{
    uint32_t before = r->computed;
    while (at_a_boundary(r) && r->computed + r->block_tokens <= found_end(r)) {
        struct prefix_root root = request_root_at(r, r->computed);
        block_id block =
            kv_cache_match(cache, &root, last_block(r), r->ids + r->computed, r->block_tokens);
        if (block == BLOCK_NONE)
            break;
        r->blocks[r->block_count++] = block;
        r->sealed_count++;
        r->computed += r->block_tokens;
    }
    return r->computed - before;
}

uint32_t request_copy(struct request *r, struct kv_cache *cache)
{
    if (!at_a_boundary(r) || r->computed >= found_end(r))
        return 0;
    uint32_t rows = found_end(r) - r->computed;
    if (rows >= r->block_tokens)
        rows = r->block_tokens - 1;
    if (rows == 0)
        return 0;
    struct prefix_root root = request_root_at(r, r->computed);
    block_id block = kv_cache_copy(cache, &root, last_block(r), r->ids + r->computed, rows, &rows);
    if (block == BLOCK_NONE)
        return 0;
    r->blocks[r->block_count++] = block;
    r->computed += rows;
    return rows;
}

bool request_makes(const struct request *maker, const struct prefix_root *reader, uint32_t at,
                   block_id before, const uint32_t *ids)
{
    uint32_t from = at * maker->block_tokens;
    return maker->root.model == reader->model && maker->sealed_count == at &&
           maker->block_count > at && from + maker->block_tokens <= maker->tokens &&
           (at == 0 || maker->blocks[at - 1] == before) && /* with it goes all history */
           prefix_use_of(reader, request_root_at(maker, from).sealed_in) >= PREFIX_WIDEN &&
           memcmp(maker->ids + from, ids, maker->block_tokens * sizeof *ids) == 0;
}

bool request_may_wait(const struct request *r)
{
    return at_a_boundary(r) &&
           r->computed + r->block_tokens <= (r->kind == CORE_SCORE ? found_end(r) : r->tokens);
}

bool request_is_made_by(const struct request *r, const struct request *maker)
{
    struct prefix_root root = request_root_at(r, r->computed);
    return maker != r &&
           request_makes(maker, &root, r->block_count, last_block(r), r->ids + r->computed);
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
    struct prefix_root root = request_root_at(r, request_room(r));
    block_id block = kv_cache_take(cache, &root, last_block(r));
    if (block == BLOCK_NONE)
        return false;
    r->blocks[r->block_count++] = block;
    return true;
}

void request_advance(struct request *r, uint32_t rows, struct kv_cache *cache)
{
    r->computed += rows;
    r->computed_peak = r->computed > r->computed_peak ? r->computed : r->computed_peak;
    CHECK(r->computed <= request_room(r) && r->computed <= r->tokens);
    for (; r->sealed_count < r->computed / r->block_tokens; r->sealed_count++) {
        uint32_t i = r->sealed_count;
        block_id child = i + 1 < r->block_count ? r->blocks[i + 1] : BLOCK_NONE;
        struct prefix_root root = request_root_at(r, i * r->block_tokens);
        r->blocks[i] =
            kv_cache_seal(cache, &root, r->blocks[i], child, r->ids + (size_t)i * r->block_tokens,
                          r->block_tokens, r->flying_tokens > 0);
    }
}

enum core_finish request_append(struct request *r, uint32_t token)
{
    CHECK(r->tokens < r->tokens_end);
    r->ids[r->tokens++] = token;
    return r->tokens < r->tokens_end ? CORE_FINISH_NONE : r->end;
}

/* The last block with rows in it, if it is not full, is worth finding. Blocks behind it, just planned, go first. */
static void release_tail(struct request *r, struct kv_cache *cache)
{
    block_id tail = r->blocks[r->sealed_count];
    kv_pool_trim(&cache->pool, last_block(r), tail);
    uint32_t from = r->sealed_count * r->block_tokens;
    struct prefix_root root = request_root_at(r, from);
    kv_cache_seal_tail(cache, &root, tail, r->ids + from, r->computed - from);
}

void request_release(struct request *r, struct kv_cache *cache)
{
    CHECK(r->flying_tokens == 0 && r->pending_tokens == 0);
    if (r->computed % r->block_tokens != 0 && !r->spoiled)
        release_tail(r, cache);
    else
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
    /* It may have been widened since, even to a domain that r was not told of. */
    if (!prefix_domain_covers(entry->domain, request_root_at(r, i * r->block_tokens).sealed_in) ||
        entry->model != r->root.model ||
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
    uint32_t blocks = request_blocks_for(r, request_next_row(r));
    if (r->computed > r->tokens || r->tokens > r->tokens_end || r->computed > request_room(r) ||
        r->planned_tokens > 0 || r->sealed_count != r->computed / r->block_tokens ||
        r->block_count < blocks || (r->block_count > blocks && r->ending == CORE_FINISH_NONE))
        return llm_fail(
            error, LLM_ERR_CORRUPT,
            "request %llu: %u tokens of at most %u, %u computed, %u in plans, %u blocks of "
            "%u rows, %u sealed",
            (unsigned long long)r->request_id, r->tokens, r->tokens_end, r->computed,
            r->flying_tokens, r->block_count, r->block_tokens, r->sealed_count);
    if (r->flying_tokens == 0 && (r->pending_tokens > 0 || r->ending != CORE_FINISH_NONE))
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "request %llu: is in no plan, but waits for a token or for its end",
                        (unsigned long long)r->request_id);
    if (r->state != REQUEST_RUNNING && (r->block_count > 0 || r->flying_tokens > 0))
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "request %llu: waits, holds %u blocks and has %u rows in plans",
                        (unsigned long long)r->request_id, r->block_count, r->flying_tokens);
    enum llm_status status = LLM_OK;
    for (uint32_t i = 0; i < r->block_count && status == LLM_OK; i++)
        status = sane_block(r, i, cache, error);
    return status;
}
