/*
 * socket_path.h - where a daemon may be found.
 *
 * Rule     The caller's path; else $LLMD_SOCKET; else $XDG_RUNTIME_DIR/llmd/llmd.sock, then
 *          /run/llmd/llmd.sock, whichever answers. A private daemon is started at the first of them. A program
 *          that runs with raised privileges (setuid) ignores the environment.
 */
#ifndef LLM_CLIENT_SOCKET_PATH_H
#define LLM_CLIENT_SOCKET_PATH_H

#include <stdint.h>

#include "shm/status.h"

#define LLM_SOCKET_PATH_BYTES 108 /* sun_path of unix(7) */
#define LLM_SOCKET_PATHS_MAX  2

struct llm_socket_paths {
    char path[LLM_SOCKET_PATHS_MAX][LLM_SOCKET_PATH_BYTES];
    uint32_t count; /* 1 or 2, in the order in which they are tried */
};

/* LLM_OK; LLM_ERR_INVALID: empty, or too long for a socket's address. */
enum llm_status llm_socket_paths_find(const char *wanted, struct llm_socket_paths *out_paths,
                                      struct llm_error *error) LLM_MUST_CHECK;

#endif
