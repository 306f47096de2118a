/* What the registry shows: to clients, to the status file, to whoever asks by name. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/keeper/keeper.h"
#include "daemon/keeper/registry.h"
#include "shm/clock.h"
#include "shm/segment.h"

#define load(field) atomic_load_explicit(&(field), memory_order_relaxed)

/* ---- Finding --------------------------------------------------------------------------------------- */

bool registry_name_ok(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t bytes = strlen(name);
    return bytes >= 1 && bytes <= REGISTRY_NAME_MAX && strspn(name, allowed) == bytes;
}

uint32_t registry_find_id(const struct registry *registry, uint64_t id)
{
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++)
        if (registry->models[slot].state != LLM_MODEL_FREE && registry->models[slot].id == id)
            return slot;
    return REGISTRY_SLOT_NONE;
}

/* What its name alone may stand for. */
static bool takes_requests(const struct registry_model *model)
{
    return model->state == LLM_MODEL_READY || model->state == LLM_MODEL_LOADED;
}

bool registry_is_newest(const struct registry *registry, uint32_t slot)
{
    const struct registry_model *own = &registry->models[slot];
    for (uint32_t other = 0; other < LLM_MODELS_MAX; other++)
        if (takes_requests(&registry->models[other]) &&
            registry->models[other].version > own->version &&
            strcmp(registry->models[other].name, own->name) == 0)
            return false;
    return takes_requests(own);
}

static uint32_t find_version(const struct registry *registry, const char *name)
{
    const char *at = strrchr(name, '@');
    char number[12];
    for (uint32_t slot = 0; at && slot < LLM_MODELS_MAX; slot++) {
        const struct registry_model *model = &registry->models[slot];
        snprintf(number, sizeof number, "%u", model->version);
        if (model->state != LLM_MODEL_FREE && strcmp(at + 1, number) == 0 &&
            strlen(model->name) == (size_t)(at - name) &&
            strncmp(model->name, name, (size_t)(at - name)) == 0)
            return slot;
    }
    return REGISTRY_SLOT_NONE;
}

uint32_t registry_find(const struct registry *registry, const char *name)
{
    if (name[0] == '\0')
        return registry_find_id(registry, registry->default_id);
    for (uint32_t i = 0; i < registry->alias_count; i++)
        if (strcmp(registry->aliases[i].name, name) == 0)
            return registry_find_id(registry, registry->aliases[i].model_id);
    uint32_t only = REGISTRY_SLOT_NONE;
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++) {
        const struct registry_model *model = &registry->models[slot];
        if (model->state == LLM_MODEL_FREE || strcmp(model->name, name) != 0)
            continue;
        if (registry_is_newest(registry, slot))
            return slot;
        only = slot; /* loading, failed or draining: better than nothing */
    }
    return only != REGISTRY_SLOT_NONE ? only : find_version(registry, name);
}

bool registry_memory_name(const struct registry *registry, const char *asked,
                          char out_name[CHANNEL_NAME_BYTES])
{
    static const char *const kinds[] = {"vocab", "plan"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t bytes = strlen(kinds[i]);
        if (strncmp(asked, kinds[i], bytes) != 0 || (asked[bytes] != '\0' && asked[bytes] != '/'))
            continue;
        uint32_t slot = registry_find(registry, asked[bytes] ? asked + bytes + 1 : "");
        if (slot == REGISTRY_SLOT_NONE)
            return false;
        snprintf(out_name, CHANNEL_NAME_BYTES, "%s/%llu", kinds[i],
                 (unsigned long long)registry->models[slot].id);
        return true;
    }
    return false;
}

uint32_t registry_descriptors(const struct registry *registry)
{
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++)
        count += registry->models[slot].files ? registry->models[slot].files->count : 0;
    return count;
}

/* ---- The status file ------------------------------------------------------------------------------- */

void registry_show(const struct keeper *keeper, uint32_t slot)
{
    const struct registry_model *model = &keeper->registry.models[slot];
    struct llm_status_model *row = &keeper->status->models[slot];
    bool there = model->state != LLM_MODEL_FREE;
    if (!there || load(row->model_id) != model->id) {
        atomic_store_explicit(&row->model_id, 0, memory_order_relaxed);
        row->version = model->version;
        snprintf(row->name, sizeof row->name, "%s", model->name);
    }
    atomic_store_explicit(&row->state, (uint32_t)model->state, memory_order_relaxed);
    if (there)
        atomic_store_explicit(&row->model_id, model->id, memory_order_release);
}

