#include "daemon/config_value.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

/* ---- Text to value --------------------------------------------------------------------------------- */

struct allowed_text {
    const char *key;
    const char *values[5];
};
static const struct allowed_text allowed_texts[] = {
    {"cpu.backend", {"auto", "cpu", "reference"}},
    {"log.level", {"error", "warn", "info", "debug"}},
    {"log.format", {"logfmt", "json", "text"}},
    {"quota.priority_max", {"interactive", "normal", "batch"}},
};

/* "quota.alice.priority_max" is the key "quota.priority_max" of a table that has a name of its own. */
static bool same_key(const char *name, const char *key)
{
    if (strncmp(name, "quota.", 6) == 0 && strncmp(key, "quota.", 6) == 0)
        return strcmp(strrchr(name, '.'), strrchr(key, '.')) == 0;
    return strcmp(name, key) == 0;
}

static bool text_allowed(const struct config_key *key, const char *value)
{
    for (size_t i = 0; i < sizeof allowed_texts / sizeof allowed_texts[0]; i++) {
        if (!same_key(key->name, allowed_texts[i].key))
            continue;
        for (const char *const *one = allowed_texts[i].values; *one; one++)
            if (strcmp(*one, value) == 0)
                return true;
        return false;
    }
    return true;
}

static bool has_control_character(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    return false;
}

static enum llm_status set_text(void *field, const struct config_key *key, const char *value,
                                const char *place, struct llm_error *error)
{
    if (!text_allowed(key, value) || has_control_character(value))
        return llm_fail(error, LLM_ERR_INVALID, "%s: %s = \"%s\" is not allowed (%s)", place,
                        key->name, value, key->sentence);
    if (strlen(value) >= key->most)
        return llm_fail(error, LLM_ERR_INVALID, "%s: %s is longer than %llu bytes", place,
                        key->name, (unsigned long long)key->most - 1);
    memcpy(field, value, strlen(value) + 1);
    return LLM_OK;
}

static bool parse_unsigned(const char *text, const char **out_rest, uint64_t *out_value)
{
    char *rest;
    if (*text < '0' || *text > '9') /* strtoull takes signs and blanks */
        return false;
    errno = 0;
    *out_value = strtoull(text, &rest, 10);
    *out_rest = rest;
    return errno == 0;
}

/* "4GiB", "512 MiB", "65536" */
static bool parse_size(const char *text, uint64_t *out_bytes)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"", 1}, {"KiB", KIB}, {"MiB", MIB}, {"GiB", GIB}, {"TiB", TIB}};
    uint64_t count;
    if (!parse_unsigned(text, &text, &count))
        return false;
    if (*text == ' ')
        text++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(text, units[i].name) == 0)
            return !__builtin_mul_overflow(count, units[i].bytes, out_bytes);
    return false;
}

static enum llm_status set_number(uint64_t *field, const struct config_key *key, const char *value,
                                  const char *place, struct llm_error *error)
{
    uint64_t number = 0;
    const char *rest = "";
    bool parsed = key->type == CONFIG_SIZE ? parse_size(value, &number)
                                           : parse_unsigned(value, &rest, &number) && *rest == '\0';
    if (!parsed)
        return llm_fail(
            error, LLM_ERR_INVALID, "%s: %s = \"%s\" is not a %s", place, key->name, value,
            key->type == CONFIG_SIZE ? "size (for example \"512MiB\")" : "whole number");
    if (number < key->least || number > key->most)
        return llm_fail(error, LLM_ERR_INVALID, "%s: %s = %s is out of range %llu..%llu", place,
                        key->name, value, (unsigned long long)key->least,
                        (unsigned long long)key->most);
    if (key->type == CONFIG_POWER && (number & (number - 1)) != 0)
        return llm_fail(error, LLM_ERR_INVALID, "%s: %s = %s is not a power of two", place,
                        key->name, value);
    *field = number;
    return LLM_OK;
}

static enum llm_status set_boolean(bool *field, const struct config_key *key, const char *value,
                                   const char *place, struct llm_error *error)
{
    if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
        return llm_fail(error, LLM_ERR_INVALID, "%s: %s = \"%s\" is neither true nor false", place,
                        key->name, value);
    *field = value[0] == 't';
    return LLM_OK;
}

static enum llm_status set_directories(struct config_directories *field,
                                       const struct config_key *key, const char *value,
                                       const char *place, struct llm_error *error)
{
    struct config_directories found = {0};
    if (has_control_character(value)) /* what is printed must be readable again */
        return llm_fail(error, LLM_ERR_INVALID, "%s: %s has a control character", place, key->name);
    for (const char *at = value; *at;) {
        size_t bytes = strcspn(at, ":");
        if (at[0] != '/' || bytes >= CONFIG_PATH_BYTES)
            return llm_fail(error, LLM_ERR_INVALID, "%s: %s: \"%.*s\" is not an absolute path",
                            place, key->name, (int)(bytes < 100 ? bytes : 100), at);
        if (found.count == CONFIG_DIRECTORIES_MAX)
            return llm_fail(error, LLM_ERR_INVALID, "%s: %s has more than %d directories", place,
                            key->name, CONFIG_DIRECTORIES_MAX);
        memcpy(found.paths[found.count++], at, bytes); /* zeroed above: terminated */
        at += bytes + (at[bytes] == ':');
    }
    *field = found;
    return LLM_OK;
}

enum llm_status config_value_set(void *base, const struct config_key *key, const char *value,
                                 const char *place, struct llm_error *error)
{
    void *field = (char *)base + key->offset;
    switch (key->type) {
    case CONFIG_TEXT:
        return set_text(field, key, value, place, error);
    case CONFIG_COUNT:
    case CONFIG_POWER:
    case CONFIG_SIZE:
        return set_number(field, key, value, place, error);
    case CONFIG_BOOLEAN:
        return set_boolean(field, key, value, place, error);
    case CONFIG_DIRECTORIES:
        return set_directories(field, key, value, place, error);
    }
    return LLM_ERR_INVALID;
}

/* ---- Value to text --------------------------------------------------------------------------------- */

static void directories_text(const struct config_directories *directories, char *out, size_t bytes)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < directories->count && used < bytes; i++)
        used +=
            (size_t)snprintf(out + used, bytes - used, "%s%s", i ? ":" : "", directories->paths[i]);
}

void config_value_text(const void *base, const struct config_key *key, char *out_text, size_t bytes)
{
    const void *field = (const char *)base + key->offset;
    switch (key->type) {
    case CONFIG_TEXT:
        snprintf(out_text, bytes, "%s", (const char *)field);
        break;
    case CONFIG_COUNT:
    case CONFIG_POWER:
    case CONFIG_SIZE:
        snprintf(out_text, bytes, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case CONFIG_BOOLEAN:
        snprintf(out_text, bytes, "%s", *(const bool *)field ? "true" : "false");
        break;
    case CONFIG_DIRECTORIES:
        directories_text(field, out_text, bytes);
        break;
    }
}
