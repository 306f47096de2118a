#include "daemon/config_check.h"

#include <grp.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/machine.h"
#include "daemon/model/model_place.h"
#include "shm/status_file.h"

#define MIB(bytes) ((double)(bytes) / 1048576.0)

void config_machine_take(struct config_machine *out_machine)
{
    *out_machine =
        (struct config_machine){.memory_bytes = machine_memory_bytes(), .uid = geteuid()};
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        out_machine->descriptors_max = limit.rlim_max;
    struct statvfs shm;
    if (statvfs("/dev/shm", &shm) == 0)
        out_machine->shm_free_bytes = (uint64_t)shm.f_bavail * shm.f_frsize;
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0)
        out_machine->cpus = (uint32_t)CPU_COUNT(&cpus);
}

struct llm_geometry config_geometry(const struct config *config)
{
    uint64_t prompt_bytes =
        (config->limits.prompt_bytes + LLM_PAGE_BYTES - 1) / LLM_PAGE_BYTES * LLM_PAGE_BYTES;
    return (struct llm_geometry){
        .queue_entries = (uint32_t)config->limits.queue_entries,
        .event_entries = (uint32_t)config->limits.event_entries,
        .stream_slots = (uint32_t)config->limits.stream_slots,
        .log_words = (uint32_t)config->limits.log_words,
        .arena_bytes = (uint32_t)prompt_bytes,
    };
}

enum llm_status config_limits_fit(const struct config *config, struct llm_error *error)
{
    if (config->limits.step_tokens >= config->limits.sequences)
        return LLM_OK;
    return llm_fail(error, LLM_ERR_INVALID,
                    "limits.step_tokens = %llu is less than limits.sequences = %llu: each running "
                    "request needs a token in each step",
                    (unsigned long long)config->limits.step_tokens,
                    (unsigned long long)config->limits.sequences);
}

/* ---- Between settings ------------------------------------------------------------------------------ */

static unsigned key_of(const char *name)
{
    unsigned key = 0;
    while (strcmp(config_key_name(key), name) != 0) /* a name that is no row fails a CHECK */
        key++;
    return key;
}

static uint64_t number_of(const struct config *config, unsigned key)
{
    return *(const uint64_t *)(const void *)((const char *)config + config_key(key)->offset);
}

/* A default that is more than all there is means nothing; one that somebody wrote down is a misunderstanding. */
static void check_share(const struct config *config, const char *all, const char *share,
                        struct config_findings *findings)
{
    unsigned share_key = key_of(share);
    unsigned long long most = number_of(config, key_of(all)), one = number_of(config, share_key);
    if (one > most && strcmp(config->origins[share_key].text, "default") != 0)
        config_findings_add(findings, false,
                            "%s = %llu is more than %s = %llu: one user can take them all", share,
                            one, all, most);
}

static void check_quota_share(const struct config_quota *quota, const char *key, uint64_t one,
                              const char *all, uint64_t most, struct config_findings *findings)
{
    if (one != CONFIG_QUOTA_UNSET && one > most)
        config_findings_add(findings, false,
                            "quota.%s.%s = %llu is more than %s = %llu: one user can take them all",
                            quota->name, key, (unsigned long long)one, all,
                            (unsigned long long)most);
}

static void check_quotas(const struct config *config, struct config_findings *findings)
{
    for (uint32_t i = 0; i < config->quota_count; i++) {
        const struct config_quota *q = &config->quotas[i];
        check_quota_share(q, "connections", q->connections, "limits.connections",
                          config->limits.connections, findings);
        check_quota_share(q, "requests", q->requests, "limits.requests", config->limits.requests,
                          findings);
        check_quota_share(q, "sequences", q->sequences, "limits.sequences",
                          config->limits.sequences, findings);
        check_quota_share(q, "contexts", q->contexts, "limits.contexts", config->limits.contexts,
                          findings);
    }
}

static void check_limits(const struct config *config, struct config_findings *findings)
{
    struct llm_error error;
    unsigned long long sequences = config->limits.sequences, requests = config->limits.requests;
    if (config_limits_fit(config, &error) != LLM_OK)
        config_findings_add(findings, true, "%s", error.message);
    if (requests < sequences)
        config_findings_add(findings, false,
                            "limits.requests = %llu is less than limits.sequences = %llu: a step "
                            "never has more than %llu",
                            requests, sequences, requests);
    check_share(config, "limits.connections", "limits.connections_per_user", findings);
    check_share(config, "limits.requests", "limits.requests_per_user", findings);
    check_share(config, "limits.sequences", "limits.sequences_per_user", findings);
    check_share(config, "limits.contexts", "limits.contexts_per_user", findings);
    check_quotas(config, findings);
}

static void check_daemon(const struct config *config, struct config_findings *findings)
{
    const char *const groups[][2] = {{"daemon.group", config->daemon.group},
                                     {"daemon.admin_group", config->daemon.admin_group}};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        if (groups[i][1][0] && !getgrnam(groups[i][1]))
            config_findings_add(findings, true,
                                "%s = \"%s\": there is no such group; `groupadd %s` makes it",
                                groups[i][0], groups[i][1], groups[i][1]);
    if (config->daemon.socket[0] && config->daemon.socket[0] != '/')
        config_findings_add(findings, true, "daemon.socket = \"%s\" is not an absolute path",
                            config->daemon.socket);
    if (strchr(config->daemon.instance, '/'))
        config_findings_add(findings, true, "daemon.instance = \"%s\" is not a name: it has a '/'",
                            config->daemon.instance);
    if (config->daemon.debugging)
        config_findings_add(findings, false,
                            "daemon.debugging = true: core dumps of the engine hold prompts");
    if (config->daemon.engine_hang_kill && config->daemon.engine_hang_s == 0)
        config_findings_add(findings, false,
                            "daemon.engine_hang_kill = true has no effect while "
                            "daemon.engine_hang_s = 0");
}

