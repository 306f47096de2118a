#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/feature.h"

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static enum llm_status fail_system(struct llm_error *error, const char *doing, const char *name,
                                   size_t bytes)
{
    int number = errno;
    bool scarce = number == ENOMEM || number == EMFILE || number == ENFILE || number == ENOSPC;
    return llm_fail_errno(error, scarce ? LLM_ERR_MEMORY : LLM_ERR_SYSTEM, number,
                          "cannot %s shared memory \"%s\" of %zu bytes", doing, name, bytes);
}

static int create_memfd(const char *name)
{
    int fd = -1;
    if (!llm_feature_disabled("noexec_seal"))
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && (errno == EINVAL || llm_feature_disabled("noexec_seal")))
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

static enum llm_status create(const char *name, size_t bytes, int seals, int *out_fd,
                              struct llm_error *error)
{
    int fd = create_memfd(name);
    if (fd < 0)
        return fail_system(error, "create", name, bytes);
    if (ftruncate(fd, (off_t)bytes) < 0 || fchmod(fd, 0400) < 0 ||
        fcntl(fd, F_ADD_SEALS, seals) < 0) {
        enum llm_status status = fail_system(error, "size and seal", name, bytes);
        close(fd);
        return status;
    }
    *out_fd = fd;
    return LLM_OK;
}

enum llm_status llm_segment_create(const char *name, size_t bytes, int *out_fd,
                                   struct llm_error *error)
{
    return create(name, bytes, SIZE_SEALS, out_fd, error);
}

enum llm_status llm_segment_create_draft(const char *name, size_t bytes, int *out_fd,
                                         struct llm_error *error)
{
    return create(name, bytes, F_SEAL_SHRINK | F_SEAL_GROW, out_fd, error);
}

enum llm_status llm_segment_publish(int fd, struct llm_error *error)
{
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        return llm_fail_errno(
            error, LLM_ERR_INVALID, errno,
            "cannot seal a memory against writing; it may still be mapped writable");
    return LLM_OK;
}

enum llm_status llm_segment_reopen_readonly(int fd, int *out_fd, struct llm_error *error)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int readonly_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (readonly_fd < 0)
        return llm_fail_errno(
            error, errno == EMFILE || errno == ENFILE ? LLM_ERR_MEMORY : LLM_ERR_SYSTEM, errno,
            "cannot open shared memory again through %s (is /proc mounted?)", path);
    *out_fd = readonly_fd;
    return LLM_OK;
}

enum llm_status llm_segment_map(const char *name, int fd, size_t bytes, bool writable,
                                void **out_address, struct llm_error *error)
{
    struct stat file;
    if (fstat(fd, &file) < 0)
        return fail_system(error, "look at", name, bytes);
    if (file.st_size < 0 || (uint64_t)file.st_size != bytes)
        return llm_fail(error, LLM_ERR_PEER,
                        "shared memory \"%s\" has %lld bytes where %zu were agreed", name,
                        (long long)file.st_size, bytes);
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SIZE_SEALS) != SIZE_SEALS)
        return llm_fail(error, LLM_ERR_PEER, "the size of shared memory \"%s\" is not sealed",
                        name);
    void *address =
        mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED)
        return fail_system(error, "map", name, bytes);
    *out_address = address;
    return LLM_OK;
}

void llm_segment_unmap(const void *address, size_t bytes)
{
    if (address)
        munmap((void *)(uintptr_t)address, bytes);
}
