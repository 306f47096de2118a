#include "tests/sim/sim_digest.h"

void sim_digest(struct sim *sim, uint64_t a, uint64_t b)
{
    sim->digest = sim_mix(sim_mix(sim->digest, a), b);
}

void sim_digest_effect(struct sim *sim, const struct core_effect *effect)
{
    sim_digest(sim, (uint64_t)effect->kind << 32 | effect->slot,
               (uint64_t)effect->block << 32 | effect->value);
    sim_digest(sim, effect->domain, sim->step);
}

void sim_digest_plan(struct sim *sim, const struct core_plan *plan)
{
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct core_sequence *s = &plan->sequences[i];
        sim_digest(sim, (uint64_t)s->slot << 32 | s->first_position,
                   (uint64_t)s->token_count << 32 | s->scored_rows << 1 | s->wants_token);
        for (uint32_t b = 0; b < s->block_count; b++)
            sim_digest(sim, s->block_count, s->blocks[b]);
    }
    for (uint32_t i = 0; i < plan->token_count; i++)
        sim_digest(sim, plan->positions[i], plan->ids[i]);
}
