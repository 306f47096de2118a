#include "tools/bench/machine.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "shm/clock.h"
#include "tools/bench/options.h"
#include "tools/llmctl/json_out.h"

#define FIFO_PRIORITY 20

/* ---- Reading --------------------------------------------------------------------------------------- */

static void trim(char *text)
{
    size_t bytes = strlen(text);
    while (bytes > 0 && (text[bytes - 1] == '\n' || text[bytes - 1] == ' '))
        text[--bytes] = '\0';
}

/* The first line of a file, or "unknown". */
static bool read_line(const char *path, char *out, size_t bytes)
{
    FILE *file = fopen(path, "re");
    bool read = file && fgets(out, (int)bytes, file);
    if (file)
        fclose(file);
    if (read)
        trim(out);
    else
        snprintf(out, bytes, "unknown");
    return read;
}

/* The value of the first line of `path` that begins with `key`, behind ':' and blanks. */
static bool read_value(const char *path, const char *key, char *out, size_t bytes)
{
    char line[2048];
    bool found = false;
    FILE *file = fopen(path, "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !value)
            continue;
        found = true;
        value += 1 + strspn(value + 1, " \t");
        snprintf(out, bytes, "%.*s", (int)(bytes - 1), value);
        trim(out);
    }
    if (file)
        fclose(file);
    return found;
}

/* Of the tree that this program lies in, as a build does; an installed one says what it was configured from. */
static void read_commit(char *out, size_t bytes)
{
    char self[512] = "", command[640], line[64];
    ssize_t used = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = used > 0 ? strrchr(self, '/') : NULL;
    snprintf(out, bytes, "%s", LLM_CONFIGURED_COMMIT);
    if (!slash || strchr(self, '\''))
        return;
    *slash = '\0';
    snprintf(command, sizeof command,
             "git -C '%s' describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null", self);
    FILE *git = popen(command, "re");
    if (git && fgets(line, sizeof line, git)) {
        trim(line);
        snprintf(out, bytes, "%s", line);
    }
    if (git)
        pclose(git);
}

static void read_hypervisor(char *out, size_t bytes)
{
    char flags[2048];
    bool guest = read_value("/proc/cpuinfo", "flags", flags, sizeof flags) &&
                 strstr(flags, " hypervisor") != NULL;
    snprintf(out, bytes, "%s", guest ? "virtual" : "bare");
}

static void read_machine(struct machine *machine)
{
    struct utsname kernel;
    char load[64];
    if (!read_value("/proc/cpuinfo", "model name", machine->cpu, sizeof machine->cpu))
        snprintf(machine->cpu, sizeof machine->cpu, "unknown");
    uname(&kernel);
    snprintf(machine->kernel, sizeof machine->kernel, "%.70s %.20s", kernel.release,
             kernel.machine);
    read_hypervisor(machine->hypervisor, sizeof machine->hypervisor);
    read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", machine->governor,
              sizeof machine->governor);
    if (read_line("/proc/loadavg", load, sizeof load))
        machine->load = strtod(load, NULL);
    read_commit(machine->commit, sizeof machine->commit);
    snprintf(machine->build, sizeof machine->build, "%s", LLM_BUILD_TEXT);
}

/* A machine of one processor gives it twice. */
static void first_two(const cpu_set_t *allowed, int out_pair[2])
{
    int found = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, allowed))
            out_pair[found++] = (int)cpu;
    if (found == 1)
        out_pair[1] = out_pair[0];
}

/* Only whether it is permitted: threads come under it where they are placed. */
static void try_fifo(struct machine *machine)
{
    struct sched_param before = {0};
    int policy = sched_getscheduler(0);
    sched_getparam(0, &before);
    if (sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = FIFO_PRIORITY}) ==
        0) {
        sched_setscheduler(0, policy, &before);
        return;
    }
    machine->fifo = false;
    fprintf(stderr, "llm-bench: --fifo is not permitted here (%s); measured without\n",
            strerror(errno));
}

enum llm_status machine_open(struct machine *machine, const char *cpus, bool fifo,
                             struct llm_error *error)
{
    *machine = (struct machine){.pair = {0, 0}, .fifo = fifo};
    if (sched_getaffinity(0, sizeof machine->allowed, &machine->allowed) != 0)
        return llm_fail_errno(error, LLM_ERR_SYSTEM, errno, "cannot ask for the processors");
    machine->cpus = (uint32_t)CPU_COUNT(&machine->allowed);
    first_two(&machine->allowed, machine->pair);
    if (cpus) {
        enum llm_status status = options_cpu_pair(cpus, machine->pair, error);
        if (status != LLM_OK)
            return status;
    }
    for (int side = 0; side < 2; side++)
        if (!CPU_ISSET((size_t)machine->pair[side], &machine->allowed))
            return llm_fail(error, LLM_ERR_INVALID, "--cpus: this process may not use processor %d",
                            machine->pair[side]);
    if (fifo)
        try_fifo(machine);
    prctl(PR_SET_TIMERSLACK, 1);
    read_machine(machine);
    return LLM_OK;
}

