/*
 * sim_core.c - the whole core under random clients, tiny pools and engines that die.
 *
 * How      Each seed draws a configuration, users, documents and misfortunes, and plays steps: clients admit
 *          and cancel, steps fail, an engine is killed between any two effects and a new core goes on from the
 *          tables. sim_model.c is the model and the tables. After every call: core_sane(), the core's counts
 *          against the tables', and the age of the oldest request against a bound. At the end everything must
 *          drain, and every request have got exactly what it would get alone.
 * Run      sim_core [--seed N] [--runs K] [--steps M] [--lag 0|1]; a failure names the seed that replays it. The
 *          lag of each engine is drawn unless it is given.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/check.h"
#include "tests/sim/sim_model.h"
#include "tests/sim/sim_order.h"

#define DOCUMENTS_MAX 4u
#define RUNNING_MAX   6u
#define OVERDUE_FAR   5000u /* longer than a world usually lasts: turns alone decide */

#define SIM_HOLDS_MAX       4u
#define SIM_STEP_TOKENS_MAX 24u
#define SIM_LAG_DRAWN       UINT64_MAX

/* Tokens that are pinned. */
struct sim_hold {
    bool live;
    uint32_t model;
    uint32_t tokens;
    uint64_t domains[SIM_DOMAINS_MAX];
    uint32_t domain_count;
    uint32_t ids[SIM_CONTEXT_MAX];
};

/* The block that a request has begun and not filled. */
struct sim_filling {
    bool known; /* all ids it will hold were known when it was begun */
    uint32_t at;
    block_id block, before;
    uint64_t taken, before_taken; /* of the blocks, to see whether they are still those */
};

/* A plan that is out, and what a device was told of it when it was made. */
struct sim_flight {
    struct core_plan plan;
    struct core_plan told; /* its arrays are those below */
    struct core_sequence sequences[SIM_SLOTS_MAX];
    block_id blocks[SIM_SLOTS_MAX][SIM_CONTEXT_MAX];
    uint32_t ids[SIM_STEP_TOKENS_MAX], positions[SIM_STEP_TOKENS_MAX];
    struct core_result results[SIM_SLOTS_MAX];
    bool computed;
};

struct sim {
    /* what outlives an engine */
    struct sim_tables tables;
    uint32_t rows_of_ids[SIM_SLOTS_MAX * SIM_CONTEXT_MAX];
    /* constant in one run */
    struct core_model models[2];
    struct core_config config;
    struct sim_hash hash;
    uint32_t documents[DOCUMENTS_MAX][SIM_CONTEXT_MAX];
    uint32_t user_count;
    uint32_t groups[SIM_USERS_MAX];                     /* of each user: a bit for each of two */
    uint32_t score_chance, compute_chance, hold_chance; /* per mille */
    uint32_t admit_chance, cancel_chance, kill_chance, fail_chance; /* per mille */
    uint32_t private_chance, group_chance; /* per mille of requests; the others are public */
    uint32_t class_chance;                 /* per mille of requests; the others are normal */
    struct sim_user_terms terms[SIM_USERS_MAX];
    /* the engine */
    struct core *core;
    void *memory;
    size_t memory_bytes;
    struct sim_order order;
    struct sim_hold holds[SIM_HOLDS_MAX];
    struct sim_filling filling[SIM_SLOTS_MAX];
    struct sim_flight flight[CORE_LAG_MAX + 1];
    struct sim_flight
        *flights[CORE_LAG_MAX + 1]; /* those that are out, the earliest first; then the others */
    uint32_t flight_count;
    uint32_t
        ahead_chance; /* per mille: with a lag, the next plan is made before this is completed */
    uint32_t late_chance; /* per mille: a device computes at the last moment, not at once */
    /* the run */
    uint64_t lag; /* SIM_LAG_DRAWN, or that of all engines */
    struct sim_random random;
    uint64_t seed;
    uint64_t step;
    uint64_t requests, tokens, kills, adopted, refused, failed, held, age_max, ahead;
    struct core_counts counts; /* of earlier engines, summed */
};

static uint64_t running_seed; /* for the hook of a failed CHECK */

static void say_seed(void)
{
    fprintf(stderr, "replay: sim_core --seed %llu\n", (unsigned long long)running_seed);
}

