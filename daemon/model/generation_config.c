#include "daemon/model/generation_config.h"

#include "shm/request.h"

struct llm_in_force generation_defaults_none(void)
{
    return (struct llm_in_force){.top_p = 1, .typical_p = 1, .repetition_penalty = 1};
}

struct real_key {
    const char *name;
    double least, most;
    float *out;
};

/* Absent and null leave it as it is. */
static enum llm_status read_real(const json_t *root, const char *file, const struct real_key *key,
                                 struct llm_error *error)
{
    const json_t *value = json_object_get(root, key->name);
    if (value == NULL || json_is_null(value))
        return LLM_OK;
    if (!json_is_number(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s\" is not a number", file, key->name);
    double real = json_number_value(value);
    if (!(real >= key->least && real <= key->most))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"%s\" is %g; it must be %g..%g", file,
                        key->name, real, key->least, key->most);
    *key->out = (float)real;
    return LLM_OK;
}

/* -1 and 0 are both written for "off". */
static enum llm_status read_top_k(const json_t *root, const char *file, uint32_t *out_top_k,
                                  struct llm_error *error)
{
    const json_t *value = json_object_get(root, "top_k");
    if (value == NULL || json_is_null(value))
        return LLM_OK;
    if (!json_is_integer(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"top_k\" is not an integer", file);
    json_int_t k = json_integer_value(value);
    if (k < -1 || k > INT32_MAX)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s: \"top_k\" is %" JSON_INTEGER_FORMAT "; it must be -1..%d", file, k,
                        INT32_MAX);
    *out_top_k = k < 0 ? 0 : (uint32_t)k;
    return LLM_OK;
}

enum llm_status generation_defaults_read(const json_t *root, const char *name,
                                         struct llm_in_force *out_defaults, struct llm_error *error)
{
    struct llm_in_force d = generation_defaults_none();
    const json_t *do_sample = json_object_get(root, "do_sample");
    if (do_sample != NULL && !json_is_null(do_sample) && !json_is_boolean(do_sample))
        return llm_fail(error, LLM_ERR_INVALID, "%s: \"do_sample\" is neither true nor false",
                        name);
    d.temperature = 1;
    const struct real_key keys[] = {
        {"temperature", 0, (double)LLM_TEMPERATURE_MAX, &d.temperature},
        {"top_p", 1e-6, 1, &d.top_p},
        {"min_p", 0, 1, &d.min_p},
        {"typical_p", 1e-6, 1, &d.typical_p},
        {"repetition_penalty", (double)LLM_REPETITION_PENALTY_MIN,
         (double)LLM_REPETITION_PENALTY_MAX, &d.repetition_penalty},
    };
    enum llm_status status = read_top_k(root, name, &d.top_k, error);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && status == LLM_OK; i++)
        status = read_real(root, name, &keys[i], error);
    if (status != LLM_OK)
        return status;
    if (!json_is_true(do_sample))
        d.temperature = 0;
    *out_defaults = d;
    return LLM_OK;
}
