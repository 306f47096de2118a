/*
 * sim_core.c - the whole core under random clients, tiny pools and engines that die.
 *
 * How      Each seed draws a configuration, users, documents and misfortunes, and plays steps: clients admit
 *          and cancel, steps fail, an engine is killed between any two effects and a new core goes on from the
 *          tables. sim_model.c is the model and the tables. After every call: core_sane(), the core's counts
 *          against the tables', and the age of the oldest request against a bound. At the end everything must
 *          drain, and every request have got exactly what it would get alone.
 * Run      sim_core [--seed N] [--runs K] [--steps M] [--lag 0|1]; a failure names the seed that replays it. The
 *          lag of each engine is drawn unless it is given. The digest in the last line is of all answers, effects and
 *          plans: the same seeds give the same one for as long as the core decides the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/check.h"
#include "tests/sim/sim_clients.h"
#include "tests/sim/sim_device.h"
#include "tests/sim/sim_mirror.h"
#include "tests/sim/sim_pins.h"
#include "tests/sim/sim_world.h"

/* ---- Steps ------------------------------------------------------------------------------------------- */

/* Overdue, it is first when all that came before it are gone; each of them, or who makes its block, has a row in every
 * step then. A maker that goes has done its block's steps for nothing. */
static uint64_t age_bound(const struct sim *sim)
{
    return sim->config.overdue_steps + (uint64_t)2 * (sim->config.lag + 1) *
                                           sim->config.request_slots *
                                           (SIM_CONTEXT_MAX + SIM_BLOCK_TOKENS);
}

static void check_ages(struct sim *sim)
{
    for (uint32_t slot = 0; slot < sim->config.request_slots; slot++) {
        const struct sim_request *request = &sim->tables.requests[slot];
        uint64_t age = request->live ? sim->step - request->admitted_step : 0;
        if (age > age_bound(sim))
            sim_fail(sim, "request %llu starves: %llu steps old",
                     (unsigned long long)request->request.request_id, (unsigned long long)age);
        sim->age_max = age > sim->age_max ? age : sim->age_max;
    }
}

static void step(struct sim *sim, bool admitting)
{
    sim->step++;
    check_ages(sim);
    struct core_plan plan;
    if (!sim_clients(sim, admitting))
        return;
    sim_order_planning(&sim->order);
    bool planned = core_plan(sim->core, &plan);
    if (!sim_mirror(sim, REQUEST_NONE))
        return;
    const char *wrong = planned
                            ? sim_order_planned(&sim->order, sim->core, &plan, sim_is_pinned(sim))
                            : sim_order_idle(&sim->order);
    if (wrong)
        sim_fail(sim, "%s", wrong);
    if (planned)
        sim_launch(sim, &plan);
    if (sim->flight_count == 0) {
        for (uint32_t hold = 0; hold < SIM_HOLDS_MAX; hold++)
            sim_unhold(sim, hold); /* whatever waits may wait for these */
        return;
    }
    if (planned && sim->flight_count <= sim->config.lag &&
        sim_chance(&sim->random, sim->ahead_chance))
        return;
    if (sim_clients(sim, admitting && sim_chance(&sim->random, 100)))
        sim_land(sim);
}

static void drain(struct sim *sim)
{
    sim->cancel_chance = 0;
    sim->kill_chance = 0;
    sim->hold_chance = 0;
    while (core_counts(sim->core).running + core_counts(sim->core).queued > 0)
        step(sim, false);
    sim_check_holds(sim);
    for (uint32_t hold = 0; hold < SIM_HOLDS_MAX; hold++)
        sim_unhold(sim, hold);
    struct core_counts counts = core_counts(sim->core);
    if (counts.kv.held > 0)
        sim_fail(sim, "%u blocks are held and nobody is there", counts.kv.held);
}

struct options {
    uint64_t seed, runs, steps;
    uint64_t lag; /* SIM_LAG_DRAWN, or 0..CORE_LAG_MAX */
};

