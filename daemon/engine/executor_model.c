#include "daemon/engine/executor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/plan_text.h"
#include "daemon/engine/vocabulary.h"
#include "daemon/log.h"
#include "daemon/model/generation_config.h"
#include "daemon/model/model.h"
#include "daemon/model/model_place.h"
#include "daemon/sample/sampler.h"
#include "kernels/kernels.h"
#include "shm/check.h"

/* What a row of logits is for. */
struct wanted {
    uint32_t sequence; /* its index in the plan */
    uint32_t row;      /* of the plan */
    bool score;        /* the next id is known: how likely was it? Else choose one */
};

struct executor_model {
    struct executor base;
    struct model *model;
    struct sampler sampler;
    struct kernel_kv kv; /* the pool in this model's geometry */
    struct llm_vocab_view vocab;
    /* one step's batch */
    int32_t *token_ids;                /* [step_tokens] */
    struct kernel_sequence *sequences; /* [sequences] */
    int32_t *logits_rows;              /* [logits_rows_max()] */
    struct wanted *wanted;             /* [logits_rows_max()] what logits row i is for */
    float *logits;                     /* [logits_rows_max(), V] */
};

/* ---- Files and memory, through the keeper ---------------------------------------------------------- */

struct opening {
    struct engine *engine;
    const struct model_spec *spec;
    struct model_place place;
};

static enum llm_status open_file(void *self, const char *name, int *out_fd, struct llm_error *error)
{
    const struct opening *opening = self;
    if (!model_file_name_ok(name))
        return llm_fail(error, LLM_ERR_INVALID, "\"%s\" is not a file name", name);
    const struct model_place *place = &opening->place;
    if (place->gguf[0] && !model_place_holds(place, name))
        return llm_fail(error, LLM_ERR_NOT_FOUND, "the model is the file %s alone", place->gguf);
    struct channel_message question = {.kind = CHANNEL_OPEN, .model = opening->spec->model};
    int used = snprintf(question.path, sizeof question.path, "%s/%s", place->directory, name);
    if (used < 0 || (size_t)used >= sizeof question.path)
        return llm_fail(error, LLM_ERR_INVALID, "path %s/%s is too long", place->directory, name);
    return link_ask(&opening->engine->link, &question, out_fd, error);
}

/* Then what is in memory counts; files that were written to since are not read again. */
static bool is_loaded(const struct model_spec *spec)
{
    return (spec->model.flags & CHANNEL_MODEL_LOADED) != 0;
}

static enum llm_status take_memory(void *self, const char *name, size_t bytes, void **out_address,
                                   bool *out_kept, struct llm_error *error)
{
    const struct opening *opening = self;
    struct kept *kept = &opening->engine->kept;
    char own[CHANNEL_NAME_BYTES]; /* each load has its own */
    snprintf(own, sizeof own, "%s/%llu", name, (unsigned long long)opening->spec->model.id);
    const struct kept_memory *there = kept_find(kept, own);
    if (is_loaded(opening->spec) && (!there || there->bytes != bytes))
        return model_memory_changed(error);
    enum llm_status status = kept_take(kept, own, bytes, out_address, out_kept, error);
    if (status == LLM_OK)
        kept_advise_huge(*out_address, bytes);
    return status;
}

/* A key that nobody knows, a tensor that is converted. */
static void log_note(void *self, const char *sentence)
{
    const struct opening *opening = self;
    log_event(LOG_LEVEL_INFO, "model file", log_text("name", opening->spec->name),
              log_text("note", sentence));
}

/* ---- Facts ----------------------------------------------------------------------------------------- */

static const char *dtype_text(const struct model_facts *facts)
{
    return facts->kv.dtype == KERNEL_F32 ? "f32" : "bf16";
}

