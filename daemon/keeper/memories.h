/*
 * memories.h - the named memories that outlive every engine.
 *
 * Idea     The engine asks for memory by name and maps it; the keeper holds the descriptor, so that weights,
 *          KV blocks and tables are still there when the engine is not. A restarted engine is told all of them
 *          before anything else.
 * Owner    The keeper owns the descriptors; the engine gets copies.
 * Threads  The keeper's only one.
 * Trust    Names and sizes come from the engine, which may be wrong about anything: both are checked, the
 *          number of memories is bounded.
 * See      daemon/channel.h (KEPT, ALLOC, DEPOSIT, DROP).
 */
#ifndef LLMD_KEEPER_MEMORIES_H
#define LLMD_KEEPER_MEMORIES_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/channel.h"
#include "shm/status.h"

#define MEMORIES_MAX       256
#define MEMORIES_BYTES_MAX (UINT64_C(1) << 46)

struct memory {
    char name[CHANNEL_NAME_BYTES]; /* empty: free */
    int fd;
    uint64_t bytes;
    uint32_t flags; /* enum channel_memory_flags */
    bool told;      /* the running engine knows of it */
};

struct memories {
    struct memory items[MEMORIES_MAX];
};

void memories_init(struct memories *memories);
void memories_close(struct memories *memories);

/* A name: 1..63 letters, digits, '.', '_', '-' or '/'. */
bool memories_name_ok(const char *name);
/* NULL when there is none of that name. */
struct memory *memories_find(struct memories *memories, const char *name);

/* Take over `fd` under `name`. LLM_ERR_INVALID (name, or it exists), LLM_ERR_LIMIT (too many): `fd` stays
 * the caller's. */
enum llm_status memories_keep(struct memories *memories, const char *name, int fd, uint64_t bytes,
                              struct memory **out_memory, struct llm_error *error) LLM_MUST_CHECK;
/* Make a new one. LLM_ERR_INVALID (name, exists, 0 bytes), LLM_ERR_LIMIT, LLM_ERR_MEMORY. */
enum llm_status memories_alloc(struct memories *memories, const char *name, uint64_t bytes,
                               struct memory **out_memory, struct llm_error *error) LLM_MUST_CHECK;
/* Let clients map it read-only; nobody can write to it from then on. */
enum llm_status memories_publish(struct memories *memories, const char *name,
                                 struct llm_error *error) LLM_MUST_CHECK;
enum llm_status memories_drop(struct memories *memories, const char *name, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
