#include "daemon/core/prefix_index.h"

#include <string.h>

#include "shm/check.h"

static uint32_t bucket_count(uint32_t block_count)
{
    uint32_t buckets = 8;
    while (buckets / 2 < block_count)
        buckets *= 2;
    return buckets;
}

void prefix_index_init(struct prefix_index *index, struct arena *arena, uint32_t block_count,
                       uint32_t block_tokens_max, struct chain_hash hash)
{
    uint32_t buckets = bucket_count(block_count);
    *index = (struct prefix_index){
        .entries = arena_take(arena, block_count, sizeof *index->entries),
        .ids = arena_take(arena, (size_t)block_count * block_tokens_max, sizeof *index->ids),
        .buckets = arena_take(arena, buckets, sizeof *index->buckets),
        .hash = hash,
        .bucket_mask = buckets - 1,
        .block_count = block_count,
        .block_tokens_max = block_tokens_max};
    if (arena->base)
        memset(index->buckets, 0xff, buckets * sizeof *index->buckets); /* BLOCK_NONE */
}

static struct chain chain_after(const struct prefix_index *index, const struct chain *parent,
                                const uint32_t *ids, uint32_t count)
{
    struct chain chain;
    index->hash.hash(index->hash.self, parent->bytes, ids, count, chain.bytes);
    return chain;
}

struct prefix_root prefix_root(const struct prefix_index *index, uint32_t model,
                               const uint32_t *identity, uint32_t count, uint64_t domain)
{
    static const struct chain none = {{0}};
    struct prefix_root root = {.model = model, .domain = domain};
    root.chain = chain_after(index, &none, identity, count);
    root.chain = chain_after(index, &root.chain,
                             (const uint32_t[]){(uint32_t)domain, (uint32_t)(domain >> 32)}, 2);
    return root;
}

static bool chain_equal(const struct chain *a, const struct chain *b)
{
    return memcmp(a->bytes, b->bytes, CHAIN_BYTES) == 0;
}

/* The hash is keyed and uniform: any of its bits will do. */
static block_id *bucket_of(const struct prefix_index *index, const struct chain *chain)
{
    uint32_t word;
    memcpy(&word, chain->bytes, sizeof word);
    return &index->buckets[word & index->bucket_mask];
}

const struct prefix_entry *prefix_index_entry(const struct prefix_index *index, block_id block)
{
    CHECK(prefix_index_has(index, block));
    return &index->entries[block];
}

const uint32_t *prefix_index_ids(const struct prefix_index *index, block_id block)
{
    return &index->ids[(size_t)block * index->block_tokens_max];
}

bool prefix_index_has(const struct prefix_index *index, block_id block)
{
    return block < index->block_count && index->entries[block].tokens > 0;
}

static const struct chain *parent_chain(const struct prefix_index *index,
                                        const struct prefix_root *root, block_id parent)
{
    return parent == BLOCK_NONE ? &root->chain : &prefix_index_entry(index, parent)->chain;
}

struct chain prefix_index_chain(const struct prefix_index *index, const struct prefix_root *root,
                                block_id parent, const uint32_t *ids, uint32_t count)
{
    return chain_after(index, parent_chain(index, root, parent), ids, count);
}

/* The chain value led here; only this comparison decides. Equal parents mean equal histories, by induction
 * up to the root, where model and domain are compared. */
static bool entry_confirms(const struct prefix_index *index, block_id block,
                           const struct prefix_root *root, block_id parent, const uint32_t *ids,
                           uint32_t count)
{
    const struct prefix_entry *entry = &index->entries[block];
    return entry->parent == parent && entry->model == root->model &&
           entry->domain == root->domain && entry->tokens == count &&
           memcmp(prefix_index_ids(index, block), ids, count * sizeof *ids) == 0;
}

block_id prefix_index_find(const struct prefix_index *index, const struct prefix_root *root,
                           block_id parent, const uint32_t *ids, uint32_t count)
{
    struct chain chain = prefix_index_chain(index, root, parent, ids, count);
    for (block_id block = *bucket_of(index, &chain); block != BLOCK_NONE;
         block = index->entries[block].next)
        if (chain_equal(&index->entries[block].chain, &chain) &&
            entry_confirms(index, block, root, parent, ids, count))
            return block;
    return BLOCK_NONE;
}

