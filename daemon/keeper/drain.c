#include "daemon/keeper/drain.h"

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/status_page.h"
#include "daemon/log.h"
#include "shm/clock.h"

static void tell_everybody(struct keeper *keeper)
{
    keeper->engine.has_news = true;
    status_page_engine(keeper);
}

void drain_begin(struct keeper *keeper, bool then_stop)
{
    struct drain *drain = &keeper->drain;
    drain->then_stop = then_stop;
    if (!drain->active) {
        *drain = (struct drain){.number = drain->number + 1,
                                .active = true,
                                .then_stop = then_stop,
                                .deadline_ns = UINT64_MAX};
        log_event(LOG_LEVEL_INFO, "draining",
                  log_count("requests_left", drain_requests_left(keeper)),
                  log_text("then", then_stop ? "stop" : "stay"));
        tell_everybody(keeper);
    } else if (!then_stop) {
        drain->by_signal = false;
        drain->deadline_ns = UINT64_MAX;
    }
    if (drain->then_stop && (drain->empty || keeper->engine.failed))
        keeper_stop(keeper); /* it is empty already, or nobody is left to empty it */
}

void drain_resume(struct keeper *keeper)
{
    struct drain *drain = &keeper->drain;
    if (!drain->active)
        return;
    drain->active = drain->empty = drain->then_stop = drain->by_signal = false;
    log_line(LOG_LEVEL_INFO, "draining is over: new requests are taken again");
    tell_everybody(keeper);
}

void drain_by_signal(struct keeper *keeper)
{
    struct drain *drain = &keeper->drain;
    uint64_t grace_s = keeper->config->daemon.drain_s;
    if (grace_s == 0 || (drain->active && drain->by_signal) || !keeper->engine.ready_once) {
        keeper_stop(keeper);
        return;
    }
    drain_begin(keeper, true);
    drain->by_signal = true;
    drain->deadline_ns = llm_deadline_ns(grace_s * LLM_NS_PER_S);
}

void drain_settled(struct keeper *keeper, uint64_t number)
{
    struct drain *drain = &keeper->drain;
    if (!drain->active || number != drain->number)
        return;
    drain->empty = true;
    log_line(LOG_LEVEL_INFO, "drained: nothing is left to do");
    status_page_engine(keeper);
    if (drain->then_stop)
        keeper_stop(keeper);
}

uint64_t drain_wanted(const struct keeper *keeper)
{
    return keeper->drain.active ? keeper->drain.number : 0;
}

void drain_engine_gone(struct keeper *keeper)
{
    keeper->drain.empty = false;
}

uint64_t drain_expire(struct keeper *keeper, uint64_t now_ns)
{
    const struct drain *drain = &keeper->drain;
    if (!drain->active || drain->deadline_ns == UINT64_MAX || keeper->stopping)
        return UINT64_MAX;
    if (now_ns < drain->deadline_ns)
        return drain->deadline_ns;
    log_event(LOG_LEVEL_WARN, "stopping: the time for draining (daemon.drain_s) is over",
              log_count("requests_left", drain_requests_left(keeper)));
    keeper_stop(keeper);
    return UINT64_MAX;
}

uint32_t drain_requests_left(const struct keeper *keeper)
{
    const struct llm_status_engine *page = &keeper->status->engine;
    return atomic_load_explicit(&page->requests_running, memory_order_relaxed) +
           atomic_load_explicit(&page->requests_queued, memory_order_relaxed);
}
