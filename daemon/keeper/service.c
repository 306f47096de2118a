#include "daemon/keeper/service.h"

#include <stdio.h>

#include "daemon/keeper/keeper.h"
#include "shm/clock.h"

#ifdef LLMD_HAVE_SYSTEMD
#include <systemd/sd-daemon.h>

static void notify(const char *state)
{
    sd_notify(0, state);
}

static uint64_t watchdog_us(void)
{
    uint64_t us = 0;
    return sd_watchdog_enabled(0, &us) > 0 ? us : 0;
}
#else
static void notify(const char *state)
{
    (void)state;
}

static uint64_t watchdog_us(void)
{
    return 0;
}
#endif

#define STATUS_PAUSE_NS LLM_NS_PER_S

void service_open(struct service *service)
{
    *service = (struct service){.watchdog_ns = watchdog_us() * LLM_NS_PER_US / 2};
}

void service_ready(void)
{
    notify("READY=1");
}

void service_stopping(struct keeper *keeper)
{
    if (!keeper->service.stopping)
        notify("STOPPING=1");
    keeper->service.stopping = true;
}

void service_note_change(struct keeper *keeper)
{
    keeper->service.changed = true;
}

static void write_status(const struct keeper *keeper, char *out_text, size_t bytes)
{
    const struct engine *engine = &keeper->engine;
    unsigned long long generation = engine->generation;
    uint32_t clients = keeper->clients.attached_count;
    if (keeper->stopping)
        snprintf(out_text, bytes, "STATUS=stopping");
    else if (engine->failed)
        snprintf(out_text, bytes, "STATUS=failed: %s", engine->reason);
    else if (keeper->drain.active && keeper->drain.empty)
        snprintf(out_text, bytes, "STATUS=drained, %u clients", clients);
    else if (keeper->drain.active)
        snprintf(out_text, bytes, "STATUS=draining, %u requests left, %u clients",
                 drain_requests_left(keeper), clients);
    else if (!engine->ready)
        snprintf(out_text, bytes, "STATUS=engine generation %llu is starting, %u clients",
                 generation, clients);
    else
        snprintf(out_text, bytes, "STATUS=%s, engine generation %llu, %u clients",
                 keeper->heartbeat.hung ? "engine hung" : "serving", generation, clients);
}

static uint64_t tell_status(struct keeper *keeper, uint64_t now_ns)
{
    struct service *service = &keeper->service;
    if (!service->changed)
        return UINT64_MAX;
    if (service->told_ns > 0 && now_ns < service->told_ns + STATUS_PAUSE_NS)
        return service->told_ns + STATUS_PAUSE_NS;
    char text[LLM_NOTE_BYTES + 32];
    write_status(keeper, text, sizeof text);
    notify(text);
    service->changed = false;
    service->told_ns = now_ns;
    return UINT64_MAX;
}

static uint64_t feed_watchdog(struct keeper *keeper, uint64_t now_ns)
{
    struct service *service = &keeper->service;
    if (service->watchdog_ns == 0)
        return UINT64_MAX;
    if (now_ns < service->fed_ns + service->watchdog_ns)
        return service->fed_ns + service->watchdog_ns;
    service->fed_ns = now_ns;
    if (!keeper->heartbeat.hung && !keeper->engine.failed)
        notify("WATCHDOG=1");
    return now_ns + service->watchdog_ns;
}

uint64_t service_expire(struct keeper *keeper, uint64_t now_ns)
{
    uint64_t status_ns = tell_status(keeper, now_ns), food_ns = feed_watchdog(keeper, now_ns);
    return status_ns < food_ns ? status_ns : food_ns;
}