/* The fingerprint says which weights; the rest says in which form their keys and values stand. */
static void fill_identity(uint32_t identity[CORE_IDENTITY_WORDS], const struct model_facts *facts)
{
    static_assert(sizeof(uint32_t) * CORE_IDENTITY_WORDS == MODEL_FINGERPRINT_BYTES, "sizes");
    memcpy(identity, facts->fingerprint, MODEL_FINGERPRINT_BYTES);
    identity[CORE_IDENTITY_WORDS - 1] ^= (uint32_t)facts->kv.dtype;
}

static void fill_facts(struct executor_facts *out, const struct model_facts *facts,
                       const char *name, const struct kernel_stream *stream)
{
    *out = (struct executor_facts){
        .vocab_size = facts->config.vocab_size,
        .context_tokens_max = facts->config.context_max_tokens,
        .block_tokens = (uint32_t)facts->kv.B,
        .block_bytes = facts->block_bytes,
        .eos_count = facts->config.eos_token_count,
        .defaults =
            facts->config.defaults.top_p > 0 ? facts->config.defaults : generation_defaults_none(),
        .weight_bytes = facts->weight_bytes,
        .weights_kept = facts->weights_kept,
        .workspace_bytes = facts->activation_bytes,
    };
    snprintf(out->name, sizeof out->name, "%s", name);
    snprintf(out->text, sizeof out->text, "%.1f M parameters, %s, %.1f MB",
             (double)facts->parameter_count / 1e6, dtype_text(facts),
             (double)facts->weight_bytes / 1e6);
    snprintf(out->backend_text, sizeof out->backend_text, "%s", stream->description);
    for (uint32_t i = 0; i < facts->config.eos_token_count; i++)
        out->eos_ids[i] = (uint32_t)facts->config.eos_token_ids[i];
    fill_identity(out->identity, facts);
}

/* ---- Running --------------------------------------------------------------------------------------- */

static void model_executor_set_pool(struct executor *executor, const struct executor_pool *pool)
{
    struct executor_model *self = (struct executor_model *)executor;
    self->kv = model_facts(self->model)->kv;
    self->kv.base = pool->base;
    self->kv.slab_bytes = pool->slab_bytes;
    self->kv.blocks_per_slab = pool->slab_blocks;
    self->kv.block_count = pool->block_count;
}

static void model_executor_zero_block(struct executor *executor, block_id block)
{
    struct executor_model *self = (struct executor_model *)executor;
    memset(kernel_kv_block(&self->kv, block), 0, kernel_kv_block_bytes(&self->kv));
}

static void model_executor_copy_block(struct executor *executor, block_id to, block_id from)
{
    struct executor_model *self = (struct executor_model *)executor;
    memcpy(kernel_kv_block(&self->kv, to), kernel_kv_block(&self->kv, from),
           kernel_kv_block_bytes(&self->kv));
}

/* The CPU stops writing when its process ends. */
static bool model_executor_quiet(struct executor *executor)
{
    (void)executor;
    return true;
}

/* One token a sequence at most, and the scored rows. */
static uint32_t logits_rows_max(const struct config *config)
{
    uint64_t rows = config->limits.sequences + EXECUTOR_SCORE_ROWS;
    return (uint32_t)(rows < config->limits.step_tokens ? rows : config->limits.step_tokens);
}

/* `first_row`: of the sequence in the batch. Returns how many rows of logits are wanted now. */
static int32_t want_logits(struct executor_model *self, const struct core_plan *plan, uint32_t i,
                           int32_t first_row, int32_t wanted)
{
    const struct core_sequence *sequence = &plan->sequences[i];
    uint32_t rows = sequence->scored_rows + (sequence->wants_token && sequence->scored_rows == 0);
    for (uint32_t row = sequence->token_count - rows; row < sequence->token_count; row++) {
        self->logits_rows[wanted] = first_row + (int32_t)row;
        self->wanted[wanted++] = (struct wanted){
            .sequence = i, .row = sequence->first_row + row, .score = sequence->scored_rows > 0};
    }
    return wanted;
}

