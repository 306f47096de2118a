/* Which models there are, and, for administrators, which are to be: verbs of the keeper, and waiting for what follows. */
#include "client/connection.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "shm/models.h"
#include "shm/segment.h"

#define KEEPER_TIMEOUT_NS (10 * LLM_NS_PER_S)
#define LOOK_NS           (2 * LLM_NS_PER_MS) /* between looks while something is waited for */

static_assert(LLM_STAGE_LOADING == (int)LLM_MODEL_LOADING &&
                  LLM_STAGE_LOADED == (int)LLM_MODEL_LOADED &&
                  LLM_STAGE_READY == (int)LLM_MODEL_READY &&
                  LLM_STAGE_DRAINING == (int)LLM_MODEL_DRAINING &&
                  LLM_STAGE_FAILED == (int)LLM_MODEL_FAILED,
              "one list of stages");
static_assert(LLM_MODELS_LISTED_MAX == LLM_MODELS_MAX && LLM_ALIASES_LISTED_MAX == LLM_ALIASES_MAX,
              "room for all");

/* ---- Looking --------------------------------------------------------------------------------------- */

static enum llm_status check_image(const struct llm_models_image *image, struct llm_error *error)
{
    if (image->magic == LLM_MODELS_MAGIC && image->model_count <= LLM_MODELS_MAX &&
        image->alias_count <= LLM_ALIASES_MAX)
        return LLM_OK;
    return llm_fail(error, LLM_ERR_PEER, "the daemon's list of models is not of this protocol");
}

/* A private copy: what is checked stays as it is. */
static enum llm_status take_image(struct llm_connection *connection,
                                  struct llm_models_image *out_image, struct llm_error *error)
{
    const void *address;
    size_t bytes;
    enum llm_status status = llm_memory_map(connection, LLM_MODELS_MEMORY, &address, &bytes, error);
    if (status != LLM_OK)
        return status;
    if (bytes == sizeof *out_image)
        memcpy(out_image, address, sizeof *out_image);
    else
        out_image->magic = 0;
    llm_memory_unmap(address, bytes);
    return check_image(out_image, error);
}

static void copy_text(char *out, size_t bytes, const char *text, size_t text_bytes)
{
    snprintf(out, bytes, "%.*s", (int)strnlen(text, text_bytes), text);
}

static llm_model model_of(const struct llm_model_record *record)
{
    llm_model model = {.id = record->id,
                       .slot = record->slot,
                       .version = record->version,
                       .stage = (enum llm_model_stage)record->state,
                       .is_default = (record->flags & LLM_MODEL_DEFAULT) != 0,
                       .is_newest = (record->flags & LLM_MODEL_NEWEST) != 0,
                       .context_tokens = record->context_tokens,
                       .live_requests = record->requests_live,
                       .requests = record->requests,
                       .weights_bytes = record->weights_bytes,
                       .loaded_bytes = record->loaded_bytes,
                       .workspace_bytes = record->workspace_bytes,
                       .load_ns = record->load_ns,
                       .idle_ns = record->idle_ns};
    copy_text(model.name, sizeof model.name, record->name, sizeof record->name);
    copy_text(model.text, sizeof model.text, record->text, sizeof record->text);
    copy_text(model.path, sizeof model.path, record->path, sizeof record->path);
    copy_text(model.reason, sizeof model.reason, record->reason, sizeof record->reason);
    return model;
}

enum llm_status llm_models_list(llm_connection *connection, llm_models *out_models,
                                llm_error *error)
{
    struct llm_models_image image;
    enum llm_status status = take_image(connection, &image, error);
    if (status != LLM_OK)
        return status;
    *out_models = (llm_models){.model_count = image.model_count, .alias_count = image.alias_count};
    for (uint32_t i = 0; i < image.model_count; i++)
        out_models->models[i] = model_of(&image.models[i]);
    for (uint32_t i = 0; i < image.alias_count; i++) {
        copy_text(out_models->aliases[i].name, sizeof out_models->aliases[i].name,
                  image.aliases[i].name, sizeof image.aliases[i].name);
        out_models->aliases[i].model_id = image.aliases[i].model_id;
    }
    return LLM_OK;
}

/* ---- Waiting --------------------------------------------------------------------------------------- */

static const struct llm_model_record *find(const struct llm_models_image *image, uint64_t id)
{
    for (uint32_t i = 0; i < image->model_count; i++)
        if (image->models[i].id == id)
            return &image->models[i];
    return NULL;
}