static void fail(const struct sim *sim, const char *format, ...) LLM_PRINTF(2, 3);
static void fail(const struct sim *sim, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "sim_core: seed %llu, step %llu: ", (unsigned long long)sim->seed,
            (unsigned long long)sim->step);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    say_seed();
    exit(1);
}

/* ---- A run's configuration --------------------------------------------------------------------------- */

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
    for (uint32_t d = 0; d < DOCUMENTS_MAX; d++) {
        uint32_t common = sim_below(&sim->random, SIM_CONTEXT_MAX);
        for (uint32_t i = 0; i < SIM_CONTEXT_MAX; i++)
            sim->documents[d][i] = d > 0 && i < common
                                       ? sim->documents[d - 1][i]
                                       : sim_below(&sim->random, sim->tables.vocab_tokens);
    }
}

static void open_core(struct sim *sim)
{
    struct llm_error error;
    draw_step(sim);
    if (core_bytes(&sim->config, &sim->memory_bytes, &error) != LLM_OK)
        fail(sim, "%s", error.message);
    sim->memory = aligned_alloc(ARENA_ALIGN_BYTES, sim->memory_bytes);
    CHECK(sim->memory != NULL);
    memset(sim->memory, 0, sim->memory_bytes);
    if (core_open(&sim->config, sim->memory, sim->memory_bytes, &sim->core, &error) != LLM_OK)
        fail(sim, "%s", error.message);
    if (core_blocks(sim->core) > SIM_BLOCKS_MAX)
        fail(sim, "%u blocks do not fit the tables", core_blocks(sim->core));
}

