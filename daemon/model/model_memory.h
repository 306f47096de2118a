/*
 * model_memory.h - where the memory for packed weights comes from.
 *
 * Idea     The reader of weights asks for named memory and is told whether its content survived from an
 *          earlier engine with the same name. In the daemon the keeper holds that memory, so a restarted
 *          engine finds the packed weights in place; tests and tools take ordinary pages.
 * Owner    Whoever implements the callback; it outlives the model. model_close() gives nothing back.
 * Trust    Kept content may be half written (the engine can die while it packs): it counts only when
 *          its header's commit word says so. See daemon/model/weights.h.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_MEMORY_H
#define LLM_DAEMON_MODEL_MODEL_MEMORY_H

#include "shm/status.h"

#include <stdbool.h>
#include <stddef.h>

struct model_memory {
    /* Get `bytes` bytes (> 0) under `name` (at most 63 bytes), page-aligned, writable, zeroed unless kept.
     * Kept memory has exactly `bytes`; the implementation drops a piece of another size and makes anew. */
    enum llm_status (*take)(void *self, const char *name, size_t bytes, void **out_address,
                            bool *out_kept, struct llm_error *error);
    bool
        kept_only; /* weights that are not kept whole, for these very files, are a failure: nothing is read again */
    void *self;
};
/* What that failure is: LLM_ERR_CORRUPT. */
LLM_MUST_CHECK enum llm_status model_memory_changed(struct llm_error *error);

/* Anonymous pages of this process, never kept; all go back with model_pages_close(). */
#define MODEL_PAGES_PIECES_MAX 16
struct model_pages {
    void *addresses[MODEL_PAGES_PIECES_MAX];
    size_t bytes[MODEL_PAGES_PIECES_MAX];
    unsigned piece_count;
};
struct model_memory model_memory_from_pages(struct model_pages *pages);
void model_pages_close(struct model_pages *pages);

#endif
