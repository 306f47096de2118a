#include "tests/sim/sim_world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/check.h"

#define RUNNING_MAX 6u
#define OVERDUE_FAR 5000u /* longer than a world usually lasts: turns alone decide */

static uint64_t running_seed; /* for the hook of a failed CHECK */

void sim_say_seed(void)
{
    fprintf(stderr, "replay: sim_core --seed %llu\n", (unsigned long long)running_seed);
}

void sim_fail(const struct sim *sim, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "sim_core: seed %llu, step %llu: ", (unsigned long long)sim->seed,
            (unsigned long long)sim->step);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    sim_say_seed();
    exit(1);
}

/* ---- Drawing ---------------------------------------------------------------------------------------- */

static void draw_models(struct sim *sim)
{
    static const uint32_t block_tokens[] = {1, 2, 4, 8};
    sim->config.model_count = sim_chance(&sim->random, 250) ? 2 : 1;
    sim->config.models = sim->models;
    for (uint32_t m = 0; m < sim->config.model_count; m++)
        sim->models[m] = (struct core_model){
            .identity = {sim_below(&sim->random, 1000), m},
            .block_tokens = block_tokens[sim_below(&sim->random, 4)],
            .slab_blocks = sim_between(&sim->random, 1, 4),
            .context_tokens_max = sim_between(&sim->random, 4, SIM_CONTEXT_MAX),
        };
    sim->tables.models = sim->models;
}

static void draw_config(struct sim *sim)
{
    struct core_config *config = &sim->config;
    config->slab_count = sim_between(&sim->random, 2, SIM_BLOCKS_MAX / 4 / 2);
    config->request_slots = sim_between(&sim->random, 2, SIM_SLOTS_MAX);
    config->queued_max = sim_between(&sim->random, 1, config->request_slots);
    config->user_queued_max = sim_between(&sim->random, 1, config->queued_max);
    config->overdue_steps =
        sim_chance(&sim->random, 500) ? sim_between(&sim->random, 1, 100) : OVERDUE_FAR;
    config->hold_slots = SIM_HOLDS_MAX;
    config->ids = sim->rows_of_ids;
    config->ids_stride_words = SIM_CONTEXT_MAX;
    sim->tables.exact_hash = !sim_chance(&sim->random, 200);
    sim->hash =
        (struct sim_hash){sim_random_next(&sim->random), sim->tables.exact_hash ? UINT64_MAX : 3};
    config->hash = (struct chain_hash){sim_chain_hash, &sim->hash};
}

/* What a new engine may choose anew: how much it does in one step. */
static void draw_step(struct sim *sim)
{
    sim->config.running_max = sim_between(&sim->random, 1, RUNNING_MAX);
    sim->config.user_running_max = sim_between(&sim->random, 1, sim->config.running_max);
    sim->config.step_tokens =
        sim_between(&sim->random, sim->config.running_max, SIM_STEP_TOKENS_MAX);
    sim->config.score_rows = sim_between(&sim->random, 1, 8);
    uint32_t lag = sim_below(&sim->random, CORE_LAG_MAX + 1);
    sim->config.lag = sim->lag == SIM_LAG_DRAWN ? lag : (uint32_t)sim->lag;
    sim->ahead_chance = sim_chance(&sim->random, 500) ? 1000 : sim_below(&sim->random, 1001);
    sim->late_chance = sim_below(&sim->random, 1001);
}

/* What the configuration would say of each user; half of them get what everybody gets. */
static void draw_terms(struct sim *sim)
{
    sim->class_chance = sim_chance(&sim->random, 500) ? sim_between(&sim->random, 1, 900) : 0;
    for (uint32_t user = 0; user < SIM_USERS_MAX; user++)
        sim->terms[user] = (struct sim_user_terms){
            .weight = sim_chance(&sim->random, 500) ? 0 : sim_between(&sim->random, 1, 10),
            .seats_max = sim_chance(&sim->random, 500) ? 0 : sim_between(&sim->random, 1, 6),
            .queued_tokens_max = sim_chance(&sim->random, 500)
                                     ? 0
                                     : sim_between(&sim->random, 1, 3 * SIM_CONTEXT_MAX)};
}

/* Documents begin alike, so that blocks are shared and split at all depths. */
static void draw_documents(struct sim *sim)
{
    sim->tables.vocab_tokens = sim_between(&sim->random, 2, 30);
    for (uint32_t d = 0; d < SIM_DOCUMENTS_MAX; d++) {
        uint32_t common = sim_below(&sim->random, SIM_CONTEXT_MAX);
        for (uint32_t i = 0; i < SIM_CONTEXT_MAX; i++)
            sim->documents[d][i] = d > 0 && i < common
                                       ? sim->documents[d - 1][i]
                                       : sim_below(&sim->random, sim->tables.vocab_tokens);
    }
}

