#include "daemon/model/model_config.h"

#include "daemon/model/family.h"
#include "daemon/model/generation_config.h"
#include "daemon/model/model_config_key.h"
#include "daemon/model/model_config_rope.h"
#include "daemon/model/model_json.h"

#include <inttypes.h>
#include <string.h>

#define CONFIG_MAX_BYTES ((size_t)1 << 20)

static const char CONFIG[] = MODEL_CONFIG_FILE;

/* ---- what this build does not have ---- */

static enum llm_status find_family(const struct config_keys *keys,
                                   const struct model_family **out_family, struct llm_error *error)
{
    const json_t *names = json_object_get(keys->object, "architectures");
    const json_t *name = json_array_get(names, 0);
    if (!json_is_string(name))
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"architectures\" is missing or not a list of names", CONFIG);
    const struct model_family *family = model_family_find(json_string_value(name));
    if (family == NULL) {
        char known[MODEL_FAMILY_NAMES_BYTES];
        model_family_names(known);
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "%s: architecture \"%s\" is not supported; this build runs %s", CONFIG,
                        json_show(json_string_value(name)).text, known);
    }
    *out_family = family;
    return LLM_OK;
}

/* A string that, where given, must be one of `names` (NULL-terminated). */
static enum llm_status refuse_other_names(const struct config_keys *keys, const char *key,
                                          const char *const *names, struct llm_error *error)
{
    if (!config_has(keys, key))
        return LLM_OK;
    const json_t *value = json_object_get(keys->object, key);
    if (!json_is_string(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s\" is not a string", CONFIG, key);
    for (; *names != NULL; names++)
        if (strcmp(json_string_value(value), *names) == 0)
            return LLM_OK;
    return llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: \"%s\" is \"%s\", which is not supported",
                    CONFIG, key, json_show(json_string_value(value)).text);
}

static enum llm_status refuse_features(const struct config_keys *keys, struct llm_error *error)
{
    static const char *const activations[] = {"silu", "swish", NULL};
    static const char *const types[] = {"float32", "bfloat16", "float16", NULL};
    enum llm_status status = refuse_other_names(keys, "hidden_act", activations, error);
    if (status == LLM_OK)
        status = refuse_other_names(keys, "torch_dtype", types, error);
    if (status == LLM_OK)
        status = refuse_other_names(keys, "dtype", types, error);
    if (status == LLM_OK && config_has(keys, "quantization_config"))
        status = llm_fail(error, LLM_ERR_UNSUPPORTED,
                          "%s has a \"quantization_config\"; quantised weights are not supported",
                          CONFIG);
    return status;
}

/* ---- groups of keys ---- */

static enum llm_status read_sizes(const struct config_keys *keys, struct model_config *c,
                                  struct llm_error *error)
{
    const struct {
        const char *key;
        uint32_t max;
        uint32_t *out;
    } sizes[] = {{"hidden_size", 1u << 17, &c->hidden_size},
                 {"intermediate_size", 1u << 20, &c->intermediate_size},
                 {"num_hidden_layers", 2048, &c->layer_count},
                 {"num_attention_heads", 4096, &c->head_count},
                 {"vocab_size", 1u << 24, &c->vocab_size},
                 {"max_position_embeddings", 1u << 20, &c->context_max_tokens}};
    enum llm_status status = LLM_OK;
    for (size_t i = 0; status == LLM_OK && i < sizeof sizes / sizeof sizes[0]; i++)
        status = config_read_count(keys, sizes[i].key, 1, sizes[i].max, sizes[i].out, error);
    return status;
}

static enum llm_status read_kv_heads(const struct config_keys *keys, struct model_config *c,
                                     struct llm_error *error)
{
    static const char key[] = "num_key_value_heads";
    enum llm_status status = LLM_OK;
    c->kv_head_count = c->head_count;
    if (config_has(keys, key))
        status = config_read_count(keys, key, 1, c->head_count, &c->kv_head_count, error);
    if (status == LLM_OK && c->head_count % c->kv_head_count != 0)
        status = llm_fail(error, LLM_ERR_INVALID,
                          "%s: \"num_attention_heads\" is %" PRIu32
                          ", not a multiple of \"%s\", %" PRIu32,
                          CONFIG, c->head_count, key, c->kv_head_count);
    return status;
}

/* The file's, else the family's usual width, else an equal share of the hidden size. */
static enum llm_status read_head_dim(const struct config_keys *keys, struct model_config *c,
                                     struct llm_error *error)
{
    if (config_has(keys, "head_dim"))
        return config_read_count(keys, "head_dim", 1, 1024, &c->head_dim, error);
    if (c->head_dim != 0)
        return LLM_OK;
    if (c->hidden_size % c->head_count != 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"hidden_size\" is %" PRIu32
                        ", not a multiple of \"num_attention_heads\", %" PRIu32,
                        CONFIG, c->hidden_size, c->head_count);
    c->head_dim = c->hidden_size / c->head_count;
    return LLM_OK;
}

