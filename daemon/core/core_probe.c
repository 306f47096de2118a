#include "daemon/core/core_state.h"
#include "shm/check.h"

/* A walk along the ids: `at` is where the spans so far end, `base` where the block behind `last` begins. */
struct probe {
    const struct core *core;
    struct prefix_root root;
    const uint32_t *ids;
    uint32_t tokens;
    uint32_t block_tokens;
    struct core_probe_span *spans; /* [capacity] */
    uint32_t capacity;
    uint32_t count;
    uint32_t at, base;
    block_id last;
};

static void add(struct probe *p, enum core_probe_kind kind, uint32_t to, uint64_t domain)
{
    struct core_probe_span *before = p->count > 0 ? &p->spans[p->count - 1] : NULL;
    if (to <= p->at)
        return;
    if (before && before->to == p->at && before->kind == kind && before->domain == domain)
        before->to = to;
    else if (p->count < p->capacity)
        p->spans[p->count++] = (struct core_probe_span){kind, p->at, to, UINT32_MAX, domain};
    p->at = to;
}

static const struct prefix_entry *entry_of(const struct probe *p, block_id block)
{
    return prefix_index_entry(&p->core->cache.index, block);
}

/* How many of the ids behind `last` one block can hold. */
static uint32_t rest_of_block(const struct probe *p)
{
    uint32_t rest = p->tokens - p->base;
    return rest < p->block_tokens ? rest : p->block_tokens;
}

static void walk_full(struct probe *p, enum core_probe_kind kind, enum prefix_use need)
{
    while (rest_of_block(p) == p->block_tokens) {
        block_id block = prefix_index_find(&p->core->cache.index, &p->root, p->last,
                                           p->ids + p->base, p->block_tokens, need);
        if (block == BLOCK_NONE)
            return;
        add(p, kind, p->base + p->block_tokens, entry_of(p, block)->domain);
        p->last = block;
        p->base += p->block_tokens;
    }
}

static uint32_t common_blocks(const struct probe *p, const struct request *maker)
{
    uint32_t end = p->tokens < maker->tokens ? p->tokens : maker->tokens;
    uint32_t i = p->base;
    while (i < end && maker->ids[i] == p->ids[i])
        i++;
    return i - i % p->block_tokens;
}

/* Others wait for a maker as long as it is ahead on the same ids. */
static bool walk_being_made(struct probe *p)
{
    const struct scheduler *s = &p->core->scheduler;
    if (rest_of_block(p) < p->block_tokens)
        return false;
    for (uint32_t slot = s->running.head; slot != REQUEST_NONE; slot = s->requests[slot].next) {
        const struct request *maker = &s->requests[slot];
        if (!request_makes(maker, &p->root, p->base / p->block_tokens, p->last, p->ids + p->base))
            continue;
        add(p, CORE_PROBE_BEING_MADE, common_blocks(p, maker), 0);
        return true;
    }
    return false;
}

static block_id walk_tail(struct probe *p, enum core_probe_kind kind, enum prefix_use need)
{
    uint32_t common = 0;
    block_id block = prefix_index_closest(&p->core->cache.index, &p->root, p->last,
                                          p->ids + p->base, rest_of_block(p), need, &common);
    if (block != BLOCK_NONE)
        add(p, kind, p->base + common, entry_of(p, block)->domain);
    return block;
}

/* What the newest readable continuation has at `at`: of `copied`, or else of any child of `last`. */
static uint32_t other_token(const struct probe *p, block_id copied)
{
    const struct prefix_index *index = &p->core->cache.index;
    uint32_t in_block = p->at - p->base;
    block_id block = copied;
    if (copied == BLOCK_NONE && p->base == 0)
        return UINT32_MAX; /* nothing was found at all */
    if (copied == BLOCK_NONE)
        block = prefix_index_children(index, &p->root, p->last);
    for (uint32_t looks = 0; block != BLOCK_NONE && looks < PREFIX_LOOKS; looks++) {
        const struct prefix_entry *entry = entry_of(p, block);
        uint32_t token =
            in_block < entry->tokens ? prefix_index_ids(index, block)[in_block] : UINT32_MAX;
        if (prefix_use_of(&p->root, entry->domain) >= PREFIX_READ && token != p->ids[p->at])
            return token;
        block = copied == BLOCK_NONE ? entry->older : BLOCK_NONE;
    }
    return UINT32_MAX;
}

static void walk(struct probe *p, bool foreign)
{
    uint32_t other = UINT32_MAX;
    walk_full(p, CORE_PROBE_HIT, PREFIX_WIDEN);
    if (p->at < p->tokens && !walk_being_made(p)) {
        block_id copied = walk_tail(p, CORE_PROBE_COPY, PREFIX_READ);
        if (p->at < p->tokens)
            other = other_token(p, copied);
        if (p->at < p->tokens && foreign) {
            walk_full(p, CORE_PROBE_FOREIGN, PREFIX_NONE);
            if (p->at < p->tokens)
                (void)walk_tail(p, CORE_PROBE_FOREIGN, PREFIX_NONE);
        }
    }
    uint32_t missing = p->at;
    add(p, CORE_PROBE_MISS, p->tokens, 0);
    struct core_probe_span *end = p->count > 0 ? &p->spans[p->count - 1] : NULL;
    if (end && end->kind == CORE_PROBE_MISS && end->from == missing)
        end->cached_token = other;
}

uint32_t core_probe(const struct core *core, uint32_t model, const uint64_t *domains,
                    uint32_t domain_count, bool foreign, const uint32_t *ids, uint32_t tokens,
                    struct core_probe_span *out_spans, uint32_t capacity)
{
    CHECK(model < core->model_count && domain_count > 0 && domain_count <= CORE_DOMAINS_MAX);
    struct probe p = {.core = core,
                      .root = core_root(core, model, domains, domain_count),
                      .ids = ids,
                      .tokens = tokens,
                      .block_tokens = core->models[model].block_tokens,
                      .spans = out_spans,
                      .capacity = capacity,
                      .last = BLOCK_NONE};
    if (tokens > 0)
        walk(&p, foreign);
    return p.count;
}

/* ---- The pool, block by block ------------------------------------------------------------------------ */

static uint32_t depth_of(const struct core *core, block_id block)
{
    uint32_t depth = 0;
    while (!prefix_index_has(&core->cache.index,
                             block)) { /* it, and those before it, are being written */
        block = core->cache.pool.blocks[block].parent;
        if (block == BLOCK_NONE)
            return depth;
        depth++;
    }
    return depth + prefix_index_entry(&core->cache.index, block)->depth;
}

struct core_block_view core_block_view(const struct core *core, block_id block)
{
    CHECK(block < core_blocks(core));
    const struct kv_pool *pool = &core->cache.pool;
    const struct kv_block *b = &pool->blocks[block];
    uint32_t model = kv_pool_model_of(pool, block);
    bool owned = model < core->model_count &&
                 block % pool->slab_blocks_max < pool->models[model].slab_blocks;
    struct core_block_view view = {.state =
                                       owned ? (enum core_block_state)b->state : CORE_STATE_UNOWNED,
                                   .model = model,
                                   .domain = b->domain,
                                   .references = b->references,
                                   .pins = b->pins,
                                   .parent = BLOCK_NONE};
    if (!owned || b->state == KV_FREE)
        return view;
    view.parent = b->parent;
    view.depth = depth_of(core, block);
    if (b->sealed) {
        const struct prefix_entry *entry = prefix_index_entry(&core->cache.index, block);
        view.domain = entry->domain;
        view.tokens = entry->tokens;
    }
    return view;
}