/* The plan's rows of this model, closed up. */
static struct model_batch gather(struct executor_model *self, const struct core_plan *plan,
                                 uint32_t model)
{
    int32_t rows = 0, count = 0, wanted = 0;
    for (uint32_t i = 0; i < plan->sequence_count; i++) {
        const struct core_sequence *from = &plan->sequences[i];
        if (from->model != model)
            continue;
        memcpy(self->token_ids + rows, plan->ids + from->first_row,
               from->token_count * sizeof *plan->ids);
        self->sequences[count++] =
            (struct kernel_sequence){.blocks = from->blocks,
                                     .row_first = rows,
                                     .row_count = (int32_t)from->token_count,
                                     .position_first = (int32_t)from->first_position};
        wanted = want_logits(self, plan, i, rows, wanted);
        rows += (int32_t)from->token_count;
    }
    return (struct model_batch){.token_ids = self->token_ids,
                                .row_count = rows,
                                .sequences = self->sequences,
                                .sequence_count = count,
                                .logits_rows = self->logits_rows,
                                .logits_row_count = wanted};
}

static void choose(struct executor_model *self, const struct core_sequence *sequence,
                   const struct engine *engine, const float *logits,
                   struct executor_choice *out_choice, struct llm_top *out_tops)
{
    struct sampler_choice choice;
    struct llm_error error;
    const struct sampler_past past = {
        .ids = tables_ids(&engine->tables, sequence->slot),
        .position = sequence->first_position + sequence->token_count,
        .prompt_tokens = engine->tables.requests[sequence->slot].body.prompt_tokens};
    out_choice->status =
        sampler_choose(&self->sampler, logits, &engine->requests[sequence->slot].sampling, &past,
                       &choice, out_tops, &error);
    if (out_choice->status == LLM_OK) {
        out_choice->token = (uint32_t)choice.token_id;
        out_choice->logprob = choice.logprob;
    } else {
        snprintf(out_choice->note, sizeof out_choice->note, "%.*s", LLM_NOTE_BYTES - 1,
                 error.message);
    }
}

static void score(struct executor_model *self, const struct core_plan *plan,
                  const struct wanted *wanted, const struct engine *engine, const float *logits,
                  struct executor_choice *out_choice, float *out_score, struct llm_top *out_tops)
{
    struct llm_error error;
    const struct core_sequence *sequence = &plan->sequences[wanted->sequence];
    uint32_t position = plan->positions[wanted->row] + 1;
    uint32_t token = tables_ids(&engine->tables, sequence->slot)[position];
    uint32_t top_count = sampling_top_count(&engine->requests[sequence->slot].sampling);
    enum llm_status status = sampler_score(&self->sampler, logits, (int32_t)token, position,
                                           out_score, out_tops, top_count, &error);
    if (status == LLM_OK)
        return;
    out_choice->status = status;
    snprintf(out_choice->note, sizeof out_choice->note, "%.*s", LLM_NOTE_BYTES - 1, error.message);
}

static enum llm_status model_executor_run(struct executor *executor, const struct core_plan *plan,
                                          uint32_t model, const struct engine *engine,
                                          struct executor_choice *out_choices, float *out_scores,
                                          struct llm_top *out_tops, struct llm_error *error)
{
    struct executor_model *self = (struct executor_model *)executor;
    struct model_batch batch = gather(self, plan, model);
    enum llm_status status = model_forward(self->model, &self->kv, &batch, self->logits, error);
    for (int32_t row = 0; row < batch.logits_row_count && status == LLM_OK; row++) {
        const struct wanted *wanted = &self->wanted[row];
        const float *logits = self->logits + (size_t)row * executor->facts.vocab_size;
        struct executor_choice *choice = &out_choices[wanted->sequence];
        struct llm_top *tops = out_tops + (size_t)wanted->row * LLM_TOP_LOGPROBS_MAX;
        if (wanted->score)
            score(self, plan, wanted, engine, logits, choice, &out_scores[wanted->row], tops);
        else
            choose(self, &plan->sequences[wanted->sequence], engine, logits, choice, tops);
    }
    return status;
}

