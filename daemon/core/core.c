#include "daemon/core/core.h"

#include <assert.h>
#include <string.h>

#include "daemon/core/core_state.h"
#include "shm/check.h"

#define CORE_BLOCKS_MAX      (UINT32_C(1) << 28)
#define CORE_SLOTS_MAX       (UINT32_C(1) << 20)
#define CORE_STEP_TOKENS_MAX (UINT32_C(1) << 20)

static_assert(CORE_WEIGHT_MAX == TURN_WEIGHT_MAX, "one range of weights");

/* ---- Open: validate, measure, carve ------------------------------------------------------------------ */

struct range { /* a value of the configuration and what it may be */
    const char *name;
    uint64_t value, low, high;
};

static enum llm_status check_ranges(const struct range *ranges, size_t count,
                                    struct llm_error *error)
{
    for (const struct range *r = ranges; r < ranges + count; r++)
        if (r->value < r->low || r->value > r->high)
            return llm_fail(error, LLM_ERR_INVALID, "core: %s is %llu; it must be %llu..%llu",
                            r->name, (unsigned long long)r->value, (unsigned long long)r->low,
                            (unsigned long long)r->high);
    return LLM_OK;
}

static uint32_t slab_blocks_max(const struct core_config *config)
{
    uint32_t most = config->slab_blocks_max > 1 ? config->slab_blocks_max : 1;
    for (uint32_t m = 0; m < config->model_count; m++)
        if (config->models[m].slab_blocks > most)
            most = config->models[m].slab_blocks;
    return most;
}

static enum llm_status check_models(const struct core_config *config, struct llm_error *error)
{
    const struct range count = {"model_count", config->model_count, 1, CORE_MODELS_MAX};
    enum llm_status status = check_ranges(&count, 1, error);
    for (uint32_t m = 0; status == LLM_OK && m < config->model_count; m++) {
        const struct core_model *model = &config->models[m];
        const struct range ranges[] = {
            {"block_tokens", model->block_tokens, 1, CORE_BLOCK_TOKENS_MAX},
            {"slab_blocks", model->slab_blocks, 1, CORE_BLOCKS_MAX},
            {"context_tokens_max", model->context_tokens_max, 2, config->ids_stride_words},
        };
        status = check_ranges(ranges, sizeof ranges / sizeof ranges[0], error);
    }
    return status;
}

static enum llm_status check_config(const struct core_config *config, struct llm_error *error)
{
    enum llm_status status = check_models(config, error);
    if (status != LLM_OK)
        return status;
    const struct range ranges[] = {
        {"slab_count", config->slab_count, 1, CORE_BLOCKS_MAX / slab_blocks_max(config)},
        {"slab_blocks_max", config->slab_blocks_max, 0, CORE_BLOCKS_MAX},
        {"request_slots", config->request_slots, 1, CORE_SLOTS_MAX},
        {"step_tokens", config->step_tokens, 1, CORE_STEP_TOKENS_MAX},
        {"running_max", config->running_max, 1, config->step_tokens},
        {"user_running_max", config->user_running_max, 1, config->running_max},
        {"queued_max", config->queued_max, 1, config->request_slots},
        {"user_queued_max", config->user_queued_max, 1, config->queued_max},
        {"hold_slots", config->hold_slots, 0, CORE_SLOTS_MAX},
        {"lag", config->lag, 0, CORE_LAG_MAX},
    };
    return check_ranges(ranges, sizeof ranges / sizeof ranges[0], error);
}

/* The most effects of one call. core_plan: every block taken gets at least one planned row, of which there are at most
 * step_tokens, or is one of the copy and the single token that each request may get and lose again when it is preempted;
 * it may be copied into, and freed once more. Every block may be freed, and every sealed one widened, from private to
 * group to public. A request that is preempted seals its tail. core_complete: at most a block a row is sealed, or
 * widened in its stead, and a tail for each request; every block may be freed. */
static uint32_t effects_max(const struct core_config *config, uint32_t block_count)
{
    uint32_t taken = config->step_tokens + 2 * config->running_max;
    return 3 * block_count + 3 * taken + 8 * config->running_max + 4;
}

