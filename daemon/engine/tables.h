/*
 * tables.h - the engine's mappings of the tables of shm/tables.h.
 *
 * Idea     Each table is a kept memory whose first page says what its records are. A table that an earlier
 *          engine left counts only when its header says exactly what we would write: anything else is
 *          dropped, and the daemon starts with an empty one and a warning, never with a misread one.
 * Owner    The mappings last until the engine ends.
 * See      shm/tables.h, journal.h (who writes), recovery.h (who reads).
 */
#ifndef LLMD_ENGINE_TABLES_H
#define LLMD_ENGINE_TABLES_H

#include "daemon/engine/kept.h"
#include "shm/tables.h"

struct tables {
    struct llm_conntab_record *connections; /* [LLM_STATUS_CONNECTIONS_MAX] */
    struct llm_reqtab_record *requests;     /* [request_slots] */
    struct llm_steering_record *steering;   /* [request_slots] */
    uint32_t *ids;                          /* [request_slots][2][context_tokens_max] */
    struct llm_kvhdr_record *blocks;        /* [block_count] */
    uint32_t *block_ids;                    /* [block_count][block_tokens_max] */
    struct llm_ctxtab_record *contexts;     /* [context_slots] */
    struct llm_ctxrow_record *rows;         /* [row_count] */
    uint32_t *row_ids;                      /* [row_count][context_tokens_max] */
    uint32_t request_slots;
    uint32_t context_tokens_max;
    uint32_t block_count;
    uint32_t block_tokens_max;
    uint32_t context_slots;
    uint32_t row_count;
    bool requests_kept; /* what an earlier engine left is there */
    bool blocks_kept;
    bool contexts_kept;     /* contexts and the rows with their ids */
    bool context_ids_known; /* at least the ids that contexts had */
};

/* Take the tables for connections and requests. */
enum llm_status tables_open_requests(struct tables *tables, struct kept *kept,
                                     uint32_t request_slots, uint32_t context_tokens_max,
                                     struct llm_error *error) LLM_MUST_CHECK;
/* Take the tables for contexts and their rows, each as long as a request's. */
enum llm_status tables_open_contexts(struct tables *tables, struct kept *kept,
                                     uint32_t context_slots, uint32_t row_count,
                                     struct llm_error *error) LLM_MUST_CHECK;
/* Take the tables for blocks. `pool_kept`: the blocks' content is there as well. */
enum llm_status tables_open_blocks(struct tables *tables, struct kept *kept, uint32_t block_count,
                                   uint32_t block_tokens_max, bool pool_kept,
                                   struct llm_error *error) LLM_MUST_CHECK;

/* The row of ids of a request, and behind it its log-probabilities (f32 bits). */
static inline uint32_t *tables_ids(const struct tables *tables, uint32_t slot)
{
    return tables->ids + (size_t)slot * 2 * tables->context_tokens_max;
}
static inline float *tables_logprobs(const struct tables *tables, uint32_t slot)
{
    return (float *)(void *)(tables_ids(tables, slot) + tables->context_tokens_max);
}

#endif
