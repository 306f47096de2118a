#include "daemon/core/kv_pool.h"

#include "shm/check.h"

void kv_pool_init(struct kv_pool *pool, struct arena *arena, struct effect_list *effects,
                  uint32_t slab_count, const uint32_t *slab_blocks, uint32_t model_count,
                  uint32_t slab_blocks_max)
{
    for (uint32_t m = 0; m < model_count; m++)
        slab_blocks_max = slab_blocks[m] > slab_blocks_max ? slab_blocks[m] : slab_blocks_max;

    *pool = (struct kv_pool){.effects = effects,
                             .slab_count = slab_count,
                             .slab_blocks_max = slab_blocks_max,
                             .model_count = model_count,
                             .cached = KV_ORDER_EMPTY};
    for (uint32_t m = 0; m < model_count; m++)
        pool->models[m] = (struct kv_model){.slab_blocks = slab_blocks[m], .free = KV_LIST_EMPTY};
    size_t block_count = (size_t)slab_count * slab_blocks_max;
    pool->blocks = arena_take(arena, block_count, sizeof *pool->blocks);
    pool->marks = arena_take(arena, block_count, sizeof *pool->marks);
    pool->slabs = arena_take(arena, slab_count, sizeof *pool->slabs);
    pool->unowned = arena_take(arena, slab_count, sizeof *pool->unowned);
    if (!arena->base)
        return;
    for (size_t block = 0; block < block_count; block++)
        pool->blocks[block].domain =
            KV_DOMAIN_UNKNOWN;                /* an earlier engine's rows, for all we know */
    for (uint32_t s = slab_count; s-- > 0;) { /* slab 0 is on top of the stack */
        pool->slabs[s].model = KV_MODEL_NONE;
        pool->slabs[s].last_model = KV_MODEL_NONE;
        pool->unowned[pool->unowned_count++] = s;
    }
}

uint32_t kv_pool_blocks(const struct kv_pool *pool)
{
    return pool->slab_count * pool->slab_blocks_max;
}

static struct kv_slab *slab_of(const struct kv_pool *pool, block_id block)
{
    return &pool->slabs[block / pool->slab_blocks_max];
}

uint32_t kv_pool_model_of(const struct kv_pool *pool, block_id block)
{
    return slab_of(pool, block)->model;
}

/* ---- Slabs: claimed by the model that needs a block, given up with their last block ----------------- */

static void slab_claim(struct kv_pool *pool, uint32_t slab, uint32_t model)
{
    uint32_t top = pool->unowned_count - 1;
    uint32_t at = top;
    while (pool->unowned[at] != slab)
        at--;
    pool->unowned[at] = pool->unowned[top];
    pool->unowned_count = top;

    struct kv_model *m = &pool->models[model];
    pool->slabs[slab].model = (uint8_t)model;
    block_id first = slab * pool->slab_blocks_max;
    for (block_id block = first; block < first + m->slab_blocks; block++) {
        kv_list_append(&m->free, pool->blocks, block);
        if (pool->slabs[slab].last_model != model) /* blocks of another size lay across it */
            pool->blocks[block].domain = KV_DOMAIN_UNKNOWN;
    }
    pool->slabs[slab].last_model = (uint8_t)model;
    m->free_blocks += m->slab_blocks;
    m->slabs++;
    m->idle_slabs++;
}

static void slab_give_up(struct kv_pool *pool, uint32_t slab)
{
    struct kv_model *m = &pool->models[pool->slabs[slab].model];
    block_id first = slab * pool->slab_blocks_max;
    for (block_id block = first; block < first + m->slab_blocks; block++)
        kv_list_remove(&m->free, pool->blocks, block);
    m->free_blocks -= m->slab_blocks;
    m->slabs--;
    m->idle_slabs--;
    pool->slabs[slab].model = KV_MODEL_NONE;
    pool->unowned[pool->unowned_count++] = slab;
}

/* ---- The three states ------------------------------------------------------------------------------- */

static void state_leave(struct kv_pool *pool, block_id block)
{
    struct kv_slab *slab = slab_of(pool, block);
    struct kv_model *m = &pool->models[slab->model];
    switch ((enum kv_state)pool->blocks[block].state) {
    case KV_FREE:
        kv_list_remove(&m->free, pool->blocks, block);
        m->free_blocks--;
        break;
    case KV_HELD:
        m->held_blocks--;
        m->idle_slabs += --slab->held_blocks == 0;
        break;
    case KV_CACHED:
        kv_order_remove(&pool->cached, pool->blocks, block);
        m->cached_blocks--;
        slab->cached_blocks--;
        break;
    }
}

