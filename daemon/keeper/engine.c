#include "daemon/keeper/engine.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/process.h"
#include "daemon/keeper/spawn.h"
#include "daemon/keeper/status_page.h"
#include "daemon/log.h"
#include "shm/clock.h"
#include "shm/crash_point.h"

void engine_init(struct engine *engine)
{
    memset(engine, 0, sizeof *engine);
    engine->pidfd = engine->channel = -1;
    asker_init(&engine->asker);
}

/* ---- Starting -------------------------------------------------------------------------------------- */

static void forget_what_was_told(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    for (int i = 0; i < MEMORIES_MAX; i++)
        keeper->memories.items[i].told = false;
    clients_engine_gone(keeper);
    engine->told_serve = engine->told_stop = false;
    engine->told_drain = 0;
    engine->told_names = 0;
    asker_forget(&engine->asker);
    registry_forget_told(&keeper->registry);
    engine->has_news = true;
}

enum llm_status engine_start(struct keeper *keeper, struct llm_error *error)
{
    struct engine *engine = &keeper->engine;
    struct spawned spawned;
    enum llm_status status =
        spawn_engine(keeper->config, false, engine->generation + 1, &spawned, error);
    if (status != LLM_OK)
        return status;
    engine->pid = spawned.pid;
    engine->pidfd = spawned.pidfd;
    engine->channel = spawned.channel;
    engine->generation++;
    engine->started_ns = llm_now_ns();
    engine->ready = engine->stop_asked = engine->replace = false;
    forget_what_was_told(keeper);
    keeper_watch(keeper, engine->pidfd, KEEPER_ENGINE_PROCESS, 0, engine->generation);
    keeper_watch(keeper, engine->channel, KEEPER_ENGINE_CHANNEL, 0, engine->generation);
    status_page_engine(keeper);
    log_set_generation(engine->generation);
    log_event(LOG_LEVEL_INFO, "engine started", log_count("engine_pid", (uint64_t)engine->pid));
    return LLM_OK;
}

/* ---- Telling --------------------------------------------------------------------------------------- */

/* True: it is in the channel. False: the channel is full, or the engine is gone (its pidfd will say so). */
static bool send_message(const struct engine *engine, const struct channel_message *message,
                         const int *fds, uint32_t fd_count)
{
    struct llm_error error;
    return channel_send(engine->channel, message, fds, fd_count, &error) == LLM_OK;
}

static bool tell_memory(struct engine *engine, struct memory *memory)
{
    struct channel_message message = {
        .kind = CHANNEL_KEPT, .bytes = memory->bytes, .flags = memory->flags};
    memcpy(message.name, memory->name, sizeof message.name);
    memory->told = send_message(engine, &message, &memory->fd, 1);
    return memory->told;
}

static bool tell_attach(struct keeper *keeper, uint32_t slot)
{
    struct client *client = &keeper->clients.slots[slot];
    struct channel_message message = {
        .kind = CHANNEL_ATTACH,
        .connection = {.id = client->id,
                       .slot = slot,
                       .pid = client->pid,
                       .uid = client->uid,
                       .gid = client->gid,
                       .administrator = client->administrator,
                       .group_count = client->group_count,
                       .geometry = keeper->geometry},
    };
    memcpy(message.connection.groups, client->groups, sizeof client->groups);
    const int fds[] = {client->bundle.up_readonly, client->bundle.down, client->bundle.to_engine,
                       client->bundle.to_client};
    client->told_attach = send_message(&keeper->engine, &message, fds, 4);
    CRASH_POINT(keeper_attach);
    return client->told_attach;
}

static bool tell_detach(struct keeper *keeper, uint32_t slot)
{
    struct client *client = &keeper->clients.slots[slot];
    struct channel_message message = {.kind = CHANNEL_DETACH, .connection = {.id = client->id}};
    client->told_detach = send_message(&keeper->engine, &message, NULL, 0);
    CRASH_POINT(keeper_detach);
    return client->told_detach;
}

static bool tell_simple(struct engine *engine, enum channel_kind kind, bool *out_told)
{
    struct channel_message message = {.kind = kind, .generation = engine->generation};
    *out_told = send_message(engine, &message, NULL, 0);
    return *out_told;
}

/* Part of the manifest only: what is made later the engine asked for, or it is a loader's and for the next one. */
static bool tell_memories(struct keeper *keeper)
{
    if (keeper->engine.told_serve)
        return true;
    for (int i = 0; i < MEMORIES_MAX; i++) {
        struct memory *memory = &keeper->memories.items[i];
        if (!memory->name[0] || memory->told || loader_owns(keeper, memory->name))
            continue;
        if (!tell_memory(&keeper->engine, memory))
            return false;
    }
    return true;
}