static void carve_requests(struct core *core, struct arena *arena, const struct core_config *config)
{
    uint32_t blocks_max = 0;
    for (uint32_t m = 0; m < config->model_count; m++) {
        const struct core_model *model = &config->models[m];
        uint32_t blocks =
            (model->context_tokens_max + model->block_tokens - 1) / model->block_tokens;
        blocks_max = blocks > blocks_max ? blocks : blocks_max;
    }
    core->requests = arena_take(arena, config->request_slots, sizeof *core->requests);
    block_id *tables =
        arena_take(arena, (size_t)config->request_slots * blocks_max, sizeof *tables);
    for (uint32_t slot = 0; arena->base && slot < config->request_slots; slot++) {
        core->requests[slot].ids = config->ids + slot * config->ids_stride_words;
        core->requests[slot].blocks = tables + (size_t)slot * blocks_max;
    }
}

static void carve(struct core *core, struct arena *arena, const struct core_config *config)
{
    uint32_t block_tokens_max = 0;
    uint32_t slab_blocks[CORE_MODELS_MAX];
    for (uint32_t m = 0; m < config->model_count; m++) {
        core->models[m] = config->models[m];
        slab_blocks[m] = config->models[m].slab_blocks;
        if (config->models[m].block_tokens > block_tokens_max)
            block_tokens_max = config->models[m].block_tokens;
    }
    core->model_count = config->model_count;
    core->request_slots = config->request_slots;
    core->hold_slots = config->hold_slots;
    kv_pool_init(&core->cache.pool, arena, &core->effects, config->slab_count, slab_blocks,
                 config->model_count, config->slab_blocks_max);
    uint32_t block_count = kv_pool_blocks(&core->cache.pool);
    prefix_index_init(&core->cache.index, arena, block_count, block_tokens_max, config->hash);
    core->cache.effects = &core->effects;
    core->cache.retired_max = config->lag > 0 ? config->step_tokens : 0; /* a row filled each */
    core->cache.retired = arena_take(arena, core->cache.retired_max, sizeof *core->cache.retired);
    effect_list_init(&core->effects, arena, effects_max(config, block_count));
    carve_requests(core, arena, config);
    scheduler_init(&core->scheduler, arena, core->requests, config->request_slots, &core->cache,
                   &core->effects,
                   &(struct scheduler_limits){
                       .running_max = config->running_max,
                       .user_running_max = config->user_running_max,
                       .step_tokens = config->step_tokens,
                       .queued_max = config->queued_max,
                       .user_queued_max = config->user_queued_max,
                       .score_rows = config->score_rows > 0 ? config->score_rows : 1,
                       .overdue_steps =
                           config->overdue_steps > 0 ? config->overdue_steps : CORE_OVERDUE_STEPS});
    core->holds = arena_take(arena, config->hold_slots, sizeof *core->holds);
    for (uint32_t hold = 0; arena->base && hold < config->hold_slots; hold++)
        core->holds[hold].last = BLOCK_NONE;
    core->lag = config->lag;
    for (uint32_t i = 0; i <= config->lag; i++) {
        core->sequences[i] = arena_take(arena, config->running_max, sizeof *core->sequences[i]);
        core->plan_ids[i] = arena_take(arena, config->step_tokens, sizeof *core->plan_ids[i]);
        core->plan_positions[i] =
            arena_take(arena, config->step_tokens, sizeof *core->plan_positions[i]);
    }
}

enum llm_status core_bytes(const struct core_config *config, size_t *out_bytes,
                           struct llm_error *error)
{
    enum llm_status status = check_config(config, error);
    if (status != LLM_OK)
        return status;
    struct arena arena = arena_measure();
    struct core measured = {.request_slots = 0};
    (void)arena_take(&arena, 1, sizeof measured);
    carve(&measured, &arena, config);
    *out_bytes = arena.used_bytes;
    return LLM_OK;
}

