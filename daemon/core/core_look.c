#include <string.h>

#include "daemon/core/core_state.h"
#include "shm/check.h"

/* ---- Requests and counts ----------------------------------------------------------------------------- */

static enum core_phase phase_of(const struct request *r)
{
    if (r->state == REQUEST_FREE)
        return CORE_PHASE_FREE;
    if (r->state != REQUEST_RUNNING)
        return CORE_PHASE_QUEUED;
    return r->tokens > r->prompt_tokens && r->tokens - r->computed == 1 ? CORE_PHASE_DECODE
                                                                        : CORE_PHASE_PREFILL;
}

static uint32_t generated_tokens(const struct request *r)
{
    return r->kind == CORE_GENERATE ? r->tokens - r->prompt_tokens : 0;
}

struct core_request_info core_request_info(const struct core *core, uint32_t slot)
{
    CHECK(slot < core->request_slots);
    const struct request *r = &core->requests[slot];
    return (struct core_request_info){.phase = phase_of(r),
                                      .request_id = r->request_id,
                                      .uid = r->uid,
                                      .prompt_tokens = r->prompt_tokens,
                                      .generated_tokens = generated_tokens(r),
                                      .computed_tokens = r->computed,
                                      .cached_tokens = r->cached_tokens,
                                      .blocks = r->block_count};
}

struct core_counts core_counts(const struct core *core)
{
    const struct scheduler *s = &core->scheduler;
    struct core_counts counts = {.running = s->running.count,
                                 .queued = scheduler_waiting(s),
                                 .queued_tokens = s->queued_tokens,
                                 .kv = kv_pool_counts(&core->cache.pool, 0),
                                 .steps = core->steps_completed,
                                 .tokens_computed = core->tokens_computed,
                                 .tokens_cached = s->tokens_cached,
                                 .preemptions = s->preemptions,
                                 .evictions = core->cache.pool.evictions};
    for (uint32_t m = 1; m < core->model_count; m++) {
        const struct kv_model *model = &core->cache.pool.models[m];
        counts.kv.free += model->free_blocks;
        counts.kv.held += model->held_blocks;
        counts.kv.cached += model->cached_blocks;
        counts.kv.total += model->free_blocks + model->held_blocks + model->cached_blocks;
    }
    return counts;
}

/* ---- The invariant, walked -------------------------------------------------------------------------- */

/* "Every reference to a block has a holder: a held child, a request whose last block it is, a hold, or the plan
 * that is out, of a retired block." */
static enum llm_status sane_references(const struct core *core, struct llm_error *error)
{
    const struct kv_pool *pool = &core->cache.pool;
    uint32_t *holders = pool->marks;
    memset(holders, 0, kv_pool_blocks(pool) * sizeof *holders);
    for (block_id block = 0; block < kv_pool_blocks(pool); block++)
        if (pool->blocks[block].state == KV_HELD && pool->blocks[block].parent != BLOCK_NONE)
            holders[pool->blocks[block].parent]++;
    for (uint32_t slot = 0; slot < core->request_slots; slot++) {
        const struct request *r = &core->requests[slot];
        if (r->state == REQUEST_RUNNING && r->block_count > 0)
            holders[r->blocks[r->block_count - 1]]++;
    }
    for (uint32_t hold = 0; hold < core->hold_slots; hold++)
        if (core->holds[hold].last != BLOCK_NONE)
            holders[core->holds[hold].last]++;
    for (uint32_t i = 0; i < core->cache.retired_count; i++)
        holders[core->cache.retired[i]]++;
    for (block_id block = 0; block < kv_pool_blocks(pool); block++)
        if (pool->blocks[block].references != holders[block])
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "core: block %u has %u references and %u holders", block,
                            pool->blocks[block].references, holders[block]);
    return LLM_OK;
}

