/*
 * llama.c - LlamaForCausalLM: Llama 1 to 3.2 and what is built like them.
 *
 * A transformer block per layer: RMSNorm, grouped-query attention with rotary embeddings, residual; RMSNorm,
 * SwiGLU, residual. Some checkpoints have biases in the attention or the feed-forward. The generations differ in
 * numbers only: Llama 2 in heads, Llama 3 in theta and vocabulary, 3.1 and 3.2 in rope scaling "llama3".
 * Source: Touvron et al. 2023, arXiv:2302.13971 and arXiv:2307.09288; Grattafiori et al. 2024, arXiv:2407.21783;
 * https://huggingface.co/docs/transformers/model_doc/llama (LlamaConfig).
 */
#include "daemon/model/family.h"

static enum llm_status read_keys(const struct config_keys *keys, struct model_config *config,
                                 struct llm_error *error)
{
    enum llm_status status = config_read_flag(keys, "attention_bias", &config->qkv_bias, error);
    config->output_bias = config->qkv_bias;
    if (status == LLM_OK)
        status = config_read_flag(keys, "mlp_bias", &config->mlp_bias, error);
    return status;
}

static void add_layer(struct decoder *d, int32_t layer)
{
    decoder_add_norm(d, layer, "input_layernorm");
    decoder_add_queries_keys_values(d, layer);
    decoder_add_rotation(d, layer);
    decoder_add_attention(d, layer, 0);
    decoder_add_attention_output(d, layer);
    decoder_add_norm(d, layer, "post_attention_layernorm");
    decoder_add_feed_forward(d, layer);
}

const struct model_family model_family_llama = {
    .architecture = MODEL_ARCHITECTURE_LLAMA,
    .name = "LlamaForCausalLM",
    .read_keys = read_keys,
    .add_layer = add_layer,
};
