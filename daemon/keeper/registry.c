#include "daemon/keeper/registry.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/log.h"
#include "shm/clock.h"

#define load(field) atomic_load_explicit(&(field), memory_order_relaxed)

/* ---- One slot -------------------------------------------------------------------------------------- */

static bool in_set(const struct registry_model *model)
{
    return model->state == LLM_MODEL_LOADED || model->state == LLM_MODEL_READY ||
           model->state == LLM_MODEL_DRAINING;
}

static bool is_echo(const struct registry_model *model)
{
    return strcmp(model->path, REGISTRY_ECHO) == 0;
}

static void set_state(struct keeper *keeper, uint32_t slot, enum llm_model_state state)
{
    keeper->registry.models[slot].state = state;
    registry_show(keeper, slot);
}

static void names_changed(struct keeper *keeper)
{
    keeper->registry.names_number++;
    keeper->engine.has_news = true;
}

static void close_files(struct registry_model *model)
{
    for (uint32_t i = 0; model->files && i < model->files->count; i++)
        close(model->files->items[i].fd);
    free(model->files);
    model->files = NULL;
}

/* What the keeper holds for a load that is over. */
static void release(struct keeper *keeper, struct registry_model *model)
{
    static const char *const kinds[] = {"weights", "vocab", "plan"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char name[CHANNEL_NAME_BYTES];
        struct llm_error none;
        snprintf(name, sizeof name, "%s/%llu", kinds[i], (unsigned long long)model->id);
        if (memories_find(&keeper->memories, name))
            (void)!memories_drop(&keeper->memories, name, &none);
    }
    close_files(model);
    keeper->descriptors_changed = true;
}

static uint32_t free_slot(const struct registry *registry)
{
    uint32_t failed = REGISTRY_SLOT_NONE;
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++) {
        if (registry->models[slot].state == LLM_MODEL_FREE)
            return slot;
        if (registry->models[slot].state == LLM_MODEL_FAILED && failed == REGISTRY_SLOT_NONE)
            failed = slot;
    }
    return failed;
}

/* Above every version of that name that the table remembers. */
static uint32_t next_version(const struct registry *registry, const char *name)
{
    uint32_t version = 0;
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++)
        if (strcmp(registry->models[slot].name, name) == 0 &&
            registry->models[slot].version > version)
            version = registry->models[slot].version;
    return version + 1;
}

static void take_slot(struct registry *registry, uint32_t slot, const char *name, const char *path,
                      enum llm_model_state state)
{
    struct registry_model *model = &registry->models[slot];
    uint32_t version = next_version(registry, name);
    *model = (struct registry_model){.state = state, .id = ++registry->last_id, .version = version};
    snprintf(model->name, sizeof model->name, "%s", name);
    snprintf(model->path, sizeof model->path, "%s", path);
}

static void fail(struct keeper *keeper, uint32_t slot, const char *why)
{
    struct registry_model *model = &keeper->registry.models[slot];
    log_event(LOG_LEVEL_ERROR, "a model is not loaded", log_text("name", model->name),
              log_count("version", model->version), log_text("reason", why));
    release(keeper, model);
    snprintf(model->reason, sizeof model->reason, "%.*s", LLM_NOTE_BYTES - 1, why);
    model->ended_ns = llm_now_ns();
    set_state(keeper, slot, LLM_MODEL_FAILED);
    names_changed(keeper);
}

