#include "daemon/keeper/peer.h"

#include <errno.h>
#include <grp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/keeper/process.h"
#include "shm/feature.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

#define PEER_GROUPS_MAX 256

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

static bool in_group(int socket, const struct ucred *credentials, const char *name)
{
    const struct group *group = name[0] ? getgrnam(name) : NULL; /* one thread */
    if (!group)
        return false;
    if (credentials->gid == group->gr_gid)
        return true;
    gid_t groups[PEER_GROUPS_MAX];
    socklen_t bytes = sizeof groups;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes) != 0)
        return false;
    for (size_t i = 0; i < bytes / sizeof groups[0]; i++)
        if (groups[i] == group->gr_gid)
            return true;
    return false;
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
    *out_peer = (struct peer){
        .pid = (uint32_t)credentials.pid,
        .uid = credentials.uid,
        .gid = credentials.gid,
        .pidfd = pidfd,
        .administrator = credentials.uid == geteuid() || credentials.uid == 0 ||
                         in_group(socket, &credentials, group),
    };
    return LLM_OK;
}