/* Where a cached block goes in the list of cached blocks. */
enum age {
    AGE_NEWEST,
    AGE_OLDEST
};

static void state_enter(struct kv_pool *pool, block_id block, enum kv_state state, enum age age)
{
    struct kv_slab *slab = slab_of(pool, block);
    struct kv_model *m = &pool->models[slab->model];
    pool->blocks[block].state = (uint8_t)state;
    switch (state) {
    case KV_FREE:
        kv_list_prepend(&m->free, pool->blocks, block);
        m->free_blocks++;
        if (slab->held_blocks == 0 && slab->cached_blocks == 0)
            slab_give_up(pool, block / pool->slab_blocks_max);
        break;
    case KV_HELD:
        m->held_blocks++;
        m->idle_slabs -= slab->held_blocks++ == 0;
        break;
    case KV_CACHED:
        (age == AGE_NEWEST ? kv_order_add : kv_order_adopt)(&pool->cached, pool->blocks, block);
        m->cached_blocks++;
        slab->cached_blocks++;
        break;
    }
}

static void block_free(struct kv_pool *pool, block_id block)
{
    bool sealed = pool->blocks[block].sealed;
    state_leave(pool, block);
    pool->blocks[block].sealed = false;
    pool->blocks[block].reused = false;
    pool->blocks[block].parent = BLOCK_NONE;
    state_enter(pool, block, KV_FREE, AGE_NEWEST);
    if (effect_freed(pool->effects, block, sealed))
        pool->blocks[block].mixed = true;
}

block_id kv_pool_take(struct kv_pool *pool, uint32_t model, block_id parent, uint64_t domain)
{
    struct kv_model *m = &pool->models[model];
    CHECK(parent == BLOCK_NONE || pool->blocks[parent].state == KV_HELD);
    if (m->free_blocks == 0) {
        if (pool->unowned_count == 0)
            return BLOCK_NONE;
        slab_claim(pool, pool->unowned[pool->unowned_count - 1], model);
    }
    block_id block = m->free.head;
    state_leave(pool, block);
    struct kv_block *b = &pool->blocks[block];
    bool foreign = b->domain != domain || b->mixed;
    b->references = 1;
    b->parent = parent;
    b->domain = domain;
    b->mixed = false;
    state_enter(pool, block, KV_HELD, AGE_NEWEST);
    effect_block(pool->effects, CORE_BLOCK_TAKEN, block, foreign);
    return block;
}

/* Somebody uses a block that somebody made, and with it its ancestors; where one is marked, all before it are. */
static void mark_reused(struct kv_pool *pool, block_id block)
{
    for (; block != BLOCK_NONE && !pool->blocks[block].reused; block = pool->blocks[block].parent)
        pool->blocks[block].reused = true;
}

static void hold_chain(struct kv_pool *pool, block_id block)
{
    while (block != BLOCK_NONE) {
        struct kv_block *b = &pool->blocks[block];
        CHECK(b->state != KV_FREE);
        b->references++;
        if (b->state == KV_HELD)
            return; /* its ancestors are held already */
        state_leave(pool, block);
        state_enter(pool, block, KV_HELD, AGE_NEWEST);
        block = b->parent; /* a block that becomes held takes its one reference to its parent */
    }
}

void kv_pool_hold(struct kv_pool *pool, block_id block)
{
    hold_chain(pool, block);
    mark_reused(pool, block); /* when none of them is in a list that depends on it */
}

/* From the end of the chain towards its start, so that a child becomes cached, and older, before its
 * parent: that order is what makes eviction leaf-first. */
void kv_pool_drop(struct kv_pool *pool, block_id block)
{
    while (block != BLOCK_NONE) {
        struct kv_block *b = &pool->blocks[block];
        CHECK(b->state == KV_HELD && b->references > 0);
        if (--b->references > 0)
            return;
        block_id parent = b->parent;
        if (b->sealed) {
            state_leave(pool, block);
            state_enter(pool, block, KV_CACHED, AGE_NEWEST);
        } else {
            block_free(pool, block);
        }
        block = parent;
    }
}

void kv_pool_trim(struct kv_pool *pool, block_id last, block_id to)
{
    while (last != to) {
        struct kv_block *b = &pool->blocks[last];
        CHECK(b->state == KV_HELD && b->references == 1 && !b->sealed);
        block_id parent = b->parent;
        b->references = 0; /* the one it had to its parent becomes the caller's */
        block_free(pool, last);
        last = parent;
    }
}

