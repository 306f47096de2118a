#include "daemon/model/model_place.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENDING      ".gguf"
#define SPLIT_BYTES (sizeof "-00001-of-00003" - 1)

/* ---- names ---- */

static bool is_gguf(const char *name)
{
    size_t bytes = strlen(name), ending = sizeof ENDING - 1;
    return bytes > ending && strcmp(name + bytes - ending, ENDING) == 0;
}

static bool all_digits(const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    return true;
}

/* "-00002-of-00003" before the ending, or NULL. */
static const char *split_part(const char *name)
{
    size_t bytes = strlen(name), tail = SPLIT_BYTES + sizeof ENDING - 1;
    if (!is_gguf(name) || bytes <= tail)
        return NULL;
    const char *part = name + bytes - tail;
    bool is = part[0] == '-' && all_digits(part + 1, 5) && memcmp(part + 6, "-of-", 4) == 0 &&
              all_digits(part + 10, 5);
    return is ? part : NULL;
}

/* Of a split the first file's name; others as they are. */
static void to_first(char *name)
{
    const char *part = split_part(name);
    if (part != NULL)
        memcpy(name + (part - name) + 1, "00001", 5);
}

bool model_place_holds(const struct model_place *place, const char *name)
{
    if (strcmp(place->gguf, name) == 0)
        return true;
    if (split_part(place->gguf) == NULL || split_part(name) == NULL ||
        strlen(name) >= MODEL_PLACE_NAME_BYTES)
        return false;
    char first[MODEL_PLACE_NAME_BYTES];
    memcpy(first, name, strlen(name) + 1);
    to_first(first);
    return strcmp(place->gguf, first) == 0;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

void model_place_name(const struct model_place *place, char *out_name, size_t bytes)
{
    const char *name = place->gguf[0] != '\0' ? place->gguf : last_part(place->directory);
    size_t count = strlen(name);
    if (place->gguf[0] != '\0' && is_gguf(name))
        count -= sizeof ENDING - 1 + (split_part(name) != NULL ? SPLIT_BYTES : 0);
    snprintf(out_name, bytes, "%.*s", (int)count, name);
}

/* ---- paths ---- */

static enum llm_status set_directory(struct model_place *place, const char *path, size_t bytes,
                                     struct llm_error *error)
{
    if (bytes >= sizeof place->directory)
        return llm_fail(error, LLM_ERR_INVALID, "the model's path is longer than %zu bytes",
                        sizeof place->directory - 1);
    memcpy(place->directory, path, bytes);
    place->directory[bytes] = '\0';
    return LLM_OK;
}

static enum llm_status set_file(struct model_place *place, const char *name,
                                struct llm_error *error)
{
    if (strlen(name) >= sizeof place->gguf)
        return llm_fail(error, LLM_ERR_INVALID, "the model's file name is longer than %zu bytes",
                        sizeof place->gguf - 1);
    memcpy(place->gguf, name, strlen(name) + 1);
    return LLM_OK;
}

enum llm_status model_place_path(const struct model_place *place, char *out_path, size_t bytes,
                                 struct llm_error *error)
{
    bool file = place->gguf[0] != '\0';
    if (strlen(place->directory) + strlen(place->gguf) + 2 > bytes)
        return llm_fail(error, LLM_ERR_INVALID, "the path of a model in %.100s is too long",
                        place->directory);
    snprintf(out_path, bytes, "%s%s%s", place->directory, file ? "/" : "", place->gguf);
    return LLM_OK;
}

enum llm_status model_place_from_path(const char *path, struct model_place *out_place,
                                      struct llm_error *error)
{
    struct model_place place = {.gguf = ""};
    const char *name = last_part(path);
    size_t directory = strlen(path);
    enum llm_status status = LLM_OK;
    if (is_gguf(name)) {
        status = set_file(&place, name, error);
        directory = name == path ? 0 : (size_t)(name - path) - 1;
    }
    if (status == LLM_OK)
        status = set_directory(&place, path, directory, error);
    if (status == LLM_OK)
        *out_place = place;
    return status;
}

/* ---- what is in a directory ---- */

static bool has(const char *directory, const char *name)
{
    char path[PATH_MAX];
    int used = snprintf(path, sizeof path, "%s/%s", directory, name);
    return used > 0 && (size_t)used < sizeof path && access(path, R_OK) == 0;
}

/* Whether there are none, one or more GGUF files or splits; a first one is kept in `place`. */
static enum llm_status count_gguf(struct model_place *place, int *out_count,
                                  struct llm_error *error)
{
    DIR *directory = opendir(place->directory);
    if (directory == NULL)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot list %s", place->directory);
    int count = 0;
    for (const struct dirent *entry = readdir(directory); entry != NULL;
         entry = readdir(directory)) {
        char name[MODEL_PLACE_NAME_BYTES];
        if (!is_gguf(entry->d_name) || entry->d_name[0] == '.' ||
            strlen(entry->d_name) >= sizeof name)
            continue;
        memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
        to_first(name);
        if (strcmp(name, place->gguf) == 0)
            continue;
        if (count++ == 0)
            memcpy(place->gguf, name, strlen(name) + 1);
    }
    closedir(directory);
    *out_count = count;
    return LLM_OK;
}

/* A config.json alone also comes with GGUF files; weights beside it make it a model. */
static enum llm_status look_into(struct model_place *place, struct llm_error *error)
{
    const char *directory = place->directory;
    bool config = has(directory, "config.json");
    if (config &&
        (has(directory, "model.safetensors") || has(directory, "model.safetensors.index.json")))
        return LLM_OK;
    int count = 0;
    enum llm_status status = count_gguf(place, &count, error);
    if (status != LLM_OK || count == 1)
        return status;
    place->gguf[0] = '\0';
    if (config)
        return LLM_OK; /* it will be said which file is missing */
    if (count > 1)
        return llm_fail(error, LLM_ERR_INVALID,
                        "%s holds more than one GGUF file; name the one you mean", directory);
    return llm_fail(error, LLM_ERR_NOT_FOUND,
                    "%s is not a model directory (neither config.json nor a GGUF file in it)",
                    directory);
}

/* The directory is made canonical, the file's name stays: a link's target may have any name. */
static enum llm_status find_file(const char *path, struct model_place *place,
                                 struct llm_error *error)
{
    if (!is_gguf(last_part(path)))
        return llm_fail(error, LLM_ERR_INVALID,
                        "%.160s is neither a directory nor a file whose name ends in .gguf", path);
    enum llm_status status = set_file(place, last_part(path), error);
    if (status != LLM_OK)
        return status;
    to_first(place->gguf);
    char parent[PATH_MAX], canonical[PATH_MAX];
    int bytes = (int)(last_part(path) - path);
    snprintf(parent, sizeof parent, "%.*s", bytes == 0 ? 1 : bytes, bytes == 0 ? "." : path);
    if (realpath(parent, canonical) == NULL)
        return llm_fail_errno(error, LLM_ERR_NOT_FOUND, errno, "%s", path);
    return set_directory(place, canonical, strlen(canonical), error);
}

enum llm_status model_place_find(const char *path, struct model_place *out_place,
                                 struct llm_error *error)
{
    struct model_place place = {.gguf = ""};
    char canonical[PATH_MAX];
    struct stat st;
    enum llm_status status;
    if (stat(path, &st) != 0 || realpath(path, canonical) == NULL)
        return llm_fail_errno(error, LLM_ERR_NOT_FOUND, errno, "%.160s is not a model", path);
    if (S_ISDIR(st.st_mode)) {
        status = set_directory(&place, canonical, strlen(canonical), error);
        if (status == LLM_OK)
            status = look_into(&place, error);
        if (status == LLM_OK && place.gguf[0] == '\0' && is_gguf(last_part(canonical)))
            status = llm_fail(error, LLM_ERR_INVALID,
                              "%.160s is a directory but named like a file: rename it", canonical);
    } else {
        status = find_file(path, &place, error);
    }
    if (status == LLM_OK)
        *out_place = place;
    return status;
}
