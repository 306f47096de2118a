#include "daemon/sim/world.h"

#include <stdlib.h>
#include <string.h>

#include "shm/check.h"
#include "shm/layout.h"

#define NONE UINT32_MAX

struct client_slot {
    uint32_t request;  /* NONE: free, or read late */
    uint64_t order;    /* of its admission */
    uint64_t free_ns;  /* request NONE: when its reader is done */
    uint64_t death_ns; /* its client dies then; UINT64_MAX: never */
    bool taken;
    bool started; /* waits no longer in the core's queue */
    bool recovered;
};

struct queue { /* of one user's requests that wait for a slot, by `next` */
    uint32_t head, tail;
    uint32_t in_core; /* those that have one and wait there */
};

struct world {
    const struct trace *trace;
    const struct world_options *options;
    struct world_result *result;
    uint64_t now_ns, death_ns; /* of the engine that runs; UINT64_MAX: never */
    /* clients */
    struct client_slot *slots; /* [options->slots] */
    uint32_t *ids;             /* [slots][context_tokens] */
    uint32_t *next;            /* [trace->count] */
    struct queue *queues;      /* [user_count] */
    uint64_t *domains;         /* [user_count] */
    uint32_t arrived, waiting, in_flight, turn, slots_taken;
    uint64_t admissions;
    /* the engine */
    struct core_config config;
    struct core_model model;
    struct core *core;
    void *memory;
    size_t memory_bytes;
    bool *sealed; /* [core_blocks()] */
    struct core_result *results;
    struct core_plan plans[CORE_LAG_MAX + 1]; /* those that are out, the earliest first */
    uint32_t plan_count;
    struct core_counts before; /* of the engines before */
};

/* ---- The engine's core ------------------------------------------------------------------------------ */

/* Two multiplications a token: the ids decide, so the hash need only be even. */
static void hash_ids(void *self, const uint8_t parent[CHAIN_BYTES], const uint32_t *ids,
                     uint32_t count, uint8_t out[CHAIN_BYTES])
{
    uint64_t words[2];
    (void)self;
    memcpy(words, parent, CHAIN_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        words[0] = (words[0] ^ ids[i]) * UINT64_C(0x9e3779b97f4a7c15);
        words[1] = (words[1] + ids[i] + (words[0] >> 29)) * UINT64_C(0xd6e8feb86659fd93);
    }
    words[0] = trace_mix(words[0], words[1]);
    words[1] = trace_mix(words[1], words[0]);
    memcpy(out, words, CHAIN_BYTES);
}

static uint32_t context_tokens(const struct trace *trace)
{
    uint32_t most = 2;
    for (uint32_t i = 0; i < trace->count; i++) {
        uint32_t tokens = trace->requests[i].prompt_tokens + trace->requests[i].answer_tokens;
        most = tokens > most ? tokens : most;
    }
    return most;
}

/* Blocks that all requests take together when none is found, and those that run at once besides. */
static uint64_t blocks_for_all(const struct trace *trace, const struct world_options *options)
{
    uint64_t blocks = options->running_max;
    for (uint32_t i = 0; i < trace->count; i++)
        blocks += ((uint64_t)trace->requests[i].prompt_tokens + trace->requests[i].answer_tokens) /
                      options->block_tokens +
                  1;
    return blocks;
}

static enum llm_status open_core(struct world *world, struct llm_error *error)
{
    enum llm_status status = core_bytes(&world->config, &world->memory_bytes, error);
    if (status != LLM_OK)
        return status;
    size_t bytes = (world->memory_bytes + ARENA_ALIGN_BYTES - 1) / ARENA_ALIGN_BYTES;
    bytes *= ARENA_ALIGN_BYTES;
    world->memory = aligned_alloc(ARENA_ALIGN_BYTES, bytes);
    if (!world->memory)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a core of %zu bytes", bytes);
    memset(world->memory, 0, bytes);
    return core_open(&world->config, world->memory, world->memory_bytes, &world->core, error);
}