static void remove_slot(struct keeper *keeper, uint32_t slot)
{
    struct registry *registry = &keeper->registry;
    struct registry_model *model = &registry->models[slot];
    log_event(LOG_LEVEL_INFO, "unloaded", log_text("name", model->name),
              log_count("version", model->version));
    registry->stale |= model->told;
    release(keeper, model);
    set_state(keeper, slot, LLM_MODEL_FREE);
    names_changed(keeper);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

/* As the directory or file is called, with what a name cannot have made '_'. */
static void name_of_path(const char *path, char out_name[LLM_NAME_BYTES])
{
    struct model_place place;
    struct llm_error none;
    if (model_place_from_path(path, &place, &none) == LLM_OK && path[0] == '/')
        model_place_name(&place, out_name, REGISTRY_NAME_MAX + 1);
    else
        snprintf(out_name, REGISTRY_NAME_MAX + 1, "%s", path);
    for (char *at = out_name; *at; at++) {
        const char one[2] = {*at, '\0'};
        if (!registry_name_ok(one))
            *at = '_';
    }
}

static enum llm_status configure(struct keeper *keeper, const char *name, const char *what,
                                 struct llm_error *error)
{
    char path[CONFIG_PATH_BYTES], own[LLM_NAME_BYTES];
    struct registry *registry = &keeper->registry;
    enum llm_status status = model_roots_find(&keeper->roots, what, path, sizeof path, error);
    if (status != LLM_OK)
        return status;
    name_of_path(name[0] ? name : path, own);
    if (name[0] && strcmp(own, name) != 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "models.load: \"%s\" is not a name: 1..%u of A-Z a-z 0-9 . _ -", name,
                        REGISTRY_NAME_MAX);
    uint32_t slot = free_slot(registry);
    if (slot == REGISTRY_SLOT_NONE)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "more than %u models are configured, the echo included", LLM_MODELS_MAX);
    take_slot(registry, slot, own, path, LLM_MODEL_LOADED);
    registry->models[slot].configured = true;
    registry->models[slot].begun_ns = llm_now_ns();
    return LLM_OK;
}

/* "a, b=c": each part as name (empty) and value; `text` is cut up. */
static enum llm_status each_part(struct keeper *keeper, const char *text,
                                 enum llm_status (*take)(struct keeper *keeper, const char *name,
                                                         const char *value,
                                                         struct llm_error *error),
                                 struct llm_error *error)
{
    static char parts[CONFIG_TEXT_BYTES * 4]; /* one thread */
    enum llm_status status = LLM_OK;
    char *rest;
    snprintf(parts, sizeof parts, "%s", text);
    for (char *part = strtok_r(parts, ", ", &rest); part && status == LLM_OK;
         part = strtok_r(NULL, ", ", &rest)) {
        char *equals = strchr(part, '=');
        if (equals)
            *equals = '\0';
        status = take(keeper, equals ? part : "", equals ? equals + 1 : part, error);
    }
    return status;
}

static enum llm_status configure_alias(struct keeper *keeper, const char *alias, const char *name,
                                       struct llm_error *error)
{
    uint64_t id;
    if (alias[0] == '\0')
        return llm_fail(error, LLM_ERR_INVALID, "models.aliases: \"%s\" is not ALIAS=MODEL", name);
    return registry_alias(keeper, alias, name, &id, error);
}

enum llm_status registry_open(struct keeper *keeper, const struct config *config,
                              struct llm_error *error)
{
    struct registry *registry = &keeper->registry;
    *registry = (struct registry){.names_number = 1};
    enum llm_status status = configure(keeper, "", config->models.preset, error);
    if (status == LLM_OK && strcmp(config->models.preset, REGISTRY_ECHO) != 0)
        status = configure(keeper, "", REGISTRY_ECHO, error);
    registry->default_id = registry->models[0].id;
    if (status == LLM_OK)
        status = each_part(keeper, config->models.load, configure, error);
    if (status == LLM_OK)
        status = each_part(keeper, config->models.aliases, configure_alias, error);
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++)
        registry_show(keeper, slot);
    return status;
}

void registry_close(struct registry *registry)
{
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++)
        close_files(&registry->models[slot]);
}

/* ---- Asked by administrators ----------------------------------------------------------------------- */

static enum llm_status check_name(const struct registry *registry, const char *name,
                                  struct llm_error *error)
{
    if (!registry_name_ok(name))
        return llm_fail(error, LLM_ERR_INVALID,
                        "\"%s\" is not a model's name: 1..%u of A-Z a-z 0-9 . _ -", name,
                        REGISTRY_NAME_MAX);
    for (uint32_t i = 0; i < registry->alias_count; i++)
        if (strcmp(registry->aliases[i].name, name) == 0)
            return llm_fail(error, LLM_ERR_INVALID, "\"%s\" is an alias: choose another name",
                            name);
    return LLM_OK;
}

