#include "daemon/keeper/heartbeat.h"

#include <signal.h>
#include <stdio.h>

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/process.h"
#include "daemon/keeper/status_page.h"
#include "daemon/log.h"
#include "shm/clock.h"

#define LOOK_AGAIN_NS LLM_NS_PER_S /* at one that hangs */

void heartbeat_reset(struct keeper *keeper)
{
    keeper->heartbeat = (struct heartbeat){.ready_ns = llm_now_ns()};
}

static uint64_t last_sign_ns(const struct keeper *keeper, uint64_t now_ns)
{
    uint64_t beat_ns =
        atomic_load_explicit(&keeper->status->engine.heartbeat_ns, memory_order_relaxed);
    uint64_t last_ns = beat_ns > keeper->heartbeat.ready_ns ? beat_ns : keeper->heartbeat.ready_ns;
    return last_ns < now_ns ? last_ns : now_ns;
}

static void found_hung(struct keeper *keeper, uint64_t silent_ns)
{
    const struct engine *engine = &keeper->engine;
    bool kill = keeper->config->daemon.engine_hang_kill;
    char text[LLM_NOTE_BYTES];
    snprintf(text, sizeof text,
             "the engine (pid %d) has given no sign of life for %llu s (daemon.engine_hang_s); %s",
             (int)engine->pid, (unsigned long long)(silent_ns / LLM_NS_PER_S),
             kill ? "it is killed, the next one goes on" : "`llmctl engine restart` replaces it");
    keeper->heartbeat.hung = true;
    log_line(LOG_LEVEL_ERROR, "%s", text);
    status_page_error(keeper, text);
    service_note_change(keeper);
    if (kill)
        process_kill(engine->pidfd, SIGKILL);
}

static void found_alive(struct keeper *keeper, uint64_t last_ns)
{
    if (keeper->heartbeat.hung) {
        log_line(LOG_LEVEL_INFO, "the engine gives signs of life again");
        service_note_change(keeper);
    }
    keeper->heartbeat.hung = false;
    keeper->heartbeat.asked_ns = 0;
    keeper->heartbeat.seen_ns = last_ns;
}

uint64_t heartbeat_expire(struct keeper *keeper, uint64_t now_ns)
{
    struct heartbeat *heartbeat = &keeper->heartbeat;
    uint64_t allowed_ns = keeper->config->daemon.engine_hang_s * LLM_NS_PER_S;
    if (allowed_ns == 0 || !keeper->engine.ready || keeper->engine.stop_asked)
        return UINT64_MAX;
    uint64_t last_ns = last_sign_ns(keeper, now_ns), silent_ns = now_ns - last_ns;
    if (last_ns != heartbeat->seen_ns)
        found_alive(keeper, last_ns);
    if (silent_ns < allowed_ns / 2)
        return last_ns + allowed_ns / 2;
    if (heartbeat->asked_ns == 0) {
        heartbeat->asked_ns = now_ns;
        heartbeat->beat_wanted = keeper->engine.has_news = true;
    }
    if (now_ns < heartbeat->asked_ns + allowed_ns / 2)
        return heartbeat->asked_ns + allowed_ns / 2;
    if (!heartbeat->hung)
        found_hung(keeper, silent_ns);
    return now_ns + LOOK_AGAIN_NS;
}
