#include "daemon/engine/engine.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/config_check.h"
#include "daemon/engine/publish.h"
#include "daemon/engine/recovery.h"
#include "daemon/engine/report.h"
#include "daemon/log.h"
#include "daemon/machine.h"
#include "kernels/kernels.h"
#include "shm/check.h"
#include "shm/clock.h"
#include "shm/crash_point.h"

#define POOL_BYTES_MAX  (UINT64_C(4) << 30) /* of the default; a configured pool may be larger */
#define CHAIN_KEY_NAME  "kvkey"
#define CHAIN_KEY_BYTES 32

/* ---- The manifest ---------------------------------------------------------------------------------- */

static void keep(void *self, const struct channel_message *message, int fd)
{
    struct engine *engine = self;
    if (message->kind == CHANNEL_MODEL)
        models_note(&engine->models, message);
    else
        kept_add(&engine->kept, message->name, fd, message->bytes, message->flags);
}

static enum llm_status read_manifest(struct engine *engine, int channel, struct llm_error *error)
{
    void *ctl = NULL, *status_file = NULL;
    enum llm_status status = link_open(&engine->link, channel, error);
    engine->kept.link = &engine->link;
    if (status == LLM_OK)
        status = link_read_manifest(&engine->link, keep, engine, &engine->generation, error);
    log_set_generation(engine->generation);
    if (status == LLM_OK)
        status = kept_map(&engine->kept, CHANNEL_NAME_CTL, &ctl, error);
    if (status == LLM_OK)
        status = kept_map(&engine->kept, CHANNEL_NAME_STATUS, &status_file, error);
    engine->ctl = ctl;
    engine->status = status_file;
    return status;
}

/* ---- The pool -------------------------------------------------------------------------------------- */

static uint64_t pool_bytes_wanted(const struct engine *engine)
{
    if (engine->config.kv.pool_bytes > 0)
        return engine->config.kv.pool_bytes;
    uint64_t quarter = machine_memory_bytes() / 4;
    return quarter < POOL_BYTES_MAX ? quarter : POOL_BYTES_MAX;
}

/* A pool that an earlier engine left keeps its size: how much memory is free now is not asked again. */
static enum llm_status open_pool(struct engine *engine, struct executor_pool *out_pool,
                                 uint32_t *out_slab_count, bool *out_kept, struct llm_error *error)
{
    const struct kept_memory *old = kept_find(&engine->kept, ENGINE_POOL_NAME);
    uint64_t slab = engine->models.geometry->slab_bytes;
    uint64_t slabs = (old ? old->bytes : pool_bytes_wanted(engine)) / slab;
    if (slabs == 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "kv.pool_bytes = %llu is smaller than one slab of %llu",
                        (unsigned long long)engine->config.kv.pool_bytes, (unsigned long long)slab);
    if (slabs > UINT32_MAX / 1024)
        slabs = UINT32_MAX / 1024;
    void *base;
    enum llm_status status =
        kept_take(&engine->kept, ENGINE_POOL_NAME, slabs * slab, &base, out_kept, error);
    if (status != LLM_OK)
        return status;
    madvise(base, slabs * slab, MADV_DONTDUMP);
    kept_advise_huge(base, slabs * slab);
    out_pool->base = base;
    out_pool->slab_bytes = slab;
    *out_slab_count = (uint32_t)slabs;
    return LLM_OK;
}

/* ---- The core -------------------------------------------------------------------------------------- */

struct chain_key {
    _Atomic uint64_t complete; /* 1: `bytes` are whole */
    unsigned char bytes[CHAIN_KEY_BYTES];
};

static enum llm_status open_chain_key(struct engine *engine, struct llm_error *error)
{
    void *address;
    bool kept;
    enum llm_status status =
        kept_take(&engine->kept, CHAIN_KEY_NAME, sizeof(struct chain_key), &address, &kept, error);
    if (status != LLM_OK)
        return status;
    struct chain_key *key = address;
    if (atomic_load_explicit(&key->complete, memory_order_acquire) != 1) {
        if (getrandom(key->bytes, sizeof key->bytes, 0) != (ssize_t)sizeof key->bytes)
            return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "no random numbers");
        CRASH_POINT(key_bytes);
        atomic_store_explicit(&key->complete, 1, memory_order_release);
        CRASH_POINT(key_complete);
    }
    engine->chain_key = key->bytes;
    return LLM_OK;
}