enum llm_status core_open(const struct core_config *config, void *zeroed_memory, size_t bytes,
                          struct core **out_core, struct llm_error *error)
{
    size_t needed_bytes;
    enum llm_status status = core_bytes(config, &needed_bytes, error);
    if (status != LLM_OK)
        return status;
    if (bytes < needed_bytes)
        return llm_fail(error, LLM_ERR_MEMORY, "core: %zu bytes were given, %zu are needed", bytes,
                        needed_bytes);
    struct arena arena = arena_over(zeroed_memory, bytes);
    struct core *core = arena_take(&arena, 1, sizeof *core);
    carve(core, &arena, config);
    arena_freeze(&arena);
    core->arena = arena;
    core->effects_taken = true;
    *out_core = core;
    return LLM_OK;
}

uint32_t core_blocks(const struct core *core)
{
    return kv_pool_blocks(&core->cache.pool);
}

/* ---- Effects: a new list for each call, once the last was taken -------------------------------------- */

static void effects_begin(struct core *core)
{
    CHECK(core->effects_taken); /* the caller mirrors the effects of each call before the next */
    effect_list_begin(&core->effects);
}

static void effects_end(struct core *core)
{
    effect_list_close(&core->effects);
    core->effects_taken = core->effects.count == 0;
    CHECK_SLOW(core_sane(core, NULL) == LLM_OK);
}

const struct core_effect *core_effects(struct core *core, uint32_t *out_count)
{
    core->effects_taken = true;
    *out_count = core->effects.count;
    return core->effects.items;
}

/* ---- Requests --------------------------------------------------------------------------------------- */

struct prefix_root core_root(const struct core *core, uint32_t model, const uint64_t *domains,
                             uint32_t domain_count)
{
    return prefix_root(&core->cache.index, model, core->models[model].identity, CORE_IDENTITY_WORDS,
                       domains, domain_count);
}

static struct request *request_at(const struct core *core, uint32_t slot)
{
    CHECK(slot < core->request_slots);
    return &core->requests[slot];
}

/* SCORE and COMPUTE: the prompt may be as long as the context. */
static enum llm_status check_chooses_none(const struct core_request *request,
                                          uint32_t context_tokens, struct llm_error *error)
{
    if (request->prompt_tokens > context_tokens)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "the prompt has %u tokens; the model's context has room for %u",
                        request->prompt_tokens, context_tokens);
    if (request->max_tokens != 0 || request->generated_tokens != 0)
        return llm_fail(error, LLM_ERR_INVALID, "only generation has tokens to generate");
    if (request->kind == CORE_SCORE &&
        (request->score_from == 0 || request->score_from >= request->prompt_tokens))
        return llm_fail(error, LLM_ERR_INVALID,
                        "scoring begins at position %u; the prompt's ids that follow others "
                        "stand at 1..%u",
                        request->score_from, request->prompt_tokens - 1);
    return LLM_OK;
}

/* A block's domain is never narrower than that of the block behind it. */
static bool shares_narrow(const struct core_request *request)
{
    uint32_t from = 0;
    uint64_t behind = UINT64_MAX;
    for (uint32_t i = 0; i < PREFIX_SHARES_MAX; i++) {
        const struct prefix_share *share = &request->shares[i];
        if (share->tokens == 0)
            continue;
        if (share->tokens < from || share->tokens > request->prompt_tokens ||
            prefix_domain_kind(share->domain) <= prefix_domain_kind(request->domains[0]) ||
            (behind != UINT64_MAX &&
             prefix_domain_kind(behind) <= prefix_domain_kind(share->domain)))
            return false;
        from = share->tokens;
        behind = share->domain;
    }
    return true;
}