enum llm_status registry_load(struct keeper *keeper, const char *what, const char *name,
                              uint64_t *out_id, struct llm_error *error)
{
    struct registry *registry = &keeper->registry;
    char path[CONFIG_PATH_BYTES], own[LLM_NAME_BYTES];
    enum llm_status status = model_roots_find(&keeper->roots, what, path, sizeof path, error);
    if (status != LLM_OK)
        return status;
    if (strcmp(path, REGISTRY_ECHO) == 0)
        return llm_fail(error, LLM_ERR_INVALID, "the echo is there already");
    name_of_path(path, own);
    if (name[0])
        snprintf(own, sizeof own, "%s", name);
    status = check_name(registry, own, error);
    if (status != LLM_OK)
        return status;
    if (keeper->loader.pid != 0)
        return llm_fail(error, LLM_ERR_BUSY, "model \"%s\" is being loaded: one at a time",
                        registry->models[keeper->loader.slot].name);
    uint32_t slot = free_slot(registry);
    if (slot == REGISTRY_SLOT_NONE)
        return llm_fail(error, LLM_ERR_LIMIT, "%u models are loaded, the echo included: unload one",
                        LLM_MODELS_MAX);
    take_slot(registry, slot, own, path, LLM_MODEL_LOADING);
    registry->models[slot].begun_ns = llm_now_ns();
    registry_show(keeper, slot);
    status = loader_start(keeper, slot, error);
    if (status != LLM_OK) {
        fail(keeper, slot, error->message);
        return status;
    }
    log_event(LOG_LEVEL_INFO, "loading", log_text("name", own), log_text("path", path),
              log_count("version", registry->models[slot].version));
    *out_id = registry->models[slot].id;
    return LLM_OK;
}

static enum llm_status find(const struct registry *registry, const char *name, uint32_t *out_slot,
                            struct llm_error *error)
{
    *out_slot = registry_find(registry, name);
    return *out_slot != REGISTRY_SLOT_NONE
               ? LLM_OK
               : llm_fail(error, LLM_ERR_NOT_FOUND, "model \"%s\" is not loaded", name);
}

/* One that requests may be sent to. */
static enum llm_status find_serving(const struct registry *registry, const char *name,
                                    uint32_t *out_slot, struct llm_error *error)
{
    enum llm_status status = find(registry, name, out_slot, error);
    if (status != LLM_OK)
        return status;
    enum llm_model_state state = registry->models[*out_slot].state;
    return state == LLM_MODEL_READY || state == LLM_MODEL_LOADED
               ? LLM_OK
               : llm_fail(error, LLM_ERR_BUSY, "model \"%s\" is %s", name,
                          state == LLM_MODEL_LOADING    ? "still being loaded"
                          : state == LLM_MODEL_DRAINING ? "being unloaded"
                                                        : "not loaded: it failed");
}

static const char *alias_of(const struct registry *registry, uint64_t id)
{
    for (uint32_t i = 0; i < registry->alias_count; i++)
        if (registry->aliases[i].model_id == id)
            return registry->aliases[i].name;
    return NULL;
}

static enum llm_status check_unload(const struct registry *registry, uint32_t slot,
                                    const char *name, struct llm_error *error)
{
    const struct registry_model *model = &registry->models[slot];
    const char *alias = alias_of(registry, model->id);
    if (is_echo(model))
        return llm_fail(error, LLM_ERR_INVALID, "the echo is part of the daemon and stays");
    if (model->id == registry->default_id)
        return llm_fail(error, LLM_ERR_BUSY,
                        "model \"%s\" is the default one: make another the default first", name);
    if (alias)
        return llm_fail(error, LLM_ERR_BUSY,
                        "the alias \"%s\" stands for model \"%s\": swap or remove it first", alias,
                        name);
    for (uint32_t other = 0; other < LLM_MODELS_MAX; other++)
        if (other != slot && registry->models[other].state != LLM_MODEL_FREE &&
            strcmp(registry->models[other].name, name) == 0)
            return llm_fail(error, LLM_ERR_INVALID,
                            "model \"%s\" is there in several versions: say which, as \"%s@%u\"",
                            name, name, model->version);
    return LLM_OK;
}

