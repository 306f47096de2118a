/*
 * json_file.h - JSON from a model's directory, read as hostile bytes.
 *
 * Idea     One way in for config.json, tokenizer.json and the headers of safetensors files: a size limit
 *          before anything is read, strict parsing (UTF-8 checked, duplicate keys refused, nesting bounded
 *          by the parser), and one sentence with the file's name and the line.
 * Owner    The caller owns *out_root and gives it back with json_decref().
 * Trust    The bytes may be anything. Memory is bounded by a small multiple of the limit.
 * See      tests/daemon/test_json_file.c.
 */
#ifndef LLM_DAEMON_MODEL_JSON_FILE_H
#define LLM_DAEMON_MODEL_JSON_FILE_H

#include <jansson.h>
#include <stddef.h>

#include "shm/status.h"

/*
 * Parse one JSON document.
 *
 *   name      as it should appear in a sentence: "tokenizer.json"
 *   returns   LLM_OK
 *             LLM_ERR_INVALID      not JSON; the sentence names the line
 *             LLM_ERR_UNSUPPORTED  JSON, but with a zero byte in a key
 */
LLM_MUST_CHECK enum llm_status json_bytes_read(const char *bytes, size_t byte_count,
                                               const char *name, json_t **out_root,
                                               struct llm_error *error);

/*
 * Read a whole regular file and parse it.
 *
 *   fd           stays open; its position is not used
 *   limit_bytes  a larger file is refused before it is read
 *   returns      as json_bytes_read(), and
 *                LLM_ERR_LIMIT    larger than limit_bytes
 *                LLM_ERR_INVALID  not a regular file, or it became shorter while it was read
 *                LLM_ERR_SYSTEM   the operating system's reason is in the sentence
 *                LLM_ERR_MEMORY   no memory for its bytes
 */
LLM_MUST_CHECK enum llm_status json_file_read(int fd, const char *name, size_t limit_bytes,
                                              json_t **out_root, struct llm_error *error);

#endif
