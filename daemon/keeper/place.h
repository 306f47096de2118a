/*
 * place.h - where this daemon is found: its socket, the lock beside it, its instance name.
 *
 * Idea     The lock decides who owns a socket path: flock(2) on "<socket>.lock" is held as long as the
 *          keeper lives, whatever becomes of it. So a socket file without a locked lock is a dead daemon's
 *          and is replaced, and two daemons can never both own one.
 * Given    A service manager may have made the socket and hand it over as descriptor 3 (sd_listen_fds(3)): then its path
 *          is the place, and the file stays when the keeper goes, so that the next client starts it again.
 * Owner    The keeper; the socket file goes with it, the (empty, harmless) lock file stays.
 * See      docs/ARCHITECTURE.md (names and places); client/socket_path.h finds the socket by the same rule.
 */
#ifndef LLMD_KEEPER_PLACE_H
#define LLMD_KEEPER_PLACE_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/config.h"
#include "shm/layout.h"
#include "shm/status.h"

#define PLACE_PATH_BYTES 108 /* sun_path */

struct place {
    char socket_path[PLACE_PATH_BYTES];
    char status_name[LLM_NAME_BYTES]; /* "/llmd.<uid>.<instance>" */
    int lock_fd;                      /* -1: not taken */
    int listen_fd;                    /* -1: not listening */
    bool given;                       /* the socket is the service manager's */
};

/* Decide the names; touches nothing. LLM_ERR_INVALID: path too long, an instance name with a '/', or a given socket that
 * is none of ours. */
enum llm_status place_name(struct place *place, const struct config *config,
                           struct llm_error *error) LLM_MUST_CHECK;
/* Make the socket's directory where it is missing: 0700, or 0750 and the group's where one is configured. */
enum llm_status place_make_directory(const struct place *place, const struct config *config,
                                     struct llm_error *error) LLM_MUST_CHECK;
/*
 * Make the directory, take the lock, listen.
 *
 *   returns   LLM_OK
 *             LLM_ERR_BUSY        another daemon has it; the sentence says which process
 *             LLM_ERR_PERMISSION  the directory or socket cannot be made
 *             LLM_ERR_NOT_FOUND   no such group
 */
enum llm_status place_take(struct place *place, const struct config *config,
                           struct llm_error *error) LLM_MUST_CHECK;
void place_drop(struct place *place);

/* The absolute path of `relative`, seen from the directory of the running program. */
bool place_program_sibling(const char *relative, char *out_path, size_t bytes);

#endif
