#include "daemon/keeper/peer.h"

#include <errno.h>
#include <grp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/keeper/process.h"
#include "shm/feature.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

#define PEER_GROUPS_MAX 65536 /* NGROUPS_MAX of Linux */

static int open_pidfd(int socket, pid_t pid)
{
    int pidfd;
    socklen_t bytes = sizeof pidfd;
    if (!llm_feature_disabled("peer_pidfd") &&
        getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &bytes) == 0)
        return pidfd;
    pidfd = process_open(pid);
    char byte;
    /* Still connected: the process that connected lives, or its child does; both end the socket. */
    if (pidfd >= 0 && recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
        close(pidfd);
        errno = ESRCH;
        return -1;
    }
    return pidfd;
}

/* One thread; returns how many there are, 0 also where the kernel does not tell. */
static uint32_t ask_groups(int socket, const gid_t **out_groups)
{
    static gid_t groups[PEER_GROUPS_MAX];
    socklen_t bytes = sizeof groups;
    *out_groups = groups;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) != 0)
        return 0;
    return (uint32_t)(bytes / sizeof groups[0]);
}

static bool in_group(const gid_t *groups, uint32_t count, gid_t gid, const char *name)
{
    const struct group *group = name[0] ? getgrnam(name) : NULL; /* one thread */
    if (!group)
        return false;
    bool found = gid == group->gr_gid;
    for (uint32_t i = 0; i < count && !found; i++)
        found = groups[i] == group->gr_gid;
    return found;
}

enum llm_status peer_identify(int socket, const char *group, struct peer *out_peer,
                              struct llm_error *error)
{
    struct ucred credentials;
    socklen_t bytes = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot ask who connected");
    int pidfd = open_pidfd(socket, credentials.pid);
    if (pidfd < 0)
        return llm_fail_errno(error, errno == ESRCH ? LLM_ERR_PEER : LLM_ERR_MEMORY, errno,
                              "cannot watch process %d", (int)credentials.pid);
    const gid_t *groups;
    uint32_t group_count = ask_groups(socket, &groups);
    *out_peer = (struct peer){
        .pid = (uint32_t)credentials.pid,
        .uid = credentials.uid,
        .gid = credentials.gid,
        .pidfd = pidfd,
        .administrator = credentials.uid == geteuid() || credentials.uid == 0 ||
                         in_group(groups, group_count, credentials.gid, group),
        .group_count = group_count < CHANNEL_GROUPS_MAX ? group_count : CHANNEL_GROUPS_MAX,
    };
    memcpy(out_peer->groups, groups, out_peer->group_count * sizeof *groups);
    return LLM_OK;
}