static enum llm_status check_request(const struct core *core, const struct core_request *request,
                                     struct llm_error *error)
{
    if (request->model >= core->model_count)
        return llm_fail(error, LLM_ERR_INVALID, "there is no model %u", request->model);
    if (request->prompt_tokens == 0)
        return llm_fail(error, LLM_ERR_INVALID, "the prompt is empty");
    if (request->priority >= TURN_CLASSES)
        return llm_fail(error, LLM_ERR_INVALID, "priority %u is not known", request->priority);
    if (request->weight > CORE_WEIGHT_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "weight %u is more than %u", request->weight,
                        CORE_WEIGHT_MAX);
    if (request->domain_count == 0 || request->domain_count > CORE_DOMAINS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "the request names %u domains; it must be 1..%u",
                        request->domain_count, CORE_DOMAINS_MAX);
    if (!shares_narrow(request))
        return llm_fail(error, LLM_ERR_INVALID,
                        "the prompt's shared parts do not go from wide domains to narrow ones");
    uint32_t context_tokens = core->models[request->model].context_tokens_max;
    if (request->kind != CORE_GENERATE)
        return check_chooses_none(request, context_tokens, error);
    if (request->max_tokens == 0)
        return llm_fail(error, LLM_ERR_INVALID, "max_tokens is 0; it must be at least 1");
    if (request->prompt_tokens >= context_tokens)
        return llm_fail(
            error, LLM_ERR_LIMIT,
            "the prompt has %u tokens; the model's context of %u leaves room for at most %u",
            request->prompt_tokens, context_tokens, context_tokens - 1);
    if (request->generated_tokens > context_tokens - request->prompt_tokens ||
        request->generated_tokens > request->max_tokens)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%u tokens are already published, more than the request could have",
                        request->generated_tokens);
    return LLM_OK;
}

/* The answer ends at max_tokens or where the context does, whichever comes first. What chooses no tokens ends with its
 * prompt; nothing is to be scored behind the last id. */
static void request_fill(struct request *r, const struct core_request *request,
                         const struct core_model *model, struct prefix_root root)
{
    uint32_t room_tokens = model->context_tokens_max - request->prompt_tokens;
    bool all = request->max_tokens <= room_tokens;
    bool score = request->kind == CORE_SCORE;
    *r = (struct request){
        .request_id = request->request_id,
        .ids = r->ids,
        .blocks = r->blocks,
        .root = root,
        .shares = {request->shares[0], request->shares[1]},
        .kind = request->kind,
        .end = all ? CORE_FINISH_LENGTH : CORE_FINISH_CONTEXT,
        .uid = request->uid,
        .block_tokens = model->block_tokens,
        .prompt_tokens = request->prompt_tokens,
        .tokens = request->prompt_tokens + request->generated_tokens - score,
        .tokens_end = request->prompt_tokens + (all ? request->max_tokens : room_tokens) - score,
        .scored = request->score_from,
    };
}

/* A COMPUTE request whose rows are all cached, for everybody in its domain, has nothing to do. */
static bool all_is_computed(struct core *core, const struct request *r)
{
    block_id last;
    uint32_t found = kv_cache_longest(&core->cache, &r->root, r->ids, r->tokens, r->block_tokens,
                                      PREFIX_AS_IS, &last);
    if (found < r->tokens)
        return false;
    last =
        BLOCK_NONE; /* once more, as one who uses the blocks: they are widened, and young again */
    for (uint32_t from = 0; from + r->block_tokens <= r->tokens; from += r->block_tokens) {
        struct prefix_root root = request_root_at(r, from);
        last = kv_cache_match(&core->cache, &root, last, r->ids + from, r->block_tokens);
    }
    kv_pool_drop(&core->cache.pool, last);
    return true;
}

/* The classes in the order of enum llm_priority, which begins with the usual one. */
static struct scheduler_terms scheduler_terms_of(const struct core_request *request)
{
    static const uint32_t ranks[TURN_CLASSES] = {1, TURN_INTERACTIVE, TURN_BATCH};
    return (struct scheduler_terms){.rank = ranks[request->priority],
                                    .weight = request->weight > 0 ? request->weight : 1,
                                    .seats_max = request->user_running_max,
                                    .queued_tokens_max = request->user_queued_tokens,
                                    .recovered = request->recovered};
}