static bool tell_clients(struct keeper *keeper)
{
    for (uint32_t slot = 0; slot < keeper->clients.end; slot++) {
        const struct client *client = &keeper->clients.slots[slot];
        if (client->phase == CLIENT_ATTACHED && !client->told_attach && !tell_attach(keeper, slot))
            return false;
        if (client->phase == CLIENT_LEAVING && !client->told_detach && !tell_detach(keeper, slot))
            return false;
    }
    return true;
}

static bool tell_drain(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    uint64_t wanted = drain_wanted(keeper);
    if (engine->told_drain == wanted)
        return true;
    struct channel_message message = {.kind = wanted ? CHANNEL_DRAIN : CHANNEL_RESUME,
                                      .connection = {.id = wanted}};
    if (!send_message(engine, &message, NULL, 0))
        return false;
    engine->told_drain = wanted;
    return true;
}

static bool tell_beat(struct keeper *keeper)
{
    bool told = true;
    if (keeper->heartbeat.beat_wanted && tell_simple(&keeper->engine, CHANNEL_BEAT, &told))
        keeper->heartbeat.beat_wanted = false;
    return told;
}

/* Part of the manifest only: a running engine is replaced (registry_expire()). */
static bool tell_models(struct keeper *keeper)
{
    const struct engine *engine = &keeper->engine;
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX && !engine->told_serve; slot++) {
        struct channel_message message = {.kind = CHANNEL_MODEL};
        if (!registry_untold(&keeper->registry, slot, engine->ready_once, &message))
            continue;
        if (!send_message(engine, &message, NULL, 0))
            return false;
        registry_told(&keeper->registry, slot);
    }
    return true;
}

static bool tell_names(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    if (engine->told_names == keeper->registry.names_number)
        return true;
    struct channel_message message = {.kind = CHANNEL_NAMES};
    registry_names(&keeper->registry, &message.names);
    if (!send_message(engine, &message, NULL, 0))
        return false;
    engine->told_names = message.names.number;
    return true;
}

static bool tell_all(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    if (!asker_tell(&engine->asker, engine->channel))
        return false;
    if (!tell_memories(keeper) || !tell_models(keeper) || !tell_names(keeper) ||
        !tell_clients(keeper) || !tell_drain(keeper) || !tell_beat(keeper))
        return false;
    if (!engine->told_serve && !tell_simple(engine, CHANNEL_SERVE, &engine->told_serve))
        return false;
    return !engine->stop_asked || engine->told_stop ||
           tell_simple(engine, CHANNEL_STOP, &engine->told_stop);
}

void engine_tell(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    if (engine->pid == 0 || !engine->has_news)
        return;
    engine->has_news = !tell_all(keeper);
    keeper_watch_writable(keeper, engine->channel, KEEPER_ENGINE_CHANNEL, engine->generation,
                          engine->has_news);
}

/* ---- Hearing --------------------------------------------------------------------------------------- */

static void became_ready(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    engine->ready = engine->ready_once = true;
    heartbeat_reset(keeper);
    registry_served(keeper);
    status_page_engine(keeper);
    keeper_engine_ready(keeper);
}

static void note_failure(struct keeper *keeper, const char *text)
{
    struct engine *engine = &keeper->engine;
    engine->failed = true;
    snprintf(engine->reason, sizeof engine->reason, "%.*s", LLM_NOTE_BYTES - 1, text);
}

static void hear(struct keeper *keeper, const struct channel_message *message)
{
    switch (message->kind) {
    case CHANNEL_ALLOC:
    case CHANNEL_OPEN:
    case CHANNEL_DEPOSIT:
    case CHANNEL_DROP:
        asker_serve(keeper, &keeper->engine.asker, 0, keeper->engine.pidfd, message);
        keeper->engine.has_news = true;
        break;
    case CHANNEL_DETACHED:
        clients_detached(keeper, message->connection.id);
        break;
    case CHANNEL_BAD_CLIENT:
        clients_break(keeper, message->connection.id, message->text);
        break;
    case CHANNEL_READY:
        became_ready(keeper);
        break;
    case CHANNEL_FAILED:
        note_failure(keeper, message->text);
        break;
    case CHANNEL_DRAINED:
        drain_settled(keeper, message->connection.id);
        break;
    case CHANNEL_MODEL_IDLE:
        registry_idle(keeper, message->model.id);
        break;
    case CHANNEL_MODEL_FAILED:
        registry_failed(keeper, message->model.id, message->text);
        break;
    default:
        log_line(LOG_LEVEL_ERROR, "engine sent a message of unknown kind %u", message->kind);
        process_kill(keeper->engine.pidfd, SIGKILL);
    }
}

