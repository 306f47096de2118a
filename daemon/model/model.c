#include "daemon/model/model.h"

#include "daemon/model/family.h"
#include "daemon/model/model_source.h"
#include "daemon/model/plan.h"
#include "daemon/model/rope_scaling.h"
#include "daemon/model/weights.h"
#include "shm/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_ROWS_MAX     65536u
#define BLOCK_BYTES_WANTED ((size_t)256 << 10)
#define BLOCK_TOKENS_MIN   16
#define BLOCK_TOKENS_MAX   64
#define ACTIVATION_ALIGN   64 /* a cache line, and the widest vector register */

struct model {
    struct kernel_stream *stream;
    struct plan plan;
    struct weights weights;
    struct model_facts facts;
    struct model_options options;
    unsigned char *memory; /* activations, positions, rotary table: one piece, taken at open */
    int32_t *positions;    /* [batch_rows_max] */
    float *cos_sin;        /* [context_max_tokens, head_dim] the rotary table */
    struct plan_run run;   /* what is the same in every forward is filled in at open */
};

/* ---- sizes ---- */

/* A block is what moves between memories and what sharing is counted in: large enough to move well, small
 * enough to share. Where even 64 tokens stay small the model is tiny, and sharing counts more. */
static int32_t block_tokens_for(size_t token_bytes)
{
    for (int32_t tokens = BLOCK_TOKENS_MIN; tokens <= BLOCK_TOKENS_MAX; tokens *= 2)
        if ((size_t)tokens * token_bytes >= BLOCK_BYTES_WANTED)
            return tokens;
    return BLOCK_TOKENS_MIN;
}

static struct kernel_kv kv_geometry(const struct model *m)
{
    const struct model_config *c = &m->facts.config;
    bool f32 = m->options.kv_type == MODEL_KV_F32 ||
               (m->options.kv_type == MODEL_KV_AUTO && m->weights.dtype == KERNEL_F32);
    struct kernel_kv kv = {.dtype = f32 ? KERNEL_F32 : KERNEL_BF16,
                           .layers = (int32_t)c->layer_count,
                           .G = (int32_t)c->kv_head_count,
                           .B = 1,
                           .D = (int32_t)c->head_dim};
    kv.B = block_tokens_for(kernel_kv_block_bytes(&kv));
    return kv;
}

static void fill_facts(struct model *m)
{
    m->facts.kv = kv_geometry(m);
    m->facts.block_bytes = kernel_kv_block_bytes(&m->facts.kv);
    m->facts.weights_kept = m->weights.kept;
    m->facts.weight_bytes = m->weights.bytes;
    m->facts.parameter_count = m->weights.parameter_count;
    memcpy(m->facts.fingerprint, m->weights.fingerprint, sizeof m->facts.fingerprint);
}

/* ---- the memory of a step: slots, positions and the rotary table in one piece ---- */

/* Hands out aligned parts of a piece; with base NULL it only counts. */
struct carving {
    unsigned char *base;
    size_t used;
};

static void *carve(struct carving *c, size_t count, size_t element_bytes)
{
    void *part = c->base == NULL ? NULL : c->base + c->used;
    c->used += (count * element_bytes + ACTIVATION_ALIGN - 1) / ACTIVATION_ALIGN * ACTIVATION_ALIGN;
    return part;
}

static void carve_all(struct model *m, struct carving *c)
{
    const struct plan *plan = &m->plan;
    for (int32_t i = 0; i < plan->slot_count; i++) {
        size_t rows = plan->slots[i].rows == PLAN_ROWS_BATCH ? m->options.batch_rows_max
                                                             : m->options.logits_rows_max;
        if (i != PLAN_SLOT_LOGITS)
            m->run.slots[i] = carve(c, rows * (size_t)plan->slots[i].width, sizeof(float));
    }
    m->positions = carve(c, m->options.batch_rows_max, sizeof *m->positions);
    m->cos_sin = carve(c, (size_t)m->facts.config.context_max_tokens * m->facts.config.head_dim,
                       sizeof(float));
}

static void fill_rope(struct model *m)
{
    double frequencies[KERNEL_HEAD_DIM_MAX / 2];
    struct kernel_rope rope = {.cos_sin = m->cos_sin,
                               .P = (int32_t)m->facts.config.context_max_tokens,
                               .D = (int32_t)m->facts.config.head_dim};
    double scale = rope_scaling_frequencies(frequencies, &m->facts.config);
    kernel_rope_fill(m->cos_sin, frequencies, scale, rope.P, rope.D);
    m->run.rope = rope;
}

static enum llm_status take_activations(struct model *m, struct llm_error *error)
{
    struct carving counting = {0};
    carve_all(m, &counting);
    m->facts.activation_bytes = counting.used;
    m->memory = aligned_alloc(ACTIVATION_ALIGN, counting.used);
    if (m->memory == NULL)
        return llm_fail(error, LLM_ERR_MEMORY,
                        "no memory for activations of %" PRIu32 " rows (%zu MiB)",
                        m->options.batch_rows_max, counting.used >> 20);
    struct carving carving = {.base = m->memory};
    carve_all(m, &carving);
    fill_rope(m);
    m->run.stream = m->stream;
    m->run.weights = m->weights.places;
    m->run.positions = m->positions;
    return LLM_OK;
}

/* ---- open ---- */

static enum llm_status check_options(const struct model_options *o, struct llm_error *error)
{
    if (o->batch_rows_max < 1 || o->batch_rows_max > BATCH_ROWS_MAX)
        return llm_fail(error, LLM_ERR_INVALID,
                        "a batch of %" PRIu32 " rows is not possible; it must be 1..%u",
                        o->batch_rows_max, BATCH_ROWS_MAX);
    if (o->logits_rows_max < 1 || o->logits_rows_max > o->batch_rows_max)
        return llm_fail(error, LLM_ERR_INVALID,
                        "logits for %" PRIu32 " rows are not possible; it must be 1..%" PRIu32,
                        o->logits_rows_max, o->batch_rows_max);
    return LLM_OK;
}

