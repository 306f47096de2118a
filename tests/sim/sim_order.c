#include "tests/sim/sim_order.h"

#include <string.h>

void sim_order_reset(struct sim_order *order, const struct core_config *config)
{
    uint64_t closest_percent = order->closest_percent;
    memset(order, 0, sizeof *order);
    order->closest_percent = closest_percent;
    order->running_max = config->running_max;
    order->step_tokens = config->step_tokens;
    order->lag = config->lag;
    order->overdue_steps = config->overdue_steps;
    for (uint32_t m = 0; m < config->model_count; m++)
        if (config->models[m].context_tokens_max > order->context_tokens)
            order->context_tokens = config->models[m].context_tokens_max;
    for (uint32_t user = 0; user < SIM_USERS_MAX; user++)
        order->users[user] =
            (struct sim_user_terms){.weight = 1, .seats_max = config->user_running_max};
}

static uint32_t seats_of(const struct sim_order *order, uint32_t user)
{
    uint32_t seats = 0;
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++)
        seats += order->places[slot].where == SIM_RUNNING && order->places[slot].user == user;
    return seats;
}

static bool may_have_a_seat(const struct sim_order *order, uint32_t user)
{
    return seats_of(order, user) < order->users[user].seats_max;
}

static bool waits(const struct sim_place *place)
{
    return place->where == SIM_QUEUED || place->where == SIM_PREEMPTED;
}

static bool user_waits(const struct sim_order *order, uint32_t user, uint32_t rank)
{
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++)
        if (waits(&order->places[slot]) && order->places[slot].user == user &&
            order->places[slot].rank == rank)
            return true;
    return false;
}

/* Who came first of all that are here, when it is overdue in the plan that is being made; NULL. */
static struct sim_place *find_eldest(struct sim_order *order)
{
    struct sim_place *eldest = NULL;
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++) {
        struct sim_place *place = &order->places[slot];
        if (place->where != SIM_NOWHERE && (!eldest || place->arrival < eldest->arrival))
            eldest = place;
    }
    bool overdue = eldest && order->plans - eldest->arrival_plan > order->overdue_steps;
    return overdue ? eldest : NULL;
}

/* ---- The queue ---------------------------------------------------------------------------------------- */

uint32_t sim_order_queued(const struct sim_order *order, uint32_t uid, uint64_t *out_tokens)
{
    uint32_t count = 0;
    *out_tokens = 0;
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++) {
        const struct sim_place *place = &order->places[slot];
        if (place->where != SIM_QUEUED || place->user != uid - SIM_UID_FIRST)
            continue;
        count++;
        *out_tokens += place->tokens;
    }
    return count;
}

uint32_t sim_order_tokens(const struct core_request *request)
{
    return request->prompt_tokens + request->generated_tokens - (request->kind == CORE_SCORE);
}

bool sim_order_queue_fits(const struct sim_order *order, uint32_t uid)
{
    uint64_t most = order->users[uid - SIM_UID_FIRST].queued_tokens_max, tokens;
    return sim_order_queued(order, uid, &tokens) <= 1 || most == 0 || tokens <= most;
}

void sim_order_admitted(struct sim_order *order, uint32_t slot, const struct core_request *request)
{
    static const uint32_t ranks[SIM_RANKS] = {1, 0, 2}; /* of enum llm_priority */
    uint32_t user = request->uid - SIM_UID_FIRST;
    order->places[slot] = (struct sim_place){.where = SIM_QUEUED,
                                             .user = user,
                                             .rank = ranks[request->priority],
                                             .tokens = sim_order_tokens(request),
                                             .arrival = ++order->arrivals,
                                             .arrival_plan = order->plans};
    if (request->weight > 0)
        order->users[user].weight = request->weight;
    if (request->user_running_max > 0)
        order->users[user].seats_max = request->user_running_max;
    /* What was admitted before an engine's death is not refused again. */
    order->users[user].queued_tokens_max = request->recovered ? 0 : request->user_queued_tokens;
}

/* ---- Effects ------------------------------------------------------------------------------------------ */

static const char *started(struct sim_order *order, struct sim_place *place)
{
    if (!waits(place))
        return "a request started that was not waiting";
    bool eldest = place == find_eldest(order);
    for (uint32_t user = 0; user < SIM_USERS_MAX && !eldest; user++)
        for (uint32_t rank = 0; rank < place->rank; rank++)
            if (user_waits(order, user, rank) && may_have_a_seat(order, user))
                return "a request started while one of a higher class waited";
    place->where = SIM_RUNNING;
    if (seats_of(order, place->user) > order->users[place->user].seats_max)
        return "a user has more seats than one may";
    return NULL;
}

static const char *preempted(struct sim_order *order, struct sim_place *place)
{
    if (place->where != SIM_RUNNING)
        return "a request was preempted that was not running";
    const struct sim_place *eldest = find_eldest(order);
    if (place == eldest)
        return "the eldest was preempted although it is overdue";
    bool for_eldest = eldest && waits(eldest); /* its own user's may have to go */
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX && !for_eldest; slot++) {
        const struct sim_place *other = &order->places[slot];
        if (other->where == SIM_RUNNING && other != eldest && other->rank > place->rank)
            return "a request was preempted although one of a lower class runs";
    }
    place->where = SIM_PREEMPTED;
    return NULL;
}

