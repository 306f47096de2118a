#include "daemon/model/llama.h"

#include <inttypes.h>
#include <math.h>

#define STEPS_PER_LAYER   16 /* as written, before the passes */
#define WEIGHTS_PER_LAYER 9
#define STEPS_OUTSIDE     8
#define WEIGHTS_OUTSIDE   3

/* The slots, and the widths that the configuration gives them. */
struct llama {
    struct plan *plan;
    int32_t D, F, V;
    int32_t query_width, kv_width;                      /* H * K, G * K */
    int32_t x, normed, qkv, attended, gate_up, product; /* slots with a row per token, */
    int32_t last_x, last_normed, last_attended, last_gate_up, last_product; /* per wanted token */
    int32_t output; /* weight: the output projection */
};

static void add_slots(struct llama *m)
{
    struct plan *plan = m->plan;
    plan_add_slot(plan, "logits", m->V, PLAN_ROWS_WANTED); /* PLAN_SLOT_LOGITS */
    m->x = plan_add_slot(plan, "x", m->D, PLAN_ROWS_BATCH);
    m->normed = plan_add_slot(plan, "normed", m->D, PLAN_ROWS_BATCH);
    m->qkv = plan_add_slot(plan, "qkv", m->query_width + 2 * m->kv_width, PLAN_ROWS_BATCH);
    m->attended = plan_add_slot(plan, "attended", m->query_width, PLAN_ROWS_BATCH);
    m->gate_up = plan_add_slot(plan, "gate_up", 2 * m->F, PLAN_ROWS_BATCH);
    m->product = plan_add_slot(plan, "product", m->F, PLAN_ROWS_BATCH);
    m->last_x = plan_add_slot(plan, "last_x", m->D, PLAN_ROWS_WANTED);
    m->last_normed = plan_add_slot(plan, "last_normed", m->D, PLAN_ROWS_WANTED);
    m->last_attended = plan_add_slot(plan, "last_attended", m->query_width, PLAN_ROWS_WANTED);
    m->last_gate_up = plan_add_slot(plan, "last_gate_up", 2 * m->F, PLAN_ROWS_WANTED);
    m->last_product = plan_add_slot(plan, "last_product", m->F, PLAN_ROWS_WANTED);
}

/* ---- kinds of steps ---- */

static void add_linear(struct plan *plan, enum plan_op op, int32_t layer, struct plan_view out,
                       struct plan_view in, int32_t weight)
{
    struct plan_step *step = plan_add_step(plan, op, plan->slots[out.slot].rows, layer);
    step->out = out;
    step->in = in;
    step->weight = weight;
}

static void add_rmsnorm(struct plan *plan, int32_t layer, int32_t out, int32_t in, int32_t weight)
{
    struct plan_step *step = plan_add_step(plan, PLAN_RMSNORM, plan->slots[out].rows, layer);
    step->out = plan_whole(plan, out);
    step->in = plan_whole(plan, in);
    step->weight = weight;
}

static void add_gather(struct plan *plan, int32_t layer, int32_t out, int32_t in)
{
    struct plan_step *step = plan_add_step(plan, PLAN_GATHER, PLAN_ROWS_WANTED, layer);
    step->out = plan_whole(plan, out);
    step->in = plan_whole(plan, in);
}

/* ---- the model, from the first line of the paper's figure to the last ---- */

/* Tied: the embedding is the packed output projection itself, which is kept once. */
static void add_embedding(struct llama *m, bool tied)
{
    struct plan *plan = m->plan;
    struct plan_step *step =
        plan_add_step(plan, tied ? PLAN_EMBED_MATRIX : PLAN_EMBED, PLAN_ROWS_BATCH, PLAN_NO_LAYER);
    step->out = plan_whole(plan, m->x);
    step->weight = plan_add_weight(plan, tied ? PLAN_WEIGHT_MATRIX : PLAN_WEIGHT_TABLE, m->V, m->D,
                                   "model.embed_tokens.weight");
    m->output = tied ? step->weight
                     : plan_add_weight(plan, PLAN_WEIGHT_MATRIX, m->V, m->D, "lm_head.weight");
}

