#include "daemon/engine/loading.h"

#include <sodium.h>
#include <unistd.h>

#include "daemon/log.h"
#include "kernels/kernels.h"
#include "shm/crash_point.h"

#define NICENESS 5 /* the engine that serves comes first */

static void note(void *self, const struct channel_message *message, int fd)
{
    struct engine *engine = self;
    if (message->kind == CHANNEL_MODEL)
        models_note(&engine->models, message);
    else if (fd >= 0)
        close(fd); /* nothing is kept for a model that was never loaded */
}

static const struct model_spec *only_spec(const struct models *models)
{
    for (uint32_t slot = 0; slot < ENGINE_MODELS_MAX; slot++)
        if (models->specs[slot].model.id != 0)
            return &models->specs[slot];
    return NULL;
}

static enum llm_status load(struct engine *engine, struct llm_error *error)
{
    const struct model_spec *spec = only_spec(&engine->models);
    struct executor *executor;
    if (!spec)
        return llm_fail(error, LLM_ERR_INVALID, "the keeper named no model to load");
    enum llm_status status = executor_model_open(&executor, engine, spec, error);
    if (status != LLM_OK)
        return status;
    log_event(LOG_LEVEL_INFO, "loaded", log_text("name", executor->facts.name),
              log_count("version", spec->model.version), log_text("text", executor->facts.text));
    executor->ops->close(executor);
    return LLM_OK;
}

enum llm_status loading_run(struct engine *engine, int channel, const struct config *config,
                            struct llm_error *error)
{
    engine->config = *config;
    engine->kept.link = &engine->link;
    if (sodium_init() < 0)
        return llm_fail(error, LLM_ERR_SYSTEM, "libsodium cannot start");
    if (nice(NICENESS) == -1)
        log_line(LOG_LEVEL_DEBUG, "the loader runs with the engine's priority");
    enum llm_status status = link_open(&engine->link, channel, error);
    if (status == LLM_OK)
        status = link_read_manifest(&engine->link, note, engine, &engine->generation, error);
    if (status == LLM_OK)
        status = load(engine, error);
    kernel_stream_close(engine->stream);
    if (status == LLM_OK)
        status = link_say(&engine->link, CHANNEL_READY, 0, engine->generation, "", error);
    return status;
}
