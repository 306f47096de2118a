#include "daemon/model/model_config_window.h"

#include "daemon/model/model_json.h"

#include <inttypes.h>
#include <string.h>

/* Two spellings of one width: the key beside its switch. 0: no window. */
static enum llm_status read_width(const struct config_keys *keys, uint32_t *out_tokens,
                                  struct llm_error *error)
{
    bool on = false;
    enum llm_status status = config_read_flag(keys, "use_sliding_window", &on, error);
    *out_tokens = 0;
    if (status != LLM_OK || !on || !config_has(keys, "sliding_window"))
        return status;
    return config_read_count(keys, "sliding_window", 1, MODEL_WINDOW_TOKENS_MAX, out_tokens, error);
}

/* How many first layers are "full_attention"; all others must be "sliding_attention". */
static enum llm_status read_layer_types(const struct config_keys *keys, uint32_t layer_count,
                                        uint32_t *out_full, struct llm_error *error)
{
    const json_t *types = json_object_get(keys->object, "layer_types");
    if (!json_is_array(types) || json_array_size(types) != layer_count)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"layer_types\" is not a list of %" PRIu32 " names, one per layer",
                        MODEL_CONFIG_FILE, layer_count);
    uint32_t full = 0;
    for (uint32_t i = 0; i < layer_count; i++) {
        const json_t *type = json_array_get(types, i);
        const char *name = json_is_string(type) ? json_string_value(type) : "?";
        bool is_full = strcmp(name, "full_attention") == 0;
        if (!is_full && strcmp(name, "sliding_attention") != 0)
            return llm_fail(error, LLM_ERR_UNSUPPORTED,
                            "%s: layer %" PRIu32 " is of the type \"%s\" in \"layer_types\"; this "
                            "build has full_attention and sliding_attention",
                            MODEL_CONFIG_FILE, i, json_show(name).text);
        if (is_full && full < i)
            return llm_fail(error, LLM_ERR_UNSUPPORTED,
                            "%s: in \"layer_types\" layer %" PRIu32 " is full_attention after a "
                            "layer that is not; this build wants all full layers first",
                            MODEL_CONFIG_FILE, i);
        full += is_full;
    }
    *out_full = full;
    return LLM_OK;
}

static enum llm_status read_full_layers(const struct config_keys *keys, uint32_t layer_count,
                                        bool windowed, uint32_t *out_full, struct llm_error *error)
{
    if (config_has(keys, "layer_types"))
        return read_layer_types(keys, layer_count, out_full, error);
    *out_full = layer_count;
    if (!windowed)
        return LLM_OK;
    return config_read_count(keys, "max_window_layers", 0, UINT32_MAX, out_full, error);
}

enum llm_status config_read_windows(const struct config_keys *keys, struct model_config *config,
                                    struct llm_error *error)
{
    uint32_t window = 0, full = 0;
    enum llm_status status = read_width(keys, &window, error);
    if (status == LLM_OK)
        status = read_full_layers(keys, config->layer_count, window > 0, &full, error);
    if (status != LLM_OK)
        return status;
    if (full < config->layer_count && window == 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"layer_types\" has sliding_attention, but there is no "
                        "\"sliding_window\" with \"use_sliding_window\"",
                        MODEL_CONFIG_FILE);
    bool any = full < config->layer_count;
    config->sliding_window = any ? window : 0;
    config->full_attention_layers = any ? full : 0;
    return LLM_OK;
}
