/*
 * effect.h - what a call into the core changed, in order, for the engine to mirror.
 *
 * Idea     The core touches no table of the keeper's. Each call leaves a list of effects; the engine writes
 *          them to kvhdr, kvtok and reqtab one after the other before it acts on the call's answer. Every
 *          prefix of the list is a state that recovery understands: a block is sealed after its parent and
 *          freed before it, and it is freed before it is taken again. What a call does to a block that it frees
 *          again is not said, but that it was taken and freed.
 * Owner    core.c owns the list; kv_pool.c, kv_cache.c, scheduler.c and core.c append to it.
 * Threads  The engine thread.
 * See      core.h (core_effects), README.md rule 6, shm/tables.h.
 */
#ifndef LLMD_CORE_EFFECT_H
#define LLMD_CORE_EFFECT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/core/arena.h"

typedef uint32_t block_id;
#define BLOCK_NONE   UINT32_MAX
#define REQUEST_NONE UINT32_MAX

enum core_effect_kind {
    /* block: now WRITING; its old content is void. value 1: another domain's or unknown: zero it */
    CORE_BLOCK_TAKEN = 1,
    CORE_BLOCK_SEALED, /* block: computed and findable; core_block_info() has what to write down */
    CORE_BLOCK_FREED,  /* block: nobody needs it, its content counts for nothing */
    CORE_REQUEST_STARTED,   /* slot: waits no longer; also after a preemption */
    CORE_REQUEST_PREEMPTED, /* slot: waits again; what it published stays published */
    CORE_REQUEST_TOKEN,     /* slot, value: this id was appended to the row of ids; publish it */
    CORE_REQUEST_FINISHED,  /* slot, value: enum core_finish; the slot is free again */
    /* block, just TAKEN: copy all rows of block `value` into it, before anything else happens to either. `value` is
     * sealed, or was being written until this call, which also frees it. */
    CORE_BLOCK_COPIED,
    CORE_BLOCK_WIDENED, /* block: sealed, and now in the wider `domain`, after its parent */
    CORE_REQUEST_SCORED /* slot, value: positions below it are scored; publish what the step said of them */
};

/* Why a request ended; the numbers of enum llm_finish in shm/layout.h. */
enum core_finish {
    CORE_FINISH_NONE = 0,
    CORE_FINISH_STOP_ID = 1,
    CORE_FINISH_STOP_STRING = 2,
    CORE_FINISH_LENGTH = 3,
    CORE_FINISH_CONTEXT = 4,
    CORE_FINISH_CANCELLED = 5,
    CORE_FINISH_FAILED = 6
};

struct core_effect {
    enum core_effect_kind kind;
    uint32_t slot;   /* REQUEST_NONE for blocks */
    block_id block;  /* BLOCK_NONE for requests */
    uint32_t value;  /* a source block, a finish, a token: as the kind says; else 0 */
    uint64_t domain; /* SEALED, WIDENED: whose the block is after this effect; else 0 */
};

struct effect_list {
    struct core_effect *items;
    uint32_t count;
    uint32_t capacity;
    uint32_t changes; /* SEALED, WIDENED and COPIED among them */
    uint32_t voided; /* of those, whose block was freed again: effect_list_close() takes them out */
};

void effect_list_init(struct effect_list *list, struct arena *arena, uint32_t capacity);
void effect_block(struct effect_list *list, enum core_effect_kind kind, block_id block,
                  uint32_t value);
/* SEALED or WIDENED, with the domain it has from now on. */
void effect_domain(struct effect_list *list, enum core_effect_kind kind, block_id block,
                   uint64_t domain);
/* FREED. That the block was sealed, widened or copied into in the same call need not be said any more, nor could it be: its
 * facts are gone; nor need it be zeroed. `sealed`: it was, now or before. True: nobody outside knows whose rows it holds. */
bool effect_freed(struct effect_list *list, block_id block, bool sealed);
void effect_list_begin(struct effect_list *list);
void effect_list_close(struct effect_list *list);
void effect_request(struct effect_list *list, enum core_effect_kind kind, uint32_t slot,
                    uint32_t value);

#endif