static enum llm_status allocate(struct world *world, struct llm_error *error)
{
    const struct world_options *o = world->options;
    const struct trace *trace = world->trace;
    world->result->requests = calloc(trace->count, sizeof *world->result->requests);
    world->slots = calloc(o->slots, sizeof *world->slots);
    world->ids = calloc((size_t)o->slots * world->config.ids_stride_words, sizeof *world->ids);
    world->next = calloc(trace->count, sizeof *world->next);
    world->queues = calloc(trace->user_count, sizeof *world->queues);
    world->domains = calloc(trace->user_count, sizeof *world->domains);
    world->results = calloc(o->running_max, sizeof *world->results);
    world->sealed = calloc(world->config.slab_count, sizeof *world->sealed);
    if (!world->result->requests || !world->slots || !world->ids || !world->next ||
        !world->queues || !world->domains || !world->results || !world->sealed)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u requests and %u slots",
                        trace->count, o->slots);
    for (uint32_t user = 0; user < trace->user_count; user++) {
        world->queues[user] = (struct queue){NONE, NONE, 0};
        world->domains[user] = o->private_kept ? llm_domain(LLM_DOMAIN_PRIVATE, user)
                                               : llm_domain(LLM_DOMAIN_PUBLIC, 0);
    }
    for (uint32_t slot = 0; slot < o->slots; slot++)
        world->slots[slot].request = NONE;
    return LLM_OK;
}

static enum llm_status world_open(struct world *world, struct llm_error *error)
{
    const struct world_options *o = world->options;
    uint64_t blocks = o->blocks > 0 ? o->blocks : blocks_for_all(world->trace, o);
    if (blocks > UINT32_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "a pool of %llu blocks is too large",
                        (unsigned long long)blocks);
    world->model = (struct core_model){.block_tokens = o->block_tokens,
                                       .slab_blocks = 1,
                                       .context_tokens_max = context_tokens(world->trace)};
    world->config = (struct core_config){.models = &world->model,
                                         .model_count = 1,
                                         .slab_count = (uint32_t)blocks,
                                         .request_slots = o->slots,
                                         .running_max = o->running_max,
                                         .user_running_max = o->user_running_max,
                                         .step_tokens = o->step_tokens,
                                         .queued_max = o->slots,
                                         .user_queued_max = o->user_slots,
                                         .hold_slots = 1,
                                         .score_rows = 1,
                                         .lag = o->lag,
                                         .ids_stride_words = world->model.context_tokens_max,
                                         .hash = {hash_ids, NULL}};
    world->death_ns = o->death_ns > 0 ? o->death_ns : UINT64_MAX;
    world->result->blocks = blocks;
    enum llm_status status = allocate(world, error);
    world->config.ids = world->ids;
    return status == LLM_OK ? open_core(world, error) : status;
}

static void world_close(struct world *world)
{
    free(world->slots);
    free(world->ids);
    free(world->next);
    free(world->queues);
    free(world->domains);
    free(world->results);
    free(world->sealed);
    free(world->memory);
}

/* ---- Clients ---------------------------------------------------------------------------------------- */

static double chance(const struct world *world, uint32_t request, uint64_t what)
{
    return (double)(trace_mix(world->options->seed + what, request) >> 11) / 9007199254740992.0;
}

static void arrive(struct world *world, uint64_t at_ns)
{
    uint32_t request = world->arrived++;
    struct queue *queue = &world->queues[world->trace->requests[request].user];
    world->next[request] = NONE;
    *(queue->head == NONE ? &queue->head : &world->next[queue->tail]) = request;
    queue->tail = request;
    world->result->requests[request].arrival_ns = at_ns;
    world->waiting++;
    world->in_flight++;
}

static void let_arrive(struct world *world)
{
    const struct trace *trace = world->trace;
    uint32_t clients = world->options->clients;
    while (world->arrived < trace->count &&
           (clients > 0 ? world->in_flight < clients
                        : trace->requests[world->arrived].arrival_ns <= world->now_ns))
        arrive(world, clients > 0 ? world->now_ns : trace->requests[world->arrived].arrival_ns);
}

static void starts(struct world *world, uint32_t slot)
{
    struct client_slot *s = &world->slots[slot];
    if (!s->started)
        world->queues[world->trace->requests[s->request].user].in_core--;
    s->started = true;
}

/* The request is over; a slow client keeps the slot. */
static void leave(struct world *world, uint32_t slot, enum world_end end)
{
    struct client_slot *s = &world->slots[slot];
    struct world_request *r = &world->result->requests[s->request];
    starts(world, slot);
    r->end = end;
    r->end_ns = world->now_ns;
    world->in_flight--;
    s->free_ns = world->now_ns;
    if (end == WORLD_ANSWERED && chance(world, s->request, 1) < world->options->slow_share)
        s->free_ns += (uint64_t)(chance(world, s->request, 2) * (double)world->options->slow_ns);
    s->request = NONE;
}

static void give_slots_back(struct world *world)
{
    for (uint32_t slot = 0; slot < world->options->slots && world->slots_taken > 0; slot++) {
        struct client_slot *s = &world->slots[slot];
        if (s->taken && s->request == NONE && s->free_ns <= world->now_ns) {
            s->taken = false;
            world->slots_taken--;
        }
    }
}