void kv_pool_seal(struct kv_pool *pool, block_id block)
{
    struct kv_block *b = &pool->blocks[block];
    CHECK(b->state == KV_HELD && !b->sealed);
    CHECK(b->parent == BLOCK_NONE || pool->blocks[b->parent].sealed);
    b->sealed = true;
}

void kv_pool_mix(struct kv_pool *pool, block_id block)
{
    pool->blocks[block].mixed = true;
}

void kv_pool_widen(struct kv_pool *pool, block_id block, uint64_t domain, bool whole)
{
    struct kv_block *b = &pool->blocks[block];
    CHECK(b->sealed);
    /* Behind the rows that count there may be others, of whom it was before. */
    b->mixed = !whole && (b->mixed || b->domain != domain);
    b->domain = domain;
}

void kv_pool_stand_in(struct kv_pool *pool, block_id from, block_id to, block_id child)
{
    CHECK(from != to && pool->blocks[from].references == 1 && !pool->blocks[from].sealed);
    kv_pool_hold(pool, to);
    if (child != BLOCK_NONE) {
        CHECK(pool->blocks[child].state == KV_HELD && pool->blocks[child].parent == from);
        pool->blocks[child].parent = to;
    }
}

void kv_pool_swap(struct kv_pool *pool, block_id from, block_id to, block_id child)
{
    kv_pool_stand_in(pool, from, to, child);
    kv_pool_drop(pool, from);
}

block_id kv_pool_oldest(const struct kv_pool *pool)
{
    return kv_order_first(&pool->cached);
}

void kv_pool_evict(struct kv_pool *pool, block_id block)
{
    CHECK(block != BLOCK_NONE && block == kv_order_first(&pool->cached));
    pool->evictions++;
    block_free(pool, block);
}

void kv_pool_discard(struct kv_pool *pool, block_id block)
{
    CHECK(pool->blocks[block].state == KV_CACHED);
    block_free(pool, block);
}

void kv_pool_pin(struct kv_pool *pool, block_id block)
{
    CHECK(pool->blocks[block].sealed);
    kv_pool_hold(pool, block);
    for (; block != BLOCK_NONE && pool->blocks[block].pins++ == 0;
         block = pool->blocks[block].parent) {
        struct kv_model *m = &pool->models[slab_of(pool, block)->model];
        m->pinned_blocks++;
        m->pinned_slabs += slab_of(pool, block)->pinned_blocks++ == 0;
    }
}

void kv_pool_unpin(struct kv_pool *pool, block_id block)
{
    for (block_id b = block; b != BLOCK_NONE; b = pool->blocks[b].parent) {
        CHECK(pool->blocks[b].pins > 0);
        if (--pool->blocks[b].pins > 0)
            break;
        struct kv_model *m = &pool->models[slab_of(pool, b)->model];
        m->pinned_blocks--;
        m->pinned_slabs -= --slab_of(pool, b)->pinned_blocks == 0;
    }
    kv_pool_drop(pool, block);
}

enum llm_status kv_pool_adopt(struct kv_pool *pool, uint32_t model, block_id block, block_id parent)
{
    if (model >= pool->model_count || block >= kv_pool_blocks(pool) ||
        block % pool->slab_blocks_max >= pool->models[model].slab_blocks)
        return LLM_ERR_INVALID;
    CHECK(parent == BLOCK_NONE || pool->blocks[parent].sealed);
    const struct kv_slab *slab = slab_of(pool, block);
    if (slab->model == KV_MODEL_NONE)
        slab_claim(pool, block / pool->slab_blocks_max, model);
    if (slab->model != model || pool->blocks[block].state != KV_FREE)
        return LLM_ERR_BUSY;
    state_leave(pool, block);
    pool->blocks[block].parent = parent;
    pool->blocks[block].domain = KV_DOMAIN_UNKNOWN;
    pool->blocks[block].sealed = true;
    state_enter(pool, block, KV_CACHED, AGE_OLDEST);
    return LLM_OK;
}

/* ---- Counts ----------------------------------------------------------------------------------------- */

uint32_t kv_pool_available(const struct kv_pool *pool, uint32_t model)
{
    const struct kv_model *own = &pool->models[model];
    uint32_t slabs = pool->unowned_count;
    for (uint32_t m = 0; m < pool->model_count; m++)
        slabs += m == model ? 0 : pool->models[m].idle_slabs;
    return own->free_blocks + own->cached_blocks + slabs * own->slab_blocks;
}