block_id prefix_index_find_chain(const struct prefix_index *index, const struct prefix_root *root,
                                 uint32_t depth, const struct chain *chain)
{
    for (block_id block = *bucket_of(index, chain); block != BLOCK_NONE;
         block = index->entries[block].next) {
        const struct prefix_entry *entry = &index->entries[block];
        if (chain_equal(&entry->chain, chain) && entry->depth == depth &&
            entry->model == root->model && entry->domain == root->domain)
            return block;
    }
    return BLOCK_NONE;
}

void prefix_index_insert(struct prefix_index *index, const struct prefix_root *root, block_id block,
                         block_id parent, const uint32_t *ids, uint32_t count)
{
    CHECK(block < index->block_count && !prefix_index_has(index, block));
    CHECK(count > 0 && count <= index->block_tokens_max);
    const struct chain *above = parent_chain(index, root, parent);
    struct chain chain = chain_after(index, above, ids, count);
    block_id *bucket = bucket_of(index, &chain);
    index->entries[block] = (struct prefix_entry){
        .chain = chain,
        .parent_chain = *above,
        .parent = parent,
        .next = *bucket,
        .model = root->model,
        .domain = root->domain,
        .depth = parent == BLOCK_NONE ? 0 : index->entries[parent].depth + 1,
        .tokens = count,
    };
    *bucket = block;
    memcpy(&index->ids[(size_t)block * index->block_tokens_max], ids, count * sizeof *ids);
    index->entry_count++;
}

void prefix_index_remove(struct prefix_index *index, block_id block)
{
    CHECK(prefix_index_has(index, block));
    block_id *link = bucket_of(index, &index->entries[block].chain);
    while (*link != block) {
        CHECK(*link != BLOCK_NONE);
        link = &index->entries[*link].next;
    }
    *link = index->entries[block].next;
    index->entries[block].tokens = 0;
    index->entry_count--;
}

/* ---- The invariant, walked -------------------------------------------------------------------------- */

static enum llm_status sane_entry(const struct prefix_index *index, block_id block,
                                  struct llm_error *error)
{
    const struct prefix_entry *entry = &index->entries[block];
    if (entry->parent == BLOCK_NONE)
        return entry->depth == 0 ? LLM_OK
                                 : llm_fail(error, LLM_ERR_CORRUPT,
                                            "prefix index: block %u has depth %u and no parent",
                                            block, entry->depth);
    if (!prefix_index_has(index, entry->parent))
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "prefix index: block %u is findable, its parent %u is not", block,
                        entry->parent);
    const struct prefix_entry *parent = &index->entries[entry->parent];
    if (parent->depth + 1 != entry->depth || parent->model != entry->model ||
        parent->domain != entry->domain || !chain_equal(&parent->chain, &entry->parent_chain))
        return llm_fail(
            error, LLM_ERR_CORRUPT,
            "prefix index: block %u (depth %u, domain %llx) does not continue its parent %u", block,
            entry->depth, (unsigned long long)entry->domain, entry->parent);
    return LLM_OK;
}

enum llm_status prefix_index_sane(const struct prefix_index *index, struct llm_error *error)
{
    uint32_t met = 0;
    for (uint32_t bucket = 0; bucket <= index->bucket_mask; bucket++)
        for (block_id block = index->buckets[bucket]; block != BLOCK_NONE;
             block = index->entries[block].next) {
            if (!prefix_index_has(index, block) || ++met > index->entry_count ||
                bucket_of(index, &index->entries[block].chain) != &index->buckets[bucket])
                return llm_fail(error, LLM_ERR_CORRUPT,
                                "prefix index: block %u does not belong in bucket %u", block,
                                bucket);
            enum llm_status status = sane_entry(index, block, error);
            if (status != LLM_OK)
                return status;
        }
    if (met != index->entry_count)
        return llm_fail(error, LLM_ERR_CORRUPT, "prefix index: %u entries, counted are %u", met,
                        index->entry_count);
    return LLM_OK;
}
