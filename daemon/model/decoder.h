/*
 * decoder.h - the parts that decoder-only transformers are put together from, each a few kernel calls.
 *
 * Idea     Nearly every family is the same block repeated: norm, queries, keys and values, rotation, attention,
 *          output, norm, feed-forward. They differ in an extra call here and a window there. So an architecture
 *          file writes one layer as a list of the parts below, and decoder_plan() writes what stands around the
 *          layers: embedding, last norm, logits, and the passes.
 *
 *              x --norm--> normed --q|k|v--> qkv --(head norms, rotation)--> blocks, attended --output--> + x
 *              x --norm--> normed --gate|up--> gate_up --silu_mul--> product --down--> + x
 *
 *          Parts that a configuration may or may not have (biases) follow its flags; what makes a family a family
 *          is in its list.
 * Rows     After the last layer's attention only rows whose logits are wanted go on (README, rule 5): the parts
 *          after decoder_add_attention() then write to slots of their own.
 * Source   Touvron et al. 2023, arXiv:2302.13971; Ainslie et al. 2023, arXiv:2305.13245 (grouped queries).
 * See      llama.c, mistral.c, qwen2.c, qwen3.c; family.h; docs/MODELS.md.
 */
#ifndef LLM_DAEMON_MODEL_DECODER_H
#define LLM_DAEMON_MODEL_DECODER_H

#include "daemon/model/model_config.h"
#include "daemon/model/plan.h"

/* A row's way through a layer, as slots of the plan. */
struct decoder_slots {
    int32_t x;        /* the residual, [.., D] */
    int32_t normed;   /* [.., D] */
    int32_t attended; /* [.., H * K] */
    int32_t gate_up;  /* [.., 2 F] */
    int32_t product;  /* [.., F] */
};

struct decoder {
    struct plan *plan;
    const struct model_config *config;
    int32_t D, F, V;
    int32_t query_width, kv_width; /* H * K, G * K */
    int32_t qkv;                   /* slot: Q|K|V of every token of the batch */
    int32_t output;                /* weight: the output projection */
    struct decoder_slots batch, wanted;
    const struct decoder_slots *rows; /* &batch until the last attention, then &wanted */
};

/* normed = rmsnorm(x); `name` is the tensor's within the layer: "input_layernorm". */
void decoder_add_norm(struct decoder *decoder, int32_t layer, const char *name);

/* Q|K|V = normed * matrices, plus biases where the configuration has them. */
void decoder_add_queries_keys_values(struct decoder *decoder, int32_t layer);

/* RMSNorm of every head of Q and of K, gains "self_attn.q_norm" and "self_attn.k_norm" of one head's width. */
void decoder_add_head_norms(struct decoder *decoder, int32_t layer);

/* Turn the heads of Q and K by their positions. */
void decoder_add_rotation(struct decoder *decoder, int32_t layer);

/* Keys and values into the blocks, then attended = attention; `window` as in struct kernel_attention. */
void decoder_add_attention(struct decoder *decoder, int32_t layer, int32_t window);

/* The window of a layer as the configuration has it; 0: none. */
int32_t decoder_window(const struct decoder *decoder, int32_t layer);

/* x += attended * "self_attn.o_proj", plus bias where the configuration has one. */
void decoder_add_attention_output(struct decoder *decoder, int32_t layer);

/* x += (silu(normed * gate) * (normed * up)) * down, plus biases where the configuration has them. */
void decoder_add_feed_forward(struct decoder *decoder, int32_t layer);

/*
 * Build a whole plan, passes included: `add_layer` writes each layer.
 *
 *   returns   LLM_OK, LLM_ERR_MEMORY, or LLM_ERR_UNSUPPORTED when a width is beyond the kernels
 */
LLM_MUST_CHECK enum llm_status
decoder_plan(struct plan *out_plan, const struct model_config *config,
             void (*add_layer)(struct decoder *decoder, int32_t layer), struct llm_error *error);

#endif
