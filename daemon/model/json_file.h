/*
 * json_file.h - read one of a model's JSON files, and say clearly what is wrong with it.
 *
 * Idea     A thin layer over jansson: a size limit before anything is read, duplicate keys refused, UTF-8
 *          checked, nesting limited (jansson's 2048 levels), and errors that name file, line and column.
 * Owner    The caller owns the returned tree and gives it back with json_decref().
 * Trust    Files are hostile, so are strings in them: json_show() makes one fit for a sentence.
 * See      https://jansson.readthedocs.io, daemon/model/README.md.
 */
#ifndef LLM_DAEMON_MODEL_JSON_FILE_H
#define LLM_DAEMON_MODEL_JSON_FILE_H

#include "daemon/model/model_files.h"
#include "shm/status.h"

#include <jansson.h>
#include <stddef.h>

/* Open, read and parse a file of at most `bytes_max` bytes whose top is an object. LLM_ERR_NOT_FOUND when
 * there is no such file, LLM_ERR_LIMIT when it is larger, LLM_ERR_CORRUPT when it is not such JSON. */
LLM_MUST_CHECK enum llm_status json_file_read(const struct model_files *files, const char *name,
                                              size_t bytes_max, json_t **out_root,
                                              struct llm_error *error);

/* Parse JSON text that was read from file `name`, which is only used in sentences. */
LLM_MUST_CHECK enum llm_status json_file_parse(const char *name, const char *text, size_t bytes,
                                               json_t **out_root, struct llm_error *error);

/* A string from a file, made printable: at most 80 bytes, control characters as '?'. */
struct json_shown {
    char text[84];
};
struct json_shown json_show(const char *text);

#endif
