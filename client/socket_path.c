#include "client/socket_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum llm_status add(struct llm_socket_paths *paths, const char *directory, const char *rest,
                           struct llm_error *error)
{
    size_t bytes = strlen(directory) + strlen(rest);
    if (bytes == 0 || bytes >= LLM_SOCKET_PATH_BYTES)
        return llm_fail(error, LLM_ERR_INVALID, "socket path \"%.120s%s\" has %zu bytes: 1 to %d",
                        directory, rest, bytes, LLM_SOCKET_PATH_BYTES - 1);
    snprintf(paths->path[paths->count++], LLM_SOCKET_PATH_BYTES, "%s%s", directory, rest);
    return LLM_OK;
}

enum llm_status llm_socket_paths_find(const char *wanted, struct llm_socket_paths *out_paths,
                                      struct llm_error *error)
{
    struct llm_socket_paths paths = {.count = 0};
    if (!wanted)
        wanted = secure_getenv("LLMD_SOCKET");
    const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
    enum llm_status status = LLM_OK;
    if (wanted) {
        status = add(&paths, wanted, "", error);
    } else {
        if (runtime && *runtime)
            status = add(&paths, runtime, "/llmd/llmd.sock", error);
        if (status == LLM_OK)
            status = add(&paths, "/run", "/llmd/llmd.sock", error);
    }
    if (status == LLM_OK)
        *out_paths = paths;
    return status;
}
