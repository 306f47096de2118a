/*
 * autostart.h - start a private daemon where none runs.
 *
 * Idea     Whoever holds the lock file "<socket>.start" looks once more, starts `llmd --socket <socket> --idle-exit
 *          60` and waits until it listens; the others wait for the lock and then find it. The daemon is nobody's
 *          child (double fork, own session) and gets no descriptor of ours; what it prints is in "<socket>.log",
 *          whose last line goes into the sentence when it ends too early.
 * Program  $LLMD_BINARY; else `llmd` near this library or the running program (., ../bin, ../../bin: the build
 *          tree and any install prefix); else along PATH. Programs with raised privileges ignore the environment.
 */
#ifndef LLM_CLIENT_AUTOSTART_H
#define LLM_CLIENT_AUTOSTART_H

#include <limits.h>
#include <stdint.h>

#include "shm/status.h"

#define LLM_AUTOSTART_IDLE_S 60

/* LLM_OK when something listens at `socket_path`, whoever started it.
 *   returns          LLM_ERR_NOT_FOUND   no such program, no place for the socket, or it ended at once
 *                    LLM_ERR_TIMEOUT, LLM_ERR_SYSTEM, LLM_ERR_PERMISSION */
enum llm_status llm_autostart(const char *socket_path, uint64_t deadline_ns,
                              struct llm_error *error) LLM_MUST_CHECK;

/* The program that would be started, absolute ("Program" above). LLM_ERR_NOT_FOUND. */
enum llm_status llm_autostart_find_program(char out_path[PATH_MAX], struct llm_error *error)
    LLM_MUST_CHECK;

#endif
