#include "daemon/keeper/asker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/process.h"
#include "shm/crash_point.h"

void asker_init(struct asker *asker)
{
    *asker = (struct asker){.answer_fd = -1};
}

void asker_forget(struct asker *asker)
{
    if (asker->answer_fd_owned && asker->answer_fd >= 0)
        close(asker->answer_fd);
    asker_init(asker);
}

bool asker_tell(struct asker *asker, int channel)
{
    struct llm_error error;
    if (!asker->answer_waits)
        return true;
    if (channel_send(channel, &asker->answer, &asker->answer_fd, asker->answer_fd >= 0, &error) !=
        LLM_OK)
        return false;
    asker_forget(asker);
    return true;
}

/* ---- Each question --------------------------------------------------------------------------------- */

/* What a question comes to. `fd` is closed after sending when `owned`. */
struct answer {
    enum llm_status status;
    struct llm_error error;
    int fd; /* -1: none */
    bool owned;
};

static void serve_alloc(struct keeper *keeper, const struct channel_message *message,
                        struct answer *out)
{
    struct memory *memory = NULL;
    out->status =
        memories_alloc(&keeper->memories, message->name, message->bytes, &memory, &out->error);
    CRASH_POINT(keeper_alloc);
    keeper->descriptors_changed = true;
    if (out->status != LLM_OK)
        return;
    memory->told = true; /* a loader's is the next engine's */
    out->fd = memory->fd;
}

static void serve_open(struct keeper *keeper, const struct channel_message *message,
                       struct answer *out)
{
    out->status =
        registry_open_file(keeper, message->model.id, message->path, &out->fd, &out->error);
    out->owned = out->status == LLM_OK;
}

static void serve_deposit(struct keeper *keeper, const struct channel_message *message,
                          struct answer *out)
{
    out->status =
        message->flags == CHANNEL_MEMORY_PUBLIC
            ? memories_publish(&keeper->memories, message->name, &out->error)
            : llm_fail(&out->error, LLM_ERR_INVALID, "flags 0x%x of memory \"%s\" are not known",
                       message->flags, message->name);
    CRASH_POINT(keeper_public);
}

static void serve_drop(struct keeper *keeper, const struct channel_message *message,
                       struct answer *out)
{
    out->status =
        strcmp(message->name, CHANNEL_NAME_CTL) == 0 ||
                strcmp(message->name, CHANNEL_NAME_STATUS) == 0
            ? llm_fail(&out->error, LLM_ERR_INVALID, "memory \"%s\" is the keeper's", message->name)
            : memories_drop(&keeper->memories, message->name, &out->error);
    CRASH_POINT(keeper_drop);
    keeper->descriptors_changed = true;
}

bool asker_belongs(const char *memory, uint64_t load_id)
{
    char number[24];
    const char *slash = strchr(memory, '/');
    snprintf(number, sizeof number, "%llu", (unsigned long long)load_id);
    return slash && strcmp(slash + 1, number) == 0;
}

static enum llm_status check_loader(uint64_t loader_id, const struct channel_message *message,
                                    struct llm_error *error)
{
    bool own = message->kind == CHANNEL_OPEN ? message->model.id == loader_id
                                             : asker_belongs(message->name, loader_id);
    if (loader_id == 0 || own)
        return LLM_OK;
    return llm_fail(error, LLM_ERR_PERMISSION, "the loader of load %llu asked for another's",
                    (unsigned long long)loader_id);
}

void asker_serve(struct keeper *keeper, struct asker *asker, uint64_t loader_id, int pidfd,
                 const struct channel_message *message)
{
    if (asker->answer_waits) { /* it did not wait for the last one: not the program we know */
        process_kill(pidfd, SIGKILL);
        return;
    }
    struct answer answer = {.fd = -1};
    answer.status = check_loader(loader_id, message, &answer.error);
    if (answer.status == LLM_OK && message->kind == CHANNEL_ALLOC)
        serve_alloc(keeper, message, &answer);
    else if (answer.status == LLM_OK && message->kind == CHANNEL_OPEN)
        serve_open(keeper, message, &answer);
    else if (answer.status == LLM_OK && message->kind == CHANNEL_DEPOSIT)
        serve_deposit(keeper, message, &answer);
    else if (answer.status == LLM_OK)
        serve_drop(keeper, message, &answer);
    asker->answer = (struct channel_message){
        .kind = CHANNEL_ANSWER, .ticket = message->ticket, .status = (uint32_t)answer.status};
    if (answer.status != LLM_OK)
        snprintf(asker->answer.text, sizeof asker->answer.text, "%.*s", LLM_NOTE_BYTES - 1,
                 answer.error.message);
    asker->answer_fd = answer.fd;
    asker->answer_fd_owned = answer.owned;
    asker->answer_waits = true;
}