static void unload(struct keeper *keeper, uint32_t slot)
{
    struct registry_model *model = &keeper->registry.models[slot];
    if (model->state == LLM_MODEL_LOADING)
        loader_stop(keeper);
    if (!in_set(model) || !model->told || keeper->engine.failed) {
        remove_slot(keeper, slot); /* nobody serves it */
        return;
    }
    set_state(keeper, slot, LLM_MODEL_DRAINING);
    names_changed(keeper);
}

enum llm_status registry_unload(struct keeper *keeper, const char *name, uint64_t *out_id,
                                struct llm_error *error)
{
    uint32_t slot;
    enum llm_status status = find(&keeper->registry, name, &slot, error);
    if (status == LLM_OK)
        status = check_unload(&keeper->registry, slot, name, error);
    if (status != LLM_OK)
        return status;
    *out_id = keeper->registry.models[slot].id;
    unload(keeper, slot);
    return LLM_OK;
}

static void remove_alias(struct registry *registry, uint32_t i)
{
    registry->aliases[i] = registry->aliases[--registry->alias_count];
    memset(&registry->aliases[registry->alias_count], 0, sizeof registry->aliases[0]);
}

static enum llm_status check_alias(const struct registry *registry, const char *alias,
                                   struct llm_error *error)
{
    if (!registry_name_ok(alias))
        return llm_fail(error, LLM_ERR_INVALID,
                        "\"%s\" is not an alias: 1..%u of A-Z a-z 0-9 . _ -", alias,
                        REGISTRY_NAME_MAX);
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++)
        if (registry->models[slot].state != LLM_MODEL_FREE &&
            strcmp(registry->models[slot].name, alias) == 0)
            return llm_fail(error, LLM_ERR_INVALID, "\"%s\" is a model's own name", alias);
    return LLM_OK;
}

enum llm_status registry_alias(struct keeper *keeper, const char *alias, const char *name,
                               uint64_t *out_id, struct llm_error *error)
{
    struct registry *registry = &keeper->registry;
    uint32_t slot = REGISTRY_SLOT_NONE, at = 0;
    while (at < registry->alias_count && strcmp(registry->aliases[at].name, alias) != 0)
        at++;
    if (name[0] == '\0' && at == registry->alias_count)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "there is no alias \"%s\"", alias);
    enum llm_status status = check_alias(registry, alias, error);
    if (status == LLM_OK && name[0])
        status = find_serving(registry, name, &slot, error);
    if (status == LLM_OK && at == LLM_ALIASES_MAX)
        status = llm_fail(error, LLM_ERR_LIMIT, "all %u aliases are in use", LLM_ALIASES_MAX);
    if (status != LLM_OK)
        return status;
    *out_id = slot == REGISTRY_SLOT_NONE ? 0 : registry->models[slot].id;
    if (slot == REGISTRY_SLOT_NONE) {
        remove_alias(registry, at);
    } else {
        snprintf(registry->aliases[at].name, sizeof registry->aliases[at].name, "%s", alias);
        registry->aliases[at].model_id = *out_id;
        registry->alias_count += at == registry->alias_count;
    }
    names_changed(keeper);
    return LLM_OK;
}

enum llm_status registry_set_default(struct keeper *keeper, const char *name, uint64_t *out_id,
                                     struct llm_error *error)
{
    struct registry *registry = &keeper->registry;
    uint32_t slot;
    if (name[0] == '\0')
        return llm_fail(error, LLM_ERR_INVALID, "no model is named");
    enum llm_status status = find_serving(registry, name, &slot, error);
    if (status != LLM_OK)
        return status;
    *out_id = registry->default_id = registry->models[slot].id;
    names_changed(keeper);
    return LLM_OK;
}

/* ---- For the engine's part ------------------------------------------------------------------------- */

bool registry_untold(const struct registry *registry, uint32_t slot, bool served_once,
                     struct channel_message *message)
{
    const struct registry_model *model = &registry->models[slot];
    if (!in_set(model) || model->told)
        return false;
    message->model = (struct channel_model){
        .id = model->id,
        .slot = slot,
        .version = model->version,
        .flags = (model->configured && !served_once ? (uint32_t)CHANNEL_MODEL_REQUIRED : 0) |
                 (model->whole ? (uint32_t)CHANNEL_MODEL_LOADED : 0)};
    memcpy(message->name, model->name, sizeof model->name);
    memcpy(message->path, model->path, sizeof model->path);
    return true;
}

