/* The doctor's probes of kernel facilities: those without a fallback fail, the others warn and name it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/llmctl/doctor.h"

#define KERNEL_MAJOR 6
#define KERNEL_MINOR 1

void probe_kernel(struct doctor *doctor)
{
    int major = 0, minor = 0;
    const char *release = doctor->facts.kernel_release;
    if (sscanf(release, "%d.%d", &major, &minor) != 2)
        doctor_say(doctor, DOCTOR_WARN, "", "the kernel's version \"%s\" cannot be read", release);
    else if (major < KERNEL_MAJOR || (major == KERNEL_MAJOR && minor < KERNEL_MINOR))
        doctor_say(doctor, DOCTOR_FAIL, "install a newer kernel", "Linux %s is older than %d.%d",
                   release, KERNEL_MAJOR, KERNEL_MINOR);
    else
        doctor_say(doctor, DOCTOR_OK, "", "Linux %s", release);
}

/* What mends the lack of a facility, as far as one knows. */
static const struct {
    const char *name;
    const char *remedy;
} remedies[] = {
    {"noexec_seal", "install Linux 6.3 or newer"},
    {"peer_pidfd", "install Linux 6.5 or newer"},
    {"io_uring",
     "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile"},
    {"io_uring_defer", "install Linux 6.1 or newer"},
    {"huge_pages", "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled"},
};

static const char *remedy_for(const struct doctor *doctor, const char *name)
{
    char text[32];
    bool ring = strncmp(name, "io_uring", 8) == 0;
    if (ring && doctor_read(doctor, "/proc/sys/kernel/io_uring_disabled", text, sizeof text) &&
        strcmp(text, "0") != 0)
        return "sysctl kernel.io_uring_disabled=0";
    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++)
        if (strcmp(remedies[i].name, name) == 0)
            return remedies[i].remedy;
    return "install a newer kernel, or allow it in the container";
}

void probe_features(struct doctor *doctor)
{
    for (uint32_t i = 0; i < doctor->facts.feature_count; i++) {
        const struct doctor_feature *feature = &doctor->facts.features[i];
        if (feature->error_number == 0)
            doctor_say(doctor, DOCTOR_OK, "", "%s: %s", feature->name, feature->gives);
        else
            doctor_say(doctor, DOCTOR_WARN, remedy_for(doctor, feature->name), "no %s (%s): %s",
                       feature->name, strerror(feature->error_number), feature->without);
    }
}

/* A facility without which nothing works. */
static void judge_needed(struct doctor *doctor, int error_number, const char *name)
{
    char remedy[64];
    snprintf(remedy, sizeof remedy, "allow %s in the seccomp profile", name);
    if (error_number != 0)
        doctor_say(doctor, DOCTOR_FAIL, remedy, "%s is refused (%s)", name, strerror(error_number));
    else
        doctor_say(doctor, DOCTOR_OK, "", "%s works", name);
}

void probe_pidfd(struct doctor *doctor)
{
    judge_needed(doctor, doctor->facts.pidfd_errno, "pidfd_open");
}

void probe_memfd(struct doctor *doctor)
{
    judge_needed(doctor, doctor->facts.memfd_seal_errno, "memfd_create with seals");
}

void probe_futex(struct doctor *doctor)
{
    judge_needed(doctor, doctor->facts.futex_errno, "futex");
}

void probe_openat2(struct doctor *doctor)
{
    judge_needed(doctor, doctor->facts.openat2_errno, "openat2");
}

void probe_disabled(struct doctor *doctor)
{
    if (doctor->facts.disabled[0])
        doctor_say(doctor, DOCTOR_WARN, "unset LLMD_DISABLE",
                   "LLMD_DISABLE=%s takes facilities away", doctor->facts.disabled);
}

/* Of the keeper when one runs, else our own. */
static bool read_process_file(const struct doctor *doctor, const char *name, char *out,
                              size_t bytes)
{
    char path[64];
    if (doctor->view && doctor->view->keeper_pid != 0)
        snprintf(path, sizeof path, "/proc/%u/%s", doctor->view->keeper_pid, name);
    else
        snprintf(path, sizeof path, "/proc/self/%s", name);
    return doctor_read(doctor, path, out, bytes);
}

void probe_seccomp(struct doctor *doctor)
{
    char text[4096];
    long long mode = read_process_file(doctor, "status", text, sizeof text)
                         ? doctor_number_after(text, "Seccomp:")
                         : -1;
    if (mode == 1)
        doctor_say(doctor, DOCTOR_FAIL, "start it without strict seccomp",
                   "seccomp is in strict mode: nothing but read, write and exit is allowed");
    else if (mode == 2)
        doctor_say(doctor, DOCTOR_OK, "",
                   "a seccomp filter is active; what it forbids is said above");
    else if (mode == 0)
        doctor_say(doctor, DOCTOR_OK, "", "no seccomp filter");
}

void probe_container(struct doctor *doctor)
{
    char text[256];
    const char *kind = NULL;
    if (doctor_read(doctor, "/run/.containerenv", text, sizeof text))
        kind = "podman";
    else if (doctor_read(doctor, "/.dockerenv", text, sizeof text))
        kind = "docker";
    else if (doctor_read(doctor, "/run/systemd/container", text, sizeof text))
        kind = text;
    if (kind)
        doctor_say(
            doctor, DOCTOR_OK, "",
            "this is a %s container: programs outside reach llmd only through a shared socket "
            "folder, and see its status file only with a shared /dev/shm",
            kind);
    else
        doctor_say(doctor, DOCTOR_OK, "", "no container is recognised");
}

void probe_clocksource(struct doctor *doctor)
{
    static const char *const fast[] = {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page",
                                       "arch_sys_counter"};
    char text[64];
    if (!doctor_read(doctor, "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                     text, sizeof text))
        return;
    for (size_t i = 0; i < sizeof fast / sizeof fast[0]; i++)
        if (strcmp(text, fast[i]) == 0) {
            doctor_say(doctor, DOCTOR_OK, "", "clock_gettime reads %s without a system call", text);
            return;
        }
    doctor_say(doctor, DOCTOR_WARN, "boot with clocksource=tsc, if the processor's is stable",
               "clock source %s: each look at the clock is a system call", text);
}
