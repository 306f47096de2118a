#include "tests/sim/sim_pins.h"

#include <string.h>

#include "tests/sim/sim_clients.h"
#include "tests/sim/sim_mirror.h"

bool sim_is_pinned(const struct sim *sim)
{
    for (uint32_t hold = 0; hold < SIM_HOLDS_MAX; hold++)
        if (sim->holds[hold].live)
            return true;
    return false;
}

void sim_unhold(struct sim *sim, uint32_t hold)
{
    sim_still_forget(&sim->still);
    core_unhold(sim->core, hold);
    sim->holds[hold].live = false;
}

static void hold_one(struct sim *sim, uint32_t hold)
{
    struct sim_request like;
    sim_draw_request(sim, &like);
    sim_still_forget(&sim->still);
    uint32_t held = core_hold(sim->core, hold, like.request.model, like.domains,
                              like.request.domain_count, like.ids, like.request.prompt_tokens);
    if (held > like.request.prompt_tokens || (core_held_blocks(sim->core, hold) > 0) != (held > 0))
        sim_fail(sim, "%u of %u tokens are held in %u blocks", held, like.request.prompt_tokens,
                 core_held_blocks(sim->core, hold));
    struct sim_hold *h = &sim->holds[hold];
    *h = (struct sim_hold){.live = held > 0,
                           .model = like.request.model,
                           .tokens = held,
                           .domain_count = like.request.domain_count};
    memcpy(h->domains, like.domains, sizeof h->domains);
    memcpy(h->ids, like.ids, sizeof h->ids);
    sim->held += h->live;
}

void sim_check_holds(const struct sim *sim)
{
    for (uint32_t hold = 0; hold < SIM_HOLDS_MAX; hold++) {
        const struct sim_hold *h = &sim->holds[hold];
        if (h->live && !sim_is_there(sim, h->model, h->domains, h->domain_count, h->ids, h->tokens))
            sim_fail(sim, "hold %u: %u tokens are pinned, and some are not there", hold, h->tokens);
    }
}

void sim_pins(struct sim *sim)
{
    uint32_t hold = sim_below(&sim->random, SIM_HOLDS_MAX);
    if (!sim_chance(&sim->random, sim->hold_chance))
        return;
    if (sim->holds[hold].live)
        sim_unhold(sim, hold);
    else
        hold_one(sim, hold);
    sim_check_holds(sim);
}