uint32_t kv_pool_capacity(const struct kv_pool *pool, uint32_t model)
{
    return pool->slab_count * pool->models[model].slab_blocks;
}

uint32_t kv_pool_unpinned(const struct kv_pool *pool, uint32_t model)
{
    uint32_t slabs = pool->slab_count;
    for (uint32_t m = 0; m < pool->model_count; m++)
        slabs -= m == model ? 0 : pool->models[m].pinned_slabs;
    return slabs * pool->models[model].slab_blocks - pool->models[model].pinned_blocks;
}

struct kv_counts kv_pool_counts(const struct kv_pool *pool, uint32_t model)
{
    const struct kv_model *m = &pool->models[model];
    uint32_t free_blocks = m->free_blocks + pool->unowned_count * m->slab_blocks;
    return (struct kv_counts){.total = free_blocks + m->held_blocks + m->cached_blocks,
                              .free = free_blocks,
                              .held = m->held_blocks,
                              .cached = m->cached_blocks};
}

/* ---- The invariant, walked -------------------------------------------------------------------------- */

/* While the walk runs, marks[block] says where a block was met: in no list, in a free list, or how many
 * cached blocks are evicted before it. */
enum {
    MARK_NONE = 0,
    MARK_FREE = 1,
    MARK_CACHED = 2 /* plus its place: first those used once, oldest first */
};

static enum llm_status sane_list(const struct kv_pool *pool, const struct kv_list *list,
                                 uint32_t count, uint32_t mark, const char *name,
                                 struct llm_error *error)
{
    enum kv_state state = mark == MARK_FREE ? KV_FREE : KV_CACHED;
    uint32_t place = 0;
    block_id prev = BLOCK_NONE;
    for (block_id block = list->head; block != BLOCK_NONE; block = pool->blocks[block].next) {
        if (block >= kv_pool_blocks(pool) || place == count)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "kv pool: the %s list does not end after its %u blocks", name, count);
        const struct kv_block *b = &pool->blocks[block];
        if (b->state != state || b->prev != prev || pool->marks[block] != MARK_NONE)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "kv pool: block %u (state %u) stands in the %s list", block, b->state,
                            name);
        pool->marks[block] = mark == MARK_FREE ? MARK_FREE : mark + place;
        prev = block;
        place++;
    }
    if (place != count || list->tail != prev)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "kv pool: the %s list has %u blocks, counted are %u", name, place, count);
    return LLM_OK;
}

static enum llm_status sane_lists(const struct kv_pool *pool, struct llm_error *error)
{
    for (block_id block = 0; block < kv_pool_blocks(pool); block++)
        pool->marks[block] = MARK_NONE;
    uint32_t cached = 0;
    enum llm_status status = LLM_OK;
    for (uint32_t m = 0; m < pool->model_count && status == LLM_OK; m++) {
        cached += pool->models[m].cached_blocks;
        status = sane_list(pool, &pool->models[m].free, pool->models[m].free_blocks, MARK_FREE,
                           "free", error);
    }
    const struct kv_order *order = &pool->cached;
    if (status == LLM_OK && order->once_count + order->again_count != cached)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "kv pool: %u blocks were used once and %u again, but %u are cached",
                        order->once_count, order->again_count, cached);
    if (status == LLM_OK)
        status = sane_list(pool, &order->once, order->once_count, MARK_CACHED, "used once", error);
    if (status == LLM_OK)
        status = sane_list(pool, &order->again, order->again_count, MARK_CACHED + order->once_count,
                           "used again", error);
    return status;
}

/* "Every block is free, held or cached, and in exactly one of the three." */
static bool sane_state(const struct kv_pool *pool, block_id block)
{
    const struct kv_block *b = &pool->blocks[block];
    uint32_t model = slab_of(pool, block)->model;
    uint32_t mark = pool->marks[block];
    bool usable =
        model != KV_MODEL_NONE && block % pool->slab_blocks_max < pool->models[model].slab_blocks;
    if (!usable) /* of a slab nobody owns, or behind the last whole block of a slab */
        return b->state == KV_FREE && mark == MARK_NONE;
    if (b->pins > b->references || (b->pins > 0 && !b->sealed))
        return false;
    if (b->state == KV_FREE)
        return mark == MARK_FREE && b->references == 0 && !b->sealed && !b->reused;
    if (b->state == KV_CACHED)
        return mark >= MARK_CACHED && b->references == 0 && b->sealed &&
               b->reused == (mark >= MARK_CACHED + pool->cached.once_count);
    return b->state == KV_HELD && mark == MARK_NONE && b->references > 0;
}

