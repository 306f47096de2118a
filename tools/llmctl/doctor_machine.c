/* The doctor's probes of limits, memory and processors: against what the settings ask for. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/status_file.h"
#include "tools/llmctl/doctor.h"
#include "tools/llmctl/text_out.h"

#define MIB(bytes)       ((bytes) / 1048576)
#define DESCRIPTORS_EACH 6 /* as daemon/config_check.h says */
#define DESCRIPTORS_MORE 512
#define MAPPINGS_EACH    2 /* up and down, in the engine */
#define MAPPINGS_MORE    1000
#define POOL_DEFAULT_MAX (UINT64_C(4) << 30)
#define CPUS_LOOKED_AT   4096

/* The pool of the running daemon, or what one would take. */
static uint64_t pool_bytes(const struct doctor *doctor)
{
    const struct status_view *view = doctor->view;
    uint64_t quarter = doctor->facts.memory_bytes / 4;
    if (view && view->blocks_total > 0)
        return (uint64_t)view->blocks_total * view->block_bytes;
    if (doctor->settings.pool_bytes > 0)
        return doctor->settings.pool_bytes;
    return quarter < POOL_DEFAULT_MAX ? quarter : POOL_DEFAULT_MAX;
}

void probe_descriptors(struct doctor *doctor)
{
    char path[64], text[4096];
    uint64_t wanted = doctor->settings.connections * DESCRIPTORS_EACH + DESCRIPTORS_MORE;
    uint64_t limit = doctor->facts.descriptors_max;
    const char *whose = "a daemon started here";
    if (doctor
            ->view) { /* "Max open files   1024   4096   files": the hard limit is what it raises to */
        snprintf(path, sizeof path, "/proc/%u/limits", doctor->view->keeper_pid);
        const char *row =
            doctor_read(doctor, path, text, sizeof text) ? strstr(text, "Max open files") : NULL;
        char *hard = NULL;
        if (row)
            strtoull(row + strlen("Max open files"), &hard, 10);
        if (hard) {
            limit = strtoull(hard, NULL, 10);
            whose = "the daemon";
        }
    }
    if (limit < wanted) {
        char remedy[96];
        snprintf(remedy, sizeof remedy,
                 "LimitNOFILE=%" PRIu64 " in the unit, or `ulimit -Hn %" PRIu64 "` as root", wanted,
                 wanted);
        doctor_say(doctor, DOCTOR_WARN, remedy,
                   "%s may hold %" PRIu64 " descriptors; limits.connections = %" PRIu64
                   " need %d each and %d more: %" PRIu64,
                   whose, limit, doctor->settings.connections, DESCRIPTORS_EACH, DESCRIPTORS_MORE,
                   wanted);
    } else {
        doctor_say(doctor, DOCTOR_OK, "",
                   "%s may hold %" PRIu64 " descriptors, %" PRIu64 " connections need %" PRIu64,
                   whose, limit, doctor->settings.connections, wanted);
    }
}

void probe_memlock(struct doctor *doctor)
{
    uint64_t limit = doctor->facts.memlock_bytes;
    if (limit == UINT64_MAX)
        doctor_say(doctor, DOCTOR_OK, "", "memory may be locked without limit");
    else
        doctor_say(doctor, DOCTOR_OK, "",
                   "%s may be locked; this version locks no memory, io_uring may need some on old "
                   "kernels",
                   text_bytes(limit).text);
}

void probe_shm(struct doctor *doctor)
{
    uint64_t bytes = doctor->facts.shm_free_bytes;
    if (bytes == UINT64_MAX)
        doctor_say(doctor, DOCTOR_FAIL, "mount -t tmpfs tmpfs /dev/shm", "there is no /dev/shm");
    else if (bytes < sizeof(struct llm_status_file))
        doctor_say(doctor, DOCTOR_FAIL, "mount -o remount,size=64M /dev/shm",
                   "/dev/shm has %s free, a status file needs %s", text_bytes(bytes).text,
                   text_bytes(sizeof(struct llm_status_file)).text);
    else
        doctor_say(doctor, DOCTOR_OK, "",
                   "/dev/shm has %s free (status files only: clients' memory is not there)",
                   text_bytes(bytes).text);
}

static uint64_t meminfo_bytes(const char *text, const char *key)
{
    long long kib = doctor_number_after(text, key);
    return kib > 0 ? (uint64_t)kib * 1024 : 0;
}

void probe_memory(struct doctor *doctor)
{
    char text[8192];
    if (!doctor_read(doctor, "/proc/meminfo", text, sizeof text))
        return;
    uint64_t available = meminfo_bytes(text, "MemAvailable:"), pool = pool_bytes(doctor);
    if (doctor->view) /* it has its pool already */
        doctor_say(doctor, DOCTOR_OK, "", "the KV pool is %s; %s of memory are available besides",
                   text_bytes(pool).text, text_bytes(available).text);
    else if (pool > available)
        doctor_say(doctor, DOCTOR_WARN, "kv.pool_bytes smaller, or more memory",
                   "%s of memory are available, the KV pool would be %s",
                   text_bytes(available).text, text_bytes(pool).text);
    else
        doctor_say(doctor, DOCTOR_OK, "", "%s of memory are available, the KV pool would be %s",
                   text_bytes(available).text, text_bytes(pool).text);
}