static enum llm_status admit(struct core *core, const struct core_request *request, uint32_t slot,
                             struct llm_error *error)
{
    struct request *r = request_at(core, slot);
    request_fill(r, request, &core->models[request->model],
                 core_root(core, request->model, request->domains, request->domain_count));
    uint32_t blocks = request_blocks_for(r, request_rows_end(r));
    uint32_t capacity = kv_pool_capacity(&core->cache.pool, request->model);
    if (blocks > capacity)
        return llm_fail(
            error, LLM_ERR_LIMIT,
            "prompt and answer of up to %u tokens need %u KV blocks of %u tokens; the pool "
            "has %u: lower max_tokens or enlarge the pool",
            r->tokens_end, blocks, r->block_tokens, capacity);
    if (!core_fits_beside_pins(core, r))
        return llm_fail(error, LLM_ERR_LIMIT,
                        "prompt and answer of up to %u tokens need %u KV blocks; contexts that are "
                        "pinned leave %u: lower max_tokens or unpin some",
                        r->tokens_end, blocks, kv_pool_unpinned(&core->cache.pool, request->model));
    if (request->kind == CORE_GENERATE
            ? r->tokens == r->tokens_end
            : request->kind == CORE_COMPUTE && all_is_computed(core, r)) {
        effect_request(&core->effects, CORE_REQUEST_FINISHED, slot, r->end);
        return LLM_OK;
    }
    const struct scheduler_terms terms = scheduler_terms_of(request);
    return scheduler_queue(&core->scheduler, slot, &terms, error);
}

enum llm_status core_admit(struct core *core, const struct core_request *request, uint32_t slot,
                           struct llm_error *error)
{
    CHECK(request_at(core, slot)->state == REQUEST_FREE);
    effects_begin(core);
    enum llm_status status = check_request(core, request, error);
    if (status == LLM_OK)
        status = admit(core, request, slot, error);
    effects_end(core);
    return status;
}

static void finish(struct core *core, uint32_t slot, enum core_finish why)
{
    scheduler_remove(&core->scheduler, slot);
    core->requests[slot].state = REQUEST_FREE;
    effect_request(&core->effects, CORE_REQUEST_FINISHED, slot, why);
}

void core_narrow(struct core *core, uint32_t slot, const uint64_t *domains, uint32_t domain_count)
{
    struct request *r = request_at(core, slot);
    CHECK(r->state != REQUEST_FREE && domain_count > 0 && domain_count <= CORE_DOMAINS_MAX);
    CHECK(prefix_domain_covers(r->root.sealed_in, domains[0]));
    r->root.domains = domains;
    r->root.domain_count = domain_count;
    r->root.sealed_in = domains[0];
    CHECK_SLOW(core_sane(core, NULL) == LLM_OK);
}

bool core_cancel(struct core *core, uint32_t slot, enum core_finish why)
{
    struct request *r = request_at(core, slot);
    CHECK(why == CORE_FINISH_CANCELLED || why == CORE_FINISH_FAILED);
    effects_begin(core);
    bool found = r->state != REQUEST_FREE;
    if (found && r->flying_tokens == 0)
        finish(core, slot, why);
    else if (found && r->ending == CORE_FINISH_NONE)
        r->ending = why; /* its blocks are being written: core_complete() ends it */
    effects_end(core);
    return found;
}

/* ---- Steps ------------------------------------------------------------------------------------------ */

/* From now on its rows are in a plan that is out. */
static void plan_sequence(struct core *core, struct core_plan *plan, uint32_t slot)
{
    struct request *r = &core->requests[slot];
    uint32_t at = core_plan_at(core, plan->step);
    uint32_t first = request_next_row(r), end = first + r->planned_tokens;
    bool wants_token = r->kind == CORE_GENERATE && end == r->tokens + r->pending_tokens;
    core->sequences[at][plan->sequence_count++] = (struct core_sequence){
        .slot = slot,
        .model = r->root.model,
        .first_row = plan->token_count,
        .token_count = r->planned_tokens,
        .first_position = first,
        .block_count = r->block_count,
        .blocks = r->blocks,
        .wants_token = wants_token,
        .scored_rows = request_scored_rows(r, r->planned_tokens),
    };
    for (uint32_t position = first; position < end; position++) {
        core->plan_ids[at][plan->token_count] =
            position < r->tokens ? r->ids[position] : CORE_ID_PENDING;
        core->plan_positions[at][plan->token_count++] = position;
    }
    r->flying_tokens += r->planned_tokens;
    r->planned_tokens = 0;
    r->pending_tokens += wants_token;
}

