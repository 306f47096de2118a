#include "daemon/model/decoder.h"

#include "daemon/model/family.h"

#include <inttypes.h>
#include <math.h>

/* As written, before the passes; a part that adds more is stopped by plan_add_step()'s CHECK. */
#define STEPS_PER_LAYER   20
#define WEIGHTS_PER_LAYER 20
#define STEPS_OUTSIDE     8
#define WEIGHTS_OUTSIDE   4

#define LAYER_NAME "model.layers.%" PRId32 "."

static void add_slots(struct decoder *d)
{
    struct plan *plan = d->plan;
    plan_add_slot(plan, "logits", d->V, PLAN_ROWS_WANTED); /* PLAN_SLOT_LOGITS */
    d->batch.x = plan_add_slot(plan, "x", d->D, PLAN_ROWS_BATCH);
    d->batch.normed = plan_add_slot(plan, "normed", d->D, PLAN_ROWS_BATCH);
    d->qkv = plan_add_slot(plan, "qkv", d->query_width + 2 * d->kv_width, PLAN_ROWS_BATCH);
    d->batch.attended = plan_add_slot(plan, "attended", d->query_width, PLAN_ROWS_BATCH);
    d->batch.gate_up = plan_add_slot(plan, "gate_up", 2 * d->F, PLAN_ROWS_BATCH);
    d->batch.product = plan_add_slot(plan, "product", d->F, PLAN_ROWS_BATCH);
    d->wanted.x = plan_add_slot(plan, "last_x", d->D, PLAN_ROWS_WANTED);
    d->wanted.normed = plan_add_slot(plan, "last_normed", d->D, PLAN_ROWS_WANTED);
    d->wanted.attended = plan_add_slot(plan, "last_attended", d->query_width, PLAN_ROWS_WANTED);
    d->wanted.gate_up = plan_add_slot(plan, "last_gate_up", 2 * d->F, PLAN_ROWS_WANTED);
    d->wanted.product = plan_add_slot(plan, "last_product", d->F, PLAN_ROWS_WANTED);
    d->rows = &d->batch;
}

/* ---- kinds of steps ---- */

/* `tensor` names the matrix within the layer; its tensors are <tensor>.weight and, with a bias, <tensor>.bias. */
static void add_linear(struct decoder *d, enum plan_op op, int32_t layer, struct plan_view out,
                       struct plan_view in, const char *tensor, bool bias)
{
    struct plan *plan = d->plan;
    struct plan_step *step = plan_add_step(plan, op, plan->slots[out.slot].rows, layer);
    step->out = out;
    step->in = in;
    step->weight = plan_add_weight(plan, PLAN_WEIGHT_MATRIX, out.width, in.width,
                                   LAYER_NAME "%s.weight", layer, tensor);
    if (bias)
        step->bias = plan_add_weight(plan, PLAN_WEIGHT_VECTOR, out.width, 1, LAYER_NAME "%s.bias",
                                     layer, tensor);
}

static void add_rmsnorm(struct decoder *d, int32_t layer, int32_t out, int32_t in, int32_t gain)
{
    struct plan_step *step = plan_add_step(d->plan, PLAN_RMSNORM, d->plan->slots[out].rows, layer);
    step->out = plan_whole(d->plan, out);
    step->in = plan_whole(d->plan, in);
    step->weight = gain;
}

static void add_head_norm(struct decoder *d, int32_t layer, struct plan_view heads,
                          const char *tensor)
{
    struct plan_step *step = plan_add_step(d->plan, PLAN_RMSNORM_HEADS, PLAN_ROWS_BATCH, layer);
    step->out = heads;
    step->weight = plan_add_weight(d->plan, PLAN_WEIGHT_VECTOR, 1, d->plan->head_dim,
                                   LAYER_NAME "%s.weight", layer, tensor);
}

