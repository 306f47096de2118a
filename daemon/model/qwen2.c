/*
 * qwen2.c - Qwen2ForCausalLM: Qwen2 and Qwen2.5, a Llama block with biases on queries, keys and values.
 *
 * The biases are always there, whatever the configuration says. Some layers may see only a window
 * (model_config_window.h); the published checkpoints have it switched off.
 * Source: Yang et al. 2024, arXiv:2407.10671; https://huggingface.co/docs/transformers/model_doc/qwen2 (Qwen2Config).
 */
#include "daemon/model/family.h"

#include "daemon/model/model_config_window.h"

static enum llm_status read_keys(const struct config_keys *keys, struct model_config *config,
                                 struct llm_error *error)
{
    enum llm_status status = config_refuse_flag(keys, "mlp_bias", model_family_qwen2.name, error);
    config->qkv_bias = true;
    if (status == LLM_OK)
        status = config_read_windows(keys, config, error);
    return status;
}

static void add_layer(struct decoder *d, int32_t layer)
{
    decoder_add_norm(d, layer, "input_layernorm");
    decoder_add_queries_keys_values(d, layer);
    decoder_add_rotation(d, layer);
    decoder_add_attention(d, layer, decoder_window(d, layer));
    decoder_add_attention_output(d, layer);
    decoder_add_norm(d, layer, "post_attention_layernorm");
    decoder_add_feed_forward(d, layer);
}

const struct model_family model_family_qwen2 = {
    .architecture = MODEL_ARCHITECTURE_QWEN2,
    .name = "Qwen2ForCausalLM",
    .read_keys = read_keys,
    .add_layer = add_layer,
};
