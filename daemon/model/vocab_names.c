#include "daemon/model/vocab_names.h"

#include <stdlib.h>
#include <string.h>

#include "shm/check.h"

#define BASE UINT64_C(0x9e3779b97f4a7c15) /* odd, so that no byte's weight vanishes */

static uint64_t hash_next(uint64_t hash, uint8_t byte)
{
    return hash * BASE + byte + 1;
}

static uint64_t power(uint64_t exponent)
{
    uint64_t result = 1;
    for (uint64_t square = BASE; exponent > 0; exponent >>= 1, square *= square)
        if (exponent & 1)
            result *= square;
    return result;
}

static uint64_t hash_of(const uint8_t *bytes, size_t count)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < count; i++)
        hash = hash_next(hash, bytes[i]);
    return hash;
}

static uint64_t first_slot(const struct vocab_names *table, uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= UINT64_C(0xff51afd7ed558ccd); /* spreads the low digits of the polynomial */
    return hash >> 20 & table->mask;
}

static bool same(struct vocab_name name, const uint8_t *bytes, size_t count)
{
    return name.count == count && memcmp(name.bytes, bytes, count) == 0;
}

/* The slot of a name: its own, or the first free one. LLM_VOCAB_PROBES_MAX tries; false when none was either. */
static bool find_slot(const struct vocab_names *table, uint64_t hash, const uint8_t *bytes,
                      size_t count, uint64_t *out_slot)
{
    uint64_t slot = first_slot(table, hash);
    for (uint32_t probe = 0; probe < LLM_VOCAB_PROBES_MAX; probe++) {
        uint32_t id = table->slots[slot];
        if (id == LLM_TOKEN_NONE || same(table->names[id], bytes, count)) {
            *out_slot = slot;
            return true;
        }
        slot = (slot + 1) & table->mask;
    }
    return false;
}

static enum llm_status add_name(struct vocab_names *table, uint32_t id, const char *file,
                                struct llm_error *error)
{
    struct vocab_name name = table->names[id];
    uint64_t slot;
    if (!find_slot(table, hash_of(name.bytes, name.count), name.bytes, name.count, &slot))
        return llm_fail(error, LLM_ERR_LIMIT,
                        "%s: more than %u tokens fall into one run of the table of names; a "
                        "vocabulary made by training does not",
                        file, LLM_VOCAB_PROBES_MAX);
    if (table->slots[slot] != LLM_TOKEN_NONE)
        return llm_fail(error, LLM_ERR_INVALID, "%s: tokens %u and %u have the same name", file,
                        table->slots[slot], id);
    table->slots[slot] = id;
    return LLM_OK;
}

enum llm_status vocab_names_open(struct vocab_names *table, const struct vocab_name *names,
                                 uint32_t count, const char *file, struct llm_error *error)
{
    *table = VOCAB_NAMES_CLOSED;
    uint64_t slots = 2;
    while (slots < 2 * (uint64_t)count)
        slots *= 2;
    table->names = names;
    table->mask = slots - 1;
    table->slots = malloc(slots * sizeof *table->slots);
    if (!table->slots)
        return llm_fail(error, LLM_ERR_MEMORY, "%s: no memory for the names of %u tokens", file,
                        count);
    memset(table->slots, 0xff, slots * sizeof *table->slots); /* LLM_TOKEN_NONE */
    enum llm_status status = LLM_OK;
    for (uint32_t id = 0; id < count && status == LLM_OK; id++)
        if (names[id].count > 0)
            status = add_name(table, id, file, error);
    if (status != LLM_OK)
        vocab_names_close(table);
    return status;
}

void vocab_names_close(struct vocab_names *table)
{
    free(table->slots);
    *table = VOCAB_NAMES_CLOSED;
}

static uint32_t find_hashed(const struct vocab_names *table, uint64_t hash, const uint8_t *bytes,
                            size_t count)
{
    uint64_t slot;
    if (!table->slots || !find_slot(table, hash, bytes, count, &slot))
        return LLM_TOKEN_NONE;
    return table->slots[slot];
}

uint32_t vocab_names_find(const struct vocab_names *table, const void *bytes, size_t count)
{
    return find_hashed(table, hash_of(bytes, count), bytes, count);
}

void vocab_name_parts_init(struct vocab_name_parts *parts, struct vocab_name name)
{
    CHECK(name.count <= LLM_VOCAB_TOKEN_BYTES_MAX);
    parts->name = name;
    parts->hashes[0] = 0;
    for (uint32_t i = 0; i < name.count; i++)
        parts->hashes[i + 1] = hash_next(parts->hashes[i], name.bytes[i]);
}

uint32_t vocab_names_find_part(const struct vocab_names *table,
                               const struct vocab_name_parts *parts, uint32_t from, uint32_t to)
{
    uint64_t hash = parts->hashes[to] - parts->hashes[from] * power(to - from);
    return find_hashed(table, hash, parts->name.bytes + from, to - from);
}