static void add_gather(struct decoder *d, int32_t layer, int32_t out, int32_t in)
{
    struct plan_step *step = plan_add_step(d->plan, PLAN_GATHER, PLAN_ROWS_WANTED, layer);
    step->out = plan_whole(d->plan, out);
    step->in = plan_whole(d->plan, in);
}

/* ---- parts of a layer ---- */

static struct plan_view queries(const struct decoder *d)
{
    return plan_columns(d->qkv, 0, d->query_width);
}

static struct plan_view keys(const struct decoder *d)
{
    return plan_columns(d->qkv, d->query_width, d->kv_width);
}

static struct plan_view values(const struct decoder *d)
{
    return plan_columns(d->qkv, d->query_width + d->kv_width, d->kv_width);
}

void decoder_add_norm(struct decoder *d, int32_t layer, const char *name)
{
    add_rmsnorm(
        d, layer, d->rows->normed, d->rows->x,
        plan_add_weight(d->plan, PLAN_WEIGHT_VECTOR, 1, d->D, LAYER_NAME "%s.weight", layer, name));
}

void decoder_add_queries_keys_values(struct decoder *d, int32_t layer)
{
    struct plan_view x = plan_whole(d->plan, d->batch.normed);
    bool bias = d->config->qkv_bias;
    add_linear(d, PLAN_LINEAR, layer, queries(d), x, "self_attn.q_proj", bias);
    add_linear(d, PLAN_LINEAR, layer, keys(d), x, "self_attn.k_proj", bias);
    add_linear(d, PLAN_LINEAR, layer, values(d), x, "self_attn.v_proj", bias);
}

void decoder_add_head_norms(struct decoder *d, int32_t layer)
{
    add_head_norm(d, layer, queries(d), "self_attn.q_norm");
    add_head_norm(d, layer, keys(d), "self_attn.k_norm");
}

void decoder_add_rotation(struct decoder *d, int32_t layer)
{
    plan_add_step(d->plan, PLAN_ROPE, PLAN_ROWS_BATCH, layer)->out = queries(d);
    plan_add_step(d->plan, PLAN_ROPE, PLAN_ROWS_BATCH, layer)->out = keys(d);
}

int32_t decoder_window(const struct decoder *d, int32_t layer)
{
    bool full = (uint32_t)layer < d->config->full_attention_layers;
    return full ? 0 : (int32_t)d->config->sliding_window;
}

void decoder_add_attention(struct decoder *d, int32_t layer, int32_t window)
{
    struct plan_step *append = plan_add_step(d->plan, PLAN_KV_APPEND, PLAN_ROWS_BATCH, layer);
    append->in = keys(d);
    append->in2 = values(d);
    struct plan_step *attention = plan_add_step(d->plan, PLAN_ATTENTION, PLAN_ROWS_BATCH, layer);
    attention->out = plan_whole(d->plan, d->batch.attended);
    attention->in = queries(d);
    attention->window = window;
    if (layer == d->plan->layer_count - 1) { /* nobody attends to what comes now */
        add_gather(d, layer, d->wanted.x, d->batch.x);
        add_gather(d, layer, d->wanted.attended, d->batch.attended);
        d->rows = &d->wanted;
    }
}

void decoder_add_attention_output(struct decoder *d, int32_t layer)
{
    add_linear(d, PLAN_LINEAR_ADD, layer, plan_whole(d->plan, d->rows->x),
               plan_whole(d->plan, d->rows->attended), "self_attn.o_proj", d->config->output_bias);
}

void decoder_add_feed_forward(struct decoder *d, int32_t layer)
{
    const struct decoder_slots *rows = d->rows;
    struct plan_view normed = plan_whole(d->plan, rows->normed);
    bool bias = d->config->mlp_bias;
    add_linear(d, PLAN_LINEAR, layer, plan_columns(rows->gate_up, 0, d->F), normed, "mlp.gate_proj",
               bias);
    add_linear(d, PLAN_LINEAR, layer, plan_columns(rows->gate_up, d->F, d->F), normed,
               "mlp.up_proj", bias);
    struct plan_step *silu =
        plan_add_step(d->plan, PLAN_SILU_MUL, d->plan->slots[rows->product].rows, layer);
    silu->out = plan_whole(d->plan, rows->product);
    silu->in = plan_whole(d->plan, rows->gate_up);
    add_linear(d, PLAN_LINEAR_ADD, layer, plan_whole(d->plan, rows->x),
               plan_whole(d->plan, rows->product), "mlp.down_proj", bias);
}

