#include "tests/sim/sim_device.h"

#include <string.h>

#include "tests/sim/sim_digest.h"
#include "tests/sim/sim_mirror.h"
#include "tests/sim/sim_once.h"

/* What the engine copies to the device when it launches a step. */
static void tell(struct sim_flight *flight, const struct core_plan *plan)
{
    flight->computed = false;
    flight->plan = flight->told = *plan;
    flight->told.sequences = flight->sequences;
    flight->told.ids = flight->ids;
    flight->told.positions = flight->positions;
    memcpy(flight->ids, plan->ids, plan->token_count * sizeof *plan->ids);
    memcpy(flight->positions, plan->positions, plan->token_count * sizeof *plan->positions);
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        flight->sequences[i] = plan->sequences[i];
        flight->sequences[i].blocks = flight->blocks[i];
        memcpy(flight->blocks[i], plan->sequences[i].blocks,
               plan->sequences[i].block_count * sizeof *flight->blocks[i]);
    }
}

/* Until it is completed a plan stays as it was, but for blocks that were exchanged for equal ones. */
static void check_told(const struct sim *sim, const struct sim_flight *flight)
{
    const struct core_plan *plan = &flight->plan;
    bool same = memcmp(plan->ids, flight->ids, plan->token_count * sizeof *plan->ids) == 0 &&
                memcmp(plan->positions, flight->positions,
                       plan->token_count * sizeof *plan->positions) == 0;
    for (uint32_t i = 0; i < plan->sequence_count && same; i++) {
        const struct core_sequence *now = &plan->sequences[i], *then = &flight->sequences[i];
        uint32_t block_tokens = sim->models[now->model].block_tokens;
        same = now->slot == then->slot && now->first_row == then->first_row &&
               now->token_count == then->token_count &&
               now->first_position == then->first_position &&
               now->block_count == then->block_count && now->wants_token == then->wants_token;
        for (uint32_t b = then->first_position / block_tokens; b < then->block_count && same; b++)
            same = now->blocks[b] == then->blocks[b];
    }
    if (!same)
        sim_fail(sim, "plan %llu changed while it was out", (unsigned long long)plan->step);
}

static void compute(struct sim *sim, struct sim_flight *flight)
{
    /* A device has its own copy of the table; one that reads the core's is as right. */
    const struct core_plan *plan = sim_chance(&sim->random, 500) ? &flight->told : &flight->plan;
    flight->computed = true;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct core_sequence *sequence = &plan->sequences[i];
        struct sim_request *request = &sim->tables.requests[sequence->slot];
        struct core_result *result = &flight->results[i];
        *result = (struct core_result){.finish = CORE_FINISH_NONE};
        if (sim_chance(&sim->random, sim->fail_chance)) {
            result->finish = CORE_FINISH_FAILED; /* its rows stay unwritten */
            request->cancelled = true;
            request->broken = true;
            sim->failed++;
            continue;
        }
        const char *wrong = sim_compute(&sim->tables, plan, i, &result->token);
        if (wrong)
            sim_fail(sim, "slot %u, positions %u..%u: %s", sequence->slot, sequence->first_position,
                     sequence->first_position + sequence->token_count, wrong);
        if (sequence->wants_token && result->token == request->stop_id)
            result->finish = CORE_FINISH_STOP_ID;
    }
}

/* Steps are computed in order. */
static void compute_until(struct sim *sim, uint32_t last)
{
    for (uint32_t i = 0; i <= last; i++)
        if (!sim->flights[i]->computed)
            compute(sim, sim->flights[i]);
}

void sim_launch(struct sim *sim, const struct core_plan *plan)
{
    if (plan->token_count > sim->config.step_tokens ||
        plan->sequence_count > sim->config.running_max)
        sim_fail(sim, "a plan of %u tokens in %u sequences", plan->token_count,
                 plan->sequence_count);
    sim_digest_plan(sim, plan);
    sim_check_once(sim, plan);
    uint32_t rows = 0;
    uint32_t scored_rows = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct core_sequence *sequence = &plan->sequences[i];
        if (sequence->first_row != rows)
            sim_fail(sim, "sequence %u begins at row %u, not %u", i, sequence->first_row, rows);
        rows += sequence->token_count;
        scored_rows += sequence->scored_rows;
        const char *wrong = sim_check_sequence(&sim->tables, plan, i);
        if (wrong)
            sim_fail(sim, "slot %u, positions %u..%u: %s", sequence->slot, sequence->first_position,
                     sequence->first_position + sequence->token_count, wrong);
    }
    if (scored_rows > sim->config.score_rows)
        sim_fail(sim, "%u rows are scored in one step", scored_rows);
    if (rows != plan->token_count)
        sim_fail(sim, "%u rows in sequences, %u in the plan", rows, plan->token_count);
    sim->ahead += sim->flight_count;
    tell(sim->flights[sim->flight_count++], plan);
    if (!sim_chance(&sim->random, sim->late_chance))
        compute_until(sim, sim->flight_count - 1);
}

/* What was cancelled, or failed, is gone when the last step that names it is done. */
static void check_cancelled(const struct sim *sim)
{
    for (uint32_t slot = 0; slot < sim->config.request_slots; slot++) {
        bool named = false;
        for (uint32_t i = 0; i < sim->flight_count; i++)
            for (uint32_t s = 0; s < sim->flights[i]->told.sequence_count; s++)
                named = named || sim->flights[i]->sequences[s].slot == slot;
        if (sim->tables.requests[slot].live && sim->tables.requests[slot].cancelled && !named)
            sim_fail(sim, "slot %u was cancelled and goes on", slot);
    }
}

void sim_land(struct sim *sim)
{
    struct sim_flight *first = sim->flights[0];
    compute_until(sim, 0);
    check_told(sim, first);
    for (uint32_t i = 0; i < first->told.sequence_count; i++)
        sim->tables.requests[first->sequences[i].slot].ahead_tokens -=
            first->sequences[i].wants_token;
    sim->flight_count--;
    for (uint32_t i = 0; i < sim->flight_count; i++)
        sim->flights[i] = sim->flights[i + 1];
    sim->flights[sim->flight_count] = first;
    core_complete(sim->core, &first->plan, first->results);
    if (sim_mirror(sim, REQUEST_NONE))
        check_cancelled(sim);
}
