/*
 * qwen3.c - Qwen3ForCausalLM: a Llama block whose queries and keys are normalised head by head before they turn.
 *
 * Heads are 128 wide where the configuration does not say, whatever the hidden size is. Biases of the attention are
 * possible and usually absent; windows as in Qwen2.
 * Source: Yang et al. 2025, arXiv:2505.09388; https://huggingface.co/docs/transformers/model_doc/qwen3 (Qwen3Config).
 */
#include "daemon/model/family.h"

#include "daemon/model/model_config_window.h"

#define HEAD_DIM_USUAL 128

static enum llm_status read_keys(const struct config_keys *keys, struct model_config *config,
                                 struct llm_error *error)
{
    enum llm_status status = config_read_flag(keys, "attention_bias", &config->qkv_bias, error);
    config->output_bias = config->qkv_bias;
    config->qk_norm = true;
    config->head_dim = HEAD_DIM_USUAL;
    if (status == LLM_OK)
        status = config_refuse_flag(keys, "mlp_bias", model_family_qwen3.name, error);
    if (status == LLM_OK)
        status = config_read_windows(keys, config, error);
    return status;
}

static void add_layer(struct decoder *d, int32_t layer)
{
    decoder_add_norm(d, layer, "input_layernorm");
    decoder_add_queries_keys_values(d, layer);
    decoder_add_head_norms(d, layer);
    decoder_add_rotation(d, layer);
    decoder_add_attention(d, layer, decoder_window(d, layer));
    decoder_add_attention_output(d, layer);
    decoder_add_norm(d, layer, "post_attention_layernorm");
    decoder_add_feed_forward(d, layer);
}

const struct model_family model_family_qwen3 = {
    .architecture = MODEL_ARCHITECTURE_QWEN3,
    .name = "Qwen3ForCausalLM",
    .read_keys = read_keys,
    .add_layer = add_layer,
};