static void run(struct sim *sim, uint64_t seed, const struct options *options)
{
    sim_begin(sim, seed, options->lag);
    while (sim->step < options->steps)
        step(sim, true);
    drain(sim);
    sim_close_core(sim);
}

/* ---- The command ------------------------------------------------------------------------------------- */

static bool read_options(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        uint64_t *value = strcmp(argv[i], "--seed") == 0    ? &options->seed
                          : strcmp(argv[i], "--runs") == 0  ? &options->runs
                          : strcmp(argv[i], "--steps") == 0 ? &options->steps
                          : strcmp(argv[i], "--lag") == 0   ? &options->lag
                                                            : NULL;
        char *end;
        if (!value || ++i == argc)
            return false;
        *value = strtoull(argv[i], &end, 10);
        if (*end != '\0' || end == argv[i])
            return false;
    }
    return options->lag <= CORE_LAG_MAX || options->lag == SIM_LAG_DRAWN;
}

int main(int argc, char **argv)
{
    static struct sim sim;
    struct options options = {.seed = 1, .runs = 1, .steps = 300, .lag = SIM_LAG_DRAWN};
    const char *from_environment = getenv("LLM_TEST_SEED");
    if (from_environment)
        options.seed = strtoull(from_environment, NULL, 10);
    if (!read_options(argc, argv, &options)) {
        fprintf(stderr, "usage: sim_core [--seed N] [--runs K] [--steps M] [--lag 0|1]\n");
        return 2;
    }
    llm_check_set_hook(sim_say_seed);
    static struct sim sum;
    sum.seed = options.seed;
    for (uint64_t i = 0; i < options.runs; i++) {
        run(&sim, options.seed + i, &options);
        sum.digest = sim_mix(sum.digest, sim.digest);
        sum.requests += sim.requests;
        sum.tokens += sim.tokens;
        sum.kills += sim.kills;
        sum.adopted += sim.adopted;
        sum.refused += sim.refused;
        sum.failed += sim.failed;
        sum.held += sim.held;
        sum.ahead += sim.ahead;
        sum.tables.copies += sim.tables.copies;
        sum.tables.widenings += sim.tables.widenings;
        sum.order.closest_percent = sim.order.closest_percent > sum.order.closest_percent
                                        ? sim.order.closest_percent
                                        : sum.order.closest_percent;
        sum.age_max = sim.age_max > sum.age_max ? sim.age_max : sum.age_max;
        sum.counts.preemptions += sim.counts.preemptions;
        sum.counts.evictions += sim.counts.evictions;
        sum.counts.tokens_cached += sim.counts.tokens_cached;
        sum.counts.tokens_computed += sim.counts.tokens_computed;
    }
    printf(
        "sim_core: %llu runs from seed %llu: %llu requests, %llu tokens published, %llu rows "
        "computed, %llu found in the cache, %llu evictions, %llu preemptions, %llu engines killed, "
        "%llu blocks adopted, %llu damaged ones refused, %llu failed steps, %llu blocks copied, "
        "%llu widened, %llu pins, %llu plans made ahead, oldest request %llu steps, widest race "
        "%llu%% of its bound, digest %016llx\n",
        (unsigned long long)options.runs, (unsigned long long)options.seed,
        (unsigned long long)sum.requests, (unsigned long long)sum.tokens,
        (unsigned long long)sum.counts.tokens_computed,
        (unsigned long long)sum.counts.tokens_cached, (unsigned long long)sum.counts.evictions,
        (unsigned long long)sum.counts.preemptions, (unsigned long long)sum.kills,
        (unsigned long long)sum.adopted, (unsigned long long)sum.refused,
        (unsigned long long)sum.failed, (unsigned long long)sum.tables.copies,
        (unsigned long long)sum.tables.widenings, (unsigned long long)sum.held,
        (unsigned long long)sum.ahead, (unsigned long long)sum.age_max,
        (unsigned long long)sum.order.closest_percent, (unsigned long long)sum.digest);
    return 0;
}