static void model_executor_close(struct executor *executor)
{
    struct executor_model *self = (struct executor_model *)executor;
    sampler_close(&self->sampler);
    model_close(self->model);
    free(self->token_ids);
    free(self->sequences);
    free(self->logits_rows);
    free(self->wanted);
    free(self->logits);
    free(self);
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static enum llm_status open_stream(struct engine *engine, struct llm_error *error)
{
    if (engine->stream)
        return LLM_OK;
    const char *backend = engine->config.cpu.backend;
    const struct kernel_stream_options options = {.threads = (uint32_t)engine->config.cpu.threads};
    return kernel_stream_open(strcmp(backend, "auto") == 0 ? NULL : backend, &options,
                              &engine->stream, error);
}

static enum llm_status take_arrays(struct executor_model *self, const struct config *config,
                                   struct llm_error *error)
{
    size_t sequences = config->limits.sequences, logits_rows = logits_rows_max(config);
    self->token_ids = calloc(config->limits.step_tokens, sizeof *self->token_ids);
    self->sequences = calloc(sequences, sizeof *self->sequences);
    self->logits_rows = calloc(logits_rows, sizeof *self->logits_rows);
    self->wanted = calloc(logits_rows, sizeof *self->wanted);
    self->logits = calloc(logits_rows * self->base.facts.vocab_size, sizeof *self->logits);
    if (!self->token_ids || !self->sequences || !self->logits_rows || !self->wanted ||
        !self->logits)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for %zu rows of logits", logits_rows);
    return LLM_OK;
}

static enum llm_status open_model(struct executor_model *self, struct engine *engine,
                                  const struct model_spec *spec, struct llm_error *error)
{
    struct opening opening = {.engine = engine, .spec = spec};
    enum llm_status status = model_place_from_path(spec->path, &opening.place, error);
    if (status != LLM_OK)
        return status;
    const struct model_notes notes = {.note = log_note, .self = &opening};
    const struct model_files files = {.open = open_file,
                                      .self = &opening,
                                      .gguf = opening.place.gguf[0] ? opening.place.gguf : NULL};
    const struct model_memory memory = {
        .take = take_memory, .kept_only = is_loaded(spec), .self = &opening};
    const struct model_options options = {
        .stream = engine->stream,
        .batch_rows_max = (uint32_t)engine->config.limits.step_tokens,
        .logits_rows_max = logits_rows_max(&engine->config),
        .context_max_tokens = (uint32_t)engine->config.models.context_tokens,
        .notes = &notes,
    };
    status = model_open(&self->model, &files, &memory, &options, error);
    if (status != LLM_OK)
        return status;
    fill_facts(&self->base.facts, model_facts(self->model), spec->name, engine->stream);
    status = vocabulary_open(&self->vocab, &engine->kept, &files, model_facts(self->model),
                             spec->name, spec->model.id, error);
    if (status == LLM_OK)
        status = plan_text_publish(&engine->kept, self->model, spec->model.id, error);
    if (status == LLM_OK && self->vocab.header->kind != LLM_VOCAB_TOKENS_ONLY)
        self->base.facts.vocab = &self->vocab;
    if (status == LLM_OK)
        status = sampler_open(&self->sampler, self->base.facts.vocab_size, error);
    return status == LLM_OK ? take_arrays(self, &engine->config, error) : status;
}

enum llm_status executor_model_open(struct executor **out_executor, struct engine *engine,
                                    const struct model_spec *spec, struct llm_error *error)
{
    static const struct executor_ops ops = {
        .set_pool = model_executor_set_pool,
        .zero_block = model_executor_zero_block,
        .copy_block = model_executor_copy_block,
        .quiet = model_executor_quiet,
        .run = model_executor_run,
        .close = model_executor_close,
    };
    struct executor_model *self = calloc(1, sizeof *self);
    if (!self)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a model");
    self->base.ops = &ops;
    enum llm_status status = open_stream(engine, error);
    if (status == LLM_OK)
        status = open_model(self, engine, spec, error);
    if (status != LLM_OK) {
        model_executor_close(&self->base);
        return status;
    }
    *out_executor = &self->base;
    return LLM_OK;
}
