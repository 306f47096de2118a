#include "daemon/model/model_config_rope.h"

#include "daemon/model/model_json.h"

#include <math.h>
#include <string.h>

#define THETA_USUAL 10000.0
#define FACTOR_MAX  0x1p20
#define BAND_MIN    1e-6 /* of the factors that bound bands of frequencies */
#define BAND_MAX    1e6
#define CONTEXT_MAX (1u << 20)

/* ---- which object, of which kind ---- */

/* The object that describes the scaling; without one, an object without keys. */
static enum llm_status find_object(const struct config_keys *keys, struct config_keys *out_object,
                                   struct llm_error *error)
{
    static const char *const names[] = {"rope_scaling", "rope_parameters"};
    static const char *const prefixes[] = {"rope_scaling.", "rope_parameters."};
    *out_object = (struct config_keys){NULL, prefixes[0]};
    for (int i = 0; i < 2; i++) {
        const json_t *object = json_object_get(keys->object, names[i]);
        if (!config_has(keys, names[i]))
            continue;
        if (!json_is_object(object))
            return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s\" is not an object",
                            MODEL_CONFIG_FILE, names[i]);
        if (out_object->object != NULL && !json_equal(out_object->object, object))
            return llm_fail(error, LLM_ERR_INVALID,
                            "%s has both \"%s\" and \"%s\", and they differ", MODEL_CONFIG_FILE,
                            names[0], names[1]);
        *out_object = (struct config_keys){object, prefixes[i]};
    }
    return LLM_OK;
}

/* An object without a kind is the plain one, unless it has a factor to scale by. */
static enum llm_status read_kind(const struct config_keys *object, enum model_rope_kind *out_kind,
                                 struct llm_error *error)
{
    static const char *const names[] = {[MODEL_ROPE_DEFAULT] = "default",
                                        [MODEL_ROPE_LINEAR] = "linear",
                                        [MODEL_ROPE_LLAMA3] = "llama3",
                                        [MODEL_ROPE_YARN] = "yarn"};
    const char *key = config_has(object, "rope_type") ? "rope_type" : "type";
    const json_t *type = json_object_get(object->object, key);
    *out_kind = MODEL_ROPE_DEFAULT;
    if (!config_has(object, key) && !config_has(object, "factor"))
        return LLM_OK;
    if (!json_is_string(type))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%srope_type\" is missing or not a name",
                        MODEL_CONFIG_FILE, object->prefix);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(json_string_value(type), names[i]) == 0) {
            *out_kind = (enum model_rope_kind)i;
            return LLM_OK;
        }
    }
    return llm_fail(error, LLM_ERR_UNSUPPORTED,
                    "%s: \"%s%s\" is \"%s\"; this build has default, linear, llama3 and yarn",
                    MODEL_CONFIG_FILE, object->prefix, key,
                    json_show(json_string_value(type)).text);
}

/* Every kind's keys, and one that old files carry and nobody reads. */
static bool key_is_known(const char *key)
{
    static const char *const known[] = {"rope_type",       "type",
                                        "rope_theta",      "factor",
                                        "low_freq_factor", "high_freq_factor",
                                        "beta_fast",       "beta_slow",
                                        "mscale",          "mscale_all_dim",
                                        "truncate",        "attention_factor",
                                        "finetuned",       "original_max_position_embeddings",
                                        "short_factor",    "long_factor",
                                        "short_mscale",    "long_mscale",
                                        "mrope_section",   "partial_rotary_factor"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(key, known[i]) == 0)
            return true;
    return false;
}

static enum llm_status refuse_unknown_keys(const struct config_keys *object,
                                           struct llm_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object->object, key, value)
    {
        if (!json_is_null(value) && !key_is_known(key))
            return llm_fail(error, LLM_ERR_UNSUPPORTED,
                            "%s: \"%s%s\" is not a key that this build knows", MODEL_CONFIG_FILE,
                            object->prefix, json_show(key).text);
    }
    return LLM_OK;
}