/* "0::/system.slice/llmd.service" of the daemon, or ours; false: none (cgroup version 1, or no /proc). */
static bool find_cgroup(const struct doctor *doctor, char *out_path, size_t bytes)
{
    char path[64], text[4096];
    if (doctor->view)
        snprintf(path, sizeof path, "/proc/%u/cgroup", doctor->view->keeper_pid);
    else
        snprintf(path, sizeof path, "/proc/self/cgroup");
    if (!doctor_read(doctor, path, text, sizeof text))
        return false;
    const char *row = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    if (!row)
        return false;
    row += *row == '\n';
    snprintf(out_path, bytes, "%.*s", (int)strcspn(row + 3, "\n"), row + 3);
    return true;
}

/* The file of this cgroup or of the next above it that has one. */
static bool read_cgroup(const struct doctor *doctor, const char *file, char *out, size_t bytes)
{
    char group[512], path[640];
    if (!find_cgroup(doctor, group, sizeof group))
        return false;
    for (;;) {
        size_t length = strlen(group);
        if (length > 0 && group[length - 1] == '/')
            group[length - 1] = '\0';
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group, file);
        if (doctor_read(doctor, path, out, bytes) && strncmp(out, "max", 3) != 0)
            return true;
        char *slash = strrchr(group, '/');
        if (!slash)
            return false;
        *slash = '\0';
    }
}

void probe_cgroup(struct doctor *doctor)
{
    char text[64];
    uint64_t pool = pool_bytes(doctor);
    if (read_cgroup(doctor, "memory.max", text, sizeof text)) {
        uint64_t limit = strtoull(text, NULL, 10);
        if (pool > limit / 5 * 4)
            doctor_say(
                doctor, DOCTOR_FAIL, "MemoryMax= larger in the unit, or kv.pool_bytes smaller",
                "the cgroup allows %s, the KV pool alone is %s: the kernel will kill the engine",
                text_bytes(limit).text, text_bytes(pool).text);
        else
            doctor_say(doctor, DOCTOR_OK, "", "the cgroup allows %s, the KV pool is %s",
                       text_bytes(limit).text, text_bytes(pool).text);
    } else {
        doctor_say(doctor, DOCTOR_OK, "", "no cgroup limits its memory");
    }
    if (read_cgroup(doctor, "cpu.max", text, sizeof text)) { /* "200000 100000": two processors */
        char *rest;
        double quota = strtod(text, &rest), period = strtod(rest, NULL);
        uint64_t threads =
            doctor->settings.threads ? doctor->settings.threads : doctor->facts.cpus_allowed;
        double cpus = period > 0 ? quota / period : 0;
        if (cpus > 0 && (double)threads > cpus)
            doctor_say(doctor, DOCTOR_WARN,
                       "cpu.threads no larger, or CPUQuota= larger in the unit",
                       "the cgroup allows %.1f processors, %" PRIu64
                       " threads compute: each step waits for the slowest",
                       cpus, threads);
    }
}

void probe_overcommit(struct doctor *doctor)
{
    char mode[16], text[8192];
    if (!doctor_read(doctor, "/proc/sys/vm/overcommit_memory", mode, sizeof mode))
        return;
    if (strcmp(mode, "2") != 0) {
        doctor_say(doctor, DOCTOR_OK, "",
                   "memory is overcommitted as usual (vm.overcommit_memory = %s)", mode);
        return;
    }
    uint64_t left = 0;
    if (doctor_read(doctor, "/proc/meminfo", text, sizeof text)) {
        uint64_t limit = meminfo_bytes(text, "CommitLimit:");
        uint64_t used = meminfo_bytes(text, "Committed_AS:");
        left = limit > used ? limit - used : 0;
    }
    doctor_say(doctor, !doctor->view && left < pool_bytes(doctor) ? DOCTOR_FAIL : DOCTOR_WARN,
               "sysctl vm.overcommit_memory=0, or vm.overcommit_ratio larger",
               "memory is counted strictly (vm.overcommit_memory = 2): %s may still be promised",
               text_bytes(left).text);
}

void probe_mappings(struct doctor *doctor)
{
    char text[32];
    uint64_t wanted = doctor->settings.connections * MAPPINGS_EACH + MAPPINGS_MORE;
    if (!doctor_read(doctor, "/proc/sys/vm/max_map_count", text, sizeof text))
        return;
    if (strtoull(text, NULL, 10) < wanted)
        doctor_say(doctor, DOCTOR_WARN, "sysctl vm.max_map_count=65530",
                   "a process may have %s mappings, %" PRIu64 " connections need %" PRIu64, text,
                   doctor->settings.connections, wanted);
    else
        doctor_say(doctor, DOCTOR_OK, "", "a process may have %s mappings", text);
}