static void close_core(struct sim *sim)
{
    struct core_counts counts = core_counts(sim->core);
    sim->counts.preemptions += counts.preemptions;
    sim->counts.evictions += counts.evictions;
    sim->counts.tokens_cached += counts.tokens_cached;
    sim->counts.tokens_computed += counts.tokens_computed;
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

static void begin(struct sim *sim, uint64_t seed, uint64_t lag)
{
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
    open_core(sim);
    sim_order_reset(&sim->order, &sim->config);
}

/* ---- After every call -------------------------------------------------------------------------------- */

static void check_counts(const struct sim *sim)
{
    uint32_t writing = 0;
    uint32_t sealed = 0;
    uint32_t live = 0;
    for (block_id block = 0; block < SIM_BLOCKS_MAX; block++) {
        const struct sim_block *b = &sim->tables.blocks[block];
        writing += b->state == SIM_WRITING;
        sealed += b->state == SIM_SEALED;
        if (b->state != SIM_SEALED)
            continue;
        struct core_block_info info = core_block_info(sim->core, block);
        if (memcmp(&info.chain, &b->info.chain, sizeof info.chain) != 0 ||
            info.tokens != b->info.tokens || info.domain != b->info.domain ||
            memcmp(info.ids, b->ids, info.tokens * sizeof *b->ids) != 0)
            fail(sim, "block %u: the core and its table disagree", block);
    }
    for (uint32_t slot = 0; slot < sim->config.request_slots; slot++)
        live += sim->tables.requests[slot].live;
    struct core_counts counts = core_counts(sim->core);
    if (counts.kv.held + counts.kv.cached != writing + sealed || counts.kv.held < writing)
        fail(sim, "%u blocks held and %u cached, but the table has %u being written and %u sealed",
             counts.kv.held, counts.kv.cached, writing, sealed);
    if (counts.running + counts.queued != live)
        fail(sim, "%u requests run and %u wait, but the table has %u", counts.running,
             counts.queued, live);
}

/* Is all of it cached for the reader of `domains`? What was the reader's may be widened meanwhile, to one not named. */
static bool is_there(const struct sim *sim, uint32_t model, const uint64_t *domains,
                     uint32_t domain_count, const uint32_t *ids, uint32_t count)
{
    uint64_t all[SIM_DOMAINS_MAX + 3];
    memcpy(all, domains, domain_count * sizeof *domains);
    all[domain_count] = UINT64_C(1) << 32;
    all[domain_count + 1] = UINT64_C(1) << 32 | 1;
    all[domain_count + 2] = UINT64_C(2) << 32;
    return sim_is_cached(&sim->tables, model, all, domain_count + 3, ids, count);
}

/* What a request asked to be computed is found when it has ended: a pin may follow. */
static void check_computed(struct sim *sim)
{
    for (uint32_t slot = 0; slot < sim->config.request_slots; slot++) {
        struct sim_request *r = &sim->tables.requests[slot];
        if (r->computed && !is_there(sim, r->request.model, r->domains, r->request.domain_count,
                                     r->ids, r->request.prompt_tokens))
            fail(sim, "slot %u ended before all was computed", slot);
        r->computed = false;
    }
}

static void restart(struct sim *sim);

/* Mirror the effects of the last call; sometimes the engine dies in the middle. True: it lives. */
static bool mirror(struct sim *sim)
{
    struct llm_error error;
    uint32_t count;
    const struct core_effect *effects = core_effects(sim->core, &count);
    bool kill = sim_chance(&sim->random, sim->kill_chance);
    uint32_t end = kill ? sim_between(&sim->random, 0, count) : count;
    for (uint32_t i = 0; i < end; i++) {
        const char *wrong = sim_apply(&sim->tables, sim->core, &effects[i]);
        if (!wrong)
            wrong = sim_order_effect(&sim->order, &effects[i]);
        if (wrong)
            fail(sim, "effect %u of %u (kind %d, slot %u, block %u): %s", i, count, effects[i].kind,
                 effects[i].slot, effects[i].block, wrong);
        sim->tokens += effects[i].kind == CORE_REQUEST_TOKEN;
    }
    if (core_sane(sim->core, &error) != LLM_OK)
        fail(sim, "%s", error.message);
    if (kill)
        restart(sim);
    else
        check_computed(sim);
    check_counts(sim);
    return !kill;
}

/* ---- Death and recovery ------------------------------------------------------------------------------ */

/* A stray write of a dying engine: the record's check would usually find it; here the core must. */
static void damage_some(struct sim *sim)
{
    for (block_id block = 0; block < SIM_BLOCKS_MAX; block++) {
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
    for (block_id other = 0; other < SIM_BLOCKS_MAX; other++) {
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
        for (block_id block = 0; block < SIM_BLOCKS_MAX; block++) {
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
                fail(sim, "block %u was not adopted: %s", block, error.message);
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
        fail(sim, "a recovered request was refused: %s", error.message);
    sim_order_admitted(&sim->order, slot, &request->request);
    uint32_t count;
    const struct core_effect *effects = core_effects(sim->core, &count);
    for (uint32_t i = 0; i < count; i++)
        if (sim_apply(&sim->tables, sim->core, &effects[i]) ||
            sim_order_effect(&sim->order, &effects[i]))
            fail(sim, "a recovered request ended wrongly");
    check_computed(sim);
}

/* A new engine has the tables and the pool's memory, and nothing else. */
static void restart(struct sim *sim)
{
    sim->kills++;
    close_core(sim);
    sim->flight_count = 0;
    memset(sim->rows_of_ids, 0xa5, sizeof sim->rows_of_ids);
    bool replaced = replace_weights(sim);
    open_core(sim);
    sim_order_reset(&sim->order, &sim->config);
    memset(sim->holds, 0, sizeof sim->holds);
    memset(sim->tables.residue, 0xff, sizeof sim->tables.residue);
    bool cold = !sim->tables.exact_hash || sim_chance(&sim->random, 200);
    bool damaged = sim_chance(&sim->random, 200);
    for (block_id block = 0; block < SIM_BLOCKS_MAX; block++)
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

/* ---- Clients ----------------------------------------------------------------------------------------- */

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

static void draw_request(struct sim *sim, struct sim_request *request)
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
    const uint32_t *document = sim->documents[sim_below(&sim->random, DOCUMENTS_MAX)];
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

static bool is_pinned(const struct sim *sim)
{
    for (uint32_t hold = 0; hold < SIM_HOLDS_MAX; hold++)
        if (sim->holds[hold].live)
            return true;
    return false;
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
    draw_request(sim, &request);
    memcpy(sim->rows_of_ids + slot * SIM_CONTEXT_MAX, request.ids, sizeof request.ids);
    struct sim_request *place = &sim->tables.requests[slot];
    memcpy(place->domains, request.domains, sizeof request.domains);
    request.request.domains = place->domains;
    struct llm_error error;
    enum llm_status status = core_admit(sim->core, &request.request, slot, &error);
    if ((status == LLM_ERR_LIMIT) != too_large(sim, &request.request) &&
        !(status == LLM_ERR_LIMIT && is_pinned(sim)))
        fail(sim, "a request of %u and %u tokens was answered with status %d",
             request.request.prompt_tokens, request.request.max_tokens, (int)status);
    if (status == LLM_ERR_BUSY && !must_be_busy(sim, &request.request))
        fail(sim, "busy with %u waiting: %s", core_counts(sim->core).queued, error.message);
    if (status == LLM_OK) {
        request.live = true;
        sim->tables.requests[slot] = request;
        sim_order_admitted(&sim->order, slot, &request.request);
    }
    if (!mirror(sim))
        return false;
    if (sim->tables.requests[slot].live && !sim_order_queue_fits(&sim->order, request.request.uid))
        fail(sim, "user %u has more tokens waiting than it may", request.request.uid);
    return true;
}

static bool cancel_one(struct sim *sim, uint32_t slot)
{
    struct sim_request *request = &sim->tables.requests[slot];
    request->cancelled = true;
    if (core_cancel(sim->core, slot, CORE_FINISH_CANCELLED) != request->live)
        fail(sim, "slot %u: the core and its table disagree about a cancel", slot);
    return mirror(sim);
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

/* ---- Pins -------------------------------------------------------------------------------------------- */

static void unhold(struct sim *sim, uint32_t hold)
{
    core_unhold(sim->core, hold);
    sim->holds[hold].live = false;
}

static void hold_one(struct sim *sim, uint32_t hold)
{
    struct sim_request like;
    draw_request(sim, &like);
    uint32_t held = core_hold(sim->core, hold, like.request.model, like.domains,
                              like.request.domain_count, like.ids, like.request.prompt_tokens);
    if (held > like.request.prompt_tokens || (core_held_blocks(sim->core, hold) > 0) != (held > 0))
        fail(sim, "%u of %u tokens are held in %u blocks", held, like.request.prompt_tokens,
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

/* A block may be widened while it is pinned, never lost. */
static void check_holds(const struct sim *sim)
{
    for (uint32_t hold = 0; hold < SIM_HOLDS_MAX; hold++) {
        const struct sim_hold *h = &sim->holds[hold];
        if (h->live && !is_there(sim, h->model, h->domains, h->domain_count, h->ids, h->tokens))
            fail(sim, "hold %u: %u tokens are pinned, and some are not there", hold, h->tokens);
    }
}

static void pins(struct sim *sim)
{
    uint32_t hold = sim_below(&sim->random, SIM_HOLDS_MAX);
    if (!sim_chance(&sim->random, sim->hold_chance))
        return;
    if (sim->holds[hold].live)
        unhold(sim, hold);
    else
        hold_one(sim, hold);
    check_holds(sim);
}

/* Admissions and cancels, before a plan or while it is out. False: the engine died, and the plan with it. */
static bool clients(struct sim *sim, bool admitting)
{
    pins(sim);
    while (admitting && sim_chance(&sim->random, sim->admit_chance))
        if (!admit_one(sim))
            return false;
    return !sim_chance(&sim->random, sim->cancel_chance) || cancel_some(sim);
}

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
            fail(sim, "request %llu starves: %llu steps old",
                 (unsigned long long)request->request.request_id, (unsigned long long)age);
        sim->age_max = age > sim->age_max ? age : sim->age_max;
    }
}

/* ---- Each block is computed once ----------------------------------------------------------------------- */

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

static void check_once(struct sim *sim, const struct core_plan *plan)
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
                fail(sim, "slots %u and %u compute the same block, %u of their chains", slot, other,
                     begun[slot].at);
        }
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++)
        if (begins[slot])
            sim->filling[slot] = begun[slot];
    note_last_blocks(sim, plan);
}

/* ---- A device ------------------------------------------------------------------------------------------ */

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
        fail(sim, "plan %llu changed while it was out", (unsigned long long)plan->step);
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
            fail(sim, "slot %u, positions %u..%u: %s", sequence->slot, sequence->first_position,
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

static void launch(struct sim *sim, const struct core_plan *plan)
{
    if (plan->token_count > sim->config.step_tokens ||
        plan->sequence_count > sim->config.running_max)
        fail(sim, "a plan of %u tokens in %u sequences", plan->token_count, plan->sequence_count);
    check_once(sim, plan);
    uint32_t rows = 0;
    uint32_t scored_rows = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct core_sequence *sequence = &plan->sequences[i];
        if (sequence->first_row != rows)
            fail(sim, "sequence %u begins at row %u, not %u", i, sequence->first_row, rows);
        rows += sequence->token_count;
        scored_rows += sequence->scored_rows;
        const char *wrong = sim_check_sequence(&sim->tables, plan, i);
        if (wrong)
            fail(sim, "slot %u, positions %u..%u: %s", sequence->slot, sequence->first_position,
                 sequence->first_position + sequence->token_count, wrong);
    }
    if (scored_rows > sim->config.score_rows)
        fail(sim, "%u rows are scored in one step", scored_rows);
    if (rows != plan->token_count)
        fail(sim, "%u rows in sequences, %u in the plan", rows, plan->token_count);
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
            fail(sim, "slot %u was cancelled and goes on", slot);
    }
}

/* The earliest plan that is out is done. */
static void land(struct sim *sim)
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
    if (mirror(sim))
        check_cancelled(sim);
}

static void step(struct sim *sim, bool admitting)
{
    sim->step++;
    check_ages(sim);
    struct core_plan plan;
    if (!clients(sim, admitting))
        return;
    sim_order_planning(&sim->order);
    bool planned = core_plan(sim->core, &plan);
    if (!mirror(sim))
        return;
    if (planned) {
        const char *wrong = sim_order_planned(&sim->order, sim->core, &plan, is_pinned(sim));
        if (wrong)
            fail(sim, "%s", wrong);
        launch(sim, &plan);
    }
    if (sim->flight_count == 0) {
        for (uint32_t hold = 0; hold < SIM_HOLDS_MAX; hold++)
            unhold(sim, hold); /* whatever waits may wait for these */
        return;
    }
    if (planned && sim->flight_count <= sim->config.lag &&
        sim_chance(&sim->random, sim->ahead_chance))
        return;
    if (clients(sim, admitting && sim_chance(&sim->random, 100)))
        land(sim);
}

static void drain(struct sim *sim)
{
    sim->cancel_chance = 0;
    sim->kill_chance = 0;
    sim->hold_chance = 0;
    while (core_counts(sim->core).running + core_counts(sim->core).queued > 0)
        step(sim, false);
    check_holds(sim);
    for (uint32_t hold = 0; hold < SIM_HOLDS_MAX; hold++)
        unhold(sim, hold);
    struct core_counts counts = core_counts(sim->core);
    if (counts.kv.held > 0)
        fail(sim, "%u blocks are held and nobody is there", counts.kv.held);
}

struct options {
    uint64_t seed, runs, steps;
    uint64_t lag; /* SIM_LAG_DRAWN, or 0..CORE_LAG_MAX */
};

static void run(struct sim *sim, uint64_t seed, const struct options *options)
{
    running_seed = seed;
    begin(sim, seed, options->lag);
    while (sim->step < options->steps)
        step(sim, true);
    drain(sim);
    close_core(sim);
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
    llm_check_set_hook(say_seed);
    static struct sim sum;
    sum.seed = options.seed;
    for (uint64_t i = 0; i < options.runs; i++) {
        run(&sim, options.seed + i, &options);
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
        "%llu%% of its bound\n",
        (unsigned long long)options.runs, (unsigned long long)options.seed,
        (unsigned long long)sum.requests, (unsigned long long)sum.tokens,
        (unsigned long long)sum.counts.tokens_computed,
        (unsigned long long)sum.counts.tokens_cached, (unsigned long long)sum.counts.evictions,
        (unsigned long long)sum.counts.preemptions, (unsigned long long)sum.kills,
        (unsigned long long)sum.adopted, (unsigned long long)sum.refused,
        (unsigned long long)sum.failed, (unsigned long long)sum.tables.copies,
        (unsigned long long)sum.tables.widenings, (unsigned long long)sum.held,
        (unsigned long long)sum.ahead, (unsigned long long)sum.age_max,
        (unsigned long long)sum.order.closest_percent);
    return 0;
}
