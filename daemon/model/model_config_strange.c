#include "daemon/model/model_config_strange.h"

#include "daemon/model/model_json.h"

#include <stdbool.h>
#include <string.h>

#define CONFIG_MAX_BYTES ((size_t)1 << 20)
#define NOTES_MAX        16 /* a file of nonsense fills no log */

static bool is_known(const char *key)
{
    static const char *const known[] = {
        "_name_or_path",
        "architectures",
        "attention_bias",
        "attention_dropout",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "head_dim",
        "hidden_act",
        "hidden_size",
        "initializer_range",
        "intermediate_size",
        "layer_types",
        "max_position_embeddings",
        "max_window_layers",
        "mlp_bias",
        "model_type",
        "num_attention_heads",
        "num_hidden_layers",
        "num_key_value_heads",
        "original_max_position_embeddings",
        "pad_token_id",
        "partial_rotary_factor",
        "pretraining_tp",
        "quantization_config",
        "rms_norm_eps",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "sliding_window",
        "tie_word_embeddings",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "use_sliding_window",
        "vocab_size",
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(key, known[i]) == 0)
            return true;
    return false;
}

void model_config_note_strange(const struct model_files *files, const struct model_notes *notes)
{
    json_t *root = NULL;
    if (model_json_read(files, "config.json", CONFIG_MAX_BYTES, &root, NULL) != LLM_OK)
        return;
    const char *key;
    json_t *value;
    int count = 0;
    json_object_foreach(root, key, value)
    {
        if (is_known(key))
            continue;
        if (count++ < NOTES_MAX)
            model_note(notes, "config.json: key \"%s\" is not known: ignored", json_show(key).text);
    }
    if (count > NOTES_MAX)
        model_note(notes, "config.json: %d more keys are not known", count - NOTES_MAX);
    json_decref(root);
}
