#include "daemon/machine.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

/* UINT64_MAX: no limit here. */
static uint64_t limit_of(const char *cgroup)
{
    char path[PATH_MAX], text[32] = "";
    int used = snprintf(path, sizeof path, CGROUP_ROOT "%s/memory.max", cgroup);
    FILE *file = used > 0 && (size_t)used < sizeof path ? fopen(path, "re") : NULL;
    uint64_t limit = 0;
    if (file && fgets(text, sizeof text, file))
        limit = strtoull(text, NULL, 10); /* "max" is 0 */
    if (file)
        fclose(file);
    return limit > 0 ? limit : UINT64_MAX;
}

/* "0::/system.slice/llmd.service" in /proc/self/cgroup; "" when there is no such line. */
static void own_cgroup(char *out_path, size_t bytes)
{
    char line[PATH_MAX];
    FILE *file = fopen("/proc/self/cgroup", "re");
    out_path[0] = '\0';
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::/", 4) == 0)
            snprintf(out_path, bytes, "%s", line + 3);
    }
    if (file)
        fclose(file);
}

uint64_t machine_memory_bytes(void)
{
    char cgroup[PATH_MAX];
    uint64_t least = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    own_cgroup(cgroup, sizeof cgroup);
    for (;;) { /* ours, and each one above it */
        uint64_t limit = limit_of(cgroup);
        if (limit < least)
            least = limit;
        char *slash = strrchr(cgroup, '/');
        if (!slash)
            return least;
        *slash = '\0';
    }
}
