#include "tools/llmctl/daemon_find.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/socket_path.h"

#define SHM_FOLDER  "/dev/shm" /* where shm_open() keeps its files on Linux */
#define FILE_PREFIX "llmd."

/* Does the daemon of `file` listen on `socket_path`, by name or as the same socket by another name? */
static bool serves(const struct llm_status_file *file, const char *socket_path)
{
    char path[LLM_STATUS_TEXT_BYTES + 1] = {0};
    struct stat theirs, ours;
    memcpy(path, file->keeper.socket_path, LLM_STATUS_TEXT_BYTES);
    return strcmp(path, socket_path) == 0 ||
           (stat(path, &theirs) == 0 && stat(socket_path, &ours) == 0 &&
            theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino);
}

/* Take `file` if it is better than what was found so far, else close it. */
static void prefer(const struct llm_status_file **best, const struct llm_status_file *file)
{
    if (*best &&
        (process_lives((*best)->keeper.keeper_pid) || !process_lives(file->keeper.keeper_pid))) {
        llm_status_close(file);
        return;
    }
    if (*best)
        llm_status_close(*best);
    *best = file;
}

static enum llm_status find_by_socket(const char *socket_path,
                                      const struct llm_status_file **out_file,
                                      struct llm_error *error)
{
    const struct llm_status_file *best = NULL;
    struct llm_error refused = {.status = LLM_OK};
    DIR *folder = opendir(SHM_FOLDER);
    if (!folder)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot list %s", SHM_FOLDER);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strncmp(entry->d_name, FILE_PREFIX, strlen(FILE_PREFIX)) != 0)
            continue;
        char name[sizeof entry->d_name + 1];
        snprintf(name, sizeof name, "/%s", entry->d_name);
        const struct llm_status_file *file;
        struct llm_error why;
        enum llm_status status = llm_status_open(name, &file, &why);
        if (status == LLM_ERR_PERMISSION)
            refused = why;
        if (status != LLM_OK)
            continue;
        if (serves(file, socket_path))
            prefer(&best, file);
        else
            llm_status_close(file);
    }
    closedir(folder);
    if (!best && refused.status != LLM_OK && access(socket_path, F_OK) == 0)
        return llm_fail(error, refused.status, "%s", refused.message);
    if (!best)
        return LLM_ERR_PEER;
    *out_file = best;
    return LLM_OK;
}

static enum llm_status find_by_instance(const char *instance,
                                        const struct llm_status_file **out_file,
                                        struct llm_error *error)
{
    char name[128];
    snprintf(name, sizeof name, "/" FILE_PREFIX "%u.%.64s", (unsigned)getuid(), instance);
    enum llm_status status = llm_status_open(name, out_file, error);
    if (status == LLM_ERR_NOT_FOUND)
        return llm_fail(error, LLM_ERR_PEER, "no daemon has the status file %s", name);
    return status;
}

enum llm_status daemon_find(const struct arguments *arguments,
                            const struct llm_status_file **out_file, struct llm_error *error)
{
    struct llm_socket_paths paths;
    if (arguments->instance)
        return find_by_instance(arguments->instance, out_file, error);
    enum llm_status status = llm_socket_paths_find(arguments->socket, &paths, error);
    if (status != LLM_OK)
        return status;
    status = LLM_ERR_PEER;
    for (uint32_t i = 0; i < paths.count && status == LLM_ERR_PEER; i++)
        status = find_by_socket(paths.path[i], out_file, error);
    if (status == LLM_ERR_PEER)
        return llm_fail(error, status, "no daemon serves %s", paths.path[0]);
    return status;
}

enum llm_status daemon_look(const struct arguments *arguments, struct status_view **out_view,
                            struct llm_error *error)
{
    const struct llm_status_file *file;
    enum llm_status status = daemon_find(arguments, &file, error);
    if (status != LLM_OK)
        return status;
    struct status_view *view = malloc(sizeof *view);
    if (view) {
        status_view_take(view, file);
        *out_view = view;
    } else {
        status = llm_fail(error, LLM_ERR_MEMORY, "no memory for a copy of the status file");
    }
    llm_status_close(file);
    return status;
}
