#include "daemon/keeper/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/feature.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

static int create(const char *name)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    if (!llm_feature_disabled("noexec_seal")) {
        int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
        if (fd >= 0 || errno != EINVAL)
            return fd;
    }
    return memfd_create(name, flags);
}

enum llm_status memfd_make(const char *name, uint64_t bytes, int *out_fd, struct llm_error *error)
{
    int fd = create(name);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0 || fchmod(fd, 0400) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
        enum llm_status status =
            llm_fail_errno(error, LLM_ERR_MEMORY, errno, "cannot make memory \"%s\" of %llu bytes",
                           name, (unsigned long long)bytes);
        if (fd >= 0)
            close(fd);
        return status;
    }
    *out_fd = fd;
    return LLM_OK;
}

enum llm_status memfd_publish(int fd, struct llm_error *error)
{
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        return llm_fail_errno(
            error, LLM_ERR_INVALID, errno,
            "cannot seal a memory against writing; it may still be mapped writable");
    return LLM_OK;
}