void engine_channel_ready(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    engine->has_news = true; /* it may be the room to write that woke us */
    for (int budget = 64; budget > 0 && engine->channel >= 0; budget--) {
        struct channel_message message;
        struct llm_error error;
        int fds[CHANNEL_FDS_MAX];
        enum llm_status status = channel_receive(engine->channel, false, &message, fds, &error);
        if (status == LLM_ERR_TIMEOUT)
            return;
        if (status != LLM_OK) { /* the end of the channel is the end of the engine */
            process_kill(engine->pidfd, SIGKILL);
            keeper_unwatch(keeper, engine->channel);
            close(engine->channel);
            engine->channel = -1;
            return;
        }
        for (int i = 0; i < CHANNEL_FDS_MAX; i++)
            if (fds[i] >= 0)
                close(fds[i]); /* the engine has none to give */
        hear(keeper, &message);
    }
}

/* ---- Ending ---------------------------------------------------------------------------------------- */

/* Remember this death; true when there were too many of late. */
static bool died_too_often(struct keeper *keeper, uint64_t now_ns)
{
    struct engine *engine = &keeper->engine;
    uint64_t window_ns = keeper->config->limits.engine_deaths_window_s * LLM_NS_PER_S;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < engine->deaths_count; i++)
        if (now_ns - engine->deaths_ns[i] < window_ns)
            engine->deaths_ns[kept++] = engine->deaths_ns[i];
    if (kept < ENGINE_DEATHS_MAX)
        engine->deaths_ns[kept++] = now_ns;
    engine->deaths_count = kept;
    return kept >= keeper->config->limits.engine_deaths;
}

static void close_engine(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    engine->pid = 0;
    close(engine->pidfd); /* closing removes them from the epoll set */
    if (engine->channel >= 0)
        close(engine->channel);
    engine->pidfd = engine->channel = -1;
    engine->ready = false;
    heartbeat_reset(keeper);
    drain_engine_gone(keeper);
    forget_what_was_told(keeper);
    keeper->descriptors_changed = true;
}

static void consider_death(struct keeper *keeper, const char *how)
{
    struct engine *engine = &keeper->engine;
    uint64_t now_ns = llm_now_ns();
    log_event(LOG_LEVEL_ERROR, "engine died", log_text("how", how));
    status_page_died(keeper, now_ns);
    char text[LLM_NOTE_BYTES];
    snprintf(text, sizeof text, "engine died: %s", how);
    status_page_error(keeper, text);
    if (died_too_often(keeper, now_ns)) {
        snprintf(text, sizeof text,
                 "the engine died %u times within %llu s (last: %.30s) and is not started again; "
                 "see the "
                 "log, then restart it",
                 engine->deaths_count,
                 (unsigned long long)keeper->config->limits.engine_deaths_window_s, how);
        note_failure(keeper, text);
    }
}

static void start_next(struct keeper *keeper)
{
    struct llm_error error;
    if (engine_start(keeper, &error) == LLM_OK)
        return;
    note_failure(keeper, error.message);
    keeper_engine_failed(keeper);
}

void engine_process_ready(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    int exit_code;
    char how[96];
    if (engine->pid == 0)
        return;
    engine_channel_ready(keeper); /* its last words */
    if (!process_collect(engine->pidfd, &exit_code, how, sizeof how))
        return;
    bool asked = engine->stop_asked;
    bool replace = engine->replace, was_ready = engine->ready;
    close_engine(keeper);
    if (!asked && !engine->failed) { /* a failed one has said why, and was no surprise */
        if (!was_ready)
            registry_blame(keeper);
        consider_death(keeper, how);
    } else
        log_event(LOG_LEVEL_INFO, "engine ended", log_text("how", how));
    engine->stop_asked = engine->replace = false;
    status_page_engine(keeper);
    if (asked && exit_code > 0)
        keeper->exit_code = 1; /* it was asked to end and did not end well: see its last lines */
    if (keeper->stopping)
        return;
    if (engine->failed)
        keeper_engine_failed(keeper);
    else if (!asked || replace)
        start_next(keeper);
}

static void ask_to_stop(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    if (engine->pid == 0 || engine->stop_asked)
        return;
    engine->stop_asked = engine->has_news = true;
    engine->kill_ns = llm_deadline_ns(ENGINE_STOP_TIME_NS);
}

void engine_restart(struct keeper *keeper)
{
    struct engine *engine = &keeper->engine;
    if (engine->failed) {
        engine->failed = false;
        engine->deaths_count = 0;
    }
    if (engine->pid == 0) {
        start_next(keeper);
        return;
    }
    ask_to_stop(keeper);
    engine->replace = true;
}

void engine_stop(struct keeper *keeper)
{
    ask_to_stop(keeper);
    keeper->engine.replace = false;
}

uint64_t engine_expire(struct keeper *keeper, uint64_t now_ns)
{
    struct engine *engine = &keeper->engine;
    if (engine->pid == 0 || !engine->stop_asked)
        return UINT64_MAX;
    if (engine->kill_ns > now_ns)
        return engine->kill_ns;
    process_kill(engine->pidfd, SIGKILL);
    engine->kill_ns = llm_deadline_ns(ENGINE_STOP_TIME_NS);
    return engine->kill_ns;
}
