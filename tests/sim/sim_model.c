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
    if (request->request.kind != CORE_GENERATE)
        return CORE_FINISH_LENGTH;
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

/* ---- Domains ---------------------------------------------------------------------------------------- */

bool sim_may_read(const uint64_t *domains, uint32_t count, uint64_t domain)
{
    for (uint32_t i = 0; i < count; i++)
        if (domains[i] == domain)
            return true;
    return false;
}

static bool request_may_read(const struct sim_request *request, uint64_t domain)
{
    return sim_may_read(request->request.domains, request->request.domain_count, domain);
}

/* Public for all, a group for those of its members' blocks that name it. */
static bool covers(uint64_t wide, uint64_t narrow)
{
    return wide == narrow || wide >> 32 > narrow >> 32;
}

/* What stands in the pool's memory where `domain` wrote for `model`. */
static uint64_t residue_of(uint64_t domain, uint32_t model)
{
    return (domain << 4 | model) + 1;
}

/* Before a block that was not copied into is written: whatever it holds is the writer's own. */
static bool was_zeroed(const struct sim_tables *tables, block_id block, uint64_t domain,
                       uint32_t model)
{
    for (uint32_t r = 0; r < tables->models[model].block_tokens; r++)
        if (tables->rows[block][r].copied)
            return true;
    for (uint32_t r = 0; r < tables->models[model].block_tokens; r++)
        if (tables->residue[block][r] != 0 &&
            tables->residue[block][r] != residue_of(domain, model))
            return false;
    return true;
}

/* By loops over one array each: gcc 12 at -O1 and -O2 takes a single loop over both for one without effect. */
static void own_rows(struct sim_tables *tables, block_id block)
{
    const struct core_block_info *info = &tables->blocks[block].info;
    struct sim_row *rows = tables->rows[block];
    uint64_t *residues = tables->residue[block];
    for (uint32_t r = 0; r < info->tokens; r++) {
        rows[r].domain = info->domain;
        rows[r].copied = false;
    }
    for (uint32_t r = 0; r < info->tokens; r++)
        residues[r] = residue_of(info->domain, info->model);
}

static bool row_is_cached(const struct sim_tables *tables, uint32_t model, const uint64_t *domains,
                          uint32_t domain_count, uint32_t position, uint64_t history)
{
    uint32_t block_tokens = tables->models[model].block_tokens;
    for (block_id block = 0; block < tables->block_count; block++) {
        const struct sim_block *b = &tables->blocks[block];
        if (b->state == SIM_SEALED && b->info.model == model &&
            b->info.depth == position / block_tokens && position % block_tokens < b->info.tokens &&
            tables->rows[block][position % block_tokens].history == history &&
            sim_may_read(domains, domain_count, b->info.domain))
            return true;
    }
    return false;
}

bool sim_is_cached(const struct sim_tables *tables, uint32_t model, const uint64_t *domains,
                   uint32_t domain_count, const uint32_t *ids, uint32_t count)
{
    uint64_t history = sim_history_begin(&tables->models[model]);
    for (uint32_t position = 0; position < count; position++) {
        history = sim_history(history, ids[position]);
        if (!row_is_cached(tables, model, domains, domain_count, position, history))
            return false;
    }
    return true;
}

/* ---- Steps ------------------------------------------------------------------------------------------ */

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

static const char *write_rows(struct sim_tables *tables, const struct core_sequence *sequence)
{
    const struct sim_request *request = &tables->requests[sequence->slot];
    for (uint32_t i = 0; i < sequence->token_count; i++) {
        uint32_t position = sequence->first_position + i;
        uint32_t id = request->ids[position];
        if (tables->blocks[block_at(tables, sequence, position)].state != SIM_WRITING)
            return "a row of a block that is not being written would be written";
        struct sim_row *row = row_at(tables, sequence, position);
        block_id block = block_at(tables, sequence, position);
        uint64_t domain = request->request.domains[0];
        if (row->id != UINT32_MAX && !row->copied)
            return "a row would be written twice";
        if (!was_zeroed(tables, block, domain, sequence->model))
            return "a block is written whose memory holds another domain's rows";
        if (request->broken) { /* whatever it is, it is not what it should be */
            row->id = UINT32_MAX - 1;
            row->copied = false;
            continue;
        }
        uint64_t before = position == 0 ? sim_history_begin(&tables->models[sequence->model])
                                        : row_at(tables, sequence, position - 1)->history;
        *row = (struct sim_row){sim_history(before, id), id, domain, false};
        tables->residue[block][position % tables->models[sequence->model].block_tokens] =
            residue_of(domain, sequence->model);
    }
    return NULL;
}