void registry_told(struct registry *registry, uint32_t slot)
{
    registry->models[slot].told = true;
}

void registry_forget_told(struct registry *registry)
{
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++)
        registry->models[slot].told = false;
    registry->stale = false;
}

void registry_names(const struct registry *registry, struct channel_names *out_names)
{
    *out_names = (struct channel_names){.number = registry->names_number,
                                        .default_id = registry->default_id,
                                        .alias_count = registry->alias_count};
    memcpy(out_names->aliases, registry->aliases, sizeof out_names->aliases);
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++)
        if (registry->models[slot].state == LLM_MODEL_DRAINING)
            out_names->draining_slots |= 1u << slot;
}

void registry_served(struct keeper *keeper)
{
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++) {
        struct registry_model *model = &keeper->registry.models[slot];
        if (!model->told)
            continue;
        model->whole = true;
        model->tries = 0;
        if (model->state != LLM_MODEL_LOADED)
            continue;
        model->ready_ns = llm_now_ns();
        if (model->ended_ns == 0)
            model->ended_ns = model->ready_ns;
        set_state(keeper, slot, LLM_MODEL_READY);
    }
}

void registry_blame(struct keeper *keeper)
{
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++) {
        struct registry_model *model = &keeper->registry.models[slot];
        if (!model->told || model->configured || model->state != LLM_MODEL_LOADED ||
            ++model->tries < REGISTRY_TRIES_MAX)
            continue;
        fail(keeper, slot, "the engine died each time it was to open it");
    }
}

void registry_idle(struct keeper *keeper, uint64_t id)
{
    uint32_t slot = registry_find_id(&keeper->registry, id);
    if (slot != REGISTRY_SLOT_NONE && keeper->registry.models[slot].state == LLM_MODEL_DRAINING)
        remove_slot(keeper, slot);
}

void registry_failed(struct keeper *keeper, uint64_t id, const char *why)
{
    uint32_t slot = registry_find_id(&keeper->registry, id);
    if (slot == REGISTRY_SLOT_NONE || !in_set(&keeper->registry.models[slot]))
        return;
    keeper->registry.stale = true; /* it has its memories mapped */
    fail(keeper, slot, why);
}

/* ---- Files ----------------------------------------------------------------------------------------- */

/* Remember what was opened, for the engines to come. */
static enum llm_status remember(struct registry_model *model, const char *name, int fd,
                                struct llm_error *error)
{
    if (!model->files)
        model->files = calloc(1, sizeof *model->files);
    struct registry_files *files = model->files;
    if (!files || files->count == REGISTRY_FILES_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "a model has at most %u files", REGISTRY_FILES_MAX);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return llm_fail(error, LLM_ERR_MEMORY, "no descriptor for %s", name);
    struct registry_file *file = &files->items[files->count++];
    snprintf(file->name, sizeof file->name, "%s", name);
    file->fd = copy;
    return LLM_OK;
}

static int find_file(const struct registry_model *model, const char *name)
{
    for (uint32_t i = 0; model->files && i < model->files->count; i++)
        if (strcmp(model->files->items[i].name, name) == 0)
            return model->files->items[i].fd;
    return -1;
}