static uint32_t free_slot(const struct world *world)
{
    uint32_t slot = 0;
    while (slot < world->options->slots && world->slots[slot].taken)
        slot++;
    return slot;
}

static struct core_request describe(const struct world *world, uint32_t request, bool recovered)
{
    const struct trace_request *asked = &world->trace->requests[request];
    return (struct core_request){.request_id = request + UINT64_C(1),
                                 .uid = asked->user,
                                 .kind = CORE_GENERATE,
                                 .domains = &world->domains[asked->user],
                                 .domain_count = 1,
                                 .prompt_tokens = asked->prompt_tokens,
                                 .generated_tokens = world->result->requests[request].tokens,
                                 .max_tokens = asked->answer_tokens,
                                 .priority = LLM_PRIORITY_NORMAL,
                                 .recovered = recovered};
}

/* ---- Effects ---------------------------------------------------------------------------------------- */

static void token(struct world *world, uint32_t slot)
{
    const struct client_slot *s = &world->slots[slot];
    struct world_request *r = &world->result->requests[s->request];
    if (r->tokens++ > 0)
        return;
    r->first_token_ns = world->now_ns;
    if (!s->recovered)
        r->hit_tokens = core_request_info(world->core, slot).cached_tokens;
}

static void apply(struct world *world, const struct core_effect *effect)
{
    switch (effect->kind) {
    case CORE_BLOCK_SEALED:
        world->sealed[effect->block] = true;
        break;
    case CORE_BLOCK_TAKEN:
    case CORE_BLOCK_FREED:
        world->sealed[effect->block] = false;
        break;
    case CORE_REQUEST_TOKEN:
        token(world, effect->slot);
        break;
    case CORE_REQUEST_FINISHED:
        leave(world, effect->slot,
              effect->value == CORE_FINISH_CANCELLED ? WORLD_CANCELLED : WORLD_ANSWERED);
        break;
    case CORE_REQUEST_STARTED:
        starts(world, effect->slot);
        break;
    case CORE_REQUEST_PREEMPTED:
    case CORE_BLOCK_COPIED:
    case CORE_BLOCK_WIDENED:
    case CORE_REQUEST_SCORED:
        break;
    }
}

static enum llm_status mirror(struct world *world, struct llm_error *error)
{
    uint32_t count;
    const struct core_effect *effects = core_effects(world->core, &count);
    for (uint32_t i = 0; i < count; i++)
        apply(world, &effects[i]);
    return world->options->walk ? core_sane(world->core, error) : LLM_OK;
}

/* ---- Taking in -------------------------------------------------------------------------------------- */

static void unqueue(struct world *world, struct queue *queue)
{
    queue->head = world->next[queue->head];
    world->waiting--;
}

/* The user's next request into a free slot. BUSY: later. */
static enum llm_status admit_next(struct world *world, uint32_t user, bool *out_busy,
                                  struct llm_error *error)
{
    struct queue *queue = &world->queues[user];
    uint32_t request = queue->head;
    uint32_t slot = free_slot(world);
    *out_busy = slot == world->options->slots || queue->in_core >= world->options->user_slots;
    if (*out_busy)
        return LLM_OK;
    const struct trace_request *asked = &world->trace->requests[request];
    trace_ids(world->trace, asked, 0, asked->prompt_tokens,
              world->ids + slot * world->config.ids_stride_words);
    struct client_slot *s = &world->slots[slot];
    const struct core_request wanted = describe(world, request, false);
    struct llm_error why;
    enum llm_status status = core_admit(world->core, &wanted, slot, &why);
    *out_busy = status == LLM_ERR_BUSY;
    if (status == LLM_OK) {
        *s = (struct client_slot){.request = request,
                                  .order = ++world->admissions,
                                  .death_ns = UINT64_MAX,
                                  .taken = true};
        if (chance(world, request, 3) < world->options->die_share)
            s->death_ns = world->result->requests[request].arrival_ns +
                          (uint64_t)(chance(world, request, 4) * (double)world->options->die_ns);
        world->result->requests[request].end = WORLD_LIVES;
        world->slots_taken++;
        queue->in_core++;
        unqueue(world, queue);
    } else if (status == LLM_ERR_LIMIT) {
        world->result->requests[request].end = WORLD_REFUSED;
        world->in_flight--;
        unqueue(world, queue);
    } else if (status != LLM_ERR_BUSY) {
        return llm_fail(error, status, "request %u: %.200s", request, why.message);
    }
    return mirror(world, error);
}

