#include "tests/sim/sim_once.h"

#include <string.h>

static uint64_t taken_of(const struct sim *sim, block_id block)
{
    return block == BLOCK_NONE ? 0 : sim->tables.blocks[block].taken;
}

/* The block that a sequence begins at its start: those behind it follow blocks that only this request has. */
static bool begins_block(const struct sim *sim, const struct core_sequence *sequence,
                         struct sim_filling *out_block)
{
    uint32_t block_tokens = sim->models[sequence->model].block_tokens;
    const struct sim_request *request = &sim->tables.requests[sequence->slot];
    uint32_t at = sequence->first_position / block_tokens;
    const struct sim_filling *old = &sim->filling[sequence->slot];
    block_id block = sequence->blocks[at];
    if (sequence->first_position % block_tokens != 0 && old->block == block &&
        old->taken == sim->tables.blocks[block].taken)
        return false; /* goes on */
    block_id before = at > 0 ? sequence->blocks[at - 1] : BLOCK_NONE;
    *out_block = (struct sim_filling){.known = (at + 1) * block_tokens <=
                                               request->request.prompt_tokens + request->published -
                                                   (request->request.kind == CORE_SCORE),
                                      .at = at,
                                      .block = block,
                                      .before = before,
                                      .taken = taken_of(sim, block),
                                      .before_taken = taken_of(sim, before)};
    return true;
}

static bool same_block(const struct sim *sim, uint32_t slot, const struct sim_filling *mine,
                       uint32_t other_slot, const struct sim_filling *other)
{
    const struct sim_request *a = &sim->tables.requests[slot];
    const struct sim_request *b = &sim->tables.requests[other_slot];
    uint32_t block_tokens = sim->models[a->request.model].block_tokens;
    return mine->known && other->known && a->request.model == b->request.model &&
           a->domains[0] == b->domains[0] && mine->at == other->at &&
           mine->before == other->before && mine->before_taken == other->before_taken &&
           memcmp(a->ids + mine->at * block_tokens, b->ids + mine->at * block_tokens,
                  block_tokens * sizeof *a->ids) == 0;
}

/* Its rows are scored: it cannot use another's. */
static bool needs_its_own(const struct sim *sim, uint32_t slot, const struct sim_filling *block)
{
    const struct sim_request *request = &sim->tables.requests[slot];
    uint32_t block_tokens = sim->models[request->request.model].block_tokens;
    return request->request.kind == CORE_SCORE &&
           (block->at + 1) * block_tokens > request->scored - 1;
}

static bool is_filling(const struct sim *sim, uint32_t slot)
{
    const struct sim_filling *f = &sim->filling[slot];
    return sim->tables.requests[slot].live && f->taken > 0 &&
           sim->tables.blocks[f->block].state == SIM_WRITING &&
           sim->tables.blocks[f->block].taken == f->taken;
}

/* A sequence that ends within another block than it began with goes on there. */
static void note_last_blocks(struct sim *sim, const struct core_plan *plan)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct core_sequence *sequence = &plan->sequences[i];
        const struct sim_request *request = &sim->tables.requests[sequence->slot];
        uint32_t block_tokens = sim->models[sequence->model].block_tokens;
        uint32_t at = (sequence->first_position + sequence->token_count - 1) / block_tokens;
        if (at == sequence->first_position / block_tokens)
            continue;
        block_id block = sequence->blocks[at];
        sim->filling[sequence->slot] =
            (struct sim_filling){.known = (at + 1) * block_tokens <=
                                          request->request.prompt_tokens + request->published -
                                              (request->request.kind == CORE_SCORE),
                                 .at = at,
                                 .block = block,
                                 .before = sequence->blocks[at - 1],
                                 .taken = taken_of(sim, block),
                                 .before_taken = taken_of(sim, sequence->blocks[at - 1])};
    }
}

void sim_check_once(struct sim *sim, const struct core_plan *plan)
{
    struct sim_filling begun[SIM_SLOTS_MAX];
    bool begins[SIM_SLOTS_MAX] = {false};
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        uint32_t slot = plan->sequences[i].slot;
        begins[slot] = begins_block(sim, &plan->sequences[i], &begun[slot]);
    }
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++)
        for (uint32_t other = 0; begins[slot] && other < SIM_SLOTS_MAX; other++) {
            if (other == slot || needs_its_own(sim, slot, &begun[slot]))
                continue;
            if (begins[other] ? !needs_its_own(sim, other, &begun[other]) &&
                                    same_block(sim, slot, &begun[slot], other, &begun[other])
                              : is_filling(sim, other) && same_block(sim, slot, &begun[slot], other,
                                                                     &sim->filling[other]))
                sim_fail(sim, "slots %u and %u compute the same block, %u of their chains", slot,
                         other, begun[slot].at);
        }
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++)
        if (begins[slot])
            sim->filling[slot] = begun[slot];
    note_last_blocks(sim, plan);
}