/* "Every pin has a holder: a pinned child, or a hold." */
static enum llm_status sane_pins(const struct core *core, struct llm_error *error)
{
    const struct kv_pool *pool = &core->cache.pool;
    uint32_t *holders = pool->marks;
    memset(holders, 0, kv_pool_blocks(pool) * sizeof *holders);
    for (block_id block = 0; block < kv_pool_blocks(pool); block++)
        if (pool->blocks[block].pins > 0 && pool->blocks[block].parent != BLOCK_NONE)
            holders[pool->blocks[block].parent]++;
    for (uint32_t hold = 0; hold < core->hold_slots; hold++)
        if (core->holds[hold].last != BLOCK_NONE)
            holders[core->holds[hold].last]++;
    for (block_id block = 0; block < kv_pool_blocks(pool); block++)
        if (pool->blocks[block].pins != holders[block])
            return llm_fail(error, LLM_ERR_CORRUPT, "core: block %u has %u pins and %u holders",
                            block, pool->blocks[block].pins, holders[block]);
    return LLM_OK;
}

/* "Only the end of a chain is partly filled." */
static enum llm_status sane_tails(const struct core *core, struct llm_error *error)
{
    const struct prefix_index *index = &core->cache.index;
    for (block_id block = 0; block < index->block_count; block++) {
        if (!prefix_index_has(index, block))
            continue;
        const struct prefix_entry *entry = prefix_index_entry(index, block);
        uint32_t block_tokens = core->models[entry->model].block_tokens;
        if (entry->tokens > block_tokens ||
            (entry->tokens < block_tokens && entry->child != BLOCK_NONE))
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "core: block %u has %u of %u rows and block %u goes on from it", block,
                            entry->tokens, block_tokens, entry->child);
    }
    return LLM_OK;
}

/* "What a request has in plans is what the plans that are out say of it, without a gap behind what is computed." */
static enum llm_status sane_plans(const struct core *core, uint32_t slot, struct llm_error *error)
{
    const struct request *r = &core->requests[slot];
    uint32_t rows = 0, tokens = 0;
    bool gap = false;
    for (uint64_t step = core->steps_completed + 1; step <= core->steps; step++) {
        uint32_t at = core_plan_at(core, step);
        for (uint32_t i = 0; i < core->sequence_counts[at]; i++) {
            const struct core_sequence *s = &core->sequences[at][i];
            if (s->slot != slot)
                continue;
            gap = gap || s->first_position != r->computed + rows;
            rows += s->token_count;
            tokens += s->wants_token;
        }
    }
    gap = gap && r->ending == CORE_FINISH_NONE; /* else what came before may have failed */
    if (rows != r->flying_tokens || tokens != r->pending_tokens || gap)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "core: request slot %u has %u rows and %u tokens in plans that are out, "
                        "counted are %u and %u%s",
                        slot, rows, tokens, r->flying_tokens, r->pending_tokens,
                        gap ? ", with a gap" : "");
    return LLM_OK;
}

enum llm_status core_sane(const struct core *core, struct llm_error *error)
{
    enum llm_status status = kv_cache_sane(&core->cache, error);
    if (status == LLM_OK)
        status = scheduler_sane(&core->scheduler, error);
    for (uint32_t slot = 0; slot < core->request_slots && status == LLM_OK; slot++) {
        const struct request *r = &core->requests[slot];
        if (r->state != REQUEST_FREE)
            status = request_sane(r, &core->cache, error);
        if (status == LLM_OK && r->state != REQUEST_FREE)
            status = sane_plans(core, slot, error);
    }
    if (status == LLM_OK && core->cache.retired_count > 0 && core_plans_out(core) == 0)
        status = llm_fail(error, LLM_ERR_CORRUPT, "core: %u blocks are retired, but no plan is out",
                          core->cache.retired_count);
    if (status == LLM_OK)
        status = sane_references(core, error);
    if (status == LLM_OK)
        status = sane_pins(core, error);
    if (status == LLM_OK)
        status = sane_tails(core, error);
    return status;
}
