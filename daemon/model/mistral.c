/*
 * mistral.c - MistralForCausalLM: a Llama block in which a token may see only a window of those before it.
 *
 * "sliding_window" is a number of tokens, the token itself included, null for none, and 4096 where the key is
 * absent, as in the first checkpoint. All layers have it. There are no biases.
 * Source: Jiang et al. 2023, arXiv:2310.06825; https://huggingface.co/docs/transformers/model_doc/mistral
 * (MistralConfig).
 */
#include "daemon/model/family.h"

#include "daemon/model/model_config_window.h"

#define WINDOW_USUAL 4096

static enum llm_status read_window(const struct config_keys *keys, uint32_t *out_tokens,
                                   struct llm_error *error)
{
    static const char key[] = "sliding_window";
    *out_tokens = json_object_get(keys->object, key) == NULL ? WINDOW_USUAL : 0;
    if (!config_has(keys, key))
        return LLM_OK;
    return config_read_count(keys, key, 1, MODEL_WINDOW_TOKENS_MAX, out_tokens, error);
}

static enum llm_status read_keys(const struct config_keys *keys, struct model_config *config,
                                 struct llm_error *error)
{
    const char *name = model_family_mistral.name;
    enum llm_status status = config_refuse_flag(keys, "attention_bias", name, error);
    if (status == LLM_OK)
        status = config_refuse_flag(keys, "mlp_bias", name, error);
    if (status == LLM_OK)
        status = read_window(keys, &config->sliding_window, error);
    if (status == LLM_OK && config_has(keys, "layer_types"))
        status = llm_fail(error, LLM_ERR_UNSUPPORTED,
                          "%s has \"layer_types\"; the layers of %s are all alike",
                          MODEL_CONFIG_FILE, name);
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

const struct model_family model_family_mistral = {
    .architecture = MODEL_ARCHITECTURE_MISTRAL,
    .name = "MistralForCausalLM",
    .read_keys = read_keys,
    .add_layer = add_layer,
};