/* "A held block's parent is held, a pinned block's pinned, a sealed block's sealed, a reused one's reused; a cached
 * block stands before its parent." */
static bool sane_parent(const struct kv_pool *pool, block_id block)
{
    const struct kv_block *b = &pool->blocks[block];
    if (b->state == KV_FREE || b->parent == BLOCK_NONE)
        return true;
    if (b->parent >= kv_pool_blocks(pool) || b->parent == block)
        return false;
    const struct kv_block *parent = &pool->blocks[b->parent];
    if (kv_pool_model_of(pool, b->parent) != kv_pool_model_of(pool, block))
        return false;
    if ((b->sealed && !parent->sealed) || (b->reused && !parent->reused) ||
        (b->pins > 0 && parent->pins == 0))
        return false;
    if (b->state == KV_HELD || parent->state != KV_CACHED)
        return parent->state == KV_HELD;
    return pool->marks[block] < pool->marks[b->parent];
}

static enum llm_status sane_model(const struct kv_pool *pool, uint32_t model,
                                  struct llm_error *error)
{
    struct kv_model walked = {0};
    for (uint32_t s = 0; s < pool->slab_count; s++) {
        if (pool->slabs[s].model != model)
            continue;
        uint32_t held = 0;
        uint32_t cached = 0;
        uint32_t pinned = 0;
        for (uint32_t i = 0; i < pool->models[model].slab_blocks; i++) {
            held += pool->blocks[s * pool->slab_blocks_max + i].state == KV_HELD;
            cached += pool->blocks[s * pool->slab_blocks_max + i].state == KV_CACHED;
            pinned += pool->blocks[s * pool->slab_blocks_max + i].pins > 0;
        }
        if (held != pool->slabs[s].held_blocks || cached != pool->slabs[s].cached_blocks ||
            pinned != pool->slabs[s].pinned_blocks)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "kv pool: slab %u has %u held, %u cached and %u pinned blocks, counted "
                            "are %u, %u and %u",
                            s, held, cached, pinned, pool->slabs[s].held_blocks,
                            pool->slabs[s].cached_blocks, pool->slabs[s].pinned_blocks);
        walked.slabs++;
        walked.idle_slabs += held == 0;
        walked.held_blocks += held;
        walked.cached_blocks += cached;
        walked.pinned_blocks += pinned;
        walked.pinned_slabs += pinned > 0;
    }
    const struct kv_model *m = &pool->models[model];
    if (walked.slabs != m->slabs || walked.idle_slabs != m->idle_slabs ||
        walked.held_blocks != m->held_blocks || walked.cached_blocks != m->cached_blocks ||
        walked.pinned_blocks != m->pinned_blocks || walked.pinned_slabs != m->pinned_slabs ||
        m->slabs * m->slab_blocks != m->free_blocks + m->held_blocks + m->cached_blocks)
        return llm_fail(
            error, LLM_ERR_CORRUPT,
            "kv pool: model %u has %u slabs, %u held, %u cached blocks; counted are %u, %u, "
            "%u (free %u)",
            model, walked.slabs, walked.held_blocks, walked.cached_blocks, m->slabs, m->held_blocks,
            m->cached_blocks, m->free_blocks);
    return LLM_OK;
}

enum llm_status kv_pool_sane(const struct kv_pool *pool, struct llm_error *error)
{
    enum llm_status status = sane_lists(pool, error);
    uint32_t slabs = pool->unowned_count;
    for (uint32_t m = 0; m < pool->model_count && status == LLM_OK; m++) {
        status = sane_model(pool, m, error);
        slabs += pool->models[m].slabs;
    }
    if (status != LLM_OK)
        return status;
    if (slabs != pool->slab_count)
        return llm_fail(error, LLM_ERR_CORRUPT, "kv pool: %u slabs, but %u are owned or unowned",
                        pool->slab_count, slabs);
    for (block_id block = 0; block < kv_pool_blocks(pool); block++) {
        const struct kv_block *b = &pool->blocks[block];
        if (!sane_state(pool, block))
            return llm_fail(
                error, LLM_ERR_CORRUPT,
                "kv pool: block %u is not in exactly one state (state %u, %u references, "
                "sealed %d, mark %u)",
                block, b->state, b->references, b->sealed, pool->marks[block]);
        if (!sane_parent(pool, block))
            return llm_fail(
                error, LLM_ERR_CORRUPT,
                "kv pool: block %u (state %u) outlives its parent %u or stands behind it", block,
                b->state, b->parent);
    }
    return LLM_OK;
}