/* Each row that says how likely an id that is not scored yet is, in order and without a gap. */
static uint32_t rows_to_score(const struct sim_request *request,
                              const struct core_sequence *sequence)
{
    uint32_t end = sequence->first_position + sequence->token_count;
    uint32_t scored =
        request->scored > request->ahead_scored ? request->scored : request->ahead_scored;
    if (request->request.kind != CORE_SCORE || end < scored)
        return 0;
    return end + 1 - scored;
}

/* Ids that are not known yet are pending: those behind what is published. */
static const char *check_ids(const struct core_plan *plan, const struct core_sequence *sequence,
                             const struct sim_request *request)
{
    uint32_t known = request->request.prompt_tokens + request->published;
    for (uint32_t i = 0; i < sequence->token_count; i++) {
        uint32_t position = sequence->first_position + i;
        uint32_t id = position < known ? request->ids[position] : CORE_ID_PENDING;
        if (plan->positions[sequence->first_row + i] != position ||
            plan->ids[sequence->first_row + i] != id)
            return "the plan's ids or positions are not the request's";
    }
    return NULL;
}

const char *sim_check_sequence(struct sim_tables *tables, const struct core_plan *plan,
                               uint32_t index)
{
    const struct core_sequence *sequence = &plan->sequences[index];
    struct sim_request *request = &tables->requests[sequence->slot];
    uint32_t end = sequence->first_position + sequence->token_count;
    uint32_t tokens = request->request.prompt_tokens + request->published + request->ahead_tokens -
                      (request->request.kind == CORE_SCORE);
    bool wants_token = request->request.kind == CORE_GENERATE && end == tokens;
    if (!request->live || sequence->model != request->request.model || end > tokens ||
        sequence->token_count == 0 || sequence->wants_token != wants_token ||
        sequence->scored_rows != rows_to_score(request, sequence) ||
        sequence->block_count * tables->models[sequence->model].block_tokens < end)
        return "the plan does not fit the request";
    if (sequence->scored_rows > sequence->token_count)
        return "a row is scored that was not computed";
    if (request->cancelled && !request->broken) /* a failure is seen when its step is done */
        return "a request is planned that is over";
    if (wants_token && request->published + request->ahead_tokens == request->request.max_tokens)
        return "a request is planned whose last token is being chosen";
    request->ahead_tokens += wants_token;
    if (sequence->scored_rows > 0)
        request->ahead_scored = end + 1;
    return check_ids(plan, sequence, request);
}

const char *sim_compute(struct sim_tables *tables, const struct core_plan *plan, uint32_t index,
                        uint32_t *out_token)
{
    const struct core_sequence *sequence = &plan->sequences[index];
    struct sim_request *request = &tables->requests[sequence->slot];
    uint32_t end = sequence->first_position + sequence->token_count;
    if (!request->live)
        return "a request is gone that a plan names";
    const char *wrong = write_rows(tables, sequence);
    if (wrong)
        return wrong;
    for (uint32_t i = 0; i < sequence->block_count; i++)
        if (tables->blocks[sequence->blocks[i]].state == SIM_FREE)
            return "a block is free that a plan names";
    *out_token = 0;
    if (request->broken)
        return NULL;
    for (uint32_t i = 0; i < sequence->block_count; i++) {
        const struct sim_block *b = &tables->blocks[sequence->blocks[i]];
        if (b->state == SIM_SEALED && !covers(b->info.domain, request->request.domains[0]))
            return "a block stands in a chain whose readers may not read it";
    }
    uint64_t history = sim_history_begin(&tables->models[sequence->model]);
    for (uint32_t position = 0; position < end; position++) { /* attention */
        const struct sim_row *row = row_at(tables, sequence, position);
        history = sim_history(history, request->ids[position]);
        /* One that names its own domain only may see a block of its own widened under it. */
        if (!request_may_read(request, row->domain) &&
            !(request->request.domain_count == 1 && covers(row->domain, request->domains[0])))
            return "a row of another domain was read";
        if (row->history != history)
            return "a row of another history was read";
    }
    *out_token =
        sim_token(row_at(tables, sequence, end - 1)->history, request->seed, tables->vocab_tokens);
    if (sequence->wants_token)
        request->ids[end] = *out_token; /* a plan ahead may feed it back before it is published */
    return NULL;
}

