#include "tests/sim/sim_clients.h"

#include <string.h>

#include "tests/sim/sim_digest.h"
#include "tests/sim/sim_mirror.h"
#include "tests/sim/sim_pins.h"

static uint32_t free_slot(const struct sim *sim)
{
    for (uint32_t slot = 0; slot < sim->config.request_slots; slot++)
        if (!sim->tables.requests[slot].live)
            return slot;
    return REQUEST_NONE;
}

/* The domain to seal in, then whatever else the user may read. */
static uint32_t draw_domains(struct sim *sim, uint32_t user, uint64_t *out_domains)
{
    uint32_t groups = sim->groups[user];
    uint64_t own = UINT64_C(2) << 32;
    if (sim_chance(&sim->random, sim->private_chance))
        own = SIM_UID_FIRST + user;
    else if (groups != 0 && sim_chance(&sim->random, sim->group_chance))
        own = UINT64_C(1) << 32 | (groups == 3 ? sim_below(&sim->random, 2) : groups - 1);
    const uint64_t all[] = {SIM_UID_FIRST + user, UINT64_C(1) << 32, UINT64_C(1) << 32 | 1,
                            UINT64_C(2) << 32};
    uint32_t count = 0;
    out_domains[count++] = own;
    if (sim_chance(&sim->random, 100))
        return count;
    for (uint32_t i = 0; i < 4; i++) {
        bool member = i == 0 || i == 3 || (groups >> (i - 1) & 1) != 0;
        if (member && all[i] != own)
            out_domains[count++] = all[i];
    }
    return count;
}

void sim_draw_request(struct sim *sim, struct sim_request *request)
{
    uint32_t uid = SIM_UID_FIRST + sim_below(&sim->random, sim->user_count);
    const struct sim_user_terms *terms = &sim->terms[uid - SIM_UID_FIRST];
    uint32_t model = sim_below(&sim->random, sim->config.model_count);
    uint32_t context_tokens = sim->models[model].context_tokens_max;
    enum core_request_kind kind = sim_chance(&sim->random, sim->score_chance)     ? CORE_SCORE
                                  : sim_chance(&sim->random, sim->compute_chance) ? CORE_COMPUTE
                                                                                  : CORE_GENERATE;
    uint32_t prompt_tokens = sim_between(&sim->random, kind == CORE_SCORE ? 2 : 1,
                                         context_tokens - (kind == CORE_GENERATE));
    uint32_t from_document = sim_between(&sim->random, 0, prompt_tokens);
    const uint32_t *document = sim->documents[sim_below(&sim->random, SIM_DOCUMENTS_MAX)];
    *request = (struct sim_request){
        .request = {.request_id = ++sim->requests,
                    .uid = uid,
                    .kind = kind,
                    .model = model,
                    .prompt_tokens = prompt_tokens,
                    .priority = sim_chance(&sim->random, sim->class_chance)
                                    ? sim_between(&sim->random, 1, 2)
                                    : 0,
                    .weight = terms->weight,
                    .user_running_max = terms->seats_max,
                    .user_queued_tokens = terms->queued_tokens_max},
        .seed = sim_below(&sim->random, 4),
        .stop_id = sim_below(&sim->random, 100), /* often none that exists */
        .admitted_step = sim->step,
    };
    request->request.domain_count = draw_domains(sim, uid - SIM_UID_FIRST, request->domains);
    if (kind == CORE_GENERATE)
        request->request.max_tokens = sim_between(&sim->random, 1, context_tokens);
    if (kind == CORE_SCORE)
        request->scored = request->request.score_from =
            sim_between(&sim->random, 1, prompt_tokens - 1);
    for (uint32_t i = 0; i < prompt_tokens; i++)
        request->ids[i] =
            i < from_document ? document[i] : sim_below(&sim->random, sim->tables.vocab_tokens);
}

