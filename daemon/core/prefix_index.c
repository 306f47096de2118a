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
    for (uint32_t model = 0; model < PREFIX_MODELS_MAX; model++)
        index->first_blocks[model] = BLOCK_NONE;
    if (arena->base)
        memset(index->buckets, 0xff, buckets * sizeof *index->buckets); /* BLOCK_NONE */
}

/* ---- Who may use whose blocks -------------------------------------------------------------------------- */

enum prefix_use prefix_use_of(const struct prefix_root *root, uint64_t domain)
{
    uint64_t own = root->sealed_in;
    if (domain == own)
        return PREFIX_AS_IS;
    uint32_t i = 0;
    while (i < root->domain_count && root->domains[i] != domain)
        i++;
    if (i >= root->domain_count)
        return PREFIX_NONE;
    if (prefix_domain_covers(domain, own))
        return PREFIX_AS_IS;
    bool private = prefix_domain_kind(domain) == 0;
    return private && prefix_domain_covers(own, domain) ? PREFIX_WIDEN : PREFIX_READ;
}

static bool allowed(const struct prefix_root *root, uint64_t domain, enum prefix_use need)
{
    return need == PREFIX_NONE || prefix_use_of(root, domain) >= need;
}

/* ---- Chain values -------------------------------------------------------------------------------------- */

static struct chain chain_after(const struct prefix_index *index, const struct chain *parent,
                                const uint32_t *ids, uint32_t count)
{
    struct chain chain;
    index->hash.hash(index->hash.self, parent->bytes, ids, count, chain.bytes);
    return chain;
}