/* The image again and again, until `reached` of `what`. */
static enum llm_status wait_for(struct llm_connection *connection, uint64_t what,
                                uint64_t timeout_ns,
                                bool (*reached)(const struct llm_models_image *, uint64_t what),
                                struct llm_models_image *out_image, struct llm_error *error)
{
    uint64_t deadline_ns = llm_deadline_ns(timeout_ns);
    for (;;) {
        enum llm_status status = take_image(connection, out_image, error);
        if (status != LLM_OK || reached(out_image, what))
            return status;
        if (llm_remaining_ns(deadline_ns) == 0)
            return llm_fail(error, LLM_ERR_TIMEOUT, "it is under way, but not done yet");
        nanosleep(&(struct timespec){.tv_nsec = (long)LOOK_NS}, NULL);
    }
}

static bool names_settled(const struct llm_models_image *image, uint64_t number)
{
    return image->names_settled >= number;
}

static bool load_ended(const struct llm_models_image *image, uint64_t id)
{
    const struct llm_model_record *record = find(image, id);
    return !record || (record->state != LLM_MODEL_LOADING && record->state != LLM_MODEL_LOADED);
}

static bool is_gone(const struct llm_models_image *image, uint64_t id)
{
    return !find(image, id);
}

/* ---- Changing -------------------------------------------------------------------------------------- */

static enum llm_status check_text(const char *text, size_t room, const char *what,
                                  struct llm_error *error)
{
    if (text && strlen(text) < room)
        return LLM_OK;
    return text ? llm_fail(error, LLM_ERR_INVALID, "%s has at most %zu bytes, not %zu", what,
                           room - 1, strlen(text))
                : llm_fail(error, LLM_ERR_INVALID, "%s is missing", what);
}

static enum llm_status change(struct llm_connection *connection, enum llm_verb verb,
                              const char *name, const char *argument,
                              struct llm_keeper_reply *out_reply, struct llm_error *error)
{
    enum llm_status status = llm_connection_own(connection, error);
    if (status == LLM_OK)
        status = check_text(name, LLM_NAME_BYTES, "a model's name", error);
    if (status == LLM_OK)
        status = check_text(argument, LLM_ARGUMENT_BYTES, "a model's name or directory", error);
    if (status != LLM_OK)
        return status;
    return llm_keeper_ask_about(&connection->link, verb, name, argument,
                                llm_deadline_ns(KEEPER_TIMEOUT_NS), out_reply, error);
}

/* Names count when the engine goes by them: who returns from here may rely on it. */
static enum llm_status change_names(struct llm_connection *connection, enum llm_verb verb,
                                    const char *name, const char *argument, uint64_t timeout_ns,
                                    struct llm_error *error)
{
    struct llm_keeper_reply reply;
    struct llm_models_image image;
    enum llm_status status = change(connection, verb, name, argument, &reply, error);
    if (status != LLM_OK || timeout_ns == 0)
        return status;
    return wait_for(connection, reply.names_number, timeout_ns, names_settled, &image, error);
}

enum llm_status llm_model_load(llm_connection *connection, const char *what, const char *name,
                               uint64_t *out_id, llm_error *error)
{
    struct llm_keeper_reply reply;
    enum llm_status status =
        change(connection, LLM_VERB_MODEL_LOAD, name ? name : "", what, &reply, error);
    if (status == LLM_OK)
        *out_id = reply.model_id;
    return status;
}

enum llm_status llm_model_wait(llm_connection *connection, uint64_t id, uint64_t timeout_ns,
                               llm_error *error)
{
    struct llm_models_image image;
    enum llm_status status = wait_for(connection, id, timeout_ns, load_ended, &image, error);
    if (status != LLM_OK)
        return status;
    struct llm_model_record *record = NULL;
    for (uint32_t i = 0; i < image.model_count; i++)
        if (image.models[i].id == id)
            record = &image.models[i];
    if (!record)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "load %llu is over: it was unloaded",
                        (unsigned long long)id);
    record->reason[sizeof record->reason - 1] = '\0';
    return record->state == LLM_MODEL_FAILED
               ? llm_fail(error, LLM_ERR_INVALID, "%s", record->reason)
               : LLM_OK;
}

enum llm_status llm_model_unload(llm_connection *connection, const char *name, uint64_t timeout_ns,
                                 llm_error *error)
{
    struct llm_keeper_reply reply;
    struct llm_models_image image;
    enum llm_status status = change(connection, LLM_VERB_MODEL_UNLOAD, name, "", &reply, error);
    if (status != LLM_OK || timeout_ns == 0)
        return status;
    return wait_for(connection, reply.model_id, timeout_ns, is_gone, &image, error);
}

enum llm_status llm_model_alias(llm_connection *connection, const char *alias, const char *name,
                                uint64_t timeout_ns, llm_error *error)
{
    return change_names(connection, LLM_VERB_MODEL_ALIAS, alias, name ? name : "", timeout_ns,
                        error);
}

enum llm_status llm_model_default(llm_connection *connection, const char *name, uint64_t timeout_ns,
                                  llm_error *error)
{
    return change_names(connection, LLM_VERB_MODEL_DEFAULT, name, "", timeout_ns, error);
}