const char *sim_order_effect(struct sim_order *order, const struct core_effect *effect)
{
    if (effect->slot == REQUEST_NONE)
        return NULL;
    struct sim_place *place = &order->places[effect->slot];
    if (effect->kind == CORE_REQUEST_STARTED)
        return started(order, place);
    if (effect->kind == CORE_REQUEST_PREEMPTED)
        return preempted(order, place);
    if (effect->kind == CORE_REQUEST_FINISHED)
        place->where = SIM_NOWHERE;
    return NULL;
}

/* ---- Plans -------------------------------------------------------------------------------------------- */

void sim_order_planning(struct sim_order *order)
{
    order->plans++;
}

/* What a user may be ahead of another, in the units of a race. */
static int64_t lead_max(const struct sim_order *order, uint32_t user)
{
    const struct sim_user_terms *terms = &order->users[user];
    uint32_t seats = terms->seats_max < order->running_max ? terms->seats_max : order->running_max;
    uint64_t tokens = (uint64_t)seats * order->context_tokens + order->step_tokens;
    return (int64_t)(tokens * SIM_PER_WEIGHT / terms->weight);
}

/* What `u` got more than `v` while v waited and might have had a seat: while the race is `on`. */
static const char *run_race(struct sim_order *order, uint32_t rank, uint32_t u, uint32_t v, bool on,
                            int64_t lead)
{
    struct sim_race *race = &order->races[rank][u][v];
    if (!on || !race->on) {
        *race = (struct sim_race){.on = on, .owed = race->owed, .owed_first = race->owed};
        return NULL;
    }
    race->ahead += lead;
    race->least = race->ahead < race->least ? race->ahead : race->least;
    int64_t bound = lead_max(order, u) + lead_max(order, v) + race->owed_first;
    uint64_t percent = (uint64_t)((race->ahead - race->least) * 100 / bound);
    order->closest_percent = percent > order->closest_percent ? percent : order->closest_percent;
    return race->ahead - race->least > bound ? "one user is served while another waits" : NULL;
}

/* What v owes u for what its overdue request had out of turn, less what u got since. */
static void note_owed(struct sim_race *race, int64_t lead, int64_t out_of_turn)
{
    race->owed -= lead > 0 ? lead : 0;
    race->owed = (race->owed > 0 ? race->owed : 0) + out_of_turn;
}

/* The eldest has a row, or who makes its block has: that is a block's steps, and then it has found it. */
static bool eldest_moves(struct sim_order *order, const struct core *core,
                         const struct core_plan *plan, bool pinned)
{
    const struct sim_place *eldest = find_eldest(order);
    bool moves = !eldest || pinned;
    for (uint32_t i = 0; i < plan->sequence_count && !moves; i++)
        moves = &order->places[plan->sequences[i].slot] == eldest;
    uint32_t slot = eldest ? (uint32_t)(eldest - order->places) : 0;
    uint32_t computed = eldest ? core_request_info(core, slot).computed_tokens : 0;
    moves |= computed > order->eldest_computed;
    order->eldest_computed = computed;
    order->eldest_waited = moves ? 0 : order->eldest_waited + 1;
    return order->eldest_waited <= (order->lag + 1) * SIM_BLOCK_TOKENS;
}

static const char *run_races(struct sim_order *order, int64_t served[SIM_RANKS][SIM_USERS_MAX],
                             int64_t out_of_turn[SIM_RANKS][SIM_USERS_MAX])
{
    bool in_turn = !find_eldest(order);
    uint32_t seats[SIM_USERS_MAX] = {0};
    bool waiting[SIM_RANKS][SIM_USERS_MAX] = {{false}};
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++) {
        const struct sim_place *place = &order->places[slot];
        seats[place->user] += place->where == SIM_RUNNING;
        waiting[place->rank][place->user] |= waits(place);
    }
    for (uint32_t v = 0; v < SIM_USERS_MAX; v++) {
        bool may_start = in_turn && seats[v] < order->users[v].seats_max;
        for (uint32_t rank = 0; rank < SIM_RANKS; rank++)
            for (uint32_t u = 0; u < SIM_USERS_MAX; u++) {
                int64_t lead = served[rank][u] - served[rank][v];
                note_owed(&order->races[rank][u][v], lead, out_of_turn[rank][v]);
                const char *wrong =
                    run_race(order, rank, u, v, may_start && waiting[rank][v], lead);
                if (wrong)
                    return wrong;
            }
    }
    return NULL;
}

const char *sim_order_planned(struct sim_order *order, const struct core *core,
                              const struct core_plan *plan, bool pinned)
{
    int64_t served[SIM_RANKS][SIM_USERS_MAX] = {{0}}, out_of_turn[SIM_RANKS][SIM_USERS_MAX] = {{0}};
    const struct sim_place *eldest = find_eldest(order);
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct sim_place *place = &order->places[plan->sequences[i].slot];
        uint64_t tokens = plan->sequences[i].token_count;
        int64_t got = (int64_t)(tokens * SIM_PER_WEIGHT / order->users[place->user].weight);
        served[place->rank][place->user] += got;
        if (place == eldest)
            out_of_turn[place->rank][place->user] = got;
    }
    if (!eldest_moves(order, core, plan, pinned))
        return "the eldest is overdue and does not move";
    return run_races(order, served, out_of_turn);
}

const char *sim_order_idle(struct sim_order *order)
{
    int64_t nothing[SIM_RANKS][SIM_USERS_MAX] = {{0}};
    return run_races(order, nothing, nothing);
}