static bool nobody_waits(const struct scheduler *s)
{
    return s->running.count == 0 && scheduler_waiting(s) == 0;
}

/* Pins were admitted beside what runs, but a chain may be found in other blocks than the pinned ones meanwhile. */
static bool is_pinned(const struct core *core)
{
    uint32_t pinned = 0;
    for (uint32_t m = 0; m < core->model_count; m++)
        pinned += core->cache.pool.models[m].pinned_blocks;
    return pinned > 0;
}

/* Write down what the scheduler decided, eldest first. */
static struct core_plan plan_write(struct core *core)
{
    uint64_t step = ++core->steps;
    uint32_t at = core_plan_at(core, step);
    struct core_plan plan = {.step = step,
                             .sequences = core->sequences[at],
                             .ids = core->plan_ids[at],
                             .positions = core->plan_positions[at]};
    const struct request_list *running = &core->scheduler.running;
    for (uint32_t slot = running->head; slot != REQUEST_NONE; slot = core->requests[slot].next)
        if (core->requests[slot].planned_tokens > 0)
            plan_sequence(core, &plan, slot);
    core->sequence_counts[at] = plan.sequence_count;
    return plan;
}

bool core_plan(struct core *core, struct core_plan *out_plan)
{
    uint32_t plans_out = core_plans_out(core);
    CHECK(plans_out <= core->lag);
    effects_begin(core);
    uint32_t planned_tokens = scheduler_plan(&core->scheduler, plans_out > 0);
    if (planned_tokens > 0) {
        *out_plan = plan_write(core);
        CHECK(out_plan->token_count == planned_tokens);
    } else {
        /* Somebody always moves, and an idle core can start somebody (README rules 8 and 16). */
        CHECK(nobody_waits(&core->scheduler) || is_pinned(core) || plans_out > 0);
    }
    effects_end(core);
    return planned_tokens > 0;
}

static enum core_finish take_token(struct core *core, uint32_t slot,
                                   const struct core_result *result)
{
    enum core_finish end = request_append(&core->requests[slot], result->token);
    effect_request(&core->effects, CORE_REQUEST_TOKEN, slot, result->token);
    return result->finish != CORE_FINISH_NONE ? result->finish : end;
}

/* SCORE and COMPUTE: what the rows just written were for. */
static enum core_finish take_rows(struct core *core, const struct core_sequence *sequence)
{
    struct request *r = &core->requests[sequence->slot];
    if (sequence->scored_rows > 0) {
        r->scored = r->computed + 1;
        effect_request(&core->effects, CORE_REQUEST_SCORED, sequence->slot, r->scored);
    }
    return r->computed == r->tokens ? CORE_FINISH_LENGTH : CORE_FINISH_NONE;
}

/* The rows are written, unless an earlier step failed; but one that was planned for a token that did not come, because the
 * request had ended, is nobody's. */
static bool rows_count(const struct request *r, const struct core_sequence *sequence)
{
    return !r->spoiled && sequence->first_position + sequence->token_count <= r->tokens;
}

static void take_result(struct core *core, const struct core_sequence *sequence,
                        const struct core_result *result)
{
    struct request *r = &core->requests[sequence->slot];
    bool goes_on = r->ending == CORE_FINISH_NONE;
    if (result->finish == CORE_FINISH_FAILED) { /* its rows count for nothing */
        r->spoiled = true;
        r->ending = goes_on ? CORE_FINISH_FAILED : r->ending;
        return;
    }
    if (!rows_count(r, sequence)) {
        CHECK(!goes_on);
        return;
    }
    CHECK(r->computed == sequence->first_position);
    core->tokens_computed += sequence->token_count;
    request_advance(r, sequence->token_count, &core->cache);
    if (goes_on && sequence->wants_token)
        r->ending = take_token(core, sequence->slot, result);
    else if (goes_on && r->kind != CORE_GENERATE)
        r->ending = take_rows(core, sequence);
}