/* Heads that turn only in part are for other architectures. */
static enum llm_status refuse_partial(const struct config_keys *keys, struct llm_error *error)
{
    double part = 1;
    enum llm_status status =
        config_read_optional_real(keys, "partial_rotary_factor", 0, 1, &part, error);
    if (status == LLM_OK && part < 1)
        status = llm_fail(error, LLM_ERR_UNSUPPORTED,
                          "%s: \"%spartial_rotary_factor\" is %g; this build turns whole heads",
                          MODEL_CONFIG_FILE, keys->prefix, part);
    return status;
}

/* ---- the numbers of each kind ---- */

/* The length before scaling: beside the object, in it, or the file's own. `*out_given`: the file says it. */
static enum llm_status read_original(const struct config_keys *keys,
                                     const struct config_keys *object, struct model_config *c,
                                     bool *out_given, struct llm_error *error)
{
    static const char key[] = "original_max_position_embeddings";
    uint32_t *original = &c->rope.original_context_tokens;
    *out_given = true;
    if (config_has(keys, key))
        return config_read_count(keys, key, 1, CONTEXT_MAX, original, error);
    if (config_has(object, key))
        return config_read_count(object, key, 1, CONTEXT_MAX, original, error);
    *out_given = false;
    *original = c->context_max_tokens;
    return LLM_OK;
}

static void grow_context(struct model_config *c, double tokens)
{
    if (tokens > CONTEXT_MAX)
        tokens = CONTEXT_MAX;
    if (tokens > c->context_max_tokens)
        c->context_max_tokens = (uint32_t)tokens;
}

static enum llm_status read_linear(const struct config_keys *object, struct model_config *c,
                                   struct llm_error *error)
{
    enum llm_status status =
        config_read_real(object, "factor", 1, FACTOR_MAX, &c->rope.factor, error);
    if (status == LLM_OK)
        grow_context(c, c->context_max_tokens * c->rope.factor);
    return status;
}

static enum llm_status read_llama3(const struct config_keys *keys, const struct config_keys *object,
                                   struct model_config *c, struct llm_error *error)
{
    struct model_rope *rope = &c->rope;
    bool given;
    enum llm_status status =
        config_read_real(object, "factor", 1, FACTOR_MAX, &rope->factor, error);
    if (status == LLM_OK)
        status = config_read_real(object, "low_freq_factor", BAND_MIN, BAND_MAX,
                                  &rope->low_freq_factor, error);
    if (status == LLM_OK)
        status = config_read_real(object, "high_freq_factor", BAND_MIN, BAND_MAX,
                                  &rope->high_freq_factor, error);
    if (status == LLM_OK)
        status = read_original(keys, object, c, &given, error);
    if (status == LLM_OK && !(rope->high_freq_factor > rope->low_freq_factor))
        status = llm_fail(error, LLM_ERR_INVALID,
                          "%s: \"%shigh_freq_factor\" is %g; it must be more than "
                          "\"low_freq_factor\", %g",
                          MODEL_CONFIG_FILE, object->prefix, rope->high_freq_factor,
                          rope->low_freq_factor);
    return status;
}

/* Without a factor the file's length says how far the original one is stretched. */
static enum llm_status read_yarn_factor(const struct config_keys *object, struct model_config *c,
                                        bool original_given, struct llm_error *error)
{
    double *factor = &c->rope.factor;
    *factor = (double)c->context_max_tokens / c->rope.original_context_tokens;
    if (config_has(object, "factor") || !original_given || *factor < 1)
        return config_read_real(object, "factor", 1, FACTOR_MAX, factor, error);
    return LLM_OK;
}

/* 0.1 m ln(s) + 1: the paper's temperature (section 3.4), with DeepSeek's weights m. */
static double yarn_temperature(double factor, double weight)
{
    return 0.1 * weight * log(factor) + 1;
}

