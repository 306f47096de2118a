#include "daemon/engine/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/report.h"
#include "daemon/log.h"
#include "shm/check.h"
#include "shm/crash_point.h"

#define SLAB_BYTES           (UINT64_C(2) << 20)
#define BLOCK_TOKENS_ROOM    64u /* no model of this build has larger blocks */
#define ECHO_SLAB_BLOCKS     8
#define CONTEXT_TOKENS_LEAST 16u
#define GEOMETRY_NAME        "geometry"
#define GEOMETRY_COMPLETE    UINT64_C(0x4d4f45474d4c4c01)

void models_note(struct models *models, const struct channel_message *message)
{
    CHECK(message->model.slot < ENGINE_MODELS_MAX && message->model.id != 0);
    struct model_spec *spec = &models->specs[message->model.slot];
    spec->model = message->model;
    snprintf(spec->name, sizeof spec->name, "%.*s", LLM_NAME_BYTES - 1, message->name);
    memcpy(spec->path, message->path, sizeof spec->path);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static bool is_echo(const struct model_spec *spec)
{
    return strcmp(spec->path, EXECUTOR_ECHO_NAME) == 0;
}

static enum llm_status open_spec(struct engine *engine, const struct model_spec *spec,
                                 struct executor **out_executor, struct llm_error *error)
{
    if (spec->model.id == 0)
        return executor_absent_open(out_executor, spec->model.slot, error);
    if (!is_echo(spec))
        return executor_model_open(out_executor, engine, spec, error);
    return executor_echo_open(out_executor, (uint32_t)engine->config.models.echo_context_tokens,
                              engine->config.models.echo_step_us, error);
}

static void say_failed(struct engine *engine, const struct model_spec *spec, const char *why)
{
    struct llm_error error;
    log_event(LOG_LEVEL_ERROR, "a model cannot be served", log_text("name", spec->name),
              log_count("version", spec->model.version), log_text("reason", why));
    if (link_say_model(&engine->link, CHANNEL_MODEL_FAILED, spec->model.id, why, &error) != LLM_OK)
        engine->stopping = true; /* no keeper, no engine */
}

static void identify(struct executor *executor, const struct model_spec *spec)
{
    executor->model_id = spec->model.id;
    executor->version = spec->model.version;
    executor->facts.identity[CORE_IDENTITY_WORDS - 2] ^= (uint32_t)spec->model.id;
    executor->facts.identity[CORE_IDENTITY_WORDS - 3] ^= (uint32_t)(spec->model.id >> 32);
}

/* What keeps a model that is well in itself out of this daemon's pool; NULL: nothing. */
static enum llm_status check_room(const struct models_geometry *geometry,
                                  const struct executor_facts *facts, struct llm_error *error)
{
    if (facts->block_bytes > geometry->slab_bytes)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "its KV blocks have %zu bytes, a slab of the pool has %llu: load it at the "
                        "start (models.load)",
                        facts->block_bytes, (unsigned long long)geometry->slab_bytes);
    if (facts->block_tokens > geometry->block_tokens_max)
        return llm_fail(error, LLM_ERR_LIMIT,
                        "its KV blocks have %u tokens, at most %u are possible",
                        facts->block_tokens, geometry->block_tokens_max);
    return LLM_OK;
}

static enum llm_status put_absent(struct engine *engine, uint32_t slot, struct llm_error *error)
{
    struct executor *old = engine->executors[slot];
    enum llm_status status = executor_absent_open(&engine->executors[slot], slot, error);
    if (old && status == LLM_OK)
        old->ops->close(old);
    return status;
}

/* What the geometry does not allow is said by the model's name; a longer context than the tables' is cut. */
static enum llm_status fit_all(struct engine *engine, struct llm_error *error)
{
    const struct models_geometry *geometry = engine->models.geometry;
    for (uint32_t slot = 0; slot < engine->executor_count; slot++) {
        struct executor *executor = engine->executors[slot];
        enum llm_status status = check_room(geometry, &executor->facts, error);
        if (status != LLM_OK) {
            if (engine->models.specs[slot].model.flags & CHANNEL_MODEL_REQUIRED)
                return status;
            say_failed(engine, &engine->models.specs[slot], error->message);
            status = put_absent(engine, slot, error);
            if (status != LLM_OK)
                return status;
        } else if (executor->facts.context_tokens_max > geometry->context_tokens_max) {
            executor->facts.context_tokens_max = geometry->context_tokens_max;
        }
    }
    return LLM_OK;
}

