/*
 * model_json.h - the JSON objects among a model's files, and their strings made fit for a sentence.
 *
 * Idea     config.json, generation_config.json, safetensors headers and shard indices are all one object;
 *          this joins opening (model_files.h) and parsing (json_file.h) and insists on the object. Names and
 *          strings in them are hostile, so sentences print them through json_show().
 * Owner    The caller owns the returned tree: json_decref().
 * See      daemon/model/json_file.h.
 */
#ifndef LLM_DAEMON_MODEL_MODEL_JSON_H
#define LLM_DAEMON_MODEL_MODEL_JSON_H

#include "daemon/model/json_file.h"
#include "daemon/model/model_files.h"
#include "shm/status.h"

#include <stddef.h>

/* Open and parse file `name`, at most limit_bytes long; as model_files.open and json_file_read(), and
 * LLM_ERR_INVALID when its top is not an object. */
LLM_MUST_CHECK enum llm_status model_json_read(const struct model_files *files, const char *name,
                                               size_t limit_bytes, json_t **out_object,
                                               struct llm_error *error);

/* As json_bytes_read(), and LLM_ERR_INVALID when the top is not an object. */
LLM_MUST_CHECK enum llm_status model_json_parse(const char *bytes, size_t byte_count,
                                                const char *name, json_t **out_object,
                                                struct llm_error *error);

/* At most 80 bytes of `text` with control characters as '?', "..." where it was longer. */
struct json_shown {
    char text[84];
};
struct json_shown json_show(const char *text);

#endif