static void complete_sequence(struct core *core, const struct core_sequence *sequence,
                              const struct core_result *result)
{
    struct request *r = &core->requests[sequence->slot];
    CHECK(r->flying_tokens >= sequence->token_count && r->pending_tokens >= sequence->wants_token);
    r->flying_tokens -= sequence->token_count;
    r->pending_tokens -= sequence->wants_token;
    take_result(core, sequence, result);
    if (r->ending != CORE_FINISH_NONE && r->flying_tokens == 0)
        finish(core, sequence->slot, r->ending);
}

void core_complete(struct core *core, const struct core_plan *plan,
                   const struct core_result *results)
{
    CHECK(core_plans_out(core) > 0 && plan->step == core->steps_completed + 1);
    effects_begin(core);
    kv_cache_free_retired(&core->cache); /* of the plan before: this is the one that named them */
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        CHECK(plan->sequences[i].wants_token || results[i].finish == CORE_FINISH_NONE ||
              results[i].finish == CORE_FINISH_FAILED);
        complete_sequence(core, &plan->sequences[i], &results[i]);
    }
    core->steps_completed++;
    effects_end(core);
}

/* ---- After an engine's death ------------------------------------------------------------------------ */

uint32_t core_block_model(const struct core *core, block_id block)
{
    return kv_pool_model_of(&core->cache.pool, block);
}

struct core_block_info core_block_info(const struct core *core, block_id block)
{
    const struct prefix_entry *entry = prefix_index_entry(&core->cache.index, block);
    return (struct core_block_info){.chain = entry->chain,
                                    .parent = entry->parent_chain,
                                    .ids = prefix_index_ids(&core->cache.index, block),
                                    .tokens = entry->tokens,
                                    .depth = entry->depth,
                                    .domain = entry->domain,
                                    .model = entry->model};
}

static bool same_chain(const struct chain *a, const struct chain *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* The adopted block that `info` continues; BLOCK_NONE with depth 0. */
static enum llm_status find_parent(const struct core *core, const struct prefix_root *root,
                                   const struct core_block_info *info, block_id *out_parent,
                                   struct llm_error *error)
{
    block_id parent = BLOCK_NONE;
    bool found = info->depth == 0 && same_chain(&info->parent, &root->chain);
    if (info->depth > 0) {
        parent = prefix_index_find_chain(&core->cache.index, root, info->depth - 1,
                                         core->models[info->model].block_tokens, &info->parent);
        found = parent != BLOCK_NONE;
    }
    if (!found)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "its parent at depth %u is not there",
                        info->depth);
    *out_parent = parent;
    return LLM_OK;
}

static enum llm_status adopt(struct core *core, block_id block, const struct core_block_info *info,
                             struct llm_error *error)
{
    if (info->model >= core->model_count)
        return llm_fail(error, LLM_ERR_INVALID, "there is no model %u", info->model);
    if (info->tokens == 0 || info->tokens > core->models[info->model].block_tokens)
        return llm_fail(error, LLM_ERR_INVALID,
                        "block %u has %u tokens; the model's blocks have 1..%u", block,
                        info->tokens, core->models[info->model].block_tokens);
    struct prefix_root root = core_root(core, info->model, &info->domain, 1);
    block_id parent = BLOCK_NONE;
    enum llm_status status = find_parent(core, &root, info, &parent, error);
    if (status != LLM_OK)
        return status;
    struct chain chain =
        prefix_index_chain(&core->cache.index, &root, parent, info->ids, info->tokens);
    if (!same_chain(&chain, &info->chain))
        return llm_fail(error, LLM_ERR_CORRUPT,
                        "block %u: its chain value does not follow from its parent and token ids",
                        block);
    status = kv_cache_adopt(&core->cache, &root, block, parent, info->ids, info->tokens);
    if (status == LLM_ERR_INVALID)
        return llm_fail(error, status, "block %u: model %u has no such block", block, info->model);
    if (status == LLM_ERR_BUSY)
        return llm_fail(error, status, "block %u, its slab or its content is already taken", block);
    return status;
}

enum llm_status core_adopt_block(struct core *core, block_id block,
                                 const struct core_block_info *info, struct llm_error *error)
{
    effects_begin(core);
    enum llm_status status = adopt(core, block, info, error);
    effects_end(core);
    return status;
}
