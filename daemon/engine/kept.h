/*
 * kept.h - memories that outlive this engine, by name.
 *
 * Idea     Whatever must survive is asked for by name: kept_take() maps what an earlier engine left, or has
 *          the keeper make it. Who takes it says what must hold for the old content to count.
 * Owner    The keeper holds the memories; the engine their mappings, until it ends.
 * Threads  The engine thread.
 * See      daemon/keeper/memories.h.
 */
#ifndef LLMD_ENGINE_KEPT_H
#define LLMD_ENGINE_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/link.h"
#include "shm/status.h"

#define KEPT_MAX 256

struct kept_memory {
    char name[CHANNEL_NAME_BYTES];
    int fd;
    uint64_t bytes;
    uint32_t flags;
};

struct kept {
    struct link *link;
    uint32_t count;
    struct kept_memory items[KEPT_MAX];
};

/* From the manifest; takes over `fd`. */
void kept_add(struct kept *kept, const char *name, int fd, uint64_t bytes, uint32_t flags);
/* NULL when there is none. */
const struct kept_memory *kept_find(const struct kept *kept, const char *name);

/* Map it as it is; a public one read-only. LLM_ERR_NOT_FOUND, LLM_ERR_MEMORY. */
enum llm_status kept_map(const struct kept *kept, const char *name, void **out_address,
                         struct llm_error *error) LLM_MUST_CHECK;
/* Map `bytes` under `name`; one of another size is dropped and made anew, zeroed.
 *   out_kept   its content is what an earlier engine left */
enum llm_status kept_take(struct kept *kept, const char *name, uint64_t bytes, void **out_address,
                          bool *out_kept, struct llm_error *error) LLM_MUST_CHECK;
/* Put `content` where clients can map it under `name`, in place of what was there; nobody can change it from then
 * on, and who mapped the old one keeps it. */
enum llm_status kept_publish(struct kept *kept, const char *name, const void *content,
                             uint64_t bytes, struct llm_error *error) LLM_MUST_CHECK;
/* Large, and read or written as a whole soon: pages of 2 MiB, where the kernel gives them for shared memory. */
void kept_advise_huge(void *address, uint64_t bytes);
enum llm_status kept_drop(struct kept *kept, const char *name, struct llm_error *error)
    LLM_MUST_CHECK;

#endif
