#include "daemon/sim/ideal.h"

#include <stdlib.h>
#include <string.h>

#include "shm/check.h"

#define NONE UINT32_MAX

/* A cached block: its chain value, its neighbours in the list by last use, the next of its bucket. */
struct entry {
    uint64_t chain;
    uint32_t older, newer, next;
};

struct cache {
    struct entry *entries; /* [entry_count] in use, but for those in the free list */
    uint32_t *buckets;     /* [bucket_mask + 1] */
    uint32_t bucket_mask;
    uint32_t oldest, newest, free;
    uint32_t entry_count;
    uint64_t cached, cached_max;
    uint64_t made;
};

static uint32_t *find(struct cache *cache, uint64_t chain)
{
    uint32_t *at = &cache->buckets[chain & cache->bucket_mask];
    while (*at != NONE && cache->entries[*at].chain != chain)
        at = &cache->entries[*at].next;
    return at;
}

static void unlink_entry(struct cache *cache, uint32_t entry)
{
    struct entry *e = &cache->entries[entry];
    *(e->older == NONE ? &cache->oldest : &cache->entries[e->older].newer) = e->newer;
    *(e->newer == NONE ? &cache->newest : &cache->entries[e->newer].older) = e->older;
}

static void link_newest(struct cache *cache, uint32_t entry)
{
    struct entry *e = &cache->entries[entry];
    e->older = cache->newest;
    e->newer = NONE;
    *(cache->newest == NONE ? &cache->oldest : &cache->entries[cache->newest].newer) = entry;
    cache->newest = entry;
}

static void evict_oldest(struct cache *cache)
{
    uint32_t entry = cache->oldest;
    uint32_t *at = find(cache, cache->entries[entry].chain);
    *at = cache->entries[entry].next;
    unlink_entry(cache, entry);
    cache->entries[entry].next = cache->free;
    cache->free = entry;
    cache->cached--;
}

static void insert(struct cache *cache, uint64_t chain)
{
    uint32_t entry = cache->free;
    if (entry != NONE)
        cache->free = cache->entries[entry].next;
    else
        entry = cache->entry_count++;
    uint32_t *bucket = &cache->buckets[chain & cache->bucket_mask];
    cache->entries[entry] = (struct entry){.chain = chain, .next = *bucket};
    *bucket = entry;
    link_newest(cache, entry);
    cache->cached++;
    cache->made++;
}

/* chains [count]: of the blocks of one prompt. Returns how many of the first ones are cached. */
static uint32_t found(struct cache *cache, const uint64_t *chains, uint32_t count)
{
    uint32_t hits = 0;
    while (hits < count && *find(cache, chains[hits]) != NONE)
        hits++;
    return hits;
}

/* Room first, then the prompt's blocks from its end, so that leaves are the older ones. What is found is out of the
 * list meanwhile. */
static void use(struct cache *cache, const uint64_t *chains, uint32_t count, uint32_t hits)
{
    for (uint32_t i = 0; i < hits; i++)
        unlink_entry(cache, *find(cache, chains[i]));
    while (cache->oldest != NONE && cache->cached + (count - hits) > cache->cached_max)
        evict_oldest(cache);
    for (uint32_t i = count; i-- > 0;) {
        uint32_t entry = *find(cache, chains[i]);
        if (i < hits)
            link_newest(cache, entry);
        else if (entry == NONE)
            insert(cache, chains[i]);
    }
    while (cache->cached > cache->cached_max) /* a prompt larger than the cache */
        evict_oldest(cache);
}

static void chain_blocks(const struct trace *trace, const struct trace_request *request,
                         uint32_t block_tokens, uint32_t *ids, uint64_t *out_chains)
{
    uint64_t chain = 0;
    for (uint32_t from = 0; from < request->prompt_tokens; from += block_tokens) {
        uint32_t rest = request->prompt_tokens - from;
        uint32_t count = rest < block_tokens ? rest : block_tokens;
        trace_ids(trace, request, from, count, ids);
        for (uint32_t i = 0; i < count; i++)
            chain = trace_mix(chain, ids[i]);
        *out_chains++ = chain = trace_mix(chain, count);
    }
}

static uint32_t blocks_of(const struct trace_request *request, uint32_t block_tokens)
{
    return (request->prompt_tokens - 1) / block_tokens + 1;
}

static void play(struct cache *cache, const struct trace *trace, uint32_t block_tokens,
                 uint32_t *ids, uint64_t *chains, struct ideal *ideal)
{
    for (uint32_t r = 0; r < trace->count; r++) {
        const struct trace_request *request = &trace->requests[r];
        uint32_t count = blocks_of(request, block_tokens);
        chain_blocks(trace, request, block_tokens, ids, chains);
        uint32_t hits = found(cache, chains, count);
        uint64_t tokens = (uint64_t)hits * block_tokens;
        use(cache, chains, count, hits);
        ideal->hit_tokens += tokens < request->prompt_tokens ? tokens : request->prompt_tokens - 1;
        ideal->prompt_tokens += request->prompt_tokens;
        ideal->blocks += count;
    }
    ideal->made_blocks = cache->made;
}

enum llm_status ideal_compute(const struct trace *trace, uint32_t block_tokens, uint64_t blocks_max,
                              struct ideal *out_ideal, struct llm_error *error)
{
    uint64_t all = 0;
    uint32_t longest = 1;
    for (uint32_t r = 0; r < trace->count; r++) {
        uint32_t blocks = blocks_of(&trace->requests[r], block_tokens);
        all += blocks;
        longest = blocks > longest ? blocks : longest;
    }
    CHECK(all < NONE);
    uint64_t entries = blocks_max > 0 && blocks_max + longest < all ? blocks_max + longest : all;
    struct cache cache = {.oldest = NONE, .newest = NONE, .free = NONE, .bucket_mask = 1};
    cache.cached_max = blocks_max > 0 ? blocks_max : all;
    while (cache.bucket_mask < entries)
        cache.bucket_mask = 2 * cache.bucket_mask + 1;
    cache.entries = calloc(entries, sizeof *cache.entries);
    cache.buckets = malloc((cache.bucket_mask + 1) * sizeof *cache.buckets);
    uint32_t *ids = malloc(block_tokens * sizeof *ids);
    uint64_t *chains = malloc(longest * sizeof *chains);
    enum llm_status status = LLM_OK;
    if (cache.entries && cache.buckets && ids && chains) {
        memset(cache.buckets, 0xff, (cache.bucket_mask + 1) * sizeof *cache.buckets);
        *out_ideal = (struct ideal){0};
        play(&cache, trace, block_tokens, ids, chains, out_ideal);
    } else {
        status = llm_fail(error, LLM_ERR_MEMORY, "no memory for a cache of %llu blocks",
                          (unsigned long long)entries);
    }
    free(cache.entries);
    free(cache.buckets);
    free(ids);
    free(chains);
    return status;
}
