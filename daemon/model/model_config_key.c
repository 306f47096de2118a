#include "daemon/model/model_config_key.h"

#include <inttypes.h>

bool config_has(const struct config_keys *keys, const char *key)
{
    const json_t *value = json_object_get(keys->object, key);
    return value != NULL && !json_is_null(value);
}

enum llm_status config_read_count(const struct config_keys *keys, const char *key, uint32_t low,
                                  uint32_t high, uint32_t *out_count, struct llm_error *error)
{
    const json_t *value = json_object_get(keys->object, key);
    if (value == NULL)
        return llm_fail(error, LLM_ERR_INVALID, "%s has no \"%s%s\"", MODEL_CONFIG_FILE,
                        keys->prefix, key);
    if (!json_is_integer(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s%s\" is not an integer", MODEL_CONFIG_FILE,
                        keys->prefix, key);
    json_int_t count = json_integer_value(value);
    if (count < (json_int_t)low || count > (json_int_t)high)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"%s%s\" is %" JSON_INTEGER_FORMAT "; it must be %" PRIu32
                        "..%" PRIu32,
                        MODEL_CONFIG_FILE, keys->prefix, key, count, low, high);
    *out_count = (uint32_t)count;
    return LLM_OK;
}

enum llm_status config_read_real(const struct config_keys *keys, const char *key, double low,
                                 double high, double *out_real, struct llm_error *error)
{
    const json_t *value = json_object_get(keys->object, key);
    if (!json_is_number(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s%s\" is missing or not a number",
                        MODEL_CONFIG_FILE, keys->prefix, key);
    double real = json_number_value(value);
    if (!(real >= low && real <= high))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s%s\" is %g; it must be %g..%g",
                        MODEL_CONFIG_FILE, keys->prefix, key, real, low, high);
    *out_real = real;
    return LLM_OK;
}

enum llm_status config_read_optional_real(const struct config_keys *keys, const char *key,
                                          double low, double high, double *out_real,
                                          struct llm_error *error)
{
    return config_has(keys, key) ? config_read_real(keys, key, low, high, out_real, error) : LLM_OK;
}

enum llm_status config_read_flag(const struct config_keys *keys, const char *key, bool *out_flag,
                                 struct llm_error *error)
{
    const json_t *value = json_object_get(keys->object, key);
    if (value != NULL && !json_is_boolean(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s%s\" is neither true nor false",
                        MODEL_CONFIG_FILE, keys->prefix, key);
    *out_flag = json_is_true(value);
    return LLM_OK;
}

enum llm_status config_refuse_flag(const struct config_keys *keys, const char *key,
                                   const char *name, struct llm_error *error)
{
    bool on = false;
    enum llm_status status = config_read_flag(keys, key, &on, error);
    if (status == LLM_OK && on)
        status = llm_fail(error, LLM_ERR_UNSUPPORTED, "%s: \"%s%s\" is true; %s has no such thing",
                          MODEL_CONFIG_FILE, keys->prefix, key, name);
    return status;
}