/* ---- around the layers ---- */

/* Tied: the embedding is the packed output projection itself, which is kept once. */
static void add_embedding(struct decoder *d)
{
    struct plan *plan = d->plan;
    bool tied = d->config->tied_embeddings;
    struct plan_step *step =
        plan_add_step(plan, tied ? PLAN_EMBED_MATRIX : PLAN_EMBED, PLAN_ROWS_BATCH, PLAN_NO_LAYER);
    step->out = plan_whole(plan, d->batch.x);
    step->weight = plan_add_weight(plan, tied ? PLAN_WEIGHT_MATRIX : PLAN_WEIGHT_TABLE, d->V, d->D,
                                   "model.embed_tokens.weight");
    d->output = tied ? step->weight
                     : plan_add_weight(plan, PLAN_WEIGHT_MATRIX, d->V, d->D, "lm_head.weight");
}

static void add_logits(struct decoder *d)
{
    struct plan *plan = d->plan;
    add_rmsnorm(d, PLAN_NO_LAYER, d->wanted.normed, d->wanted.x,
                plan_add_weight(plan, PLAN_WEIGHT_VECTOR, 1, d->D, "model.norm.weight"));
    struct plan_step *step = plan_add_step(plan, PLAN_LINEAR, PLAN_ROWS_WANTED, PLAN_NO_LAYER);
    step->out = plan_whole(plan, PLAN_SLOT_LOGITS);
    step->in = plan_whole(plan, d->wanted.normed);
    step->weight = d->output;
}

/* Widths are int32_t in the kernels, and a head must fit their registers. */
static enum llm_status check_widths(const struct model_config *c, struct llm_error *error)
{
    if (c->head_dim > KERNEL_HEAD_DIM_MAX)
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "a head has %" PRIu32 " dimensions; the kernels take at most %d",
                        c->head_dim, KERNEL_HEAD_DIM_MAX);
    return LLM_OK;
}

enum llm_status decoder_plan(struct plan *out_plan, const struct model_config *config,
                             void (*add_layer)(struct decoder *decoder, int32_t layer),
                             struct llm_error *error)
{
    enum llm_status status = check_widths(config, error);
    int32_t layers = (int32_t)config->layer_count;
    struct plan plan = {0};
    if (status == LLM_OK)
        status = plan_open(&plan, STEPS_PER_LAYER * layers + STEPS_OUTSIDE,
                           WEIGHTS_PER_LAYER * layers + WEIGHTS_OUTSIDE, error);
    if (status != LLM_OK)
        return status;
    plan.architecture = model_architecture_name(config->architecture);
    plan.layer_count = layers;
    plan.head_dim = (int32_t)config->head_dim;
    plan.eps = (float)config->rms_norm_eps;
    plan.attention_scale = (float)(1.0 / sqrt((double)config->head_dim));

    struct decoder d = {.plan = &plan,
                        .config = config,
                        .D = (int32_t)config->hidden_size,
                        .F = (int32_t)config->intermediate_size,
                        .V = (int32_t)config->vocab_size,
                        .query_width = (int32_t)(config->head_count * config->head_dim),
                        .kv_width = (int32_t)(config->kv_head_count * config->head_dim)};
    add_slots(&d);
    add_embedding(&d);
    for (int32_t l = 0; l < layers; l++)
        add_layer(&d, l);
    add_logits(&d);
    plan_merge_linears(&plan);
    plan_merge_ropes(&plan);
    *out_plan = plan;
    return LLM_OK;
}
