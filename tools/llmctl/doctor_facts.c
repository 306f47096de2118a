/* What only system calls can tell the doctor: each facility is used once, and its errno is the fact. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "client/socket_path.h"
#include "tools/llmctl/doctor.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* include/uapi/asm-generic/socket.h, Linux 6.5 */
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* include/uapi/linux/memfd.h, Linux 6.3 */
#endif
#define URING_SINGLE_ISSUER (1U << 12) /* include/uapi/linux/io_uring.h, Linux 6.0, 6.1 */
#define URING_DEFER_TASKRUN (1U << 13)

/* Close what worked; 0, or what it failed with. */
static int errno_of(long fd)
{
    if (fd < 0)
        return errno;
    close((int)fd);
    return 0;
}

static int try_io_uring(uint32_t flags)
{
    struct { /* struct io_uring_params: 120 bytes, of which `flags` are ours */
        uint32_t entries[2];
        uint32_t flags;
        uint32_t rest[27];
    } params = {.flags = flags};
    return errno_of(syscall(SYS_io_uring_setup, 4U, &params));
}

static int try_peer_pidfd(void)
{
    int ends[2], pidfd = -1, result = 0;
    socklen_t bytes = sizeof pidfd;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return errno;
    if (getsockopt(ends[0], SOL_SOCKET, SO_PEERPIDFD, &pidfd, &bytes) != 0)
        result = errno;
    else
        close(pidfd);
    close(ends[0]);
    close(ends[1]);
    return result;
}

static int try_seal(void)
{
    int fd = memfd_create("llmctl-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return errno;
    int result = fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0 ? errno : 0;
    close(fd);
    return result;
}

static int try_openat2(void)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = root < 0 ? errno : errno_of(syscall(SYS_openat2, root, "etc", &how, sizeof how));
    if (root >= 0)
        close(root);
    return result == ENOENT ? 0 : result; /* it looked */
}

static int try_futex(void)
{
    uint32_t word = 0;
    return syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) < 0 ? errno : 0;
}

static int try_wipeonfork(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return errno;
    int result = madvise(page, 4096, MADV_WIPEONFORK) != 0 ? errno : 0;
    munmap(page, 4096);
    return result;
}

static void take_kernel(struct doctor_facts *facts)
{
    struct utsname name;
    const char *disabled = getenv("LLMD_DISABLE");
    if (uname(&name) == 0)
        snprintf(facts->kernel_release, sizeof facts->kernel_release, "%.63s", name.release);
    facts->disabled = disabled ? disabled : "";
    facts->io_uring_errno = try_io_uring(0);
    facts->io_uring_defer_errno = try_io_uring(URING_SINGLE_ISSUER | URING_DEFER_TASKRUN);
    facts->peer_pidfd_errno = try_peer_pidfd();
    facts->pidfd_errno = errno_of(syscall(SYS_pidfd_open, getpid(), 0U));
    facts->openat2_errno = try_openat2();
    facts->memfd_seal_errno = try_seal();
    facts->noexec_seal_errno =
        errno_of(memfd_create("llmctl-doctor", MFD_CLOEXEC | MFD_NOEXEC_SEAL));
    facts->futex_errno = try_futex();
    facts->wipeonfork_errno = try_wipeonfork();
}

static void take_limits(struct doctor_facts *facts)
{
    struct rlimit limit;
    struct statvfs shm;
    cpu_set_t cpus;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        facts->descriptors_max = limit.rlim_max;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0)
        facts->memlock_bytes = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
    facts->memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    facts->shm_free_bytes =
        statvfs("/dev/shm", &shm) == 0 ? (uint64_t)shm.f_bavail * shm.f_frsize : UINT64_MAX;
    facts->cpus_online = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0)
        facts->cpus_allowed = (uint32_t)CPU_COUNT(&cpus);
    facts->uid = geteuid();
}

static void take_folder(struct doctor *doctor, const char *socket)
{
    struct doctor_facts *facts = &doctor->facts;
    struct llm_socket_paths paths;
    struct stat found;
    if (doctor->view)
        snprintf(facts->socket_folder, sizeof facts->socket_folder, "%s",
                 doctor->view->socket_path);
    else if (llm_socket_paths_find(socket, &paths, NULL) == LLM_OK)
        snprintf(facts->socket_folder, sizeof facts->socket_folder, "%s", paths.path[0]);
    char *slash = strrchr(facts->socket_folder, '/');
    if (slash)
        *slash = '\0';
    if (!slash || stat(slash == facts->socket_folder ? "/" : facts->socket_folder, &found) != 0) {
        facts->socket_folder[0] = '\0';
        return;
    }
    facts->folder_mode = found.st_mode & 07777U;
    facts->folder_uid = found.st_uid;
}

static void take_status_files(struct doctor_facts *facts)
{
    DIR *folder = opendir("/dev/shm");
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        struct stat found;
        if (!llm_status_named_like(entry->d_name) ||
            facts->status_file_count == DOCTOR_STATUS_FILES_MAX ||
            fstatat(dirfd(folder), entry->d_name, &found, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        struct doctor_status_file *file = &facts->status_files[facts->status_file_count++];
        snprintf(file->name, sizeof file->name, "/%.62s", entry->d_name);
        file->uid = found.st_uid;
        file->readable = faccessat(dirfd(folder), entry->d_name, R_OK, AT_EACCESS) == 0;
        file->abandoned = S_ISREG(found.st_mode) && llm_status_abandoned(file->name, NULL);
    }
    closedir(folder);
}

void doctor_take_facts(struct doctor *doctor, const char *socket)
{
    take_kernel(&doctor->facts);
    take_limits(&doctor->facts);
    take_folder(doctor, socket);
    take_status_files(&doctor->facts);
}
