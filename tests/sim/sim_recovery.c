#include "tests/sim/sim_recovery.h"

#include <string.h>

#include "tests/sim/sim_mirror.h"

/* A stray write of a dying engine: the record's check would usually find it; here the core must. */
static void damage_some(struct sim *sim)
{
    for (block_id block = 0; block < sim->tables.block_count; block++) {
        struct sim_block *b = &sim->tables.blocks[block];
        if (b->state != SIM_SEALED || !sim_chance(&sim->random, 20))
            continue;
        if (sim_chance(&sim->random, 500))
            b->ids[sim_below(&sim->random, b->info.tokens)] ^= 1u << sim_below(&sim->random, 31);
        else
            b->info.chain.bytes[sim_below(&sim->random, CHAIN_BYTES)] ^= 0x10;
    }
}

static void forget_block(struct sim *sim, block_id block)
{
    sim->tables.blocks[block].state = SIM_FREE;
    sim_scramble(&sim->tables, block);
}

/* Other weights under the same name: what was computed with the old ones is void. */
static bool replace_weights(struct sim *sim)
{
    bool replaced = sim_chance(&sim->random, 100);
    if (replaced)
        sim->models[0].identity[0]++;
    return replaced;
}

/* The same content stood twice in one domain, behind equal blocks of different domains. Only one parent is left to
 * them: a chain value does not say which it was. */
static bool has_twin(const struct sim *sim, block_id block)
{
    const struct core_block_info *info = &sim->tables.blocks[block].info;
    for (block_id other = 0; other < sim->tables.block_count; other++) {
        const struct sim_block *b = &sim->tables.blocks[other];
        if (other != block && b->state == SIM_SEALED && b->info.model == info->model &&
            b->info.depth == info->depth && b->info.domain == info->domain &&
            memcmp(&b->info.chain, &info->chain, sizeof info->chain) == 0)
            return true;
    }
    return false;
}

static void adopt_blocks(struct sim *sim, bool damaged)
{
    for (uint32_t depth = 0; depth < SIM_CONTEXT_MAX; depth++)
        for (block_id block = 0; block < sim->tables.block_count; block++) {
            const struct sim_block *b = &sim->tables.blocks[block];
            if (b->state != SIM_SEALED || b->info.depth != depth)
                continue;
            struct llm_error error;
            enum llm_status status = core_adopt_block(sim->core, block, &b->info, &error);
            if (status == LLM_OK) {
                sim->adopted++;
                continue;
            }
            bool expected = status == LLM_ERR_BUSY ? has_twin(sim, block)
                                                   : damaged && (status == LLM_ERR_CORRUPT ||
                                                                 status == LLM_ERR_NOT_FOUND);
            if (!expected)
                sim_fail(sim, "block %u was not adopted: %s", block, error.message);
            sim->refused++;
            forget_block(sim, block);
        }
}

static void admit_again(struct sim *sim, uint32_t slot)
{
    struct sim_request *request = &sim->tables.requests[slot];
    const struct core_model *model = &sim->models[request->request.model];
    bool scored =
        request->scored == request->request.prompt_tokens && request->request.kind == CORE_SCORE;
    if (scored || sim_end(request, model->context_tokens_max) == CORE_FINISH_STOP_ID) {
        request->live =
            false; /* the engine sees the stop id by itself; the core would see a length */
        return;
    }
    request->cancelled = false; /* nobody remembers */
    request->broken = false;
    request->ahead_tokens = 0;
    request->ahead_scored = 0;
    request->request.generated_tokens = request->published;
    request->request.recovered = true;
    request->request.score_from = request->scored;
    request->admitted_step = sim->step;
    memcpy(sim->rows_of_ids + slot * SIM_CONTEXT_MAX, request->ids,
           (request->request.prompt_tokens + request->published) * sizeof *request->ids);
    struct llm_error error;
    if (core_admit(sim->core, &request->request, slot, &error) != LLM_OK)
        sim_fail(sim, "a recovered request was refused: %s", error.message);
    sim_order_admitted(&sim->order, slot, &request->request);
    uint32_t count;
    const struct core_effect *effects = core_effects(sim->core, &count);
    for (uint32_t i = 0; i < count; i++)
        if (sim_apply(&sim->tables, sim->core, &effects[i]) ||
            sim_order_effect(&sim->order, &effects[i]))
            sim_fail(sim, "a recovered request ended wrongly");
    sim_check_computed(sim);
}

void sim_restart(struct sim *sim)
{
    sim->kills++;
    sim_close_core(sim);
    sim->flight_count = 0;
    memset(sim->rows_of_ids, 0xa5, sizeof sim->rows_of_ids);
    bool replaced = replace_weights(sim);
    sim_open_core(sim);
    sim_order_reset(&sim->order, &sim->config);
    memset(sim->holds, 0, sizeof sim->holds);
    memset(sim->tables.residue, 0xff, sizeof sim->tables.residue);
    bool cold = !sim->tables.exact_hash || sim_chance(&sim->random, 200);
    bool damaged = sim_chance(&sim->random, 200);
    for (block_id block = 0; block < sim->tables.block_count; block++)
        if (sim->tables.blocks[block].state == SIM_WRITING || cold)
            forget_block(sim, block);
    if (damaged)
        damage_some(sim);
    adopt_blocks(sim, damaged || replaced);
    for (uint32_t slot = 0; slot < sim->config.request_slots; slot++)
        sim->tables.requests[slot].computed = false;
    for (uint32_t slot = 0; slot < sim->config.request_slots; slot++)
        if (sim->tables.requests[slot].live)
            admit_again(sim, slot);
}