/* ---- Writing --------------------------------------------------------------------------------------- */

void machine_print(const struct machine *machine, FILE *file)
{
    fprintf(
        file,
        "%s (%s), %u processors, Linux %s, governor %s, load %.2f; client on %d, engine on %d, %s\n"
        "commit %s, %s\n",
        machine->cpu, machine->hypervisor, machine->cpus, machine->kernel, machine->governor,
        machine->load, machine->pair[0], machine->pair[1],
        machine->fifo ? "SCHED_FIFO" : "SCHED_OTHER", machine->commit, machine->build);
}

void machine_json(const struct machine *machine, struct json_out *json)
{
    json_out_object(json, "machine");
    json_out_text(json, "cpu", machine->cpu);
    json_out_text(json, "hypervisor", machine->hypervisor);
    json_out_count(json, "cpus", machine->cpus);
    json_out_text(json, "kernel", machine->kernel);
    json_out_text(json, "governor", machine->governor);
    json_out_real(json, "load", machine->load);
    json_out_text(json, "commit", machine->commit);
    json_out_text(json, "build", machine->build);
    json_out_count(json, "client_cpu", (uint64_t)machine->pair[0]);
    json_out_count(json, "engine_cpu", (uint64_t)machine->pair[1]);
    json_out_text(json, "scheduler", machine->fifo ? "fifo" : "other");
    json_out_end(json);
}

/* ---- Placing --------------------------------------------------------------------------------------- */

static void place(const struct machine *machine, pid_t thread, const cpu_set_t *set)
{
    sched_setaffinity(thread, sizeof *set, set);
    if (machine->fifo)
        sched_setscheduler(thread, SCHED_FIFO,
                           &(struct sched_param){.sched_priority = FIFO_PRIORITY});
}

void machine_pin(const struct machine *machine, pid_t thread, int side)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)machine->pair[side], &set);
    place(machine, thread, &set);
}

void machine_pin_both(const struct machine *machine, pid_t thread)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)machine->pair[0], &set);
    CPU_SET((size_t)machine->pair[1], &set);
    place(machine, thread, &set);
}

void machine_avoid(const struct machine *machine, pid_t thread, int side)
{
    cpu_set_t set = machine->allowed;
    if (machine->cpus > 1)
        CPU_CLR((size_t)machine->pair[side], &set);
    place(machine, thread, &set);
}

void machine_raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* ---- What a process used --------------------------------------------------------------------------- */

uint64_t process_cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec used;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return 0;
    return (uint64_t)used.tv_sec * LLM_NS_PER_S + (uint64_t)used.tv_nsec;
}

/* The kernel's count in nanoseconds; where it keeps none, its ticks. */
static uint64_t thread_cpu_ns(pid_t pid, pid_t thread)
{
    char path[96], line[1024];
    uint64_t ns = 0, user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", pid, thread);
    if (read_line(path, line, sizeof line) && sscanf(line, "%" SCNu64, &ns) == 1 && ns > 0)
        return ns;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, thread);
    const char *behind_name = read_line(path, line, sizeof line) ? strrchr(line, ')') : NULL;
    if (!behind_name ||
        sscanf(behind_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
               &user, &system) != 2)
        return 0;
    return (user + system) * (LLM_NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}

void process_threads(pid_t pid, thread_fn *each, void *self)
{
    char path[96], name[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
        if (thread <= 0)
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%d/comm", pid, thread);
        read_line(path, name, sizeof name);
        each(self, thread, name, thread_cpu_ns(pid, thread));
    }
    if (folder)
        closedir(folder);
}

struct switches {
    pid_t pid;
    uint64_t count;
};

static void add_switches(void *self, pid_t thread, const char *name, uint64_t cpu_ns)
{
    struct switches *switches = self;
    char path[96], value[64];
    (void)name;
    (void)cpu_ns;
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", switches->pid, thread);
    static const char *const keys[] = {"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"};
    for (int i = 0; i < 2; i++)
        if (read_value(path, keys[i], value, sizeof value))
            switches->count += strtoull(value, NULL, 10);
}

uint64_t process_switches(pid_t pid)
{
    struct switches switches = {.pid = pid};
    process_threads(pid, add_switches, &switches);
    return switches.count;
}

static uint64_t kib(const char *path, const char *key)
{
    char value[64];
    return read_value(path, key, value, sizeof value) ? strtoull(value, NULL, 10) * 1024 : 0;
}

struct process_memory process_memory(pid_t pid)
{
    char path[64];
    struct process_memory memory = {0};
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    memory.rss_bytes = kib(path, "VmRSS");
    memory.shared_bytes = kib(path, "RssShmem");
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    memory.pss_bytes = kib(path, "Pss:");
    return memory;
}
