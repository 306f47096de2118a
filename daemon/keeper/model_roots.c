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
    root->only = (struct model_place){.gguf = ""};
    return LLM_OK;
}

/* Where the built-in models are, from the program's own place; a build tree has a link there. */
static void add_builtin_root(struct model_roots *roots)
{
    char path[PATH_MAX];
    if (place_program_sibling(LLMD_MODELS_FROM_BIN, path, sizeof path) && access(path, X_OK) == 0)
        (void)!add_root(roots, path, NULL);
}

/* Whether there is a model at root/name; its path then, and what is wrong with it otherwise. */
static enum llm_status look_beneath(const struct model_root *root, const char *name,
                                    const char *ending, char *out_path, size_t bytes,
                                    struct llm_error *error)
{
    char path[PATH_MAX];
    struct model_place place;
    int used = snprintf(path, sizeof path, "%s/%s%s", root->path, name, ending);
    if (used < 0 || (size_t)used >= sizeof path)
        return llm_fail(error, LLM_ERR_INVALID, "\"%.80s\" is too long for a model's name", name);
    enum llm_status status = model_place_find(path, &place, error);
    return status == LLM_OK ? model_place_path(&place, out_path, bytes, error) : status;
}

static enum llm_status find_by_name(const struct model_roots *roots, const char *name,
                                    char *out_path, size_t bytes, struct llm_error *error)
{
    static const char *const endings[] = {"", ".gguf"};
    char looked[192] = "";
    for (uint32_t i = 0; i < roots->count; i++) {
        for (int j = 0; j < 2; j++) {
            enum llm_status status =
                look_beneath(&roots->roots[i], name, endings[j], out_path, bytes, error);
            if (status != LLM_ERR_NOT_FOUND)
                return status;
        }
        size_t at = strlen(looked);
        snprintf(looked + at, sizeof looked - at, "%s%s", i ? ", " : "", roots->roots[i].path);
    }
    return llm_fail(error, LLM_ERR_NOT_FOUND, "no model \"%s\" (looked in: %s)", name,
                    roots->count ? looked : "no directory is configured");
}

/* A directory becomes a root, a file's directory one for the file alone. */
static enum llm_status find_by_path(struct model_roots *roots, char *preset, size_t bytes,
                                    struct llm_error *error)
{
    struct model_place place;
    struct stat stat_of_path;
    bool directory = stat(preset, &stat_of_path) == 0 && S_ISDIR(stat_of_path.st_mode);
    enum llm_status status = model_place_find(preset, &place, error);
    if (status == LLM_OK)
        status = add_root(roots, place.directory, error);
    if (status == LLM_OK && !directory)
        roots->roots[roots->count - 1].only = place;
    return status == LLM_OK ? model_place_path(&place, preset, bytes, error) : status;
}

static enum llm_status find_model(struct model_roots *roots, char *preset, size_t bytes,
                                  struct llm_error *error)
{
    if (strcmp(preset, "echo") == 0)
        return LLM_OK;
    if (preset[0] == '\0' || strcmp(preset, ".") == 0 || strcmp(preset, "..") == 0)
        return llm_fail(error, LLM_ERR_INVALID, "\"%s\" is not a model's name", preset);
    if (strchr(preset, '/'))
        return find_by_path(roots, preset, bytes, error);
    char name[CONFIG_PATH_BYTES];
    snprintf(name, sizeof name, "%s", preset);
    return find_by_name(roots, name, preset, bytes, error);
}

/* What follows the root in `path`; NULL when the path is not beneath it, or not the file that the root is for. */
static const char *beneath(const struct model_root *root, const char *path)
{
    size_t bytes = strlen(root->path);
    if (strncmp(path, root->path, bytes) != 0 || path[bytes] != '/')
        return NULL;
    const char *rest = path + bytes + 1;
    return root->only.gguf[0] == '\0' || model_place_holds(&root->only, rest) ? rest : NULL;
}

static bool allowed(const struct model_roots *roots, const char *path)
{
    for (uint32_t i = 0; i < roots->count; i++) {
        const struct model_root *root = &roots->roots[i];
        if (beneath(root, path) || (root->only.gguf[0] == '\0' && strcmp(root->path, path) == 0))
            return true;
    }
    return false;
}

static enum llm_status find_allowed(const struct model_roots *roots, const char *path,
                                    char *out_path, size_t bytes, struct llm_error *error)
{
    struct model_place place;
    enum llm_status status = model_place_find(path, &place, error);
    if (status == LLM_OK)
        status = model_place_path(&place, out_path, bytes, error);
    if (status == LLM_OK && !allowed(roots, out_path))
        return llm_fail(error, LLM_ERR_PERMISSION,
                        "%s is not beneath a model directory (models.directories)", out_path);
    return status;
}

enum llm_status model_roots_find(const struct model_roots *roots, const char *what, char *out_path,
                                 size_t bytes, struct llm_error *error)
{
    if (strcmp(what, "echo") == 0) {
        snprintf(out_path, bytes, "echo");
        return LLM_OK;
    }
    if (what[0] == '/')
        return find_allowed(roots, what, out_path, bytes, error);
    if (what[0] == '\0' || strchr(what, '/') || strcmp(what, ".") == 0 || strcmp(what, "..") == 0)
        return llm_fail(error, LLM_ERR_INVALID,
                        "\"%s\" is neither a model's name nor an absolute path", what);
    return find_by_name(roots, what, out_path, bytes, error);
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
        status = find_model(roots, config->models.preset, sizeof config->models.preset, error);
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

/* A file that an administrator named may be a link to anywhere (downloads into a cache are); what a directory
 * holds may not. */
static int open_beneath(const struct model_root *root, const char *rest)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                           .resolve = RESOLVE_NO_MAGICLINKS};
    if (root->only.gguf[0] == '\0')
        how.resolve |= RESOLVE_BENEATH;
    return (int)syscall(SYS_openat2, root->fd, rest, &how, sizeof how);
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
        int fd = open_beneath(&roots->roots[i], rest);
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