static enum llm_status open_all(struct engine *engine, struct llm_error *error)
{
    for (uint32_t slot = 0; slot < ENGINE_MODELS_MAX; slot++)
        if (engine->models.specs[slot].model.id != 0)
            engine->executor_count = slot + 1;
    if (engine->executor_count == 0)
        return llm_fail(error, LLM_ERR_INVALID, "the keeper named no model");
    for (uint32_t slot = 0; slot < engine->executor_count; slot++) {
        const struct model_spec *spec = &engine->models.specs[slot];
        enum llm_status status = open_spec(engine, spec, &engine->executors[slot], error);
        if (status != LLM_OK && !(spec->model.flags & CHANNEL_MODEL_REQUIRED)) {
            say_failed(engine, spec, error->message);
            status = put_absent(engine, slot, error);
        } else if (status == LLM_OK && spec->model.id != 0) {
            identify(engine->executors[slot], spec);
        }
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

/* ---- The geometry ---------------------------------------------------------------------------------- */

static bool is_real(const struct executor *executor)
{
    return executor->model_id != 0 && executor->facts.weight_bytes > 0;
}

/* The models decide; the echo, which has nothing in its blocks, only where there is no other. */
static void lay_out(const struct engine *engine, struct models_geometry *geometry)
{
    bool any_real = false;
    geometry->slab_bytes = SLAB_BYTES;
    geometry->block_tokens_max = BLOCK_TOKENS_ROOM;
    geometry->context_tokens_max = CONTEXT_TOKENS_LEAST;
    if (engine->config.limits.context_tokens > CONTEXT_TOKENS_LEAST)
        geometry->context_tokens_max = (uint32_t)engine->config.limits.context_tokens;
    for (uint32_t model = 0; model < engine->executor_count; model++) {
        const struct executor_facts *facts = &engine->executors[model]->facts;
        uint64_t needed = (facts->block_bytes + 63) / 64 * 64;
        geometry->slab_bytes = needed > geometry->slab_bytes ? needed : geometry->slab_bytes;
        if (facts->block_tokens > geometry->block_tokens_max)
            geometry->block_tokens_max = facts->block_tokens;
        if (engine->config.limits.context_tokens == 0 &&
            facts->context_tokens_max > geometry->context_tokens_max)
            geometry->context_tokens_max = facts->context_tokens_max;
        any_real |= is_real(engine->executors[model]);
    }
    geometry->slab_blocks = 1;
    for (uint32_t model = 0; model < engine->executor_count; model++) {
        const struct executor *executor = engine->executors[model];
        uint64_t blocks = geometry->slab_bytes / executor->facts.block_bytes;
        if (executor->model_id != 0 && is_real(executor) == any_real &&
            blocks > geometry->slab_blocks)
            geometry->slab_blocks = (uint32_t)blocks;
    }
}

static enum llm_status open_geometry(struct engine *engine, struct llm_error *error)
{
    void *address;
    bool kept;
    enum llm_status status = kept_take(&engine->kept, GEOMETRY_NAME, sizeof(struct models_geometry),
                                       &address, &kept, error);
    if (status != LLM_OK)
        return status;
    struct models_geometry *geometry = address;
    engine->models.geometry = geometry;
    if (atomic_load_explicit(&geometry->complete, memory_order_acquire) == GEOMETRY_COMPLETE)
        return LLM_OK;
    lay_out(engine, geometry);
    CRASH_POINT(geometry_fields);
    atomic_store_explicit(&geometry->complete, GEOMETRY_COMPLETE, memory_order_release);
    CRASH_POINT(geometry_complete);
    return LLM_OK;
}

uint32_t models_slab_blocks(const struct engine *engine, uint32_t model)
{
    const struct models_geometry *geometry = engine->models.geometry;
    const struct executor *executor = engine->executors[model];
    uint64_t blocks = geometry->slab_bytes / executor->facts.block_bytes;
    if (model > 0 && !is_real(executor) && blocks > ECHO_SLAB_BLOCKS)
        blocks = ECHO_SLAB_BLOCKS;
    return (uint32_t)(blocks < geometry->slab_blocks ? blocks : geometry->slab_blocks);
}

enum llm_status models_open(struct engine *engine, struct llm_error *error)
{
    engine->models.names = engine->link.names;
    enum llm_status status = open_all(engine, error);
    if (status == LLM_OK)
        status = open_geometry(engine, error);
    if (status == LLM_OK)
        status = fit_all(engine, error);
    return status;
}

void models_close(struct engine *engine)
{
    for (uint32_t model = 0; model < engine->executor_count; model++)
        engine->executors[model]->ops->close(engine->executors[model]);
}

/* ---- Names ----------------------------------------------------------------------------------------- */

uint32_t models_of_id(const struct engine *engine, uint64_t id)
{
    for (uint32_t model = 0; model < engine->executor_count && id != 0; model++)
        if (engine->executors[model]->model_id == id)
            return model;
    return UINT32_MAX;
}

const struct executor *models_default(const struct engine *engine)
{
    uint32_t model = models_of_id(engine, engine->models.names.default_id);
    return engine->executors[model == UINT32_MAX ? 0 : model];
}

static bool is_draining(const struct engine *engine, uint32_t model)
{
    return (engine->models.names.draining_slots >> model & 1) != 0;
}

/* "name@12": how many bytes the name has, and 12. Without a version: all of them, and 0. */
static size_t split_version(const char *name, uint32_t *out_version)
{
    const char *at = strrchr(name, '@');
    *out_version = 0;
    if (!at || at[1] < '1' || at[1] > '9' || strspn(at + 1, "0123456789") != strlen(at + 1) ||
        strlen(at + 1) > 9)
        return strlen(name);
    *out_version = (uint32_t)strtoul(at + 1, NULL, 10);
    return (size_t)(at - name);
}

/* The newest that takes requests, or the one of that version; UINT32_MAX: none. */
static uint32_t find_name(const struct engine *engine, const char *name)
{
    uint32_t version, best = UINT32_MAX;
    size_t bytes = split_version(name, &version);
    for (uint32_t model = 0; model < engine->executor_count; model++) {
        const struct executor *executor = engine->executors[model];
        if (executor->absent || strlen(executor->facts.name) != bytes ||
            strncmp(executor->facts.name, name, bytes) != 0)
            continue;
        bool newer = best == UINT32_MAX || executor->version > engine->executors[best]->version;
        if (version == 0 ? newer && !is_draining(engine, model) : executor->version == version)
            best = model;
    }
    return best;
}

static uint32_t find_alias(const struct engine *engine, const char *name)
{
    const struct channel_names *names = &engine->models.names;
    for (uint32_t i = 0; i < names->alias_count; i++)
        if (strcmp(names->aliases[i].name, name) == 0)
            return models_of_id(engine, names->aliases[i].model_id);
    return UINT32_MAX;
}

enum llm_status models_admit(const struct engine *engine, uint32_t model, struct llm_error *error)
{
    if (!is_draining(engine, model))
        return LLM_OK;
    return llm_fail(error, LLM_ERR_BUSY,
                    "model \"%s@%u\" is being unloaded and takes no new requests",
                    engine->executors[model]->facts.name, engine->executors[model]->version);
}

enum llm_status engine_find_model(const struct engine *engine, const char *name,
                                  uint32_t *out_model, struct llm_error *error)
{
    uint32_t model = find_alias(engine, name);
    if (name[0] == '\0')
        model = engine->models.names.number == 0
                    ? 0
                    : models_of_id(engine, engine->models.names.default_id);
    else if (model == UINT32_MAX)
        model = find_name(engine, name);
    if (model == UINT32_MAX)
        return name[0] == '\0'
                   ? llm_fail(error, LLM_ERR_NOT_FOUND, "the default model is not loaded")
                   : llm_fail(error, LLM_ERR_NOT_FOUND, "model \"%s\" is not loaded", name);
    enum llm_status status = models_admit(engine, model, error);
    if (status == LLM_OK)
        *out_model = model;
    return status;
}

void models_rename(struct engine *engine, const struct channel_names *names)
{
    engine->models.names = *names;
    engine->models.idle_told &= names->draining_slots;
    report_names(engine);
}

/* ---- Unloading ------------------------------------------------------------------------------------- */

void models_settle(struct engine *engine)
{
    uint32_t untold = engine->models.names.draining_slots & ~engine->models.idle_told;
    for (uint32_t model = 0; untold != 0 && model < engine->executor_count; model++) {
        struct llm_error error;
        if (!(untold >> model & 1) || engine->executors[model]->live > 0)
            continue;
        engine->models.idle_told |= 1u << model;
        if (link_say_model(&engine->link, CHANNEL_MODEL_IDLE, engine->executors[model]->model_id,
                           "", &error) != LLM_OK)
            engine->stopping = true; /* no keeper, no engine */
    }
}