/* ---- Processors ------------------------------------------------------------------------------------ */

static bool has_flag(const char *flags, const char *flag)
{
    size_t bytes = strlen(flag);
    for (const char *at = flags; (at = strstr(at, flag)) != NULL; at += bytes)
        if ((at == flags || at[-1] == ' ') && (at[bytes] == ' ' || at[bytes] == '\n' || !at[bytes]))
            return true;
    return false;
}

/* What the kernels could use, as kernels/cpu/ decides it. */
static const char *widest(const char *flags)
{
    static const char *const avx512[] = {"avx512f", "avx512bw", "avx512vl", "avx512dq"};
    bool all = true;
    for (size_t i = 0; i < sizeof avx512 / sizeof avx512[0]; i++)
        all = all && has_flag(flags, avx512[i]);
    bool avx2 = has_flag(flags, "avx2") && has_flag(flags, "fma");
    return !avx2 ? "plain" : all ? "avx512" : "avx2";
}

void probe_instructions(struct doctor *doctor)
{
    char text[8192];
    const char *flags =
        doctor_read(doctor, "/proc/cpuinfo", text, sizeof text) ? strstr(text, "flags") : NULL;
    if (!flags)
        return;
    text[strcspn(flags, "\n") + (size_t)(flags - text)] = '\0'; /* the first processor's line */
    const char *has = widest(flags);
    const char *used = doctor->view ? doctor->view->backend_text : "";
    if (strcmp(has, "plain") == 0)
        doctor_say(doctor, DOCTOR_WARN, "",
                   "the processor has no AVX2 with FMA: arithmetic is slow");
    else if (used[0] && strncmp(used, "cpu", 3) == 0 && !strstr(used, has))
        doctor_say(doctor, DOCTOR_WARN, "start llmd without a choice of instruction set",
                   "the processor has %s, the daemon computes with \"%s\"", has, used);
    else
        doctor_say(doctor, DOCTOR_OK, "", "the processor has %s%s%s", has,
                   used[0] ? "; used: " : "", used);
}

void probe_governor(struct doctor *doctor)
{
    unsigned slow = 0, looked = 0;
    char path[96], text[32], one[32] = "";
    for (unsigned cpu = 0; cpu < CPUS_LOOKED_AT; cpu++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor", cpu);
        if (!doctor_read(doctor, path, text, sizeof text))
            break;
        looked++;
        if (strcmp(text, "performance") != 0 && slow++ == 0)
            snprintf(one, sizeof one, "%s", text);
    }
    if (looked == 0)
        doctor_say(doctor, DOCTOR_OK, "", "the processor's frequency is not ours to choose");
    else if (slow > 0)
        doctor_say(doctor, DOCTOR_WARN, "cpupower frequency-set -g performance",
                   "governor %s on %u of %u processors: wake-ups find a slow clock", one, slow,
                   looked);
    else
        doctor_say(doctor, DOCTOR_OK, "", "governor performance on all %u processors", looked);
}

void probe_threads(struct doctor *doctor)
{
    const struct doctor_facts *facts = &doctor->facts;
    uint64_t threads = doctor->settings.threads;
    if (threads > facts->cpus_allowed)
        doctor_say(doctor, DOCTOR_WARN, "cpu.threads=0",
                   "cpu.threads = %" PRIu64 ", but only %u processors may be used", threads,
                   facts->cpus_allowed);
    else if (facts->cpus_allowed < facts->cpus_online)
        doctor_say(doctor, DOCTOR_OK, "",
                   "%u of %u processors may be used (affinity or cpuset: AllowedCPUs= in the unit)",
                   facts->cpus_allowed, facts->cpus_online);
    else if (facts->cpus_allowed == 1)
        doctor_say(doctor, DOCTOR_WARN, "",
                   "one processor: clients and engine take turns, and waking costs a switch");
    else
        doctor_say(doctor, DOCTOR_OK, "", "%u processors", facts->cpus_allowed);
}

void probe_smt(struct doctor *doctor)
{
    char text[16];
    if (!doctor_read(doctor, "/sys/devices/system/cpu/smt/active", text, sizeof text))
        return;
    if (strcmp(text, "1") == 0)
        doctor_say(
            doctor, DOCTOR_OK, "",
            "two threads share a core (SMT): cpu.threads at the number of cores may be faster");
    else
        doctor_say(doctor, DOCTOR_OK, "", "each processor is a core of its own");
}

void probe_gpu(struct doctor *doctor)
{
    char text[512];
    if (!doctor_read(doctor, "/proc/driver/nvidia/version", text, sizeof text))
        return;
    text[strcspn(text, "\n")] = '\0';
    doctor_say(doctor, DOCTOR_WARN, "",
               "an NVIDIA driver is here (%.120s), but this build computes on the processor only",
               text);
}