/* ---- Effects ---------------------------------------------------------------------------------------- */

static bool chain_equal(const struct chain *a, const struct chain *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static bool is_parent(const struct sim_tables *tables, block_id block,
                      const struct core_block_info *child)
{
    const struct sim_block *b = &tables->blocks[block];
    return b->state == SIM_SEALED && b->info.model == child->model &&
           b->info.depth + 1 == child->depth && covers(b->info.domain, child->domain) &&
           b->info.tokens == tables->models[child->model].block_tokens &&
           chain_equal(&b->info.chain, &child->parent);
}

static bool has_parent(const struct sim_tables *tables, const struct core_block_info *child,
                       block_id except)
{
    for (block_id block = 0; block < tables->block_count; block++)
        if (block != except && is_parent(tables, block, child))
            return true;
    return false;
}

/* Would some sealed block be without a parent if `block` went? */
static bool leaves_an_orphan(const struct sim_tables *tables, block_id block)
{
    for (block_id child = 0; child < tables->block_count; child++)
        if (tables->blocks[child].state == SIM_SEALED &&
            is_parent(tables, block, &tables->blocks[child].info) &&
            !has_parent(tables, &tables->blocks[child].info, block))
            return true;
    return false;
}

static const char *apply_taken(struct sim_tables *tables, block_id block, uint32_t zero)
{
    if (tables->blocks[block].state != SIM_FREE)
        return "a block was taken that is not free";
    tables->blocks[block].state = SIM_WRITING;
    tables->blocks[block].taken = ++tables->takes;
    sim_scramble(tables, block);
    if (zero)
        memset(tables->residue[block], 0, sizeof tables->residue[block]);
    return NULL;
}

static const char *apply_sealed(struct sim_tables *tables, const struct core *core, block_id block,
                                uint64_t domain)
{
    struct sim_block *b = &tables->blocks[block];
    if (b->state != SIM_WRITING)
        return "a block was sealed that was not being written";
    b->info = core_block_info(core, block);
    b->info.domain = domain; /* it may be widened by a later effect of the same call */
    memcpy(b->ids, b->info.ids, b->info.tokens * sizeof *b->ids);
    b->info.ids = b->ids;
    b->state = SIM_SEALED;
    for (uint32_t r = 0; r < b->info.tokens; r++)
        if (tables->rows[block][r].id != b->ids[r] ||
            (tables->rows[block][r].domain != b->info.domain && !tables->rows[block][r].copied))
            return "a block was sealed whose rows hold something else";
    if (b->info.depth > 0 && !has_parent(tables, &b->info, BLOCK_NONE))
        return "a block was sealed before its parent";
    own_rows(tables, block);
    return NULL;
}

/* A request that seals in `domain`, may read what was the block's, and begins with all that the block holds. */
static bool is_published_by(const struct sim_tables *tables, const struct sim_request *request,
                            block_id block, uint64_t domain)
{
    const struct core_block_info *info = &tables->blocks[block].info;
    uint32_t end = info->depth * tables->models[info->model].block_tokens + info->tokens;
    if (!request->live || request->request.model != info->model ||
        request->request.domains[0] != domain || !request_may_read(request, info->domain) ||
        end > request->request.prompt_tokens + request->published)
        return false;
    uint64_t history = sim_history_begin(&tables->models[info->model]);
    for (uint32_t i = 0; i < end; i++)
        history = sim_history(history, request->ids[i]);
    return tables->rows[block][info->tokens - 1].history == history;
}

static bool has_history(const struct sim_tables *tables, const struct sim_request *request,
                        uint64_t sought)
{
    uint64_t history = sim_history_begin(&tables->models[request->request.model]);
    uint32_t tokens = request->request.prompt_tokens + request->published;
    for (uint32_t i = 0; i < tokens; i++) {
        history = sim_history(history, request->ids[i]);
        if (history == sought)
            return true;
    }
    return false;
}

/* Whom a row may have been sealed for or widened to: the widest that a request which may read it publishes it for. */
static uint64_t widest_of(const struct sim_tables *tables, const struct sim_row *row)
{
    uint64_t widest = row->domain;
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++) {
        const struct sim_request *request = &tables->requests[slot];
        if (request->live && request->domains[0] >> 32 > widest >> 32 &&
            request_may_read(request, row->domain) && has_history(tables, request, row->history))
            widest = request->domains[0];
    }
    return widest;
}

