#include "tests/sim/sim_mirror.h"

#include <string.h>

#include "tests/sim/sim_digest.h"
#include "tests/sim/sim_recovery.h"

static void check_counts(const struct sim *sim)
{
    uint32_t writing = 0;
    uint32_t sealed = 0;
    uint32_t live = 0;
    for (block_id block = 0; block < sim->tables.block_count; block++) {
        const struct sim_block *b = &sim->tables.blocks[block];
        writing += b->state == SIM_WRITING;
        sealed += b->state == SIM_SEALED;
        if (b->state != SIM_SEALED)
            continue;
        struct core_block_info info = core_block_info(sim->core, block);
        bool same = info.tokens == b->info.tokens && info.domain == b->info.domain &&
                    memcmp(&info.chain, &b->info.chain, sizeof info.chain) == 0;
        for (uint32_t i = 0; i < info.tokens && same; i++)
            same = info.ids[i] == b->ids[i];
        if (!same)
            sim_fail(sim, "block %u: the core and its table disagree", block);
    }
    for (uint32_t slot = 0; slot < sim->config.request_slots; slot++)
        live += sim->tables.requests[slot].live;
    struct core_counts counts = core_counts(sim->core);
    if (counts.kv.held + counts.kv.cached != writing + sealed || counts.kv.held < writing)
        sim_fail(sim,
                 "%u blocks held and %u cached, but the table has %u being written and %u sealed",
                 counts.kv.held, counts.kv.cached, writing, sealed);
    if (counts.running + counts.queued != live)
        sim_fail(sim, "%u requests run and %u wait, but the table has %u", counts.running,
                 counts.queued, live);
}

bool sim_is_there(const struct sim *sim, uint32_t model, const uint64_t *domains,
                  uint32_t domain_count, const uint32_t *ids, uint32_t count)
{
    uint64_t all[SIM_DOMAINS_MAX + 3];
    memcpy(all, domains, domain_count * sizeof *domains);
    all[domain_count] = UINT64_C(1) << 32;
    all[domain_count + 1] = UINT64_C(1) << 32 | 1;
    all[domain_count + 2] = UINT64_C(2) << 32;
    return sim_is_cached(&sim->tables, model, all, domain_count + 3, ids, count);
}

void sim_check_computed(struct sim *sim)
{
    for (uint32_t slot = 0; slot < sim->config.request_slots; slot++) {
        struct sim_request *r = &sim->tables.requests[slot];
        if (r->computed && !sim_is_there(sim, r->request.model, r->domains, r->request.domain_count,
                                         r->ids, r->request.prompt_tokens))
            sim_fail(sim, "slot %u ended before all was computed", slot);
        r->computed = false;
    }
}

static void check_sane(const struct sim *sim)
{
    struct llm_error error;
    if (core_sane(sim->core, &error) != LLM_OK)
        sim_fail(sim, "%s", error.message);
}

/* A refused admission changes nothing: what was right before it is right. */
static void check_refused(struct sim *sim, uint32_t slot)
{
    if (sim_still_holds(&sim->still, sim->core, slot))
        return;
    check_sane(sim);
    check_counts(sim);
    sim_still_checked(&sim->still);
}

bool sim_mirror(struct sim *sim, uint32_t refused)
{
    uint32_t count;
    const struct core_effect *effects = core_effects(sim->core, &count);
    bool kill = sim_chance(&sim->random, sim->kill_chance);
    uint32_t end = kill ? sim_between(&sim->random, 0, count) : count;
    for (uint32_t i = 0; i < end; i++) {
        sim_digest_effect(sim, &effects[i]);
        const char *wrong = sim_apply(&sim->tables, sim->core, &effects[i]);
        if (!wrong)
            wrong = sim_order_effect(&sim->order, &effects[i]);
        if (wrong)
            sim_fail(sim, "effect %u of %u (kind %d, slot %u, block %u): %s", i, count,
                     effects[i].kind, effects[i].slot, effects[i].block, wrong);
        sim->tokens += effects[i].kind == CORE_REQUEST_TOKEN;
    }
    if (refused != REQUEST_NONE && count > 0)
        sim_fail(sim, "a refused request has %u effects", count);
    if (refused != REQUEST_NONE && !kill) {
        check_refused(sim, refused);
        return true;
    }
    check_sane(sim);
    if (kill)
        sim_restart(sim);
    else
        sim_check_computed(sim);
    check_counts(sim);
    if (!kill)
        sim_still_checked(&sim->still);
    return !kill;
}