static void check_directory(const char *key, const char *path, struct config_findings *findings)
{
    struct stat found;
    if (path[0] == '/' && (stat(path, &found) != 0 || !S_ISDIR(found.st_mode)))
        config_findings_add(findings, true, "%s: %s is not a directory", key, path);
}

static void check_models(const struct config *config, struct config_findings *findings)
{
    struct model_place place;
    struct llm_error error;
    if (config->models.preset[0] == '/' &&
        model_place_find(config->models.preset, &place, &error) != LLM_OK)
        config_findings_add(findings, true, "models.default: %s", error.message);
    for (uint32_t i = 0; i < config->models.directories.count; i++)
        check_directory("models.directories", config->models.directories.paths[i], findings);
}

/* ---- Between settings and the machine -------------------------------------------------------------- */

static void check_descriptors(const struct config *config, const struct config_machine *machine,
                              struct config_findings *findings)
{
    unsigned long long wanted =
        config->limits.connections * CONFIG_DESCRIPTORS_EACH + CONFIG_DESCRIPTORS_MORE;
    if (machine->descriptors_max > 0 && machine->descriptors_max < wanted)
        config_findings_add(findings, false,
                            "limits.connections = %llu need %llu descriptors, the limit is %llu: "
                            "`ulimit -Hn %llu` or LimitNOFILE=%llu in the unit raises it",
                            (unsigned long long)config->limits.connections, wanted,
                            (unsigned long long)machine->descriptors_max, wanted, wanted);
}

static void check_memory(const struct config *config, const struct config_machine *machine,
                         struct config_findings *findings)
{
    struct llm_geometry geometry = config_geometry(config);
    uint64_t pool_bytes = config->kv.pool_bytes;
    if (!llm_geometry_valid(&geometry)) {
        config_findings_add(findings, true,
                            "the limits of a connection (stream_slots, queue_entries, "
                            "event_entries, log_words, prompt_bytes) do not fit together");
        return;
    }
    if (machine->memory_bytes == 0)
        return;
    if (pool_bytes > machine->memory_bytes)
        config_findings_add(findings, true,
                            "kv.pool_bytes is %.0f MiB, the machine (or the cgroup) has %.0f MiB",
                            MIB(pool_bytes), MIB(machine->memory_bytes));
    else if (pool_bytes > machine->memory_bytes / 5 * 4)
        config_findings_add(findings, false,
                            "kv.pool_bytes is %.0f MiB of %.0f MiB: weights and clients have to "
                            "live in the rest",
                            MIB(pool_bytes), MIB(machine->memory_bytes));
    uint64_t each = llm_up_map(&geometry).total_bytes + llm_down_map(&geometry).total_bytes;
    if (each > machine->memory_bytes / config->limits.connections)
        config_findings_add(findings, false,
                            "%llu connections of %.1f MiB may come to need %.0f MiB, more than "
                            "the %.0f MiB there are",
                            (unsigned long long)config->limits.connections, MIB(each),
                            MIB(each) * (double)config->limits.connections,
                            MIB(machine->memory_bytes));
}

static void check_machine(const struct config *config, const struct config_machine *machine,
                          struct config_findings *findings)
{
    if (machine->shm_free_bytes > 0 && machine->shm_free_bytes < sizeof(struct llm_status_file))
        config_findings_add(findings, true,
                            "/dev/shm has %llu KiB free, the status file needs %zu KiB",
                            (unsigned long long)machine->shm_free_bytes / 1024,
                            sizeof(struct llm_status_file) / 1024);
    if (machine->cpus > 0 && config->cpu.threads > machine->cpus)
        config_findings_add(findings, false,
                            "cpu.threads = %llu is more than the %u processors that the daemon may "
                            "use: threads will wait for each other",
                            (unsigned long long)config->cpu.threads, machine->cpus);
}

void config_check(const struct config *config, const struct config_machine *machine,
                  struct config_findings *findings)
{
    check_limits(config, findings);
    check_daemon(config, findings);
    check_models(config, findings);
    check_descriptors(config, machine, findings);
    check_memory(config, machine, findings);
    check_machine(config, machine, findings);
}

/* Whoever may write the file decides what the daemon loads and who may steer it. */
void config_check_file(const char *path, const struct config_machine *machine,
                       struct config_findings *findings)
{
    struct stat found;
    if (stat(path, &found) != 0)
        return; /* reading it says why */
    if (found.st_mode & (S_IWGRP | S_IWOTH))
        config_findings_add(findings, false,
                            "%s may be written by its %s (mode %04o): chmod go-w %s", path,
                            found.st_mode & S_IWOTH ? "group and others" : "group",
                            (unsigned)found.st_mode & 07777U, path);
    if (found.st_uid != 0 && found.st_uid != machine->uid)
        config_findings_add(findings, false,
                            "%s belongs to user %u, neither root nor the daemon's user %u", path,
                            (unsigned)found.st_uid, machine->uid);
}
