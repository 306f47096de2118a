#include "daemon/keeper/model_roots.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/keeper/place.h"

static enum llm_status add_root(struct model_roots *roots, const char *path,
                                struct llm_error *error)
{
    char canonical[PATH_MAX];
    if (!realpath(path, canonical))
        return llm_fail_errno(error, LLM_ERR_INVALID, errno, "model directory %s", path);
    if (strlen(canonical) >= CONFIG_PATH_BYTES || roots->count == MODEL_ROOTS_MAX)
        return llm_fail(error, LLM_ERR_INVALID, "model directory %s: too long, or too many", path);
    int fd = open(canonical, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return llm_fail_errno(error, LLM_ERR_INVALID, errno, "model directory %s", path);
    struct model_root *root = &roots->roots[roots->count++];
    memcpy(root->path, canonical, strlen(canonical) + 1);
    root->fd = fd;
    return LLM_OK;
}

/* Where the built-in models are, from the program's own place; a build tree has a link there. */
static void add_builtin_root(struct model_roots *roots)
{
    char path[PATH_MAX];
    if (place_program_sibling(LLMD_MODELS_FROM_BIN, path, sizeof path) && access(path, X_OK) == 0)
        (void)!add_root(roots, path, NULL);
}

static bool holds_model(const char *directory, char *out_path, size_t bytes)
{
    char file[PATH_MAX], canonical[PATH_MAX];
    int used = snprintf(file, sizeof file, "%s/config.json", directory);
    if (used < 0 || (size_t)used >= sizeof file || access(file, R_OK) != 0 ||
        !realpath(directory, canonical) || strlen(canonical) >= bytes)
        return false;
    memcpy(out_path, canonical, strlen(canonical) + 1);
    return true;
}

static enum llm_status find_by_name(const struct model_roots *roots, const char *name,
                                    char *out_path, size_t bytes, struct llm_error *error)
{
    char looked[192] = "";
    for (uint32_t i = 0; i < roots->count; i++) {
        char directory[PATH_MAX];
        int used = snprintf(directory, sizeof directory, "%s/%s", roots->roots[i].path, name);
        if (used > 0 && (size_t)used < sizeof directory && holds_model(directory, out_path, bytes))
            return LLM_OK;
        size_t at = strlen(looked);
        snprintf(looked + at, sizeof looked - at, "%s%s", i ? ", " : "", roots->roots[i].path);
    }
    return llm_fail(error, LLM_ERR_NOT_FOUND, "no model \"%s\" (looked in: %s)", name,
                    roots->count ? looked : "no directory is configured");
}

/* What follows the root in `path`; NULL when the path is not beneath it. */
static const char *beneath(const struct model_root *root, const char *path)
{
    size_t bytes = strlen(root->path);
    if (strncmp(path, root->path, bytes) != 0 || path[bytes] != '/')
        return NULL;
    return path + bytes + 1;
}

static bool allowed(const struct model_roots *roots, const char *directory)
{
    for (uint32_t i = 0; i < roots->count; i++)
        if (beneath(&roots->roots[i], directory) || strcmp(roots->roots[i].path, directory) == 0)
            return true;
    return false;
}

static enum llm_status find_model(const struct model_roots *roots, const char *what, char *out_path,
                                  size_t bytes, struct llm_error *error)
{
    if (what[0] == '\0' || strcmp(what, ".") == 0 || strcmp(what, "..") == 0)
        return llm_fail(error, LLM_ERR_INVALID, "\"%s\" is not a model's name", what);
    if (!strchr(what, '/'))
        return find_by_name(roots, what, out_path, bytes, error);
    if (!holds_model(what, out_path, bytes))
        return llm_fail(error, LLM_ERR_NOT_FOUND,
                        "%s is not a model directory (no readable config.json in it)", what);
    return LLM_OK;
}

enum llm_status model_roots_find(const struct model_roots *roots, const char *what, char *out_path,
                                 size_t bytes, struct llm_error *error)
{
    if (strcmp(what, "echo") == 0) {
        snprintf(out_path, bytes, "echo");
        return LLM_OK;
    }
    if (what[0] != '/' && strchr(what, '/'))
        return llm_fail(error, LLM_ERR_INVALID, "%s is neither a name nor an absolute directory",
                        what);
    enum llm_status status = find_model(roots, what, out_path, bytes, error);
    if (status == LLM_OK && !allowed(roots, out_path))
        return llm_fail(error, LLM_ERR_PERMISSION,
                        "%s is not beneath a model directory (models.directories)", out_path);
    return status;
}

/* The default model may lie anywhere: whoever starts the daemon said so. */
static enum llm_status find_preset(struct model_roots *roots, char *preset, size_t bytes,
                                   struct llm_error *error)
{
    char what[CONFIG_PATH_BYTES];
    if (strcmp(preset, "echo") == 0)
        return LLM_OK;
    snprintf(what, sizeof what, "%s", preset);
    enum llm_status status = find_model(roots, what, preset, bytes, error);
    return status == LLM_OK && strchr(what, '/') ? add_root(roots, preset, error) : status;
}

enum llm_status model_roots_open(struct model_roots *roots, struct config *config,
                                 struct llm_error *error)
{
    roots->count = 0;
    enum llm_status status = LLM_OK;
    for (uint32_t i = 0; i < config->models.directories.count && status == LLM_OK; i++)
        status = add_root(roots, config->models.directories.paths[i], error);
    if (status == LLM_OK) {
        add_builtin_root(roots);
        status = find_preset(roots, config->models.preset, sizeof config->models.preset, error);
    }
    if (status != LLM_OK)
        model_roots_close(roots);
    return status;
}

void model_roots_close(struct model_roots *roots)
{
    for (uint32_t i = 0; i < roots->count; i++)
        close(roots->roots[i].fd);
    roots->count = 0;
}

static int open_beneath(int root_fd, const char *rest)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, root_fd, rest, &how, sizeof how);
}

static enum llm_status check_regular(int fd, const char *path, struct llm_error *error)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "%s", path);
    if (!S_ISREG(stat.st_mode))
        return llm_fail(error, LLM_ERR_INVALID, "%s is not a regular file", path);
    return LLM_OK;
}

static enum llm_status open_reason(const char *path, int error_number, struct llm_error *error)
{
    if (error_number == ENOENT)
        return llm_fail(error, LLM_ERR_NOT_FOUND, "%s does not exist", path);
    if (error_number == EXDEV)
        return llm_fail(error, LLM_ERR_PERMISSION, "%s leads out of the model directories", path);
    return llm_fail_errno(error, LLM_ERR_SYSTEM, error_number, "cannot open %s", path);
}

enum llm_status model_roots_open_file(const struct model_roots *roots, const char *path,
                                      int *out_fd, struct llm_error *error)
{
    enum llm_status status =
        llm_fail(error, LLM_ERR_PERMISSION, "%s is not beneath a model directory", path);
    for (uint32_t i = 0; i < roots->count; i++) {
        const char *rest = beneath(&roots->roots[i], path);
        if (!rest)
            continue;
        int fd = open_beneath(roots->roots[i].fd, rest);
        if (fd < 0) {
            status = open_reason(path, errno, error);
            continue; /* roots may lie within each other */
        }
        status = check_regular(fd, path, error);
        if (status == LLM_OK)
            *out_fd = fd;
        else
            close(fd);
        return status;
    }
    return status;
}