/* One request of each user in turns, until nobody is taken in. */
static enum llm_status take_in(struct world *world, struct llm_error *error)
{
    uint32_t users = world->trace->user_count;
    for (uint32_t refused = 0; refused < users && world->waiting > 0; refused++) {
        uint32_t user = world->turn++ % users;
        bool busy = true;
        enum llm_status status = LLM_OK;
        if (world->queues[user].head != NONE)
            status = admit_next(world, user, &busy, error);
        if (status != LLM_OK)
            return status;
        if (!busy)
            refused = 0;
    }
    return LLM_OK;
}

static enum llm_status let_clients_die(struct world *world, struct llm_error *error)
{
    if (world->options->die_share <= 0)
        return LLM_OK;
    for (uint32_t slot = 0; slot < world->options->slots; slot++) {
        struct client_slot *s = &world->slots[slot];
        if (s->request == NONE || s->death_ns > world->now_ns)
            continue;
        s->death_ns = UINT64_MAX;
        core_cancel(world->core, slot, CORE_FINISH_CANCELLED);
        enum llm_status status = mirror(world, error);
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

/* ---- An engine's death ------------------------------------------------------------------------------ */

static void count_engine(struct world *world)
{
    struct core_counts counts = core_counts(world->core);
    world->before.preemptions += counts.preemptions;
    world->before.evictions += counts.evictions;
    world->before.steps += counts.steps;
    world->before.tokens_computed += counts.tokens_computed;
}

struct sealed_block {
    struct core_block_info info;
    block_id block;
};

static int by_depth(const void *a, const void *b)
{
    const struct sealed_block *x = a, *y = b;
    return (x->info.depth > y->info.depth) - (x->info.depth < y->info.depth);
}

/* What the tables said when the old core died, into the new one. The old core's memory is still there. */
static enum llm_status adopt_blocks(struct world *world, const struct core *old,
                                    struct llm_error *error)
{
    uint32_t count = 0;
    for (block_id block = 0; block < world->config.slab_count; block++)
        count += world->sealed[block];
    struct sealed_block *blocks = malloc(((size_t)count + 1) * sizeof *blocks);
    if (!blocks)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u sealed blocks", count);
    uint32_t filled = 0;
    for (block_id block = 0; block < world->config.slab_count; block++)
        if (world->sealed[block])
            blocks[filled++] = (struct sealed_block){core_block_info(old, block), block};
    qsort(blocks, count, sizeof *blocks, by_depth);
    enum llm_status status = LLM_OK;
    for (uint32_t i = 0; i < count && status == LLM_OK; i++) {
        status = core_adopt_block(world->core, blocks[i].block, &blocks[i].info, error);
        if (status == LLM_OK)
            status = mirror(world, error);
    }
    world->result->adopted_blocks += count;
    free(blocks);
    return status;
}

/* Those that lived, by the order of their admission. */
static enum llm_status admit_again(struct world *world, struct llm_error *error)
{
    uint64_t last = 0;
    for (uint32_t user = 0; user < world->trace->user_count; user++)
        world->queues[user].in_core = 0;
    for (;;) {
        uint32_t next = NONE;
        for (uint32_t slot = 0; slot < world->options->slots; slot++) {
            const struct client_slot *s = &world->slots[slot];
            if (s->request != NONE && s->order > last &&
                (next == NONE || s->order < world->slots[next].order))
                next = slot;
        }
        if (next == NONE)
            return LLM_OK;
        last = world->slots[next].order;
        world->slots[next].recovered = true;
        world->slots[next].started = false;
        world->queues[world->trace->requests[world->slots[next].request].user].in_core++;
        const struct core_request wanted = describe(world, world->slots[next].request, true);
        enum llm_status status = core_admit(world->core, &wanted, next, error);
        if (status == LLM_OK)
            status = mirror(world, error);
        if (status != LLM_OK)
            return status;
    }
}

static enum llm_status next_engine(struct world *world, struct llm_error *error)
{
    void *old_memory = world->memory;
    const struct core *old = world->core;
    count_engine(world);
    world->plan_count = 0;
    world->result->deaths++;
    world->now_ns = world->death_ns + world->options->restart_ns;
    world->death_ns = world->now_ns + world->options->death_ns;
    enum llm_status status = open_core(world, error);
    if (status == LLM_OK)
        status = adopt_blocks(world, old, error);
    if (status == LLM_OK)
        status = admit_again(world, error);
    free(old_memory);
    return status;
}

/* ---- Running ---------------------------------------------------------------------------------------- */

/* The earliest step that is not done takes so long from now on. */
static enum llm_status complete(struct world *world, uint64_t step_ns, struct llm_error *error)
{
    const struct core_plan first = world->plans[0], *plan = &first;
    world->plan_count--;
    memmove(world->plans, world->plans + 1, world->plan_count * sizeof *world->plans);
    world->now_ns += step_ns;
    world->result->computing_ns += step_ns;
    if (step_ns > world->result->longest_step_ns)
        world->result->longest_step_ns = step_ns;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct core_sequence *sequence = &plan->sequences[i];
        uint32_t request = world->slots[sequence->slot].request;
        uint64_t id = trace_mix(request, sequence->first_position + sequence->token_count);
        world->results[i] = (struct core_result){
            .token = sequence->wants_token ? (uint32_t)id | UINT32_C(0x80000000) : 0};
    }
    core_complete(world->core, plan, world->results);
    return mirror(world, error);
}

/* When something can happen although nothing is computed. UINT64_MAX: never again. */
static uint64_t next_event_ns(const struct world *world)
{
    uint64_t next_ns = UINT64_MAX;
    uint32_t clients = world->options->clients;
    if (world->arrived < world->trace->count && (clients == 0 || world->in_flight < clients))
        next_ns = clients == 0 ? world->trace->requests[world->arrived].arrival_ns : world->now_ns;
    for (uint32_t slot = 0; slot < world->options->slots; slot++) {
        const struct client_slot *s = &world->slots[slot];
        if (s->taken && s->request == NONE && s->free_ns < next_ns)
            next_ns = s->free_ns;
    }
    return next_ns > world->now_ns ? next_ns : world->now_ns;
}

static enum llm_status step(struct world *world, bool *out_over, struct llm_error *error)
{
    give_slots_back(world);
    let_arrive(world);
    enum llm_status status = let_clients_die(world, error);
    if (status == LLM_OK)
        status = take_in(world, error);
    if (status != LLM_OK)
        return status;
    struct core_plan plan;
    bool planned = core_plan(world->core, &plan);
    status = mirror(world, error);
    if (status != LLM_OK)
        return status;
    if (planned)
        world->plans[world->plan_count++] = plan;
    if (planned && world->plan_count <= world->options->lag)
        return LLM_OK; /* the next one is planned before this one is done */
    bool computes = world->plan_count > 0;
    if (!computes && world->arrived == world->trace->count && world->in_flight == 0) {
        *out_over = true;
        return LLM_OK;
    }
    uint64_t step_ns =
        computes ? device_step_ns(world->options->device, world->options->shape, &world->plans[0])
                 : 0;
    uint64_t then_ns = computes ? world->now_ns + step_ns : next_event_ns(world);
    CHECK(then_ns < UINT64_MAX); /* who waits can be admitted when nothing runs */
    if (world->death_ns <= then_ns)
        return next_engine(world, error);
    if (computes)
        return complete(world, step_ns, error);
    world->now_ns = then_ns;
    return LLM_OK;
}

static enum llm_status check_options(const struct trace *trace, const struct world_options *o,
                                     struct llm_error *error)
{
    if (trace->count == 0)
        return llm_fail(error, LLM_ERR_INVALID, "the trace has no requests");
    if (o->death_ns > 0 && o->death_ns < UINT64_C(1000000000))
        return llm_fail(error, LLM_ERR_INVALID,
                        "an engine that dies more than once a second gets nothing done");
    if (o->user_slots < 1 || o->user_slots > o->slots)
        return llm_fail(error, LLM_ERR_INVALID, "%u slots of one user; 1..%u are possible",
                        o->user_slots, o->slots);
    return LLM_OK; /* the rest is the core's to say */
}

enum llm_status world_run(const struct trace *trace, const struct world_options *options,
                          struct world_result *out_result, struct llm_error *error)
{
    struct world_result result = {0};
    struct world world = {.trace = trace, .options = options, .result = &result};
    enum llm_status status = check_options(trace, options, error);
    if (status == LLM_OK)
        status = world_open(&world, error);
    for (bool over = false; status == LLM_OK && !over;)
        status = step(&world, &over, error);
    if (status == LLM_OK) {
        count_engine(&world);
        result.end_ns = world.now_ns;
        result.steps = world.before.steps;
        result.rows = world.before.tokens_computed;
        result.preemptions = world.before.preemptions;
        result.evictions = world.before.evictions;
        *out_result = result;
    } else {
        world_result_close(&result);
    }
    world_close(&world);
    return status;
}

void world_result_close(struct world_result *result)
{
    free(result->requests);
    *result = (struct world_result){0};
}
