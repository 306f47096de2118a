/*
 * prefix_index.h - which block already holds the KV of these tokens after those.
 *
 * Idea     An edge of the tree of everything cached: (parent block or root, token ids of one full block)
 *          leads to the block that holds their rows. The root stands for everything else the rows depend
 *          on: model fingerprint, weight version, adapter, KV dtype and the domain that may share them.
 *          The chain value of a block, hash(parent's chain value, ids), finds the edge; comparing the
 *          parent block and the stored ids confirms it. A collision therefore costs time, never a token.
 * Hash     Keyed and 128 bits wide, handed in by the engine: the key lives in the keeper's memory, so that
 *          chain values outlive an engine and no client can construct colliding prompts.
 * Owner    core.c; kv_cache.c decides when a block becomes findable: after its rows were computed.
 * Threads  The engine thread.
 * See      kv_cache.h, README.md (rules 3 and 4), tests/daemon/test_prefix_index.c.
 */
#ifndef LLMD_CORE_PREFIX_INDEX_H
#define LLMD_CORE_PREFIX_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/arena.h"
#include "daemon/core/effect.h"
#include "shm/status.h"

#define CHAIN_BYTES 16

struct chain {
    uint8_t bytes[CHAIN_BYTES];
};

/* A pure function of its arguments and the key behind `self`. */
struct chain_hash {
    void (*hash)(void *self, const uint8_t parent[CHAIN_BYTES], const uint32_t *ids, uint32_t count,
                 uint8_t out[CHAIN_BYTES]);
    void *self;
};

/* What all blocks of one tree have in common. */
struct prefix_root {
    struct chain chain;
    uint32_t
        model; /* slot: stands for fingerprint, version, adapter and dtype while the core is open */
    uint64_t domain; /* who may share */
};

struct prefix_entry {
    struct chain chain;
    struct chain parent_chain; /* the root's for the first block of a chain */
    block_id parent;           /* BLOCK_NONE for the first */
    block_id next;             /* in the same bucket */
    uint32_t model;
    uint64_t domain;
    uint32_t depth;  /* blocks before this one */
    uint32_t tokens; /* ids stored; 0: not in the index */
};

struct prefix_index {
    struct prefix_entry *entries; /* [block_count] */
    uint32_t *ids;                /* [block_count][block_tokens_max] */
    block_id *buckets;            /* [bucket_mask + 1], at least twice as many as blocks */
    struct chain_hash hash;
    uint32_t bucket_mask;
    uint32_t block_count;
    uint32_t block_tokens_max;
    uint32_t entry_count;
};

void prefix_index_init(struct prefix_index *index, struct arena *arena, uint32_t block_count,
                       uint32_t block_tokens_max, struct chain_hash hash);

/* identity [count]: the words that say which model this is; the domain is hashed after them. */
struct prefix_root prefix_root(const struct prefix_index *index, uint32_t model,
                               const uint32_t *identity, uint32_t count, uint64_t domain);

/* The chain value of `ids` after `parent` (BLOCK_NONE: after the root). */
struct chain prefix_index_chain(const struct prefix_index *index, const struct prefix_root *root,
                                block_id parent, const uint32_t *ids, uint32_t count);
/* The block holding exactly `ids` [count] after `parent`, or BLOCK_NONE. */
block_id prefix_index_find(const struct prefix_index *index, const struct prefix_root *root,
                           block_id parent, const uint32_t *ids, uint32_t count);
/* The block at `depth` under `root` with this chain value; for a restart, where parents are known by value. */
block_id prefix_index_find_chain(const struct prefix_index *index, const struct prefix_root *root,
                                 uint32_t depth, const struct chain *chain);
/* `block` is not in the index, nothing equal is, and `parent` is. The ids are copied. */
void prefix_index_insert(struct prefix_index *index, const struct prefix_root *root, block_id block,
                         block_id parent, const uint32_t *ids, uint32_t count);
void prefix_index_remove(struct prefix_index *index, block_id block);

bool prefix_index_has(const struct prefix_index *index, block_id block);
const struct prefix_entry *prefix_index_entry(const struct prefix_index *index, block_id block);
const uint32_t *prefix_index_ids(const struct prefix_index *index, block_id block);

/* "Every entry is in the bucket of its chain value, once; its parent is in the index, one level up, in the
 * same model and domain; entry_count counts them." */
enum llm_status prefix_index_sane(const struct prefix_index *index, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