static enum llm_status check_head_dim(const struct model_config *c, struct llm_error *error)
{
    if (c->head_dim % 2 != 0 || c->head_dim > 1024)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: a head has %" PRIu32
                        " dimensions; it must be an even number up to 1024",
                        CONFIG, c->head_dim);
    return LLM_OK;
}

static enum llm_status add_eos(struct model_config *c, const char *file, const json_t *value,
                               struct llm_error *error)
{
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || id >= (json_int_t)c->vocab_size)
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"eos_token_id\" is not an id in 0..%" PRIu32,
                        file, c->vocab_size - 1);
    for (uint32_t i = 0; i < c->eos_token_count; i++)
        if (c->eos_token_ids[i] == (int32_t)id)
            return LLM_OK;
    if (c->eos_token_count == MODEL_EOS_IDS_MAX)
        return llm_fail(error, LLM_ERR_LIMIT, "%s: more than %d ids in \"eos_token_id\"", file,
                        MODEL_EOS_IDS_MAX);
    c->eos_token_ids[c->eos_token_count++] = (int32_t)id;
    return LLM_OK;
}

/* "eos_token_id" is null, an id or a list of ids; config.json and generation_config.json may both have it. */
static enum llm_status read_eos(const json_t *root, const char *file, struct model_config *c,
                                struct llm_error *error)
{
    if (!config_has(&(struct config_keys){root, ""}, "eos_token_id"))
        return LLM_OK;
    const json_t *value = json_object_get(root, "eos_token_id");
    if (!json_is_array(value))
        return add_eos(c, file, value, error);
    size_t i;
    const json_t *item;
    json_array_foreach(value, i, item)
    {
        enum llm_status status = add_eos(c, file, item, error);
        if (status != LLM_OK)
            return status;
    }
    return LLM_OK;
}

static enum llm_status read_bos(const struct config_keys *keys, struct model_config *c,
                                struct llm_error *error)
{
    c->bos_token_id = -1;
    if (!config_has(keys, "bos_token_id"))
        return LLM_OK;
    const json_t *value = json_object_get(keys->object, "bos_token_id");
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || id >= (json_int_t)c->vocab_size)
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"bos_token_id\" is not an id in 0..%" PRIu32,
                        CONFIG, c->vocab_size - 1);
    c->bos_token_id = (int32_t)id;
    return LLM_OK;
}

static enum llm_status read_config(const json_t *root, struct model_config *c,
                                   struct llm_error *error)
{
    const struct config_keys keys = {root, ""};
    const struct model_family *family = NULL;
    enum llm_status status = find_family(&keys, &family, error);
    if (status == LLM_OK)
        status = refuse_features(&keys, error);
    if (status == LLM_OK)
        status = read_sizes(&keys, c, error);
    if (status == LLM_OK) {
        c->architecture = family->architecture;
        status = family->read_keys(&keys, c, error);
    }
    if (status == LLM_OK)
        status = read_kv_heads(&keys, c, error);
    if (status == LLM_OK)
        status = read_head_dim(&keys, c, error);
    if (status == LLM_OK)
        status = check_head_dim(c, error);
    if (status == LLM_OK)
        status = config_read_real(&keys, "rms_norm_eps", 1e-12, 0.1, &c->rms_norm_eps, error);
    if (status == LLM_OK)
        status = config_read_rope(&keys, c, error);
    if (status == LLM_OK)
        status = config_read_flag(&keys, "tie_word_embeddings", &c->tied_embeddings, error);
    if (status == LLM_OK)
        status = read_bos(&keys, c, error);
    if (status == LLM_OK)
        status = read_eos(root, CONFIG, c, error);
    return status;
}

static enum llm_status read_generation_config(const struct model_files *files,
                                              struct model_config *c, struct llm_error *error)
{
    static const char name[] = "generation_config.json";
    json_t *root = NULL;
    enum llm_status status = model_json_read(files, name, CONFIG_MAX_BYTES, &root, error);
    if (status == LLM_ERR_NOT_FOUND)
        return LLM_OK;
    if (status == LLM_OK)
        status = read_eos(root, name, c, error);
    if (status == LLM_OK)
        status = generation_defaults_read(root, name, &c->defaults, error);
    json_decref(root);
    return status;
}

enum llm_status model_config_read(const struct model_files *files, struct model_config *out_config,
                                  struct llm_error *error)
{
    struct model_config c = {0};
    json_t *root = NULL;
    enum llm_status status = model_json_read(files, CONFIG, CONFIG_MAX_BYTES, &root, error);
    if (status == LLM_OK)
        status = read_config(root, &c, error);
    if (status == LLM_OK)
        status = read_generation_config(files, &c, error);
    if (status == LLM_OK)
        *out_config = c;
    json_decref(root);
    return status;
}
