#include "daemon/model/model_config.h"

#include "daemon/model/generation_config.h"
#include "daemon/model/model_json.h"

#include <inttypes.h>
#include <string.h>

#define CONFIG_MAX_BYTES ((size_t)1 << 20)

static const char CONFIG[] = "config.json";

const char *model_architecture_name(enum model_architecture architecture)
{
    return architecture == MODEL_ARCHITECTURE_LLAMA ? "LlamaForCausalLM" : "unknown";
}

/* ---- one key at a time: absent, null, of another type, out of range ---- */

static bool key_is_given(const json_t *root, const char *key)
{
    const json_t *value = json_object_get(root, key);
    return value != NULL && !json_is_null(value);
}

static enum llm_status read_count(const json_t *root, const char *key, uint32_t max,
                                  uint32_t *out_count, struct llm_error *error)
{
    const json_t *value = json_object_get(root, key);
    if (value == NULL)
        return llm_fail(error, LLM_ERR_INVALID, "%s has no \"%s\"", CONFIG, key);
    if (!json_is_integer(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s\" is not an integer", CONFIG, key);
    json_int_t count = json_integer_value(value);
    if (count < 1 || count > (json_int_t)max)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"%s\" is %" JSON_INTEGER_FORMAT "; it must be 1..%" PRIu32, CONFIG,
                        key, count, max);
    *out_count = (uint32_t)count;
    return LLM_OK;
}

static enum llm_status read_real(const json_t *root, const char *key, double low, double high,
                                 double *out_real, struct llm_error *error)
{
    const json_t *value = json_object_get(root, key);
    if (!json_is_number(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s\" is missing or not a number", CONFIG,
                        key);
    double real = json_number_value(value);
    if (!(real >= low && real <= high))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s\" is %g; it must be %g..%g", CONFIG, key,
                        real, low, high);
    *out_real = real;
    return LLM_OK;
}

static enum llm_status read_flag(const json_t *root, const char *key, bool *out_flag,
                                 struct llm_error *error)
{
    const json_t *value = json_object_get(root, key);
    if (value != NULL && !json_is_boolean(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s\" is neither true nor false", CONFIG,
                        key);
    *out_flag = json_is_true(value);
    return LLM_OK;
}

/* ---- what this build does not have ---- */

static enum llm_status refuse_architecture(const json_t *root, struct llm_error *error)
{
    const json_t *names = json_object_get(root, "architectures");
    const json_t *name = json_array_get(names, 0);
    if (!json_is_string(name))
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"architectures\" is missing or not a list of names", CONFIG);
    const char *known = model_architecture_name(MODEL_ARCHITECTURE_LLAMA);
    if (strcmp(json_string_value(name), known) != 0)
        return llm_fail(error, LLM_ERR_UNSUPPORTED,
                        "%s: architecture \"%s\" is not supported; this build runs %s", CONFIG,
                        json_show(json_string_value(name)).text, known);
    return LLM_OK;
}

static enum llm_status refuse_flag(const json_t *root, const char *key, struct llm_error *error)
{
    bool on = false;
    enum llm_status status = read_flag(root, key, &on, error);
    if (status == LLM_OK && on)
        status = llm_fail(error, LLM_ERR_UNSUPPORTED,
                          "%s: \"%s\" is true; this build has no bias terms", CONFIG, key);
    return status;
}

/* A string that, where given, must be one of `names` (NULL-terminated). */
static enum llm_status refuse_other_names(const json_t *root, const char *key,
                                          const char *const *names, struct llm_error *error)
{
    if (!key_is_given(root, key))
        return LLM_OK;
    const json_t *value = json_object_get(root, key);
    if (!json_is_string(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s\" is not a string", CONFIG, key);
    for (; *names != NULL; names++)
        if (strcmp(json_string_value(value), *names) == 0)
            return LLM_OK;
    return llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: \"%s\" is \"%s\", which is not supported",
                    CONFIG, key, json_show(json_string_value(value)).text);
}

static enum llm_status refuse_features(const json_t *root, struct llm_error *error)
{
    static const char *const activations[] = {"silu", "swish", NULL};
    static const char *const types[] = {"float32", "bfloat16", "float16", NULL};
    enum llm_status status = refuse_architecture(root, error);
    if (status == LLM_OK)
        status = refuse_flag(root, "attention_bias", error);
    if (status == LLM_OK)
        status = refuse_flag(root, "mlp_bias", error);
    if (status == LLM_OK)
        status = refuse_other_names(root, "hidden_act", activations, error);
    if (status == LLM_OK)
        status = refuse_other_names(root, "torch_dtype", types, error);
    if (status == LLM_OK)
        status = refuse_other_names(root, "dtype", types, error);
    if (status == LLM_OK && key_is_given(root, "quantization_config"))
        status = llm_fail(error, LLM_ERR_UNSUPPORTED,
                          "%s has a \"quantization_config\"; quantised weights are not supported",
                          CONFIG);
    return status;
}

