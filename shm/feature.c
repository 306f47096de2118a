#include "shm/feature.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm/check.h"

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef SO_PEERPIDFD /* Linux 6.5 */
#define SO_PEERPIDFD 77
#endif

#define HUGE_PAGES_FILE "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/* ---- Is it here? ----------------------------------------------------------------------------------- */

static bool close_and(int fd, bool result)
{
    int number = errno;
    if (fd >= 0)
        close(fd);
    errno = number;
    return result;
}

static bool noexec_seal_here(void)
{
    int fd = memfd_create("llm-probe", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    return close_and(fd, fd >= 0);
}

static bool peer_pidfd_here(void)
{
    int ends[2], pidfd = -1;
    socklen_t bytes = sizeof pidfd;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return false;
    bool here = getsockopt(ends[0], SOL_SOCKET, SO_PEERPIDFD, &pidfd, &bytes) == 0;
    close_and(pidfd, here);
    close_and(ends[0], here);
    return close_and(ends[1], here);
}

static bool wipeonfork_here(void)
{
    const size_t bytes = 4096;
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return false;
    bool here = madvise(page, bytes, MADV_WIPEONFORK) == 0;
    int number = errno;
    munmap(page, bytes);
    errno = number;
    return here;
}

/* liburing's calls are the daemon's; a ring of one entry says the same. */
static bool ring_opens(uint32_t flags)
{
    struct io_uring_params params = {.flags = flags};
    int fd = (int)syscall(SYS_io_uring_setup, 1, &params);
    return close_and(fd, fd >= 0);
}

static bool io_uring_here(void)
{
    return ring_opens(0);
}

static bool io_uring_defer_here(void)
{
#ifdef IORING_SETUP_DEFER_TASKRUN
    return ring_opens(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
#else
    errno = ENOSYS;
    return false;
#endif
}

/* "always within_size [advise] never deny force": only "never" and "deny" forbid what madvise() asks for. */
static bool huge_pages_here(void)
{
    char text[128] = "";
    int fd = open(HUGE_PAGES_FILE, O_RDONLY | O_CLOEXEC);
    ssize_t taken = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (taken <= 0)
        return close_and(fd, false);
    close(fd);
    errno = EOPNOTSUPP;
    return !strstr(text, "[never]") && !strstr(text, "[deny]");
}

const struct llm_feature llm_features[] = {
    {"noexec_seal", "memories that can never be executed (MFD_NOEXEC_SEAL)",
     "memories without that seal", noexec_seal_here},
    {"wipeonfork", "a handle that a fork inherited is known by one load (MADV_WIPEONFORK)",
     "the process id is asked for in each call", wipeonfork_here},
    {"peer_pidfd", "a handle on the very process that connected (SO_PEERPIDFD)",
     "pidfd_open() of its number, and a look whether it is still connected", peer_pidfd_here},
    {"io_uring", "the engine looks at a thousand doorbells without a system call",
     "the engine parks in epoll", io_uring_here},
    {"io_uring_defer", "completions are gathered when the engine asks (IORING_SETUP_DEFER_TASKRUN)",
     "a ring with plain flags", io_uring_defer_here},
    {"huge_pages", "weights and KV pool in pages of 2 MiB (MADV_HUGEPAGE on shared memory)",
     "pages of 4 KiB; " HUGE_PAGES_FILE " decides", huge_pages_here},
    {0},
};

/* ---- LLMD_DISABLE ---------------------------------------------------------------------------------- */

static const struct llm_feature *find(const char *name, size_t bytes)
{
    for (const struct llm_feature *one = llm_features; one->name; one++)
        if (strlen(one->name) == bytes && memcmp(one->name, name, bytes) == 0)
            return one;
    return NULL;
}

bool llm_feature_disabled(const char *name)
{
    const char *list = getenv("LLMD_DISABLE");
    const struct llm_feature *wanted = find(name, strlen(name));
    CHECK(wanted != NULL);
    while (list && *list) {
        size_t bytes = strcspn(list, ",");
        if (find(list, bytes) == wanted)
            return true;
        list += bytes + (list[bytes] == ',');
    }
    return false;
}

enum llm_status llm_feature_look(const struct llm_feature *feature, struct llm_error *error)
{
    if (llm_feature_disabled(feature->name))
        return llm_fail(error, LLM_ERR_UNSUPPORTED, "LLMD_DISABLE names %s", feature->name);
    errno = 0;
    return feature->here() ? LLM_OK
                           : llm_fail_errno(error, LLM_ERR_UNSUPPORTED, errno,
                                            "this kernel or container has no %s", feature->name);
}

enum llm_status llm_feature_list_check(struct llm_error *error)
{
    const char *list = getenv("LLMD_DISABLE");
    while (list && *list) {
        size_t bytes = strcspn(list, ",");
        if (!find(list, bytes)) {
            char known[160] = "";
            for (const struct llm_feature *one = llm_features; one->name; one++)
                snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                         one == llm_features ? "" : ",", one->name);
            return llm_fail(error, LLM_ERR_INVALID,
                            "LLMD_DISABLE: \"%.*s\" is no facility; there are %s",
                            bytes < 60 ? (int)bytes : 60, list, known);
        }
        list += bytes + (list[bytes] == ',');
    }
    return LLM_OK;
}
