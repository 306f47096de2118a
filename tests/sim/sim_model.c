#include "tests/sim/sim_model.h"

#include <string.h>

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t sim_random_next(struct sim_random *random)
{
    uint64_t z = (random->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint32_t sim_below(struct sim_random *random, uint32_t end)
{
    return (uint32_t)(sim_random_next(random) % end);
}

uint32_t sim_between(struct sim_random *random, uint32_t low, uint32_t high)
{
    return low + sim_below(random, high - low + 1);
}

bool sim_chance(struct sim_random *random, uint32_t per_mille)
{
    return sim_below(random, 1000) < per_mille;
}

uint64_t sim_mix(uint64_t a, uint64_t b)
{
    struct sim_random random = {a * UINT64_C(0x9e3779b97f4a7c15) ^ b};
    return sim_random_next(&random);
}

uint64_t sim_history_begin(const struct core_model *model)
{
    return sim_mix(model->identity[0], model->identity[1]);
}

uint64_t sim_history(uint64_t before, uint32_t id)
{
    return sim_mix(before, id);
}

uint32_t sim_token(uint64_t history, uint64_t seed, uint32_t vocab_tokens)
{
    return (uint32_t)(sim_mix(history, seed) % vocab_tokens);
}

enum core_finish sim_end(const struct sim_request *request, uint32_t context_tokens_max)
{
    uint32_t tokens = request->request.prompt_tokens + request->published;
    if (request->published == 0)
        return CORE_FINISH_NONE;
    if (request->ids[tokens - 1] == request->stop_id)
        return CORE_FINISH_STOP_ID;
    if (request->published == request->request.max_tokens)
        return CORE_FINISH_LENGTH;
    return tokens == context_tokens_max ? CORE_FINISH_CONTEXT : CORE_FINISH_NONE;
}

void sim_scramble(struct sim_tables *tables, block_id block)
{
    for (uint32_t r = 0; r < SIM_BLOCK_TOKENS; r++)
        tables->rows[block][r] = (struct sim_row){
            .history = sim_random_next(&tables->random), .id = UINT32_MAX, .domain = UINT64_MAX};
}

static block_id block_at(const struct sim_tables *tables, const struct core_sequence *sequence,
                         uint32_t position)
{
    return sequence->blocks[position / tables->models[sequence->model].block_tokens];
}

static struct sim_row *row_at(struct sim_tables *tables, const struct core_sequence *sequence,
                              uint32_t position)
{
    return &tables->rows[block_at(tables, sequence, position)]
                        [position % tables->models[sequence->model].block_tokens];
}

static const char *write_rows(struct sim_tables *tables, const struct core_plan *plan,
                              const struct core_sequence *sequence)
{
    const struct sim_request *request = &tables->requests[sequence->slot];
    for (uint32_t i = 0; i < sequence->token_count; i++) {
        uint32_t position = sequence->first_position + i;
        uint32_t id = plan->ids[sequence->first_row + i];
        if (plan->positions[sequence->first_row + i] != position || id != request->ids[position])
            return "the plan's ids or positions are not the request's";
        if (tables->blocks[block_at(tables, sequence, position)].state != SIM_WRITING)
            return "a row of a block that is not being written would be written";
        struct sim_row *row = row_at(tables, sequence, position);
        if (row->id != UINT32_MAX)
            return "a row would be written twice";
        uint64_t before = position == 0 ? sim_history_begin(&tables->models[sequence->model])
                                        : row_at(tables, sequence, position - 1)->history;
        *row = (struct sim_row){sim_history(before, id), id, request->request.domains[0]};
    }
    return NULL;
}

const char *sim_compute(struct sim_tables *tables, const struct core_plan *plan, uint32_t index,
                        uint32_t *out_token)
{
    const struct core_sequence *sequence = &plan->sequences[index];
    const struct sim_request *request = &tables->requests[sequence->slot];
    uint32_t end = sequence->first_position + sequence->token_count;
    uint32_t tokens = request->request.prompt_tokens + request->published;
    if (!request->live || sequence->model != request->request.model || end > tokens ||
        sequence->token_count == 0 || sequence->wants_token != (end == tokens) ||
        sequence->block_count * tables->models[sequence->model].block_tokens < end)
        return "the plan does not fit the request";
    const char *wrong = write_rows(tables, plan, sequence);
    if (wrong)
        return wrong;
    uint64_t history = sim_history_begin(&tables->models[sequence->model]);
    for (uint32_t position = 0; position < end; position++) { /* attention */
        const struct sim_row *row = row_at(tables, sequence, position);
        history = sim_history(history, request->ids[position]);
        if (row->domain != request->request.domains[0])
            return "a row of another domain was read";
        if (row->history != history)
            return "a row of another history was read";
    }
    *out_token =
        sim_token(row_at(tables, sequence, end - 1)->history, request->seed, tables->vocab_tokens);
    return NULL;
}

/* ---- Effects ---------------------------------------------------------------------------------------- */

static bool chain_equal(const struct chain *a, const struct chain *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* Is there a sealed block one level from `info` whose chain values match? child: below it, else above it. */
static bool has_relative(const struct sim_tables *tables, const struct core_block_info *info,
                         bool child)
{
    for (block_id block = 0; block < SIM_BLOCKS_MAX; block++) {
        const struct core_block_info *other = &tables->blocks[block].info;
        if (tables->blocks[block].state != SIM_SEALED || other->model != info->model ||
            other->domain != info->domain)
            continue;
        if (child ? other->depth == info->depth + 1 && chain_equal(&other->parent, &info->chain)
                  : other->depth + 1 == info->depth && chain_equal(&other->chain, &info->parent))
            return true;
    }
    return false;
}

static const char *apply_sealed(struct sim_tables *tables, const struct core *core, block_id block)
{
    struct sim_block *b = &tables->blocks[block];
    if (b->state != SIM_WRITING)
        return "a block was sealed that was not being written";
    b->info = core_block_info(core, block);
    memcpy(b->ids, b->info.ids, b->info.tokens * sizeof *b->ids);
    b->info.ids = b->ids;
    b->state = SIM_SEALED;
    for (uint32_t r = 0; r < b->info.tokens; r++)
        if (tables->rows[block][r].id != b->ids[r] ||
            tables->rows[block][r].domain != b->info.domain)
            return "a block was sealed whose rows hold something else";
    if (b->info.depth > 0 && !has_relative(tables, &b->info, false))
        return "a block was sealed before its parent";
    return NULL;
}

static const char *apply_freed(struct sim_tables *tables, block_id block)
{
    struct sim_block *b = &tables->blocks[block];
    if (b->state == SIM_FREE)
        return "a free block was freed";
    if (tables->exact_hash && b->state == SIM_SEALED && has_relative(tables, &b->info, true))
        return "a block was evicted before its child";
    b->state = SIM_FREE;
    sim_scramble(tables, block);
    return NULL;
}

static const char *apply_token(struct sim_tables *tables, struct sim_request *request,
                               uint32_t token)
{
    uint64_t history = sim_history_begin(&tables->models[request->request.model]);
    uint32_t tokens = request->request.prompt_tokens + request->published;
    for (uint32_t i = 0; i < tokens; i++)
        history = sim_history(history, request->ids[i]);
    if (!request->live)
        return "a finished request got a token";
    if (token != sim_token(history, request->seed, tables->vocab_tokens))
        return "a request got a token that it would not get alone";
    request->ids[tokens] = token;
    request->published++;
    return NULL;
}

static const char *apply_finished(const struct sim_tables *tables, struct sim_request *request,
                                  enum core_finish why)
{
    enum core_finish due =
        sim_end(request, tables->models[request->request.model].context_tokens_max);
    if (!request->live)
        return "a request finished twice";
    request->live = false;
    if (why == CORE_FINISH_CANCELLED || why == CORE_FINISH_FAILED)
        return request->cancelled ? NULL : "a request ended that nobody cancelled";
    return why == due ? NULL : "a request ended for another reason than alone";
}

const char *sim_apply(struct sim_tables *tables, const struct core *core,
                      const struct core_effect *effect)
{
    switch (effect->kind) {
    case CORE_BLOCK_TAKEN:
        if (tables->blocks[effect->block].state != SIM_FREE)
            return "a block was taken that is not free";
        tables->blocks[effect->block].state = SIM_WRITING;
        sim_scramble(tables, effect->block);
        return NULL;
    case CORE_BLOCK_SEALED:
        return apply_sealed(tables, core, effect->block);
    case CORE_BLOCK_FREED:
        return apply_freed(tables, effect->block);
    case CORE_REQUEST_STARTED:
    case CORE_REQUEST_PREEMPTED:
        return tables->requests[effect->slot].live ? NULL : "a finished request was scheduled";
    case CORE_REQUEST_TOKEN:
        return apply_token(tables, &tables->requests[effect->slot], effect->value);
    case CORE_REQUEST_FINISHED:
        return apply_finished(tables, &tables->requests[effect->slot],
                              (enum core_finish)effect->value);
    case CORE_BLOCK_COPIED:
    case CORE_BLOCK_WIDENED:
    case CORE_REQUEST_SCORED:
        return "an effect that the core does not have yet";
    }
    return "an effect of no kind";
}

void sim_chain_hash(void *self, const uint8_t parent[CHAIN_BYTES], const uint32_t *ids,
                    uint32_t count, uint8_t out[CHAIN_BYTES])
{
    const struct sim_hash *hash = self;
    uint64_t words[2];
    memcpy(words, parent, sizeof words);
    uint64_t state = sim_mix(sim_mix(hash->key, words[0]), words[1]);
    for (uint32_t i = 0; i < count; i++)
        state = sim_mix(state, ids[i]);
    words[0] = state & hash->mask;
    words[1] = sim_mix(state, 1) & hash->mask;
    memcpy(out, words, sizeof words);
}