/* ---- groups of keys ---- */

static enum llm_status read_sizes(const json_t *root, struct model_config *c,
                                  struct llm_error *error)
{
    enum llm_status status = read_count(root, "hidden_size", 1u << 17, &c->hidden_size, error);
    if (status == LLM_OK)
        status = read_count(root, "intermediate_size", 1u << 20, &c->intermediate_size, error);
    if (status == LLM_OK)
        status = read_count(root, "num_hidden_layers", 2048, &c->layer_count, error);
    if (status == LLM_OK)
        status = read_count(root, "num_attention_heads", 4096, &c->head_count, error);
    if (status == LLM_OK)
        status = read_count(root, "vocab_size", 1u << 24, &c->vocab_size, error);
    if (status == LLM_OK)
        status =
            read_count(root, "max_position_embeddings", 1u << 20, &c->context_max_tokens, error);
    return status;
}

static enum llm_status read_heads(const json_t *root, struct model_config *c,
                                  struct llm_error *error)
{
    c->kv_head_count = c->head_count;
    if (key_is_given(root, "num_key_value_heads")) {
        enum llm_status status =
            read_count(root, "num_key_value_heads", c->head_count, &c->kv_head_count, error);
        if (status != LLM_OK)
            return status;
    }
    if (c->head_count % c->kv_head_count != 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"num_attention_heads\" is %" PRIu32
                        ", not a multiple of \"num_key_value_heads\", %" PRIu32,
                        CONFIG, c->head_count, c->kv_head_count);
    if (key_is_given(root, "head_dim"))
        return read_count(root, "head_dim", 1024, &c->head_dim, error);
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

/* Rotary embeddings are described by "rope_theta" and "rope_scaling", in files of transformers 5 by one
 * object "rope_parameters". The only kind we have is the plain one, "default". */
static enum llm_status read_rope(const json_t *root, struct model_config *c,
                                 struct llm_error *error)
{
    static const char *const objects[] = {"rope_scaling", "rope_parameters"};
    const json_t *theta_from = root;
    for (int i = 0; i < 2; i++) {
        if (!key_is_given(root, objects[i]))
            continue;
        const json_t *object = json_object_get(root, objects[i]);
        const json_t *type = json_object_get(object, "rope_type");
        if (type == NULL)
            type = json_object_get(object, "type");
        const char *name = json_is_string(type) ? json_string_value(type) : "?";
        if (strcmp(name, "default") != 0)
            return llm_fail(error, LLM_ERR_UNSUPPORTED,
                            "%s: \"%s\" of type \"%s\" is not supported; only null or \"default\"",
                            CONFIG, objects[i], json_show(name).text);
        if (json_object_get(object, "rope_theta") != NULL)
            theta_from = object;
    }
    c->rope_theta = 10000.0;
    if (json_object_get(theta_from, "rope_theta") == NULL)
        return LLM_OK;
    return read_real(theta_from, "rope_theta", 1.0, 1e12, &c->rope_theta, error);
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
    if (!key_is_given(root, "eos_token_id"))
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

static enum llm_status read_bos(const json_t *root, struct model_config *c, struct llm_error *error)
{
    c->bos_token_id = -1;
    if (!key_is_given(root, "bos_token_id"))
        return LLM_OK;
    const json_t *value = json_object_get(root, "bos_token_id");
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
    enum llm_status status = refuse_features(root, error);
    if (status == LLM_OK)
        status = read_sizes(root, c, error);
    if (status == LLM_OK)
        status = read_heads(root, c, error);
    if (status == LLM_OK)
        status = check_head_dim(c, error);
    if (status == LLM_OK)
        status = read_real(root, "rms_norm_eps", 1e-12, 0.1, &c->rms_norm_eps, error);
    if (status == LLM_OK)
        status = read_rope(root, c, error);
    if (status == LLM_OK)
        status = read_flag(root, "tie_word_embeddings", &c->tied_embeddings, error);
    if (status == LLM_OK)
        status = read_bos(root, c, error);
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
    struct model_config c = {.architecture = MODEL_ARCHITECTURE_LLAMA};
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
