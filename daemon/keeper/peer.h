/*
 * peer.h - who is at the other end of a socket, as the kernel tells it.
 *
 * Idea     SO_PEERCRED gives pid, uid and gid as of connect(); SO_PEERPIDFD (Linux 6.5) a handle on that very
 *          process, which no reuse of its number can confuse. Older kernels: pidfd_open(), then a look whether
 *          the socket is still connected. SO_PEERGROUPS gives the supplementary groups; of more than
 *          CHANNEL_GROUPS_MAX the first count (the kernel sorts them), except for who is an administrator.
 * Source   unix(7), pidfd_open(2).
 */
#ifndef LLMD_KEEPER_PEER_H
#define LLMD_KEEPER_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/channel.h"
#include "shm/status.h"

struct peer {
    uint32_t pid, uid, gid;
    int pidfd;          /* the caller's */
    bool administrator; /* the daemon's user, root, or a member of the group */
    uint32_t group_count;
    uint32_t groups[CHANNEL_GROUPS_MAX];
};

/* `group`: its members are administrators; "" for none. LLM_ERR_PEER: the process is gone already. */
enum llm_status peer_identify(int socket, const char *group, struct peer *out_peer,
                              struct llm_error *error) LLM_MUST_CHECK;

#endif
