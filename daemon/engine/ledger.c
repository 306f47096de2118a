#include "daemon/engine/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/contexts.h"
#include "daemon/engine/engine.h"

#define NOBODY      UINT64_MAX
#define INDEX_SLOTS 4096u /* power of two, more than twice LEDGER_ROWS_MAX */
#define ROW_NONE    UINT16_MAX

static_assert(INDEX_SLOTS > 2 * LEDGER_ROWS_MAX, "the index is never full");

/* Rows being added up, found by what tells them apart. */
struct ledger {
    struct llm_ledger_row *rows; /* [capacity] */
    uint32_t capacity;
    uint32_t count;
    uint16_t index[INDEX_SLOTS];
};

static uint32_t hash_of(const struct llm_ledger_row *key)
{
    uint64_t hash = key->owner * UINT64_C(0x9e3779b97f4a7c15) + key->part * 31u + key->state;
    for (const char *c = key->name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    return (uint32_t)(hash >> 20) & (INDEX_SLOTS - 1);
}

static bool same(const struct llm_ledger_row *a, const struct llm_ledger_row *b)
{
    return a->part == b->part && a->state == b->state && a->owner == b->owner &&
           strcmp(a->name, b->name) == 0;
}

/* The row like `key`; a full ledger's last row takes in what has none. */
static struct llm_ledger_row *row_like(struct ledger *ledger, const struct llm_ledger_row *key)
{
    uint32_t at = hash_of(key);
    for (; ledger->index[at] != ROW_NONE; at = (at + 1) & (INDEX_SLOTS - 1))
        if (same(&ledger->rows[ledger->index[at]], key))
            return &ledger->rows[ledger->index[at]];
    if (ledger->count == ledger->capacity)
        return &ledger->rows[ledger->capacity - 1];
    struct llm_ledger_row *row = &ledger->rows[ledger->count];
    ledger->index[at] = (uint16_t)ledger->count++;
    *row = *key;
    row->bytes = row->pinned_bytes = 0;
    return row;
}

static void add(struct ledger *ledger, enum llm_ledger_part part, uint32_t state, uint64_t owner,
                const char *name, uint64_t bytes)
{
    struct llm_ledger_row key = {.part = part, .state = state, .owner = owner};
    snprintf(key.name, sizeof key.name, "%.*s", LLM_NAME_BYTES - 1, name);
    if (bytes > 0)
        row_like(ledger, &key)->bytes += bytes;
}

/* ---- The pool: slab by slab, block by block, what is left over is nobody's --------------------------- */

static const struct executor_facts *facts_of(const struct engine *engine, uint32_t model)
{
    return &engine->executors[model < engine->executor_count ? model : 0]->facts;
}

static void add_pool(struct ledger *ledger, const struct engine *engine, uint64_t pool_bytes)
{
    uint64_t in_blocks = 0;
    uint32_t blocks = core_blocks(engine->core);
    for (block_id block = 0; block < blocks; block++) {
        struct core_block_view view = core_block_view(engine->core, block);
        if (view.state == CORE_STATE_UNOWNED)
            continue;
        const struct executor_facts *facts = facts_of(engine, view.model);
        bool free = view.state == CORE_STATE_FREE;
        add(ledger, LLM_LEDGER_POOL, (uint32_t)view.state, free ? NOBODY : view.domain,
            free ? "" : facts->name, facts->block_bytes);
        in_blocks += facts->block_bytes;
    }
    add(ledger, LLM_LEDGER_POOL, CORE_STATE_FREE, NOBODY, "",
        pool_bytes > in_blocks ? pool_bytes - in_blocks : 0);
}

static void add_pins(struct ledger *ledger, const struct engine *engine)
{
    for (uint32_t slot = 0; slot < engine->contexts.count; slot++) {
        const struct context *context = &engine->contexts.slots[slot];
        if (!context->live || context->pinned_blocks == 0)
            continue;
        const struct executor_facts *facts = contexts_facts(engine, slot);
        struct llm_ledger_row key = {
            .part = LLM_LEDGER_POOL, .state = CORE_STATE_HELD, .owner = context->domains[0]};
        snprintf(key.name, sizeof key.name, "%s", facts->name);
        struct llm_ledger_row *row = row_like(ledger, &key);
        row->pinned_bytes += context->pinned_blocks * facts->block_bytes;
        if (row->pinned_bytes > row->bytes)
            row->pinned_bytes = row->bytes; /* several pin the same blocks */
    }
}

/* ---- Everything else ------------------------------------------------------------------------------- */

#define WEIGHTS "weights/"

/* "weights/<id of the load>" is that model's. */
static const char *weights_name(const struct engine *engine, const char *memory)
{
    uint32_t model = models_of_id(engine, strtoull(memory + sizeof WEIGHTS - 1, NULL, 10));
    return model == UINT32_MAX ? memory : engine->executors[model]->facts.name;
}

static void add_kept(struct ledger *ledger, const struct engine *engine)
{
    for (uint32_t i = 0; i < engine->kept.count; i++) {
        const struct kept_memory *memory = &engine->kept.items[i];
        if (strcmp(memory->name, ENGINE_POOL_NAME) == 0)
            add_pool(ledger, engine, memory->bytes);
        else if (strncmp(memory->name, WEIGHTS, sizeof WEIGHTS - 1) == 0)
            add(ledger, LLM_LEDGER_WEIGHTS, 0, NOBODY, weights_name(engine, memory->name),
                memory->bytes);
        else
            add(ledger, LLM_LEDGER_TABLES, 0, NOBODY, memory->name, memory->bytes);
    }
}

static void add_workspaces(struct ledger *ledger, const struct engine *engine)
{
    for (uint32_t model = 0; model < engine->executor_count; model++)
        add(ledger, LLM_LEDGER_WORKSPACE, 0, NOBODY, engine->executors[model]->facts.name,
            engine->executors[model]->facts.workspace_bytes);
}

static void add_clients(struct ledger *ledger, const struct engine *engine)
{
    for (uint32_t slot = 0; slot < engine->connection_end; slot++) {
        const struct connection *connection = &engine->connections[slot];
        if (connection->attached)
            add(ledger, LLM_LEDGER_CLIENTS, 0, llm_domain(LLM_DOMAIN_PRIVATE, connection->peer.uid),
                "", connection->up_map.total_bytes + connection->down_map.total_bytes);
    }
}

static bool may_see(const struct connection *connection, uint64_t owner)
{
    if (connection->peer.administrator)
        return true;
    for (uint32_t i = 0; i < connection->domains.count; i++)
        if (connection->domains.domains[i] == owner)
            return true;
    return false;
}

uint32_t ledger_take(const struct engine *engine, const struct connection *connection,
                     struct llm_ledger_row *out_rows, uint32_t capacity)
{
    struct ledger ledger = {.rows = out_rows,
                            .capacity = capacity < LEDGER_ROWS_MAX ? capacity : LEDGER_ROWS_MAX};
    if (ledger.capacity == 0)
        return 0;
    memset(ledger.index, 0xff, sizeof ledger.index);
    add_kept(&ledger, engine);
    add_pins(&ledger, engine);
    add_workspaces(&ledger, engine);
    add_clients(&ledger, engine);
    uint32_t seen = 0;
    for (uint32_t i = 0; i < ledger.count; i++)
        if (may_see(connection, out_rows[i].owner))
            out_rows[seen++] = out_rows[i];
    return seen;
}

uint32_t ledger_blocks(const struct engine *engine, uint32_t first,
                       struct llm_block_view *out_blocks, uint32_t capacity)
{
    uint32_t count = 0, blocks = core_blocks(engine->core);
    for (block_id block = first; block < blocks && count < capacity; block++) {
        struct core_block_view view = core_block_view(engine->core, block);
        out_blocks[count++] = (struct llm_block_view){.block = block,
                                                      .state = (uint8_t)view.state,
                                                      .model = (uint8_t)view.model,
                                                      .tokens = (uint16_t)view.tokens,
                                                      .references = view.references,
                                                      .parent = view.parent,
                                                      .depth = view.depth,
                                                      .domain = view.domain};
    }
    return count;
}