/* A source that is freed in the same call may have been sealed or widened before: of what is freed nothing else is said. */
static const char *apply_copied(struct sim_tables *tables, block_id block, block_id source,
                                bool source_goes)
{
    const struct sim_block *from = &tables->blocks[source];
    /* A source that is sealed, copied and freed in one call was never said to be sealed. */
    if (tables->blocks[block].state != SIM_WRITING || from->state == SIM_FREE)
        return "a block was copied that is free, or to one that is not being written";
    for (uint32_t r = 0; r < SIM_BLOCK_TOKENS; r++)
        if (tables->rows[block][r].id != UINT32_MAX)
            return "a block was copied over rows";
    memcpy(tables->residue[block], tables->residue[source], sizeof tables->residue[block]);
    uint32_t rows = from->state == SIM_SEALED ? from->info.tokens : SIM_BLOCK_TOKENS;
    for (uint32_t r = 0; r < rows; r++) {
        tables->rows[block][r] = tables->rows[source][r];
        tables->rows[block][r].copied = true;
        if (source_goes && tables->rows[source][r].id != UINT32_MAX)
            tables->rows[block][r].domain = widest_of(tables, &tables->rows[source][r]);
    }
    tables->copies++;
    return NULL;
}

static const char *apply_widened(struct sim_tables *tables, block_id block, uint64_t domain)
{
    struct sim_block *b = &tables->blocks[block];
    if (b->state != SIM_SEALED)
        return "a block was widened that is not sealed";
    if (b->info.domain >> 32 != 0 || domain >> 32 == 0)
        return "a block was widened that was not private, or not to others";
    bool published = false;
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX && !published; slot++)
        published = is_published_by(tables, &tables->requests[slot], block, domain);
    if (!published)
        return "a block was widened that its owner did not publish";
    b->info.domain = domain;
    if (b->info.depth > 0 && !has_parent(tables, &b->info, BLOCK_NONE))
        return "a block was widened before its parent";
    own_rows(tables, block);
    tables->widenings++;
    return NULL;
}

static const char *apply_freed(struct sim_tables *tables, block_id block)
{
    struct sim_block *b = &tables->blocks[block];
    if (b->state == SIM_FREE)
        return "a free block was freed";
    if (tables->exact_hash && b->state == SIM_SEALED && leaves_an_orphan(tables, block))
        return "a block was evicted before its child";
    b->state = SIM_FREE;
    sim_scramble(tables, block);
    return NULL;
}

static const char *apply_scored(struct sim_request *request, uint32_t end)
{
    if (!request->live || request->request.kind != CORE_SCORE || end <= request->scored ||
        end > request->request.prompt_tokens)
        return "positions were scored that nobody asked for, or twice";
    request->scored = end;
    return NULL;
}

static const char *apply_token(struct sim_tables *tables, struct sim_request *request,
                               uint32_t token)
{
    uint64_t history = sim_history_begin(&tables->models[request->request.model]);
    uint32_t tokens = request->request.prompt_tokens + request->published;
    for (uint32_t i = 0; i < tokens; i++)
        history = sim_history(history, request->ids[i]);
    if (!request->live || request->request.kind != CORE_GENERATE)
        return "a request that is finished, or wants none, got a token";
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
    if (request->request.kind == CORE_SCORE && request->scored != request->request.prompt_tokens)
        return "a request ended before all was scored";
    request->computed = request->request.kind == CORE_COMPUTE;
    return why == due ? NULL : "a request ended for another reason than alone";
}

/* A block that `effect` names and the tables have not. */
static bool names_no_block(const struct sim_tables *tables, const struct core_effect *effect)
{
    return (effect->block != BLOCK_NONE && effect->block >= tables->block_count) ||
           (effect->kind == CORE_BLOCK_COPIED && effect->value >= tables->block_count);
}

const char *sim_apply(struct sim_tables *tables, const struct core *core,
                      const struct core_effect *effect, bool source_goes)
{
    if (names_no_block(tables, effect))
        return "there is no such block";
    switch (effect->kind) {
    case CORE_BLOCK_TAKEN:
        return apply_taken(tables, effect->block, effect->value);
    case CORE_BLOCK_COPIED:
        return apply_copied(tables, effect->block, effect->value, source_goes);
    case CORE_BLOCK_WIDENED:
        return apply_widened(tables, effect->block, effect->domain);
    case CORE_BLOCK_SEALED:
        return apply_sealed(tables, core, effect->block, effect->domain);
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
    case CORE_REQUEST_SCORED:
        return apply_scored(&tables->requests[effect->slot], effect->value);
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