void sim_open_core(struct sim *sim)
{
    struct llm_error error;
    draw_step(sim);
    if (core_bytes(&sim->config, &sim->memory_bytes, &error) != LLM_OK)
        sim_fail(sim, "%s", error.message);
    sim->memory = aligned_alloc(ARENA_ALIGN_BYTES, sim->memory_bytes);
    CHECK(sim->memory != NULL);
    memset(sim->memory, 0, sim->memory_bytes);
    if (core_open(&sim->config, sim->memory, sim->memory_bytes, &sim->core, &error) != LLM_OK)
        sim_fail(sim, "%s", error.message);
    if (core_blocks(sim->core) > SIM_BLOCKS_MAX)
        sim_fail(sim, "%u blocks do not fit the tables", core_blocks(sim->core));
    sim->tables.block_count = core_blocks(sim->core);
    sim_still_open(&sim->still, sim->memory, sim->memory_bytes);
}

void sim_close_core(struct sim *sim)
{
    struct core_counts counts = core_counts(sim->core);
    sim->counts.preemptions += counts.preemptions;
    sim->counts.evictions += counts.evictions;
    sim->counts.tokens_cached += counts.tokens_cached;
    sim->counts.tokens_computed += counts.tokens_computed;
    sim_still_close(&sim->still);
    free(sim->memory);
    sim->core = NULL;
}

/* Two or three users who always have something waiting, in one class: the race of sim_order.h. */
static void draw_rush(struct sim *sim)
{
    sim->user_count = sim_between(&sim->random, 2, 3);
    sim->config.request_slots = SIM_SLOTS_MAX;
    sim->config.queued_max = SIM_SLOTS_MAX;
    sim->config.user_queued_max = (SIM_SLOTS_MAX - RUNNING_MAX) / sim->user_count;
    sim->config.overdue_steps = OVERDUE_FAR;
    sim->class_chance = sim->kill_chance = sim->hold_chance = 0;
    sim->admit_chance = 960;
    for (uint32_t m = 0; m < sim->config.model_count; m++)
        sim->models[m].context_tokens_max = sim_between(&sim->random, 4, 24);
    for (uint32_t user = 0; user < SIM_USERS_MAX; user++)
        sim->terms[user].queued_tokens_max = 0;
}

void sim_begin(struct sim *sim, uint64_t seed, uint64_t lag)
{
    running_seed = seed;
    memset(sim, 0, sizeof *sim);
    sim->seed = seed;
    sim->lag = lag;
    for (uint32_t i = 0; i <= CORE_LAG_MAX; i++)
        sim->flights[i] = &sim->flight[i];
    sim->random.state = sim_mix(seed, 0x73696d);
    sim->tables.random.state = seed;
    draw_models(sim);
    draw_config(sim);
    draw_documents(sim);
    draw_terms(sim);
    sim->user_count = sim_between(&sim->random, 1, SIM_USERS_MAX);
    for (uint32_t user = 0; user < SIM_USERS_MAX; user++)
        sim->groups[user] = sim_below(&sim->random, 4);
    sim->private_chance = sim_chance(&sim->random, 300) ? 0 : sim_below(&sim->random, 1001);
    sim->group_chance = sim_below(&sim->random, 500);
    sim->score_chance = sim_chance(&sim->random, 500) ? sim_below(&sim->random, 400) : 0;
    sim->compute_chance = sim_chance(&sim->random, 500) ? sim_below(&sim->random, 400) : 0;
    sim->hold_chance = sim_chance(&sim->random, 400) ? sim_below(&sim->random, 100) : 0;
    memset(sim->tables.residue, 0xff, sizeof sim->tables.residue);
    sim->admit_chance = sim_between(&sim->random, 50, 900);
    sim->cancel_chance = sim_chance(&sim->random, 600) ? sim_below(&sim->random, 40) : 0;
    sim->kill_chance = sim_chance(&sim->random, 500) ? sim_below(&sim->random, 20) : 0;
    sim->fail_chance = sim_chance(&sim->random, 300) ? sim_below(&sim->random, 20) : 0;
    if (sim_chance(&sim->random, 60))
        draw_rush(sim);
    sim_open_core(sim);
    sim_order_reset(&sim->order, &sim->config);
}
