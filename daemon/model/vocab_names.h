/*
 * vocab_names.h - tokens by their names, and by parts of names.
 *
 * Idea     A file lists names by id; merges, byte tokens and pieces of pieces need the way back. The hash of a
 *          name is a polynomial in its bytes, so the hashes of all beginnings of a name, computed once, give
 *          the hash of any part of it in one multiplication: all ways to cut a piece in two are looked up in
 *          time that grows with its length, not with its square.
 * Owner    The names stay the caller's and must outlive the table; vocab_names_close() frees the table.
 * Trust    Names are hostile. A hit is compared byte by byte; a probe run is at most LLM_VOCAB_PROBES_MAX long,
 *          which names that were chosen to collide exceed and vocabularies made by training do not.
 * See      Karp, Rabin 1987, "Efficient randomized pattern-matching algorithms".
 */
#ifndef LLM_DAEMON_MODEL_VOCAB_NAMES_H
#define LLM_DAEMON_MODEL_VOCAB_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/status.h"
#include "shm/vocab_image.h"

struct vocab_name {
    const uint8_t *bytes; /* not terminated */
    uint32_t count;
};

struct vocab_names {
    const struct vocab_name *names; /* [count], by id */
    uint32_t *slots;                /* id or LLM_TOKEN_NONE */
    uint64_t mask;
};

/* The zero value is a table without names. */
#define VOCAB_NAMES_CLOSED ((struct vocab_names){.names = NULL, .slots = NULL, .mask = 0})

/*
 * Index names by id. An empty name is not indexed.
 *
 *   names     [count]
 *   file      as it should appear in a sentence: "tokenizer.model"
 *   returns   LLM_OK
 *             LLM_ERR_INVALID  two ids have the same name
 *             LLM_ERR_LIMIT    too many names in one run of the table
 *             LLM_ERR_MEMORY
 */
LLM_MUST_CHECK enum llm_status vocab_names_open(struct vocab_names *table,
                                                const struct vocab_name *names, uint32_t count,
                                                const char *file, struct llm_error *error);
void vocab_names_close(struct vocab_names *table);

/* The id with this name, or LLM_TOKEN_NONE. */
uint32_t vocab_names_find(const struct vocab_names *table, const void *bytes, size_t count);

/* The hashes of all beginnings of one name. */
struct vocab_name_parts {
    struct vocab_name name;
    uint64_t hashes[LLM_VOCAB_TOKEN_BYTES_MAX + 1]; /* of the first n bytes */
};

/* `name.count` is at most LLM_VOCAB_TOKEN_BYTES_MAX. */
void vocab_name_parts_init(struct vocab_name_parts *parts, struct vocab_name name);
/* The id whose name is bytes [from, to) of the name, or LLM_TOKEN_NONE. */
uint32_t vocab_names_find_part(const struct vocab_names *table,
                               const struct vocab_name_parts *parts, uint32_t from, uint32_t to);

#endif
