#include "daemon/core/core_state.h"
#include "shm/check.h"

/* Full blocks that `r` would find now and that are pinned: it need not find room for them. */
static uint32_t pinned_blocks_of(const struct core *core, const struct request *r)
{
    uint32_t pinned = 0;
    block_id block = BLOCK_NONE;
    for (uint32_t from = 0; from + r->block_tokens <= r->tokens; from += r->block_tokens) {
        block = prefix_index_find(&core->cache.index, &r->root, block, r->ids + from,
                                  r->block_tokens, PREFIX_WIDEN);
        if (block == BLOCK_NONE || core->cache.pool.blocks[block].pins == 0)
            break; /* what comes before a pinned block is pinned */
        pinned++;
    }
    return pinned;
}

bool core_fits_beside_pins(const struct core *core, const struct request *r)
{
    uint32_t blocks = request_blocks_for(r, request_rows_end(r));
    uint32_t room = kv_pool_unpinned(&core->cache.pool, r->root.model);
    return blocks <= room || blocks - pinned_blocks_of(core, r) <= room;
}

static bool everybody_fits(const struct core *core)
{
    for (uint32_t slot = 0; slot < core->request_slots; slot++)
        if (core->requests[slot].state != REQUEST_FREE &&
            !core_fits_beside_pins(core, &core->requests[slot]))
            return false;
    return true;
}

uint32_t core_hold(struct core *core, uint32_t hold, uint32_t model, const uint64_t *domains,
                   uint32_t domain_count, const uint32_t *ids, uint32_t tokens)
{
    CHECK(hold < core->hold_slots && core->holds[hold].last == BLOCK_NONE);
    CHECK(model < core->model_count && domain_count > 0 && domain_count <= CORE_DOMAINS_MAX);
    struct prefix_root root = core_root(core, model, domains, domain_count);
    block_id last;
    uint32_t held = kv_cache_longest(&core->cache, &root, ids, tokens,
                                     core->models[model].block_tokens, PREFIX_READ, &last);
    if (held == 0)
        return 0;
    kv_pool_pin(&core->cache.pool, last);
    if (!everybody_fits(core)) {
        kv_pool_unpin(&core->cache.pool, last);
        return 0;
    }
    core->holds[hold] =
        (struct hold){last, prefix_index_entry(&core->cache.index, last)->depth + 1};
    CHECK_SLOW(core_sane(core, NULL) == LLM_OK);
    return held;
}

void core_unhold(struct core *core, uint32_t hold)
{
    CHECK(hold < core->hold_slots);
    if (core->holds[hold].last == BLOCK_NONE)
        return;
    kv_pool_unpin(&core->cache.pool, core->holds[hold].last);
    core->holds[hold] = (struct hold){BLOCK_NONE, 0};
    CHECK_SLOW(core_sane(core, NULL) == LLM_OK);
}

uint32_t core_held_blocks(const struct core *core, uint32_t hold)
{
    CHECK(hold < core->hold_slots);
    return core->holds[hold].blocks;
}