static enum llm_status load_weights(struct model *m, struct model_source *files,
                                    const struct model_memory *memory, struct llm_error *error)
{
    struct weights_source source = {.plan = &m->plan,
                                    .config = &m->facts.config,
                                    .files = files,
                                    .notes = m->options.notes,
                                    .stream = m->stream,
                                    .memory = memory};
    return weights_open(&m->weights, &source, error);
}

static enum llm_status open_parts(struct model *m, struct model_source *files,
                                  const struct model_memory *memory, struct llm_error *error)
{
    struct model_config *config = &m->facts.config;
    *config = files->config;
    uint32_t wanted = m->options.context_max_tokens;
    if (wanted != 0 && wanted < config->context_max_tokens)
        config->context_max_tokens = wanted;
    enum llm_status status = model_family_plan(&m->plan, config, error);
    if (status == LLM_OK)
        status = plan_check(&m->plan, m->stream->ops, error);
    if (status == LLM_OK)
        status = load_weights(m, files, memory, error);
    if (status != LLM_OK)
        return status;
    fill_facts(m);
    return take_activations(m, error);
}

static enum llm_status open_from_files(struct model *m, const struct model_files *files,
                                       const struct model_memory *memory, struct llm_error *error)
{
    struct model_source source;
    enum llm_status status = check_options(&m->options, error);
    if (status == LLM_OK)
        status = model_source_open(&source, files, m->options.notes, error);
    if (status != LLM_OK)
        return status;
    status = open_parts(m, &source, memory, error);
    model_source_close(&source);
    m->options.notes = NULL; /* the caller's, for the call */
    return status;
}

enum llm_status model_open(struct model **out_model, const struct model_files *files,
                           const struct model_memory *memory, const struct model_options *options,
                           struct llm_error *error)
{
    struct model *m = calloc(1, sizeof *m);
    if (m == NULL)
        return llm_fail(error, LLM_ERR_MEMORY, "no memory for a model");
    m->stream = options->stream;
    m->options = *options;
    enum llm_status status = open_from_files(m, files, memory, error);
    if (status != LLM_OK)
        model_close(m);
    else
        *out_model = m;
    return status;
}

void model_close(struct model *model)
{
    if (model == NULL)
        return;
    weights_close(&model->weights);
    plan_close(&model->plan);
    free(model->memory);
    free(model);
}

const struct model_facts *model_facts(const struct model *model)
{
    return &model->facts;
}

void model_print_plan(const struct model *model, FILE *out)
{
    plan_print(&model->plan, out);
}

/* ---- forward ---- */

static void check_pool(const struct kernel_kv *is, const struct kernel_kv *ours)
{
    CHECK(is->dtype == ours->dtype && is->layers == ours->layers);
    CHECK(is->G == ours->G && is->B == ours->B && is->D == ours->D);
    CHECK(is->base != NULL && is->blocks_per_slab > 0 && is->block_count > 0);
    CHECK(is->slab_bytes >=
          kernel_kv_block_bytes(ours)); /* the core uses as many of a slab as fit */
}

static void check_batch(const struct model *m, const struct model_batch *batch)
{
    CHECK(batch->row_count >= 1 && (uint32_t)batch->row_count <= m->options.batch_rows_max);
    CHECK(batch->sequence_count >= 1 && batch->sequence_count <= batch->row_count);
    CHECK(batch->logits_row_count >= 0);
    CHECK((uint32_t)batch->logits_row_count <= m->options.logits_rows_max);
    for (int32_t i = 0; i < batch->row_count; i++)
        CHECK(batch->token_ids[i] >= 0 &&
              (uint32_t)batch->token_ids[i] < m->facts.config.vocab_size);
    for (int32_t i = 0; i < batch->logits_row_count; i++)
        CHECK(batch->logits_rows[i] >= 0 && batch->logits_rows[i] < batch->row_count);
}

/* Each row's position, checked on the way: sequences tile the rows and stay within the context. */
static void fill_positions(struct model *m, const struct model_batch *batch)
{
    int32_t context_max = (int32_t)m->facts.config.context_max_tokens, row = 0;
    for (int32_t s = 0; s < batch->sequence_count; s++) {
        const struct kernel_sequence *sequence = &batch->sequences[s];
        CHECK(sequence->row_first == row && sequence->row_count >= 1);
        CHECK(sequence->row_count <= batch->row_count - row);
        CHECK(sequence->position_first >= 0);
        CHECK(sequence->position_first <= context_max - sequence->row_count);
        for (int32_t i = 0; i < sequence->row_count; i++)
            m->positions[row++] = sequence->position_first + i;
    }
    CHECK(row == batch->row_count);
}

enum llm_status model_forward(struct model *model, const struct kernel_kv *kv,
                              const struct model_batch *batch, float *out_logits,
                              struct llm_error *error)
{
    check_pool(kv, &model->facts.kv);
    check_batch(model, batch);
    fill_positions(model, batch);
    struct plan_run *run = &model->run;
    run->slots[PLAN_SLOT_LOGITS] = out_logits;
    run->kv = kv;
    run->sequences = batch->sequences;
    run->token_ids = batch->token_ids;
    run->logits_rows = batch->logits_rows;
    run->T = batch->row_count;
    run->S = batch->sequence_count;
    run->L = batch->logits_row_count;
    plan_run(&model->plan, run);
    return kernel_stream_wait(model->stream, error);
}
