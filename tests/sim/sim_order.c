#include "tests/sim/sim_order.h"

#include <string.h>

void sim_order_reset(struct sim_order *order, uint32_t user_running_max)
{
    memset(order, 0, sizeof *order);
    order->user_running_max = user_running_max;
}

static uint32_t seats_of(const struct sim_order *order, uint32_t user)
{
    uint32_t seats = 0;
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++)
        seats += order->places[slot].where == SIM_RUNNING && order->places[slot].user == user;
    return seats;
}

static bool user_waits(const struct sim_order *order, uint32_t user)
{
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++)
        if (order->places[slot].where == SIM_QUEUED && order->places[slot].user == user)
            return true;
    return false;
}

void sim_order_admitted(struct sim_order *order, uint32_t slot, uint32_t uid)
{
    uint32_t user = uid - SIM_UID_FIRST;
    if (!user_waits(order, user))
        memset(order->overtaken[user], 0, sizeof order->overtaken[user]);
    order->places[slot] = (struct sim_place){.where = SIM_QUEUED, .user = user};
}

static const char *first_start(struct sim_order *order, uint32_t user)
{
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++)
        if (order->places[slot].where == SIM_PREEMPTED)
            return "a new request started while a preempted one waits";
    memset(order->overtaken[user], 0, sizeof order->overtaken[user]);
    for (uint32_t other = 0; other < SIM_USERS_MAX; other++)
        if (other != user && user_waits(order, other) &&
            seats_of(order, other) < order->user_running_max && ++order->overtaken[other][user] > 1)
            return "a user started two requests while another user waited";
    return NULL;
}

static const char *started(struct sim_order *order, struct sim_place *place)
{
    if (place->where != SIM_QUEUED && place->where != SIM_PREEMPTED)
        return "a request started that was not waiting";
    const char *wrong = NULL;
    if (place->where == SIM_QUEUED) {
        place->order = ++order->starts;
        place->where = SIM_RUNNING;
        wrong = first_start(order, place->user);
    }
    place->where = SIM_RUNNING;
    if (seats_of(order, place->user) > order->user_running_max)
        return "a user has more seats than one may";
    return wrong;
}

static const char *preempted(struct sim_order *order, struct sim_place *place)
{
    if (place->where != SIM_RUNNING)
        return "a request was preempted that was not running";
    for (uint32_t slot = 0; slot < SIM_SLOTS_MAX; slot++)
        if (order->places[slot].where == SIM_RUNNING && order->places[slot].order > place->order)
            return "a request was preempted although a younger one runs";
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
