#include "daemon/model/tensor_names.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct pair {
    const char *plan, *gguf;
};

static const struct pair outside[] = {
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
};

static const struct pair in_layer[] = {
    {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"}, {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};

static const char *find(const struct pair *pairs, size_t count, const char *name, size_t bytes)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(pairs[i].plan) == bytes && memcmp(pairs[i].plan, name, bytes) == 0)
            return pairs[i].gguf;
    return NULL;
}

/* Both end in ".weight" or ".bias". */
bool tensor_name_gguf(const char *name, char out_name[TENSOR_NAME_GGUF_BYTES])
{
    static const char layers[] = "model.layers.";
    const char *ending = strrchr(name, '.'), *middle = name;
    if (ending == NULL)
        return false;
    int used = 0;
    if (strncmp(name, layers, sizeof layers - 1) == 0) {
        const char *number = name + sizeof layers - 1;
        size_t digits = strspn(number, "0123456789");
        if (digits == 0 || digits > 9 || number[digits] != '.')
            return false;
        used = snprintf(out_name, TENSOR_NAME_GGUF_BYTES, "blk.%.*s.", (int)digits, number);
        middle = number + digits + 1;
    }
    if (ending < middle)
        return false;
    size_t bytes = (size_t)(ending - middle);
    const char *short_name =
        used > 0 ? find(in_layer, sizeof in_layer / sizeof in_layer[0], middle, bytes)
                 : find(outside, sizeof outside / sizeof outside[0], middle, bytes);
    if (short_name == NULL)
        return false;
    int more = snprintf(out_name + used, TENSOR_NAME_GGUF_BYTES - (size_t)used, "%s%s", short_name,
                        ending);
    return more > 0 && used + more < TENSOR_NAME_GGUF_BYTES;
}