static enum llm_status read_attention_factor(const struct config_keys *object,
                                             struct model_rope *rope, struct llm_error *error)
{
    double mscale = 0, all_dim = 0;
    enum llm_status status = config_read_optional_real(object, "mscale", 0, 100, &mscale, error);
    if (status == LLM_OK)
        status = config_read_optional_real(object, "mscale_all_dim", 0, 100, &all_dim, error);
    rope->attention_factor = yarn_temperature(rope->factor, 1);
    if (mscale > 0 && all_dim > 0)
        rope->attention_factor =
            yarn_temperature(rope->factor, mscale) / yarn_temperature(rope->factor, all_dim);
    if (status == LLM_OK)
        status = config_read_optional_real(object, "attention_factor", 1e-3, 1e3,
                                           &rope->attention_factor, error);
    return status;
}

static enum llm_status read_yarn(const struct config_keys *keys, const struct config_keys *object,
                                 struct model_config *c, struct llm_error *error)
{
    struct model_rope *rope = &c->rope;
    bool given = false, truncate = true;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    enum llm_status status = read_original(keys, object, c, &given, error);
    if (status == LLM_OK)
        status = read_yarn_factor(object, c, given, error);
    if (status == LLM_OK)
        status = config_read_optional_real(object, "beta_fast", BAND_MIN, BAND_MAX,
                                           &rope->beta_fast, error);
    if (status == LLM_OK)
        status = config_read_optional_real(object, "beta_slow", BAND_MIN, BAND_MAX,
                                           &rope->beta_slow, error);
    if (status == LLM_OK && config_has(object, "truncate"))
        status = config_read_flag(object, "truncate", &truncate, error);
    if (status == LLM_OK)
        status = read_attention_factor(object, rope, error);
    if (status == LLM_OK && !(c->rope_theta > 1))
        status = llm_fail(error, LLM_ERR_INVALID,
                          "%s: \"rope_theta\" is %g; with \"yarn\" it must be more than 1",
                          MODEL_CONFIG_FILE, c->rope_theta);
    rope->between_dimensions = !truncate;
    if (status == LLM_OK && given)
        grow_context(c, rope->original_context_tokens * rope->factor);
    return status;
}

static enum llm_status read_numbers(const struct config_keys *keys,
                                    const struct config_keys *object, struct model_config *c,
                                    struct llm_error *error)
{
    switch (c->rope.kind) {
    case MODEL_ROPE_DEFAULT:
        break;
    case MODEL_ROPE_LINEAR:
        return read_linear(object, c, error);
    case MODEL_ROPE_LLAMA3:
        return read_llama3(keys, object, c, error);
    case MODEL_ROPE_YARN:
        return read_yarn(keys, object, c, error);
    }
    return LLM_OK;
}

static enum llm_status read_theta(const struct config_keys *keys, const struct config_keys *object,
                                  double *out_theta, struct llm_error *error)
{
    const struct config_keys *from = config_has(object, "rope_theta") ? object : keys;
    *out_theta = THETA_USUAL;
    return config_read_optional_real(from, "rope_theta", 1.0, 1e12, out_theta, error);
}

enum llm_status config_read_rope(const struct config_keys *keys, struct model_config *config,
                                 struct llm_error *error)
{
    struct config_keys object = {0};
    enum llm_status status = find_object(keys, &object, error);
    if (status == LLM_OK)
        status = read_kind(&object, &config->rope.kind, error);
    if (status == LLM_OK)
        status = refuse_unknown_keys(&object, error);
    if (status == LLM_OK)
        status = refuse_partial(&object, error);
    if (status == LLM_OK)
        status = refuse_partial(keys, error);
    if (status == LLM_OK)
        status = read_theta(keys, &object, &config->rope_theta, error);
    if (status == LLM_OK)
        status = read_numbers(keys, &object, config, error);
    return status;
}