enum llm_status registry_open_file(struct keeper *keeper, uint64_t id, const char *path,
                                   int *out_fd, struct llm_error *error)
{
    uint32_t slot = registry_find_id(&keeper->registry, id);
    if (id == 0 || slot == REGISTRY_SLOT_NONE)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "%s is asked for a model that is not loaded",
                        path);
    struct registry_model *model = &keeper->registry.models[slot];
    struct model_place place;
    enum llm_status status = model_place_from_path(model->path, &place, error);
    if (status != LLM_OK)
        return status;
    size_t bytes = strlen(place.directory);
    const char *name = path + bytes + 1;
    if (strncmp(path, place.directory, bytes) != 0 || path[bytes] != '/' || strchr(name, '/') ||
        (place.gguf[0] && !model_place_holds(&place, name)) ||
        strlen(name) >= sizeof((struct registry_file *)0)->name)
        return llm_fail(error, LLM_ERR_PERMISSION, "%s is not a file of model \"%s\"", path,
                        model->name);
    int held = find_file(model, name);
    if (held >= 0) {
        *out_fd = fcntl(held, F_DUPFD_CLOEXEC, 0);
        return *out_fd >= 0 ? LLM_OK
                            : llm_fail(error, LLM_ERR_MEMORY, "no descriptor for %s", path);
    }
    if (model->whole)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "%s was not there when the model was loaded",
                        path);
    status = model_roots_open_file(&keeper->roots, path, out_fd, error);
    if (status != LLM_OK)
        return status;
    status = remember(model, name, *out_fd, error);
    keeper->descriptors_changed = true;
    if (status != LLM_OK)
        close(*out_fd);
    return status;
}

/* ---- For the loader's part, and in time ------------------------------------------------------------ */

void registry_loaded(struct keeper *keeper, uint32_t slot, const char *why)
{
    struct registry_model *model = &keeper->registry.models[slot];
    if (model->state != LLM_MODEL_LOADING)
        return;
    if (why) {
        fail(keeper, slot, why);
        return;
    }
    model->whole = true;
    model->ended_ns = llm_now_ns();
    log_event(LOG_LEVEL_INFO, "loaded", log_text("name", model->name),
              log_count("version", model->version),
              log_count("ms", (model->ended_ns - model->begun_ns) / LLM_NS_PER_MS));
    set_state(keeper, slot, LLM_MODEL_LOADED);
}

uint64_t registry_idle_ns(const struct keeper *keeper, uint32_t slot, uint64_t now_ns)
{
    const struct registry_model *model = &keeper->registry.models[slot];
    const struct llm_status_model *row = &keeper->status->models[slot];
    bool counted = load(row->counted_id) == model->id;
    if (model->state != LLM_MODEL_READY || (counted && load(row->requests_live) > 0))
        return 0;
    uint64_t since_ns =
        counted && load(row->used_ns) > model->ready_ns ? load(row->used_ns) : model->ready_ns;
    return now_ns > since_ns ? now_ns - since_ns : 0;
}

static uint64_t unload_idle(struct keeper *keeper, uint64_t now_ns)
{
    uint64_t allowed_ns = keeper->config->models.idle_unload_s * LLM_NS_PER_S;
    uint64_t next_ns = UINT64_MAX;
    struct registry *registry = &keeper->registry;
    for (uint32_t slot = 0; allowed_ns > 0 && slot < LLM_MODELS_MAX; slot++) {
        const struct registry_model *model = &registry->models[slot];
        if (model->state != LLM_MODEL_READY || is_echo(model) ||
            model->id == registry->default_id || alias_of(registry, model->id))
            continue;
        uint64_t idle_ns = registry_idle_ns(keeper, slot, now_ns);
        if (idle_ns >= allowed_ns) {
            log_event(LOG_LEVEL_INFO, "unloading a model that nobody asks",
                      log_text("name", model->name), log_count("idle_s", idle_ns / LLM_NS_PER_S));
            unload(keeper, slot);
        } else if (now_ns + allowed_ns - idle_ns < next_ns) {
            next_ns = now_ns + allowed_ns - idle_ns;
        }
    }
    return next_ns;
}

static bool set_changed(const struct registry *registry)
{
    bool changed = registry->stale;
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++)
        changed |= in_set(&registry->models[slot]) && !registry->models[slot].told;
    return changed;
}

uint64_t registry_expire(struct keeper *keeper, uint64_t now_ns)
{
    const struct engine *engine = &keeper->engine;
    if (keeper->stopping)
        return UINT64_MAX;
    uint64_t next_ns = unload_idle(keeper, now_ns);
    if (engine->ready && !engine->stop_asked && set_changed(&keeper->registry)) {
        log_line(LOG_LEVEL_INFO, "the models have changed: the engine is replaced");
        engine_restart(keeper);
    }
    return next_ns;
}
