/*
 * prefix_index.h - which block already holds the KV of these tokens after those.
 *
 * Idea     An edge of the tree of everything cached: (parent block or root, token ids of one block) leads to
 *          the block that holds their rows. The root stands for everything else the rows depend on: model
 *          fingerprint, weight version, adapter, KV dtype. The chain value of a block, hash(parent's chain
 *          value, ids), finds the edge; comparing the parent block and the stored ids confirms it. A
 *          collision therefore costs time, never a token. A parent with a few children needs no hash: their ids are compared
 *          at once, so that a long history is walked at the speed of comparing it.
 * Domains  Rows depend on ids only, so the hash knows no domain: who may use a block is a word of its own, kind
 *          << 32 | id (llm_domain() of shm/layout.h), and may be widened. Equal ids under one parent may stand
 *          in several domains, once in each. A parent is never narrower than its child: whoever may use the
 *          end of a chain may use all of it.
 * Siblings The children of a block (and of each model's root) stand in a list, newest first, so that a block
 *          that begins like the ids looked for is found too: its leading rows are worth a copy.
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

#define PREFIX_MODELS_MAX 8u /* KV_MODELS_MAX */

#define PREFIX_SHARES_MAX 2u /* public, group */

/* The first `tokens` of a prompt are `domain`'s too: whoever computes their whole blocks seals them there. */
struct prefix_share {
    uint64_t domain;
    uint32_t tokens; /* 0: none */
};

/* Where a chain begins, and which blocks may stand in it. */
struct prefix_root {
    struct chain chain;
    uint32_t
        model; /* slot: stands for fingerprint, version, adapter and dtype while the core is open */
    const uint64_t *domains; /* [domain_count] that may be read */
    uint32_t domain_count;
    uint64_t
        sealed_in; /* domain of new blocks: domains[0], or a wider one for a part of the prompt that is others' too */
};

/* What a chain that is sealed in `sealed_in` may do with a block of some domain. */
enum prefix_use {
    PREFIX_NONE, /* not the reader's at all */
    PREFIX_READ, /* copy its rows: the copy is the reader's own */
    PREFIX_WIDEN, /* stand in the chain once it is widened to `sealed_in`: the reader's private block */
    PREFIX_AS_IS /* stand in the chain: everybody in `sealed_in` may read it */
};
enum prefix_use prefix_use_of(const struct prefix_root *root, uint64_t domain);
/* Private 0, group 1, public 2. */
static inline uint32_t prefix_domain_kind(uint64_t domain)
{
    return (uint32_t)(domain >> 32);
}
/* May everybody in `narrow` read what is in `wide`, as far as the two words say? */
static inline bool prefix_domain_covers(uint64_t wide, uint64_t narrow)
{
    return wide == narrow || prefix_domain_kind(wide) > prefix_domain_kind(narrow);
}

struct prefix_entry {
    struct chain chain;
    struct chain parent_chain; /* the root's for the first block of a chain */
    block_id parent;           /* BLOCK_NONE for the first */
    block_id next;             /* in the same bucket */
    block_id child;            /* its newest child */
    block_id older, newer;     /* among its parent's children */
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
    block_id first_blocks[PREFIX_MODELS_MAX]; /* of each model, the newest without a parent */
    uint32_t bucket_mask;
    uint32_t block_count;
    uint32_t block_tokens_max;
    uint32_t entry_count;
};

void prefix_index_init(struct prefix_index *index, struct arena *arena, uint32_t block_count,
                       uint32_t block_tokens_max, struct chain_hash hash);

/* identity [count]: the words that say which model this is. `domains` [domain_count] must outlive the root; new blocks are
 * sealed in the first. */
struct prefix_root prefix_root(const struct prefix_index *index, uint32_t model,
                               const uint32_t *identity, uint32_t count, const uint64_t *domains,
                               uint32_t domain_count);

/* The chain value of `ids` after `parent` (BLOCK_NONE: after the root). */
struct chain prefix_index_chain(const struct prefix_index *index, const struct prefix_root *root,
                                block_id parent, const uint32_t *ids, uint32_t count);
/* The block holding exactly `ids` [count] after `parent` that may stand in the root's chain (`need` AS_IS, WIDEN) or is
 * readable (READ) or there at all (NONE); of several the one in the widest domain. BLOCK_NONE: there is none. */
block_id prefix_index_find(const struct prefix_index *index, const struct prefix_root *root,
                           block_id parent, const uint32_t *ids, uint32_t count,
                           enum prefix_use need);
/* Of the newest children of `parent`, the one whose ids have the longest prefix in common with `ids` [count]; as above,
 * what `need` allows. At most PREFIX_LOOKS allowed ones are compared. BLOCK_NONE: not even one id; out_common [1..count]. */
#define PREFIX_LOOKS 16u
block_id prefix_index_closest(const struct prefix_index *index, const struct prefix_root *root,
                              block_id parent, const uint32_t *ids, uint32_t count,
                              enum prefix_use need, uint32_t *out_common);
/* The newest child of `parent`; prefix_index_entry()->older leads on. */
block_id prefix_index_children(const struct prefix_index *index, const struct prefix_root *root,
                               block_id parent);
/* The block of `tokens` ids at `depth` under `root` with this chain value that covers `sealed_in`, the widest; for a
 * restart, where parents are known by value. */
block_id prefix_index_find_chain(const struct prefix_index *index, const struct prefix_root *root,
                                 uint32_t depth, uint32_t tokens, const struct chain *chain);
/* `block` is not in the index, nothing equal of `sealed_in` is, and `parent` is. The ids are copied. */
void prefix_index_insert(struct prefix_index *index, const struct prefix_root *root, block_id block,
                         block_id parent, const uint32_t *ids, uint32_t count);
void prefix_index_remove(struct prefix_index *index, block_id block);
/* The block is `domain`'s from now on, which covers the one it had; its parent's covers `domain`. */
void prefix_index_widen(struct prefix_index *index, block_id block, uint64_t domain);

bool prefix_index_has(const struct prefix_index *index, block_id block);
const struct prefix_entry *prefix_index_entry(const struct prefix_index *index, block_id block);
const uint32_t *prefix_index_ids(const struct prefix_index *index, block_id block);

/* "Every entry is in the bucket of its chain value, once, and among its parent's children, once; its parent is in the
 * index, one level up, in the same model and no narrower domain; entry_count counts them." */
enum llm_status prefix_index_sane(const struct prefix_index *index, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
