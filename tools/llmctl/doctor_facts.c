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
#include "shm/feature.h"
#include "tools/llmctl/doctor.h"

/* Close what worked; 0, or what it failed with. */
static int errno_of(long fd)
{
    if (fd < 0)
        return errno;
    close((int)fd);
    return 0;
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

static void take_features(struct doctor_facts *facts)
{
    for (const struct llm_feature *one = llm_features;
         one->name && facts->feature_count < DOCTOR_FEATURES_MAX; one++) {
        errno = 0;
        bool here = one->here();
        facts->features[facts->feature_count++] =
            (struct doctor_feature){.name = one->name,
                                    .gives = one->gives,
                                    .without = one->without,
                                    .error_number = here    ? 0
                                                    : errno ? errno
                                                            : ENOSYS};
    }
}

static void take_kernel(struct doctor_facts *facts)
{
    struct utsname name;
    const char *disabled = getenv("LLMD_DISABLE");
    if (uname(&name) == 0)
        snprintf(facts->kernel_release, sizeof facts->kernel_release, "%.63s", name.release);
    facts->disabled = disabled ? disabled : "";
    take_features(facts);
    facts->pidfd_errno = errno_of(syscall(SYS_pidfd_open, getpid(), 0U));
    facts->openat2_errno = try_openat2();
    facts->memfd_seal_errno = try_seal();
    facts->futex_errno = try_futex();
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
