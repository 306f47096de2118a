/*
 * toml.h - read a configuration file: a small, strict subset of TOML 1.0.
 *
 * Idea     Tables, and "key = value" with strings, integers, floats, booleans and one-line or many-line
 *          arrays of strings. Everything else of TOML (dates, inline tables, arrays of tables, dotted and
 *          quoted keys, multi-line strings) is refused with a sentence that says where. Only in a table's header may a
 *          part stand in quotes, without escapes: [quota."@students"]. A reader that
 *          accepts little can be read in one sitting, and checked.
 * Owner    Values live until the visitor returns.
 * Trust    The text may be anything: bounded line, nesting and count, no recursion.
 * Source   https://toml.io/en/v1.0.0
 * See      daemon/config.h (what the keys mean), tests/daemon/test_toml.c.
 */
#ifndef LLMD_DAEMON_TOML_H
#define LLMD_DAEMON_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"

#define TOML_FILE_BYTES_MAX  65536
#define TOML_KEY_BYTES       128 /* "table.key", with the final zero */
#define TOML_STRING_BYTES    1024
#define TOML_ARRAY_COUNT_MAX 32
#define TOML_TABLES_KEYS_MAX 512 /* tables and keys of one file, all told */

enum toml_type {
    TOML_STRING,
    TOML_INTEGER,
    TOML_FLOAT,
    TOML_BOOLEAN,
    TOML_STRINGS
};

struct toml_value {
    enum toml_type type;
    int64_t integer;
    double number;
    bool boolean;
    uint32_t string_count;      /* 1 for TOML_STRING */
    const char *const *strings; /* [string_count] */
};

/* Called for each "key = value" in the order of the file; `key` is "table.key". What it returns ends the
 * reading unless it is LLM_OK. */
typedef enum llm_status toml_visit(void *self, const char *key, const struct toml_value *value,
                                   unsigned line, struct llm_error *error);

/*
 * Read `bytes` bytes of text.
 *
 *   name      for the sentences: "llmd.toml:12: ..."
 *   returns   LLM_OK, LLM_ERR_INVALID, LLM_ERR_LIMIT (too large, too many), or what `visit` returned
 */
enum llm_status toml_read(const char *text, size_t bytes, const char *name, toml_visit *visit,
                          void *self, struct llm_error *error) LLM_MUST_CHECK;

#endif
