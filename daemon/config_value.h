/*
 * config_value.h - a setting's value, from text and to text.
 *
 * Idea     One conversion for every way a value comes in (file, --set, hand-over) and out (help, file, list).
 *          What is written is read again as the same value.
 * See      config.h (the rows), quota.h (rows that are there once for each user or group).
 */
#ifndef LLMD_DAEMON_CONFIG_VALUE_H
#define LLMD_DAEMON_CONFIG_VALUE_H

#include "daemon/config.h"

/*
 * Set the field of `key` in the struct at `base` (struct config, or struct config_quota for its keys).
 *
 *   place     for the sentence
 *   returns   LLM_OK, LLM_ERR_INVALID (type, range, a text that is not allowed); then nothing changed
 */
enum llm_status config_value_set(void *base, const struct config_key *key, const char *value,
                                 const char *place, struct llm_error *error) LLM_MUST_CHECK;
/* The field as config_value_set() takes it. */
void config_value_text(const void *base, const struct config_key *key, char *out_text,
                       size_t bytes);

#endif