/* Must a request of this size be refused for ever? */
static bool too_large(const struct sim *sim, const struct core_request *request)
{
    const struct core_model *model = &sim->models[request->model];
    uint32_t tokens = request->prompt_tokens + request->max_tokens;
    if (request->kind == CORE_COMPUTE)
        tokens++; /* the last one needs its row */
    else if (tokens > model->context_tokens_max)
        tokens = model->context_tokens_max;
    uint32_t blocks = (tokens - 1 + model->block_tokens - 1) / model->block_tokens;
    return blocks > sim->config.slab_count * model->slab_blocks;
}

static bool must_be_busy(const struct sim *sim, const struct core_request *request)
{
    uint64_t own_tokens;
    uint32_t own = sim_order_queued(&sim->order, request->uid, &own_tokens);
    return core_counts(sim->core).queued >= sim->config.queued_max ||
           own >= sim->config.user_queued_max ||
           (request->user_queued_tokens > 0 && own > 0 &&
            own_tokens + sim_order_tokens(request) > request->user_queued_tokens);
}

static bool admit_one(struct sim *sim)
{
    uint32_t slot = free_slot(sim);
    if (slot == REQUEST_NONE)
        return true;
    struct sim_request request;
    sim_draw_request(sim, &request);
    memcpy(sim->rows_of_ids + slot * SIM_CONTEXT_MAX, request.ids, sizeof request.ids);
    struct sim_request *place = &sim->tables.requests[slot];
    memcpy(place->domains, request.domains, sizeof request.domains);
    request.request.domains = place->domains;
    /* A refusal that is due needs no sentence: writing it would take as long as refusing. */
    bool large = too_large(sim, &request.request);
    bool due = large || must_be_busy(sim, &request.request);
    struct llm_error error;
    if (due)
        sim_still_expect(&sim->still);
    enum llm_status status = core_admit(sim->core, &request.request, slot, due ? NULL : &error);
    sim_digest(sim, slot, (uint64_t)status);
    if ((status == LLM_ERR_LIMIT) != large && !(status == LLM_ERR_LIMIT && sim_is_pinned(sim)))
        sim_fail(sim, "a request of %u and %u tokens was answered with status %d",
                 request.request.prompt_tokens, request.request.max_tokens, (int)status);
    if (status == LLM_ERR_BUSY && !due)
        sim_fail(sim, "busy with %u waiting: %s", core_counts(sim->core).queued, error.message);
    if (status == LLM_OK) {
        request.live = true;
        sim->tables.requests[slot] = request;
        sim_order_admitted(&sim->order, slot, &request.request);
    }
    if (!sim_mirror(sim, status == LLM_OK ? REQUEST_NONE : slot))
        return false;
    if (sim->tables.requests[slot].live && !sim_order_queue_fits(&sim->order, request.request.uid))
        sim_fail(sim, "user %u has more tokens waiting than it may", request.request.uid);
    return true;
}

static bool cancel_one(struct sim *sim, uint32_t slot)
{
    struct sim_request *request = &sim->tables.requests[slot];
    request->cancelled = true;
    if (core_cancel(sim->core, slot, CORE_FINISH_CANCELLED) != request->live)
        sim_fail(sim, "slot %u: the core and its table disagree about a cancel", slot);
    return sim_mirror(sim, REQUEST_NONE);
}

/* A client dies with all it asked; or somebody thinks better of one request. */
static bool cancel_some(struct sim *sim)
{
    uint32_t uid = SIM_UID_FIRST + sim_below(&sim->random, sim->user_count);
    uint32_t only = sim_below(&sim->random, sim->config.request_slots);
    bool death = sim_chance(&sim->random, 300);
    for (uint32_t slot = 0; slot < sim->config.request_slots; slot++) {
        const struct sim_request *request = &sim->tables.requests[slot];
        if (request->live && (death ? request->request.uid == uid : slot == only))
            if (!cancel_one(sim, slot))
                return false;
    }
    return true;
}

bool sim_clients(struct sim *sim, bool admitting)
{
    sim_pins(sim);
    while (admitting && sim_chance(&sim->random, sim->admit_chance))
        if (!admit_one(sim))
            return false;
    return !sim_chance(&sim->random, sim->cancel_chance) || cancel_some(sim);
}
