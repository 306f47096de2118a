#include "daemon/keeper/loader.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/process.h"
#include "daemon/keeper/spawn.h"
#include "daemon/log.h"

void loader_init(struct loader *loader)
{
    *loader = (struct loader){.pidfd = -1, .channel = -1};
    asker_init(&loader->asker);
}

/* ---- Starting -------------------------------------------------------------------------------------- */

/* A fresh channel has room for these two. */
static enum llm_status tell(struct loader *loader, const struct registry_model *model,
                            struct llm_error *error)
{
    struct channel_message message = {
        .kind = CHANNEL_MODEL,
        .model = {.id = model->id, .slot = loader->slot, .version = model->version}};
    memcpy(message.name, model->name, sizeof model->name);
    memcpy(message.path, model->path, sizeof model->path);
    const struct channel_message serve = {.kind = CHANNEL_SERVE};
    enum llm_status status = channel_send(loader->channel, &message, NULL, 0, error);
    return status == LLM_OK ? channel_send(loader->channel, &serve, NULL, 0, error) : status;
}

enum llm_status loader_start(struct keeper *keeper, uint32_t slot, struct llm_error *error)
{
    struct loader *loader = &keeper->loader;
    struct spawned spawned;
    enum llm_status status = spawn_engine(keeper->config, true, 0, &spawned, error);
    if (status != LLM_OK)
        return status;
    uint64_t serial = loader->serial + 1;
    loader_init(loader);
    loader->pid = spawned.pid;
    loader->pidfd = spawned.pidfd;
    loader->channel = spawned.channel;
    loader->serial = serial;
    loader->slot = slot;
    loader->model_id = keeper->registry.models[slot].id;
    keeper_watch(keeper, loader->pidfd, KEEPER_LOADER_PROCESS, 0, serial);
    keeper_watch(keeper, loader->channel, KEEPER_LOADER_CHANNEL, 0, serial);
    keeper->descriptors_changed = true;
    struct llm_error gone; /* its end will be seen by itself */
    (void)!tell(loader, &keeper->registry.models[slot], &gone);
    return LLM_OK;
}

void loader_stop(struct keeper *keeper)
{
    if (keeper->loader.pid != 0)
        process_kill(keeper->loader.pidfd, SIGKILL);
}

bool loader_owns(const struct keeper *keeper, const char *memory)
{
    return keeper->loader.pid != 0 && asker_belongs(memory, keeper->loader.model_id);
}

/* ---- Hearing --------------------------------------------------------------------------------------- */

static void hear(struct keeper *keeper, const struct channel_message *message)
{
    struct loader *loader = &keeper->loader;
    switch (message->kind) {
    case CHANNEL_ALLOC:
    case CHANNEL_OPEN:
    case CHANNEL_DEPOSIT:
    case CHANNEL_DROP:
        asker_serve(keeper, &loader->asker, loader->model_id, loader->pidfd, message);
        if (!asker_tell(&loader->asker, loader->channel)) /* it asks and waits: there was room */
            process_kill(loader->pidfd, SIGKILL);
        break;
    case CHANNEL_READY:
        loader->ready = true;
        break;
    case CHANNEL_FAILED:
        snprintf(loader->reason, sizeof loader->reason, "%s", message->text);
        break;
    default:
        process_kill(loader->pidfd, SIGKILL);
    }
}

void loader_channel_ready(struct keeper *keeper)
{
    struct loader *loader = &keeper->loader;
    for (int budget = 64; budget > 0 && loader->channel >= 0; budget--) {
        struct channel_message message;
        struct llm_error error;
        int fds[CHANNEL_FDS_MAX];
        enum llm_status status = channel_receive(loader->channel, false, &message, fds, &error);
        if (status == LLM_ERR_TIMEOUT)
            return;
        if (status != LLM_OK) { /* its end of the channel is its end */
            process_kill(loader->pidfd, SIGKILL);
            keeper_unwatch(keeper, loader->channel);
            close(loader->channel);
            loader->channel = -1;
            return;
        }
        for (int i = 0; i < CHANNEL_FDS_MAX; i++)
            if (fds[i] >= 0)
                close(fds[i]); /* it has none to give */
        hear(keeper, &message);
    }
}

/* ---- Ending ---------------------------------------------------------------------------------------- */

void loader_process_ready(struct keeper *keeper)
{
    struct loader *loader = &keeper->loader;
    int exit_code;
    char how[96], why[LLM_NOTE_BYTES];
    if (loader->pid == 0)
        return;
    loader_channel_ready(keeper); /* its last words */
    if (!process_collect(loader->pidfd, &exit_code, how, sizeof how))
        return;
    struct loader ended = *loader;
    close(ended.pidfd); /* closing removes them from the epoll set */
    if (ended.channel >= 0)
        close(ended.channel);
    asker_forget(&loader->asker);
    loader_init(loader);
    loader->serial = ended.serial;
    keeper->descriptors_changed = true;
    if (registry_find_id(&keeper->registry, ended.model_id) != ended.slot)
        return; /* it was told to stop: its model is gone already */
    snprintf(why, sizeof why, "%.*s", LLM_NOTE_BYTES - 1, ended.reason);
    if (!why[0] && !ended.ready)
        snprintf(why, sizeof why, "its loader died: %s", how);
    registry_loaded(keeper, ended.slot, why[0] ? why : NULL);
}