static void add_attention(struct llama *m, int32_t l)
{
    struct plan *plan = m->plan;
    struct plan_view x = plan_whole(plan, m->normed);
    struct plan_view q = plan_columns(m->qkv, 0, m->query_width);
    struct plan_view k = plan_columns(m->qkv, m->query_width, m->kv_width);
    struct plan_view v = plan_columns(m->qkv, m->query_width + m->kv_width, m->kv_width);
    const enum plan_weight_kind matrix = PLAN_WEIGHT_MATRIX;

    add_rmsnorm(plan, l, m->normed, m->x,
                plan_add_weight(plan, PLAN_WEIGHT_VECTOR, 1, m->D,
                                "model.layers.%" PRId32 ".input_layernorm.weight", l));
    add_linear(plan, PLAN_LINEAR, l, q, x,
               plan_add_weight(plan, matrix, q.width, m->D,
                               "model.layers.%" PRId32 ".self_attn.q_proj.weight", l));
    add_linear(plan, PLAN_LINEAR, l, k, x,
               plan_add_weight(plan, matrix, k.width, m->D,
                               "model.layers.%" PRId32 ".self_attn.k_proj.weight", l));
    add_linear(plan, PLAN_LINEAR, l, v, x,
               plan_add_weight(plan, matrix, v.width, m->D,
                               "model.layers.%" PRId32 ".self_attn.v_proj.weight", l));
    plan_add_step(plan, PLAN_ROPE, PLAN_ROWS_BATCH, l)->out = q;
    plan_add_step(plan, PLAN_ROPE, PLAN_ROWS_BATCH, l)->out = k;

    struct plan_step *append = plan_add_step(plan, PLAN_KV_APPEND, PLAN_ROWS_BATCH, l);
    append->in = k;
    append->in2 = v;
    struct plan_step *attention = plan_add_step(plan, PLAN_ATTENTION, PLAN_ROWS_BATCH, l);
    attention->out = plan_whole(plan, m->attended);
    attention->in = q;
}

/* From the attention's result to the end of the layer; slots chosen by how many rows go on. */
static void add_output_and_feed_forward(struct llama *m, int32_t l, bool wanted_only)
{
    struct plan *plan = m->plan;
    const enum plan_weight_kind matrix = PLAN_WEIGHT_MATRIX;
    int32_t attended = wanted_only ? m->last_attended : m->attended;
    int32_t gate_up = wanted_only ? m->last_gate_up : m->gate_up;
    int32_t product = wanted_only ? m->last_product : m->product;
    int32_t normed = wanted_only ? m->last_normed : m->normed;
    struct plan_view x = plan_whole(plan, wanted_only ? m->last_x : m->x);

    add_linear(plan, PLAN_LINEAR_ADD, l, x, plan_whole(plan, attended),
               plan_add_weight(plan, matrix, m->D, m->query_width,
                               "model.layers.%" PRId32 ".self_attn.o_proj.weight", l));
    add_rmsnorm(plan, l, normed, x.slot,
                plan_add_weight(plan, PLAN_WEIGHT_VECTOR, 1, m->D,
                                "model.layers.%" PRId32 ".post_attention_layernorm.weight", l));
    add_linear(plan, PLAN_LINEAR, l, plan_columns(gate_up, 0, m->F), plan_whole(plan, normed),
               plan_add_weight(plan, matrix, m->F, m->D,
                               "model.layers.%" PRId32 ".mlp.gate_proj.weight", l));
    add_linear(plan, PLAN_LINEAR, l, plan_columns(gate_up, m->F, m->F), plan_whole(plan, normed),
               plan_add_weight(plan, matrix, m->F, m->D,
                               "model.layers.%" PRId32 ".mlp.up_proj.weight", l));
    struct plan_step *silu = plan_add_step(plan, PLAN_SILU_MUL, plan->slots[product].rows, l);
    silu->out = plan_whole(plan, product);
    silu->in = plan_whole(plan, gate_up);
    add_linear(plan, PLAN_LINEAR_ADD, l, x, plan_whole(plan, product),
               plan_add_weight(plan, matrix, m->D, m->F,
                               "model.layers.%" PRId32 ".mlp.down_proj.weight", l));
}

static void add_layers(struct llama *m)
{
    int32_t last = m->plan->layer_count - 1;
    for (int32_t l = 0; l <= last; l++) {
        add_attention(m, l);
        if (l == last) { /* nobody attends to what comes now: only the wanted rows go on */
            add_gather(m->plan, l, m->last_x, m->x);
            add_gather(m->plan, l, m->last_attended, m->attended);
        }
        add_output_and_feed_forward(m, l, l == last);
    }
}

static void add_logits(struct llama *m)
{
    struct plan *plan = m->plan;
    add_rmsnorm(plan, PLAN_NO_LAYER, m->last_normed, m->last_x,
                plan_add_weight(plan, PLAN_WEIGHT_VECTOR, 1, m->D, "model.norm.weight"));
    add_linear(plan, PLAN_LINEAR, PLAN_NO_LAYER, plan_whole(plan, PLAN_SLOT_LOGITS),
               plan_whole(plan, m->last_normed), m->output);
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

enum llm_status llama_plan(struct plan *out_plan, const struct model_config *config,
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
    plan.attention.scale = (float)(1.0 / sqrt((double)config->head_dim));

    struct llama m = {.plan = &plan,
                      .D = (int32_t)config->hidden_size,
                      .F = (int32_t)config->intermediate_size,
                      .V = (int32_t)config->vocab_size,
                      .query_width = (int32_t)(config->head_count * config->head_dim),
                      .kv_width = (int32_t)(config->kv_head_count * config->head_dim)};
    add_slots(&m);
    add_embedding(&m, config->tied_embeddings);
    add_layers(&m);
    add_logits(&m);
    plan_merge_linears(&plan);
    plan_merge_ropes(&plan);
    *out_plan = plan;
    return LLM_OK;
}