struct prefix_root prefix_root(const struct prefix_index *index, uint32_t model,
                               const uint32_t *identity, uint32_t count, const uint64_t *domains,
                               uint32_t domain_count)
{
    static const struct chain none = {{0}};
    return (struct prefix_root){.chain = chain_after(index, &none, identity, count),
                                .model = model,
                                .domains = domains,
                                .domain_count = domain_count,
                                .sealed_in = domains[0]};
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

/* ---- Looking ------------------------------------------------------------------------------------------- */

/* The chain value led here; only this comparison decides. Equal parents mean equal histories, by induction
 * up to the root, where the model is compared. */
static bool entry_confirms(const struct prefix_index *index, block_id block,
                           const struct prefix_root *root, block_id parent, const uint32_t *ids,
                           uint32_t count)
{
    const struct prefix_entry *entry = &index->entries[block];
    return entry->parent == parent && entry->model == root->model && entry->tokens == count &&
           memcmp(prefix_index_ids(index, block), ids, count * sizeof *ids) == 0;
}

static bool is_wider(const struct prefix_index *index, block_id block, block_id than)
{
    return than == BLOCK_NONE || prefix_domain_kind(index->entries[block].domain) >
                                     prefix_domain_kind(index->entries[than].domain);
}

/* With few children to look at, a hash is not worth its time: a long history is a chain of only children. */
#define FEW_CHILDREN 4u

static bool find_among_few(const struct prefix_index *index, const struct prefix_root *root,
                           block_id parent, const uint32_t *ids, uint32_t count,
                           enum prefix_use need, block_id *out_found)
{
    block_id found = BLOCK_NONE;
    uint32_t looks = 0;
    for (block_id block = prefix_index_children(index, root, parent); block != BLOCK_NONE;
         block = index->entries[block].older) {
        if (++looks > FEW_CHILDREN)
            return false;
        if (entry_confirms(index, block, root, parent, ids, count) &&
            allowed(root, index->entries[block].domain, need) && is_wider(index, block, found))
            found = block;
    }
    *out_found = found;
    return true;
}

block_id prefix_index_find(const struct prefix_index *index, const struct prefix_root *root,
                           block_id parent, const uint32_t *ids, uint32_t count,
                           enum prefix_use need)
{
    block_id found = BLOCK_NONE;
    if (find_among_few(index, root, parent, ids, count, need, &found))
        return found;
    struct chain chain = prefix_index_chain(index, root, parent, ids, count);
    for (block_id block = *bucket_of(index, &chain); block != BLOCK_NONE;
         block = index->entries[block].next)
        if (chain_equal(&index->entries[block].chain, &chain) &&
            entry_confirms(index, block, root, parent, ids, count) &&
            allowed(root, index->entries[block].domain, need) && is_wider(index, block, found))
            found = block;
    return found;
}

block_id prefix_index_children(const struct prefix_index *index, const struct prefix_root *root,
                               block_id parent)
{
    return parent == BLOCK_NONE ? index->first_blocks[root->model]
                                : prefix_index_entry(index, parent)->child;
}

static uint32_t common_ids(const struct prefix_index *index, block_id block, const uint32_t *ids,
                           uint32_t count)
{
    const uint32_t *own = prefix_index_ids(index, block);
    uint32_t end = index->entries[block].tokens < count ? index->entries[block].tokens : count;
    uint32_t i = 0;
    while (i < end && own[i] == ids[i])
        i++;
    return i;
}

/* Others' blocks are passed over, but not without end. */
#define PASSES_MAX (16u * PREFIX_LOOKS)

block_id prefix_index_closest(const struct prefix_index *index, const struct prefix_root *root,
                              block_id parent, const uint32_t *ids, uint32_t count,
                              enum prefix_use need, uint32_t *out_common)
{
    block_id closest = BLOCK_NONE;
    uint32_t most = 0, looks = 0, passes = 0;
    for (block_id block = prefix_index_children(index, root, parent);
         block != BLOCK_NONE && looks < PREFIX_LOOKS && passes < PASSES_MAX;
         block = index->entries[block].older, passes++) {
        if (!allowed(root, index->entries[block].domain, need))
            continue;
        uint32_t common = common_ids(index, block, ids, count);
        if (common > most || (common > 0 && common == most && is_wider(index, block, closest))) {
            most = common;
            closest = block;
        }
        looks++;
    }
    if (closest != BLOCK_NONE)
        *out_common = most;
    return closest;
}

block_id prefix_index_find_chain(const struct prefix_index *index, const struct prefix_root *root,
                                 uint32_t depth, uint32_t tokens, const struct chain *chain)
{
    block_id found = BLOCK_NONE;
    for (block_id block = *bucket_of(index, chain); block != BLOCK_NONE;
         block = index->entries[block].next) {
        const struct prefix_entry *entry = &index->entries[block];
        if (chain_equal(&entry->chain, chain) && entry->depth == depth && entry->tokens == tokens &&
            entry->model == root->model && prefix_domain_covers(entry->domain, root->sealed_in) &&
            is_wider(index, block, found))
            found = block;
    }
    return found;
}

/* ---- Changing ------------------------------------------------------------------------------------------ */

static block_id *newest_child(struct prefix_index *index, uint32_t model, block_id parent)
{
    return parent == BLOCK_NONE ? &index->first_blocks[model] : &index->entries[parent].child;
}

static void link_sibling(struct prefix_index *index, block_id block)
{
    struct prefix_entry *entry = &index->entries[block];
    block_id *newest = newest_child(index, entry->model, entry->parent);
    entry->newer = BLOCK_NONE;
    entry->older = *newest;
    if (*newest != BLOCK_NONE)
        index->entries[*newest].newer = block;
    *newest = block;
}

static void unlink_sibling(struct prefix_index *index, block_id block)
{
    const struct prefix_entry *entry = &index->entries[block];
    *(entry->newer == BLOCK_NONE ? newest_child(index, entry->model, entry->parent)
                                 : &index->entries[entry->newer].older) = entry->older;
    if (entry->older != BLOCK_NONE)
        index->entries[entry->older].newer = entry->newer;
}

void prefix_index_insert(struct prefix_index *index, const struct prefix_root *root, block_id block,
                         block_id parent, const uint32_t *ids, uint32_t count)
{
    CHECK(block < index->block_count && !prefix_index_has(index, block));
    CHECK(count > 0 && count <= index->block_tokens_max && root->model < PREFIX_MODELS_MAX);
    const struct chain *above = parent_chain(index, root, parent);
    struct chain chain = chain_after(index, above, ids, count);
    block_id *bucket = bucket_of(index, &chain);
    index->entries[block] = (struct prefix_entry){
        .chain = chain,
        .parent_chain = *above,
        .parent = parent,
        .next = *bucket,
        .child = BLOCK_NONE,
        .model = root->model,
        .domain = root->sealed_in,
        .depth = parent == BLOCK_NONE ? 0 : index->entries[parent].depth + 1,
        .tokens = count,
    };
    *bucket = block;
    memcpy(&index->ids[(size_t)block * index->block_tokens_max], ids, count * sizeof *ids);
    link_sibling(index, block);
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
    unlink_sibling(index, block);
    index->entries[block].tokens = 0;
    index->entry_count--;
}

void prefix_index_widen(struct prefix_index *index, block_id block, uint64_t domain)
{
    CHECK(prefix_index_has(index, block));
    struct prefix_entry *entry = &index->entries[block];
    CHECK(prefix_domain_covers(domain, entry->domain));
    CHECK(entry->parent == BLOCK_NONE ||
          prefix_domain_covers(index->entries[entry->parent].domain, domain));
    entry->domain = domain;
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
        !prefix_domain_covers(parent->domain, entry->domain) ||
        !chain_equal(&parent->chain, &entry->parent_chain))
        return llm_fail(
            error, LLM_ERR_CORRUPT,
            "prefix index: block %u (depth %u, domain %llx) does not continue its parent %u", block,
            entry->depth, (unsigned long long)entry->domain, entry->parent);
    return LLM_OK;
}

/* Counts the children met into `met`. */
static enum llm_status sane_children(const struct prefix_index *index, block_id parent,
                                     block_id newest, uint32_t *met, struct llm_error *error)
{
    block_id newer = BLOCK_NONE;
    for (block_id block = newest; block != BLOCK_NONE; block = index->entries[block].older) {
        if (!prefix_index_has(index, block) || index->entries[block].parent != parent ||
            index->entries[block].newer != newer || ++*met > index->entry_count)
            return llm_fail(error, LLM_ERR_CORRUPT,
                            "prefix index: block %u stands wrongly among the children of %u", block,
                            parent);
        newer = block;
    }
    return LLM_OK;
}

static enum llm_status sane_siblings(const struct prefix_index *index, struct llm_error *error)
{
    uint32_t met = 0;
    enum llm_status status = LLM_OK;
    for (uint32_t model = 0; model < PREFIX_MODELS_MAX && status == LLM_OK; model++)
        status = sane_children(index, BLOCK_NONE, index->first_blocks[model], &met, error);
    for (block_id block = 0; block < index->block_count && status == LLM_OK; block++)
        if (prefix_index_has(index, block))
            status = sane_children(index, block, index->entries[block].child, &met, error);
    if (status == LLM_OK && met != index->entry_count)
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "prefix index: %u entries, but %u stand among siblings", index->entry_count,
                        met);
    return status;
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
    return sane_siblings(index, error);
}
