/*
 * model_config_key.h - one key of config.json at a time: absent, null, of another type, out of range.
 *
 * Idea     Each reader has a range and fails with a sentence that names the key, so whoever reads a configuration
 *          writes down a list of keys and ranges and nothing else. A key inside an inner object is named with
 *          its object: "rope_scaling.factor".
 * Owner    Plain values that borrow the JSON.
 * Trust    The file is hostile; nothing here believes a number.
 * See      daemon/model/model_config.h, tests/daemon/test_model_config.c.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_CONFIG_KEY_H
#define LLM_DAEMON_MODEL_MODEL_CONFIG_KEY_H

#include "shm/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define MODEL_CONFIG_FILE "config.json"

/* The keys of the file, or of one object in it. */
struct config_keys {
    const json_t *object;
    const char *prefix; /* "" for the file itself, else the inner object's name and a dot */
};

/* There, and not null. */
bool config_has(const struct config_keys *keys, const char *key);

/* An integer in low..high. LLM_ERR_INVALID where it is missing, of another type or beyond the range. */
LLM_MUST_CHECK enum llm_status config_read_count(const struct config_keys *keys, const char *key,
                                                 uint32_t low, uint32_t high, uint32_t *out_count,
                                                 struct llm_error *error);

/* A number in [low, high], integers included; the same errors. */
LLM_MUST_CHECK enum llm_status config_read_real(const struct config_keys *keys, const char *key,
                                                double low, double high, double *out_real,
                                                struct llm_error *error);

/* config_read_real() where config_has(); otherwise *out_real stays as it is. */
LLM_MUST_CHECK enum llm_status config_read_optional_real(const struct config_keys *keys,
                                                         const char *key, double low, double high,
                                                         double *out_real, struct llm_error *error);

/* true or false; false where the key is absent. */
LLM_MUST_CHECK enum llm_status config_read_flag(const struct config_keys *keys, const char *key,
                                                bool *out_flag, struct llm_error *error);

/* Refuse a flag that is true: the architecture `name` has no such part. LLM_ERR_UNSUPPORTED. */
LLM_MUST_CHECK enum llm_status config_refuse_flag(const struct config_keys *keys, const char *key,
                                                  const char *name, struct llm_error *error);

#endif