/* BLAKE2b, keyed, 128 bits: https://doc.libsodium.org/hashing/generic_hashing */
static void chain_hash(void *self, const uint8_t parent[CHAIN_BYTES], const uint32_t *ids,
                       uint32_t count, uint8_t out[CHAIN_BYTES])
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, self, CHAIN_KEY_BYTES, CHAIN_BYTES);
    crypto_generichash_update(&state, parent, CHAIN_BYTES);
    crypto_generichash_update(&state, (const unsigned char *)ids, count * sizeof *ids);
    crypto_generichash_final(&state, out, CHAIN_BYTES);
}

static struct core_model core_model_of(const struct executor *executor, uint32_t slab_blocks)
{
    struct core_model model = {
        .block_tokens = executor->facts.block_tokens,
        .slab_blocks = slab_blocks,
        .context_tokens_max = executor->facts.context_tokens_max,
    };
    memcpy(model.identity, executor->facts.identity, sizeof model.identity);
    return model;
}

static struct core_config core_config_of(const struct engine *engine, uint32_t slab_count,
                                         const struct core_model *models)
{
    uint32_t requests = engine->tables.request_slots;
    uint32_t sequences = (uint32_t)engine->config.limits.sequences;
    uint32_t of_user = (uint32_t)engine->config.limits.sequences_per_user;
    uint32_t step_tokens = (uint32_t)engine->config.limits.step_tokens;
    sequences = sequences < requests ? sequences : requests;
    return (struct core_config){
        .models = models,
        .model_count = engine->executor_count,
        .slab_count = slab_count,
        .slab_blocks_max = engine->models.geometry->slab_blocks,
        .request_slots = requests,
        .running_max = sequences,
        .user_running_max = of_user < sequences ? of_user : sequences,
        .step_tokens = step_tokens,
        .queued_max = requests,
        .user_queued_max = requests,
        .hold_slots = engine->tables.context_slots,
        .ids = engine->tables.ids,
        .ids_stride_words = 2 * (size_t)engine->tables.context_tokens_max,
        .score_rows = EXECUTOR_SCORE_ROWS < step_tokens ? EXECUTOR_SCORE_ROWS : step_tokens,
        .hash = {.hash = chain_hash, .self = engine->chain_key},
    };
}

static enum llm_status open_core(struct engine *engine, const struct core_config *config,
                                 struct llm_error *error)
{
    size_t bytes = 0;
    enum llm_status status = core_bytes(config, &bytes, error);
    if (status != LLM_OK)
        return status;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return llm_fail_errno(error, LLM_ERR_MEMORY, errno, "no memory for the core (%zu bytes)",
                              bytes);
    return core_open(config, memory, bytes, &engine->core, error);
}

static enum llm_status open_pool_and_core(struct engine *engine, struct llm_error *error)
{
    struct executor_pool pool = {0};
    struct core_model models[ENGINE_MODELS_MAX];
    uint32_t slab_count = 0;
    bool kept = false;
    enum llm_status status = open_pool(engine, &pool, &slab_count, &kept, error);
    if (status == LLM_OK)
        status = open_chain_key(engine, error);
    if (status != LLM_OK)
        return status;
    pool.slab_blocks = engine->models.geometry->slab_blocks;
    for (uint32_t model = 0; model < engine->executor_count; model++)
        models[model] = core_model_of(engine->executors[model], models_slab_blocks(engine, model));
    struct core_config config = core_config_of(engine, slab_count, models);
    status = open_core(engine, &config, error);
    if (status != LLM_OK)
        return status;
    pool.block_count = core_blocks(engine->core);
    for (uint32_t model = 0; model < engine->executor_count; model++)
        engine->executors[model]->ops->set_pool(engine->executors[model], &pool);
    return tables_open_blocks(&engine->tables, &engine->kept, pool.block_count,
                              engine->models.geometry->block_tokens_max, kept, error);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static enum llm_status take_arrays(struct engine *engine, struct llm_error *error)
{
    uint32_t sequences = (uint32_t)engine->config.limits.sequences;
    engine->connections = calloc(LLM_STATUS_CONNECTIONS_MAX, sizeof *engine->connections);
    engine->requests = calloc(engine->tables.request_slots, sizeof *engine->requests);
    engine->choices = calloc(sequences, sizeof *engine->choices);
    engine->results = calloc(sequences, sizeof *engine->results);
    engine->scores = calloc(engine->config.limits.step_tokens, sizeof *engine->scores);
    engine->tops =
        calloc(engine->config.limits.step_tokens * LLM_TOP_LOGPROBS_MAX, sizeof *engine->tops);
    if (!engine->connections || !engine->requests || !engine->choices || !engine->results ||
        !engine->scores || !engine->tops)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %u requests",
                        engine->tables.request_slots);
    return LLM_OK;
}

