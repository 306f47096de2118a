#include "daemon/keeper/stale.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/log.h"
#include "shm/clock.h"
#include "shm/status_file.h"

#define KEEP_NS (3600 * LLM_NS_PER_S)
#define FOLDER  "/dev/shm" /* where shm_open() keeps its files on Linux */

static bool same_file(const struct stat *left, const struct stat *right)
{
    return left->st_dev == right->st_dev && left->st_ino == right->st_ino;
}

/* True: the file of `fd` had this name and is gone. */
static bool take_away(int folder, const char *entry, int fd)
{
    char aside[64];
    struct stat ours, moved;
    snprintf(aside, sizeof aside, ".llmd-stale.%d", (int)getpid());
    if (fstat(fd, &ours) != 0 || renameat(folder, entry, folder, aside) != 0)
        return false;
    if (fstatat(folder, aside, &moved, AT_SYMLINK_NOFOLLOW) == 0 && same_file(&ours, &moved))
        return unlinkat(folder, aside, 0) == 0;
    renameat2(folder, aside, folder, entry, RENAME_NOREPLACE);
    return false;
}

/* When its daemon last did something (CLOCK_REALTIME); of another version's file: when it was made. */
static uint64_t last_sign_ns(const char *name, const struct stat *found)
{
    const struct llm_status_file *file;
    if (llm_status_open(name, &file, NULL) != LLM_OK)
        return (uint64_t)found->st_mtime * LLM_NS_PER_S;
    const struct llm_status_keeper *keeper = &file->keeper;
    uint64_t beat_ns = atomic_load_explicit(&file->engine.heartbeat_ns, memory_order_relaxed);
    uint64_t after_ns = beat_ns > keeper->started_ns ? beat_ns - keeper->started_ns : 0;
    uint64_t sign_ns = keeper->started_wall_ns + after_ns;
    llm_status_close(file);
    return sign_ns;
}

static void look_at(int folder, const char *entry)
{
    char name[300];
    struct stat found;
    int fd;
    snprintf(name, sizeof name, "/%s", entry);
    if (fstatat(folder, entry, &found, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(found.st_mode) ||
        found.st_uid != geteuid() || !llm_status_abandoned(name, &fd))
        return;
    uint64_t now_ns = llm_wall_ns(), sign_ns = last_sign_ns(name, &found);
    if (now_ns > sign_ns && now_ns - sign_ns > KEEP_NS && take_away(folder, entry, fd))
        log_event(LOG_LEVEL_INFO, "removed the status file of a daemon that was killed",
                  log_text("name", name));
    close(fd);
}

void stale_sweep(void)
{
    DIR *folder = opendir(FOLDER);
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (llm_status_named_like(entry->d_name))
            look_at(dirfd(folder), entry->d_name);
    closedir(folder);
}