/* ---- The image ------------------------------------------------------------------------------------- */

/* Pages of its weights that were written: the loader's progress, without a word from it. */
static void fill_weights(const struct keeper *keeper, struct llm_model_record *record)
{
    char name[CHANNEL_NAME_BYTES];
    struct stat stat;
    snprintf(name, sizeof name, "weights/%llu", (unsigned long long)record->id);
    for (int i = 0; i < MEMORIES_MAX; i++) {
        const struct memory *memory = &keeper->memories.items[i];
        if (strcmp(memory->name, name) != 0)
            continue;
        record->weights_bytes = record->loaded_bytes = memory->bytes;
        if (record->state == LLM_MODEL_LOADING && fstat(memory->fd, &stat) == 0 &&
            (uint64_t)stat.st_blocks * 512 < memory->bytes)
            record->loaded_bytes = (uint64_t)stat.st_blocks * 512;
    }
}

/* The engine's numbers, where they are this load's. */
static void fill_use(const struct llm_status_model *row, const struct registry_model *model,
                     struct llm_model_record *record)
{
    if (atomic_load_explicit(&row->counted_id, memory_order_acquire) != model->id)
        return;
    record->context_tokens = load(row->context_tokens);
    record->requests_live = load(row->requests_live);
    record->requests = load(row->requests);
    record->workspace_bytes = load(row->workspace_bytes);
    memcpy(record->text, row->text, sizeof record->text);
    record->text[sizeof record->text - 1] = '\0';
}

static void fill_record(const struct keeper *keeper, uint32_t slot, bool administrator,
                        struct llm_model_record *record)
{
    const struct registry *registry = &keeper->registry;
    const struct registry_model *model = &registry->models[slot];
    uint64_t now_ns = llm_now_ns();
    *record = (struct llm_model_record){
        .id = model->id,
        .slot = slot,
        .version = model->version,
        .state = (uint32_t)model->state,
        .flags = (model->id == registry->default_id ? (uint32_t)LLM_MODEL_DEFAULT : 0) |
                 (registry_is_newest(registry, slot) ? (uint32_t)LLM_MODEL_NEWEST : 0),
        .load_ns = model->begun_ns == 0
                       ? 0
                       : (model->ended_ns ? model->ended_ns : now_ns) - model->begun_ns,
        .idle_ns = registry_idle_ns(keeper, slot, now_ns),
    };
    memcpy(record->name, model->name, sizeof record->name);
    memcpy(record->reason, model->reason, sizeof record->reason);
    if (administrator)
        snprintf(record->path, sizeof record->path, "%.*s", (int)sizeof record->path - 1,
                 model->path);
    fill_use(&keeper->status->models[slot], model, record);
    fill_weights(keeper, record);
}

static void fill_image(const struct keeper *keeper, bool administrator,
                       struct llm_models_image *image)
{
    const struct registry *registry = &keeper->registry;
    image->magic = LLM_MODELS_MAGIC;
    for (uint32_t slot = 0; slot < LLM_MODELS_MAX; slot++)
        if (registry->models[slot].state != LLM_MODEL_FREE)
            fill_record(keeper, slot, administrator, &image->models[image->model_count++]);
    image->alias_count = registry->alias_count;
    memcpy(image->aliases, registry->aliases, sizeof image->aliases);
    image->names_number = registry->names_number;
    image->names_settled =
        atomic_load_explicit(&keeper->status->engine.names_settled, memory_order_acquire);
}

enum llm_status registry_image(const struct keeper *keeper, bool administrator, int *out_fd,
                               struct llm_error *error)
{
    void *image;
    int fd;
    enum llm_status status =
        llm_segment_create_draft(LLM_MODELS_MEMORY, sizeof(struct llm_models_image), &fd, error);
    if (status != LLM_OK)
        return status;
    image = mmap(NULL, sizeof(struct llm_models_image), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (image == MAP_FAILED) {
        close(fd);
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for the list of models");
    }
    fill_image(keeper, administrator, image);
    munmap(image, sizeof(struct llm_models_image));
    status = llm_segment_publish(fd, error);
    if (status == LLM_OK)
        status = llm_segment_reopen_readonly(fd, out_fd, error);
    close(fd);
    return status;
}