static void log_model(const struct executor *executor)
{
    const struct executor_facts *facts = &executor->facts;
    log_event(LOG_LEVEL_INFO, "model", log_text("name", facts->name),
              log_count("version", executor->version), log_text("text", facts->text),
              log_text("weights", facts->weight_bytes == 0 ? "none"
                                  : facts->weights_kept    ? "kept"
                                                           : "read"),
              log_text("backend", facts->backend_text),
              log_count("context_tokens", facts->context_tokens_max));
}

static void log_models(const struct engine *engine)
{
    for (uint32_t model = 0; model < engine->executor_count; model++) {
        const struct executor *executor = engine->executors[model];
        if (executor == models_default(engine) || executor->facts.weight_bytes > 0)
            log_model(executor);
    }
}

static void log_memory(const struct engine *engine)
{
    const struct executor_facts *facts = &models_default(engine)->facts;
    const struct kept_memory *pool = kept_find(&engine->kept, ENGINE_POOL_NAME);
    log_line(LOG_LEVEL_INFO,
             "memory MiB: weights %.1f, workspace %.1f, KV pool %.1f (%u blocks of %u tokens), "
             "requests %.1f, each client %.1f",
             (double)facts->weight_bytes / 1048576.0, (double)facts->workspace_bytes / 1048576.0,
             (double)pool->bytes / 1048576.0, engine->tables.block_count, facts->block_tokens,
             (double)engine->tables.request_slots * 8 * engine->tables.context_tokens_max /
                 1048576.0,
             (double)(llm_up_map(&engine->status->keeper.geometry).total_bytes +
                      llm_down_map(&engine->status->keeper.geometry).total_bytes) /
                 1048576.0);
}

static enum llm_status open_parts(struct engine *engine, struct llm_error *error)
{
    enum llm_status status = config_limits_fit(&engine->config, error);
    if (status == LLM_OK)
        status =
            users_open(&engine->users,
                       contexts_count_max(engine) + rows_needed(contexts_count_max(engine)), error);
    if (status == LLM_OK)
        status = models_open(engine, error);
    if (status == LLM_OK)
        status = tables_open_requests(&engine->tables, &engine->kept,
                                      (uint32_t)engine->config.limits.requests,
                                      engine->models.geometry->context_tokens_max, error);
    if (status == LLM_OK)
        status = tables_open_contexts(&engine->tables, &engine->kept, contexts_count_max(engine),
                                      rows_needed(contexts_count_max(engine)), error);
    if (status == LLM_OK)
        status = open_pool_and_core(engine, error);
    if (status == LLM_OK)
        status = take_arrays(engine, error);
    if (status == LLM_OK)
        status = contexts_open(engine, error);
    if (status == LLM_OK)
        status = parking_open(&engine->parking, engine->link.socket, error);
    if (status == LLM_OK)
        status = egress_open(&engine->egress, engine->connections,
                             &engine->status->engine.counters[LLM_COUNTER_WAKES], error);
    return status;
}

enum llm_status engine_open(struct engine *engine, int channel, const struct config *config,
                            struct llm_error *error)
{
    *engine = (struct engine){.config = *config,
                              .trial_slot = REQUEST_NONE,
                              .next_request_id = 1,
                              .next_deadline_ns = UINT64_MAX};
    if (sodium_init() < 0)
        return llm_fail(error, LLM_ERR_SYSTEM, "libsodium cannot start");
    uint64_t started_ns = llm_now_ns();
    enum llm_status status = read_manifest(engine, channel, error);
    if (status == LLM_OK)
        status = open_parts(engine, error);
    if (status == LLM_OK)
        status = recovery_adopt_blocks(engine, error);
    if (status != LLM_OK)
        return status;
    report_opened(engine);
    report_on_failed_check(engine);
    contexts_recover(engine);
    connections_take_news(engine, UINT32_MAX);
    recovery_resume_requests(engine);
    contexts_settle(engine);
    publish_announce(engine);
    egress_flush(&engine->egress, true);
    log_models(engine);
    if (engine->generation == 1)
        log_memory(engine);
    report_ready(engine, llm_now_ns() - started_ns);
    return LLM_OK;
}

enum llm_status engine_ready(struct engine *engine, struct llm_error *error)
{
    enum llm_status status =
        link_say(&engine->link, CHANNEL_READY, 0, engine->generation, "", error);
    CRASH_POINT(ready_told);
    return status;
}

void engine_close(struct engine *engine)
{
    recovery_absolve(engine);
    egress_close(&engine->egress);
    models_close(engine);
    kernel_stream_close(engine->stream);
    parking_close(&engine->parking);
    contexts_close(engine);
    users_close(&engine->users);
}
