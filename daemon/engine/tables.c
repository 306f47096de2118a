#include "daemon/engine/tables.h"

#include <string.h>
#include <sys/mman.h>

#include "daemon/log.h"
#include "shm/crash_point.h"
#include "shm/status_file.h"

struct table_shape {
    const char *name;
    uint32_t record_bytes;
    uint64_t record_count;
    uint64_t layout_check;
};

static bool header_matches(const struct llm_table_header *header, const struct table_shape *shape)
{
    return atomic_load_explicit(&header->complete, memory_order_acquire) == LLM_TABLE_MAGIC &&
           header->magic == LLM_TABLE_MAGIC && header->abi_major == LLM_ABI_MAJOR &&
           header->record_bytes == shape->record_bytes &&
           header->record_count == shape->record_count &&
           header->layout_check == shape->layout_check;
}

static void write_header(struct llm_table_header *header, const struct table_shape *shape)
{
    header->magic = LLM_TABLE_MAGIC;
    header->abi_major = LLM_ABI_MAJOR;
    header->record_bytes = shape->record_bytes;
    header->record_count = shape->record_count;
    header->layout_check = shape->layout_check;
    CRASH_POINT(table_fields);
    atomic_store_explicit(&header->complete, LLM_TABLE_MAGIC, memory_order_release);
    CRASH_POINT(table_complete);
}

/* Tables are sparse: zeros that nobody wrote take no memory. */
static void clear(void *address, uint64_t bytes)
{
    if (madvise(address, bytes, MADV_REMOVE) != 0)
        memset(address, 0, bytes);
}

static enum llm_status take(struct kept *kept, const struct table_shape *shape, void **out_records,
                            bool *out_kept, struct llm_error *error)
{
    uint64_t bytes = LLM_TABLE_RECORDS_OFFSET + shape->record_count * shape->record_bytes;
    void *address;
    bool was_there;
    enum llm_status status = kept_take(kept, shape->name, bytes, &address, &was_there, error);
    if (status != LLM_OK)
        return status;
    bool match = was_there && header_matches(address, shape);
    if (was_there && !match) {
        log_line(LOG_LEVEL_WARN, "table \"%s\" was left by another kind of engine: starting empty",
                 shape->name);
        clear(address, bytes);
    }
    if (!match)
        write_header(address, shape);
    *out_records = (char *)address + LLM_TABLE_RECORDS_OFFSET;
    *out_kept = match;
    return LLM_OK;
}

enum llm_status tables_open_requests(struct tables *tables, struct kept *kept,
                                     uint32_t request_slots, uint32_t context_tokens_max,
                                     struct llm_error *error)
{
    const struct table_shape connections = {
        LLM_TABLE_CONNECTIONS, sizeof(struct llm_conntab_record), LLM_STATUS_CONNECTIONS_MAX, 0};
    const struct table_shape requests = {LLM_TABLE_REQUESTS, sizeof(struct llm_reqtab_record),
                                         request_slots, context_tokens_max};
    const struct table_shape ids = {LLM_TABLE_TOKENS,
                                    (uint32_t)(2 * sizeof(uint32_t) * context_tokens_max),
                                    request_slots, context_tokens_max};
    const struct table_shape steering = {LLM_TABLE_STEERING, sizeof(struct llm_steering_record),
                                         request_slots, 0};
    bool connections_kept = false, requests_kept = false, ids_kept = false, steering_kept = false;
    void *at[4] = {NULL};
    enum llm_status status = take(kept, &connections, &at[0], &connections_kept, error);
    if (status == LLM_OK)
        status = take(kept, &requests, &at[1], &requests_kept, error);
    if (status == LLM_OK)
        status = take(kept, &ids, &at[2], &ids_kept, error);
    if (status == LLM_OK)
        status = take(kept, &steering, &at[3], &steering_kept, error);
    if (status != LLM_OK)
        return status;
    tables->connections = at[0];
    tables->requests = at[1];
    tables->ids = at[2];
    tables->steering = at[3];
    tables->request_slots = request_slots;
    tables->context_tokens_max = context_tokens_max;
    tables->requests_kept = connections_kept && requests_kept && ids_kept && steering_kept;
    return LLM_OK;
}

enum llm_status tables_open_contexts(struct tables *tables, struct kept *kept,
                                     uint32_t context_slots, uint32_t row_count,
                                     struct llm_error *error)
{
    uint32_t context_tokens_max = tables->context_tokens_max;
    const struct table_shape contexts = {LLM_TABLE_CONTEXTS, sizeof(struct llm_ctxtab_record),
                                         context_slots, 0};
    const struct table_shape rows = {LLM_TABLE_ROWS, sizeof(struct llm_ctxrow_record), row_count,
                                     context_tokens_max};
    const struct table_shape ids = {LLM_TABLE_ROW_IDS,
                                    (uint32_t)sizeof(uint32_t) * context_tokens_max, row_count,
                                    context_tokens_max};
    bool contexts_kept = false, rows_kept = false, ids_kept = false;
    void *at[3] = {NULL};
    enum llm_status status = take(kept, &contexts, &at[0], &contexts_kept, error);
    if (status == LLM_OK)
        status = take(kept, &rows, &at[1], &rows_kept, error);
    if (status == LLM_OK)
        status = take(kept, &ids, &at[2], &ids_kept, error);
    if (status != LLM_OK)
        return status;
    tables->contexts = at[0];
    tables->rows = at[1];
    tables->row_ids = at[2];
    tables->context_slots = context_slots;
    tables->row_count = row_count;
    tables->contexts_kept = contexts_kept && rows_kept && ids_kept;
    tables->context_ids_known = contexts_kept;
    return LLM_OK;
}

enum llm_status tables_open_blocks(struct tables *tables, struct kept *kept, uint32_t block_count,
                                   uint32_t block_tokens_max, bool pool_kept,
                                   struct llm_error *error)
{
    const struct table_shape blocks = {LLM_TABLE_BLOCKS, sizeof(struct llm_kvhdr_record),
                                       block_count, block_tokens_max};
    const struct table_shape ids = {LLM_TABLE_BLOCK_IDS,
                                    (uint32_t)sizeof(uint32_t) * block_tokens_max, block_count,
                                    block_tokens_max};
    bool blocks_kept = false, ids_kept = false;
    void *at[2] = {NULL};
    enum llm_status status = take(kept, &blocks, &at[0], &blocks_kept, error);
    if (status == LLM_OK)
        status = take(kept, &ids, &at[1], &ids_kept, error);
    if (status != LLM_OK)
        return status;
    tables->blocks = at[0];
    tables->block_ids = at[1];
    tables->block_count = block_count;
    tables->block_tokens_max = block_tokens_max;
    tables->blocks_kept = blocks_kept && ids_kept && pool_kept;
    return LLM_OK;
}
